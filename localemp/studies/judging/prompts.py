"""The prompts of a judge, read from `prompts/judge.toml` or a file of your own, and rendered as messages."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict

from localemp.dialogue import Message
from localemp.prompting.template import Lines, placeholders, read_prompts
from localemp.studies.schema import TIE, Aspect, Item, Manifest
from localemp.utils.paths import resource

ABText = Annotated[str, placeholders("conversation", "a", "b", "aspect", "about", "question")]
RatingText = Annotated[
    str,
    placeholders(
        "conversation",
        "reply",
        "aspect",
        "about",
        "question",
        "low",
        "high",
        optional=("words", "low_words", "high_words"),
    ),
]


class JudgePrompts(BaseModel):
    """A file of prompts for judges.

    Attributes:
        constrained: Whether an answer is held to the JSON form, where the engine can.
        lines: How a turn of each person is written.
        ab, rating: The whole question.
        sha256: Hash of the file's bytes; a manifest records it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    description: str
    constrained: bool
    lines: Lines
    ab: ABText
    rating: RatingText
    sha256: str = ""

    @classmethod
    def read(cls, path: Path | None = None) -> Self:
        """Read and check a file; localemp's own where none is given.

        Raises:
            PromptError: The file is missing or not valid TOML, or a key is unknown, missing or wrong.
        """
        own = resource("prompts", "judge.toml")
        return read_prompts(path or own, cls, own)

    def messages(self, manifest: Manifest, item: Item, aspect: Aspect, shown: Sequence[str]) -> list[Message]:
        """Ask about one aspect.

        Args:
            manifest: Of the study: its question, and its scale.
            item: The conversation and its replies.
            aspect: What to judge by.
            shown: Keys of the two replies in the order in which they are shown, or of the one to be rated.
        """
        texts = {reply.key: reply.text for reply in item.replies}
        asked = {
            "conversation": "\n".join(self.lines.write(item.turns)),
            "aspect": aspect.name,
            "about": aspect.about,
            "question": manifest.question,
        }
        if manifest.scale is None:
            first, second = shown
            return [Message("user", self.ab.strip().format(a=texts[first], b=texts[second], **asked))]
        (only,), (low, high) = shown, manifest.scale
        words = manifest.words or {low: "worst", high: "best"}
        scale = {"low": low, "high": high, "low_words": words[low], "high_words": words[high]}
        scale["words"] = ", ".join(f"{rating}: {word}" for rating, word in words.items())
        return [Message("user", self.rating.strip().format(reply=texts[only], **scale, **asked))]

    def answer_schema(self, manifest: Manifest) -> str | None:
        """The JSON schema of an answer; None where answers are not constrained."""
        if not self.constrained:
            return None
        values: list[Any]
        if manifest.scale is None:
            name, kind, values = "choice", "string", ["A", "B", TIE]
        else:
            low, high = manifest.scale
            name, kind, values = "rating", "integer", list(range(low, high + 1))
        form = {name: {"type": kind, "enum": values}}
        return json.dumps({"type": "object", "properties": form, "required": [name], "additionalProperties": False})

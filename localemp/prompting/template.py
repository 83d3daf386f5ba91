"""The unified prompt template (section 3.2) as data: a validated TOML file in `prompts/`, or the user's own.

`paper` is the default, `released` is the authors' scripts; `render.py` renders messages.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from string import Formatter
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict

from localemp.commonsense.selection import Select
from localemp.errors import UnknownNameError
from localemp.models.atomic import EventKind
from localemp.prompting.prompt_files import read_prompts
from localemp.utils.paths import resource

VARIANTS = ("paper", "released")


def placeholders(*names: str, optional: Collection[str] = ()) -> AfterValidator:
    """Return a validator that a text has these `{placeholders}`, and no others but the optional ones."""

    def check(text: str) -> str:
        found: set[str] = set()
        for _, name, form, conversion in Formatter().parse(text):
            if form or conversion:  # format specifications could produce a text of any length
                raise ValueError(f"{{{name}}} must be a plain name, without ! and :")
            if name is not None:
                found.add(name)
        if missing := set(names) - found:
            raise ValueError(f"the placeholder {{{sorted(missing)[0]}}} is missing")
        if unknown := found - {*names, *optional}:
            known = ", ".join([*names, *optional]) or "none"
            raise ValueError(f"unknown placeholder {{{sorted(unknown)[0]}}}; known: {known}")
        return text

    return AfterValidator(check)


TextLine = Annotated[str, placeholders("text")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Lines(_Strict):
    """Formats of a turn of the speaker and of the listener."""

    speaker: TextLine
    listener: TextLine

    def write(self, turns: Sequence[str]) -> list[str]:
        """Return one line per turn, the speaker's first."""
        return [(self.listener if i % 2 else self.speaker).format(text=turn) for i, turn in enumerate(turns)]


class Task(_Strict):
    """Task definition and guideline instruction."""

    definition: str
    guideline: str
    joint: str
    joint_before_exemplars: str


class FixedExemplars(_Strict):
    """Fixed exemplars for a pool of a certain size, independent of the seed."""

    pool_size: int
    indices: Mapping[int, tuple[int, ...]]


class Exemplars(_Strict):
    """Choice and format of exemplars."""

    unit: Literal["dialogue", "instance"]
    similarity: Literal["context", "context-and-reply"]
    heading_one: str
    heading_many: str
    title_one: str
    title_many: Annotated[str, placeholders("number")]
    separator: str
    end: str
    chat: Lines
    transcript: Lines
    fixed: FixedExemplars | None = None


class Context(_Strict):
    """The dialogue in the transcript layout."""

    heading: str
    heading_after_exemplars: str
    lines: Lines
    cue: str
    stop: tuple[str, ...]


class TwoStageTexts(_Strict):
    """Texts of two-stage interactive generation (section 3.3.2), which flows can show (`prompting/flow.py`).

    `cue` is what the answer of any stage but the reply follows in the transcript layout.
    """

    list_labels: bool
    labels: Annotated[str, placeholders("emotions")]
    ask_both: Annotated[str, placeholders("labels")]
    ask_emotion: Annotated[str, placeholders("labels")]
    ask_situation: Annotated[str, placeholders()]
    given_emotion: Annotated[str, placeholders("emotion")]
    given_situation: Annotated[str, placeholders("situation")]
    reply: str
    cue: str


class KnowledgeTexts(_Strict):
    """Commonsense inferences (section 3.3.3). `definitions` and `labels` name the relations, in order.

    `event` is COMET's event: the whole context, or the last utterance in the form of the released code.
    """

    event: EventKind
    introduction: str
    relation: Annotated[str, placeholders("label", "inferences")]
    between: str
    end: str
    definitions: Mapping[str, str]
    labels: Mapping[str, str]
    select: Select


class Template(_Strict):
    """One prompt file.

    Attributes:
        sha256: SHA-256 of the file, for manifests.
    """

    name: str
    description: str
    task: Task
    exemplars: Exemplars
    context: Context
    two_stage: TwoStageTexts
    knowledge: KnowledgeTexts
    sha256: str = ""


def load_template(name: str) -> Template:
    """Read and validate a prompt file.

    Args:
        name: `paper`, `released`, or a path to a TOML file of the same form.

    Raises:
        UnknownNameError: The variant does not exist.
        PromptError: The file is missing or not valid TOML, or a key is unknown, missing or invalid; names the key.
    """
    bundled = bundled_variants()
    if not name.endswith(".toml") and name not in VARIANTS:
        raise UnknownNameError("prompt variant", name, VARIANTS, "A path to a .toml file of your own works too")
    path = Path(name) if name.endswith(".toml") else bundled[name]
    return read_prompts(path, Template, bundled["paper"], "prompt variant", bundled)


def bundled_variants() -> dict[str, Path]:
    """Return the prompt files that ship with localemp, by name."""
    return {name: resource("prompts", f"{name}.toml") for name in VARIANTS}

"""A study: a folder with what raters see, and apart from it, the key that says which system wrote what.

    study.json      kind, aspects, instructions, and hashes of the two files below
    items.jsonl     one item a line: a conversation and its blinded replies; all that a rater may see
    key.json        which system wrote each reply, the runs behind the systems, what attention checks expect; only the
                    owner may read it
    answers.sqlite  what people answered, and what was imported
    judges/NAME/    what a model answered, one folder a judge

People and models rate the same items. In a study of kind "ab" an item has two replies, of which the better is chosen;
in one of kind "rating" it has one or more, and each gets a number.
"""

import hashlib
import json
import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from localemp.errors import RunError
from localemp.studies.study_check import check_items, check_key, formed
from localemp.utils.files import write_atomically

Kind = Literal["ab", "rating"]
RatingsBy = Literal["mean", "majority"]

STUDY, ITEMS, KEY, ANSWERS, JUDGES = "study.json", "items.jsonl", "key.json", "answers.sqlite", "judges"
TIE = "tie"
TIES = frozenset({TIE, "equal", "same", "draw", "both", "neither"})
"""What files of ratings say for a tie."""

Text = Annotated[str, Field(min_length=1)]
Point = Annotated[int, Field(ge=-1_000_000, le=1_000_000)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Aspect(_Strict):
    """What replies are judged by.

    Attributes:
        name: As in tables.
        about: What it means, as raters read it.
    """

    name: Text
    about: Text


class Reply(_Strict):
    """A blinded reply.

    Attributes:
        key: Stands for it in answers; random, so that it tells nothing.
        text: As it is shown.
    """

    key: Text
    text: str


class Item(_Strict):
    """What a rater sees at once.

    Attributes:
        id: Unique in the study; tells nothing of systems.
        turns: The conversation, the speaker first and last.
        replies: In an order that tells nothing; raters see them in an order of their own, see `Study.shown_to`.
    """

    id: Text
    turns: tuple[str, ...]
    replies: tuple[Reply, ...]


class Manifest(_Strict):
    """What is known of a study without its key.

    Attributes:
        format: Of the folder.
        kind: "ab" or "rating".
        title: For raters; tells no system.
        instructions: What raters read first.
        question: What is asked of every aspect.
        aspects: What replies are judged by.
        scale: Lowest and highest rating; None in an A/B test.
        scale_words: What ratings mean, from the lowest to the highest, as far apart as they are; see `worded`.
        preset: The design that it was made by; empty where there is none.
        annotators: How many people shall rate each item; None is any number.
        ratings_by: What the raters of a reply say together, see `Sheet.combined`.
        seed: Of the sample alone: who knows it knows which dialogues were drawn, and nothing of systems.
        shuffle: Of the orders of raters; drawn for each study, and apart from all that blinds it.
        created: Time, UTC.
        versions: Of localemp.
        items_sha256, key_sha256: Of the two files.
    """

    format: Literal[1] = 1
    kind: Kind
    title: Text
    instructions: str
    question: Text
    aspects: Annotated[tuple[Aspect, ...], Field(min_length=1)]
    scale: tuple[Point, Point] | None = None
    scale_words: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    preset: str = ""
    annotators: Annotated[int, Field(ge=1)] | None = None
    ratings_by: RatingsBy = "mean"
    seed: int
    shuffle: Text
    created: str
    versions: dict[str, str]
    items_sha256: str
    key_sha256: str

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if (self.kind == "rating") != (self.scale is not None) or (self.scale and self.scale[0] >= self.scale[1]):
            raise ValueError("scale: a rating study has one from low to high, an A/B study has none")
        _ = self.words
        names = [aspect.name for aspect in self.aspects]
        if len(names) > len(set(names)):
            raise ValueError("aspects: two have one name")
        return self

    @property
    def words(self) -> dict[int, str]:
        """What ratings mean, by rating; empty where nothing is said of them."""
        return worded(self.scale, self.scale_words) if self.scale and self.scale_words else {}


def worded(scale: tuple[int, int], words: Sequence[str]) -> dict[int, str]:
    """What ratings mean: words stand for the lowest, the highest, and ratings between them that are equally far apart.

    Raises:
        ValueError: There are no such whole numbers.
    """
    low, high = scale
    step, rest = divmod(high - low, len(words) - 1)
    if rest:
        raise ValueError(f"scale_words: {len(words)} words do not fall on whole numbers from {low} to {high}")
    return {low + place * step: word for place, word in enumerate(words)}


class Key(_Strict):
    """What unblinds a study; no rater's program ever reads it.

    Attributes:
        systems: Reply key -> the system that wrote it.
        dialogues: Item -> the dialogue's id in the runs.
        sources: System -> where its replies come from, such as a run's settings.
        checks: Attention check -> aspect -> the reply key (A/B) or the numbers (rating) that a rater who reads gives.
        secret: Random, so that nobody can guess a key of few items and try it on its hash, which everybody sees.
    """

    systems: dict[str, str]
    dialogues: dict[str, str]
    sources: dict[str, dict[str, Any]]
    checks: dict[str, dict[str, str | list[int]]] = Field(default_factory=dict)
    secret: str = ""

    def named(self, *replies: str) -> str:
        """The systems of replies as unblinded files have them, "a vs b"; those of attention checks keep their keys."""
        return " vs ".join(sorted(self.systems.get(reply, reply) for reply in replies))


@dataclass(frozen=True)
class Study:
    """A study that lies in a folder. Make one with `Study.write`, read one with `Study.read`.

    Attributes:
        folder: Where it lies.
        manifest: What is known without the key.
        items: In the order of the file.
    """

    folder: Path
    manifest: Manifest
    items: tuple[Item, ...]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a study, without its key.

        Raises:
            RunError: There is none, or its items are not those that it was made with.
        """
        try:
            told = (folder / STUDY).read_bytes()
            lines = (folder / ITEMS).read_bytes()
        except OSError as error:
            hint = "make one with `localemp study create`"
            raise RunError(f"{folder}: no study here ({Path(error.filename).name}: {error.strerror})", hint) from error
        manifest = formed(Manifest, told, folder / STUDY)
        if hashlib.sha256(lines).hexdigest() != manifest.items_sha256:
            raise RunError(
                f"{folder / ITEMS} was changed after the study was made: answers would belong to other items",
                "restore the file, or make a new study",
            )
        numbered = enumerate(lines.splitlines(), 1)
        items = tuple(formed(Item, line, folder / ITEMS, number) for number, line in numbered)
        check_items(folder / ITEMS, manifest, items)
        return cls(folder, manifest, items)

    @cached_property
    def key(self) -> Key:
        """The key, read when it is asked for.

        Raises:
            RunError: It is not there, or not the one that the study was made with.
        """
        path = self.folder / KEY
        try:
            content = path.read_bytes()
        except OSError as error:
            raise RunError(f"{path}: cannot be read ({error.strerror})", "the study's owner has it") from error
        if hashlib.sha256(content).hexdigest() != self.manifest.key_sha256:
            raise RunError(f"{path} is not the key that the study was made with", "restore the file")
        key = formed(Key, content, path)
        check_key(path, key, self.items)
        return key

    @cached_property
    def by_id(self) -> Mapping[str, Item]:
        """The items by their ids."""
        return {item.id: item for item in self.items}

    @property
    def systems(self) -> tuple[str, ...]:
        """The systems, in the order in which they were given."""
        return tuple(self.key.sources)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """All that gives answers their meaning, as JSON; title and instructions may be corrected after the first."""
        manifest = self.manifest
        return {
            "items": manifest.items_sha256,
            "key": manifest.key_sha256,
            "kind": manifest.kind,
            "question": manifest.question,
            "aspects": {aspect.name: aspect.about for aspect in manifest.aspects},
            "scale": manifest.scale and list(manifest.scale),
            "scale_words": manifest.scale_words and list(manifest.scale_words),
            "orders": manifest.shuffle,
        }

    def shown_to(self, rater: str) -> list[Item]:
        """The items in this rater's order, the replies of each in this rater's order: always the same for a rater."""
        items = [
            item.model_copy(update={"replies": tuple(self._shuffled(item.replies, rater, item.id))})
            for item in self.items
        ]
        return self._shuffled(items, rater, "items")

    def _shuffled(self, things: Sequence[Any], *salt: str) -> list[Any]:
        draw = random.Random(json.dumps([self.manifest.shuffle, *salt]))
        return draw.sample(list(things), len(things))

    @staticmethod
    def write(folder: Path, items: Sequence[Item], key: Key, **manifest: Any) -> "Study":
        """Make the folder of a study.

        Args:
            folder: Must not hold a study.
            items: What raters see.
            key: What they must not see.
            **manifest: The fields of `Manifest` but the hashes; `shuffle` is drawn where it is not given.

        Raises:
            RunError: There is a study already, or the folder cannot be written.
        """
        if (folder / STUDY).exists():
            raise RunError(f"{folder} holds a study already", "choose another --out")
        lines = "".join(item.model_dump_json() + "\n" for item in items).encode()
        unblinded = (key.model_dump_json(indent=1) + "\n").encode()
        made = Manifest(
            **{"shuffle": secrets.token_hex(16), **manifest},
            items_sha256=hashlib.sha256(lines).hexdigest(),
            key_sha256=hashlib.sha256(unblinded).hexdigest(),
        )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / ITEMS, lines)
            write_atomically(folder / KEY, unblinded, mode=0o600)
            # Last, so that a folder with it is whole.
            write_atomically(folder / STUDY, made.model_dump_json(indent=1) + "\n")
        except OSError as error:
            raise RunError(f"{folder}: cannot be written: {error.strerror}", "choose another --out") from error
        return Study(folder, made, tuple(items))

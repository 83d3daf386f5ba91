"""A study: a folder with what raters see, and a separate key that says which system wrote each reply.

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
from typing import Any, Self

from localemp.errors import RunError
from localemp.studies.schema import Item, Key, Manifest
from localemp.studies.validation import check_items, check_key, parse_model
from localemp.utils.files import is_file, open_regular, write_atomically, write_errors

_MOST = 2**26  # bytes of a file that is looked at
STUDY, ITEMS, KEY, ANSWERS, JUDGES = "study.json", "items.jsonl", "key.json", "answers.sqlite", "judges"


@dataclass(frozen=True)
class Study:
    """A study in a folder. Make one with `Study.write`, read one with `Study.read`.

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
        manifest = parse_model(Manifest, told, folder / STUDY)
        if hashlib.sha256(lines).hexdigest() != manifest.items_sha256:
            raise RunError(
                f"{folder / ITEMS} was changed after the study was made: answers would belong to other items",
                "restore the file, or make a new study",
            )
        numbered = enumerate(lines.splitlines(), 1)
        items = tuple(parse_model(Item, line, folder / ITEMS, number) for number, line in numbered)
        check_items(folder / ITEMS, manifest, items)
        return cls(folder, manifest, items)

    @cached_property
    def key(self) -> Key:
        """The key, read on first access.

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
        key = parse_model(Key, content, path)
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
        """Everything that gives answers their meaning, as JSON; title and instructions may still be corrected."""
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
        """Write a new study to a folder.

        Args:
            folder: Must not hold a study.
            items: What raters see.
            key: What they must not see.
            **manifest: The fields of `Manifest` but the hashes; `shuffle` is drawn where it is not given.

        Raises:
            RunError: There is a study already, or a file of other items, or the folder cannot be written.
        """
        if is_file(folder / STUDY):
            raise RunError(f"{folder} holds a study already", "choose another --out")
        if _is_others(folder / ITEMS):
            raise RunError(f"{folder} holds a file {ITEMS} that is of no study", "choose another --out, or move it")
        lines = "".join(item.model_dump_json() + "\n" for item in items).encode()
        unblinded = (key.model_dump_json(indent=1) + "\n").encode()
        made = Manifest(
            **{"shuffle": secrets.token_hex(16), **manifest},
            items_sha256=hashlib.sha256(lines).hexdigest(),
            key_sha256=hashlib.sha256(unblinded).hexdigest(),
        )
        with write_errors(lambda message, hint: RunError(f"{folder}: {message}", hint), "choose another --out"):
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / ITEMS, lines)
            write_atomically(folder / KEY, unblinded, mode=0o600)
            # Last, so that a folder with it is whole.
            write_atomically(folder / STUDY, made.model_dump_json(indent=1) + "\n")
        return Study(folder, made, tuple(items))


def _is_others(path: Path) -> bool:
    """Whether a file of items is there that is not what an interrupted `write` leaves, such as people's own."""
    if not is_file(path):
        return False
    try:
        with open_regular(path) as file:
            Item.model_validate_json(file.readline(_MOST))
    except (OSError, ValueError):
        return True
    return False

"""The replies of one system, from a run of localemp or an imported file."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from localemp.errors import RunError
from localemp.runs.order import in_order
from localemp.runs.run import read_lines, read_manifest
from localemp.runs.truncation import Truncation, truncation_of


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply and what is known about its item.

    Attributes:
        id: The id of the dialogue; unique in its system.
        text: The reply; may be empty.
        reference: A person's reply, if known; an empty one becomes None.
        emotion: The speaker's emotion, one of `localemp.dialogue.EMOTIONS`, if known.
        feeling: What the stage "feeling" of a strategy, or a classifier, said about the emotion; None if nothing did,
            or if the strategy was given the emotion.
        turns: The turns before the reply.
    """

    id: str
    text: str
    reference: str | None = None
    emotion: str | None = None
    feeling: str | None = None
    turns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.reference is not None and not self.reference.strip():
            object.__setattr__(self, "reference", None)  # nothing to compare with


@dataclass(frozen=True)
class Replies:
    """The replies of one system.

    Attributes:
        name: The name in tables.
        items: The replies, in the order of the data.
        source: Their origin, for JSON: a run's settings, or a file, its format and hypothesis.
        notes: What a reader needs to know: "12 of 5,255 rows have no reply", "the run is not finished".
        truncation: How many replies of a run were truncated; of imported ones nothing is known.
    """

    name: str
    items: tuple[Reply, ...]
    source: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    truncation: Truncation = field(default_factory=Truncation)

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The ids of the dialogues, in order."""
        return tuple(item.id for item in self.items)

    @cached_property
    def ids_sha256(self) -> str:
        """A hash of the ids, independent of their order, since files of other systems have others."""
        return hashlib.sha256("\n".join(sorted(self.ids)).encode()).hexdigest()

    @cached_property
    def sha256(self) -> str:
        """A hash of ids, replies, references and emotions, independent of the order; turns belong to their ids."""
        told = sorted(json.dumps([i.id, i.text, i.reference, i.emotion, i.feeling]) for i in self.items)
        return hashlib.sha256("\n".join(told).encode()).hexdigest()

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The replies alone."""
        return tuple(item.text for item in self.items)

    @cached_property
    def references(self) -> tuple[str | None, ...]:
        """The references alone."""
        return tuple(item.reference for item in self.items)

    def without_reference(self) -> str:
        """Return why a metric that needs every dialogue's reference has no value; empty if there are all."""
        without = sum(reference is None for reference in self.references)
        if without and without == len(self):
            return "no reference replies"
        return f"{without:,} of {len(self):,} dialogues have no reference reply" if without else ""

    def only(self, ids: Collection[str], note: str = "") -> "Replies":
        """Return the replies to some dialogues, in the same order."""
        kept = tuple(item for item in self.items if item.id in ids)
        return replace(self, items=kept, notes=(*self.notes, note) if note else self.notes)


def replies_of_run(folder: Path) -> Replies:
    """Read the replies of a run, as far as it got.

    Raises:
        RunError: The folder holds no run, or it has no reply yet.
    """
    return replies_of(folder, read_manifest(folder), list(read_lines(folder)))


def replies_of(folder: Path, manifest: Mapping[str, Any], lines: Sequence[tuple[int, dict[str, Any]]]) -> Replies:
    """Return the replies of a run whose manifest and numbered lines have already been read."""
    records = in_order(folder, lines)
    settings = manifest["settings"]
    asked = "emotion" not in (settings.get("given") or ())
    items = tuple(_reply(record, asked) for record in records if "reply" in record)
    failed = len(records) - len(items)
    if not items:
        raise RunError(f"{folder}: no replies yet", "rerun the command that made the run to resume it")
    notes = [f"{failed:,} of {len(records):,} dialogues failed and have no reply"] if failed else []
    total = max((session.get("dialogues", 0) for session in manifest["sessions"]), default=0)
    if len(records) < total:
        notes.append(f"not finished: {len(records):,} of {total:,} dialogues")
    if empty := sum(not item.text.strip() for item in items):
        notes.append(f"{empty:,} of {len(items):,} replies are empty")
    truncation = truncation_of(records, settings)
    notes += [truncation.line] if truncation.line else []
    notes += _twice(lines)
    source = {"run": str(folder), "settings": settings}
    return Replies(folder.name, items, source, tuple(notes), truncation)


def _twice(lines: Sequence[tuple[int, Mapping[str, Any]]]) -> list[str]:
    """Notes about ids with two different replies, which localemp never writes."""
    seen: dict[str, tuple[int, str]] = {}
    doubled = []
    for number, record in lines:
        if "reply" not in record:
            continue
        known = seen.setdefault(record["id"], (number, record["reply"]))
        if known[1] != record["reply"]:
            doubled.append(f"{record['id']!r} (lines {known[0]} and {number})")
    if not doubled:
        return []
    more = ", ..." if len(doubled) > 3 else ""
    return [f"{len(doubled):,} ids have two replies, of which the later one counts: {', '.join(doubled[:3])}{more}"]


def feeling_of(record: Mapping[str, Any]) -> str | None:
    """Return what the stage "feeling" of a run's line said: its label, if its answers are labels, else its text."""
    stage = next((each for each in record.get("stages", ()) if each["name"] == "feeling"), None)
    if stage is None:
        return None
    label = stage.get("answer")
    return label if isinstance(label, str) else str(stage["text"])


def _reply(record: Mapping[str, Any], asked: bool) -> Reply:
    """A line of a run as a reply; `asked` says whether the stage "feeling", if any, was asked for the emotion."""
    named = feeling_of(record) if asked else None
    return Reply(record["id"], record["reply"], record["reference"], record["emotion"], named, tuple(record["turns"]))

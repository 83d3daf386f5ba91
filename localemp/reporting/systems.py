"""The subject of a report: runs with their replies, scores and settings."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from localemp.errors import OptionError
from localemp.metrics.base import Score
from localemp.metrics.kept_values import KeptMetric, KeptValues, read_values
from localemp.metrics.registry import metric_entries, metrics, on_request
from localemp.metrics.replies import Replies, replies_of
from localemp.metrics.scoring import SCORES, on_common, read_scores, score_all, scores_path
from localemp.runs.bill import bill_of
from localemp.runs.order import in_order
from localemp.runs.run import model_name, read_lines, read_manifest
from localemp.runs.verified import verified_line
from localemp.utils.files import is_file
from localemp.utils.formatting import count
from localemp.utils.progress import OnProgress, Progress, silent

Record = Mapping[str, Any]


@dataclass(frozen=True)
class System:
    """One row of the tables.

    Attributes:
        name: The name, unique in the report.
        about: Model and strategy, if the name does not say so; or the format of imported replies.
        scores: Scores by name.
        notes: What a reader needs to know: that the run is not finished, that replies are missing.
        replies: None if only scores are known.
        records: The lines of the run; empty if only scores are known.
        manifest: The run's manifest.
        source: The origin of imported replies: file, format, hypothesis, data.
        kept: Values of single replies by metrics that need a model; None if there are none.
        verified: What `runs verify` found last, in a line; empty if the run has not been verified.
        lost: US dollars that were paid for replies that failed, for each reply of the run.
        folder: The end of its path, as long as is needed to make it unique.
    """

    name: str
    about: str
    scores: Mapping[str, Score]
    notes: tuple[str, ...] = ()
    replies: Replies | None = None
    records: tuple[Record, ...] = ()
    manifest: Mapping[str, Any] | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    kept: KeptValues | None = None
    verified: str = ""
    lost: float = 0.0
    folder: str = ""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings of a run, or the source of an import."""
        made: Mapping[str, Any] = self.source if self.manifest is None else self.manifest["settings"]
        return made

    @property
    def count(self) -> int:
        """The number of scored replies."""
        if self.replies is not None:
            return len(self.replies)
        return next((score.signature.items for score in self.scores.values()), 0)

    @property
    def answered(self) -> list[Record]:
        """The lines with a reply."""
        return [record for record in self.records if "reply" in record]

    @property
    def warning(self) -> str:
        """A warning in two words, such as "not finished"."""
        return "not finished" if any(note.startswith("not finished") for note in self.notes) else ""

    @property
    def truncation(self) -> str:
        """How many replies were truncated, in a line; empty if none is known to be."""
        return "" if self.replies is None else self.replies.truncation.line

    @cached_property
    def items_sha256(self) -> str | None:
        """A hash of the dialogues, independent of their order."""
        if self.replies is None:
            return None
        return _hash(sorted(f"{item.id}\n{item.reference}\n{chr(31).join(item.turns)}" for item in self.replies.items))


def read_systems(
    paths: Sequence[Path],
    common: bool = False,
    on_progress: OnProgress = silent,
    names: Mapping[Path, str] | None = None,
) -> list[System]:
    """Read runs, and score files (`FILE.scores.json`) of imported replies.

    Scores in a run's folder are used if they are up to date; missing ones are computed.

    Args:
        paths: Runs and files; duplicates are ignored.
        common: Whether to score all runs again, on the dialogues that all of them answered.
        on_progress: Called with the systems read so far.
        names: What tables call some of the paths; the others have the last part of their path.

    Raises:
        RunError: A folder holds no run, or no reply yet.
        DataError: A file holds no scores.
        OptionError: Two systems have one name. With `common`, if runs share no dialogue or only scores are known.
    """
    read = {}
    for number, path in enumerate(paths):
        on_progress(Progress("Reading", number, len(paths), "systems"))
        read[path] = read_system(path)
    on_progress(Progress("Reading", len(paths), len(paths), "systems"))
    return named_systems(read, common, names)


def read_system(path: Path) -> System:
    """Read a run, or a score file of imported replies; its name is not final, see `named_systems`.

    Raises:
        RunError: The folder holds no run, or no reply yet.
        DataError: The file holds no scores.
    """
    return _of_scores(path) if is_file(path) else _of_run(path)


def named_systems(
    read: Mapping[Path, System], common: bool = False, names: Mapping[Path, str] | None = None
) -> list[System]:
    """Return systems by their final names, each path once; the arguments are those of `read_systems`.

    Raises:
        OptionError: As `read_systems`.
    """
    once = {path.resolve(): path for path in read}
    paths = list(once.values())
    given, folders = names or {}, names_of(paths)
    systems = [
        _called(replace(read[path], folder=folder), given.get(path) or folder)
        for path, folder in zip(paths, folders, strict=True)
    ]
    called = [system.name for system in systems]
    if twice := [name for name in called if called.count(name) > 1]:
        raise OptionError(f"two runs are called {twice[0]}", "give each its own name")
    return _on_common(systems) if common and len(systems) > 1 else systems


def plain_names(read: Mapping[Path, System], given: Mapping[Path, str]) -> dict[Path, str]:
    """Return names that need no explanation, for tables that leave this machine: model and strategy.

    Runs of which these are the same have their folder's name behind it, or the hash that it ends in. Imported replies
    have the name of their file.

    Args:
        read: The systems.
        given: Names that were chosen, which stay.
    """
    folders = dict(zip(read, names_of(list(read)), strict=True))
    described = {path: describe(system.settings) for path, system in read.items() if system.manifest is not None}
    names = {}
    for path, folder in folders.items():
        text = described.get(path, "")
        told = f"{text}: {_hash_in(folder)}" if list(described.values()).count(text) > 1 else text
        names[path] = given.get(path) or told or folder
    return (
        names if len(set(names.values())) == len(names) else {path: given.get(path) or folders[path] for path in read}
    )


def _hash_in(folder: str) -> str:
    """Return the hash at the end of a folder's name, as in MODEL-STRATEGY-HASH; the whole name of others."""
    found = re.fullmatch(r"[^/]+-([0-9a-f]{8})", folder)
    return found[1] if found else folder


def _called(system: System, name: str) -> System:
    replies = None if system.replies is None else replace(system.replies, name=name)
    about = "" if name.startswith(system.about) else system.about
    return replace(system, name=name, about=about, replies=replies)


def names_of(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, with as many parent folders as are needed to make it unique."""
    parts = [path.resolve().with_name(path.resolve().name.removesuffix(f".{SCORES}")).parts for path in paths]
    lengths = [1] * len(parts)
    while True:
        names = ["/".join(each[-length:]) for each, length in zip(parts, lengths, strict=True)]
        again = [names.count(name) > 1 for name in names]
        longer = [
            length + (twice and length < len(each)) for length, twice, each in zip(lengths, again, parts, strict=True)
        ]
        if longer == lengths:
            return names
        lengths = longer


def describe(settings: Mapping[str, Any]) -> str:
    """Return model and strategy in a line, with the settings that distinguish runs of one strategy."""
    strategy = str(settings.get("strategy", ""))
    details = [count(settings["shots"], "shot")] if settings.get("shots") else []
    details += [f"given {' and '.join(settings['given'])}"] if settings.get("given") else []
    details += [str(settings["variant"])] if settings.get("variant", "paper") != "paper" else []
    return f"{model_name(settings)} {strategy}".strip() + (f" ({', '.join(details)})" if details else "")


def _of_scores(path: Path) -> System:
    scored = read_scores(path)
    about = str(scored.source.get("format", "scores alone"))
    scores = {score.name: score for score in scored.scores}
    return System(path.name, about, scores, scored.notes, source=scored.source)


def _of_run(path: Path) -> System:
    manifest, lines = read_manifest(path), list(read_lines(path))
    replies = replies_of(path, manifest, lines)
    lost = bill_of((record for _, record in lines), manifest["sessions"]).failed
    return System(
        path.name,
        describe(manifest["settings"]),
        _scores(path, replies),
        replies.notes,
        replies,
        tuple(in_order(path, lines)),
        manifest,
        kept=read_values(path, replies),
        verified=verified_line(path),
        lost=lost / max(len(replies), 1),
    )


def _scores(folder: Path, replies: Replies) -> dict[str, Score]:
    kept, same = {}, False
    if is_file(scores_path(folder)):
        scored = read_scores(scores_path(folder))
        kept, same = {score.name: score for score in scored.scores}, scored.sha256 == replies.sha256
    fresh = kept if same else {}
    need_model = [name for name, entry in metric_entries().items() if entry.needs_model]
    if missing := metrics(with_models=False, without=fresh.keys(), also=on_request([replies])):
        fresh = {score.name: score for score in score_all(replies, missing).scores} | fresh
    for name in need_model:
        if name not in fresh and name in kept:
            had = kept[name].signature
            reason = f"scored when the run had other replies ({had.items:,}); `localemp score` scores it again"
            fresh[name] = Score(name, None, had, reason)
    return fresh


def _on_common(systems: list[System]) -> list[System]:
    runs = [system.replies for system in systems if system.replies is not None]
    if len(runs) < len(systems):
        without = next(system.name for system in systems if system.replies is None)
        raise OptionError(f"--common: of {without} only scores are known", "leave --common or this file out")
    return [_only(system, kept) for system, kept in zip(systems, on_common(runs), strict=True)]


def _only(system: System, kept: Replies) -> System:
    whole = len(kept) == len(system.replies or ())
    scores = {score.name: score for score in score_all(kept).scores} | (dict(system.scores) if whole else {})
    if system.kept is not None and not whole:
        scores |= {name: KeptMetric(name, {system.name: system.kept}).score(kept) for name in system.kept.values}
    ids = set(kept.ids)
    records = tuple(record for record in system.records if record["id"] in ids)
    return replace(system, replies=kept, scores=scores, notes=kept.notes, records=records)


def _hash(lines: Sequence[str]) -> str:
    return hashlib.sha256("\x1e".join(lines).encode("utf-8", "surrogatepass")).hexdigest()

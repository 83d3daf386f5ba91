"""All replies of several runs as one flat table, a row for each reply: JSON lines, and Parquet where pyarrow is.

    pandas.read_json("results.jsonl", lines=True)

Rows are written one after another, so that memory does not grow with their number.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from localemp.errors import MissingPackageError
from localemp.metrics.base import Metric
from localemp.metrics.kept_values import KeptMetric
from localemp.metrics.registry import is_hidden, metric, metric_entries
from localemp.metrics.replies import feeling_of
from localemp.reporting.systems import Record, System
from localemp.runs.run import thinking_tokens
from localemp.utils.extras import require
from localemp.utils.row_files import ColumnType, FileKind, write_rows

Row = dict[str, Any]

COLUMNS: Mapping[str, str] = {
    "experiment": "name of the plan",
    "row": "name of the row, as in the tables",
    "model": "the model, as the run records it",
    "strategy": "the strategy",
    "id": "id of the dialogue",
    "emotion": "the speaker's emotion, if the data has it",
    "situation": "what happened to the speaker, if the data has it",
    "context": "the turns before the reply, speaker first and last",
    "reference": "the person's reply, if the data has it",
    "reply": "the reply; null if the dialogue failed",
    "feeling": "what the stage feeling of the strategy said (stage 1 of two-stage); null if there was none",
    "finish_reason": "why the model stopped: stop, length, ...",
    "calls": "model calls, one for each stage",
    "shared": "calls of these that an identical request of another row or dialogue answered",
    "prompt_tokens": "tokens read, all calls; null if a call did not report them",
    "completion_tokens": "tokens written, all calls; likewise",
    "thinking_tokens": "tokens of those written that were thinking; null if a call thought and did not report them",
    "cached_tokens": "tokens read from the prefix cache; likewise",
    "seconds": "time that the calls waited for their answers",
    "cost": "US dollars; null if the model has no known price",
    "error": "why there is no reply; null if there is one",
}
"""The columns and what they hold; a column for each metric of single replies follows, by its name in tables."""

_NUMBERS = ("prompt_tokens", "completion_tokens", "cached_tokens")
_WHOLE = ("calls", "shared", "prompt_tokens", "completion_tokens", "thinking_tokens", "cached_tokens")
_TYPES: Mapping[str, ColumnType] = {
    **dict.fromkeys(COLUMNS, "text"),
    **dict.fromkeys(_WHOLE, "whole"),
    "context": "turns",
    "seconds": "number",
    "cost": "number",
}


def reply_rows(experiment: str, systems: Sequence[System]) -> Iterator[Row]:
    """Yield a row for each dialogue of each run, with all columns.

    Args:
        experiment: What the first column says.
        systems: The runs; those of which only scores are known are left out.
    """
    names = metric_columns()
    for system in systems:
        values = _values(system, names)
        for record in system.records:
            scores = values.get(record["id"], {})
            yield _row(experiment, system, record) | {name: scores.get(name) for name in names}


def write_reply_rows(folder: Path, rows: Iterable[Row]) -> tuple[list[Path], str]:
    """Write `results.jsonl`, and `results.parquet` if pyarrow is installed; both appear when they are whole.

    Args:
        folder: An existing folder.
        rows: The rows, of `reply_rows`.

    Returns:
        The files, and why there is no Parquet file; empty if there is one.

    Raises:
        OSError: A file cannot be written; what was there stays as it was.
    """
    files: dict[FileKind, Path] = {"jsonl": folder / "results.jsonl"}
    without = ""
    try:
        require("parquet", "results.parquet")
        files["parquet"] = folder / "results.parquet"
    except MissingPackageError as error:
        without = f"{error.message}: {error.hint}"
    columns: dict[str, ColumnType] = {**_TYPES, **dict.fromkeys(metric_columns(), "number")}
    return write_rows(files, columns, rows), without


def metric_columns() -> list[str]:
    """Return the metrics of the paper's tables that single replies have a value of."""
    # Dist and B-4 are of whole sets only; asking the metrics would load a model.
    return [
        name
        for name, entry in metric_entries().items()
        if not is_hidden(name) and (entry.needs_model or (not entry.on_request and _has_each(name)))
    ]


def _has_each(name: str) -> bool:
    from localemp.metrics.replies import Replies, Reply

    probe = Replies("probe", (Reply("1", "I am here.", "I am there.", "sad", "sad", ("Hello.",)),))
    return metric(name).statistics([probe]).each(np.arange(1)) is not None


def _values(system: System, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the value of each metric for each reply, by id."""
    found: dict[str, dict[str, float]] = {}
    if (replies := system.replies) is None:
        return found
    for name in names:
        chosen: Metric = metric(name)
        if metric_entries()[name].needs_model:
            if system.kept is None:
                continue
            chosen = KeptMetric(name, {system.name: system.kept})
        if chosen.missing(replies):
            continue
        each = chosen.statistics([replies]).each(np.arange(len(replies)))
        for item, value in zip(replies.ids, [] if each is None else each, strict=False):
            if np.isfinite(value):
                found.setdefault(item, {})[name] = float(value)
    return found


def _row(experiment: str, system: System, record: Record) -> Row:
    stages = record.get("stages", [])
    totals = {name: _total([stage.get(name) for stage in stages]) for name in _NUMBERS}
    error = record.get("error")
    told = {
        "experiment": experiment,
        "row": system.name,
        "model": system.settings.get("model"),
        "strategy": system.settings.get("strategy"),
        "context": record.get("turns", []),
        "feeling": feeling_of(record),
        "calls": len(stages),
        "thinking_tokens": _total([thinking_tokens(stage) for stage in stages]),
        "shared": sum(bool(stage.get("asked_by")) for stage in stages),
        "seconds": sum(stage.get("seconds") or 0.0 for stage in stages) if stages else None,
        "error": None if error is None else error["message"],
        **totals,
        "cost": _total([answer.get("cost") for answer in (*stages, *record.get("paid", ()))]),
    }
    return {name: told.get(name, record.get(name)) for name in COLUMNS}


def _total(parts: Sequence[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if parts and len(known) == len(parts) else None

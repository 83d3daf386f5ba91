"""Builds the batches of all rows and checks them, before any engine starts; all that is wrong is told together."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from localemp.engines.budget import Budget
from localemp.errors import LocalempError
from localemp.experiments.rows import ExperimentRow
from localemp.pipeline.batch import Batch
from localemp.pipeline.pipeline import Pipeline
from localemp.runs.run import settings_hash
from localemp.utils.progress import OnProgress, Progress, silent

T = TypeVar("T")
R = TypeVar("R")
_MOST = 5  # different errors, and rows of one error, that are named


def build_batches(
    rows: Sequence[ExperimentRow], on_progress: OnProgress = silent, budget: Budget | None = None
) -> list[Batch]:
    """Return a batch for each row, the same one for rows of the same settings; all share data, encoder and weights.

    Settings, data and models are checked first, then weights are found or fetched, each once, then every dialogue is
    checked for what its row needs. They have one budget; None for no limit.

    Raises:
        LocalempError: Something is wrong with one or more rows; names them.
    """
    root = Pipeline(rows[0].config, on_progress, budget)
    pipelines = {row.name: root.sharing(row.config) for row in rows}
    each = [((row.name,), row) for row in rows]
    models: dict[str, list[str]] = {}

    def look(row: ExperimentRow) -> None:
        pipeline = pipelines[row.name]
        runs_here = pipeline.runs_here  # an unknown model is reported here
        pipeline.check_options()
        pipeline.check_budget()
        pipeline.dialogues(row.split)
        if runs_here:
            models.setdefault(row.config.model, []).append(row.name)

    def build(row: ExperimentRow) -> Batch:
        on_progress(Progress("Checking", row=row.name))
        return Batch(pipelines[row.name], row.split, row.subset, name=row.name)

    check_all(each, look)
    check_all([(names, pipelines[names[0]]) for names in models.values()], lambda pipeline: pipeline.weights)
    for pipeline in {pipeline.profile.name: pipeline for pipeline in pipelines.values()}.values():
        pipeline.note_end()
    of_settings: dict[str, Batch] = {}
    return [of_settings.setdefault(settings_hash(batch.settings), batch) for batch in check_all(each, build)]


def check_all(items: Iterable[tuple[Sequence[str], T]], check: Callable[[T], R]) -> list[R]:
    """Check everything, and return the results; what is wrong with any of it is raised as one error.

    Args:
        items: Names of the rows that something belongs to, and the thing itself.
        check: Raises a LocalempError.

    Raises:
        LocalempError: One or more checks failed; names the rows.
    """
    results: list[R] = []
    wrong: dict[tuple[str, str], list[str]] = {}
    errors: list[LocalempError] = []
    for names, item in items:
        try:
            results.append(check(item))
        except LocalempError as error:
            errors.append(error)
            wrong.setdefault((error.message, error.hint), []).extend(names)
    if not errors:
        return results
    if len(wrong) == 1:
        (message, hint), names = next(iter(wrong.items()))
        found = LocalempError(f"{_rows(names)}: {message}", hint)
    else:
        lines = [
            f"  {_rows(names)}: {message}{f' ({hint})' if hint else ''}" for (message, hint), names in wrong.items()
        ]
        more = [f"  and {len(lines) - _MOST} more errors"] if len(lines) > _MOST else []
        number = sum(map(len, wrong.values()))
        found = LocalempError("\n".join([f"{number} rows cannot be answered:", *lines[:_MOST], *more]))
    found.exit_code = errors[0].exit_code
    raise found from errors[0]


def _rows(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"row {names[0]!r}"
    listed = ", ".join(map(repr, names[:_MOST]))
    return f"rows {listed}" + (f" and {len(names) - _MOST} more" if len(names) > _MOST else "")

"""What stands at the end of an experiment: scores, comparisons, the report, its tables and studies, in one folder.

    report.html        tables, figures, case study
    tables.tex         the tables for LaTeX; tables.csv has every cell on a line
    results.jsonl      one line a reply; results.parquet has the same, if pyarrow is installed
    comparisons.json   every row against the base row, metric by metric, unrounded
    study-ROW/         the study of a row against the base row

Every step stands alone: one that fails is named with the command that does it alone, and the others go on.
"""

import logging
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from localemp.commands import study as studies
from localemp.commands.report import of_studies
from localemp.commands.score import score
from localemp.commands.tables import published_of, write_tables, write_text
from localemp.errors import LocalempError, RunError
from localemp.experiments.rows import RowResult
from localemp.experiments.steps import After, Judge, ReportStep, StudyStep
from localemp.metrics.kept_values import is_scored
from localemp.metrics.registry import BERTSCORE
from localemp.metrics.replies import replies_of_run
from localemp.reporting.differences import Difference, as_json, difference_tables, differences
from localemp.reporting.reply_rows import reply_rows, write_reply_rows
from localemp.reporting.report import Report
from localemp.reporting.systems import System, read_systems
from localemp.reporting.tables import Table, listed
from localemp.studies.collected_votes import read_votes
from localemp.studies.privacy import open_study
from localemp.studies.study import STUDY
from localemp.utils.files import is_file, write_errors, write_json
from localemp.utils.formatting import count
from localemp.utils.progress import OnProgress, Progress, silent
from localemp.utils.text import one_line

CASES = 200
"""Dialogues in the case study, unless the plan says otherwise: the page of 8 rows then stays below 10 MB."""

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Finished:
    """What was made of the answers.

    Attributes:
        written: Files and folders that were written or are up to date.
        failures: Steps that failed, each with the reason and the command that does it alone.
        notes: What a reader of the results has to know.
    """

    written: tuple[Path, ...] = ()
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def finish(
    folder: Path, rows: Sequence[RowResult], after: After, name: str, on_progress: OnProgress = silent
) -> Finished:
    """Score, compare and report the rows of an experiment, and make its studies. What is up to date is not made again.

    Args:
        folder: The experiment's folder.
        rows: All rows, those without a run, too.
        after: What the plan wants.
        name: The plan's name, for titles.
        on_progress: Called with every step.

    Raises:
        KeyboardInterrupt: Ctrl-C; what was written stays, and the same call goes on.
    """
    return _Steps(folder, rows, after, name, on_progress).all()


class _Steps:
    def __init__(
        self, folder: Path, rows: Sequence[RowResult], after: After, name: str, on_progress: OnProgress
    ) -> None:
        self.folder, self.after, self.name, self.on_progress = folder, after, name, on_progress
        self.written: list[Path] = []
        self.failures: list[str] = []
        self.notes: list[str] = []
        self.rows = self._with_replies(rows)
        models = list(dict.fromkeys(result.row.model for result in rows))
        self.about = f"{name}: {', '.join(models)}"

    def all(self) -> Finished:
        """Take every step that the plan wants."""
        if self.rows:
            self._score()
            made = self._studies()
            self._results(made)
        else:
            self.notes.append("no row has a reply: nothing was scored or reported")
        return Finished(tuple(self.written), tuple(self.failures), tuple(self.notes))

    def _with_replies(self, rows: Sequence[RowResult]) -> dict[str, tuple[RowResult, Path]]:
        """Return the rows with a reply and their runs, by name; what is missing of the others becomes a note."""
        found = {}
        for result in rows:
            why = result.error
            if result.folder is not None and result.answered:
                found[result.row.name] = (result, result.folder)
                if result.complete:
                    continue
                failed = f", {result.failed:,} failed" if result.failed else ""
                told = f"{result.row.name} is not complete: {result.answered:,} of {result.dialogues:,} replies{failed}"
            else:
                told = f"{result.row.name} is missing: it has no reply"
            self.notes.append(one_line(f"{told} ({why})" if why else told))
        return found

    def _score(self) -> None:
        if self.after.score is None:
            return
        options, without = self.after.score.settings, BERTSCORE if self.after.score.no_bertscore else ()
        stale = []
        for number, (name, (_, run)) in enumerate(list(self.rows.items())):
            self.on_progress(Progress("Reading", number, len(self.rows), "rows", row=name))
            command = f"localemp score {shlex.quote(str(run))}"
            replies = self._try(f"reading {name}", command, partial(replies_of_run, run))
            if replies is None:  # damaged: the others are reported without it
                del self.rows[name]
                self.notes.append(f"{name} is missing: its run cannot be read")
            elif not is_scored(run, replies, options, without):
                stale.append(run)
        if not stale:
            return
        words = ["localemp", "score", *map(str, stale), *(["--no-bertscore"] if without else [])]
        for option, value in options.items():
            words += [f"--{option.replace('_', '-')}", str(value)]
        scored = self._try(
            "score",
            shlex.join(words),
            partial(score, stale, no_bertscore=bool(without), on_progress=self.on_progress, **options),
        )
        if scored is None:
            return
        self.notes += [note for note in scored.notes if "not kept" in note]
        reasons = [each.reason for system in scored.systems for each in system.scores if each.name in BERTSCORE]
        if reason := next((reason for reason in reasons if reason and "reference" not in reason), None):
            self.notes.append(f"BERTScore is missing: {one_line(reason)}")

    def _bases(self) -> dict[str, str]:
        """Return the base row of each row of its model; empty without a comparison."""
        if self.after.compare is None:
            return {}
        bases = {
            result.row.model: name
            for name, (result, _) in self.rows.items()
            if result.row.row == self.after.compare.base
        }
        found = {}
        for name, (result, _) in self.rows.items():
            base = bases.get(result.row.model)
            if base is None:
                told = f"no row of {result.row.model} is compared: its base row {self.after.compare.base} has no reply"
                self.notes += [told] if told not in self.notes else []
            elif base != name:
                found[name] = base
        return found

    def _studies(self) -> dict[str, Path]:
        """Create the study of each row against its base, and have it judged; return those that stand, by name."""
        if (wanted := self.after.study) is None:
            return {}
        bases = self._bases()
        made = {}
        for name, base in bases.items():
            if wanted.rows and self.rows[name][0].row.row not in wanted.rows:
                continue
            place = self.folder / f"study-{_slug(name)}"
            if not is_file(place / STUDY):
                self.on_progress(Progress("Creating the study", row=name))
                created = self._try(
                    f"the study of {name}",
                    self._create_command(wanted, place, base, name),
                    partial(self._create, wanted, place, base, name),
                )
                if created is None:
                    continue
                self.notes += [f"study of {name}: {note}" for note in created.notes]
            made[name] = place
            self.written.append(place)
        if wanted.judge is not None and made:
            self._judge(wanted.judge, made)
        return made

    def _create(self, wanted: StudyStep, place: Path, base: str, name: str) -> studies.CreateResult:
        runs = {each: self.rows[each][1] for each in (base, name)}
        options = wanted.model_dump(include={"kind", "preset", "sample", "seed", "checks", "aspects", "title"})
        return studies.create(runs, out=place, **options)

    def _create_command(self, wanted: StudyStep, place: Path, base: str, name: str) -> str:
        words = ["localemp", "study", "create", *(f"{each}={self.rows[each][1]}" for each in (base, name))]
        for option in ("kind", "preset", "sample", "seed", "checks", "aspects", "title"):
            if value := getattr(wanted, option):
                words += [f"--{option}", str(value)]
        return shlex.join([*words, "--out", str(place)])

    def _judge(self, wanted: Judge, made: Mapping[str, Path]) -> None:
        for name, place in made.items():
            command = shlex.join(["localemp", "study", "judge", str(place), "--model", wanted.model])
            judged = self._try(
                f"the judge of {name}",
                command,
                partial(
                    studies.judge,
                    place,
                    wanted.config,
                    votes=wanted.votes,
                    name=wanted.name,
                    prompts=wanted.prompts,
                    limit=wanted.limit,
                    on_progress=self.on_progress,
                ),
            )
            if judged is not None and judged.failed:
                self.failures.append(
                    f"the judge of {name}: {judged.failed:,} of {count(judged.questions, 'question')} without an "
                    f"answer; alone: {command}"
                )

    def _results(self, made: Mapping[str, Path]) -> None:
        """Compare the rows, and write the report, its tables and the replies."""
        wanted = self.after.report or ReportStep()
        runs = {name: run for name, (_, run) in self.rows.items()}
        words = ["localemp", "report", *(f"{name}={run}" for name, run in runs.items())]
        command = shlex.join(
            words + [each for base in sorted(set(self._bases().values())) for each in ("--against", base)]
        )
        systems = self._try(
            "report",
            command,
            partial(
                read_systems,
                list(runs.values()),
                wanted.common,
                self.on_progress,
                {run: name for name, run in runs.items()},
            ),
        )
        if systems is None:
            return
        found = self._compare(systems)
        if self.after.report is None:
            return
        results = [*difference_tables(found), *self._study_tables(made, systems, wanted)]
        cases = CASES if wanted.cases is None else wanted.cases
        notes = (*self._about(systems), *(f"{note}." for note in self.notes))
        report = Report(tuple(systems), published_of(wanted.published), tuple(results), cases, notes)
        title = wanted.title or self.about
        self._try("report.html", f"{command} --html {self._place('report.html')}", partial(self._page, report, title))
        tables = [replace(table, title=f"{table.title} ({self.about})") for table in report.tables]
        files = {"latex": "tables.tex", "csv": "tables.csv"}
        for option, file in files.items():
            made_alone = f"{command} --{option} {self._place(file)}"
            write = partial(self._tables, tables, **{option: self.folder / file})
            self._try(file, made_alone, write)
        self._try("results.jsonl", "the same experiment again", partial(self._replies, systems))

    def _compare(self, systems: Sequence[System]) -> list[Difference]:
        if (wanted := self.after.compare) is None or not (bases := self._bases()):
            return []
        command = shlex.join(
            [
                "localemp",
                "compare",
                *(str(self.rows[name][1]) for name in (next(iter(bases.values())), next(iter(bases)))),
            ]
        )
        found = self._try(
            "compare",
            command,
            partial(differences, systems, bases, wanted.samples, wanted.seed, self.on_progress),
        )
        if found is None:
            return []
        path = self.folder / "comparisons.json"
        kept = {"format": 1, "base": wanted.base, "rows": as_json(found)}
        if self._try("comparisons.json", command, partial(_write_json, path, kept)):
            self.written.append(path)
        return found

    def _study_tables(self, made: Mapping[str, Path], systems: Sequence[System], wanted: ReportStep) -> list[Table]:
        tables = []
        for name, place in made.items():
            command = shlex.join(["localemp", "study", "report", str(place)])
            voted = self._try(f"the study of {name}", command, partial(_has_votes, place))
            if voted is None:
                continue
            if not voted:
                self.notes.append(f"study of {name}: no answer yet; `localemp study serve {place}` lets people rate")
                continue
            known = published_of(wanted.published)
            names = [system.name for system in systems]
            tables += (
                self._try(f"the study of {name}", command, partial(of_studies, [(name, place)], names, known)) or []
            )
        return tables

    def _about(self, systems: Sequence[System]) -> list[str]:
        """What the page says first: what the rows are, and that some shared requests."""
        told = [f"{count(len(systems), 'row')} of the plan {self.name}."]
        shared = {system.name: _shared_calls(system) for system in systems}
        if some := {name: calls for name, calls in shared.items() if calls}:
            counted = listed(f"{name} {calls:,}" for name, calls in some.items())
            told.append(
                f"Identical requests at temperature 0 were asked once and recorded wherever they belong. Answered by "
                f"another row's or dialogue's call: {counted}. Costs are those that each row has by itself."
            )
        return told

    def _page(self, report: Report, title: str) -> bool:
        from localemp.reporting.page import render

        self.written.append(write_text(self.folder / "report.html", render(report, title), "--html"))
        return True

    def _tables(self, tables: Sequence[Table], latex: Path | None = None, csv: Path | None = None) -> bool:
        self.written += write_tables(tables, None, latex, csv)
        return True

    def _replies(self, systems: Sequence[System]) -> bool:
        with write_errors(partial(_write_error, self.folder), "make another --out"):
            written, without = write_reply_rows(self.folder, reply_rows(self.name, systems))
        self.written += written
        self.notes += [without] if without else []
        return True

    def _place(self, file: str) -> str:
        return shlex.quote(str(self.folder / file))

    def _try(self, what: str, command: str, step: Callable[[], T]) -> T | None:
        """Take a step; one that fails is noted with the command that does it alone."""
        try:
            return step()
        except LocalempError as error:
            reason = error.with_hint
        except Exception as error:  # a step must not take the others with it
            _log.error("%s: %s: %s", what, type(error).__name__, error, exc_info=error)
            reason = f"{type(error).__name__}: {error}"
        self.failures.append(f"{what}: {one_line(reason)}; alone: {command}")
        return None


def _slug(name: str) -> str:
    return re.sub(r"[^\w.+]+", "-", name).strip("-.") or "row"


def _has_votes(study: Path) -> bool:
    return bool(read_votes(open_study(study)))


def _shared_calls(system: System) -> int:
    """How many of a run's calls were answered by the identical request of another dialogue or row."""
    return sum(bool(stage.get("asked_by")) for record in system.answered for stage in record["stages"])


def _write_error(folder: Path, message: str, hint: str) -> RunError:
    return RunError(f"{folder}: {message}", hint)


def _write_json(path: Path, value: object) -> bool:
    with write_errors(partial(_write_error, path), "make another --out"):
        write_json(path, value)
    return True

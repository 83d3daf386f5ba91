"""What stands at the end of an experiment, in its folder.

    report.html        tables, figures, case study
    tables.tex         the tables for LaTeX; tables.csv has every cell on a line of its own
    results.jsonl      a line for each reply; results.parquet is the same, if pyarrow is installed
    comparisons.json   every row against the base row, metric by metric, unrounded
    study-ROW/         the study of a row against the base row

A step that fails stops no other: it is named with the command that repeats it.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from localemp.commands.experiment_studies import create_studies, judge_studies, study_tables
from localemp.commands.isolated_steps import RUN_AGAIN, IsolatedSteps
from localemp.commands.score import add_choices, add_perplexities, score
from localemp.commands.tables import published_of, write_tables, write_text
from localemp.engines.budget import Budget
from localemp.errors import RunError
from localemp.experiments.rows import RowResult
from localemp.experiments.steps import After, ReportStep, ScoreJudge
from localemp.metrics.choice import unanswerable
from localemp.metrics.kept_values import is_scored
from localemp.metrics.registry import BERTSCORE, CHOICE, PERPLEXITY, MetricContext, metric
from localemp.metrics.replies import Replies, replies_of_run
from localemp.metrics.scoring import read_scores, scores_path, stand_in
from localemp.pipeline.pipeline import Pipeline
from localemp.reporting.differences import Difference, as_json, difference_tables, differences
from localemp.reporting.reply_rows import reply_rows, write_reply_rows
from localemp.reporting.report import Report
from localemp.reporting.systems import System, read_systems
from localemp.reporting.tables import listed
from localemp.studies.questionnaire import aspect_named
from localemp.utils.files import write_errors, write_json
from localemp.utils.formatting import count, share
from localemp.utils.progress import OnProgress, Progress, silent
from localemp.utils.text import one_line

CASES = 200
"""Dialogues in the case study, unless the plan says otherwise: the page of 8 rows then stays below 10 MB."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What was made of the answers.

    Attributes:
        written: Files and folders that were written or are up to date.
        failures: Steps that failed, each with the reason and the command that repeats it.
        notes: What a reader of the results has to know.
    """

    written: tuple[Path, ...] = ()
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def finish(
    folder: Path,
    rows: Sequence[RowResult],
    after: After,
    name: str,
    on_progress: OnProgress = silent,
    budget: Budget | None = None,
) -> Finished:
    """Score, compare and report the rows of an experiment, and make its studies. What is up to date is not made again.

    Args:
        folder: The experiment's folder.
        rows: All rows, those without a run, too.
        after: What the plan wants.
        name: The plan's name, for titles.
        on_progress: Called with every step.
        budget: What judges may cost, together with the rows; None for no limit.

    Raises:
        KeyboardInterrupt: Ctrl-C; what was written stays, and the same call goes on.
    """
    return _Results(folder, rows, after, name, on_progress, budget).all()


class _Results:
    """The steps, in order; `rows` are the names of those that have a reply, with their results and runs."""

    def __init__(
        self,
        folder: Path,
        rows: Sequence[RowResult],
        after: After,
        name: str,
        on_progress: OnProgress,
        budget: Budget | None,
    ) -> None:
        self.folder, self.results, self.after, self.name = folder, rows, after, name
        self.on_progress, self.budget = on_progress, budget
        self.steps = IsolatedSteps()
        self.written: list[Path] = []
        self.notes: list[str] = []
        models = dict.fromkeys(result.row.model for result in rows)
        self.title = f"{name}: {', '.join(models)}"
        self.same: dict[str, str] = {}  # rows of the same settings, which have one run, and the first of them
        self.rows = self._with_replies(rows)

    def all(self) -> Finished:
        if self.after.score is not None:
            self._score()
        bases = self._bases()
        studies = self._studies(bases)
        if not self.rows:
            self.notes.append("no row has a reply: there is nothing to report")
        elif self.after.report is not None or bases:
            self._report(bases, studies)
        return Finished(tuple(self.written), tuple(self.steps.failures), tuple(self.notes))

    def _with_replies(self, rows: Sequence[RowResult]) -> dict[str, tuple[RowResult, Path]]:
        """Return the rows with a reply; what is missing becomes a note."""
        found: dict[str, tuple[RowResult, Path]] = {}
        for result in rows:
            first = next((name for name, (_, run) in found.items() if run == result.folder), None)
            if first is not None:
                self.same[result.row.name] = first
                self.notes.append(f"row {result.row.name} has the same settings as row {first}, whose replies it has")
                continue
            if result.folder is not None and result.answered:
                found[result.row.name] = (result, result.folder)
                done = share(result.answered, result.dialogues, "reply", "replies")
                failed = f", {result.failed:,} failed" if result.failed else ""
                told = f"row {result.row.name} is not complete: {done}{failed}"
            else:
                told = f"row {result.row.name} is missing: it has no reply"
            if not result.complete:
                self.notes.append(one_line(f"{told} ({result.error})" if result.error else told))
        return found

    def _score(self) -> None:
        """Score the rows whose scores are not up to date; a run that cannot be read is left out from now on."""
        assert self.after.score is not None
        options, without = self.after.score.settings, BERTSCORE if self.after.score.no_bertscore else ()
        also = PERPLEXITY if self.after.score.ppl else ()
        stale: dict[str, Replies] = {}
        for number, (name, (_, run)) in enumerate(list(self.rows.items())):
            self.on_progress(Progress("Reading", number, len(self.rows), "rows", name))
            replies = self.steps.run(name, shlex.join(["localemp", "score", str(run)]), partial(replies_of_run, run))
            if replies is None:
                del self.rows[name]
                self.notes.append(f"row {name} is missing: its run cannot be read")
            elif not is_scored(run, replies, options, without, also) or not self._is_judged(run, replies):
                stale[name] = replies
        if not stale:
            return
        if also:
            self._add_perplexities(stale)
        if self.after.score.judge is not None:
            self._add_choices(stale, self.after.score.judge)
        runs = [self.rows[name][1] for name in stale]
        words = ["localemp", "score", *map(str, runs), *(["--no-bertscore"] if without else [])]
        words += [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        step = partial(score, runs, no_bertscore=bool(without), on_progress=self.on_progress, **options)
        scored = self.steps.run("scores", shlex.join(words), step)
        for system in scored.systems if scored else ():
            told = [each.reason for each in system.scores if each.name in BERTSCORE and each.value is None]
            self._note_once(f"no BERTScore: {one_line(told[0])}" if told else "")
            for note in stand_in(system.scores):
                self._note_once(note)
        for note in scored.notes if scored else ():
            self._note_once(note if "not kept" in note else "")

    def _add_perplexities(self, stale: Mapping[str, Replies]) -> None:
        """Compute what PPL needs, on one engine for each model and its settings."""
        groups: dict[str, list[str]] = {}
        for name in stale:
            config = self.rows[name][0].row.config
            groups.setdefault(repr((config.model, config.adapter, config.engine_args)), []).append(name)
        for names in groups.values():
            config = self.rows[names[0]][0].row.config
            runs = [str(self.rows[name][1]) for name in names]
            words = ["localemp", "score", *runs, "--ppl", "--model", config.model]
            words += ["--adapter", config.adapter] if config.adapter else []
            words += [
                word for name, value in config.engine_args.items() for word in ("--engine-arg", f"{name}={value}")
            ]
            told = config.model, config.adapter, config.engine_args, self.on_progress
            step = partial(add_perplexities, [stale[name] for name in names], *told)
            for note in self.steps.run(f"perplexity of {', '.join(names)}", shlex.join(words), step) or ():
                self._note_once(note)

    def _is_judged(self, run: Path, replies: Replies) -> bool:
        """Return whether a row's scores have the choices of the judge that is wanted, if one is."""
        assert self.after.score is not None
        if (judge := self.after.score.judge) is None or unanswerable(replies):
            return True
        name, aspect = Pipeline(judge.config).model_name, aspect_named(judge.aspect)[1].name
        wanted = metric(CHOICE, MetricContext(judge=name, aspect=aspect)).score(replies)
        return wanted.value is not None and read_scores(scores_path(run)).score(CHOICE) == wanted

    def _add_choices(self, stale: Mapping[str, Replies], judge: ScoreJudge) -> None:
        """Ask the judge what P(choice) needs, on one engine for all rows."""
        words = ["localemp", "score", *(str(self.rows[name][1]) for name in stale), "--judge", judge.model]
        words += ["--judge-aspect", judge.aspect] if judge.aspect else []
        systems = [replace(replies, name=name) for name, replies in stale.items()]
        step = partial(add_choices, systems, judge.config, judge.aspect, self.on_progress, self.budget)
        asked = self.steps.run(f"the choices of {judge.model}", shlex.join(words), step)
        for note in asked.notes if asked else ():
            self._note_once(note)

    def _bases(self) -> dict[str, str]:
        """Return the base row of each row of its model; none without a comparison."""
        if self.after.compare is None:
            return {}
        base, bases = self.after.compare.base, {}
        of_model = {
            result.row.model: self.same.get(result.row.name, result.row.name)
            for result in self.results
            if result.row.row == base and self.same.get(result.row.name, result.row.name) in self.rows
        }
        for name, (result, _) in self.rows.items():
            if result.row.model not in of_model:
                self._note_once(f"no row of {result.row.model} is compared: its base row {base} has no reply")
            elif of_model[result.row.model] != name:
                bases[name] = of_model[result.row.model]
        return bases

    def _studies(self, bases: Mapping[str, str]) -> dict[str, Path]:
        if (wanted := self.after.study) is None:
            return {}
        pairs = {
            name: ((name, self.rows[name][1]), (base, self.rows[base][1]))
            for name, base in bases.items()
            if not wanted.rows or self.rows[name][0].row.row in wanted.rows
        }
        made, notes = create_studies(self.folder, pairs, wanted, self.steps, self.on_progress)
        self.written += made.values()
        self.notes += notes
        for judge in wanted.judge if made else ():
            judge_studies(made, judge, self.steps, self.on_progress, self.budget)
        return made

    def _report(self, bases: Mapping[str, str], studies: Mapping[str, Path]) -> None:
        """Compare the rows, and write report, tables and replies."""
        wanted = self.after.report or ReportStep()
        names = {run: name for name, (_, run) in self.rows.items()}
        words = ["localemp", "report", *(f"{name}={run}" for run, name in names.items())]
        words += [word for base in dict.fromkeys(bases.values()) for word in ("--against", base)]
        command = shlex.join(words + (["--common"] if wanted.common else []))
        read = partial(read_systems, list(names), wanted.common, self.on_progress, names)
        if (systems := self.steps.run("report", command, read)) is None:
            return
        asked = {name: result.answered for name, (result, _) in self.rows.items()}
        more = [each for each in systems if len(each.answered) > asked[each.name]]
        if more:
            told = listed(f"{each.name} {len(each.answered):,} instead of {asked[each.name]:,}" for each in more)
            self._note_once(f"runs with replies to more dialogues than asked for now count with all of them: {told}")
        found = self._compared(systems, bases, command)
        if self.after.report is None:
            return
        self._write("results.jsonl", "", partial(self._replies, systems))
        made = self.steps.run("report", command, partial(self._made, systems, found, studies, wanted))
        if made is None:
            return
        tables = [replace(table, title=f"{table.title} ({self.title})") for table in made.tables]
        self._write("report.html", f"{command} --html", partial(self._page, made, wanted.title or self.title))
        self._write("tables.tex", f"{command} --latex", lambda path: write_tables(tables, None, path, None))
        self._write("tables.csv", f"{command} --csv", lambda path: write_tables(tables, None, None, path))

    def _made(
        self, systems: Sequence[System], found: Sequence[Difference], studies: Mapping[str, Path], wanted: ReportStep
    ) -> Report:
        """Return the report; what is missing and what failed so far stands at its top."""
        known = published_of(wanted.published)
        rated, unrated = study_tables(studies, list(self.rows), known, self.steps)
        if unrated:
            serve = f"`localemp study serve {self.folder / 'study-ROW'}` lets people rate"
            self._note_once(f"no answer yet in {count(len(unrated), 'study', 'studies')}: {serve}")
        notes = (
            *self._shared(systems),
            *(f"{note[0].upper()}{note[1:]}." for note in self.notes),
            *(f"Failed: {failure}" for failure in self.steps.failures),
        )
        cases = CASES if wanted.cases is None else wanted.cases
        return Report(tuple(systems), known, (*difference_tables(found), *rated), cases, notes)

    def _compared(self, systems: Sequence[System], bases: Mapping[str, str], command: str) -> list[Difference]:
        if (wanted := self.after.compare) is None or not bases:
            return []
        step = partial(differences, systems, bases, wanted.samples, wanted.seed, self.on_progress)
        found = self.steps.run("comparisons", command, step) or []
        if found:
            kept = {"format": 1, "base": wanted.base, "rows": as_json(found)}
            self._write("comparisons.json", "", partial(_write_json, kept))
        return found

    def _write(self, file: str, command: str, write: Callable[[Path], Sequence[Path]]) -> None:
        """Write a file of the folder; `command` with the file's path repeats it, or the experiment if that is empty."""
        path = self.folder / file
        repeat = f"{command} {shlex.quote(str(path))}" if command else RUN_AGAIN
        self.written += self.steps.run(file, repeat, partial(write, path)) or []

    def _page(self, report: Report, title: str, path: Path) -> list[Path]:
        from localemp.reporting.page import render

        return [write_text(path, render(report, title), "--html")]

    def _replies(self, systems: Sequence[System], path: Path) -> list[Path]:
        with write_errors(lambda message, hint: RunError(f"{path}: {message}", hint), "name another --out"):
            written, without = write_reply_rows(path.parent, reply_rows(self.name, systems))
        self._note_once(without)
        return written

    def _shared(self, systems: Sequence[System]) -> list[str]:
        """What the page says first of rows that have replies of one another's requests."""
        calls = {system.name: _shared_calls(system) for system in systems}
        if not any(calls.values()):
            return []
        told = listed(f"{name} {number:,}" for name, number in calls.items() if number)
        return [
            "Identical requests at temperature 0 were asked once, and the reply was recorded wherever it belongs. "
            f"Answered by another row's or dialogue's request: {count(sum(calls.values()), 'call')} ({told}). "
            "Tokens, seconds and cost of such a call count in each row, as if the row had been made alone."
        ]

    def _note_once(self, note: str) -> None:
        if note and note not in self.notes:
            self.notes.append(note)


def _shared_calls(system: System) -> int:
    return sum(bool(stage.get("asked_by")) for record in system.answered for stage in record["stages"])


def _write_json(value: object, path: Path) -> list[Path]:
    with write_errors(lambda message, hint: RunError(f"{path}: {message}", hint), "name another --out"):
        write_json(path, value)
    return [path]

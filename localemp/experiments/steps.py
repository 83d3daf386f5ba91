"""What a plan wants of the replies afterwards: `score`, `compare`, `report`, `study`, with options of their own."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from localemp.errors import LocalempError, PlanError
from localemp.experiments.names import Name
from localemp.experiments.settings import (
    check_key,
    check_settings,
    check_text,
    check_value,
    did_you_mean,
    setting_types,
)
from localemp.metrics.registry import BERTSCORE_MODEL, metric_options
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.reporting.published import read_published
from localemp.runs.judge_answers import folder_name
from localemp.studies.judging.prompts import Answers, JudgePrompts
from localemp.studies.questionnaire import aspect_named, load_questionnaire
from localemp.studies.schema import Kind

Text = Annotated[str, AfterValidator(check_text)]
Whole = Annotated[int, Field(ge=0, le=2**63 - 1)]
Count = Annotated[int, Field(ge=1, le=2**63 - 1)]
_OF_JUDGES = (
    "base_url", "engine_args", "concurrency", "batch", "service_tier", "reasoning_effort", "verbosity", "script",
    "seed", "max_tokens", "temperature", "top_p", "sampling", "thinking", "thinking_budget",
)  # fmt: skip


def in_table(key: str) -> BeforeValidator:
    """Return a validator that takes a text alone for a table with only this key."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


def _several(value: Any) -> Any:
    """Take one thing for a list of it, and nothing for an empty list."""
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _on_off(value: Any) -> Any:
    """Take true for a step without options, and false for none."""
    if value is True:
        return {}
    return None if value is False else value


_Step = BeforeValidator(_on_off)


class Table(BaseModel):
    """A table of a plan; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _knows_keys(cls, fields: Any) -> Any:
        for key in fields if isinstance(fields, Mapping) else ():
            if key not in cls.model_fields:
                raise ValueError(f"unknown key {str(key)[:60]!r}; {did_you_mean(str(key), cls.model_fields)}")
        return fields


class OpenTable(BaseModel):
    """A table that has settings of registered things besides its own keys; these are checked where they are known."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings by name, as the plan has them."""
        return dict(self.__pydantic_extra__ or {})


class Model(OpenTable):
    """A model, and settings of its own.

    Attributes:
        model: As for `generate`.
        name: Its name in tables; None for the model's.
    """

    model: Text
    name: Name | None = None


class JudgeModel(OpenTable):
    """A model that judges, and its settings.

    Attributes:
        model: As for `study judge`.
    """

    model: Text

    @property
    def config(self) -> RunConfig:
        """The judge as commands take it."""
        types = setting_types()
        told = {name: check_value(name, value, types[name], "judge") for name, value in self.settings.items()}
        return RunConfig(model=self.model, **told)


class ScoreJudge(JudgeModel):
    """The judge of P(choice).

    Attributes:
        aspect: What it judges by; None for the default of `score`.
    """

    aspect: Text | None = None


class Judge(JudgeModel):
    """The judge of a study: a model, its settings, and options of `study judge`.

    Attributes:
        name: Its name in tables; None for the model's.
        votes: How often each question is asked.
        prompts: A name in prompts/judges/, or a file in the form of prompts/judge.toml.
        answers: Whether probabilities of answers count or what is written; None for the default of `study judge`.
        limit: Only the first N items.
    """

    name: Name | None = None
    votes: Count = 1
    prompts: Text | None = None
    answers: Answers | None = None
    limit: Count | None = None


class ScoreStep(OpenTable):
    """Options of `score`; its `settings` are those of metrics, such as `bertscore_model`.

    Attributes:
        no_bertscore: Skip BERTScore, which fetches a model.
        ppl: Also the perplexity of the references, with the rows' models.
        judge: Also P(choice) of this judge; None for none.
    """

    no_bertscore: bool = False
    ppl: bool = False
    judge: Annotated[ScoreJudge | None, in_table("model")] = None


class CompareStep(Table):
    """Options of `compare`: every row against a base row of the same model.

    Attributes:
        base: The base row's name in the plan.
        samples: Number of random swaps and of resamples for each metric; None for the default of `compare`.
        seed: Seed of both.
    """

    base: Name
    samples: Annotated[int, Field(ge=100, le=10**6)] | None = None
    seed: Whole = 0


class ReportStep(Table):
    """Options of `report`.

    Attributes:
        title: Title of the page; None for one made of the plan.
        cases: Number of dialogues in the case study; None for 200.
        common: Score all rows on the dialogues that all of them answered.
        published: "none" to omit the paper's rows, or a file with others.
    """

    title: Text | None = None
    cases: Whole | None = None
    common: bool = False
    published: Text | None = None


class StudyStep(Table):
    """Options of `study create`, and the judges: rows against the base row of `compare`.

    Attributes:
        kind: "ab" (the better of two replies) or "rating".
        preset: A design, such as "paper".
        rows: Names in the plan of the rows to study; empty for all.
        sample: Number of dialogues; None for the design's.
        seed: Seed of the sample.
        checks: Attention checks to add.
        aspects: A name in prompts/questionnaires/, or a file in the form of prompts/study.toml.
        title: What raters read at the top.
        judge: The models that judge, in a plan one or a list; empty for people alone.
    """

    kind: Kind = "ab"
    preset: Text | None = None
    rows: Annotated[tuple[Name, ...], Field(strict=False)] = ()
    sample: Count | None = None
    seed: Whole = 0
    checks: Whole = 0
    aspects: Text | None = None
    title: Text | None = None
    judge: Annotated[tuple[Annotated[Judge, in_table("model")], ...], BeforeValidator(_several)] = ()


class After(Table):
    """What to do with the replies. In a plan, true is a step with its defaults, and false is no step.

    Attributes:
        score: The metrics; None for none.
        compare: Comparison of every row with a base row, in a plan also as the base row's name alone; None for none.
        report: The report with its tables; None for none.
        study: A blinded study of rows against the base row; None for none.
    """

    score: Annotated[ScoreStep | None, _Step] = ScoreStep()
    compare: Annotated[CompareStep | None, in_table("base")] = None
    report: Annotated[ReportStep | None, _Step] = ReportStep()
    study: Annotated[StudyStep | None, _Step] = None

    def joined(self, steps: Mapping[str, Any]) -> dict[str, Any]:
        """Return these steps with others in their place, as data; options of the same step are joined."""
        fields: dict[str, Any] = self.model_dump()
        for name, wanted in steps.items():
            if name == "compare" and isinstance(wanted, str):
                wanted = {"base": wanted}
            elif wanted is True:
                wanted = {}
            fields[name] = {**(fields.get(name) or {}), **wanted} if isinstance(wanted, Mapping) else wanted
        return fields


def check_steps(after: After) -> None:
    """Check what can be checked of the steps before there is a row.

    Raises:
        PlanError: An option is unknown or invalid, or options exclude each other; names the key.
    """
    if after.score is not None:
        metrics = {option.name: option.type for option in metric_options()}
        for name, value in after.score.settings.items():
            check_key(name, [*ScoreStep.model_fields, *metrics], "after.score")
            check_value(name, value, metrics[name], "after.score")
        if after.score.judge is not None:
            _check_judge(after.score.judge, "after.score.judge")
    study = after.study
    if study is None:
        return
    if after.compare is None:
        raise PlanError(
            "after.study: there is no base row to compare with", 'name it: compare = "ROW" in [after], or --against ROW'
        )
    for judge in study.judge:
        _check_judge(judge, "after.study.judge")
        if judge.name and not re.fullmatch(r"\w[\w.-]*", judge.name):
            raise PlanError(
                f"after.study.judge, name: {judge.name!r} is not a valid folder name",
                "use letters, digits, dots and dashes",
            )


def _check_judge(judge: JudgeModel, where: str) -> None:
    types = setting_types()
    known = {name: types[name] for name in _OF_JUDGES} | dict.fromkeys(type(judge).model_fields)
    check_settings(judge.settings, known, where)


def check_rows_and_files(after: After, rows: Iterable[str]) -> None:
    """Check that the steps name rows that exist, and files and models that can be read.

    Args:
        after: The steps.
        rows: Names of all rows.

    Raises:
        PlanError: A row does not exist, or a file or a model is unusable; names the key.
    """
    rows, base = list(rows), after.compare.base if after.compare else ""
    named = [("compare", base)] if base else []
    named += [("study.rows", name) for name in after.study.rows] if after.study else []
    for key, name in named:
        if name not in rows:
            raise PlanError(f"after.{key}: no row is called {name!r}", did_you_mean(name, rows))
    if after.study and base in after.study.rows:
        raise PlanError(f"after.study.rows: {base!r} is the base row itself", "leave it out")
    key = "score.bertscore_model"
    try:
        if after.score and not after.score.no_bertscore:
            _check_bertscore(after.score.settings.get(BERTSCORE_MODEL.name))
        key = "score.judge"
        if after.score and after.score.judge:
            _ = Pipeline(after.score.judge.config).profile
            aspect_named(after.score.judge.aspect)
        key = "report.published"
        if after.report and after.report.published not in (None, "none"):
            read_published(Path(after.report.published or ""))
        if after.study:
            key = "study.aspects"
            asked = load_questionnaire(after.study.aspects, after.study.kind)
            key = "study.preset"
            if after.study.preset:
                asked.design(after.study.preset)
            key = "study.judge"
            folders: set[str] = set()
            for judge in after.study.judge:
                pipeline = Pipeline(judge.config)
                if judge.votes > 1 and not pipeline.sampling.temperature:
                    raise PlanError(f"{judge.votes} votes at temperature 0 would all be the same", "set a temperature")
                JudgePrompts.read(judge.prompts).check_asks(after.study.kind, asked.aspects(after.study.kind))
                folder = judge.name or folder_name(pipeline.profile.name)
                if folder in folders:
                    raise PlanError(f"two judges have the name {folder}", "give one of them another name")
                folders.add(folder)
    except LocalempError as error:
        raise PlanError(f"after.{key}: {error.message}", error.hint) from error


def _check_bertscore(model: str | None) -> None:
    if model is not None:
        from localemp.metrics.bertscore import profile_of, split_layer  # with numpy, which most plans do not need here

        profile_of(split_layer(model)[0])

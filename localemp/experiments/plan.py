"""The plan of an experiment as data: rows, models, and what to do with the replies. Read from a TOML file.

    plan = read_plan("paper")
    plan = Plan(rows=[{"name": "0-shot", "strategy": "zero-shot"}, {"strategy": "few-shot", "shots": [1, 2, 5]}])

`expand.py` makes rows of it.
"""

import unicodedata
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from localemp.data.empathetic_dialogues import canonical_split
from localemp.data.readers import is_there
from localemp.errors import LocalempError, PlanError, UnknownNameError
from localemp.experiments.settings import (
    DIALOGUES,
    ENGINE,
    check_key,
    check_no_secret,
    check_text,
    check_value,
    did_you_mean,
    is_path,
    setting_types,
    takes_several,
)
from localemp.metrics.registry import metric_options
from localemp.pipeline.config import RunConfig
from localemp.strategies.registry import parse_strategy
from localemp.utils.paths import at_home
from localemp.utils.text import one_line
from localemp.utils.toml_reader import TOMLError, load_toml
from localemp.utils.validation import format_validation_error

PLANS = ("paper", "combinations", "shots", "smoke")
"""The plans that ship with localemp."""
MOST_ROWS = 1000
LONGEST_NAME = 100
_SHIPPED = Path(__file__).with_name("plans")
_FORM = "docs/experiments.md describes plans"
# Settings whose values may be names or paths.
_NAMES_OR_PATHS = ("model", "variant", "data", "pool", "encoder", "comet", "bertscore_model", "published")
_TOP = {
    name: f"set it at the top of the plan, before [defaults]: {name} = ..." for name in ("models", "split", "limit")
}
_TOP |= {"model": 'name models at the top of the plan: models = ["llama"]'}
_SAME_DIALOGUES = "all rows answer the same dialogues: set it at the top, or instances in [defaults]"
_ONE_ENGINE = "all rows of a model share one engine: set it in the model's table or in [defaults]"
# Keys that a table cannot have, and why.
_NOT_IN = {
    "defaults": _TOP | {"data": "set it at the top of the plan: data = ...", "name": "names belong to rows"},
    "models": _TOP | dict.fromkeys(DIALOGUES, _SAME_DIALOGUES) | {"strategy": "strategies belong to rows"},
    "rows": dict.fromkeys(ENGINE, _ONE_ENGINE) | _TOP | dict.fromkeys((*DIALOGUES, "split", "limit"), _SAME_DIALOGUES),
}


def valid_name(text: str) -> str:
    """Return the name of a row, a model or a plan: normalised, without white space around it.

    Raises:
        ValueError: It is empty or too long, or has a control character, a slash, or neither letter nor digit.
    """
    text = unicodedata.normalize("NFC", text.strip())
    check_text(text, LONGEST_NAME)
    if "/" in text or "\\" in text:
        raise ValueError("a name cannot have a slash")
    if not any(map(str.isalnum, text)):
        raise ValueError("a name has a letter or a digit")
    return text


Name = Annotated[str, AfterValidator(valid_name)]
Text = Annotated[str, AfterValidator(check_text)]
Whole = Annotated[int, Field(ge=0, le=2**63 - 1)]
Count = Annotated[int, Field(ge=1, le=2**63 - 1)]


def _step(value: Any) -> Any:
    """A step is a table of options; true is one without, false is none."""
    return {} if value is True else None if value is False else value


def _named(key: str) -> BeforeValidator:
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _knows_keys(cls, fields: Any) -> Any:
        known = cls.model_fields
        for key in fields if isinstance(fields, Mapping) else ():
            if key not in known:
                raise ValueError(f"unknown key {one_line(str(key), 60)!r}; {did_you_mean(str(key), known)}")
        return fields


class _Open(BaseModel):
    """A table that has options of registered things besides its own."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    @property
    def settings(self) -> dict[str, Any]:
        """The options of `generate` (or metrics) in it, by name."""
        return dict(self.__pydantic_extra__ or {})


class Row(_Open):
    """A row of the plan, or a grid of rows: a name, and options of `generate`.

    A list of values is a grid. For an option that has several values, such as `given`, it is a grid if it is a list of
    lists.

    Attributes:
        name: May have placeholders of settings, such as "{strategy}, {shots} shots"; empty for a name made of the
            settings.
    """

    name: Annotated[str, AfterValidator(lambda text: valid_name(text) if text else text)] = ""

    @cached_property
    def grid(self) -> dict[str, tuple[Any, ...]]:
        """The values of each setting that the row has; one that is not a list has one value."""
        types = setting_types()
        return {name: _values(value, takes_several(types[name])) for name, value in self.settings.items()}


class Model(_Open):
    """A model, and its own settings.

    Attributes:
        model: As for `generate`.
        name: In the names of rows, and in tables; empty for the model's.
    """

    model: Text
    name: Annotated[str, AfterValidator(lambda text: valid_name(text) if text else text)] = ""


class Judge(Model):
    """The judge of a study: a model, its settings, and options of `study judge`.

    Attributes:
        votes: How often each question is asked.
        prompts: A file in the form of prompts/judge.toml.
        limit: Only the first N items.
    """

    votes: Count = 1
    prompts: Text | None = None
    limit: Count | None = None


class ScoreStep(_Open):
    """Options of `score`; further ones are those of metrics, such as `bertscore_model`.

    Attributes:
        no_bertscore: Skip BERTScore, which fetches a model.
    """

    no_bertscore: bool = False


class CompareStep(_Strict):
    """Options of `compare`: every row against a base row of the same model.

    Attributes:
        base: The base row's name in the plan.
        samples: Number of random swaps and of resamples for each metric.
        seed: Seed of both.
    """

    base: Name
    samples: Annotated[int, Field(ge=100, le=10**6)] | None = None
    seed: Whole = 0


class ReportStep(_Strict):
    """Options of `report`.

    Attributes:
        title: Title of the page; None for the plan's.
        cases: Number of dialogues in the case study; None for all.
        common: Score all rows on the dialogues that all of them answered.
        published: "none" to omit the paper's rows, or a file with others.
    """

    title: Text | None = None
    cases: Whole | None = None
    common: bool = False
    published: Text | None = None


class StudyStep(_Strict):
    """Options of `study create`, and the judge: rows against the base row of `compare`.

    Attributes:
        kind: "ab" (the better of two replies) or "rating".
        preset: A design, such as "paper".
        rows: Names in the plan of the rows to compare; all by default.
        sample: Number of dialogues.
        seed: Seed of the sample.
        checks: Attention checks to add.
        aspects: A questionnaire in the form of prompts/study.toml.
        title: What raters read at the top.
        judge: The model that judges; None for people alone.
    """

    kind: Literal["ab", "rating"] = "ab"
    preset: Text | None = None
    rows: Annotated[tuple[Name, ...], Field(strict=False)] = ()
    sample: Count | None = None
    seed: Whole = 0
    checks: Whole = 0
    aspects: Text | None = None
    title: Text | None = None
    judge: Annotated[Judge | None, _named("model")] = None


class After(_Strict):
    """What to do with the replies. True is a step with its defaults, False is no step.

    Attributes:
        score: The metrics; None for none.
        compare: Comparison of every row with a base row; in the plan also the base row's name alone.
        report: The report with its tables.
        study: A blinded study of rows against the base row.
    """

    score: Annotated[ScoreStep | None, BeforeValidator(_step)] = ScoreStep()
    compare: Annotated[CompareStep | None, _named("base")] = None
    report: Annotated[ReportStep | None, BeforeValidator(_step)] = ReportStep()
    study: Annotated[StudyStep | None, BeforeValidator(_step)] = None


class Plan(_Strict):
    """The plan of an experiment. docs/experiments.md describes its file.

    Attributes:
        name: Its name; by default that of its file.
        about: One line for people.
        models: The models; empty for the default model.
        data: Source of dialogues, as for `generate`.
        split: "train", "valid" or "test".
        limit: Only the first N dialogues.
        defaults: Settings of all rows.
        rows: The rows and grids.
        after: What to do with the replies.

    Raises:
        PlanError: A key is unknown, or a value is invalid; names row and key.
    """

    name: Name = "plan"
    about: str = ""
    models: Annotated[tuple[Annotated[Model, _named("model")], ...], Field(strict=False)] = ()
    data: Text | None = None
    split: Text | None = None
    limit: Count | None = None
    defaults: Mapping[str, Any] = {}
    rows: Annotated[tuple[Row, ...], Field(strict=False, min_length=1, max_length=MOST_ROWS)]
    after: After = After()
    _source: str = PrivateAttr("the plan")

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise PlanError(format_validation_error(error), _FORM) from error

    @property
    def source(self) -> str:
        """Where it was read, for error messages."""
        return self._source

    @model_validator(mode="after")
    def _is_valid(self) -> Self:
        types = setting_types()
        if self.split is not None:
            canonical_split(self.split)
        _check_settings(self.defaults, types, "defaults")
        for model in self.models:
            _check_settings(model.settings, types, f"models ({model.model})", "models")
        for number, row in enumerate(self.rows, 1):
            where = where_of(row, number)
            _check_settings(row.settings, types, where, "rows")
            check_template(row.name, types, where)
        _check_after(self.after, types)
        return self


def read_plan(source: str | Path) -> Plan:
    """Read a plan: a bundled one by its name, or a TOML file. Paths in a file are relative to it.

    Raises:
        UnknownNameError: No bundled plan has this name; lists them.
        PlanError: The file cannot be read or is invalid; names file, row and key.
    """
    name = str(source)
    if not name.endswith(".toml") and name not in PLANS:
        raise UnknownNameError("plan", name, PLANS, "A path to a .toml file of your own works too")
    path = at_home(name) if name.endswith(".toml") else _SHIPPED / f"{name}.toml"
    try:
        fields, _ = load_toml(path)
        plan = Plan(**{"name": path.stem, **_beside(fields, path.parent)})
    except FileNotFoundError as error:
        raise PlanError(f"{path}: no such file", f"bundled plans: {', '.join(PLANS)}; {_FORM}") from error
    except OSError as error:
        raise PlanError(f"{path}: cannot be read: {error.strerror}", _FORM) from error
    except TOMLError as error:
        raise PlanError(f"{path}: {error}", _FORM) from error
    except LocalempError as error:
        raise PlanError(f"{path}: {error.message}", error.hint) from error
    plan._source = name if name in PLANS else str(path)
    return plan


def where_of(row: Row, number: int) -> str:
    """Return a row's place for error messages: its number from 1, and its name."""
    return f"row {number} ({one_line(row.name, 60)})" if row.name else f"row {number}"


def check_template(name: str, known: Mapping[str, Any], where: str) -> None:
    """Check the placeholders of a row's name.

    Raises:
        PlanError: One is no setting, or the braces are unbalanced.
    """
    try:
        for _, key, form, conversion in Formatter().parse(name):
            if form or conversion:
                raise PlanError(f"{where}, name: {{{key}}} must be a plain name, without ! and :")
            if key is not None:
                check_key(key, known, f"{where}, name")
    except ValueError as error:
        raise PlanError(f"{where}, name: {error}", "write {{ and }} for braces that are no placeholder") from error


def _values(value: Any, several: bool) -> tuple[Any, ...]:
    """The values of a setting in a row: the entries of a list, or of a list of lists if one value is a list itself."""
    is_list = isinstance(value, list | tuple)
    is_grid = is_list and (not several or any(isinstance(each, list | tuple) for each in value))
    return tuple(value) if is_grid else (value,)


def _check_settings(settings: Mapping[str, Any], types: Mapping[str, Any], where: str, table: str = "defaults") -> None:
    for name, value in settings.items():
        if name in _NOT_IN[table]:
            raise PlanError(f"{where}, {name}: it does not belong here", _NOT_IN[table][name])
        check_key(name, types, where)
        values = _values(value, takes_several(types[name])) if table == "rows" else (value,)
        if not values:
            raise PlanError(f"{where}, {name}: the list is empty", "give at least one value, or leave it out")
        for each in values:
            checked = check_value(name, each, types[name], where)
            try:
                RunConfig(**{name: checked})
                if name == "strategy":
                    parse_strategy(checked)
            except LocalempError as error:
                raise PlanError(f"{where}, {name}: {error.message}", error.hint) from error
    check_no_secret(settings, where)


def _check_after(after: After, types: Mapping[str, Any]) -> None:
    if after.score is not None:
        options = {option.name: option.type for option in metric_options()}
        for name, value in after.score.settings.items():
            check_key(name, {**options, "no_bertscore": bool}, "after.score")
            check_value(name, value, options[name], "after.score")
    if after.study is not None:
        if after.compare is None:
            raise PlanError("after.study: there is no base row to compare with", 'add compare = "NAME" to [after]')
        if (judge := after.study.judge) is not None:
            _check_settings(judge.settings, types, "after.study.judge", "models")


def _beside(fields: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the fields of a plan with paths relative to its folder resolved."""
    paths = {name for name, kind in setting_types().items() if is_path(kind)} | {"aspects", "prompts"}

    def resolved(key: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: resolved(name, inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [resolved("model" if key == "models" else key, inner) for inner in value]
        key = "model" if key == "judge" else key
        if not isinstance(value, str) or not value.strip() or key not in {*paths, *_NAMES_OR_PATHS}:
            return value
        path = folder / at_home(value)
        return str(path) if key in paths or (not value.isidentifier() and is_there(path)) else value

    return {key: resolved(key, value) for key, value in fields.items()}

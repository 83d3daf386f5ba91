"""The plan of an experiment as data: rows, models, and what to do with the replies. Read from a TOML file.

    plan = read_plan("paper")
    plan = Plan(rows=[{"name": "0-shot", "strategy": "zero-shot"}, {"strategy": "few-shot", "shots": [1, 2, 5]}])

`expand.py` makes rows of it.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, PrivateAttr, ValidationError, model_validator

from localemp.data.reader import is_there
from localemp.data.splits import canonical_split
from localemp.errors import LocalempError, PlanError, UnknownNameError
from localemp.experiments.names import Name, placeholders
from localemp.experiments.settings import check_settings, check_text, is_path, setting_types, values_of
from localemp.experiments.steps import After, Count, Model, OpenTable, Table, Text, check_steps, in_table
from localemp.models.adapters import split_spec
from localemp.strategies.registry import canonical_name, is_flow_file, several_strategies
from localemp.utils.files import is_file, is_folder
from localemp.utils.paths import StrPath, at_home
from localemp.utils.text import one_line
from localemp.utils.toml_reader import load_toml
from localemp.utils.validation import format_validation_error

PLANS = ("paper", "combinations", "methods", "shots", "smoke")
"""The plans that ship with localemp."""
MOST_ROWS = 1000
"""Most rows of an experiment."""

_LONGEST_NAME = 100  # characters
_SHIPPED = Path(__file__).with_name("plans")
_FORM = "docs/experiments.md describes plans"
_MODELS = 'name models at the top of the plan: models = ["llama"]'
_SAME_DIALOGUES = (
    "all rows answer the same dialogues: set it at the top of the plan, or instances and columns in [defaults]"
)
_ONE_ENGINE = "all rows of a model share one engine: set it in the model's table or in [defaults]"
_ONE_BUDGET = "all rows have one budget: set it at the top of the plan"
_TOP = {"model": _MODELS, "models": _MODELS, "budget": _ONE_BUDGET} | dict.fromkeys(
    ("data", "split", "limit", "sample"), _SAME_DIALOGUES
)
_NOT_OF_DEFAULTS = _TOP | {"name": "names belong to rows"}
_NOT_OF_MODELS = _TOP | {
    "instances": _SAME_DIALOGUES,
    "columns": _SAME_DIALOGUES,
    "strategy": "strategies belong to rows",
}
_NOT_OF_ROWS = (
    dict.fromkeys(("base_url", "engine_args", "concurrency", "batch", "service_tier", "script"), _ONE_ENGINE)
    | _TOP
    | {"instances": _SAME_DIALOGUES, "columns": _SAME_DIALOGUES}
)
# Values of these may be names or paths; of the others, which are paths, see `_beside`.
_NAMES_OR_PATHS = (
    "model",
    "variant",
    "data",
    "pool",
    "encoder",
    "comet",
    "bertscore_model",
    "embsim_model",
    "epitome_model",
    "published",
)
_ENDINGS = (".toml", ".jsonl", ".json", ".csv", ".txt", ".parquet", ".gz")
_PATHS_OF_STEPS = ("aspects", "prompts")  # or names of bundled files


class Row(OpenTable):
    """A row of the plan, or a grid of rows: a name, and options of `generate`.

    Attributes:
        name: May have placeholders of the row's settings, such as "{strategy}, {shots}-shot"; None for a name made of
            them.
    """

    name: Name | None = None

    @cached_property
    def grid(self) -> dict[str, tuple[Any, ...]]:
        """The values of each setting; more than one make a grid."""
        types = setting_types()
        return {name: values_of(value, types[name]) for name, value in self.settings.items()}


class Plan(Table):
    """The plan of an experiment. docs/experiments.md describes its file, which has the same keys.

    Attributes:
        name: Its name; by default that of its file.
        about: One line for people.
        models: The models; empty for the default model.
        data: Source of dialogues, as for `generate`.
        split: "train", "valid" or "test".
        limit: Only the first N dialogues.
        sample: Only N dialogues at random, drawn with the seed of the defaults; not with `limit`.
        budget: US dollars that all rows, and the judges afterwards, may cost together.
        defaults: Settings of all rows.
        rows: The rows and grids.
        after: What to do with the replies.

    Raises:
        PlanError: A key is unknown, or a value is invalid; names row and key.
    """

    name: Name = "plan"
    about: Annotated[str, AfterValidator(lambda text: check_text(text) if text else text)] = ""
    models: Annotated[tuple[Annotated[Model, in_table("model")], ...], Field(strict=False)] = ()
    data: Text | None = None
    split: Text | None = None
    limit: Count | None = None
    sample: Count | None = None
    budget: Annotated[float, Field(gt=0, allow_inf_nan=False, strict=False)] | None = None
    defaults: Mapping[str, Any] = {}
    rows: Annotated[tuple[Row, ...], Field(strict=False)]
    after: After = After()
    _source: str = PrivateAttr("the plan")

    def __init__(self, **fields: Any) -> None:
        rows = fields.get("rows")
        if isinstance(rows, Sequence) and len(rows) > MOST_ROWS:
            raise PlanError(f"rows: {len(rows):,} are more than {MOST_ROWS:,}", "split the plan")
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise PlanError(format_validation_error(error, kinds=_IN_WORDS, form=Plan), _FORM) from error

    @property
    def source(self) -> str:
        """Where it was read, for error messages."""
        return self._source

    def with_steps(self, steps: Mapping[str, Any]) -> "Plan":
        """Return the plan with other steps afterwards.

            read_plan("paper").with_steps({"score": {"no_bertscore": True}, "compare": "1-shot", "report": False})

        Args:
            steps: By the keys of `[after]`. The options of a step are joined with those that the plan has for it; true
                keeps these, and false omits the step.

        Raises:
            PlanError: A key is unknown, or a value is invalid.
        """
        if not steps:
            return self
        plan = Plan(**{**dict(self), "after": self.after.joined(steps)})
        plan._source = self._source
        return plan

    @model_validator(mode="after")
    def _is_valid(self) -> Self:
        types = setting_types()
        if not self.rows:
            raise PlanError("rows: there is none", 'add one: [[rows]], and below it strategy = "zero-shot"')
        if self.split is not None:
            canonical_split(self.split)
        if self.limit is not None and self.sample is not None:
            raise PlanError("limit and sample exclude each other", "give one of them")
        named = {**types, "name": str}
        check_settings(self.defaults, types, "defaults", _NOT_OF_DEFAULTS)
        for model in self.models:
            check_settings(model.settings, named, f"models ({one_line(model.model, 60)})", _NOT_OF_MODELS)
        for number, row in enumerate(self.rows, 1):
            where = where_of(row, number)
            check_settings(row.settings, named, where, _NOT_OF_ROWS, grids=True)
            placeholders(row.name or "", types, where)
        check_steps(self.after)
        return self


_IN_WORDS = {
    "tuple_type": "must be a list",
    "model_type": "must be a table",
    "dict_type": "must be a table",
    "mapping_type": "must be a table",
    "string_type": "must be a text",
}


def plan_file(source: StrPath) -> Path:
    """Return the file of a plan: that of a bundled one by its name, else the path itself."""
    name = str(source)
    return _SHIPPED / f"{name}.toml" if name in PLANS else at_home(name)


def read_plan(source: StrPath) -> Plan:
    """Read a plan: a bundled one by its name, a TOML file, or strategies joined by commas ("zero-shot,two-stage").

    Paths in a file are relative to it. Of strategies, each is a row, and all are compared with the first.

    Raises:
        UnknownNameError: No bundled plan has this name; lists them.
        PlanError: The file cannot be read or is invalid; names file, row and key.
    """
    name = str(source)
    if strategies := several_strategies(name):
        return _of_strategies(strategies)
    if not name.endswith(".toml") and name not in PLANS:
        hint = "A path to a .toml file of your own works too"
        if is_file(at_home(name)):
            hint = "A file's name must end in .toml"
        elif is_file(Path(at_home(name)) / "experiment.json"):
            shown = one_line(name)
            hint = (
                f"This is an experiment's folder: `localemp experiment show {shown}` has the command that continues it"
            )
        raise UnknownNameError("plan", name, PLANS, hint)
    path = plan_file(source)
    shown = name if name in PLANS else one_line(str(path))
    try:
        fields, _ = load_toml(path)
        if fields.get("models") == []:
            raise PlanError("models: the list is empty", "name a model, or leave it out")
        plan = Plan(**{"name": path.stem, **_beside(fields, path.parent)})
    except FileNotFoundError as error:
        raise PlanError(f"{shown}: no such file", f"bundled plans: {', '.join(PLANS)}; {_FORM}") from error
    except OSError as error:
        raise PlanError(f"{shown}: cannot be read: {error.strerror}", _FORM) from error
    except LocalempError as error:
        raise PlanError(f"{shown}: {error.message}", error.hint, error.others) from error
    except ValueError as error:  # a TOMLError, or a path with a null byte
        raise PlanError(f"{shown}: {error}", _FORM) from error
    plan._source = shown
    return plan


def _of_strategies(strategies: Sequence[str]) -> Plan:
    names = [canonical_name(each) for each in strategies]
    rows = [{"name": name, "strategy": each} for name, each in zip(names, strategies, strict=True)]
    plan = Plan(name=", ".join(names)[:_LONGEST_NAME], rows=rows, after={"compare": names[0]})
    plan._source = ",".join(strategies)
    return plan


def where_of(row: Row, number: int) -> str:
    """Return a row's place for error messages: its number from 1, and its name."""
    return f"row {number} ({one_line(row.name, 60)})" if row.name else f"row {number}"


def _beside(fields: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a plan's fields with relative paths resolved: a file is taken from beside the plan."""
    paths = {*_PATHS_OF_STEPS, *(name for name, kind in setting_types().items() if is_path(kind))}

    def beside(value: str) -> str:
        path = folder / at_home(value)
        return str(path) if is_there(path) else value

    def resolved(key: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: resolved(name, inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [resolved(key, inner) for inner in value]
        key = "model" if key in ("models", "judge") else key
        if not isinstance(value, str) or not value.strip():
            return value
        if key == "strategy":
            return "+".join(beside(part) if is_flow_file(part) else part for part in value.split("+"))
        if key == "adapter":
            try:
                name, reference = split_spec(value)
            except LocalempError:  # said with its row
                return value
            adapter = folder / at_home(reference)
            return f"{name}={adapter}".removeprefix("=") if is_folder(adapter) else value
        names_file = "/" in value or Path(value).suffix in _ENDINGS  # a bare word is a name, whatever lies there
        if key in paths:
            path = folder / at_home(value)
            is_name = key in _PATHS_OF_STEPS and not names_file and not is_there(path)
            return value if is_name else str(path)
        return beside(value) if key in _NAMES_OR_PATHS and names_file else value

    return {key: resolved(key, value) for key, value in fields.items()}

"""From a plan to rows: the products of its grids, their names, and the settings of each row for each model.

A setting comes from the row, else from the command line, the model's table, the plan's defaults, or `RunConfig`.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localemp.errors import LocalempError, OptionError, PlanError
from localemp.experiments.plan import MOST_ROWS, Model, Plan, Row, valid_name, where_of
from localemp.experiments.rows import ExperimentRow
from localemp.experiments.settings import check_value, did_you_mean, foreign_options, setting_types
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.prompting.template import load_template
from localemp.strategies.registry import parts_with
from localemp.strategies.shots import SHOTS

Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Variant:
    """One row of a grid: its own settings, and its strategy, which may come from elsewhere."""

    where: str
    name: str
    strategy: str
    own: dict[str, Any] = field(default_factory=dict)

    def takes(self, setting: str) -> bool:
        """Whether a setting from elsewhere has an effect here."""
        return setting not in self.own and setting not in foreign_options(self.strategy)


def expand(
    plan: Plan,
    models: str | Settings | Model | Iterable[str | Settings | Model] = (),
    settings: Mapping[str, Any] = {},
    data: str | None = None,
    split: str | None = None,
    limit: int | None = None,
) -> tuple[ExperimentRow, ...]:
    """Return the rows of a plan for each of its models, one model after the other, in the plan's order.

    Args:
        plan: The plan.
        models: Models in place of the plan's: names, or tables as in a plan. A name that the plan has keeps its table.
        settings: Settings of the command line. They take precedence over the plan's, except those of rows.
        data: Source of dialogues, in place of the plan's.
        split: Of the data, in place of the plan's.
        limit: Only the first N dialogues, in place of the plan's.

    Raises:
        PlanError: Two rows have one name, a row's settings do not fit together, or a step names a row that does not
            exist; names row and key.
        LocalempError: A setting of the command line is invalid, or a model or a prompt file does not exist.
    """
    told = _checked(settings)
    variants = _variants(plan, told)
    asked = _models(plan, models)
    if len(variants) * len(asked) > MOST_ROWS:
        raise PlanError(
            f"{plan.source}: {len(variants):,} rows for {len(asked):,} models are more than {MOST_ROWS:,}",
            "split the plan, or name fewer models",
        )
    _check_names(plan, variants)
    _check_use(plan, variants, told)
    base = {"data": data or plan.data} if data or plan.data else {}
    rows = []
    for label, model in asked.items():
        for variant in variants:
            sources = (plan.defaults, {"model": model.model}, model.settings, told, base)
            name = f"{label} {variant.name}" if len(asked) > 1 else variant.name
            config = _config(plan, variant, sources)
            rows.append(
                ExperimentRow(name, variant.name, label, config, split or plan.split or "test", limit or plan.limit)
            )
    _check_files(plan, rows)
    return tuple(rows)


def _checked(settings: Settings) -> dict[str, Any]:
    """The settings of the command line, each of its type."""
    told = {**settings, **settings.get("options", {})}
    told.pop("options", None)
    for name, instead in (("model", "models=..."), ("data", "data=...")):
        if name in told:
            raise OptionError(f"{name!r} is not a setting of an experiment", f"give {instead}")
    RunConfig(**told)
    types = setting_types()
    return {name: check_value(name, value, types[name], "the options given") for name, value in told.items()}


def _models(plan: Plan, models: str | Settings | Model | Iterable[str | Settings | Model]) -> dict[str, Model]:
    """The models by their names in tables."""
    known = {_label(model): model for model in plan.models} | {model.model: model for model in plan.models}
    given = [models] if isinstance(models, str | Mapping | Model) else list(models)
    asked = list(plan.models)
    if given:
        tables = [each for each in given if not (isinstance(each, str) and each in known)]
        made = iter(Plan(models=tables, rows=plan.rows).models)
        asked = [known[each] if isinstance(each, str) and each in known else next(made) for each in given]
    labelled: dict[str, Model] = {}
    for model in asked or [Model(model=RunConfig().model)]:
        if (label := _label(model)) in labelled:
            raise PlanError(
                f"{plan.source}: models: two are called {label!r}",
                'name each once, or give one a name: { model = "...", name = "..." }',
            )
        labelled[label] = model
    return labelled


def _label(model: Model) -> str:
    """The name of a model in tables; of a path or a Hugging Face id, its last part."""
    return model.name or Path(model.model).name.removesuffix(".toml") or model.model


def _variants(plan: Plan, told: Settings) -> list[_Variant]:
    """The rows of all grids."""
    size = sum(math.prod(map(len, row.grid.values())) for row in plan.rows)
    if size > MOST_ROWS:
        raise PlanError(
            f"{plan.source}: its grids make {size:,} rows, and {MOST_ROWS:,} are the most", "split the plan"
        )
    elsewhere = {**plan.defaults, **told}.get("strategy", RunConfig().strategy)
    return [variant for number, row in enumerate(plan.rows, 1) for variant in _grid(plan, row, number, elsewhere)]


def _grid(plan: Plan, row: Row, number: int, elsewhere: str) -> list[_Variant]:
    """The rows of one grid. Combinations that come to the same settings are one row."""
    where, types = f"{plan.source}: {where_of(row, number)}", setting_types()
    grid = {name: [check_value(name, each, types[name], where) for each in row.grid[name]] for name in row.grid}
    varied = [name for name, values in grid.items() if len(values) > 1]
    # What one strategy of a grid does not have is left out for it.
    lenient = {"strategy", SHOTS.name} & set(varied)
    found: list[_Variant] = []
    used = set(grid) - set(foreign_options(""))
    for values in itertools.product(*grid.values()):
        own = dict(zip(grid, values, strict=True))
        strategy = _without_exemplars(own.get("strategy", elsewhere), own.get(SHOTS.name))
        foreign = foreign_options(strategy)
        if strategy != own.get("strategy", elsewhere) or own.get(SHOTS.name) == 0:
            own["strategy"] = strategy
            own.pop(SHOTS.name, None)
            used.add(SHOTS.name)
        kept = {name: value for name, value in own.items() if name not in foreign}
        if not lenient and len(kept) < len(own):
            name = next(name for name in own if name in foreign)
            raise PlanError(f"{where}, {name}: {_not_of(name, strategy)}", "leave it out, or choose another strategy")
        used |= kept.keys()
        if all(kept != other.own for other in found):
            found.append(_Variant(where, _named(row, kept, strategy, varied, where), strategy, kept))
    if unused := [name for name in grid if name not in used]:
        raise PlanError(f"{where}, {unused[0]}: no strategy of the row has it", "leave it out, or add a strategy")
    return found


def _without_exemplars(strategy: str, shots: int | None) -> str:
    """A strategy with 0 exemplars is the one without the part that shows them."""
    if shots != 0:
        return strategy
    return "+".join(part for part in strategy.split("+") if part not in parts_with(SHOTS)) or "zero-shot"


def _not_of(name: str, strategy: str) -> str:
    parts = parts_with(foreign_options(strategy)[name])
    return f"it applies to {' and '.join(parts)}, but the strategy is {strategy}"


def _named(row: Row, own: Settings, strategy: str, varied: Sequence[str], where: str) -> str:
    """The name of a row: the plan's, with its placeholders filled in, or one made of the settings."""
    shown = {name: _shown(own.get(name, 0 if name == SHOTS.name else None)) for name in row.grid}
    shown["strategy"] = strategy
    name = row.name
    if not name or (varied and "{" not in name):
        told = [f"{key}={shown[key]}" for key in own if key != "strategy" and (not name or key in varied)]
        parts = [name.replace("{{", "{").replace("}}", "}")] if name else []
        parts += [strategy] if not name or "strategy" in varied else []
        name = ", ".join(parts + told)
    else:
        try:
            name = name.format_map(shown)
        except KeyError as error:
            raise PlanError(
                f"{where}, name: the row does not set {error.args[0]!r}", f"it has: {', '.join(shown)}"
            ) from error
    try:
        return valid_name(name)
    except ValueError as error:
        raise PlanError(f"{where}, name: {error}: {name[:60]!r}", "give it a shorter or plainer name") from error


def _shown(value: Any) -> str:
    """A value in a name."""
    if isinstance(value, tuple):
        return "+".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str | Path):
        return Path(value).name.removesuffix(".toml")
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _check_names(plan: Plan, variants: Sequence[_Variant]) -> None:
    """Check that no name is there twice, and that the steps name rows that exist."""
    names = [variant.name for variant in variants]
    for name, times in Counter(names).items():
        if times > 1:
            places = [variant.where for variant in variants if variant.name == name]
            raise PlanError(
                f"{places[-1]}: {times} rows are called {name!r}",
                "give each its own name, such as a grid's {strategy}, {shots} shots",
            )
    after = plan.after
    steps = [("compare", after.compare.base)] if after.compare else []
    steps += [("study.rows", name) for name in after.study.rows] if after.study else []
    for step, name in steps:
        if name not in names:
            raise PlanError(f"{plan.source}: after.{step}: no row is called {name!r}", did_you_mean(name, names))


def _check_use(plan: Plan, variants: Sequence[_Variant], told: Settings) -> None:
    """Check that no setting that is given for all rows is without effect on all of them."""
    for name in told:
        if name != "strategy" and not any(variant.takes(name) for variant in variants):
            raise OptionError(
                f"--{name.replace('_', '-')} changes no row of {plan.source}",
                "every row sets it itself, or has a strategy without it; leave it out, or change the plan",
            )
    for name in plan.defaults:
        if all(name in foreign_options(variant.strategy) for variant in variants):
            raise PlanError(f"{plan.source}: defaults, {name}: no row's strategy has it", "leave it out")


def _config(plan: Plan, variant: _Variant, sources: Sequence[Settings]) -> RunConfig:
    foreign, types = foreign_options(variant.strategy), setting_types()
    merged: dict[str, Any] = {}
    for source in sources:
        engine_args = {**merged.get("engine_args", {}), **source.get("engine_args", {})}
        merged |= {name: value for name, value in source.items() if name not in foreign}
        merged |= {"engine_args": engine_args} if engine_args else {}
    merged |= {**variant.own, "strategy": variant.strategy}
    try:
        values = {name: check_value(name, value, types[name], variant.where) for name, value in merged.items()}
        return RunConfig(**values)
    except PlanError:
        raise
    except LocalempError as error:
        raise PlanError(f"{variant.where}: {error.message}", error.hint) from error


def _check_files(plan: Plan, rows: Sequence[ExperimentRow]) -> None:
    """Check that models and prompt files exist, each once."""
    for variant in {row.config.variant for row in rows}:
        load_template(variant)
    for row in {row.model: row for row in rows}.values():
        try:
            assert Pipeline(row.config).profile
        except LocalempError as error:
            raise PlanError(f"{plan.source}: models ({row.model}): {error.message}", error.hint) from error

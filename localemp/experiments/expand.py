"""From a plan to rows: the products of its grids, their names, and the settings of each row for each model.

A setting comes from the row, else from the command line, the model's table, the plan's defaults, or `RunConfig`.
"""

import itertools
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from localemp.data.subset import Subset
from localemp.errors import LocalempError, OptionError, PlanError
from localemp.experiments.names import placeholders, valid_name, value_in_name
from localemp.experiments.plan import MOST_ROWS, Plan, Row, where_of
from localemp.experiments.rows import ExperimentRow
from localemp.experiments.settings import check_value, foreign_options, setting_types
from localemp.experiments.steps import Model, check_rows_and_files
from localemp.models.adapters import adapter_name
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.prompting.template import load_template
from localemp.strategies.registry import canonical_name, parse_strategy, parts_with
from localemp.strategies.shots import SHOTS
from localemp.utils.text import one_line

Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Variant:
    """One row of a grid: its own settings, and its strategy, which may come from the defaults or the command line."""

    where: str
    name: str
    strategy: str
    own: dict[str, Any] = field(default_factory=dict)

    def takes(self, setting: str) -> bool:
        """Whether a setting of all rows has an effect here."""
        return setting not in self.own and setting not in foreign_options(self.strategy)


def expand(
    plan: Plan,
    models: str | Settings | Model | Iterable[str | Settings | Model] = (),
    settings: Mapping[str, Any] = {},
    data: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    sample: int | None = None,
) -> tuple[ExperimentRow, ...]:
    """Return the rows of a plan for each of its models, one model after the other, in the plan's order.

    Args:
        plan: The plan.
        models: Models in place of the plan's: names, or tables as in a plan. A name that the plan has keeps its table.
        settings: Settings of the command line. They take precedence over the plan's, except those of rows.
        data: Source of dialogues, in place of the plan's.
        split: Of the data, in place of the plan's.
        limit: Only the first N dialogues, in place of the plan's limit or sample.
        sample: Only N dialogues at random, in place of the plan's limit or sample. The seed is that of the command
            line, else that of the plan's defaults: rows that have other seeds answer the same dialogues.

    Raises:
        PlanError: Two rows have one name, a row's settings do not fit together, or a step names a row or a file that
            does not exist; names row and key.
        LocalempError: A setting of the command line is invalid, or a model or a prompt file does not exist.
    """
    overrides = _checked(settings)
    variants = _variants(plan, overrides)
    given = [models] if isinstance(models, str | Mapping | Model) else list(models)
    chosen = _models(plan, given)
    if len(variants) * len(chosen) > MOST_ROWS:
        raise PlanError(
            f"{plan.source}: {len(variants):,} rows for {len(chosen):,} models are more than {MOST_ROWS:,}",
            "split the plan, or name fewer models",
        )
    _check_names(plan, variants)
    _check_use(plan, variants, overrides)
    dialogues = {"data": data or plan.data} if data or plan.data else {}
    taken = (plan.limit, plan.sample) if limit is None and sample is None else (limit, sample)
    subset = Subset(*taken, seed=overrides.get("seed", plan.defaults.get("seed", 0)))
    rows = [
        ExperimentRow(
            f"{label} {variant.name}" if len(chosen) > 1 else variant.name,
            variant.name,
            label,
            _config(variant, (plan.defaults, dialogues, {"model": model.model}, model.settings, overrides)),
            split or plan.split or "test",
            subset,
        )
        for label, model in chosen.items()
        for variant in variants
    ]
    _check_files(plan, rows, overrides, bool(given))
    rows = _without_useless_engine_args(rows, chosen)
    try:
        check_rows_and_files(plan.after, [variant.name for variant in variants])
    except PlanError as error:
        raise PlanError(f"{plan.source}: {error.message}", error.hint) from error
    return tuple(rows)


def _checked(settings: Settings) -> dict[str, Any]:
    """Return the settings of the command line, each of its type."""
    overrides = {**settings, **settings.get("options", {})}
    overrides.pop("options", None)
    for name, instead in (("model", "models=..."), ("data", "data=...")):
        if name in overrides:
            raise OptionError(f"{name!r} is not a setting of all rows", f"give {instead}")
    RunConfig(**overrides)
    types = setting_types()
    return {name: check_value(name, value, types[name], "settings") for name, value in overrides.items()}


def _models(plan: Plan, given: Sequence[str | Settings | Model]) -> dict[str, Model]:
    """Return the models by their names in tables."""
    known = {model.model: model for model in reversed(plan.models)} | {_label(model): model for model in plan.models}
    chosen = [known[each] if isinstance(each, str) and each in known else _checked_model(each) for each in given]
    labelled: dict[str, Model] = {}
    for model in chosen or plan.models or [Model(model=RunConfig().model)]:
        if (label := _label(model)) in labelled:
            where = "--model" if given else f"{plan.source}: models"
            raise PlanError(
                f"{where}: two models are called {label!r}",
                'name each once; a table in a plan may have another name: { model = "...", name = "..." }',
            )
        labelled[label] = model
    return labelled


def _checked_model(model: str | Settings | Model) -> Model:
    """Return a model that is given, checked as one of a plan is."""
    return Plan(models=[model], rows=[{}]).models[0]


def _label(model: Model) -> str:
    """Return a model's name in tables; of a path or a Hugging Face id, its last part."""
    return model.name or Path(model.model).name.removesuffix(".toml") or model.model


def _variants(plan: Plan, overrides: Settings) -> list[_Variant]:
    """Return the rows of all grids."""
    size = sum(math.prod(map(len, row.grid.values())) for row in plan.rows)
    if size > MOST_ROWS:
        raise PlanError(
            f"{plan.source}: its grids make {size:,} rows, which are more than {MOST_ROWS:,}", "split the plan"
        )
    shared_strategy = {**plan.defaults, **overrides}.get("strategy", RunConfig().strategy)
    return [variant for number, row in enumerate(plan.rows, 1) for variant in _grid(plan, row, number, shared_strategy)]


def _grid(plan: Plan, row: Row, number: int, shared_strategy: str) -> list[_Variant]:
    """Return the rows of one grid. Combinations that come to the same settings are one row.

    What a strategy of the grid does not have is left out for this strategy. A strategy with 0 exemplars is the one
    without exemplars.
    """
    where, types = f"{plan.source}: {where_of(row, number)}", setting_types()
    if unset := placeholders(row.name or "", types, where) - {"strategy", *row.grid}:
        raise PlanError(f"{where}, name: the row does not set {min(unset)!r}", f"it sets {', '.join(row.grid)}")
    grid = {name: [check_value(name, each, types[name], where) for each in row.grid[name]] for name in row.grid}
    varied = {name for name, values in grid.items() if len(values) > 1}
    found: list[_Variant] = []
    for values in itertools.product(*grid.values()):
        own = dict(zip(grid, values, strict=True))
        strategy = "+".join(parse_strategy(own.get("strategy", shared_strategy), allow="files"))
        shots = own.get(SHOTS.name)
        if shots is not None and shots < 0:
            raise PlanError(f"{where}, shots: {shots} is not a number of exemplars", "give 0 or more")
        if shots == 0:
            strategy = _without_exemplars(strategy)
            del own[SHOTS.name]
        if "strategy" in own or shots == 0:
            own["strategy"] = strategy
        foreign = foreign_options(strategy)
        kept = {name: value for name, value in own.items() if name not in foreign}
        if len(kept) < len(own) and not varied & {"strategy", SHOTS.name}:
            name = next(name for name in own if name in foreign)
            parts = " and ".join(parts_with(foreign[name]))
            raise PlanError(
                f"{where}, {name}: it applies to {parts}, but the strategy is {strategy}",
                "leave it out, or choose another strategy",
            )
        if all(kept != other.own for other in found):
            found.append(_Variant(where, _named(row, kept, strategy, varied, where), strategy, kept))
    for name, shown in grid.items():
        without = name == SHOTS.name and set(shown) == {0}
        if not without and not any(name in variant.own for variant in found):
            raise PlanError(f"{where}, {name}: no strategy of this row has it", "leave it out, or add a strategy")
    return found


def _without_exemplars(strategy: str) -> str:
    return "+".join(part for part in strategy.split("+") if part not in parts_with(SHOTS)) or "zero-shot"


def _named(row: Row, own: Settings, strategy: str, varied: Collection[str], where: str) -> str:
    """Return a row's name: the plan's with its placeholders filled in, or one made of the settings."""
    shown = {name: value_in_name(own.get(name, 0 if name == SHOTS.name else None)) for name in row.grid}
    if "adapter" in own:
        shown["adapter"] = adapter_name(own["adapter"])
    shown["strategy"] = strategy = canonical_name(strategy)
    if row.name and (not varied or placeholders(row.name, shown, where)):
        name = row.name.format_map(shown)
    else:
        parts = [row.name.format_map({})] if row.name else []
        parts += [strategy] if not row.name or "strategy" in varied else []
        parts += [f"{key}={shown[key]}" for key in own if key != "strategy" and (not row.name or key in varied)]
        name = ", ".join(parts)
    try:
        return valid_name(name)
    except ValueError as error:
        raise PlanError(f"{where}, name: {error} ({one_line(name, 60)})", "give the row another name") from error


def _check_names(plan: Plan, variants: Sequence[_Variant]) -> None:
    """Check that no two rows have one name."""
    for name, times in Counter(variant.name for variant in variants).items():
        if times > 1:
            places = dict.fromkeys(variant.where for variant in variants if variant.name == name)
            raise PlanError(
                f"{list(places)[-1]}, name: {times} rows are called {name!r}",
                "give each its own name; a grid's has placeholders, such as {strategy}, {shots}-shot",
            )


def _check_use(plan: Plan, variants: Sequence[_Variant], overrides: Settings) -> None:
    """Check that no setting given for all rows is without effect on every one of them."""
    for name in overrides:
        if not any(variant.takes(name) for variant in variants):
            raise OptionError(
                f"--{name.replace('_', '-')} changes no row of {plan.source}",
                "every row sets it itself or has a strategy without it; leave it out, or change the plan",
            )
    for name in plan.defaults:
        if all(name in foreign_options(variant.strategy) for variant in variants):
            raise PlanError(f"{plan.source}: defaults, {name}: no row's strategy has it", "leave it out")


def _check_files(plan: Plan, rows: Sequence[ExperimentRow], overrides: Settings, given: bool) -> None:
    """Check that models and prompt files exist, each once; `given` says that the models are not the plan's."""
    for row in {row.model: row for row in rows}.values():
        try:
            assert Pipeline(row.config).profile
        except LocalempError as error:
            if given:
                raise
            raise PlanError(f"{plan.source}: models ({row.model}): {error.message}", error.hint) from error
    for row in {row.config.variant: row for row in reversed(rows)}.values():
        try:
            load_template(row.config.variant)
        except LocalempError as error:
            if "variant" in overrides:
                raise
            raise PlanError(f"{plan.source}: row {row.row!r}, variant: {error.message}", error.hint) from error


def _without_useless_engine_args(rows: Sequence[ExperimentRow], models: Mapping[str, Model]) -> list[ExperimentRow]:
    """Leave what is set for all engines out where a model is on a server, if there are models that run here."""
    here = {row.model: Pipeline(row.config).runs_here for row in {row.model: row for row in rows}.values()}
    if not any(here.values()):
        return list(rows)  # it has no effect at all, which is told later
    own = {label: model.settings.get("engine_args", {}) for label, model in models.items()}
    return [
        row if here[row.model] else replace(row, config=replace(row.config, engine_args=own[row.model])) for row in rows
    ]


def _config(variant: _Variant, sources: Sequence[Settings]) -> RunConfig:
    """Return the configuration of a row; later sources take precedence, and the row's own settings over all."""
    foreign, types = foreign_options(variant.strategy), setting_types()
    merged: dict[str, Any] = {}
    engine_args: dict[str, Any] = {}
    for source in sources:
        engine_args |= source.get("engine_args", {})
        merged |= {name: value for name, value in source.items() if name not in foreign}
    merged |= {"engine_args": engine_args, **variant.own, "strategy": variant.strategy}
    try:
        return RunConfig(
            **{name: check_value(name, value, types[name], variant.where) for name, value in merged.items()}
        )
    except PlanError:
        raise
    except LocalempError as error:
        raise PlanError(f"{variant.where}: {error.message}", error.hint) from error

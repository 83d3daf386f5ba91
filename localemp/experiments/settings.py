"""The options of `generate` that a plan may set, and the checks of their names and values."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from localemp.engines.registry import argument_that_names_code
from localemp.errors import LocalempError, PlanError, suggestion
from localemp.pipeline.config import RunConfig, RunSettings
from localemp.strategies.registry import parse_strategy, part_options, strategy_options
from localemp.utils.option import Option
from localemp.utils.redaction import redact_settings
from localemp.utils.text import for_terminal, one_line

_LONGEST = 4096  # characters of a value
_LARGEST = 2**63 - 1  # engines and servers take no larger number


def setting_types() -> dict[str, Any]:
    """Return the type of every setting, `RunConfig`'s own first, then those of the strategies' parts."""
    hints = get_type_hints(RunSettings)
    own = {each.name: hints[each.name] for each in fields(RunConfig) if each.name != "options"}
    return own | {option.name: option.type for option in part_options()}


def takes_several(kind: Any) -> bool:
    """Return whether a setting of this type has several values, such as `given`."""
    return _plain(kind) is tuple


def is_path(kind: Any) -> bool:
    """Return whether a setting of this type is a file."""
    return _plain(kind) is Path


def foreign_options(strategy: str) -> dict[str, Option]:
    """Return the options that only other parts than this strategy's have, by name.

    Raises:
        UnknownNameError: A part does not exist.
        OptionError: Parts exclude each other.
    """
    own = strategy_options(strategy)
    return {option.name: option for option in part_options() if option not in own}


def values_of(value: Any, kind: Any) -> tuple[Any, ...]:
    """Return the values of a setting in a row: the entries of a list, which is a grid.

    A setting that has several values has a list already; for these, a grid is a list of lists.
    """
    is_list = isinstance(value, list | tuple)
    is_grid = is_list and (not takes_several(kind) or any(isinstance(each, list | tuple) for each in value))
    return tuple(value) if is_grid else (value,)


def check_settings(
    settings: Mapping[str, Any],
    known: Mapping[str, Any],
    where: str,
    misplaced: Mapping[str, str] = {},
    *,
    grids: bool = False,
) -> None:
    """Check the settings of one table, each by itself.

    Args:
        settings: By name.
        known: The type of each setting that exists.
        where: The table's place, for errors.
        misplaced: Settings that this table cannot have, and where they belong.
        grids: Whether a list of values is a grid.

    Raises:
        PlanError: A key is unknown or does not belong here, a value is invalid, or it holds a secret or names code.
    """
    for name, value in settings.items():
        if name in misplaced:
            raise PlanError(f"{where}: {name} does not belong here", misplaced[name])
        check_key(name, [key for key in known if key not in misplaced], where)
        values = values_of(value, known[name]) if grids else (value,)
        if not values:
            raise PlanError(f"{where}, {name}: the list is empty", "give at least one value, or leave it out")
        for each in values:
            checked = check_value(name, each, known[name], where)
            try:
                RunConfig(**{name: checked})
                if name == "strategy":
                    parse_strategy(checked, allow="files")
            except LocalempError as error:
                raise PlanError(f"{where}, {name}: {error.message}", error.hint, error.others) from error
    _check_no_secret(settings, where)
    _check_no_code(settings.get("engine_args", {}), where)


def check_key(key: str, known: Iterable[str], where: str) -> None:
    """Check that a key exists.

    Raises:
        PlanError: It does not; names the nearest one that does.
    """
    known = list(known)
    if key not in known:
        raise PlanError(f"{where}: unknown key {key[:60]!r}", did_you_mean(key, known))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the hint for an unknown name, on one line."""
    return one_line(suggestion(name, known, "docs/experiments.md"), 1000)


def check_value(name: str, value: Any, kind: Any, where: str) -> Any:
    """Check the type of one value, strictly ("5" is no number), and return it as `RunConfig` takes it.

    Raises:
        PlanError: The type is wrong, or a text or number is not usable.
    """
    if isinstance(value, str) and takes_several(kind):
        example = json.dumps(value[:30], ensure_ascii=False)
        raise PlanError(f"{where}, {name}: it has several values", f"give a list, such as {name} = [{example}]")
    try:
        for inner in _scalars(value):
            _check_scalar(inner)
        # As JSON, since that has lists and texts for tuples and paths, and is strict in everything else.
        return TypeAdapter(kind).validate_json(json.dumps(value, default=_as_text), strict=True)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        hint = "only rows have lists of values" if isinstance(value, list | tuple) and not takes_several(kind) else ""
        raise PlanError(one_line(f"{where}, {name}: {problem}", 400), hint) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise PlanError(one_line(f"{where}, {name}: {error}", 400)) from error


def check_text(text: str, longest: int = _LONGEST) -> str:
    """Return a text that names something.

    Raises:
        ValueError: It is empty, too long, or has control characters.
    """
    if not text.strip():
        raise ValueError("it is empty")
    if len(text) > longest:
        raise ValueError(f"it has more than {longest:,} characters")
    if for_terminal(text) != text or "\n" in text or "\t" in text:
        raise ValueError("it has a control character")
    return text


def _check_no_secret(settings: Mapping[str, Any], where: str) -> None:
    """Check that settings hold no key or password: plans are shared and published."""
    for name, value in settings.items():
        plain = {name: json.loads(json.dumps(value, default=_as_text))}
        if redact_settings(plain) != plain:
            raise PlanError(
                f"{where}, {name}: it holds a secret, which does not belong in a plan",
                "remove it; keys are read from the environment (OPENAI_API_KEY, HF_TOKEN, ...)",
            )


def _check_no_code(arguments: Mapping[str, Any], where: str) -> None:
    """Check that engine arguments name no code that would run."""
    if name := argument_that_names_code(arguments):
        raise PlanError(
            f"{where}, engine_args: {name[:60]} can run code, which a plan may not ask for",
            "set it on the command line if you trust that code: --engine-arg NAME=VALUE",
        )


def _plain(kind: Any) -> Any:
    """Return a type without None, and without what is in a tuple."""
    if get_origin(kind) in (Union, UnionType):
        kind = next(each for each in get_args(kind) if each is not NoneType)
    return get_origin(kind) or kind


def _scalars(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield key
            yield from _scalars(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _scalars(inner)
    else:
        yield value


def _check_scalar(value: Any) -> None:
    if isinstance(value, str | Path):
        check_text(str(value))
    elif isinstance(value, int) and not -_LARGEST <= value <= _LARGEST:
        raise ValueError("the number is too large")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("it is not a finite number")


def _as_text(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a value of the type {type(value).__name__} is not possible here")

"""Options that commands share (model, strategy, data), and the `RunConfig` built from them."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from localemp.cli.command import was_typed
from localemp.cli.completion import complete_models, complete_strategies
from localemp.cli.defaults import KEYS, DefaultableOption
from localemp.cli.types import NAME, SERVER, FilePath

if TYPE_CHECKING:
    from localemp.data.conversations import Instances
    from localemp.data.reader import Source
    from localemp.dialogue import Dialogue
    from localemp.pipeline.config import RunConfig

F = TypeVar("F", bound=Callable[..., Any])

_THERE = FilePath(exists=True, dir_okay=False)
_defaultable = partial(click.option, cls=DefaultableOption)

_NAME = _defaultable(
    "--model", "-m", type=NAME, default="smollm2", show_default=True, shell_complete=complete_models,
    help="A name (`localemp models list`), a Hugging Face id, a folder of weights or a profile (.toml).",
)  # fmt: skip


def _one_adapter(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> str | None:
    """Return the adapter that was typed; a run has at most one."""
    if len(values) > 1:
        several = "`localemp experiment` compares several: adapter = [...] in a row of its plan"
        raise click.BadParameter(f"a run has one adapter. {several}; `localemp serve` serves several", ctx, option)
    return values[0] if values else None


_ADAPTER = click.option(
    "--adapter", type=NAME, multiple=True, callback=_one_adapter, metavar="[NAME=]PATH|ID",
    help="A LoRA adapter for the model (PEFT): a folder, or a Hugging Face id.",
)  # fmt: skip

_SAMPLING = (
    _defaultable(
        "--max-tokens", type=click.IntRange(min=1), help="Longest reply, in tokens; by default the profile's."
    ),
    _defaultable(
        "--temperature",
        type=click.FloatRange(min=0, max=2),
        help="Sampling temperature; by default 0, as in the paper.",
    ),
    click.option(
        "--thinking",
        type=click.Choice(["on", "off"]),
        help="Whether the model thinks before it replies, if it can do both; by default as its profile says.",
    ),
    click.option(
        "--thinking-budget",
        type=click.IntRange(min=1),
        metavar="N",
        help="Longest thinking before a reply, in tokens besides --max-tokens; by default the profile's.",
    ),
    _defaultable("--top-p", type=click.FloatRange(min=0, max=1, min_open=True), help="Nucleus sampling."),
    _defaultable(
        "--sampling",
        multiple=True,
        metavar="NAME=VALUE",
        help="Any sampling parameter, such as repetition_penalty=1.1 or top_k=40; may be repeated. "
        "docs/profiles.md lists them.",
    ),
    _defaultable("--seed", default=0, show_default=True, help="Seed of few-shot exemplars and of sampling."),
)

_SERVER = _defaultable(
    "--server", type=SERVER, default="auto", show_default=True, metavar="auto|none|URL",
    help="Ask a `localemp serve` that runs: auto for one on this machine that would give the same reply, none to load "
    "the model, or its URL.",
)  # fmt: skip

_DETERMINISTIC = click.option(
    "--deterministic", is_flag=True,
    help="Make replies independent of batches: by batch-invariant kernels, or one request at a time. Slow.",
)  # fmt: skip


def _set_verify(ctx: click.Context, option: click.Parameter, value: bool) -> None:
    """Let this command, and the processes that it starts, believe no stamp of a file of weights."""
    if not value:
        return
    from localemp.models.stamps import VERIFY_VARIABLE

    before = os.environ.get(VERIFY_VARIABLE, "")
    os.environ[VERIFY_VARIABLE] = "1"
    ctx.call_on_close(lambda: os.environ.update({VERIFY_VARIABLE: before}))


verify_option = click.option(
    "--verify", is_flag=True, expose_value=False, callback=_set_verify,
    help="Hash all files of weights again, also those that have not changed since they were hashed.",
)  # fmt: skip

_ENGINE = (
    _ADAPTER,
    verify_option,
    _defaultable("--engine-arg", "engine_args", multiple=True, metavar="NAME=VALUE",
                 help="Engine argument for vLLM, such as tensor_parallel_size=2; may be repeated."),
    _defaultable(
        "--concurrency", type=click.IntRange(min=1),
        help="Dialogues in flight at once; by default what the engine can take, or a service's rate limits allow.",
    ),
)  # fmt: skip

_HOSTED = (
    click.option("--service-tier", type=click.Choice(["auto", "default", "flex", "priority"]),
                 help="Tier of a hosted model's service: flex costs less and is slower, priority the other way round."),
    click.option("--reasoning-effort", metavar="LEVEL",
                 help="How much a hosted model reasons, if it takes that: none, minimal, low, medium, high, ..."),
    click.option("--verbosity", metavar="LEVEL",
                 help="How much a hosted model writes, if it takes that: low, medium or high."),
)  # fmt: skip

_BATCH = click.option(
    "--batch", is_flag=True,
    help="Ask a hosted model through its service's Batch API: half the price, and answers within a day.",
)  # fmt: skip

_ENGINES = (
    _defaultable(
        "--base-url",
        help="Use an OpenAI-compatible server instead. Its key is read from the service's own variable, else from "
        "OPENAI_API_KEY.",
    ),
    *_ENGINE,
    _DETERMINISTIC,
    *_SAMPLING,
    *_HOSTED,
    click.option("--script", type=_THERE, hidden=True, help="Answer from a file: for tests and dry runs."),
)

_PROMPTS = (
    _defaultable("--variant", type=NAME, default="paper", show_default=True,
                 help="Prompt template: paper, released (the authors' scripts) or your own .toml file."),
    click.option("--layout", type=click.Choice(["chat", "transcript"]),
                 help="Prompt layout; by default the profile's."),
)  # fmt: skip

_THINKING = click.option(
    "--keep-thinking", is_flag=True, help="Begin replies with the model's thinking; by default it is stored separately."
)

_TRIM = click.option(
    "--trim-to-sentence", is_flag=True,
    help="Cut a reply that --max-tokens ended at its last whole sentence; a run keeps the whole of it, too.",
)  # fmt: skip

_STRATEGY = (
    _defaultable("--strategy", "-s", default="zero-shot", show_default=True, shell_complete=complete_strategies,
                 help="A strategy of the list below, a flow of your own (./mine.toml) or code (./mine.py:Mine, "
                      "mine:Mine); several are joined by + (similar+two-stage)."),
    *_PROMPTS,
    _THINKING,
    _TRIM,
)  # fmt: skip


def _columns(ctx: click.Context, option: click.Parameter, value: str | None) -> dict[str, str]:
    from localemp.data.columns import parse_columns

    return {} if value is None else parse_columns(value)


_COLUMNS = click.option(
    "--columns", callback=_columns, metavar="NAME=COLUMN,...",
    help="What the columns of a table of your own are: context=history,response=reply (docs/data.md).",
)  # fmt: skip

_DATA = (
    _defaultable("--data", "-d", type=NAME, default="samples", show_default=True,
                 help="samples, bundled, empathetic-dialogues (after `localemp data pull`), or a file or folder."),
    _COLUMNS,
    _defaultable("--split", default="test", show_default=True, help="train, valid or test, of a folder."),
    _defaultable("--instances", type=click.Choice(["clean", "published"]), default="clean", show_default=True,
                 help="EmpatheticDialogues: every listener turn, or exactly the instances that the paper used."),
)  # fmt: skip

_SUBSET = (
    click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Take only the first N dialogues."),
    click.option("--sample", type=click.IntRange(min=1), metavar="N",
                 help="Take only N dialogues at random, drawn with --seed from as many conversations as there are."),
)  # fmt: skip

_BUDGET = click.option(
    "--budget", type=float, metavar="DOLLARS",
    help="Most that it may cost in all, earlier sessions included: what does not fit any more is not asked.",
)  # fmt: skip

_CLUSTER = (
    click.option("--ray", "address", metavar="ADDRESS",
                 help="Use a Ray cluster: auto (on this machine), local (a new one), HOST:PORT or ray://HOST:PORT."),
    click.option("--actors", type=click.IntRange(min=1),
                 help="Engines on the cluster; by default as many as fit its GPUs, or one per machine."),
)  # fmt: skip


NEEDS = {"as_json": ("estimate",), "actors": ("address",)}
EXCLUDES = {"show": ("estimate",), "address": ("estimate",)}
"""What `generate` and `experiment` do nothing without, and beside; an estimate is for this machine."""


def _with(options: tuple[Callable[[Any], Any], ...]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


model_options = _with((_NAME, *_ENGINES, _BATCH))
engine_options = _with((*_ENGINES, _BATCH))
talk_options = _with((_NAME, _SERVER, *_ENGINES))  # nobody waits a day for one reply
hosted_options = _with((_BATCH, *_HOSTED))
strategy_options = _with(_STRATEGY)
local_model_options = _with((_NAME, *_ENGINE, *_SAMPLING))
prompt_options = _with(_PROMPTS)
pool_options = _with((_DATA[0], _COLUMNS, _DATA[-1], _PROMPTS[0]))
serve_options = _with((_NAME, verify_option, *_PROMPTS, *_SAMPLING, *_HOSTED, _DETERMINISTIC, _THINKING, _TRIM))
data_options = _with(_DATA)
columns_option = _with((_COLUMNS,))
subset_options = _with(_SUBSET)
row_options = _with((*_ENGINES, _BATCH, *_PROMPTS, _THINKING, _TRIM, *_DATA))
deterministic_option = _with((_DETERMINISTIC,))
adapter_option = _with((_ADAPTER,))
cluster_options = _with(_CLUSTER)
budget_option = _with((_BUDGET,))


def defaultable_options() -> dict[str, DefaultableOption]:
    """Return the options whose defaults a user can set, by key, in the order of `KEYS`."""

    @_with((*_ENGINES, _NAME, _SERVER, *_STRATEGY, *_DATA))
    def carrier() -> None: ...

    options = [each for each in carrier.__click_params__ if isinstance(each, DefaultableOption)]  # type: ignore[attr-defined]
    return {option.key: option for option in sorted(options, key=lambda option: KEYS.index(option.key))}


def config_of(options: dict[str, Any]) -> "RunConfig":
    """Return the config for a command's options; others are ignored.

    Raises:
        OptionError: An option has an invalid value.
    """
    from dataclasses import fields

    from localemp.pipeline.config import RunConfig
    from localemp.strategies.registry import part_options

    known = {*(field.name for field in fields(RunConfig)), *(option.name for option in part_options())}
    chosen = {name: value for name, value in options.items() if name in known}
    chosen["engine_args"] = parse_engine_args(chosen.get("engine_args", ()))
    chosen["sampling"] = parse_sampling(chosen.get("sampling", ()))
    config = RunConfig(**chosen)
    if config.instances != "clean":
        check_instances(config.source)
    return config


def check_instances(source: "Source") -> None:
    """Check that `--instances`, if it was typed, means something for the data.

    Raises:
        DataError: The data is not there.
        OptionError: It is no data with such instances.
    """
    from localemp.data.sources import find_source
    from localemp.errors import OptionError

    if was_typed(click.get_current_context(), "instances") and not find_source(source).has_instances:
        raise OptionError(f"--instances is for EmpatheticDialogues, and {source} is other data", "leave it out")


def dialogues_of(
    data: str, columns: Mapping[str, str], split: str, instances: "Instances", limit: int | None = None
) -> "list[Dialogue]":
    """Return the dialogues that the options of `data_options` name.

    Raises:
        LocalempError: They cannot be read, or there is no such split.
    """
    from localemp.data.columns import source_of
    from localemp.data.sources import check_split, load_dialogues

    source = source_of(data, columns)
    check_split(source, split)
    if instances != "clean":
        check_instances(source)
    return load_dialogues(source, split, instances, limit)


def parse_engine_args(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Parse the engine arguments of the command line; see `parse_pairs`."""
    return parse_pairs("--engine-arg", pairs, "tensor_parallel_size=2")


def parse_sampling(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Parse the sampling parameters of the command line; see `parse_pairs`."""
    return parse_pairs("--sampling", pairs, "top_k=40")


def parse_pairs(option: str, pairs: tuple[str, ...], example: str) -> dict[str, Any]:
    """Parse the values `NAME=VALUE` of an option; they are JSON if valid, else texts.

    Raises:
        OptionError: A value has no "=", or two have one name.
    """
    from localemp.errors import OptionError
    from localemp.utils.json_reader import JSONError, parse_json

    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise OptionError(f"{option} {pair!r} is not NAME=VALUE", f"use the form {example}")
        name = name.replace("-", "_")
        if name in options:
            raise OptionError(f"{option} {name} is given twice", "give it once")
        try:
            options[name] = parse_json(value, storable=True)
        except JSONError:
            options[name] = {"True": True, "False": False}.get(value, value)
    return options

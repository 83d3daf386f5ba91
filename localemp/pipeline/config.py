"""The configuration of a run: all settings in one place, before anything is loaded."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self, TypedDict, Unpack, get_args

from localemp.commonsense.selection import Keep
from localemp.data.columns import check_columns, source_of
from localemp.data.conversations import Instances
from localemp.data.reader import Source
from localemp.errors import OptionError, UnknownNameError
from localemp.models.adapters import split_spec
from localemp.models.sampling import SamplingSettings
from localemp.models.thinking_mode import OnOff
from localemp.prompting.render import Layout
from localemp.strategies.registry import part_options
from localemp.utils.option import check_at_least

ServiceTier = Literal["auto", "default", "flex", "priority"]


class RunSettings(TypedDict, total=False):
    """The settings of `RunConfig` as keyword arguments, including options of the built-in parts."""

    model: str
    adapter: str | None
    strategy: str
    variant: str
    layout: Layout | None
    shots: int
    shot_indices: tuple[int, ...]
    seed: int
    given: tuple[str, ...]
    list_labels: bool | None
    data: str
    columns: Mapping[str, str]
    pool: str | None
    instances: Instances
    knowledge: Path | None
    comet: str | None
    select: Keep | None
    encoder: str
    encoder_dtype: Literal["auto", "bfloat16", "float32"]
    keep_thinking: bool
    trim_to_sentence: bool
    thinking: OnOff | None
    thinking_budget: int | None
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    sampling: Mapping[str, Any]
    base_url: str | None
    concurrency: int | None
    engine_args: Mapping[str, Any]
    deterministic: bool
    batch: bool
    service_tier: ServiceTier | None
    reasoning_effort: str | None
    verbosity: str | None
    script: Path | None
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True, init=False)
class RunConfig:
    """The configuration of a run. The command line's options have the same names.

        RunConfig(model="llama", strategy="similar+two-stage", shots=3)

    Args:
        **settings: The attributes below, and options of strategies' parts (`shots`, `pool`, ...).

    Attributes:
        model: A name, a Hugging Face id, a folder of weights, or a path to a profile.
        adapter: A LoRA adapter for the model: a folder or a Hugging Face id, or one with a name ("mine=PATH"); None or
            "none" for none.
        strategy: Names of parts joined by "+"; also the path of a flow's file, or code: "./mine.py:Mine", "mine:Mine".
        variant: Prompt template: "paper", "released", or a path.
        layout: "chat" or "transcript"; None for the profile's default.
        seed: Seed of the few-shot sample, and of sampling at temperatures above 0.
        data: Source of dialogues, see `localemp.data.sources`; also determines the default pool.
        columns: What the columns of `data` are, if it is a table of the user's: {"context": "history", ...}; see
            `localemp.data.columns.ROLES`.
        instances: How instances are built from EmpatheticDialogues.
        options: Options of the strategies' parts by name; missing ones have their defaults. `localemp.strategies` has a
            file for each part, and the command line's help lists them. `config.shots` works, too.
        keep_thinking: Whether replies begin with the model's thinking, between <think> and </think>.
        trim_to_sentence: Whether replies that the limit of tokens ended are cut at their last whole sentence.
        thinking: "on" or "off" for a model that can do both; None for the profile's default.
        thinking_budget: The most tokens of thinking before a reply, on top of `max_tokens`; None for the profile's.
        max_tokens, temperature, top_p: Sampling parameters of replies; None for the profile's defaults.
        sampling: All of them by name, and further ones, in place of the profile's: `{"top_k": 40}`. docs/profiles.md
            lists them. Those that have a setting of their own, above, are moved to it.
        base_url: An OpenAI-compatible server to use instead of vLLM in this process.
        concurrency: Dialogues in flight at once; None for the engine's default.
        engine_args: vLLM's engine arguments.
        deterministic: Whether replies must not depend on what else the engine computes: by batch-invariant kernels
            where the hardware has them, else one request at a time.
        batch: Whether a hosted model is asked through its service's Batch API, which costs less and takes up to a day.
        service_tier: The tier of the service that requests ask for; None for the service's own choice.
        reasoning_effort, verbosity: How much a hosted model reasons and writes; None for the profile's.
        script: File for the scripted engine, for tests and dry runs.

    Raises:
        UnknownNameError: A setting does not exist; lists the known ones.
        OptionError: A value is invalid.
    """

    model: str = "smollm2"
    adapter: str | None = None
    strategy: str = "zero-shot"
    variant: str = "paper"
    layout: Layout | None = None
    seed: int = 0
    data: str = "samples"
    columns: Mapping[str, str] = field(default_factory=dict)
    instances: Instances = "clean"
    options: Mapping[str, Any] = field(default_factory=dict)
    keep_thinking: bool = False
    trim_to_sentence: bool = False
    thinking: OnOff | None = None
    thinking_budget: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    base_url: str | None = None
    concurrency: int | None = None
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    deterministic: bool = False
    batch: bool = False
    service_tier: ServiceTier | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    script: Path | None = None

    def __init__(self, **settings: Unpack[RunSettings]) -> None:
        told: dict[str, Any] = dict(settings)
        options = {option.name: option for option in part_options()}
        own = {**told.pop("options", {}), **{name: told.pop(name) for name in list(told) if name in options}}
        known = {each.name: each for each in fields(self)}
        if taken := sorted(known.keys() & options.keys()):
            raise OptionError(f"{taken[0]!r} is a setting of every run", "rename the option of the part")
        if strange := [name for name in (*told, *own) if name not in known and name not in options]:
            raise UnknownNameError("setting", strange[0], [*known, *options])
        values = {name: options[name].check(value) for name, value in own.items()}
        told["options"] = {name: option.default for name, option in options.items()} | values
        for name, each in known.items():
            default = each.default_factory() if callable(each.default_factory) else each.default
            object.__setattr__(self, name, told.get(name, default))
        object.__setattr__(self, "columns", check_columns(self.columns))
        if self.columns and self.instances != "clean":
            raise OptionError(f"--instances {self.instances} is of EmpatheticDialogues, and --columns of other data")
        if self.adapter == "none":
            object.__setattr__(self, "adapter", None)
        elif self.adapter is not None:
            split_spec(self.adapter)
        for name, kind in (
            ("layout", Layout),
            ("instances", Instances),
            ("thinking", OnOff),
            ("service_tier", ServiceTier),
        ):
            if (value := getattr(self, name)) is not None and value not in get_args(kind):
                raise UnknownNameError(name, str(value), get_args(kind))
        self._read_sampling()
        for name in ("temperature", "top_p"):
            if not math.isfinite(getattr(self, name) or 0):
                raise OptionError(f"--{name.replace('_', '-')} {getattr(self, name)} is not a valid number")
        check_at_least(0, temperature=self.temperature)
        check_at_least(
            1, max_tokens=self.max_tokens, thinking_budget=self.thinking_budget, concurrency=self.concurrency
        )
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise OptionError(f"--top-p {self.top_p}: not a share", "give more than 0 and at most 1, or omit it")
        for name in ("reasoning_effort", "verbosity"):
            if not re.fullmatch(r"[a-z][a-z_-]{0,31}", getattr(self, name) or "none"):
                option = f"--{name.replace('_', '-')}"
                raise OptionError(
                    f"{option} {getattr(self, name)!r}: not a level",
                    "levels are words in lower case, such as low or high",
                )
        if self.batch and self.service_tier not in (None, "auto", "default"):
            raise OptionError(
                f"--batch is a tier of its own, and --service-tier {self.service_tier} another", "omit one"
            )
        _ = self.chosen_sampling  # checks what the lines above do not
        if self.base_url is not None and not self.base_url.strip():
            raise OptionError("--base-url is empty", "give a URL such as http://localhost:8000/v1, or omit it")

    def _read_sampling(self) -> None:
        """Check the sampling parameters, and move those that are attributes of their own."""
        told = dict(self.sampling)
        SamplingSettings.of(told)
        for name in ("max_tokens", "temperature", "top_p"):
            value = told.pop(name, None)
            if value is not None and getattr(self, name) is not None:
                option = f"--{name.replace('_', '-')}"
                raise OptionError(f"{option} and --sampling {name} are the same parameter", "give only one of them")
            if value is not None:
                object.__setattr__(self, name, value)
        object.__setattr__(self, "sampling", told)

    @property
    def chosen_sampling(self) -> SamplingSettings:
        """The sampling parameters that the user has chosen, those with options of their own among them."""
        own = {name: getattr(self, name) for name in ("max_tokens", "temperature", "top_p")}
        return SamplingSettings.of({**self.sampling, **own})

    def __getattr__(self, name: str) -> Any:
        """Return the value of a part's option: `config.shots` is `config.options["shots"]`."""
        # Copies and unpickled objects are asked for attributes before they have any.
        options = object.__getattribute__(self, "options") if name != "options" else {}
        if name in options:
            return options[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def source(self) -> Source:
        """The source of dialogues, as `load_dialogues` takes it."""
        return source_of(self.data, self.columns)

    @classmethod
    def of(cls, settings: RunSettings, config: Self | None = None) -> Self:
        """Return the given config, or the one with these settings; callers may give either.

        Raises:
            UnknownNameError: A setting does not exist; lists the known ones.
            OptionError: Both are given, or a value is invalid.
        """
        if config is not None:
            if settings:
                raise OptionError(f"both a config and {', '.join(settings)} are given", "give only one of them")
            return config
        return cls(**settings)

    def changed(self) -> dict[str, Any]:
        """Return the settings that differ from the defaults, as `of` takes them."""
        default = RunConfig()
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "options"}
        changed = {name: value for name, value in values.items() if value != getattr(default, name)}
        return changed | {name: value for name, value in self.options.items() if value != default.options.get(name)}

"""Builds the objects of a `RunConfig`: model, strategy, engine.

Heavy modules are imported only when a config needs them.
"""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from localemp.data.sources import check_split, data_hash, load_dialogues
from localemp.dialogue import Dialogue
from localemp.engines.base import Engine
from localemp.engines.budget import Budget, BudgetedEngine
from localemp.engines.openai.target import shown_url
from localemp.engines.planner import Filler, Planner
from localemp.engines.registry import EngineContext, engine_entry
from localemp.errors import OptionError
from localemp.models.adapter_checks import base_note, check_adapter, check_not_merged
from localemp.models.adapters import Adapter, find_adapter
from localemp.models.price import billed_tier
from localemp.models.profiles import Profile, load_profile, served_profile
from localemp.models.sampling import DRAWS
from localemp.models.thinking import Thinking
from localemp.models.thinking_mode import ThinkingMode, thinking_mode
from localemp.models.weights import Weights, resolve
from localemp.pipeline.config import RunConfig
from localemp.prompting.render import Prompts
from localemp.prompting.template import load_template
from localemp.sampling import Sampling
from localemp.strategies.parts import PartContext
from localemp.strategies.registry import (
    build_strategy,
    check_heeded,
    code_hashes,
    find_part,
    parse_strategy,
    part_options,
    strategy_options,
)
from localemp.strategies.strategy import Strategy
from localemp.utils.extras import engine_extra, require
from localemp.utils.option import Shared
from localemp.utils.plugins import plugin_of
from localemp.utils.progress import OnProgress, silent
from localemp.utils.text import one_line

if TYPE_CHECKING:
    from localemp.engines.tokens import PromptTokenizer

T = TypeVar("T")
_log = logging.getLogger(__name__)

# Fields of requests that bound completions.
_LONGEST = ("max_tokens", "max_completion_tokens")
# Settings that are fields of requests to a service.
_OF_REQUESTS = ("service_tier", "reasoning_effort", "verbosity")


class Pipeline:
    """Builds the objects of a config, each once and on first use.

    Args:
        config: The configuration.
        on_progress: Called with bytes of weights fetched or verified, and with training dialogues embedded.
        budget: What its engines may spend, together with those of other pipelines; None for no limit.
    """

    def __init__(
        self,
        config: RunConfig,
        on_progress: OnProgress = silent,
        budget: Budget | None = None,
    ) -> None:
        self.config, self.on_progress, self.budget = config, on_progress, budget or Budget()
        self._shared = Shared()

    def vary(self, strategy: str, variant: str | None = None, **options: Any) -> "Pipeline":
        """Return another pipeline for the same model.

        Both share tokenizer, encoder, index and COMET, and the batches of the last two, so that a server's strategies
        fill them together.

        Args:
            strategy: Name of the strategy. The config's options of other parts are dropped.
            variant: Prompt template; None for the config's.
            **options: Options of its parts; None for the config's value.

        Raises:
            LocalempError: The strategy or an option does not exist.
        """
        heeded = {option.name for option in strategy_options(strategy)}
        told = {name: value for name, value in self.config.options.items() if name in heeded}
        told |= {name: value for name, value in options.items() if value is not None}
        return self.sharing(
            replace(self.config, strategy=strategy, variant=variant or self.config.variant, options=told)
        )

    def sharing(self, config: RunConfig) -> "Pipeline":
        """Return a pipeline of another configuration, possibly of another model, that shares all that both need."""
        other = Pipeline(config, self.on_progress, self.budget)
        other._shared = self._shared
        return other

    def dialogues(self, split: str) -> list[Dialogue]:
        """Return the dialogues of a split, read once for all pipelines that share; do not change the list.

        Raises:
            LocalempError: The data cannot be read.
        """
        source, instances = self.config.source, self.config.instances
        check_split(source, split)
        return self._shared(("dialogues", source, split, instances), lambda: load_dialogues(source, split, instances))

    @cached_property
    def context(self) -> PartContext:
        """The context that the strategy's parts are built from."""
        config = self.config
        return PartContext(
            template=load_template(config.variant),
            options=config.options,
            data=config.source,
            instances=config.instances,
            seed=config.seed,
            on_progress=self.on_progress,
            shared=self._shared,
        )

    def fetch(self, strategies: Sequence[str]) -> None:
        """Fetch what these strategies need without loading a model, so that errors and downloads come first.

        Raises:
            LocalempError: Something cannot be fetched or used.
        """
        for name in dict.fromkeys(name for strategy in strategies for name in parse_strategy(strategy)):
            find_part(name).fetch(self.context)

    @cached_property
    def profile(self) -> Profile:
        """The chat model's profile; with `base_url`, any name is a model."""
        config = self.config
        if config.script is not None:
            switch = Thinking(switch="thinking")
            return Profile(name="scripted", kind="chat", engine="scripted", model="scripted", thinking=switch)
        if config.base_url is None:
            return load_profile(config.model, "chat")
        shown_url(config.base_url)  # an invalid URL is reported before anything is built
        return served_profile(config.model)

    def note_end(self) -> None:
        """Log when the provider shuts the model down, or that it has, if that is announced."""
        if notice := self.profile.notice:
            _log.info("note: %s", notice)

    @property
    def runs_here(self) -> bool:
        """Whether the model runs in this process, so that prompts can be measured beforehand."""
        return not self.profile.hosted

    @cached_property
    def weights(self) -> Weights:
        """The chat model's weights, found or fetched, and verified."""
        require(engine_extra(), f"{self.profile.name} on this machine", "torch", "transformers")
        return self._shared(("weights", "chat", self.config.model), lambda: resolve(self.profile, self.on_progress))

    @cached_property
    def adapter(self) -> Adapter | None:
        """The adapter, found or fetched, and checked against the model; None if there is none.

        Raises:
            LocalempError: There is no such adapter, it does not fit the model, or the engine takes none.
        """
        config = self.config
        if config.adapter is None:
            return None
        self._check_takes_adapter()
        key = ("adapter", config.model, config.script, config.adapter)
        return self._shared(key, lambda: self._find_adapter(str(config.adapter)))

    def _check_takes_adapter(self) -> None:
        """Check that the engine takes adapters, if the config has one."""
        if self.config.adapter is None or engine_entry(self._engine_name).adapters:
            return
        option = f"--adapter {one_line(self.config.adapter, 200)}"
        if self.runs_here:
            raise OptionError(f"{option}: the engine {self._engine_name!r} takes none", "omit it")
        raise OptionError(
            f"{option}: {self.profile.name} runs on a server, which has adapters of its own",
            "omit it, and give the server's name of the adapted model as --model",
        )

    def _find_adapter(self, spec: str) -> Adapter:
        adapter, profile = find_adapter(spec, self.on_progress), self.profile
        if self.runs_here:
            check_adapter(adapter, self.weights.folder)
            check_not_merged(adapter, profile)
            if note := base_note(adapter, profile, self.weights.folder):
                _log.warning("note: %s", note)
        return adapter

    @property
    def model_name(self) -> str:
        """The model's name, with its adapter's: "llama", "llama@mine"."""
        return self.profile.name if self.adapter is None else f"{self.profile.name}@{self.adapter.name}"

    @cached_property
    def thinking(self) -> ThinkingMode:
        """Whether the model thinks before it replies, and how long.

        Raises:
            OptionError: The config asks for what the model cannot do.
        """
        config = self.config
        return thinking_mode(self.profile, config.thinking, config.thinking_budget, config.reasoning_effort)

    @cached_property
    def tokenizer(self) -> "PromptTokenizer":
        """The tokenizer of a model that runs here."""
        from localemp.engines.tokens import PromptTokenizer

        options = self.thinking.template_options
        return self._shared(
            ("tokenizer", self.config.model, self.config.thinking),
            lambda: PromptTokenizer(self.weights.folder, options),
        )

    @property
    def context_length(self) -> int:
        """Length of the model's context, in tokens."""
        if self.profile.context_length:
            return self.profile.context_length
        from localemp.engines.tokens import context_length

        return context_length(self.weights.folder)

    @cached_property
    def prompts(self) -> Prompts:
        """The prompt template in the layout that fits the model."""
        profile, layout, system_role = self.profile, self.config.layout, self.profile.system_role
        layout = layout or profile.layout
        if layout is None:
            layout = "chat" if profile.hosted or self.tokenizer.has_chat_template else "transcript"
        if layout == "chat" and profile.api == "completions":
            raise OptionError(f"{profile.name} completes text and does not support the chat layout", "omit --layout")
        if system_role is None:
            system_role = profile.hosted or self.tokenizer.takes_system_role()
        return Prompts(self.context.template, layout, system_role)

    @property
    def sampling(self) -> Sampling:
        """The model's default sampling parameters, with the config's changes.

        Raises:
            OptionError: They do not fit together.
        """
        config = self.config
        sampling = config.chosen_sampling.over(self.profile.default_sampling)
        if sampling.min_tokens > sampling.max_tokens:
            raise OptionError(
                f"min_tokens {sampling.min_tokens} are more than max_tokens, {sampling.max_tokens}",
                "give a larger --max-tokens, or a smaller min_tokens",
            )
        sampling = replace(sampling, thinking_budget=self.thinking.budget)
        return replace(sampling, seed=config.seed) if sampling.temperature > 0 else sampling

    def check_options(self) -> None:
        """Check that the strategy exists, and that options fit it and the engine; nothing is loaded.

        Raises:
            LocalempError: The strategy does not exist, an option is of another one, the engine cannot be deterministic,
                takes no adapter or not a sampling parameter, or the model cannot think as asked.
        """
        self.check_deterministic()
        self._check_takes_adapter()
        self._check_asks_service()
        self.check_takes_sampling()
        engine_entry(self._engine_name).check_args(self.config.engine_args)
        _ = self.thinking
        config = self.config
        changed = [each.name for each in part_options() if config.options.get(each.name, each.default) != each.default]
        check_heeded(changed, [config.strategy])

    def check_process(self) -> None:
        """Check that this process can start the engine, before anything is looked up.

        Raises:
            OptionError: It cannot, as a script without a main guard.
        """
        engine_entry(self._engine_name).check_process()

    def check_deterministic(self) -> None:
        """Check that the engine can be deterministic, if that is asked for.

        Raises:
            OptionError: It cannot.
        """
        if not self.config.deterministic or engine_entry(self._engine_name).deterministic:
            return
        if self._engine_name == "openai":
            raise OptionError(
                "--deterministic: a server decides how it batches requests, and has no such mode to ask for",
                "leave it out; a server of your own can be started with `localemp serve --deterministic`",
            )
        raise OptionError(f"--deterministic: the engine {self._engine_name!r} has no such mode", "leave it out")

    def _check_asks_service(self) -> None:
        """Check that options for a service's requests are for a model of one, and that it takes their values.

        Raises:
            OptionError: They are not, or it does not.
        """
        if self._engine_name == "openai":
            self.profile.takes.check(self.profile.name, **self.request)
            return
        for name in ("batch", *_OF_REQUESTS):
            if getattr(self.config, name):
                option = f"--{name.replace('_', '-')}"
                raise OptionError(
                    f"{option} is for hosted models, and {self.profile.name} is not one", f"omit {option}"
                )

    def check_takes_sampling(self) -> None:
        """Check that the engine takes the sampling parameters, so that none is ignored.

        Raises:
            OptionError: It does not take one.
        """
        sampling = self.sampling
        for name, why in engine_entry(self._engine_name).untaken(self._engine_context(), sampling).items():
            where = f"[sampling] of the profile {self.profile.name}: {name}"
            if name in self.config.sampling:
                where = f"--sampling {name}"
            elif getattr(self.config, name, None) is not None:
                where = f"--{name.replace('_', '-')}"
            raise OptionError(f"{where}: {why}", "omit it, or take another model or server")

    def check_effect(self, *, draws: bool = False, forms: bool = False) -> None:
        """Check that the sampling parameters that the user has chosen have an effect.

        Args:
            draws: Whether answers may be drawn although the run's temperature is 0.
            forms: Whether it is settled elsewhere of what form an answer is, as for judges.

        Raises:
            OptionError: One has none.
        """
        sampling, chosen = self.sampling, self.config.chosen_sampling.changes
        without = [name for name in DRAWS if name in chosen and not (sampling.temperature or draws)]
        if without == ["top_p"]:
            _log.warning("top_p has no effect at temperature 0, where nothing is drawn")
        elif without:
            raise OptionError(
                f"--sampling {without[-1]} has no effect at temperature 0, where nothing is drawn",
                "add --temperature 0.7, or omit it",
            )
        if forms and (formed := ["json_schema"] if sampling.schema else list(sampling.form)):
            raise OptionError(
                f"--sampling {formed[0]}: the judge's prompts say of what form an answer is",
                "omit it",
            )

    def check_budget(self) -> str:
        """Check that a budget can be kept, before anything is asked; return a note if it is not needed.

        Raises:
            OptionError: The model has no known price in the tier that is asked for.
        """
        limit, profile, tier = self.budget.limit, self.profile, billed_tier(None, self.tier)
        if limit is None:
            return ""
        option = f"--budget {limit:g}"
        if self.runs_here or self.config.script is not None:
            return f"{option}: {profile.name} runs here, and costs nothing"
        if profile.price is None:
            raise OptionError(
                f"{option}: no price of {profile.name} is known, so its cost cannot be limited",
                "give the server and its prices in a profile of your own (docs/hosted.md), or omit --budget",
            )
        if profile.price.rates(tier) is None:
            raise OptionError(
                f"{option}: no price of {profile.name} in the {tier} tier is known",
                "add it to a profile of your own (docs/hosted.md), or take another tier",
            )
        return ""

    @cached_property
    def strategy(self) -> Strategy:
        """The strategy, with everything that it looks up."""
        self.check_options()
        config = self.config
        how = config.keep_thinking, config.trim_to_sentence
        built = build_strategy(config.strategy, self.prompts, self.sampling, self.context, *how)
        self.check_effect(draws=built.flow.draws)
        return built

    def planner(self, filler: Filler = None) -> Planner:
        """Return an engine that only measures; see `Planner`. A hosted model's token counts are unknown."""
        if not self.runs_here:
            return Planner(None, filler=filler)
        return Planner(self.tokenizer.encode, self.context_length, filler)

    def engine(
        self,
        max_model_len: int | None = None,
        log: Path | None = None,
        *,
        lookups_follow: bool = False,
        adapters: Iterable[Adapter | None] | None = None,
    ) -> Engine:
        """Return the engine of the model, not started yet; by default it asks with the config's adapter.

        Args:
            max_model_len: Context to hold, in tokens (vLLM); None for the model's.
            log: File for vLLM's output.
            lookups_follow: Whether encoder and COMET work while the engine does.
            adapters: The adapter of each pipeline that shares the engine, None for one without; each asks through
                `Engine.adapted`.
        """
        self.check_process()
        self.check_deterministic()
        self._check_asks_service()
        self.check_takes_sampling()
        asked = [self.adapter] if adapters is None else adapters
        different = [*dict.fromkeys(each for each in asked if each is not None)]
        context = self._engine_context(max_model_len, log)
        engine = engine_entry(self._engine_name).make(
            replace(context, lookups_follow=lookups_follow, adapters=different)
        )
        if not self.runs_here:
            told = [self.profile.request.get(name) for name in _LONGEST]
            longest = max((value for value in told if isinstance(value, int)), default=0)
            engine = BudgetedEngine(engine, self.budget, self.profile.price, self.tier, longest)
        return engine.adapted(self.adapter) if adapters is None else engine

    @property
    def gives_choices(self) -> bool:
        """Whether the engine can give the probabilities of fixed answers; a server may still refuse to."""
        return engine_entry(self._engine_name).gives_choices(self._engine_context())

    @property
    def engine_key(self) -> str:
        """What distinguishes engines: pipelines for which it is the same share one, with the adapters of all."""
        config = self.config
        where = (config.model, config.base_url, str(config.script), config.thinking)
        chosen = (
            *where,
            dict(config.engine_args),
            config.concurrency,
            config.deterministic,
            config.batch,
            self.request,
        )
        return json.dumps(chosen, sort_keys=True, default=str)

    @property
    def _engine_name(self) -> str:
        assert self.profile.engine is not None, "a chat model's profile names one"
        return self.profile.engine

    @property
    def request(self) -> dict[str, str]:
        """The fields of requests to a service that the user has chosen."""
        return {name: value for name in _OF_REQUESTS if (value := getattr(self.config, name)) is not None}

    @property
    def tier(self) -> str | None:
        """The tier of the service that requests ask for: "batch" for the Batch API; None if they name none."""
        asked = self.request.get("service_tier") or self.profile.request.get("service_tier")
        if self.config.batch:
            return "batch"
        return asked if isinstance(asked, str) else None

    def _engine_context(self, max_model_len: int | None = None, log: Path | None = None) -> EngineContext:
        config = self.config
        return EngineContext(
            profile=self.profile,
            weights=lambda: self.weights,
            tokenizer=lambda: self.tokenizer,
            context_length=lambda: max_model_len or self.context_length,
            base_url=config.base_url,
            engine_args=config.engine_args,
            concurrency=config.concurrency,
            seed=config.seed,
            script=config.script,
            log=log,
            deterministic=config.deterministic,
            thinking=self.thinking,
            batch=config.batch,
            request=self.request,
        )

    def settings(self, dialogues: list[Dialogue], split: str) -> dict[str, Any]:
        """Return everything that can change the replies, for the manifest; not what affects only speed or memory."""
        strategy = self.strategy.describe()  # first: a wrong option is reported before a model is fetched and checked
        return {
            **self.model_settings(),
            **strategy,
            **self._outside_code(),
            "seed": self.config.seed,
            "sampling": self.strategy.sampling.describe(),
            "split": split,
            "instances": self.config.instances,
            "data_sha256": data_hash(dialogues),
            **({"columns": dict(self.config.columns)} if self.config.columns else {}),
        }

    def _outside_code(self) -> dict[str, Any]:
        """Return the packages of plug-ins, and hashes of the user's own code; only if set, as above."""
        plugins = [plugin_of("strategy", name) for name in parse_strategy(self.config.strategy)]
        plugins.append(plugin_of("engine", self._engine_name))
        used = {f"{each.kind} {each.name}": f"{each.package} {each.version}" for each in plugins if each}
        own = code_hashes(self.config.strategy)
        return ({"plugins": used} if used else {}) | ({"code_sha256": own} if own else {})

    def model_settings(self) -> dict[str, Any]:
        """Return the part of `settings` about the model and its engine."""
        name = self._engine_name
        settings = engine_entry(name).settings(self._engine_context())
        # Only if set, so that older runs can be resumed.
        deterministic = {"deterministic": True} if self.config.deterministic else {}
        adapter = {} if self.adapter is None else self.adapter.settings()
        return {"model": self.profile.name, **adapter, "engine": name, **settings, **deterministic}

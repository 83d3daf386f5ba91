"""From what a person asked for (a `Recipe`) to the objects that do it: a model, a strategy, an engine.

Everything heavy is imported here only when a recipe needs it.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from localemp.data.empathetic_dialogues import complete_dialogues
from localemp.data.sources import data_hash, load_dialogues, pool_source
from localemp.dialogue import Dialogue
from localemp.engines.base import Engine, Sampling
from localemp.engines.openai.target import shown_url
from localemp.engines.planner import Planner
from localemp.errors import OptionError
from localemp.profiles import Profile, load_profile, served_profile
from localemp.progress import Progress, silent
from localemp.prompts import Prompts, Template, load_template
from localemp.recipe import CAPACITY_ARGS, EncoderDtype, Recipe
from localemp.strategies.base import Strategy
from localemp.strategies.knowledge import Knowledge, SelectInferences
from localemp.strategies.registry import build_strategy, parse_strategy
from localemp.strategies.shots import FewShot, choose_shots
from localemp.strategies.similar import Similar, pool_texts
from localemp.strategies.two_stage import TwoStage
from localemp.weights import Weights, resolve

if TYPE_CHECKING:
    from localemp.engines.tokens import PromptTokenizer
    from localemp.retrieval.encoder import Encoder

T = TypeVar("T")

# Options that only one part of a strategy heeds.
OPTIONS_OF = {"two-stage": ("given", "list_labels"), "knowledge": ("knowledge", "comet", "select")}


class Assembly:
    """Makes what a recipe needs, each thing once and only when it is asked for.

    Args:
        recipe: What was asked for.
        progress: Hears of bytes: weights being fetched or checked.
        on_rows: Hears of rows: training dialogues being embedded.
    """

    def __init__(
        self,
        recipe: Recipe,
        progress: Progress = silent,
        on_rows: Callable[[int, int], None] | None = None,
    ) -> None:
        self.recipe, self.progress, self.on_rows = recipe, progress, on_rows
        self._made: dict[tuple[Any, ...], Any] = {}

    def vary(
        self, strategy: str, variant: str | None = None, shots: int | None = None, given: tuple[str, ...] = ()
    ) -> "Assembly":
        """Another assembly for the same model.

        What both need is made once: tokenizer, encoder, index and COMET, and the batches before the last two, so that
        the strategies of a server fill them together.
        """
        recipe, names = self.recipe, parse_strategy(strategy)
        # What was asked for other parts means nothing to a strategy without them.
        unused = [option for part, options in OPTIONS_OF.items() if part not in names for option in options]
        changes: dict[str, Any] = dict.fromkeys(unused) | {"given": given}
        changes |= {"variant": variant or recipe.variant, "shots": recipe.shots if shots is None else shots}
        other = Assembly(replace(recipe, strategy=strategy, **changes), self.progress, self.on_rows)
        other._made = self._made
        return other

    def _once(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        if key not in self._made:
            self._made[key] = make()
        made: T = self._made[key]
        return made

    @cached_property
    def profile(self) -> Profile:
        """The chat model's profile; with a server of one's own, any name is a model."""
        recipe = self.recipe
        if recipe.script is not None:
            return Profile(name="scripted", kind="chat", engine="openai", model="scripted")
        if recipe.base_url is None:
            return load_profile(recipe.model, "chat")
        return served_profile(recipe.model)

    @property
    def runs_here(self) -> bool:
        """Whether vLLM runs the model in this process, so that prompts can be measured beforehand."""
        return not self.profile.hosted

    @cached_property
    def weights(self) -> Weights:
        """The chat model's weights, found or fetched, and checked."""
        return self._once(("weights",), lambda: resolve(self.profile, self.progress))

    @cached_property
    def tokenizer(self) -> "PromptTokenizer":
        """The tokenizer of a model that runs here."""
        from localemp.engines.tokens import PromptTokenizer

        return self._once(
            ("tokenizer",), lambda: PromptTokenizer(self.weights.folder, self.profile.chat_template_kwargs)
        )

    @property
    def context_length(self) -> int:
        """What the model can hold, in tokens; a server knows its own."""
        from localemp.engines.tokens import context_length

        return self.profile.context_length or context_length(self.weights.folder)

    @cached_property
    def prompts(self) -> Prompts:
        """The prompt template in the layout that fits the model."""
        profile, layout, system_role = self.profile, self.recipe.layout, self.profile.system_role
        layout = layout or profile.layout
        if layout is None:
            layout = "chat" if profile.hosted or self.tokenizer.has_chat_template else "transcript"
        if layout == "chat" and profile.api == "completions":
            raise OptionError(f"{profile.name} completes text; it takes no chat turns", "leave out --layout")
        if system_role is None:
            system_role = profile.hosted or self.tokenizer.takes_system_role()
        return Prompts(load_template(self.recipe.variant), layout, system_role)

    @property
    def sampling(self) -> Sampling:
        """The model's defaults, with what the recipe sets."""
        recipe = self.recipe
        chosen = {name: getattr(recipe, name) for name in ("max_tokens", "temperature", "top_p")}
        sampling = replace(self.profile.default_sampling, **{k: v for k, v in chosen.items() if v is not None})
        return replace(sampling, seed=recipe.seed) if sampling.temperature > 0 else sampling

    @cached_property
    def strategy(self) -> Strategy:
        """The strategy, with whatever it looks things up in."""
        names = parse_strategy(self.recipe.strategy)
        for part, options in OPTIONS_OF.items():
            for option in options:
                if part not in names and getattr(self.recipe, option) not in (None, ()):
                    raise OptionError(
                        f"{option} is for {part}, and the strategy is {self.recipe.strategy}",
                        f"use --strategy {part}, joined with + to others, or leave it out",
                    )
        return build_strategy(self.recipe.strategy, self.prompts, self.sampling, self)

    @cached_property
    def pool(self) -> list[Dialogue]:
        """The training dialogues that exemplars come from, in the unit that the prompt variant shows."""
        unit = self._template.exemplars.unit
        return self._once(("pool", unit), lambda: self._load_pool(unit))

    def _load_pool(self, unit: Literal["dialogue", "instance"]) -> list[Dialogue]:
        source = self.recipe.pool or pool_source(self.recipe.data)
        instances = load_dialogues(source, "train", self.recipe.instances)
        with_reply = [dialogue for dialogue in instances if dialogue.reference]
        if not with_reply:
            raise OptionError(f"--pool {source}: no dialogue in it has a reply to show", 'exemplars need "reference"')
        return with_reply if unit == "instance" else complete_dialogues(with_reply)

    def few_shot(self) -> FewShot:
        """The part of `few-shot`."""
        recipe = self.recipe
        fixed = self._template.exemplars.fixed
        indices, how = choose_shots(len(self.pool), recipe.shots, recipe.seed, recipe.shot_indices, fixed)
        return FewShot(self.pool, indices, how)

    def similar(self) -> Similar:
        """The part of `similar`: embeds the pool where that was not done before."""
        recipe = self.recipe
        if recipe.shots < 1:
            raise OptionError(f"--shots {recipe.shots}: at least one exemplar is needed")
        return self._once(("similar", recipe.variant), self._similar).with_shots(recipe.shots)

    def _similar(self) -> Similar:
        from localemp.retrieval.index import Index

        recipe, pool, similarity = self.recipe, self.pool, self._template.exemplars.similarity
        found, encoder = self._encoder(recipe.encoder, recipe.encoder_dtype)
        index = self._once(
            ("index", recipe.variant),
            lambda: Index.build_or_load(
                pool_texts(pool, similarity), encoder, {"weights": found.digest}, progress=self.on_rows
            ),
        )
        settings = {
            "encoder": recipe.encoder,
            "encoder_sha256": found.digest,
            "encoder_dtype": encoder.dtype,
            "pool_sha256": data_hash(pool),
        }
        return Similar(pool, index, encoder, similarity, recipe.shots, settings)

    def _encoder(self, name: str, dtype: EncoderDtype) -> "tuple[Weights, Encoder]":
        from localemp.retrieval.encoder import Encoder

        found = resolve(load_profile(name, "encoder"), self.progress)
        return found, self._once(("encoder", found.folder, dtype), lambda: Encoder(found.folder, dtype))

    def knowledge(self) -> Knowledge:
        """The part of `knowledge`: a file made beforehand, a COMET, or both; then the choice among inferences."""
        return self._once(("knowledge", self.recipe.variant), self._knowledge)

    def _knowledge(self) -> Knowledge:
        from localemp.commonsense.relations import event_of
        from localemp.commonsense.source import DEFAULT_COMET, open_source
        from localemp.commonsense.store import KnowledgeStore

        recipe, data = self.recipe, self._template.knowledge
        path = recipe.knowledge
        # A file that a person names is all that is to be used.
        comet = recipe.comet or (None if path else DEFAULT_COMET)
        settings: dict[str, Any] = {"event": data.event}
        store = KnowledgeStore.read(path) if path is not None else None
        source = self._once(("comet",), lambda: open_source(comet, self.progress)) if comet is not None else None
        if store is not None:
            store.check_settings({**settings, **(source.settings if source else {})})
            settings |= {"knowledge_sha256": store.digest}
        if source is not None:
            settings |= source.settings
        select, chosen = self._selection()
        return Knowledge(event_of(data.event), settings | chosen, store, source, select)

    def _selection(self) -> tuple[SelectInferences, dict[str, Any]]:
        """How inferences are chosen, and what the manifest records of it; the numbers are in the template."""
        from localemp.commonsense.selection import Selector, select_all

        data = self._template.knowledge.select
        keep = self.recipe.select or data.keep
        if keep == "all":
            return select_all, {"select": keep}
        # float32: small, and what is chosen should not depend on the processor.
        found, encoder = self._encoder(data.encoder, "float32")
        return Selector(data, encoder), {
            "select": keep,
            "select_encoder": data.encoder,
            "select_encoder_sha256": found.digest,
        }

    def two_stage(self) -> TwoStage:
        """The part of `two-stage`."""
        return TwoStage(self.recipe.given, self.recipe.list_labels)

    def planner(self, filler: str | None = None) -> Planner:
        """An engine that only measures; see `Planner`. A hosted model's tokens are unknown."""
        if not self.runs_here:
            return Planner(None, filler=filler)
        return Planner(lambda messages: len(self.tokenizer.encode(messages)), self.context_length, filler)

    def engine(self, max_model_len: int | None = None, log: Path | None = None) -> Engine:
        """The engine of the model, not started yet.

        Args:
            max_model_len: Context to hold, in tokens (vLLM); the model's own where None.
            log: Where vLLM's messages go.
        """
        recipe, profile = self.recipe, self.profile
        if recipe.script is not None:
            from localemp.engines.scripted import ScriptedEngine

            return ScriptedEngine.from_file(recipe.script)
        if profile.hosted:
            from localemp.engines.openai.engine import OpenAIEngine

            if recipe.engine_args:
                raise OptionError("--engine-arg is for vLLM in this process; a server has its own settings")
            return OpenAIEngine(
                profile.model or profile.name,
                recipe.base_url or profile.base_url,
                api=profile.api,
                concurrency=recipe.concurrency or OpenAIEngine.concurrency,
                context_length=profile.context_length,
                price=profile.price,
                extra_body=profile.request,
            )
        from localemp.engines.vllm import VLLMEngine

        return VLLMEngine(
            self.tokenizer,
            max_model_len or self.context_length,
            recipe.engine_args,
            recipe.seed,
            recipe.concurrency or VLLMEngine.concurrency,
            log,
        )

    def settings(self, dialogues: list[Dialogue], split: str) -> dict[str, Any]:
        """Everything that can change the replies, for the manifest; what only changes speed or room is left out."""
        recipe, profile = self.recipe, self.profile
        model: dict[str, Any] = {"model": profile.name}
        if recipe.script is not None:
            model |= {"engine": "scripted"}
        elif profile.hosted:
            server = recipe.base_url or profile.base_url
            model |= {
                "engine": "openai",
                "served_model": profile.model,
                "base_url": server and shown_url(server),
                "api": profile.api,
            }
        else:
            arguments = {name: value for name, value in recipe.engine_args.items() if name not in CAPACITY_ARGS}
            model |= {
                "engine": "vllm",
                "weights_origin": self.weights.origin,
                "weights_revision": self.weights.revision,
                "weights_sha256": self.weights.digest,
                "chat_template_kwargs": profile.chat_template_kwargs,
                "engine_args": arguments,
            }
        return {
            **model,
            **self.strategy.describe(),
            "seed": recipe.seed,
            "sampling": asdict(self.strategy.sampling),
            "split": split,
            "instances": recipe.instances,
            "data_sha256": data_hash(dialogues),
        }

    @property
    def _template(self) -> Template:
        return self.prompts.template

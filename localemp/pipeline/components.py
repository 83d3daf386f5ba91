"""What strategies look things up in: exemplars, an index over them, COMET. Each is made once, when it is asked for.

Everything heavy is imported here only when a part needs it.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from localemp.commonsense.selection import Keep
from localemp.data.empathetic_dialogues import complete_dialogues
from localemp.data.sources import data_hash, load_dialogues, pool_source
from localemp.dialogue import Dialogue
from localemp.errors import OptionError
from localemp.models.profiles import Kind, load_profile
from localemp.models.weights import Weights, resolve
from localemp.pipeline.config import EncoderDtype, RunConfig
from localemp.prompting.template import Template, load_template
from localemp.strategies.knowledge import Knowledge, SelectInferences
from localemp.strategies.shots import FewShot, choose_shots
from localemp.strategies.similar import Similar, fitted, pool_texts, pool_turns
from localemp.strategies.two_stage import TwoStage
from localemp.utils.progress import OnProgress

if TYPE_CHECKING:
    from localemp.retrieval.encoder import Encoder

T = TypeVar("T")


class Made:
    """Things that are made once, under a key."""

    def __init__(self) -> None:
        self._things: dict[tuple[Any, ...], Any] = {}

    def get(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        """The thing of this key, made now if it is not there."""
        if key not in self._things:
            self._things[key] = make()
        thing: T = self._things[key]
        return thing


class Parts:
    """Supplies the parts of strategies, see `localemp.strategies.registry.Supplies`.

    Args:
        config: What was asked for.
        on_progress: Called with bytes of weights that are fetched or checked, and with training dialogues embedded.
        made: What other recipes for the same model have made already; they differ in strategy, variant, shots and
            what is given, and in nothing else.
    """

    def __init__(self, config: RunConfig, on_progress: OnProgress, made: Made) -> None:
        self.config, self.on_progress, self._made = config, on_progress, made

    @cached_property
    def template(self) -> Template:
        """The prompt template."""
        return load_template(self.config.variant)

    def fetch(self, names: Sequence[str]) -> None:
        """Have here what these parts need, loading no model, so that mistakes and downloads come first.

        Raises:
            LocalempError: Something cannot be had, or cannot be used.
        """
        _ = self.template
        if "few-shot" in names:
            self.few_shot()
        if "similar" in names:
            self._check_shots()
            _ = self.pool
            self._weights(self.config.encoder, "encoder")
        if "knowledge" in names:
            if self._comet is not None:
                self._weights(self._comet, "commonsense")
            if self._keep != "all":
                self._weights(self.template.knowledge.select.encoder, "encoder")

    @cached_property
    def pool(self) -> list[Dialogue]:
        """The training dialogues that exemplars come from, in the unit that the prompt variant shows."""
        unit = self.template.exemplars.unit
        return self._made.get(("pool", unit), lambda: self._load_pool(unit))

    def _load_pool(self, unit: Literal["dialogue", "instance"]) -> list[Dialogue]:
        source = self.config.pool or pool_source(self.config.data)
        instances = load_dialogues(source, "train", self.config.instances)
        with_reply = [dialogue for dialogue in instances if dialogue.reference]
        if not with_reply:
            raise OptionError(f"--pool {source}: no dialogue in it has a reply to show", 'exemplars need "reference"')
        return with_reply if unit == "instance" else complete_dialogues(with_reply)

    def few_shot(self) -> FewShot:
        """The part of `few-shot`."""
        config = self.config
        fixed = self.template.exemplars.fixed
        indices, how = choose_shots(len(self.pool), config.shots, config.seed, config.shot_indices, fixed)
        return FewShot(self.pool, indices, how)

    def similar(self) -> Similar:
        """The part of `similar`: embeds the pool where that was not done before."""
        config = self.config
        self._check_shots()
        return self._made.get(("similar", config.variant), self._similar).with_shots(config.shots)

    def _check_shots(self) -> None:
        if self.config.shots < 1:
            raise OptionError(f"{self.config.shots} shots: at least one exemplar is needed", "choose 1 or more")

    def _similar(self) -> Similar:
        from localemp.retrieval.index import Index

        config, pool, similarity = self.config, self.pool, self.template.exemplars.similarity
        found, encoder = self._encoder(config.encoder, config.encoder_dtype)
        shown = fitted(pool_turns(pool, similarity), similarity, encoder)
        index = Index.build_or_load(
            shown.texts,
            encoder,
            {"weights": found.digest},
            on_progress=self.on_progress,
            former=pool_texts(pool, similarity),
        )
        settings = {
            "encoder": config.encoder,
            "encoder_sha256": found.digest,
            "encoder_dtype": encoder.dtype,
            "pool_sha256": data_hash(pool),
        }
        return Similar(pool, index, encoder, similarity, config.shots, settings, shown.longer)

    def _encoder(self, name: str, dtype: EncoderDtype) -> "tuple[Weights, Encoder]":
        from localemp.retrieval.encoder import Encoder

        found = self._weights(name, "encoder")
        return found, self._made.get(("encoder", found.folder, dtype), lambda: Encoder(found.folder, dtype))

    def _weights(self, name: str, kind: Kind) -> Weights:
        return self._made.get(("weights", kind, name), lambda: resolve(load_profile(name, kind), self.on_progress))

    def knowledge(self) -> Knowledge:
        """The part of `knowledge`: a file made beforehand, a COMET, or both; then the choice among inferences."""
        return self._made.get(("knowledge", self.config.variant), self._knowledge)

    def _knowledge(self) -> Knowledge:
        from localemp.commonsense.relations import event_of
        from localemp.commonsense.source import open_source
        from localemp.commonsense.store import KnowledgeStore

        path, comet, data = self.config.knowledge, self._comet, self.template.knowledge
        settings: dict[str, Any] = {"event": data.event}
        store = KnowledgeStore.read(path) if path is not None else None
        source = self._made.get(("comet",), lambda: open_source(comet, self.on_progress)) if comet is not None else None
        if store is not None:
            store.check_settings({**settings, **(source.settings if source else {})})
            settings |= {"knowledge_sha256": store.digest}
        if source is not None:
            settings |= source.settings
        select, shorten, chosen = self._selection()
        return Knowledge(event_of(data.event), settings | chosen, store, source, select, shorten)

    @property
    def _comet(self) -> str | None:
        from localemp.commonsense.source import DEFAULT_COMET

        # A file that a person names is all that is to be used.
        return self.config.comet or (None if self.config.knowledge else DEFAULT_COMET)

    @property
    def _keep(self) -> Keep:
        return self.config.select or self.template.knowledge.select.keep

    def _selection(self) -> tuple[SelectInferences, Callable[[Sequence[str]], list[str]], dict[str, Any]]:
        """How inferences are chosen, what of a context that sees, and what the manifest records of it."""
        from localemp.commonsense.selection import Selector, select_all

        data = self.template.knowledge.select
        if self._keep == "all":
            return select_all, list, {"select": self._keep}
        # float32: small, and what is chosen should not depend on the processor.
        found, encoder = self._encoder(data.encoder, "float32")
        recorded = {"select_encoder": data.encoder, "select_encoder_sha256": found.digest}
        return Selector(data, encoder), encoder.ends, {"select": self._keep, **recorded}

    def two_stage(self) -> TwoStage:
        """The part of `two-stage`."""
        return TwoStage(self.config.given, self.config.list_labels)

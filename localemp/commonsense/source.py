"""The source of inferences: the cache, else COMET, whose inferences are then cached."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from localemp.commonsense.cache import InferenceCache
from localemp.commonsense.events import check_events
from localemp.commonsense.inferences import Beams, EventInferences, check_relations
from localemp.models.atomic import RELATIONS
from localemp.models.profiles import load_profile
from localemp.models.weights import resolve
from localemp.utils.extras import require
from localemp.utils.progress import OnProgress, Progress, silent

if TYPE_CHECKING:
    from localemp.commonsense.comet import Comet

DEFAULT_COMET = "comet-mini"


class InferenceSource:
    """Infers events through the cache; COMET is loaded only for events that are not cached.

    Args:
        load: Loads the COMET.
        settings: Everything that determines its inferences: checkpoint, query, decoding.
        cache: The cache of inferences.
        trained: Relations that the checkpoint was trained on; None for all of ATOMIC 2020.

    Attributes:
        inferred: Number of queries (event and relation) that COMET has answered.
        cached: Number of queries that the cache has answered.
    """

    def __init__(
        self,
        load: "Callable[[], Comet]",
        settings: Mapping[str, Any],
        cache: InferenceCache,
        trained: Sequence[str] | None = None,
    ) -> None:
        self.settings, self.trained = dict(settings), trained
        self.inferred = self.cached = 0
        self._load, self._cache = load, cache
        self._comet: Comet | None = None
        # Strategies of a server share a source, each in its own thread.
        self._lock = Lock()

    def infer(
        self, events: Sequence[str], relations: Sequence[str] = RELATIONS, on_progress: OnProgress = silent
    ) -> list[EventInferences]:
        """Return the inferences of events, in order; every batch of COMET is cached at once.

        Args:
            events: The events.
            relations: The relations to infer.
            on_progress: Called with the number of distinct events answered so far.

        Raises:
            OptionError: An event is empty, or the checkpoint was not trained on a relation.
            UnknownNameError: ATOMIC 2020 has no such relation.
            LocalempError: The checkpoint cannot be loaded, or the cache cannot be written.
        """
        check_events(events)
        check_relations(relations, self.trained)
        with self._lock:
            return self._infer(events, relations, on_progress)

    def load_for(self, events: Sequence[str], relations: Sequence[str] = RELATIONS) -> None:
        """Load COMET now if an inference of these events is not cached.

        Raises:
            LocalempError: The checkpoint cannot be loaded.
        """
        with self._lock:
            known = self._cache.get(self._key, events, relations)
            if any(event not in known or len(known[event].beams) < len(relations) for event in events):
                _ = self._loaded

    def with_cache(self, cache: Path) -> "InferenceSource":
        """The same COMET, loaded once, with another cache: where that is empty, nothing is remembered."""
        other = InferenceSource(self._load, self.settings, InferenceCache(cache), self.trained)
        other._comet = self._comet
        return other

    def kept(self, events: Iterable[str], relations: Sequence[str] = RELATIONS) -> int:
        """Return how many distinct queries have an answer in the cache's file; reads the file."""
        self._cache.close()  # an interrupt may have left a transaction open
        found = self._cache.get(self._key, events, relations)
        return sum(map(len, {event[answer.cut :]: answer.beams for event, answer in found.items()}.values()))

    def _infer(self, events: Sequence[str], relations: Sequence[str], on_progress: OnProgress) -> list[EventInferences]:
        asked = list(dict.fromkeys(events))
        known = self._cache.get(self._key, asked, relations)
        for event in asked:
            if event not in known:
                known[event] = self._new(event, relations)
        self.cached += sum(len(answer.beams) for answer in known.values())
        # COMET sees an event without the part that was cut; several events may share the rest.
        alike: dict[str, list[str]] = {}
        for event, answer in known.items():
            alike.setdefault(event[answer.cut :], []).append(event)
        # Texts that lack the same relations are inferred together.
        missing: dict[tuple[str, ...], list[str]] = {}
        for text, same in alike.items():
            if lacks := tuple(relation for relation in relations if relation not in known[same[0]].beams):
                missing.setdefault(lacks, []).append(text)
        left = sum(len(alike[text]) for texts in missing.values() for text in texts)
        on_progress(Progress("Inferring", len(asked) - left, len(asked), "events"))
        for lacking, texts in missing.items():
            # Similar lengths together, as batches need it.
            texts.sort(key=len, reverse=True)
            while texts:
                made = self._ask(texts, lacking)
                texts = texts[len(made) :]
                for text, beams in made.items():
                    for event in alike[text]:
                        known[event] = EventInferences({**known[event].beams, **beams}, known[event].cut)
                    left -= len(alike[text])
                on_progress(Progress("Inferring", len(asked) - left, len(asked), "events"))
        return [_in_order(known[event], relations) for event in events]

    def _new(self, event: str, relations: Sequence[str]) -> EventInferences:
        """Return what is cached for a new event: the inferences of another one with the same end."""
        text, cut = self._loaded.fit(event)
        if not cut:
            return EventInferences({})
        self._cache.put(self._key, {event: EventInferences({}, cut)})
        same = self._cache.get(self._key, [text], relations).get(text, EventInferences({}))
        return EventInferences(same.beams, cut)

    def _ask(self, waiting: Sequence[str], relations: Sequence[str]) -> dict[str, Beams]:
        """Infer as many of the first texts as fill one batch."""
        texts = waiting[: self._loaded.events_at_once]
        made = dict(zip(texts, self._loaded.infer(texts, relations), strict=True))
        self._cache.put(self._key, {text: EventInferences(beams) for text, beams in made.items()})
        self.inferred += len(texts) * len(relations)
        return made

    @property
    def _loaded(self) -> "Comet":
        if self._comet is None:
            self._comet = self._load()
        return self._comet

    @property
    def _key(self) -> dict[str, Any]:
        # The name does not matter: the same weights give the same inferences.
        return {name: value for name, value in self.settings.items() if name != "comet"}


def open_source(
    name: str,
    on_progress: OnProgress = silent,
    *,
    beams: int = 5,
    keep: int | None = None,
    device: str | None = None,
    cache: Path | None = None,
) -> InferenceSource:
    """Open a source by the name of its COMET; finds and verifies the weights, and fetches missing ones.

    Args:
        name: A known name, a Hugging Face id, a folder, or a profile.
        on_progress: Called with bytes of weights that are fetched or checked.
        beams: Width of the beam search.
        keep: Number of beams that become inferences; by default up to 5.
        device: torch device; by default a GPU if available.
        cache: File of the cache; by default in localemp's cache folder.

    Raises:
        LocalempError: The model does not exist, its weights cannot be fetched, or the cache cannot be opened.
    """
    profile = load_profile(name, "commonsense")
    found = resolve(profile, on_progress, option="--comet")
    asked: dict[str, Any] = {
        "query": profile.query or "{event} {relation} [GEN]",
        "decoder_prompt": profile.decoder_prompt,
        "beams": beams,
        "keep": min(5, beams) if keep is None else keep,
        "max_new_tokens": 24,
    }

    def load() -> "Comet":
        require("models", "COMET", "torch", "transformers")
        from localemp.commonsense.comet import Comet

        return Comet(found.folder, relations=profile.relations, device=device, **asked)

    # float32 beam search gives the same results on every device, so the device is not recorded.
    settings = {"comet": profile.name, "comet_sha256": found.digest, **asked, "dtype": "float32"}
    return InferenceSource(load, settings, InferenceCache(cache), profile.relations)


def _in_order(answer: EventInferences, relations: Sequence[str]) -> EventInferences:
    return EventInferences({relation: answer.beams[relation] for relation in relations}, answer.cut)

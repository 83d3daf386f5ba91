"""Where inferences come from while localemp runs: the cache, else COMET, whose answers go into the cache."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from localemp.commonsense.cache import InferenceCache
from localemp.commonsense.relations import RELATIONS, Answer, check_events, check_relations
from localemp.profiles import load_profile
from localemp.progress import Progress, silent
from localemp.weights import resolve

if TYPE_CHECKING:
    from localemp.commonsense.comet import Comet

DEFAULT_COMET = "comet-mini"


class InferenceSource:
    """Answers events; COMET is loaded only when there is one that the cache does not know.

    Args:
        load: Makes the COMET.
        settings: Everything that decides its answers: checkpoint, how it is asked and decoded.
        cache: Where answers are kept.
        trained: The relations that the checkpoint was trained on; None is all of ATOMIC 2020.

    Attributes:
        inferred: Queries (event and relation) that COMET answered since this source was made.
        remembered: Queries that the cache answered.
    """

    def __init__(
        self,
        load: "Callable[[], Comet]",
        settings: Mapping[str, Any],
        cache: InferenceCache,
        trained: Sequence[str] | None = None,
    ) -> None:
        self.settings, self.trained = dict(settings), trained
        self.inferred = self.remembered = 0
        self._load, self._cache = load, cache
        self._comet: Comet | None = None
        # The strategies of a server share a source, each from a thread of its own.
        self._lock = Lock()

    def infer(
        self, events: Sequence[str], relations: Sequence[str] = RELATIONS, heard: Callable[[int], None] = lambda _: None
    ) -> list[Answer]:
        """Answers to events, in their order; every batch of COMET is kept as soon as it is answered.

        Args:
            events: What COMET is asked about.
            relations: What it is asked about each.
            heard: Told how many of the distinct events are answered by now.

        Raises:
            OptionError: An event is empty, or the checkpoint was not trained on a relation.
            UnknownNameError: ATOMIC 2020 has no such relation.
            LocalempError: The checkpoint cannot be loaded, or the cache cannot be written.
        """
        check_events(events)
        check_relations(relations, self.trained)
        with self._lock:
            return self._infer(events, relations, heard)

    def afresh(self, cache: Path) -> "InferenceSource":
        """The same COMET, loaded once, with another cache: where that is empty, nothing is remembered."""
        other = InferenceSource(self._load, self.settings, InferenceCache(cache), self.trained)
        other._comet = self._comet
        return other

    def _infer(self, events: Sequence[str], relations: Sequence[str], heard: Callable[[int], None]) -> list[Answer]:
        distinct = list(dict.fromkeys(events))
        known = self._cache.get(self._key, distinct, relations)
        self.remembered += sum(len(answer.beams) for answer in known.values())
        # Events that lack the same relations are asked together.
        missing: dict[tuple[str, ...], list[str]] = {}
        for event in distinct:
            here = known[event].beams if event in known else {}
            if lacks := tuple(relation for relation in relations if relation not in here):
                missing.setdefault(lacks, []).append(event)
        left = sum(map(len, missing.values()))
        heard(len(distinct) - left)
        for lacking, lacked in missing.items():
            # Like lengths together, as the batches inside want it.
            lacked.sort(key=len, reverse=True)
            while lacked:
                made = self._ask(lacked, lacking)
                lacked = lacked[len(made) :]
                left -= len(made)
                heard(len(distinct) - left)
                for event, answer in made.items():
                    before = known[event].beams if event in known else {}
                    known[event] = Answer({**before, **answer.beams}, answer.cut)
        return [_in_order(known.get(event, Answer({})), relations) for event in events]

    def _ask(self, waiting: Sequence[str], relations: Sequence[str]) -> dict[str, Answer]:
        """Answers to as many of the first events as make one batch."""
        if self._comet is None:
            self._comet = self._load()
        events = waiting[: self._comet.events_at_once]
        found = self._comet.infer(events, relations)
        answers = {event: Answer(beams, self._comet.fit(event)[1]) for event, beams in zip(events, found, strict=True)}
        self._cache.put(self._key, answers)
        self.inferred += len(events) * len(relations)
        return answers

    @property
    def _key(self) -> dict[str, Any]:
        # The same weights under another name answer the same.
        return {name: value for name, value in self.settings.items() if name != "comet"}


def open_source(
    name: str,
    progress: Progress = silent,
    *,
    beams: int = 5,
    keep: int | None = None,
    device: str | None = None,
    cache: Path | None = None,
) -> InferenceSource:
    """A source by the name of its COMET; its weights are found, fetched where they are not here, and checked.

    Args:
        name: A known name, a Hugging Face id, a folder, or a profile.
        progress: Hears of bytes: weights being fetched or checked.
        beams: Width of the beam search.
        keep: How many of the beams become inferences; by default up to 5.
        device: As torch names it; by default a GPU where there is one.
        cache: The file that answers are kept in; by default in localemp's cache.

    Raises:
        LocalempError: There is no such model, its weights cannot be had, or the cache cannot be opened.
    """
    profile = load_profile(name, "commonsense")
    found = resolve(profile, progress)
    asked: dict[str, Any] = {
        "query": profile.query or "{event} {relation} [GEN]",
        "decoder_prompt": profile.decoder_prompt,
        "beams": beams,
        "keep": min(5, beams) if keep is None else keep,
        "max_new_tokens": 24,
    }

    def load() -> "Comet":
        from localemp.commonsense.comet import Comet

        return Comet(found.folder, relations=profile.relations, device=device, **asked)

    # float32 and beam search are exact on every device, so the device is no setting.
    settings = {"comet": profile.name, "comet_sha256": found.digest, **asked, "dtype": "float32"}
    return InferenceSource(load, settings, InferenceCache(cache), profile.relations)


def _in_order(answer: Answer, relations: Sequence[str]) -> Answer:
    return Answer({relation: answer.beams[relation] for relation in relations}, answer.cut)

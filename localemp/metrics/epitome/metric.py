"""EPITOME's columns: the levels of replies, and how far they are from those of people's replies.

ER, IP and EX are the mean level (0 none, 1 weak, 2 strong) of emotional reactions, interpretations and explorations
(Sharma et al. 2020). A level is the most probable one, as in the original.

diff-ER, diff-IP and diff-EX are the mean of the squared difference of the reply's level and the reference's, from 0 to
4 (Lee, Lim and Choi 2022, reported as diff-EPITOME by Sotolar et al. 2024).

As in both papers, the seeker's post is the last turn before the reply. A reply without text has level 0.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from localemp.errors import WeightsError
from localemp.metrics.base import MeanOfReplies, Metric, Score, Setting, Signature, Statistics, check_same_items
from localemp.metrics.epitome.data import MECHANISMS
from localemp.metrics.replies import Replies, Reply
from localemp.utils.extras import require
from localemp.utils.once import Once
from localemp.utils.paths import cache_dir
from localemp.utils.progress import OnProgress, Progress, silent

if TYPE_CHECKING:
    from localemp.metrics.epitome.weights import Model

LEVELS = tuple(MECHANISMS)
DIFFERENCES = tuple(f"diff-{name}" for name in LEVELS)
SEEKER = "last turn"
NAMES = (*LEVELS, *DIFFERENCES)
TRAIN = "`localemp models train epitome --data FOLDER` fits one"

Pair = tuple[str, str]


class Epitome:
    """The six columns, which share one computation: every pair of texts is classified once.

    Args:
        folder: A model that `train_epitome` has fitted; by default the one in localemp's cache.
        fetch: Whether a missing encoder may be fetched.
        on_progress: Called with bytes of the encoder that are fetched or checked, then with the texts read.
    """

    def __init__(self, folder: str | None = None, *, fetch: bool = True, on_progress: OnProgress = silent) -> None:
        self._folder, self._fetch, self._on_progress = folder, fetch, on_progress
        self._levels: dict[Pair, tuple[int, ...]] = {}
        self._model = Once(self._load)  # a failure is not retried for the other columns

    def metrics(self) -> tuple[Metric, ...]:
        """Return ER, IP, EX, diff-ER, diff-IP and diff-EX."""
        return tuple(_Column(self, name) for name in NAMES)

    @property
    def lacking(self) -> str:
        """Why there is no model, if none was named and none is in the cache; else empty."""
        if (
            self._folder is not None
            or self._model.made is not None
            or cache_dir("models", "epitome", "card.json").exists()
        ):
            return ""
        return f"no EPITOME model on this machine; {TRAIN} (docs/metrics.md)"

    def settings(self) -> Mapping[str, Setting]:
        """Return what all six signatures hold."""
        card = self._model().card
        return {
            "encoder": Path(card.encoder).name,  # of a folder: a path means nothing on another machine
            "weights_sha256": card.sha256,
            "data_sha256": card.data_sha256,
            "seed": card.recipe.seed,
            "max_tokens": card.recipe.max_tokens,
            "seeker": SEEKER,
            "level": "most probable",
        }

    def levels(self, systems: Sequence[Replies], *, of_references: bool = False) -> NDArray[np.float64]:
        """Return the three levels of every reply of every system, or of its reference; one row each.

        Raises:
            OptionError: The systems answer different items.
            WeightsError: There is no model, or it or its encoder is damaged; the hint says what to do.
        """
        check_same_items(systems)
        items = [item for system in systems for item in system.items]
        pairs = [_pair(item, of_reference=of_references) for item in items]
        wanted = [pair for pair in dict.fromkeys(pairs) if pair[1] and pair not in self._levels]
        if wanted:
            self._classify(wanted)
        nothing = (0,) * len(LEVELS)
        found = [self._levels[pair] if pair[1] else nothing for pair in pairs]
        return np.array(found, dtype=np.float64).reshape(-1, len(LEVELS))

    def _classify(self, pairs: Sequence[Pair]) -> None:
        done = 0
        for batch, levels in self._model().classifier(pairs):
            self._levels |= {pairs[position]: found for position, found in zip(batch, levels, strict=True)}
            done += len(batch)
            self._on_progress(Progress("Reading for EPITOME", done, len(pairs), "pairs"))

    def _load(self) -> "Model":
        if self.lacking:  # told before the libraries are imported, which takes seconds
            raise WeightsError("no EPITOME model on this machine", f"{TRAIN} (docs/metrics.md)")
        require("models", "EPITOME")
        from localemp.metrics.epitome.weights import default_folder, load_model

        folder = default_folder() if self._folder is None else Path(self._folder)
        return load_model(folder, self._on_progress, fetch=self._fetch)


class _Column(Metric):
    group = "epitome"
    decimals = 3

    def __init__(self, epitome: Epitome, name: str) -> None:
        self.name = name
        self._epitome, self._difference = epitome, name in DIFFERENCES
        self._column = LEVELS.index(name.removeprefix("diff-"))
        self.bounds = (0.0, 4.0 if self._difference else 2.0)
        # People's replies have many of level 0: more is not always better. Nearer to people's is.
        self.higher_is_better = False if self._difference else None

    def statistics(self, systems: Sequence[Replies]) -> Statistics:
        values = self._epitome.levels(systems)[:, self._column]
        if self._difference:
            values = (values - self._epitome.levels(systems, of_references=True)[:, self._column]) ** 2
        return MeanOfReplies(values)

    def settings(self) -> Mapping[str, Setting]:
        told = dict(self._epitome.settings())
        return {**told, "difference": "squared"} if self._difference else told

    def missing(self, replies: Replies) -> str:
        if lacking := self._epitome.lacking:
            return lacking
        if alone := sum(not any(turn.strip() for turn in item.turns[-1:]) for item in replies.items):
            return f"{alone:,} of {len(replies):,} replies have no turn before them"
        return replies.without_reference() if self._difference else ""

    def score(self, replies: Replies) -> Score:
        if reason := self.missing(replies):  # nothing is loaded for what has no score anyway
            signature = Signature.of(self.name.lower(), replies, {"seeker": SEEKER})
            return Score(self.name, None, signature, reason)
        return super().score(replies)


def _pair(item: Reply, *, of_reference: bool) -> Pair:
    response = (item.reference or "") if of_reference else item.text
    return " ".join(item.turns[-1].split()), " ".join(response.split())

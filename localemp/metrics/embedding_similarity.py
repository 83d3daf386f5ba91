"""EmbSim: how alike a reply and its reference are in meaning, as one sentence encoder sees it, x100.

    EmbSim = 100 * mean of cos(embedding of the reply, embedding of the reference)

It is not BERTScore, which matches token by token in another model: it needs no model of the Hugging Face hub, since the
encoder is the one of the strategies. docs/metrics.md says what it can tell apart.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from localemp.metrics.base import MeanOfReplies, Metric, Score, Setting, Signature, Statistics, check_same_items
from localemp.metrics.replies import Replies
from localemp.models.profiles import load_profile
from localemp.models.weights import resolve
from localemp.utils.extras import require
from localemp.utils.once import Once
from localemp.utils.progress import OnProgress, Progress, silent

if TYPE_CHECKING:
    from localemp.retrieval.encoder import Encoder

NAME = "EmbSim"
# Values of different machines are to be comparable: bfloat16 would move them.
DTYPE = "float32"
_TEXTS = 256  # in one call of the encoder, which sorts them by length
_PACKAGES = ("sentence-transformers", "transformers", "torch")

Pair = tuple[str, str]


class EmbeddingSimilarity(Metric):
    """The mean cosine of sentence embeddings.

    The embeddings of references are kept for all systems; of a reply only the cosine is.

    Args:
        model: A sentence encoder: a name, a Hugging Face id or a folder of weights.
        fetch: Whether missing weights may be fetched.
        on_progress: Called with bytes of weights that are fetched or checked, then with the texts read.
    """

    name = NAME
    group = "overlap"
    bounds = (-100.0, 100.0)

    def __init__(self, model: str, *, fetch: bool = True, on_progress: OnProgress = silent) -> None:
        self._model, self._fetch, self._on_progress = model, fetch, on_progress
        self._digest = ""
        self._encoder = Once(self._load)
        self._references: dict[str, NDArray[np.float32]] = {}
        self._cosines: dict[Pair, float] = {}

    def settings(self) -> Mapping[str, Setting]:
        """Return encoder, precision and versions."""
        encoder = self._encoder()
        return {
            "encoder": Path(self._model).name,  # of a folder: a path means nothing on another machine
            "weights": self._digest,
            "dtype": encoder.dtype,
            "tokens": encoder.max_seq_length,
            **{package: version(package) for package in _PACKAGES},
        }

    def missing(self, replies: Replies) -> str:
        """Return why there is no value: a dialogue has no reference."""
        return replies.without_reference()

    def score(self, replies: Replies) -> Score:
        """Score all replies of one system; nothing is loaded for what has no score anyway."""
        if reason := self.missing(replies):
            signature = Signature.of(self.name.lower(), replies, {"encoder": Path(self._model).name})
            return Score(self.name, None, signature, reason)
        return super().score(replies)

    def statistics(self, systems: Sequence[Replies]) -> Statistics:
        """Return the cosine of every reply, x100; 0 if a text is empty.

        Raises:
            OptionError: The systems answer different items.
            WeightsError: The encoder is missing and cannot be fetched, or is broken.
            MissingPackageError: A library is missing.
        """
        check_same_items(systems)
        pairs = [(item.text.strip(), (item.reference or "").strip()) for system in systems for item in system.items]
        self._compute([pair for pair in dict.fromkeys(pairs) if all(pair) and pair not in self._cosines])
        return MeanOfReplies(np.array([100 * self._cosines.get(pair, 0.0) for pair in pairs], np.float64))

    def _compute(self, pairs: Sequence[Pair]) -> None:
        if not pairs:
            return
        encoder = self._encoder()
        references = [text for text in dict.fromkeys(pair[1] for pair in pairs) if text not in self._references]
        texts = sorted(dict.fromkeys(pair[0] for pair in pairs), key=len)
        total = len(references) + len(texts)
        for start in range(0, len(references), _TEXTS):
            batch = references[start : start + _TEXTS]
            self._references |= dict(zip(batch, encoder.encode(batch), strict=True))
            self._report(start + len(batch), total)
        answered_by: dict[str, list[str]] = {}
        for text, reference in pairs:
            answered_by.setdefault(text, []).append(reference)
        for start in range(0, len(texts), _TEXTS):
            batch = texts[start : start + _TEXTS]
            for text, vector in zip(batch, encoder.encode(batch), strict=True):
                for reference in answered_by[text]:
                    cosine = float(np.dot(vector, self._references[reference]))
                    self._cosines[text, reference] = min(1.0, max(-1.0, cosine))
            self._report(len(references) + start + len(batch), total)

    def _report(self, done: int, total: int) -> None:
        self._on_progress(Progress(f"Reading for {NAME}", done, total, "texts"))

    def _load(self) -> "Encoder":
        profile = load_profile(self._model, "encoder")
        weights = resolve(profile, self._on_progress, fetch=self._fetch, option="--embsim-model")
        require("models", NAME, "sentence_transformers", "torch", "transformers")
        from localemp.retrieval.encoder import Encoder

        self._digest = weights.digest
        return Encoder(weights.folder, DTYPE)

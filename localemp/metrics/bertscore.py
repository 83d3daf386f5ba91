"""BERTScore (Zhang et al. 2020): the similarity of a reply and its reference, token by token, in a language model.

The scores are those of bert-score 0.3.13 without idf weights and rescaling: roberta-large, layer 17, in the paper's
tables. Its own code is not used: with transformers 5 it crashes on an empty text, overflows if a tokenizer has no
limit, and no longer puts a space in front of a text for RoBERTa, which changes every score.
"""

import re
import tomllib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from localemp.errors import LocalempError, OptionError
from localemp.metrics.base import MeanOfReplies, Metric, Score, Setting, Signature, Statistics, check_same_items
from localemp.metrics.replies import Replies
from localemp.models import hub
from localemp.models.checksums import digest_of
from localemp.models.profiles import HubSource, Profile, is_shipped, load_profile
from localemp.models.weights import Weights, resolve, tensors_sha256
from localemp.utils.extras import require
from localemp.utils.once import Once
from localemp.utils.progress import OnProgress, Progress, silent

if TYPE_CHECKING:
    from localemp.metrics.contextual import Contextual, Vectors

NAMES = ("P_BERT", "R_BERT", "F_BERT")
BERT_SCORE_VERSION = "0.3.13"
DEFAULT_LAYERS = Path(__file__).with_name("bertscore_layers.toml")

# bert-score knows models by names without an organisation; the hub has moved them since.
_ORGANISATIONS = {
    "albert": "albert",
    "bert": "google-bert",
    "distilbert": "distilbert",
    "distilroberta": "distilbert",
    "roberta": "FacebookAI",
    "t5": "google-t5",
    "xlm": "FacebookAI",
    "xlnet": "xlnet",
}

# Pairs in one comparison.
_PAIRS = 256

Pair = tuple[str, str]


class BertScore:
    """Precision, recall and F1, which share one computation.

    The vectors of references are kept for all systems. Of a reply only the three scores are kept, so that memory does
    not grow with the number of systems, and an interrupted call resumes at the batch where it stopped.

    Args:
        model: A name that bert-score knows ("roberta-large"), one of localemp's encoders, a Hugging Face id, a folder
            of weights, or any of them followed by a layer ("roberta-large:17").
        layer: The layer whose output is compared; by default bert-score's choice for a model of that name, or the last.
        dtype: Precision of the model, "float32" or "bfloat16". With all-minilm-l6-v2 the second moved single replies by
            up to 0.0023 and means by up to 0.0002.
        device: A torch device; by default "cuda" if there is one, otherwise "cpu".
        batch_tokens: Tokens in one forward pass; by default what suits the device.
        fetch: Whether missing weights may be fetched.
        on_progress: Called with bytes of weights that are fetched or checked, then with the texts read.

    Raises:
        OptionError: The model's name and `layer` give different layers.
    """

    def __init__(
        self,
        model: str = "roberta-large",
        layer: int | None = None,
        *,
        dtype: str = "float32",
        device: str | None = None,
        batch_tokens: int | None = None,
        fetch: bool = True,
        on_progress: OnProgress = silent,
    ) -> None:
        self.model, named = split_layer(model)
        if layer is not None and named is not None and layer != named:
            raise OptionError(f"the model {model} says layer {named}, the layer given is {layer}", "give one of them")
        self._layer = named if layer is None else layer
        self._dtype, self._device, self._batch_tokens = dtype, device, batch_tokens
        self._fetch, self._on_progress = fetch, on_progress
        self._references: dict[str, Vectors] = {}
        self._scores: dict[Pair, tuple[float, float, float]] = {}
        self._name = self.model
        self._sha256: str | None = None
        self._contextual = Once(self._load)  # a failure is not retried for the other two scores

    def metrics(self) -> tuple[Metric, ...]:
        """Return P_BERT, R_BERT and F_BERT: means over the replies, from 0 to 1 as in the paper's tables."""
        return tuple(_Part(self, column) for column in range(len(NAMES)))

    def settings(self, *, load: bool = True) -> Mapping[str, Setting]:
        """Return the settings in all three signatures; those that depend on the model are None if it is not loaded.

        Args:
            load: Whether to load the model if it has not been needed yet.
        """
        if load:
            with suppress(LocalempError):
                self._contextual()
        model = self._contextual.made
        return {
            "model": self._name,
            "layer": model.layer if model else self._layer,
            "weights": self._sha256,
            "idf": False,
            "rescaled": False,
            "prefix space": model.prefix_space if model else None,
            "tokens": model.limit if model else None,
            "dtype": self._dtype,
            "bert-score": BERT_SCORE_VERSION,
            **{package: _version(package) for package in ("transformers", "torch")},
        }

    def lacking(self) -> str:
        """Return why the model cannot be had, whatever the replies; empty if it can, and is loaded then."""
        try:
            self._contextual()
        except LocalempError as error:
            return error.message
        return ""

    def values(self, systems: Sequence[Replies]) -> NDArray[np.float64]:
        """Return precision, recall and F1 of every reply of every system, one row each; all 0 if a text is empty.

        Raises:
            OptionError: The systems answer different items, a reference is missing, or the model has no such layer.
            WeightsError: The model is missing and cannot be fetched, or is broken; the hint says what to do.
            LocalempError: A library is missing, or the GPU has too little memory.
        """
        check_same_items(systems)
        pairs = []
        for item in (item for system in systems for item in system.items):
            if item.reference is None:
                raise OptionError(f"{item.id} has no reference reply", "BERTScore compares replies with references")
            # As bert-score does: with a space in front of the text, further spaces would be tokens.
            pairs.append((item.text.strip(), item.reference.strip()))
        self._compute([pair for pair in dict.fromkeys(pairs) if all(pair) and pair not in self._scores])
        nothing = (0.0, 0.0, 0.0)
        found = [self._scores[pair] if all(pair) else nothing for pair in pairs]
        return np.array(found, dtype=np.float64).reshape(-1, len(NAMES))

    def _compute(self, pairs: Sequence[Pair]) -> None:
        if not pairs:
            return
        from localemp.metrics.contextual import match

        references_of = defaultdict(list)
        for text, reference in pairs:
            references_of[text].append(reference)
        texts = list(references_of)
        references = [text for text in dict.fromkeys(pair[1] for pair in pairs) if text not in self._references]
        model = self._contextual()  # first: without it, nothing is read
        done, total = 0, len(references) + len(texts)
        self._report(done, total)
        for batch, vectors in model.embed(references):
            self._references |= {references[row]: each for row, each in zip(batch, vectors, strict=True)}
            self._report(done := done + len(batch), total)
        for batch, vectors in model.embed(texts):
            asked = [
                (each, (texts[row], reference))
                for row, each in zip(batch, vectors, strict=True)
                for reference in references_of[texts[row]]
            ]
            for start in range(0, len(asked), _PAIRS):
                part = asked[start : start + _PAIRS]
                scores = match([each for each, _ in part], [self._references[pair[1]] for _, pair in part])
                self._scores |= {pair: score for (_, pair), score in zip(part, scores, strict=True)}
            self._report(done := done + len(batch), total)

    def _report(self, done: int, total: int) -> None:
        self._on_progress(Progress("Reading for BERTScore", done, total, "texts"))

    def _load(self) -> "Contextual":
        require("models", "BERTScore", "torch", "transformers")
        from localemp.metrics.contextual import Contextual

        profile = profile_of(self.model)
        self._name = _short_name(profile)
        weights = _weights(self.model, profile, self._on_progress, fetch=self._fetch)
        self._sha256 = tensors_sha256(weights)
        layer = _default_layers().get(self._name) if self._layer is None else self._layer
        return Contextual(weights.folder, layer, self._dtype, self._device, self._batch_tokens)


class _Part(Metric):
    decimals = 4
    bounds = (-1.0, 1.0)

    def __init__(self, bertscore: BertScore, column: int) -> None:
        self.name = NAMES[column]
        self._bertscore, self._column = bertscore, column

    def statistics(self, systems: Sequence[Replies]) -> Statistics:
        return MeanOfReplies(self._bertscore.values(systems)[:, self._column])

    def settings(self) -> Mapping[str, Setting]:
        return self._bertscore.settings()

    def missing(self, replies: Replies) -> str:
        return replies.without_reference()

    def score(self, replies: Replies) -> Score:
        reason = self.missing(replies)
        if not reason:
            return super().score(replies)
        # Nothing is fetched and loaded for what has no score anyway.
        signature = Signature.of(self.name.lower(), replies, self._bertscore.settings(load=False))
        return Score(self.name, None, signature, reason)


def split_layer(model: str) -> tuple[str, int | None]:
    """Return a model's name or folder, and the layer after its last colon ("roberta-large:17") or None."""
    found = re.fullmatch(r"(.+):(\d+)", model)
    return (found[1], int(found[2])) if found else (model, None)


def profile_of(model: str) -> Profile:
    """Return the profile of a model, which `split_layer` has freed of its layer; nothing is loaded.

    Raises:
        LocalempError: There is no such model, or it is no encoder.
    """
    organisation = _ORGANISATIONS.get(model.partition("-")[0])
    own = "/" in model or is_shipped(model) or Path(model, "config.json").is_file()
    known_to_bert_score = organisation is not None and not own
    return load_profile(f"{organisation}/{model}" if known_to_bert_score else model, "encoder")


def _short_name(profile: Profile) -> str:
    """The name that bert-score uses; a folder goes by its own name, since a path means nothing on another machine."""
    if profile.path is not None:
        return profile.path.name
    organisation, _, name = profile.name.rpartition("/")
    return name if organisation in _ORGANISATIONS.values() else profile.name


def _weights(model: str, profile: Profile, on_progress: OnProgress, *, fetch: bool) -> Weights:
    # Users of bert-score have the model in the Hugging Face cache under its old name.
    former = hub.find_snapshot(HubSource.model_construct(id=model, revision=None)) if "/" not in model else None
    if former is not None and profile.hub is not None and profile.package is None:
        hashes = hub.verify_snapshot(former, on_progress)
        return Weights(former.folder, "hf-cache", model, former.revision, hashes, digest_of(hashes))
    return resolve(profile, on_progress, fetch=fetch, option="--bertscore-model")


@cache
def _default_layers() -> dict[str, int]:
    return tomllib.loads(DEFAULT_LAYERS.read_text("utf-8"))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

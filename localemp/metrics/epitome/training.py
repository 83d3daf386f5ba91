"""Fits the model on labelled pairs, and measures it on pairs of seekers that it has not seen.

trained = train_epitome("Empathy-Mental-Health/dataset")
print(trained.card.test["ER"].model.macro_f1)
"""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from localemp.errors import DataError, OptionError
from localemp.metrics.contextual import by_length
from localemp.metrics.emotion import macro_f1
from localemp.metrics.epitome.data import (
    DEV,
    LEVELS,
    MECHANISMS,
    SHARES,
    TEST,
    TRAIN,
    LabelledPair,
    LabelledPairs,
    read_labelled_pairs,
)
from localemp.metrics.epitome.network import FrozenEncoder, Network, named_levels
from localemp.metrics.epitome.weights import (
    Card,
    HeldOut,
    Measured,
    Recipe,
    check_out,
    default_folder,
    save_model,
)
from localemp.models.profiles import load_profile
from localemp.models.weights import resolve, tensors_sha256
from localemp.utils.paths import StrPath
from localemp.utils.progress import OnProgress, Progress, silent

ENCODER = "all-minilm-l6-v2"
PUBLISHED = {
    "ER": Measured(accuracy=79.43, macro_f1=74.46),
    "IP": Measured(accuracy=84.04, macro_f1=62.60),
    "EX": Measured(accuracy=92.61, macro_f1=72.58),
}
"""The original's bi-encoder RoBERTa on its Reddit part: Sharma et al. 2020, Table 4, quoted from memory."""

_CHUNK = 16  # batches whose pairs are sorted by length together, so that little is padded


@dataclass(frozen=True, slots=True)
class Trained:
    """A fitted model.

    Attributes:
        folder: Where it was written.
        card: What it is, and its results on dev and test.
    """

    folder: Path
    card: Card


def train_epitome(
    data: StrPath,
    out: StrPath | None = None,
    *,
    encoder: str = ENCODER,
    seed: int = 0,
    recipe: Recipe | None = None,
    on_progress: OnProgress = silent,
) -> Trained:
    """Fit the model on the pairs of train, measure it on dev and test, and write it.

    The same data, encoder, seed, machine and versions give the same model. Nothing is written before the end.

    Args:
        data: Folder of the three CSV files.
        out: Folder of the model; by default in localemp's cache, where `score` looks for it.
        encoder: A sentence encoder that is a BERT: a name, a Hugging Face id or a folder.
        seed: Of the first weights, the order of pairs and dropout.
        recipe: Other settings than the default; its seed counts.
        on_progress: Called with bytes of the encoder that are fetched or checked, texts read and steps made.

    Raises:
        DataError: The data are missing, invalid or too few.
        OptionError: `out` holds other files, or the seed is out of range.
        WeightsError: The encoder is missing or no BERT, or `out` cannot be written.
    """
    began = time.perf_counter()
    recipe = recipe or Recipe(seed=seed)
    if not 0 <= recipe.seed < 2**63:  # what torch takes
        raise OptionError(f"--seed {recipe.seed}: out of range", "give from 0 to 2**63 - 1")
    folder = default_folder() if out is None else Path(out)
    check_out(folder)
    pairs = read_labelled_pairs(Path(data))
    if few := [part for part, positions in pairs.parts.items() if not positions]:
        raise DataError(data, f"no pair of {len(pairs.pairs)} is in {few[0]}", "give the whole data set")
    base = resolve(load_profile(encoder, "encoder"), on_progress, option="--encoder")
    texts = _Texts(pairs, FrozenEncoder(base.folder, recipe.max_tokens), on_progress)
    network = _fit(texts, recipe, on_progress)
    results = {part: _held_out(texts, network, part) for part in (DEV, TEST)}
    card = {
        "encoder": encoder,
        "encoder_sha256": tensors_sha256(base),
        "data_sha256": pairs.sha256,
        "split": "by SHA-256 of seeker_post, " + ":".join(f"{100 * share:g}" for share in SHARES.values()),
        "pairs": {part: len(positions) for part, positions in pairs.parts.items()},
        "recipe": recipe,
        "versions": {name: version(name) for name in ("localemp", "torch", "transformers")},
        "seconds": round(time.perf_counter() - began, 1),
        **results,
    }
    return Trained(folder, save_model(folder, network, card))


class _Texts:
    """The pairs as the network reads them; what the frozen layers say of them is computed once."""

    def __init__(self, pairs: LabelledPairs, encoder: FrozenEncoder, on_progress: OnProgress) -> None:
        self.encoder, self.parts = encoder, pairs.parts
        self.levels = torch.tensor([pair.levels for pair in pairs.pairs])
        self._done, self._on_progress = 0, on_progress
        self.seekers = encoder.seekers([pair.seeker for pair in pairs.pairs], self._read)
        ids, places = encoder.tokens([pair.response for pair in pairs.pairs])
        self.lengths = [len(each) for each in ids]
        self.rationales = [_marked(*each) for each in zip(pairs.pairs, places, strict=True)]
        self.states: list[Tensor] = [torch.empty(0)] * len(ids)
        for batch in by_length(ids):
            for position, states in zip(batch, encoder.states([ids[each] for each in batch]), strict=True):
                self.states[position] = states
            self._read(len(batch))

    def _read(self, texts: int) -> None:
        self._done += texts
        self._on_progress(Progress("Reading for EPITOME", self._done, 2 * len(self.levels), "texts"))

    def batch(self, positions: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the states, the mask and the marked rationales of some responses, padded to the longest."""
        shape = len(positions), max(self.lengths[position] for position in positions)
        states, mask = torch.zeros(*shape, self.encoder.dim), torch.zeros(*shape, dtype=torch.bool)
        rationales = torch.zeros(*shape, len(MECHANISMS))
        for row, position in enumerate(positions):
            length = self.lengths[position]
            states[row, :length], mask[row, :length] = self.states[position], True
            rationales[row, :length] = self.rationales[position]
        return states, mask, rationales


def _marked(pair: LabelledPair, places: Sequence[tuple[int, int]]) -> Tensor:
    """Return which tokens of a response are in a rationale: shape (tokens, mechanisms), 1 or 0."""
    marked = torch.zeros(len(places), len(MECHANISMS))
    for column, rationales in enumerate(pair.rationales):
        for text in rationales:
            if (start := pair.response.find(text)) < 0:
                continue  # a few were written down with other words
            end = start + len(text)
            for row, (first, last) in enumerate(places):
                if first < last and first < end and last > start:
                    marked[row, column] = 1
    return marked


def _fit(texts: _Texts, recipe: Recipe, on_progress: OnProgress) -> Network:
    train, order = texts.parts[TRAIN], random.Random(recipe.seed)
    steps = recipe.epochs * -(-len(train) // recipe.batch_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = Network(texts.encoder, recipe.dropout)
        network.train()
        fitted = [*network.attention.parameters(), *network.heads.parameters()]
        groups = [
            {"params": list(network.layers.parameters()), "lr": recipe.layer_rate},
            {"params": fitted, "lr": recipe.head_rate},
        ]
        optimizer = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(10 * (step + 1), steps - step) / steps)
        balance = _balance(texts.levels[train], recipe.balance)
        done = 0
        for _ in range(recipe.epochs):
            for batch in _batches(train, texts.lengths, recipe.batch_size, order):
                optimizer.zero_grad()
                _loss(network, texts, batch, balance, recipe.rationales).backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                rate.step()
                on_progress(Progress("Fitting EPITOME", done := done + 1, steps, "steps"))
    network.eval()
    return network


def _balance(levels: Tensor, power: float) -> Tensor:
    """Return the weight of each level of each mechanism: 1 if all are as frequent."""
    counts = torch.stack([torch.bincount(column, minlength=len(LEVELS)) for column in levels.T]).clamp(min=1)
    return (counts.sum(dim=1, keepdim=True) / counts / len(LEVELS)) ** power


def _batches(positions: Sequence[int], lengths: Sequence[int], size: int, order: random.Random) -> Iterator[list[int]]:
    """Yield batches in random order, each of responses of about the same length."""
    mixed = list(positions)
    order.shuffle(mixed)
    found: list[list[int]] = []
    for start in range(0, len(mixed), size * _CHUNK):
        chunk = sorted(mixed[start : start + size * _CHUNK], key=lambda position: lengths[position])
        found += [chunk[first : first + size] for first in range(0, len(chunk), size)]
    order.shuffle(found)
    yield from found


def _loss(network: Network, texts: _Texts, batch: Sequence[int], balance: Tensor, rationales: float) -> Tensor:
    states, mask, marked = texts.batch(batch)
    answers = network(states, mask, texts.seekers[batch])
    levels = texts.levels[batch]
    losses = [
        functional.cross_entropy(answers.levels[:, column], levels[:, column], weight=balance[column])
        for column in range(len(MECHANISMS))
    ]
    of_tokens = functional.binary_cross_entropy_with_logits(answers.rationales[mask], marked[mask], reduction="sum")
    return torch.stack(losses).sum() + rationales * of_tokens / mask.sum()


def _held_out(texts: _Texts, network: Network, part: str) -> dict[str, HeldOut]:
    positions = texts.parts[part]
    named = _named(texts, network, positions)
    found = {}
    for column, mechanism in enumerate(MECHANISMS):
        true = texts.levels[positions][:, column].numpy()
        frequent = int(torch.bincount(texts.levels[texts.parts[TRAIN]][:, column]).argmax())
        always = np.full_like(true, frequent)
        found[mechanism] = HeldOut(
            pairs=len(positions), model=_measured(true, named[:, column]), majority=_measured(true, always)
        )
    return found


def _named(texts: _Texts, network: Network, positions: Sequence[int]) -> NDArray[np.intp]:
    """Return the level that the model names for each pair and mechanism."""
    named = np.zeros((len(positions), len(MECHANISMS)), dtype=np.intp)
    for batch in by_length([range(texts.lengths[position]) for position in positions]):
        chosen = [positions[row] for row in batch]
        named[batch] = named_levels(network, texts.batch(chosen)[0], texts.seekers[chosen])
    return named


def _measured(true: NDArray[np.intp], named: NDArray[np.intp]) -> Measured:
    accuracy = 100 * float((true == named).mean())
    return Measured(accuracy=round(accuracy, 2), macro_f1=round(100 * macro_f1(true, named), 2))

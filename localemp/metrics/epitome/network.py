"""The model: two towers on a sentence encoder, one for the seeker's post and one for the response, and three heads.

As in the original, the seeker's tower stays as it is and the response's is fitted. Of that, the lower layers stay, too:
their output is computed once, and fitting takes minutes without a GPU. All three mechanisms share the towers; each has
its own attention over the response's tokens, which is fitted to the rationales as well.

Everything is computed on the CPU in float32, so that levels are the same with and without a GPU.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from localemp.errors import WeightsError
from localemp.metrics.contextual import by_length
from localemp.metrics.epitome.data import LEVELS, MECHANISMS
from localemp.models.data_only import check_data_only
from localemp.utils.plain_errors import in_words
from localemp.utils.torch import quiet_transformers

HIDDEN = 128  # units in the middle of a head


class FrozenEncoder:
    """The transformer of a sentence encoder, which is not fitted.

    Args:
        folder: The encoder as transformers saves it.
        max_tokens: The most tokens of a text that are read, special ones included.

    Attributes:
        dim: Dimension of a token's state.
        frozen: How many of the layers both towers share: the lower two thirds.
        max_tokens: The most tokens of a text that are read.

    Raises:
        WeightsError: The folder holds no complete model and tokenizer, or one that is no BERT.
    """

    def __init__(self, folder: Path, max_tokens: int) -> None:
        hint = "give a sentence encoder that is a BERT, such as all-minilm-l6-v2"
        check_data_only(folder)
        try:
            local = {"local_files_only": True, "trust_remote_code": False}
            config = AutoConfig.from_pretrained(folder, **local)
            if config.model_type != "bert":
                raise WeightsError(f"the encoder in {folder} is a {config.model_type}", hint)
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, **local)
            with quiet_transformers():
                self._model: Any = AutoModel.from_pretrained(folder, dtype=torch.float32, **local).eval()
        except WeightsError:
            raise
        except Exception as error:  # broken files end in whatever the libraries happen to do with them
            reason = in_words(error)
            raise WeightsError(f"cannot load the encoder in {folder}: {reason}", hint) from error
        self.dim: int = config.hidden_size
        self.max_tokens = min(max_tokens, config.max_position_embeddings)
        self._layers: Any = self._model.encoder.layer
        self.frozen = 2 * len(self._layers) // 3

    def upper_layers(self) -> nn.ModuleList:
        """Return a copy of the layers above the shared ones, for the response's tower."""
        return copy.deepcopy(self._layers[self.frozen :])

    def tokens(self, texts: Sequence[str]) -> tuple[list[list[int]], list[list[tuple[int, int]]]]:
        """Return the tokens of each text, and where each token lies in it (special ones: 0, 0)."""
        if not texts:
            return [], []
        read = self._tokenizer(
            list(texts), truncation=True, max_length=self.max_tokens, return_offsets_mapping=True, verbose=False
        )
        return read["input_ids"], read["offset_mapping"]

    def states(self, ids: Sequence[Sequence[int]], *, whole: bool = False) -> Tensor:
        """Return the tokens' states in texts of one length.

        Args:
            ids: Shape (texts, tokens).
            whole: Whether after the last layer; by default after the last shared one.

        Returns:
            Shape (texts, tokens, dim).
        """
        layers = self._layers if whole else self._layers[: self.frozen]
        with torch.no_grad():
            return through(layers, self._model.embeddings(input_ids=torch.tensor(ids)))

    def seekers(self, texts: Sequence[str], read: Callable[[int], object] = int) -> Tensor:
        """Return the seeker's vector of each text: the mean state after the last layer.

        Args:
            texts: Seekers' posts.
            read: Called with the number of texts of each batch.

        Returns:
            Shape (texts, dim).
        """
        ids, _ = self.tokens(texts)
        vectors = torch.zeros(len(texts), self.dim)
        for batch in by_length(ids):
            vectors[batch] = self.states([ids[position] for position in batch], whole=True).mean(dim=1)
            read(len(batch))
        return vectors


class Answers(NamedTuple):
    """What the network says of a batch.

    Attributes:
        levels: Logits of the levels, shape (pairs, mechanisms, levels).
        rationales: Logits of each token being part of a rationale, shape (pairs, tokens, mechanisms).
    """

    levels: Tensor
    rationales: Tensor


class Network(nn.Module):  # type: ignore[misc]
    """What is fitted: the upper layers of the response's tower, the attention, and the heads.

    A head reads the response's tokens as its attention weighs them, their plain mean, the highest attention logit (how
    clearly a token is part of a rationale), and the seeker's vector.

    Args:
        encoder: The shared layers; the upper ones are copied from it.
        dropout: In the heads.
    """

    def __init__(self, encoder: FrozenEncoder, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = encoder.upper_layers()
        self.attention = nn.Linear(encoder.dim, len(MECHANISMS))
        self.heads = nn.ModuleList(_head(3 * encoder.dim + 1, dropout) for _ in MECHANISMS)

    def forward(self, states: Tensor, mask: Tensor, seekers: Tensor) -> Answers:
        """Classify a batch.

        Args:
            states: Of the responses' tokens after the shared layers, shape (pairs, tokens, dim).
            mask: Which tokens are text and which padding, shape (pairs, tokens).
            seekers: The seekers' vectors, shape (pairs, dim).
        """
        padded = None if mask.all() else torch.where(mask, 0.0, -1e9)[:, None, None, :]
        states = through(self.layers, states, padded)
        rationales = self.attention(states)
        logits = rationales.masked_fill(~mask[:, :, None], -1e9)
        attended = torch.einsum("ptm,ptd->pmd", logits.softmax(dim=1), states)
        mean = (states * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        highest = logits.amax(dim=1)
        levels = [
            head(torch.cat([attended[:, place], mean, highest[:, place, None], seekers], dim=1))
            for place, head in enumerate(self.heads)
        ]
        return Answers(torch.stack(levels, dim=1), rationales)


class Classifier:
    """A fitted network. The vector of a seeker is computed once, however many responses there are."""

    def __init__(self, encoder: FrozenEncoder, network: Network) -> None:
        self._encoder, self._network = encoder, network
        self._network.eval()
        self._seekers: dict[str, Tensor] = {}

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[list[int], list[tuple[int, ...]]]]:
        """Yield the positions of pairs of seeker's post and response, and their levels, batch by batch."""
        seekers = [text for text in dict.fromkeys(seeker for seeker, _ in pairs) if text not in self._seekers]
        self._seekers |= dict(zip(seekers, self._encoder.seekers(seekers), strict=True))
        ids, _ = self._encoder.tokens([response for _, response in pairs])
        for batch in by_length(ids):
            states = self._encoder.states([ids[position] for position in batch])
            theirs = torch.stack([self._seekers[pairs[position][0]] for position in batch])
            yield batch, named_levels(self._network, states, theirs)


def named_levels(network: Network, states: Tensor, seekers: Tensor) -> list[tuple[int, ...]]:
    """Return the most probable level of each mechanism in responses of one length."""
    with torch.no_grad():
        answers = network(states, torch.ones(states.shape[:2], dtype=torch.bool), seekers)
    return [tuple(levels) for levels in answers.levels.argmax(dim=-1).tolist()]


def through(layers: Any, states: Tensor, padded: Tensor | None = None) -> Tensor:
    """Return the states after some layers; `padded` is added to the attention's logits."""
    for layer in layers:
        states = layer(states, padded)
    return states


def _head(inputs: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout(dropout), nn.Linear(inputs, HIDDEN), nn.GELU(), nn.Dropout(dropout), nn.Linear(HIDDEN, len(LEVELS))
    )

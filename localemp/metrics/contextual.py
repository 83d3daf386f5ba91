"""Contextual token vectors at one layer of a transformer, which BERTScore compares.

A batch holds texts of one length in tokens, so nothing is padded: no work is wasted on padding, attention needs no
mask, and the vectors of a text do not depend on the other texts in its batch.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoModel, AutoTokenizer

from localemp.errors import LocalempError, OptionError, WeightsError
from localemp.utils.json_reader import load_json
from localemp.utils.plain_errors import in_words
from localemp.utils.torch import pick_device, quiet_transformers

DTYPES = ("float32", "bfloat16")

# Tokens in one forward pass. A CPU is fastest when a batch stays in its cache, a GPU when it is full.
CPU_TOKENS, _GPU_TOKENS = 1_024, 32_768

# Where models keep their layers, as attribute paths.
_STACKS = ("encoder.layer", "layer", "transformer.layer", "encoder.layers", "layers", "encoder.block", "block")

# For these bert-score asks for a space in front of the text, which transformers 5 ignores at that place.
_SPACED_TOKENIZERS = ("RobertaTokenizer", "GPT2Tokenizer")
_SPACED_MODELS = ("roberta", "roberta-prelayernorm", "data2vec-text", "ibert", "gpt2")

# Used if neither tokenizer nor model has a limit.
_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Vectors:
    """A text's tokens.

    Attributes:
        tokens: Shape (tokens, dim), each row of unit length, in float32.
        weights: Shape (tokens,), summing to one: equal for all tokens except the special ones around a text, which have
            zero. All zero if there are no other tokens.
    """

    tokens: Any
    weights: Any


class Contextual:
    """A transformer, cut off after one layer.

    Args:
        folder: The model as transformers saves it.
        layer: The layer whose output is used, counted from 1; 0 is the input of the first layer, None the last layer.
        dtype: Precision of the transformer, "float32" or "bfloat16".
        device: A torch device; by default "cuda" if there is one, otherwise "cpu".
        batch_tokens: Tokens in one forward pass; by default what suits the device. A longer text is alone in its batch.

    Attributes:
        layer: The layer whose output is used.
        prefix_space: Whether every text gets a space in front.
        limit: The most tokens of a text that are used, special ones included.

    Raises:
        OptionError: A layer, dtype or device that does not exist, or a model whose layers cannot be found.
        WeightsError: The folder holds no complete model and tokenizer.
    """

    def __init__(
        self,
        folder: Path,
        layer: int | None = None,
        dtype: str = "float32",
        device: str | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        if dtype not in DTYPES:
            raise OptionError(f"BERTScore's dtype {dtype!r} does not exist", f"known: {', '.join(DTYPES)}")
        self._device = pick_device(device)
        self._batch_tokens = batch_tokens or (CPU_TOKENS if self._device.type == "cpu" else _GPU_TOKENS)
        with _weights_error(folder), _silent_transformers():
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            self.prefix_space = _wants_space(folder, config)
            space = {"add_prefix_space": True} if self.prefix_space else {}
            self._tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, **space
            )
            model, found = AutoModel.from_pretrained(
                folder,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        # transformers would fill these with random numbers; the pooler is not used.
        if missing := sorted(name for name in found["missing_keys"] if not name.startswith("pooler")):
            raise WeightsError(f"the weights in {folder} lack {len(missing)} tensors, such as {missing[0]}")
        model, self.layer = _cut(model, layer, folder)
        self._model = model.to(self._device, getattr(torch, dtype)).eval()
        self.limit = _limit(self._tokenizer, config)
        self._around = {self._tokenizer.cls_token_id, self._tokenizer.sep_token_id}

    def embed(self, texts: Sequence[str]) -> Iterator[tuple[list[int], list[Vectors]]]:
        """Embed texts, the longest first.

        Yields:
            For every batch the positions of its texts, and their vectors on the device.

        Raises:
            LocalempError: The GPU has too little memory.
        """
        for batch, ids in self._batches(texts):
            yield batch, self._embed(ids)

    def _batches(self, texts: Sequence[str]) -> Iterator[tuple[list[int], list[list[int]]]]:
        """Batches of texts with the same length in tokens."""
        if not texts:
            return
        ids: list[list[int]] = self._tokenizer(list(texts), truncation=True, max_length=self.limit)["input_ids"]
        for batch in by_length(ids, self._batch_tokens):
            yield batch, [ids[position] for position in batch]

    def _embed(self, ids: list[list[int]]) -> list[Vectors]:
        counted = torch.tensor([[token not in self._around for token in each] for each in ids], dtype=torch.float32)
        weights = (counted / counted.sum(1, keepdim=True).clamp(min=1)).to(self._device)
        try:
            with torch.no_grad():
                vectors = self._model(torch.tensor(ids, device=self._device))[0].float()
        except torch.OutOfMemoryError as error:
            hint = "free some, or hide the GPU (CUDA_VISIBLE_DEVICES=) to use the CPU"
            raise LocalempError("BERTScore's model does not fit the GPU's memory", hint) from error
        vectors /= vectors.norm(dim=-1, keepdim=True)
        return [Vectors(*row) for row in zip(vectors, weights, strict=True)]


def by_length(ids: Sequence[Sequence[int]], batch_tokens: int = CPU_TOKENS) -> Iterator[list[int]]:
    """Yield the positions of texts in batches of one length, the longest first.

    Args:
        ids: The tokens of each text.
        batch_tokens: The most tokens of a batch; a longer text is alone in its batch.
    """
    of_length: dict[int, list[int]] = defaultdict(list)
    for position, tokens in enumerate(ids):
        of_length[len(tokens)].append(position)
    for length in sorted(of_length, reverse=True):
        size = max(1, batch_tokens // max(1, length))
        for start in range(0, len(of_length[length]), size):
            yield of_length[length][start : start + size]


def match(candidates: Sequence[Vectors], references: Sequence[Vectors]) -> list[tuple[float, float, float]]:
    """Match candidates of equal length greedily (Zhang et al. 2020, section 3, without importance weights).

    Every token is matched with the most similar token of the other text, special ones included. A similarity below 0
    counts as 0: bert-score, which treats padding as tokens, does so for all but the longest text of a batch.

    Returns:
        Precision, recall and F1 of each pair; all 0 if a text has only special tokens.
    """
    theirs = torch.stack([each.tokens for each in candidates])
    weights = torch.stack([each.weights for each in candidates])
    ours = pad_sequence([each.tokens for each in references], batch_first=True)
    our_weights = pad_sequence([each.weights for each in references], batch_first=True)
    lengths = torch.tensor([len(each.tokens) for each in references], device=ours.device)
    padding = torch.arange(ours.shape[1], device=ours.device) >= lengths[:, None]
    similarity = (theirs @ ours.mT).masked_fill_(padding[:, None, :], 0.0).clamp_(min=0.0)
    precision = (similarity.amax(2) * weights).sum(1)
    recall = (similarity.amax(1) * our_weights).sum(1)
    f1 = 2 * precision * recall / (precision + recall)
    empty = (weights.sum(1) == 0) | (our_weights.sum(1) == 0)
    found = torch.stack([precision, recall, f1], dim=1).masked_fill(empty[:, None], 0.0).nan_to_num(0.0)
    return [(p, r, f) for p, r, f in found.tolist()]


def _cut(model: Any, layer: int | None, folder: Path) -> tuple[Any, int]:
    """The model without the layers after one, and that layer's number."""
    if hasattr(model, "encoder") and hasattr(model, "decoder"):
        model = model.encoder
    albert = hasattr(getattr(model, "encoder", None), "albert_layer_groups")
    stack: Any = None if albert else next(filter(None, (_at(model, path) for path in _STACKS)), None)
    if stack is None and not albert:
        raise OptionError(f"BERTScore does not know where a {type(model).__name__} has its layers", "use another model")
    layers = model.encoder.config.num_hidden_layers if albert else len(stack)
    if layer is None:
        layer = layers
    if not 0 <= layer <= layers:
        raise OptionError(f"{folder.name} has {layers} layers, so there is no layer {layer}", "write MODEL:LAYER")
    if albert:  # one layer, used many times
        model.encoder.config.num_hidden_layers = layer
    else:
        del stack[layer:]
    if hasattr(model, "pooler"):
        model.pooler = None
    return model, layer


def _at(model: Any, path: str) -> Any:
    for name in path.split("."):
        model = getattr(model, name, None)
    return model if isinstance(model, torch.nn.ModuleList) else None


def _wants_space(folder: Path, config: Any) -> bool:
    """Whether bert-score, which looks at the tokenizer's class, would put a space in front of texts."""
    path = folder / "tokenizer_config.json"
    settings = load_json(path) if path.is_file() else {}
    named = settings.get("tokenizer_class") if isinstance(settings, dict) else None
    named = named or getattr(config, "tokenizer_class", None)
    return str(named).removesuffix("Fast") in _SPACED_TOKENIZERS if named else config.model_type in _SPACED_MODELS


def _limit(tokenizer: Any, config: Any) -> int:
    """The most tokens that both tokenizer and model accept."""
    positions = getattr(config, "max_position_embeddings", None) or _TOKENS
    # Positions of a RoBERTa begin behind the number of its padding token.
    if config.model_type in (*_SPACED_MODELS, "xlm-roberta", "camembert", "longformer") and config.model_type != "gpt2":
        positions -= config.pad_token_id + 1
    return int(min(tokenizer.model_max_length, positions))


@contextmanager
def _weights_error(folder: Path) -> Iterator[None]:
    """Turn an error of transformers about a folder that is not a model into ours."""
    try:
        yield
    except Exception as error:  # broken files end in whatever the libraries happen to do with them
        reason = in_words(error)
        hint = "give a folder with config.json, weights and tokenizer, a Hugging Face id, or a known name"
        raise WeightsError(f"no model for BERTScore in {folder}: {reason}", hint) from error


@contextmanager
def _silent_transformers() -> Iterator[None]:
    """Hide bars and warnings: BERTScore needs neither the missing head nor the pooler."""
    before = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity(transformers.utils.logging.CRITICAL)
    try:
        with quiet_transformers():
            yield
    finally:
        transformers.utils.logging.set_verbosity(before)

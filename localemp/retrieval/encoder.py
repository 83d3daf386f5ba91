"""The sentence encoder: embeds texts as unit vectors (section 3.3.1, Eq. 1 and 2), with sentence-transformers."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import sentence_transformers
import torch
import transformers
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from localemp.errors import OptionError, WeightsError
from localemp.models.data_only import check_data_only
from localemp.utils.plain_errors import in_words
from localemp.utils.timing import count_seconds
from localemp.utils.torch import pick_device, quiet_transformers
from localemp.utils.truncation import beginning_in_sight, cut_beginning, end_in_sight, sentence_starts

DTYPES = ("auto", "bfloat16", "float32")

# Texts in one forward pass, sorted by tokens beforehand: sentence-transformers itself sorts by characters, and computes
# 8 % more padding. A CPU is fastest if a batch fits its cache.
_CPU_BATCH, _GPU_BATCH = 8, 128


class Encoder:
    """A sentence-transformers model, at the fastest precision of this machine.

    Pooling and normalization always use float32. `encode` sees only the beginning of texts longer than
    `max_seq_length` tokens (384 for all-mpnet-base-v2, including special ones). If the end matters more, `newest` tells
    how much to cut off beforehand.

    Args:
        folder: A model saved by sentence-transformers.
        dtype: Precision of the transformer: "bfloat16", "float32", or "auto" for bfloat16 on GPUs and on CPUs with
            native support (AVX-512 BF16, AMX), else float32.
        device: torch device; by default "cuda" if available, else "cpu".

    Attributes:
        dim: Dimension of the vectors.
        dtype: The chosen precision, "bfloat16" or "float32".
        max_seq_length: Longest text that is fully seen, in tokens.

    Raises:
        OptionError: The dtype is unknown, or torch does not have the device.
        WeightsError: The folder has no complete sentence-transformers model, or one with custom code.
    """

    def __init__(self, folder: Path, dtype: str = "auto", device: str | None = None) -> None:
        if dtype not in DTYPES:
            raise OptionError(f"unknown encoder dtype {dtype!r}", f"known: {', '.join(DTYPES)}")
        self._device = pick_device(device)
        if dtype == "auto":
            dtype = "bfloat16" if _computes_bfloat16(self._device) else "float32"
        self.dtype: str = dtype
        self._model = _load(folder, getattr(torch, dtype), self._device)
        self._model[0].register_forward_hook(_to_float32)
        self._tokenizer: Any = self._model.tokenizer
        self.dim: int = self._model.get_embedding_dimension()
        self.max_seq_length: int = self._model.max_seq_length
        # Truncation is state of the tokenizer, which two threads would overwrite.
        self._lock = Lock()

    @property
    def key(self) -> Mapping[str, str]:
        """Everything besides weights and text that determines a vector."""
        return {"dtype": self.dtype, "dim": str(self.dim), "max_seq_length": str(self.max_seq_length)}

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of the libraries that compute the vectors, and the type of device."""
        return {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "sentence_transformers": sentence_transformers.__version__,
            "device": self._device.type,
        }

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Return the number of tokens that the model sees, including special ones and without what is cut off."""
        seen = [beginning_in_sight(text, self.max_seq_length) for text in texts]
        return sum(map(len, self._tokenize(seen, truncation=True, max_length=self.max_seq_length)["input_ids"]))

    def too_long(self, texts: Sequence[str]) -> list[bool]:
        """Return for each text whether it has more tokens than the model sees, including special ones."""
        room = self.max_seq_length - self._tokenizer.num_special_tokens_to_add()
        found = [len(end_in_sight(text, room)) < len(text) for text in texts]
        # An ASCII text never has more tokens than characters.
        asked = [row for row, text in enumerate(texts) if not found[row] and (len(text) > room or not text.isascii())]
        for row, length in zip(asked, self._lengths([texts[row] for row in asked]), strict=True):
            found[row] = length > self.max_seq_length
        return found

    def newest(self, text: str, starts: Callable[[str], Sequence[int]] = sentence_starts) -> int:
        """Return how many characters to cut from the beginning of a text, so that its end is seen.

        Args:
            text: The text, such as a dialogue with the newest turn at its end.
            starts: Returns where pieces begin that are kept or cut as a whole, without the first; by default sentences.
        """

        def excess(end: str) -> int:
            return self._lengths([end])[0] - self.max_seq_length

        return cut_beginning(text, self.max_seq_length, self._tokenize, excess, starts)

    def ends(self, texts: Sequence[str]) -> list[str]:
        """Return the texts, too long ones without their beginning, so that their end is seen."""
        longer = self.too_long(texts)
        return [text[self.newest(text) :] if cut else text for text, cut in zip(texts, longer, strict=True)]

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the embeddings of texts.

        Returns:
            Shape (len(texts), dim); rows are unit vectors, so that a dot product is a cosine similarity (Eq. 3).
        """
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        size = _CPU_BATCH if self._device.type == "cpu" else _GPU_BATCH
        seen = [beginning_in_sight(text, self.max_seq_length) for text in texts]
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        with count_seconds("encoder"):
            lengths = self._lengths(seen) if len(texts) > size else [0] * len(texts)
            order = np.argsort(-np.minimum(lengths, self.max_seq_length), kind="stable")
            with self._lock:
                for start in range(0, len(order), size):
                    rows = order[start : start + size]
                    vectors[rows] = self._model.encode(
                        [seen[row] for row in rows],
                        batch_size=size,
                        normalize_embeddings=True,
                        show_progress_bar=False,
                    )
        return vectors

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the length of each text in tokens, including special ones, without truncation."""
        if not texts:
            return []
        return list(map(len, self._tokenize(list(texts), truncation=False, padding=False, verbose=False)["input_ids"]))

    def _tokenize(self, texts: str | list[str], **options: Any) -> Any:
        with self._lock:
            return self._tokenizer(texts, **options)


def _to_float32(module: Any, arguments: Any, features: dict[str, Any]) -> dict[str, Any]:
    """Convert the transformer's output: the 8 bits of bfloat16 are too few for pooling and normalization."""
    return {**features, "token_embeddings": features["token_embeddings"].float()}


def _computes_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Private names; torch has no public ones. "Supported" alone is not enough: oneDNN emulates bfloat16 on older CPUs.
    asks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return device.type == "cpu" and any(ask() for ask in asks if ask is not None)


def _load(folder: Path, dtype: torch.dtype, device: torch.device) -> SentenceTransformer:
    hint = "run `localemp models pull all-mpnet-base-v2`, or give a folder saved by sentence-transformers"
    # Without this file, sentence-transformers would choose a pooling itself.
    if not (folder / "modules.json").is_file():
        raise WeightsError(f"not a sentence encoder: {folder} has no modules.json", hint)
    check_data_only(folder)
    try:
        with quiet_transformers():
            model = SentenceTransformer(
                str(folder),
                device=str(device),
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"dtype": dtype},
            ).eval()
        _check_sizes(model)
        model.tokenizer.truncation_side = "right"  # whatever the tokenizer's configuration
        return model
    # Invalid configurations can raise anything.
    except Exception as error:
        reason = in_words(error)
        raise WeightsError(f"cannot load the sentence encoder in {folder}: {reason}", hint) from error


def _check_sizes(model: SentenceTransformer) -> None:
    """Check that tokenizer and model match; a maximum length beyond the model's positions is corrected."""
    dim, tokens, config = model.get_embedding_dimension(), model.max_seq_length, model[0].auto_model.config
    if not isinstance(dim, int) or not isinstance(tokens, int) or tokens < 1:
        raise ValueError("no dimension or no maximum length")
    if len(model.tokenizer) > (rows := model[0].auto_model.get_input_embeddings().num_embeddings):
        raise ValueError(f"the tokenizer has {len(model.tokenizer)} tokens, the weights only {rows}")
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and 0 < positions < tokens:
        model.max_seq_length = positions

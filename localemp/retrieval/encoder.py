"""The sentence encoder: texts to vectors of length one (section 3.3.1, Eq. 1 and 2). Owns sentence-transformers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sentence_transformers
import torch
import transformers
from numpy.typing import NDArray
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer

from localemp.device import pick_device
from localemp.errors import OptionError, WeightsError
from localemp.quiet import quiet_transformers
from localemp.spent import spending

DTYPES = ("auto", "bfloat16", "float32")

# Texts in one forward pass, which are sorted by length beforehand. A CPU is fastest when a batch stays in its cache.
_CPU_BATCH, _GPU_BATCH = 8, 128


class Encoder:
    """A sentence-transformers model, at the precision that is fast on this machine.

    What comes after the transformer (pooling, normalising) is always done in float32. A text that is longer than
    `max_seq_length` tokens loses its end: all-mpnet-base-v2 sees the first 384 tokens, special ones included.

    Args:
        folder: The model as sentence-transformers saves it.
        dtype: Precision of the transformer: "bfloat16", "float32", or "auto": bfloat16 on GPUs and on CPUs that compute
            in it natively (AVX-512 BF16, AMX), else float32.
        device: As torch names it; by default "cuda" where there is one, else "cpu".

    Attributes:
        dim: Length of a vector.
        dtype: The precision that was chosen, "bfloat16" or "float32".
        max_seq_length: Tokens of a text that are seen.

    Raises:
        OptionError: An unknown dtype, or a device that torch does not have.
        WeightsError: The folder holds no complete sentence-transformers model.
    """

    def __init__(self, folder: Path, dtype: str = "auto", device: str | None = None) -> None:
        if dtype not in DTYPES:
            raise OptionError(f"encoder dtype {dtype!r} does not exist", f"known: {', '.join(DTYPES)}")
        self._device = pick_device(device)
        if dtype == "auto":
            dtype = "bfloat16" if _computes_bfloat16(self._device) else "float32"
        self.dtype: str = dtype
        self._model = _load(folder, getattr(torch, dtype), self._device)
        self._model[0].register_forward_hook(_to_float32)
        self.dim: int = self._model.get_embedding_dimension()
        self.max_seq_length: int = self._model.max_seq_length

    @property
    def key(self) -> Mapping[str, str]:
        """What, beside the weights and the text, decides what a vector is."""
        return {"dtype": self.dtype, "dim": str(self.dim), "max_seq_length": str(self.max_seq_length)}

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of the libraries that compute the vectors, and on what kind of device."""
        return {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "sentence_transformers": sentence_transformers.__version__,
            "device": self._device.type,
        }

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Tokens of texts as the model sees them: special ones included, without what is cut off."""
        found = self._model.tokenizer(list(texts), truncation=True, max_length=self.max_seq_length)["input_ids"]
        return sum(map(len, found))

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts.

        Returns:
            Shape (len(texts), dim), each row of length one, so that a dot product is a cosine (Eq. 3).
        """
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        size = _CPU_BATCH if self._device.type == "cpu" else _GPU_BATCH
        with spending("encoder"):
            vectors: NDArray[np.float32] = self._model.encode(
                list(texts), batch_size=size, normalize_embeddings=True, show_progress_bar=False
            )
        return vectors


def _to_float32(module: Any, arguments: Any, features: dict[str, Any]) -> dict[str, Any]:
    """Hook behind the transformer: bfloat16 has 8 bits, too few to add up hundreds of tokens or to have length one."""
    return {**features, "token_embeddings": features["token_embeddings"].float()}


def _computes_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Private names, torch has no public ones. "Supported" alone is not enough: oneDNN also emulates it on older CPUs.
    asks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return device.type == "cpu" and any(ask() for ask in asks if ask is not None)


def _load(folder: Path, dtype: torch.dtype, device: torch.device) -> SentenceTransformer:
    hint = "fetch it with `localemp models pull all-mpnet-base-v2`, or give a folder that sentence-transformers saved"
    # Without this file sentence-transformers would make up a pooling of its own.
    if not (folder / "modules.json").is_file():
        raise WeightsError(f"no sentence encoder: {folder} has no modules.json", hint)
    try:
        with quiet_transformers():
            return SentenceTransformer(
                str(folder), device=str(device), local_files_only=True, model_kwargs={"dtype": dtype}
            ).eval()
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise WeightsError(f"no sentence encoder in {folder}: {reason}", hint) from error

"""Embeds a pool of texts once, keeps the vectors on disk, and finds those most similar to a query (section 3.3.1).

`stored.py` has the folder that keeps them. Where the cache can only be read, what is whole there is used, and the rest
is made in memory.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from localemp.errors import LocalempError, OptionError
from localemp.retrieval.stored import CHUNK_ROWS, Chunk, StoredVectors, Vectors
from localemp.utils.files import is_read_only
from localemp.utils.locks import file_lock
from localemp.utils.paths import cache_dir
from localemp.utils.progress import OnProgress, silent
from localemp.utils.words import size

__all__ = ["CHUNK_ROWS", "Index", "TextEncoder", "Vectors"]

# A search holds this many scores at once (16 MB), and re-scores this many candidates at once (13 MB).
_QUERIES, _ROWS, _PAIRS = 512, 8192, 2048


class TextEncoder(Protocol):
    """What the index needs of an encoder; `localemp.retrieval.encoder.Encoder` is one."""

    dim: int

    @property
    def key(self) -> Mapping[str, str]:
        """What, beside weights and text, decides what a vector is."""

    @property
    def versions(self) -> Mapping[str, str]:
        """Libraries and device; recorded, but no reason to embed again."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of length one, shape (len(texts), dim)."""


class Index:
    """Vectors of a pool, and exact search in them.

    Args:
        vectors: Shape (rows, dim), rows of length one. Of a memory-mapped file only a block at a time is in memory.
    """

    def __init__(self, vectors: Vectors) -> None:
        self.vectors = vectors

    @classmethod
    def build_or_load(
        cls,
        texts: Sequence[str],
        encoder: TextEncoder,
        key_parts: Mapping[str, str],
        folder: Path | None = None,
        on_progress: OnProgress = silent,
        former: Sequence[str] = (),
    ) -> "Index":
        """Embed a pool (Eq. 2), or take up what an earlier call left: whatever is whole is kept, the rest made again.

        Args:
            texts: One for each row.
            encoder: Makes the vectors.
            key_parts: What else decides what they are: the hash of the encoder's weights.
            folder: Where indexes are kept, each in a folder named by its key; by default localemp's cache.
            on_progress: Called with the texts embedded so far; never when nothing is missing.
            former: The texts as an earlier call may have had them: where they are the same, so are their vectors.

        Raises:
            OptionError: There are no texts.
            LocalempError: The index cannot be written (a full disk, a path that is none).
        """
        if not texts:
            raise OptionError("there are no dialogues to search in", "give a pool of training dialogues")
        base = folder or cache_dir("index")
        key = {**key_parts, **encoder.key, "data": _digest_of(texts), "rows": str(len(texts))}
        differs = len(former) == len(texts) and list(former) != list(texts)
        earlier = StoredVectors(base, {**key, "data": _digest_of(former)}, encoder.dim) if differs else None

        def content_of(chunk: Chunk) -> bytes:
            same = earlier is not None and texts[chunk.start : chunk.stop] == former[chunk.start : chunk.stop]
            return (earlier.content(chunk) if earlier and same else None) or _embedded(texts, encoder, chunk)

        stored = StoredVectors(base, key, encoder.dim)
        try:
            stored.place.mkdir(parents=True, exist_ok=True)
            with file_lock(stored.place / "lock"):
                stored.complete(content_of, encoder.versions, on_progress)
                return cls(stored.mapped())
        except OSError as error:
            if not is_read_only(error):
                needed = size(len(texts) * encoder.dim * 4)
                raise LocalempError(
                    f"the index cannot be kept in {stored.place}: {error.strerror or error}",
                    f"it needs {needed}; make room, or set LOCALEMP_CACHE to a folder on another disk",
                ) from error
            return cls(stored.mapped() if not stored.missing() else stored.in_memory(content_of, on_progress, error))

    def search(
        self, queries: Vectors, k: int, exclude: Sequence[Collection[int]] | None = None
    ) -> tuple[NDArray[np.int64], Vectors]:
        """The `k` most similar rows of each query by cosine (Eq. 3 and 4), most similar first.

        The order is exact and the same on every machine: rows are ranked by the dot product in float64, equal ones by
        the lower row. float32 is only used to leave out rows that are too far behind for rounding to matter.

        Args:
            queries: Shape (queries, dim), rows of length one.
            k: How many rows each query gets.
            exclude: For each query the rows that it may not get, such as those of its own conversation.

        Returns:
            Rows and cosines, both of shape (queries, k). Where a query has fewer than `k` rows to choose from, the rest
            is row -1 with cosine -inf.

        Raises:
            OptionError: `k` is below 1.
            ValueError: Shapes do not fit.
        """
        if k < 1:
            raise OptionError(f"{k} similar dialogues cannot be searched for", "ask for at least 1")
        if queries.shape[1:] != self.vectors.shape[1:]:
            raise ValueError(f"queries of shape {queries.shape} do not fit vectors of shape {self.vectors.shape}")
        if exclude is not None and len(exclude) != len(queries):
            raise ValueError(f"{len(exclude)} exclusions for {len(queries)} queries")
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        scores = np.full((len(queries), k), -np.inf)
        for start in range(0, len(queries), _QUERIES):
            part = slice(start, start + _QUERIES)
            barred = _barred(exclude[part] if exclude is not None else [])
            for first in range(0, len(self.vectors), _ROWS):
                block = self._block(first)
                rows[part], scores[part] = _improve(rows[part], scores[part], queries[part], block, first, barred)
        return rows, scores.astype(np.float32)

    def _block(self, first: int) -> Vectors:
        """Up to `_ROWS` rows; of a file they are mapped anew, so that they leave memory with the block."""
        vectors, count = self.vectors, min(_ROWS, len(self.vectors) - first)
        if not isinstance(vectors, np.memmap):
            return vectors[first : first + count]
        offset = vectors.offset + first * vectors.strides[0]
        shape = (count, vectors.shape[1])
        return np.asarray(np.memmap(str(vectors.filename), vectors.dtype, "r", offset, shape))


def _improve(
    rows: NDArray[np.int64],
    scores: NDArray[np.float64],
    queries: Vectors,
    block: Vectors,
    first: int,
    barred: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The best rows so far and those of one more block, which starts at row `first`, merged; both (queries, k)."""
    k, rough = rows.shape[1], queries @ block.T
    owner, row = barred
    here = (row >= first) & (row < first + len(block))
    rough[owner[here], row[here] - first] = -np.inf
    # Twice the worst rounding error of a float32 dot product of this length: nothing that could win is below the floor.
    slack = (queries.shape[1] + 4) * 2.0**-23 * np.linalg.norm(queries, axis=1, keepdims=True)
    floor = np.maximum(_low_kth(rough, k), scores[:, -1:]) - slack
    # Never -inf, which barred rows have.
    floor = np.maximum(floor, np.finfo(np.float32).min).astype(np.float32)
    owner, row = np.divmod(np.flatnonzero(rough >= floor), len(block))
    owners = np.concatenate([np.repeat(np.arange(len(rows)), k), owner])
    all_rows = np.concatenate([rows.ravel(), row + first])
    all_scores = np.concatenate([scores.ravel(), _exact(queries, owner, block, row)])
    order = np.lexsort((all_rows, -all_scores, owners))
    owners = owners[order]
    rank = np.arange(len(owners)) - np.searchsorted(owners, owners)
    order = order[rank < k]
    return all_rows[order].reshape(-1, k), all_scores[order].reshape(-1, k)


def _low_kth(scores: Vectors, k: int) -> NDArray[np.float64]:
    """For each query a number that its k-th best score is not below; cheap, and mostly that score itself.

    The k-th best of the best of each of many groups will do: k scores are at least as high.
    """
    queries, rows = scores.shape
    groups = min(rows, max(64, 8 * k))
    if groups < k:
        return np.full((queries, 1), -np.inf)
    width = rows // groups
    best = scores[:, : groups * width].reshape(queries, groups, width).max(axis=2)
    kth: NDArray[np.float64] = np.partition(best, groups - k, axis=1)[:, groups - k, None].astype(np.float64)
    return kth


def _exact(queries: Vectors, owner: NDArray[np.int64], block: Vectors, row: NDArray[np.int64]) -> NDArray[np.float64]:
    """Dot products of pairs in float64, where products are exact and equal rows get equal sums."""
    scores = np.empty(len(row))
    for start in range(0, len(row), _PAIRS):
        part = slice(start, start + _PAIRS)
        products = block[row[part]].astype(np.float64)
        products *= queries[owner[part]]
        scores[part] = products.sum(axis=1)
    return scores


def _barred(exclude: Sequence[Collection[int]]) -> NDArray[np.int64]:
    """Shape (2, pairs): query and row of all pairs that may not be."""
    pairs = [(owner, row) for owner, rows in enumerate(exclude) for row in rows]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2).T


def _embedded(texts: Sequence[str], encoder: TextEncoder, chunk: Chunk) -> bytes:
    content = np.ascontiguousarray(encoder.encode(texts[chunk.start : chunk.stop]), dtype="<f4").tobytes()
    rows, row_bytes = chunk.stop - chunk.start, encoder.dim * 4
    if len(content) != rows * row_bytes:
        raise ValueError(f"the encoder gave {len(content)} bytes for {rows} rows of {row_bytes}")
    return content


def _digest_of(texts: Sequence[str]) -> str:
    """SHA-256 over all texts; each with its length, so that no two lists of texts look the same."""
    sha256 = hashlib.sha256()
    for text in texts:
        content = text.encode("utf-8", errors="surrogatepass")
        sha256.update(f"{len(content)}:".encode() + content)
    return sha256.hexdigest()

"""Embeds a pool of texts, stores the vectors on disk, and searches the most similar ones (section 3.3.1).

`stored.py` manages the folder. If the cache is read-only, valid vectors in it are used, and the rest is computed in
memory.
"""

import hashlib
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from localemp.errors import LocalempError, OptionError
from localemp.retrieval.stored import CHUNK_ROWS, Chunk, StoredVectors, Vectors
from localemp.utils.files import is_read_only
from localemp.utils.formatting import duration, size
from localemp.utils.interrupts import noting
from localemp.utils.locks import file_lock
from localemp.utils.paths import cache_dir
from localemp.utils.progress import OnProgress, silent

_log = logging.getLogger(__name__)

__all__ = ["CHUNK_ROWS", "Index", "TextEncoder", "Vectors"]

# Fewer texts than this are not timed beforehand; of more, so many are, after a first few that warm the encoder up.
_MANY, _TIMED, _WARM_UP = 1024, 32, 8
_LONG = 30.0  # seconds that are worth a word
# Block sizes: a search holds queries x rows scores (16 MB), and re-scores this many candidate pairs at once (13 MB).
_QUERIES, _ROWS, _PAIRS = 512, 8192, 2048


class TextEncoder(Protocol):
    """The part of an encoder that the index needs; `localemp.retrieval.encoder.Encoder` is one."""

    dim: int

    @property
    def key(self) -> Mapping[str, str]:
        """Everything besides weights and text that determines a vector."""

    @property
    def versions(self) -> Mapping[str, str]:
        """Libraries and device; recorded, but a change does not cause re-embedding."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors, shape (len(texts), dim)."""


class Index:
    """Vectors of a pool, with exact search.

    Args:
        vectors: Shape (rows, dim), unit vectors. Of a memory-mapped file, only one block at a time is in memory.
        folder: Where they are stored; None if they are only in memory.
    """

    def __init__(self, vectors: Vectors, folder: Path | None = None) -> None:
        self.vectors, self.folder = vectors, folder

    @classmethod
    def build_or_load(
        cls,
        texts: Sequence[str],
        encoder: TextEncoder,
        key_parts: Mapping[str, str],
        folder: Path | None = None,
        *,
        on_progress: OnProgress = silent,
        former: Sequence[str] = (),
    ) -> "Index":
        """Embed a pool (Eq. 2), or load it from the cache; valid chunks are reused, the rest is computed.

        If many texts are left, it first logs how long they will take. Whatever is embedded is kept: a build that was
        stopped or killed goes on where it was.

        Args:
            texts: The pool; one text for each row.
            encoder: Computes the vectors.
            key_parts: What else determines the vectors: the hash of the encoder's weights.
            folder: Parent folder of indexes, each of which is named by its key; by default in localemp's cache.
            on_progress: Called with the texts embedded so far; never when nothing is missing.
            former: The texts of an earlier version of localemp; vectors of equal texts are reused.

        Raises:
            OptionError: `texts` is empty.
            LocalempError: The index cannot be written (a full disk, an invalid path).
        """
        if not texts:
            raise OptionError("the pool of exemplars is empty", "give a pool of training dialogues")
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
            with file_lock(stored.place / "lock", f"embeds the same {len(texts):,} texts", on_progress):
                if missing := stored.missing():
                    _tell_time(texts, encoder, missing)
                    with noting(stored.finished):
                        stored.complete(content_of, encoder.versions, on_progress)
                return cls(stored.mapped(), stored.place)
        except OSError as error:
            if not is_read_only(error):
                needed = size(len(texts) * encoder.dim * 4)
                raise LocalempError(
                    f"cannot store the index in {stored.place}: {error.strerror or error}",
                    f"it needs {needed}; free some space, or set LOCALEMP_CACHE to a folder on another disk",
                ) from error
            if not stored.missing():
                return cls(stored.mapped(), stored.place)
            return cls(stored.in_memory(content_of, on_progress, error))

    def search(
        self, queries: Vectors, k: int, exclude: Sequence[Collection[int]] | None = None
    ) -> tuple[NDArray[np.int64], Vectors]:
        """Return the `k` rows most similar to each query by cosine similarity (Eq. 3 and 4), best first.

        The order is exact and the same on every machine: rows are ranked by the dot product in float64, ties by row
        number. float32 is used only to exclude rows that are too far behind for rounding errors to matter.

        Args:
            queries: Shape (queries, dim), unit vectors.
            k: Number of rows for each query.
            exclude: For each query, the rows to exclude, such as those of its own conversation.

        Returns:
            Rows and cosine similarities, both of shape (queries, k). If fewer than `k` rows are left for a query, the
            rest is row -1 with similarity -inf.

        Raises:
            OptionError: `k` is below 1.
            ValueError: Shapes do not match.
        """
        if k < 1:
            raise OptionError(f"cannot search for {k} similar dialogues", "ask for at least 1")
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
        """Return up to `_ROWS` rows; rows of a file are mapped again, so that the memory is released with the block."""
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
    """Merge the best rows so far with those of the block that starts at row `first`; both of shape (queries, k)."""
    k, rough = rows.shape[1], queries @ block.T
    owner, row = barred
    here = (row >= first) & (row < first + len(block))
    rough[owner[here], row[here] - first] = -np.inf
    # Twice the largest rounding error of a float32 dot product of this length: no possible winner is below the floor.
    slack = (queries.shape[1] + 4) * 2.0**-23 * np.linalg.norm(queries, axis=1, keepdims=True)
    floor = np.maximum(_low_kth(rough, k), scores[:, -1:]) - slack
    # Never -inf, the score of excluded rows.
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
    """Return a cheap lower bound of each query's k-th best score, which is mostly that score itself.

    It is the k-th best of the group maxima: k scores are at least as high.
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
    """Return dot products of pairs in float64, where products are exact and equal rows get equal sums."""
    scores = np.empty(len(row))
    for start in range(0, len(row), _PAIRS):
        part = slice(start, start + _PAIRS)
        products = block[row[part]].astype(np.float64)
        products *= queries[owner[part]]
        scores[part] = products.sum(axis=1)
    return scores


def _barred(exclude: Sequence[Collection[int]]) -> NDArray[np.int64]:
    """Return query and row of all excluded pairs, shape (2, pairs)."""
    pairs = [(owner, row) for owner, rows in enumerate(exclude) for row in rows]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2).T


def _tell_time(texts: Sequence[str], encoder: TextEncoder, missing: Sequence[Chunk]) -> None:
    """Log how long the missing rows will take, if that is long, from the time that some of them take now."""
    rows = [row for chunk in missing for row in range(chunk.start, chunk.stop)]
    if len(rows) < _MANY:
        return
    spread = [texts[row] for row in rows[:: len(rows) // _TIMED][:_TIMED]]
    encoder.encode(spread[:_WARM_UP])
    began = perf_counter()
    encoder.encode(spread)
    per_s = len(spread) / max(perf_counter() - began, 1e-9)
    if (seconds := len(rows) / per_s) >= _LONG:
        _log.info(
            "embedding %s takes about %s on this machine (%.3g texts/s, measured on %d of them); "
            "it is done once, and goes on where it was if you stop it",
            f"{len(rows):,} texts", duration(seconds), per_s, len(spread),
        )  # fmt: skip


def _embedded(texts: Sequence[str], encoder: TextEncoder, chunk: Chunk) -> bytes:
    content = np.ascontiguousarray(encoder.encode(texts[chunk.start : chunk.stop]), dtype="<f4").tobytes()
    rows, row_bytes = chunk.stop - chunk.start, encoder.dim * 4
    if len(content) != rows * row_bytes:
        raise ValueError(f"the encoder gave {len(content)} bytes for {rows} rows of {row_bytes}")
    return content


def _digest_of(texts: Sequence[str]) -> str:
    """Return the SHA-256 of all texts, each prefixed by its length, so that different lists never collide."""
    sha256 = hashlib.sha256()
    for text in texts:
        content = text.encode("utf-8", errors="surrogatepass")
        sha256.update(f"{len(content)}:".encode() + content)
    return sha256.hexdigest()

"""The folder that stores the vectors of an index.

It survives a kill at any moment because it is written in this order:

    meta.json       key of the vectors; if it differs from the requested key, everything is computed again
    embeddings.npy  float32, shape (rows, dim), at full size from the start, filled chunk by chunk
    chunks.txt      append-only: number and SHA-256 of each chunk that is safely on disk
"""

import contextlib
import hashlib
import io
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from localemp.utils.files import write_json
from localemp.utils.json_reader import JSONError, load_json
from localemp.utils.progress import OnProgress, Progress

# Texts that are embedded, written and recorded together: the most that a kill can lose.
CHUNK_ROWS = 256

Vectors = NDArray[np.float32]

_NUMBER = re.compile("[0-9]{1,9}")

_log = logging.getLogger(__name__)


class Chunk(NamedTuple):
    """Rows that are embedded, written and recorded together."""

    number: int
    start: int
    stop: int


class StoredVectors:
    """The folder of one index.

    Args:
        base: Parent folder; the index is in a folder named by its key.
        key: Everything that determines the vectors.
        dim: Dimension of the vectors.
    """

    def __init__(self, base: Path, key: Mapping[str, str], dim: int) -> None:
        self.key, self.dim, self.rows = dict(key), dim, int(key["rows"])
        self.place = base / hashlib.sha256(_json(self.key)).hexdigest()
        self._path, self._record = self.place / "embeddings.npy", self.place / "chunks.txt"
        self._header, self._row_bytes = _npy_header(self.rows, dim), dim * 4

    def content(self, chunk: Chunk) -> bytes | None:
        """Return the bytes of a chunk; None if it is incomplete or belongs to another key."""
        with contextlib.suppress(OSError):
            if not self._is_ours() or chunk.number not in (recorded := self._recorded()):
                return None
            with self._path.open("rb") as file:
                return self._whole(file, chunk, recorded)
        return None

    def missing(self) -> list[Chunk]:
        """Return the incomplete chunks."""
        whole = {chunk.number for chunk, _ in self._whole_ones()}
        return [chunk for chunk in self._chunks() if chunk.number not in whole]

    def finished(self) -> str:
        """Return how many rows are safely on disk, as text."""
        return (
            f"{self.rows - sum(chunk.stop - chunk.start for chunk in self.missing()):,} of {self.rows:,} texts embedded"
        )

    def mapped(self) -> Vectors:
        """Return the vectors of a complete index, memory-mapped."""
        vectors: Vectors = np.load(self._path, mmap_mode="r")
        return vectors

    def complete(
        self, content_of: Callable[[Chunk], bytes], versions: Mapping[str, str], on_progress: OnProgress
    ) -> None:
        """Compute and write the missing chunks; the caller holds the lock.

        Raises:
            OSError: The folder cannot be written; what was written before stays.
        """
        if not self._is_ours():
            # Records of another key are invalid.
            self._record.unlink(missing_ok=True)
            made = {"key": self.key, "versions": {**versions, "numpy": np.__version__}}
            write_json(self.place / "meta.json", made, indent=1, sort_keys=True)
        self._path.touch()
        with self._path.open("r+b") as file, self._record.open("ab") as log:
            if file.read(len(self._header)) != self._header:
                file.seek(0)
                file.write(self._header)
            file.truncate(len(self._header) + self.rows * self._row_bytes)
            for chunk, content in _made(self.missing(), content_of, self.rows, on_progress):
                file.seek(len(self._header) + chunk.start * self._row_bytes)
                file.write(content)
                _to_disk(file)
                # The line break comes first, so that a truncated line does not swallow the next one.
                log.write(f"\n{chunk.number} {hashlib.sha256(content).hexdigest()}".encode())
                _to_disk(log)

    def in_memory(self, content_of: Callable[[Chunk], bytes], on_progress: OnProgress, reason: OSError) -> Vectors:
        """Return all vectors in memory: valid chunks of the folder, and the rest computed now."""
        _log.warning("cannot store the index in %s (%s); it is kept in memory", self.place, reason.strerror)
        vectors = np.zeros((self.rows, self.dim), dtype="<f4")

        def fill(chunk: Chunk, content: bytes) -> None:
            vectors[chunk.start : chunk.stop] = np.frombuffer(content, dtype="<f4").reshape(-1, self.dim)

        missing = dict.fromkeys(self._chunks())
        # Read, not mapped: the file may be shorter than its header says.
        for chunk, content in self._whole_ones():
            fill(chunk, content)
            del missing[chunk]
        for chunk, content in _made(list(missing), content_of, self.rows, on_progress):
            fill(chunk, content)
        return vectors

    def _chunks(self) -> Iterator[Chunk]:
        for number, start in enumerate(range(0, self.rows, CHUNK_ROWS)):
            yield Chunk(number, start, min(start + CHUNK_ROWS, self.rows))

    def _whole_ones(self) -> Iterator[tuple[Chunk, bytes]]:
        """Yield the complete chunks with their bytes; none if the folder cannot be read."""
        with contextlib.suppress(OSError):
            if not self._is_ours():
                return
            recorded = self._recorded()
            with self._path.open("rb") as file:
                if file.read(len(self._header)) != self._header:
                    return
                for chunk in self._chunks():
                    if (content := self._whole(file, chunk, recorded)) is not None:
                        yield chunk, content

    def _is_ours(self) -> bool:
        try:
            known = load_json(self.place / "meta.json")
        except (FileNotFoundError, JSONError):
            return False
        return isinstance(known, dict) and known.get("key") == self.key

    def _recorded(self) -> dict[int, str]:
        """Return the SHA-256 of each finished chunk; truncated lines are ignored."""
        lines = (line.split() for line in self._record.read_text("utf-8", errors="replace").splitlines())
        return {int(line[0]): line[1] for line in lines if len(line) == 2 and _NUMBER.fullmatch(line[0])}

    def _whole(self, file: BinaryIO, chunk: Chunk, recorded: Mapping[int, str]) -> bytes | None:
        file.seek(len(self._header) + chunk.start * self._row_bytes)
        content = file.read((chunk.stop - chunk.start) * self._row_bytes)
        return content if recorded.get(chunk.number) == hashlib.sha256(content).hexdigest() else None


def _made(
    missing: Sequence[Chunk], content_of: Callable[[Chunk], bytes], rows: int, on_progress: OnProgress
) -> Iterator[tuple[Chunk, bytes]]:
    """Yield each missing chunk with its content, and report progress."""
    done = rows - sum(chunk.stop - chunk.start for chunk in missing)
    for chunk in missing:
        on_progress(Progress("Embedding", done, rows, "texts"))
        yield chunk, content_of(chunk)
        done += chunk.stop - chunk.start
    if missing:
        on_progress(Progress("Embedding", done, rows, "texts"))


def _npy_header(rows: int, dim: int) -> bytes:
    buffer, array = io.BytesIO(), {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)}
    np.lib.format.write_array_header_1_0(buffer, array)  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, sort_keys=True, indent=1).encode()


def _to_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())

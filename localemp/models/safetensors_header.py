"""Reads the header of a safetensors file, without torch: names, types and shapes of tensors, and checks them.

A file is 8 bytes with the header's length (little-endian), the header as JSON, and the tensors' bytes in a row.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localemp.errors import WeightsError
from localemp.utils.files import open_regular
from localemp.utils.json_reader import JSONError, parse_json

_LARGEST_HEADER = 64 * 2**20  # bytes; that of a model with thousands of experts has a few million
_MOST_VALUES = 4_000_000
_BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "BF16": 2, "F16": 2, "I16": 2, "U16": 2}


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """What the header says of a tensor.

    Attributes:
        dtype: As safetensors has it: "F32", "BF16", ...
        shape: Its shape.
        start: Where its bytes begin in the file.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int


def read_header(path: Path) -> dict[str, TensorHeader]:
    """Return the tensors of a file by name.

    Raises:
        WeightsError: The file cannot be read, is cut off, or its header does not describe its contents.
    """
    try:
        with open_regular(path) as file:
            size = file.seek(0, 2)
            file.seek(0)
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise _damaged(path, f"it is empty or cut off: it has {size:,} bytes")
            if length > _LARGEST_HEADER:
                raise _damaged(path, f"its header would have {length:,} bytes")
            raw = file.read(length)
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror or error}", "check the path and its permissions") from error
    try:
        header = parse_json(raw, max_values=_MOST_VALUES)
    except JSONError as error:
        raise _damaged(path, f"its header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise _damaged(path, "its header is not a JSON object")
    header.pop("__metadata__", None)
    end = 0
    tensors = {}
    for name, told in sorted(header.items(), key=lambda item: _start(path, *item)):
        tensors[name], end = _tensor(path, name, told, end, 8 + length)
    if end != size - 8 - length:
        raise _damaged(path, f"its tensors have {end:,} bytes, the file holds {size - 8 - length:,}")
    return tensors


def _start(path: Path, name: str, told: Any) -> tuple[int, int]:
    """Return where a tensor's bytes begin and end, for sorting: an empty one shares its place with the next."""
    offsets = told.get("data_offsets") if isinstance(told, Mapping) else None
    if not isinstance(offsets, list) or len(offsets) != 2 or any(type(place) is not int for place in offsets):
        raise _damaged(path, f"{name[:200]!r} has no valid data_offsets")
    return offsets[0], offsets[1]


def _tensor(path: Path, name: str, told: Mapping[str, Any], expected: int, origin: int) -> tuple[TensorHeader, int]:
    """Return a tensor and where its bytes end, from `origin` on; they must begin where those of the one before end."""
    start, end = told["data_offsets"]
    dtype, shape = told.get("dtype"), told.get("shape")
    if not isinstance(dtype, str) or not isinstance(shape, list) or any(type(n) is not int or n < 0 for n in shape):
        raise _damaged(path, f"{name[:200]!r} has no valid type and shape")
    bytes_needed = math.prod(shape) * _BYTES[dtype] if dtype in _BYTES else end - start
    if start != expected or end < start or end - start != bytes_needed:
        raise _damaged(
            path, f"{name[:200]!r} lies at bytes {start:,} to {end:,}; it needs {bytes_needed:,} from {expected:,} on"
        )
    return TensorHeader(dtype, tuple(shape), origin + start), end


def _damaged(path: Path, what: str) -> WeightsError:
    return WeightsError(f"{path}: {what}", "it is damaged or no safetensors file; fetch or save it again")

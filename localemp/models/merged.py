"""Merges a LoRA adapter into a model's weights: W + scale * B @ A, in float32, rounded to the type that is stored.

    adapter = read_adapter(merged)
    merge(base.folder, list(base.sha256), adapter, folder)

vLLM applies adapters at run time, too (`adapters.py`), at a cost; merged weights are as fast as their base.
They are the base's files, copied, with the bytes of the changed matrices replaced: a few rows at a time, so that memory
does not grow with the model. Sums are made in a fixed order, so that the same weights come out on every machine.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from localemp.errors import WeightsError
from localemp.models import peft
from localemp.models.checksums import sha256_files
from localemp.models.hub import wanted_files
from localemp.models.peft import AGAIN, CONFIG, WEIGHTS, LoraModule
from localemp.models.profiles import MergedSource
from localemp.models.safetensors_header import TensorHeader, read_header
from localemp.utils.progress import OnProgress, Progress, silent, watched
from localemp.utils.text import one_line

_BLOCK = 1 << 18  # numbers of a matrix that are changed at a time: they fit a core's cache
_SIZES = {"F32": 4, "F16": 2, "BF16": 2}
# Keys of the configuration that vLLM can apply, but that change what has to be added.
_NOT_MERGED = ("fan_in_fan_out", "rank_pattern", "alpha_pattern", "target_parameters")
_WITH_PEFT = "merge it with PEFT's merge_and_unload, and give that folder as --model"

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class MergeableAdapter:
    """A LoRA adapter whose files have been read and agree.

    Attributes:
        folder: Its folder.
        name: The folder's name.
        scale: What B @ A is multiplied by.
        modules: The modules that it changes.
        sha256: SHA-256 of its weights and of its configuration.
    """

    folder: Path
    name: str
    scale: float
    modules: tuple[LoraModule, ...]
    sha256: dict[str, str]


def read_adapter(source: MergedSource) -> MergeableAdapter:
    """Read and check the files of an adapter, without its numbers.

    Raises:
        WeightsError: A file is missing, damaged or not the one that the profile expects, or the adapter is of a kind
            that cannot be merged.
    """
    folder = source.adapter
    found = peft.read_adapter(folder, f"the adapter {folder}")
    sha256 = sha256_files(folder, [WEIGHTS, CONFIG])
    if source.sha256 not in (None, sha256[WEIGHTS]):
        raise WeightsError(
            f"{folder / WEIGHTS} has the SHA-256 {sha256[WEIGHTS]}, the profile expects {source.sha256}",
            "restore the file, or change the profile if the new adapter is meant",
        )
    _check_mergeable(folder, found)
    return MergeableAdapter(folder, folder.resolve().name, found.config.scale, found.modules, sha256)


def merge(
    base: Path, files: Sequence[str], adapter: MergeableAdapter, folder: Path, on_progress: OnProgress = silent
) -> None:
    """Write a model's files, with an adapter merged into its weights, to `folder`, an existing empty folder.

    Args:
        base: The model's folder, verified.
        files: Its files; those that vLLM and transformers read are copied.
        adapter: The adapter.
        folder: Where the merged weights go.
        on_progress: Called with the bytes copied and the matrices changed so far.

    Raises:
        WeightsError: The adapter changes a weight that the model does not have, or not in this shape; or the model's
            weights are not plain numbers in safetensors files.
        OSError: A file cannot be read or written.
    """
    sizes = wanted_files({name: (base / name).stat().st_size for name in files})
    places = _places(base, [name for name in sizes if name.endswith(".safetensors")])
    for module in adapter.modules:
        _check_fit(adapter, module, places)
    with watched(folder, f"copying {base.name}", sum(sizes.values()), on_progress):
        for name in sizes:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(base / name, folder / name)
    task, total = f"merging {adapter.name}", len(adapter.modules)
    with (adapter.folder / WEIGHTS).open("rb") as lora:
        for done, module in enumerate(adapter.modules):
            on_progress(Progress(task, done, total, "matrices"))
            shard, header = places[f"{module.name}.weight"]
            low, high = _read(lora, module.a.header), _read(lora, module.b.header)
            with (folder / shard).open("r+b") as file, np.errstate(over="ignore", invalid="ignore"):
                finite = _add(file, header, low, high, np.float32(adapter.scale))
            if not finite:
                raise WeightsError(
                    f"{adapter.folder / WEIGHTS}: with {one_line(module.name, 200)}, weights become infinite or NaN",
                    "the adapter is damaged, or its numbers are too large for the base",
                )
    on_progress(Progress(task, total, total, "matrices"))


def _check_mergeable(folder: Path, adapter: peft.PeftAdapter) -> None:
    for key in _NOT_MERGED:
        if value := getattr(adapter.config, key):
            raise WeightsError(
                one_line(f"{folder / CONFIG}: {key} is {value!r}, which localemp does not merge", 400),
                _WITH_PEFT,
            )
    strange = next((module for module in adapter.modules if not module.a.tensor.endswith(".lora_A.weight")), None)
    if strange or adapter.vocabulary is not None:
        what = one_line(strange.a.tensor, 200) if strange else "an embedding"
        raise WeightsError(f"{folder / WEIGHTS}: it changes {what}; only linear layers are merged", _WITH_PEFT)
    found, targets = {module.target for module in adapter.modules}, adapter.config.target_modules
    for target in targets if isinstance(targets, list) else []:
        if target.rpartition(".")[2] not in found:
            raise WeightsError(
                f"{folder / WEIGHTS}: it has no matrices of {one_line(target, 60)}, a target module", AGAIN
            )


def _places(base: Path, shards: Sequence[str]) -> dict[str, tuple[str, TensorHeader]]:
    """Return the file and the header of every tensor of a model."""
    if not shards:
        raise WeightsError(f"{base} has no safetensors files; an adapter is merged into those alone")
    places: dict[str, tuple[str, TensorHeader]] = {}
    for shard in shards:
        for name, header in read_header(base / shard).items():
            if name in places:
                raise WeightsError(f"{base}: both {places[name][0]} and {shard} have {one_line(name, 200)}")
            places[name] = shard, header
    return places


def _check_fit(adapter: MergeableAdapter, module: LoraModule, places: dict[str, tuple[str, TensorHeader]]) -> None:
    weight = f"{module.name}.weight"
    where = f"the adapter {adapter.folder}"
    hint = "an adapter can be merged only into the model that it was trained on"
    if weight not in places:
        raise WeightsError(f"{where} changes {one_line(weight, 200)}, which the base does not have", hint)
    _, header = places[weight]
    if header.dtype not in _SIZES:
        raise WeightsError(
            f"{one_line(weight, 200)} of the base is stored as {one_line(header.dtype, 20)}; only "
            f"{', '.join(_SIZES)} can be changed",
            "name a base that is not quantised",
        )
    shape = module.outputs, module.inputs
    if shape != header.shape:
        raise WeightsError(
            f"{where} changes {one_line(weight, 200)} as a matrix of {shape[0]} x {shape[1]}; the base's has the shape "
            f"{' x '.join(map(str, header.shape))}",
            hint,
        )


def _add(file: BinaryIO, header: TensorHeader, low: Matrix, high: Matrix, scale: np.float32) -> bool:
    """Add scale * high @ low to the matrix that a file has at `header`, a block of rows at a time.

    Returns:
        Whether all sums are finite as they are stored.
    """
    rows, columns = header.shape
    step, width = max(1, _BLOCK // max(1, columns)), _SIZES[header.dtype] * columns
    scaled = high * scale
    for row in range(0, rows, step):
        file.seek(header.start + row * width)
        block = _decode(file.read(min(step, rows - row) * width), header.dtype).reshape(-1, columns)
        change = np.zeros_like(block)
        for rank in range(low.shape[0]):  # not `@`: how that adds up differs between processors
            change += scaled[row : row + step, rank, None] * low[rank]
        changed = block + change
        stored = _encode(changed, header.dtype)
        if not (np.isfinite(changed).all() and np.isfinite(_decode(stored, header.dtype)).all()):
            return False
        file.seek(header.start + row * width)
        file.write(stored)
    return True


def _read(file: BinaryIO, header: TensorHeader) -> Matrix:
    rows, columns = header.shape
    file.seek(header.start)
    return _decode(file.read(rows * columns * _SIZES[header.dtype]), header.dtype).reshape(rows, columns)


def _decode(raw: bytes, dtype: str) -> Matrix:
    """Return stored numbers as float32; numpy has no bfloat16, which is the upper half of a float32."""
    if dtype == "BF16":
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(raw, "<f4" if dtype == "F32" else "<f2").astype(np.float32)


def _encode(numbers: Matrix, dtype: str) -> bytes:
    """Return numbers as they are stored, rounded to the nearest, ties to even."""
    if dtype == "BF16":
        bits = np.ascontiguousarray(numbers).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()
    return numbers.astype("<f4" if dtype == "F32" else "<f2").tobytes()

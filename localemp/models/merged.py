"""Merges a LoRA adapter into a model's weights: W + scale * B @ A, in float32, rounded to the type that is stored.

    adapter = read_adapter(merged)
    merge(base.folder, list(base.sha256), adapter, folder)

vLLM applies adapters at run time, too (`adapters.py`), at a cost; merged weights are as fast as their base.
They are the base's files, copied, with the bytes of the changed matrices replaced: a few rows at a time, so that memory
does not grow with the model. Sums are made in a fixed order, so that the same weights come out on every machine.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from localemp.errors import WeightsError
from localemp.models.adapters import CONFIG, WEIGHTS
from localemp.models.checksums import sha256_file
from localemp.models.data_only import read_settings
from localemp.models.hub import wanted_files
from localemp.models.profiles import MergedSource
from localemp.models.safetensors_header import TensorHeader, read_header
from localemp.utils.files import is_file
from localemp.utils.progress import OnProgress, Progress, silent, watched
from localemp.utils.text import one_line
from localemp.utils.validation import format_validation_error

_PREFIX, _A, _B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
_BLOCK = 1 << 18  # numbers of a matrix that are changed at a time: they fit a core's cache
_SIZES = {"F32": 4, "F16": 2, "BF16": 2}
_AGAIN = "save the adapter again with PEFT"

Matrix = NDArray[np.float32]


class _Config(BaseModel):
    """What matters for merging of PEFT's `adapter_config.json`; it has other keys."""

    model_config = ConfigDict(strict=True)

    r: int = Field(gt=0)
    lora_alpha: float = Field(allow_inf_nan=False)
    use_rslora: bool | None = False
    target_modules: list[str] | str | None = None
    base_model_name_or_path: str | None = None

    @property
    def scale(self) -> float:
        """What B @ A is multiplied by."""
        return self.lora_alpha / (sqrt(self.r) if self.use_rslora else self.r)


# Keys of the configuration that change what has to be added; PEFT can merge such adapters.
_REFUSED = (
    "use_dora", "lora_bias", "use_qalora", "use_bdlora", "fan_in_fan_out", "rank_pattern", "alpha_pattern",
    "modules_to_save", "layer_replication", "alora_invocation_tokens", "trainable_token_indices", "target_parameters",
)  # fmt: skip
# The initial weights of these leave the base model as it is.
_PLAIN_INITS = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True, slots=True)
class MergeableAdapter:
    """A LoRA adapter whose files have been read and agree.

    Attributes:
        folder: Its folder.
        name: The folder's name.
        scale: What B @ A is multiplied by.
        pairs: For every weight of the base that it changes, the names of its two tensors, A and B.
        tensors: Its tensors.
        sha256: SHA-256 of its weights and of its configuration.
    """

    folder: Path
    name: str
    scale: float
    pairs: dict[str, tuple[str, str]]
    tensors: dict[str, TensorHeader]
    sha256: dict[str, str]


def read_adapter(source: MergedSource) -> MergeableAdapter:
    """Read and check the files of an adapter, without its numbers.

    Raises:
        WeightsError: A file is missing, damaged or not the one that the profile expects, or the adapter is of a kind
            that cannot be merged.
    """
    folder = source.adapter
    for name in (WEIGHTS, CONFIG):
        if not is_file(folder / name):
            raise WeightsError(f"the adapter {folder} has no {name}", "give a folder that PEFT's save_pretrained wrote")
    try:
        sha256 = {name: sha256_file(folder / name) for name in (WEIGHTS, CONFIG)}
    except OSError as error:
        raise WeightsError(f"{error.filename}: {error.strerror}", "check the path and its permissions") from error
    if source.sha256 not in (None, sha256[WEIGHTS]):
        raise WeightsError(
            f"{folder / WEIGHTS} has the SHA-256 {sha256[WEIGHTS]}, the profile expects {source.sha256}",
            "restore the file, or change the profile if the new adapter is meant",
        )
    config, tensors = _read_config(folder / CONFIG), read_header(folder / WEIGHTS)
    pairs = _pairs(folder / WEIGHTS, tensors, config)
    return MergeableAdapter(folder, folder.resolve().name, config.scale, pairs, tensors, sha256)


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
    for weight, pair in adapter.pairs.items():
        _check_fit(adapter, weight, pair, places)
    with watched(folder, f"copying {base.name}", sum(sizes.values()), on_progress):
        for name in sizes:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(base / name, folder / name)
    task, total = f"merging {adapter.name}", len(adapter.pairs)
    with (adapter.folder / WEIGHTS).open("rb") as lora:
        for done, (weight, (a, b)) in enumerate(adapter.pairs.items()):
            on_progress(Progress(task, done, total, "matrices"))
            shard, header = places[weight]
            low, high = (_read(lora, adapter.tensors[name]) for name in (a, b))
            if not (np.isfinite(low).all() and np.isfinite(high).all()):
                raise WeightsError(f"{adapter.folder / WEIGHTS}: {one_line(a, 200)} or its counterpart has NaN", _AGAIN)
            with (folder / shard).open("r+b") as file:
                _add(file, header, low, high, np.float32(adapter.scale))
    on_progress(Progress(task, total, total, "matrices"))


def _read_config(path: Path) -> _Config:
    settings = read_settings(path)
    if settings.get("peft_type") != "LORA":
        kind = one_line(repr(settings.get("peft_type")), 60)
        raise WeightsError(f"{path}: peft_type is {kind}; only LORA can be merged", "train a LoRA adapter")
    try:
        config = _Config.model_validate(settings)
    except ValidationError as error:
        raise WeightsError(f"{path}: {format_validation_error(error)}", _AGAIN) from error
    for told in _odd(settings):
        raise WeightsError(
            one_line(f"{path}: {told}, which localemp does not merge", 400),
            "merge it with PEFT's merge_and_unload, and give that folder as --model",
        )
    return config


def _odd(settings: dict[str, Any]) -> Iterator[str]:
    """Yield what of a configuration asks for more than W + scale * B @ A."""
    for name in _REFUSED:
        if settings.get(name):
            yield f"{name} is {settings[name]!r}"
    if settings.get("bias", "none") != "none":
        yield f"bias is {settings['bias']!r}"
    if (init := settings.get("init_lora_weights", True)) not in _PLAIN_INITS:
        yield f"init_lora_weights is {init!r}"


def _pairs(path: Path, tensors: dict[str, TensorHeader], config: _Config) -> dict[str, tuple[str, str]]:
    """Return for every weight the names of its tensors A and B.

    Raises:
        WeightsError: A tensor is no such matrix, has no counterpart or another rank, or a target module has none.
    """
    halves: dict[str, dict[str, str]] = {}
    for name, header in tensors.items():
        ending = next((ending for ending in (_A, _B) if name.endswith(ending)), None)
        if ending is None or not name.startswith(_PREFIX):
            raise WeightsError(
                f"{path}: {one_line(name, 200)} is not a matrix of a LoRA adapter of linear layers", _AGAIN
            )
        if header.dtype not in _SIZES or len(header.shape) != 2:
            raise WeightsError(
                f"{path}: {one_line(name, 200)} has the type {one_line(header.dtype, 20)} and the shape "
                f"{list(header.shape)[:8]}; expected a matrix of {', '.join(_SIZES)}",
                _AGAIN,
            )
        halves.setdefault(name.removeprefix(_PREFIX).removesuffix(ending) + ".weight", {})[ending] = name
    for pair in halves.values():
        for ending, other in ((_A, _B), (_B, _A)):
            if ending not in pair:
                raise WeightsError(f"{path}: {one_line(pair[other], 200)} has no counterpart {ending[1:]}", _AGAIN)
        ranks = {tensors[pair[_A]].shape[0], tensors[pair[_B]].shape[1], config.r}
        if len(ranks) > 1:
            raise WeightsError(
                f"{path}: {one_line(pair[_A], 200)} has the shape {list(tensors[pair[_A]].shape)}, its counterpart "
                f"{list(tensors[pair[_B]].shape)}, and the rank is {config.r}",
                "the files belong to different adapters; " + _AGAIN,
            )
    found = {weight.removesuffix(".weight").rpartition(".")[2] for weight in halves}
    targets = config.target_modules if isinstance(config.target_modules, list) else []
    if missing := [name for name in targets if name.rpartition(".")[2] not in found]:
        raise WeightsError(f"{path}: it has no matrices of {one_line(missing[0], 60)}, a target module", _AGAIN)
    if not halves:
        raise WeightsError(f"{path}: it has no LoRA matrices", _AGAIN)
    return {weight: (pair[_A], pair[_B]) for weight, pair in halves.items()}


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


def _check_fit(
    adapter: MergeableAdapter,
    weight: str,
    pair: tuple[str, str],
    places: dict[str, tuple[str, TensorHeader]],
) -> None:
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
    shape = adapter.tensors[pair[1]].shape[0], adapter.tensors[pair[0]].shape[1]
    if shape != header.shape:
        raise WeightsError(
            f"{where} changes {one_line(weight, 200)} as a matrix of {shape[0]} x {shape[1]}; the base's has the shape "
            f"{' x '.join(map(str, header.shape))}",
            hint,
        )


def _add(file: BinaryIO, header: TensorHeader, low: Matrix, high: Matrix, scale: np.float32) -> None:
    """Add scale * high @ low to the matrix that a file has at `header`, a block of rows at a time."""
    rows, columns = header.shape
    step, width = max(1, _BLOCK // max(1, columns)), _SIZES[header.dtype] * columns
    scaled = high * scale
    for row in range(0, rows, step):
        file.seek(header.start + row * width)
        block = _decode(file.read(min(step, rows - row) * width), header.dtype).reshape(-1, columns)
        change = np.zeros_like(block)
        for rank in range(low.shape[0]):  # not `@`: how that adds up differs between processors
            change += scaled[row : row + step, rank, None] * low[rank]
        file.seek(header.start + row * width)
        file.write(_encode(block + change, header.dtype))


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

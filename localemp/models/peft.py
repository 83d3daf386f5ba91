"""Reads a LoRA adapter as PEFT saves it: `adapter_config.json`, and the header of `adapter_model.safetensors`.

    adapter = read_adapter(folder)

Nothing is loaded: the configuration is a bounded JSON file, and of the weights only names, types and shapes are read.
`adapters.py` applies adapters while a model runs, `merged.py` merges them into weights.
"""

import re
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from localemp.errors import WeightsError
from localemp.models.data_only import read_settings
from localemp.models.safetensors_header import TensorHeader, read_header
from localemp.utils.files import is_file
from localemp.utils.text import one_line
from localemp.utils.validation import format_validation_error

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
AGAIN = "save the adapter again with PEFT"
FORM = "give a folder that PEFT's save_pretrained wrote"

_PREFIX = "base_model.model."
_FLOATS = ("F32", "F16", "BF16")
_OLD_WEIGHTS = ("adapter_model.bin", "adapter_model.pt")
_SAFETENSORS = f"{AGAIN}: model.save_pretrained(FOLDER, safe_serialization=True)"
_LARGEST_RANK = 2**16
# The initial weights of these leave the base model as it is.
_PLAIN_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
# What changes more of a model than W + scale * B @ A.
_NOT_PLAIN = (
    "modules_to_save", "use_dora", "lora_bias", "use_qalora", "use_bdlora", "layer_replication",
    "alora_invocation_tokens", "trainable_token_indices",
)  # fmt: skip


class PeftConfig(BaseModel):
    """What matters of `adapter_config.json`; it has other keys."""

    model_config = ConfigDict(strict=True)

    r: int = Field(gt=0, le=_LARGEST_RANK)
    lora_alpha: float = Field(gt=0, le=2**31, allow_inf_nan=False)
    target_modules: list[str] | str | None = None
    target_parameters: list[str] | None = None
    base_model_name_or_path: str | None = None
    bias: str = "none"
    modules_to_save: list[str] | None = None
    use_rslora: bool | None = False
    use_dora: bool | None = False
    lora_bias: bool | None = False
    use_qalora: bool | None = False
    use_bdlora: Any = None
    fan_in_fan_out: bool | None = False
    layer_replication: Any = None
    alora_invocation_tokens: Any = None
    trainable_token_indices: Any = None
    init_lora_weights: bool | str | None = True
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, float] | None = None

    @property
    def scale(self) -> float:
        """What B @ A is multiplied by, where no pattern says otherwise."""
        return self.lora_alpha / (sqrt(self.r) if self.use_rslora else self.r)

    @property
    def ranks(self) -> set[int]:
        """All ranks that a module can have."""
        return {self.r, *(self.rank_pattern or {}).values()}

    def not_plain(self) -> str:
        """Return the first key and value that make it more than a plain LoRA adapter; empty if there is none."""
        if self.bias != "none":
            return f"bias is {self.bias!r}"
        init = self.init_lora_weights
        if isinstance(init, str) and init.lower() not in _PLAIN_INITS:
            return f"init_lora_weights is {init!r}, which changes the base model's weights"
        return next((f"{name} is {value!r}" for name in _NOT_PLAIN if (value := getattr(self, name))), "")


@dataclass(frozen=True, slots=True)
class LoraMatrix:
    """One of the two matrices of a module.

    Attributes:
        tensor: The name of its tensor.
        header: Its type, shape and place in the file.
    """

    tensor: str
    header: TensorHeader


@dataclass(frozen=True, slots=True)
class LoraModule:
    """One module that an adapter changes, by B @ A.

    Attributes:
        name: As the base model has it: "model.layers.0.self_attn.q_proj".
        a: The first matrix. Shape (rank, inputs).
        b: The second matrix. Shape (outputs, rank).
    """

    name: str
    a: LoraMatrix
    b: LoraMatrix

    @property
    def rank(self) -> int:
        """The rank of its matrices."""
        return self.a.header.shape[0]

    @property
    def inputs(self) -> int:
        """The size of the module's input."""
        return self.a.header.shape[1]

    @property
    def outputs(self) -> int:
        """The size of the module's output."""
        return self.b.header.shape[0]

    @property
    def target(self) -> str:
        """The last part of the name, as `target_modules` has it: "q_proj"."""
        return self.name.rsplit(".", 1)[-1]


@dataclass(frozen=True, slots=True)
class PeftAdapter:
    """The files of an adapter, which agree with each other.

    Attributes:
        config: The configuration.
        modules: Every module that it changes.
        vocabulary: Tokens of an embedding that it brings along; None if it has none.
    """

    config: PeftConfig
    modules: tuple[LoraModule, ...]
    vocabulary: int | None


def read_adapter(folder: Path, named: str) -> PeftAdapter:
    """Read and check an adapter.

    Args:
        folder: Its folder.
        named: What it is called where a file is missing: "--adapter mine".

    Raises:
        WeightsError: A file is missing, damaged or hostile, the two do not agree, or it is no plain LoRA adapter.
    """
    _check_files(folder, named)
    config = _read_config(folder / CONFIG)
    return PeftAdapter(config, *_modules(folder / WEIGHTS, config))


def _check_files(folder: Path, named: str) -> None:
    missing = next((name for name in (CONFIG, WEIGHTS) if not is_file(folder / name)), None)
    if missing is None:
        return
    if old := next((name for name in _OLD_WEIGHTS if is_file(folder / name)), None):
        raise WeightsError(f"{named}: it has only {old}, and such a file can run code", _SAFETENSORS)
    whole = missing == CONFIG and is_file(folder / "config.json")
    raise WeightsError(
        f"{named}: the folder has no {missing}", "it is a whole model: name it with --model" if whole else FORM
    )


def _read_config(path: Path) -> PeftConfig:
    settings = read_settings(path)
    kind = settings.get("peft_type")
    if kind != "LORA":
        raise WeightsError(f"{path}: peft_type is {one_line(repr(kind), 60)}; only LORA works", "train a LoRA adapter")
    try:
        config = PeftConfig.model_validate(settings)
    except ValidationError as error:
        raise WeightsError(f"{path}: {format_validation_error(error)}", AGAIN) from error
    if told := config.not_plain():
        raise WeightsError(
            one_line(f"{path}: {told}; only plain LoRA works", 400),
            "train a plain LoRA adapter, or merge this one with PEFT's merge_and_unload and give that as --model",
        )
    for key, rank in (config.rank_pattern or {}).items():
        if not 0 < rank <= _LARGEST_RANK:
            raise WeightsError(f"{path}: rank_pattern.{one_line(key, 80)}: {rank} is not a rank", AGAIN)
    for key in (*(config.rank_pattern or {}), *(config.alpha_pattern or {})):
        if not _is_harmless(key):
            raise WeightsError(f"{path}: {one_line(key, 80)!r} is no pattern of modules that localemp accepts", AGAIN)
    return config


def _is_harmless(pattern: str) -> bool:
    """Return whether a text is a regular expression, which vLLM runs, that cannot take long."""
    if len(pattern) > 256 or len(re.findall(r"[*+{?]", pattern)) > 2 or re.search(r"\)[*+{?]", pattern):
        return False  # without a repeated group, two repetitions are at most quadratic
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def _modules(path: Path, config: PeftConfig) -> tuple[tuple[LoraModule, ...], int | None]:
    """Return the modules whose tensors a file has, and the vocabulary of an embedding in it.

    Raises:
        WeightsError: A tensor belongs to no pair of matrices, or their shapes or ranks do not agree.
    """
    halves: dict[str, dict[str, LoraMatrix]] = {}
    vocabulary = None
    for tensor, header in read_header(path).items():
        module, half = _parse(tensor)
        if half == "embedding" and len(header.shape) == 2:
            vocabulary = header.shape[0]
            continue
        if half not in ("A", "B") or half in halves.get(module, ()):
            raise WeightsError(f"{path}: {one_line(tensor, 200)} is not a matrix of a LoRA adapter", AGAIN)
        if header.dtype not in _FLOATS or len(header.shape) != 2:
            raise WeightsError(
                f"{path}: {one_line(tensor, 200)} has the type {one_line(header.dtype, 20)} and the shape "
                f"{list(header.shape)[:8]}; expected a matrix of {', '.join(_FLOATS)}",
                AGAIN,
            )
        halves.setdefault(module, {})[half] = LoraMatrix(tensor, header)
    if not halves:
        raise WeightsError(f"{path}: it has no LoRA matrices", AGAIN)
    return tuple(_module(path, name, pair, config) for name, pair in halves.items()), vocabulary


def _parse(tensor: str) -> tuple[str, str]:
    """Return the module of a tensor, and which half of its matrices it is: "A", "B", "embedding", or "" for others."""
    name = tensor.removeprefix(_PREFIX)
    if name.endswith((".embed_tokens.base_layer.weight", "lm_head.base_layer.weight")):
        return name.removesuffix(".base_layer.weight"), "embedding"
    for half in ("A", "B"):
        for ending in (f".lora_{half}.weight", f".lora_embedding_{half}"):
            if name.endswith(ending):
                return name.removesuffix(ending), half
    return name, ""


def _module(path: Path, name: str, pair: dict[str, LoraMatrix], config: PeftConfig) -> LoraModule:
    if missing := {"A", "B"} - pair.keys():
        tensor = one_line(next(iter(pair.values())).tensor, 200)
        raise WeightsError(f"{path}: {tensor} has no counterpart lora_{missing.pop()}", AGAIN)
    module = LoraModule(name, pair["A"], pair["B"])
    if module.rank != (other := module.b.header.shape[1]):
        raise WeightsError(
            f"{path}: {one_line(module.a.tensor, 200)} has rank {module.rank}, but "
            f"{one_line(module.b.tensor, 200)} has {other}",
            AGAIN,
        )
    if module.rank not in config.ranks:
        expected = " or ".join(map(str, sorted(config.ranks)))
        raise WeightsError(
            f"{path}: {one_line(module.a.tensor, 200)} has rank {module.rank}, but {CONFIG} says r = {expected}",
            f"the two files belong to different adapters; {AGAIN}",
        )
    return module

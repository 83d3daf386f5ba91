"""LoRA adapters in PEFT's form: a folder with `adapter_config.json` and `adapter_model.safetensors`, or a hub id.

    adapter = find_adapter("mine=adapters/listener")
    check_adapter(adapter, weights.folder)  # adapter_checks.py

Nothing is loaded: the configuration is a bounded JSON file, and of the weights only names and shapes are read.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from localemp.errors import OptionError, WeightsError
from localemp.models import hub
from localemp.models.checksums import digest_of, sha256_files
from localemp.models.data_only import read_settings
from localemp.models.profiles import HubSource, is_hub_id
from localemp.models.safetensors_header import TensorHeader, read_header
from localemp.utils.files import is_file, is_folder
from localemp.utils.paths import at_home
from localemp.utils.progress import OnProgress, silent
from localemp.utils.text import one_line
from localemp.utils.validation import format_validation_error

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM takes for `max_lora_rank`; an adapter of a rank between them needs the next one."""

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}", re.ASCII)
_PREFIX = "base_model.model."
_FORMS = "give a folder that PEFT's save_pretrained wrote, or a Hugging Face id (org/name)"
_SAFETENSORS = "save it again with PEFT: model.save_pretrained(FOLDER, safe_serialization=True)"
_FLOATS = ("F32", "F16", "BF16")
_OLD_WEIGHTS = ("adapter_model.bin", "adapter_model.pt")
# The initial weights of these leave the base model as it is; others change it, which vLLM does not.
_PLAIN_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")


@dataclass(frozen=True, slots=True)
class AdapterModule:
    """One module that an adapter changes.

    Attributes:
        name: As the base model has it: "model.layers.0.self_attn.q_proj".
        rank: Of its two matrices.
        inputs, outputs: Sizes of the module's input and output.
        tensor: Name of the first of its tensors, for errors.
    """

    name: str
    rank: int
    inputs: int
    outputs: int
    tensor: str

    @property
    def target(self) -> str:
        """The last part of the name, as `target_modules` has it: "q_proj"."""
        return self.name.rsplit(".", 1)[-1]


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter on this machine.

    Attributes:
        name: A word without spaces; names of requests and folders have it.
        reference: The path or hub id as it was given.
        folder: The absolute path of its folder.
        rank: The largest of its modules' ranks.
        targets: The kinds of modules that it changes, sorted: ("k_proj", "q_proj").
        base: The model that it was trained on, as its configuration says; may be a path of another machine.
        sha256: SHA-256 of its two files.
        vocabulary: Tokens of an embedding that it brings along; None if it has none.
        modules: Every module that it changes.
    """

    name: str
    reference: str
    folder: Path
    rank: int
    targets: tuple[str, ...]
    base: str
    sha256: str
    vocabulary: int | None = None
    modules: tuple[AdapterModule, ...] = field(default=(), repr=False, compare=False)

    def settings(self) -> dict[str, Any]:
        """Return what of it can change a reply, for a manifest."""
        return {"adapter": self.name, "adapter_rank": self.rank, "adapter_sha256": self.sha256}

    def describe(self) -> dict[str, Any]:
        """Return what a session records: where it was found, too."""
        return {
            "name": self.name,
            "reference": self.reference,
            "base": self.base,
            "rank": self.rank,
            "targets": list(self.targets),
            "sha256": self.sha256,
        }


class _Config(BaseModel):
    """What matters of PEFT's `adapter_config.json`; it has other keys."""

    model_config = ConfigDict(strict=True)

    peft_type: str
    r: int = Field(gt=0, le=RANKS[-1])
    lora_alpha: float = Field(gt=0, le=2**31, allow_inf_nan=False)
    base_model_name_or_path: str | None = None
    bias: str = "none"
    modules_to_save: list[str] | None = None
    use_dora: bool | None = False
    lora_bias: bool | None = False
    use_qalora: bool | None = False
    use_bdlora: Any = None
    layer_replication: Any = None
    alora_invocation_tokens: Any = None
    trainable_token_indices: Any = None
    init_lora_weights: bool | str | None = True
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, float] | None = None

    def refused(self) -> str:
        """Return the first key and value that vLLM cannot apply; empty if there is none."""
        if self.bias != "none":
            return f'bias is {self.bias!r}, and only "none" is'
        init = self.init_lora_weights
        if isinstance(init, str) and init.lower() not in _PLAIN_INITS:
            return f"init_lora_weights is {init!r}, which changes the base model's weights, and that is not"
        unknown = ("modules_to_save", "use_dora", "lora_bias", "use_qalora", "use_bdlora", "layer_replication")
        for name in (*unknown, "alora_invocation_tokens", "trainable_token_indices"):
            if value := getattr(self, name):
                return f"{name} is {value!r}, which is not"
        return ""


def split_spec(spec: str) -> tuple[str, str]:
    """Split NAME=PATH or NAME=HUB_ID; the name is empty if there is none.

    Raises:
        OptionError: The name or the reference is empty or unusable.
    """
    name, equals, reference = spec.partition("=")
    if not equals or "/" in name or is_folder(at_home(spec)):
        name, reference = "", spec
    elif not _NAME.fullmatch(name):
        raise OptionError(
            f"--adapter {one_line(spec, 80)}: {one_line(name, 40)!r} is not a name",
            "a name has letters, digits and . _ - (at most 64), such as mine=adapters/listener",
        )
    if not reference.strip():
        raise OptionError(f"--adapter {one_line(spec, 80)}: it names no adapter", _FORMS)
    return name, reference


def adapter_name(spec: str) -> str:
    """Return the name that an adapter will have, without looking for it."""
    name, reference = split_spec(spec)
    return name or _safe(at_home(reference).absolute().name)


def find_adapter(spec: str, on_progress: OnProgress = silent) -> Adapter:
    """Find an adapter on this machine, or fetch it from the hub, and read its files.

    Args:
        spec: A folder or a hub id, or one with a name: "mine=adapters/listener". The name is by default the last part.
        on_progress: Called with bytes fetched or verified.

    Raises:
        OptionError: There is no such folder.
        WeightsError: The adapter cannot be fetched or read, is damaged, or is of a kind that vLLM cannot apply.
    """
    _, reference = split_spec(spec)
    path, name = at_home(reference), adapter_name(spec)
    if is_folder(path):
        folder = path.resolve()
        _check_files(folder, reference)
    elif is_hub_id(reference):
        folder = hub.fetch_adapter(HubSource(id=reference), (CONFIG, WEIGHTS), on_progress).folder
    else:
        what = "is a file, not a folder" if is_file(path) else "is not a folder here, and not a Hugging Face id"
        raise OptionError(f"--adapter {one_line(reference, 200)} {what}", _FORMS)
    return _read(name, reference, folder, on_progress)


def _safe(name: str) -> str:
    """Turn the name of a folder into that of an adapter."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name).lstrip("._-")[:64] or "adapter"


def _check_files(folder: Path, reference: str) -> None:
    if is_file(folder / CONFIG) and is_file(folder / WEIGHTS):
        return
    shown = one_line(reference, 200)
    if old := next((name for name in _OLD_WEIGHTS if is_file(folder / name)), None):
        raise WeightsError(f"--adapter {shown}: it has only {old}, and such a file can run code", _SAFETENSORS)
    missing = CONFIG if not is_file(folder / CONFIG) else WEIGHTS
    whole = missing == CONFIG and is_file(folder / "config.json")
    hint = "it is a whole model: name it with --model" if whole else _FORMS
    raise WeightsError(f"--adapter {shown}: the folder has no {missing}", hint)


def _read(name: str, reference: str, folder: Path, on_progress: OnProgress) -> Adapter:
    config = _read_config(folder / CONFIG)
    modules, vocabulary = _modules(folder / WEIGHTS, config)
    return Adapter(
        name,
        reference,
        folder,
        rank=max(module.rank for module in modules),
        targets=tuple(sorted({module.target for module in modules})),
        base=one_line(config.base_model_name_or_path or "", 200),
        sha256=digest_of(sha256_files(folder, [CONFIG, WEIGHTS], on_progress)),
        vocabulary=vocabulary,
        modules=modules,
    )


def _read_config(path: Path) -> _Config:
    settings = read_settings(path)
    kind = settings.get("peft_type")
    if kind != "LORA":
        raise WeightsError(
            f"{path}: peft_type is {one_line(repr(kind), 60)}; only LORA can be applied", "train a LoRA adapter"
        )
    try:
        config = _Config.model_validate(settings)
    except ValidationError as error:
        raise WeightsError(
            f"{path}: {format_validation_error(error, _IN_WORDS)}", "save the adapter again with PEFT"
        ) from error
    if told := config.refused():
        raise WeightsError(
            one_line(f"{path}: {told} possible in vLLM", 400),
            "train a plain LoRA adapter, or merge it into its base model with PEFT and give that as --model",
        )
    for key, rank in (config.rank_pattern or {}).items():
        if not 0 < rank <= RANKS[-1]:
            raise WeightsError(f"{path}: rank_pattern.{one_line(key, 80)}: {rank} is not from 1 to {RANKS[-1]}")
    for key in (*(config.rank_pattern or {}), *(config.alpha_pattern or {})):
        if len(key) > 256 or len(re.findall(r"[*+{?]", key)) > 2:  # vLLM runs them as regular expressions
            raise WeightsError(f"{path}: {one_line(key, 80)!r} is no pattern of modules that localemp accepts")
    return config


_IN_WORDS = {
    ("r", kind): f"the rank must be a whole number from 1 to {RANKS[-1]}, which is the largest that vLLM takes"
    for kind in ("int_type", "greater_than", "less_than_equal")
}


def _modules(path: Path, config: _Config) -> tuple[tuple[AdapterModule, ...], int | None]:
    """Return the modules whose tensors a file has, and the vocabulary of an embedding in it.

    Raises:
        WeightsError: A tensor belongs to no pair of matrices, or their shapes or ranks do not agree.
    """
    halves: dict[str, dict[str, tuple[str, TensorHeader]]] = {}
    vocabulary = None
    for tensor, header in read_header(path).items():
        module, half = _parse(tensor)
        if half == "embedding" and len(header.shape) == 2:
            vocabulary = header.shape[0]  # vLLM leaves it out, so it must be that of the model
            continue
        if half not in ("A", "B"):
            raise WeightsError(
                f"{path}: {one_line(tensor, 200)} is not a matrix of a LoRA adapter", "save the adapter again with PEFT"
            )
        if header.dtype not in _FLOATS or len(header.shape) != 2:
            raise WeightsError(
                f"{path}: {one_line(tensor, 200)} has the type {one_line(header.dtype, 20)} and the shape "
                f"{list(header.shape)[:8]}; expected a matrix of {', '.join(_FLOATS)}",
                "save the adapter again with PEFT",
            )
        halves.setdefault(module, {})[half] = tensor, header
    if not halves:
        raise WeightsError(f"{path}: it has no LoRA matrices", "save the adapter again with PEFT")
    return tuple(_module(path, name, pair, config) for name, pair in halves.items()), vocabulary


def _module(path: Path, name: str, pair: dict[str, tuple[str, TensorHeader]], config: _Config) -> AdapterModule:
    if missing := {"A", "B"} - pair.keys():
        tensor = one_line(next(iter(pair.values()))[0], 200)
        raise WeightsError(f"{path}: {tensor} has no counterpart lora_{missing.pop()}", "save the adapter again")
    (tensor, first), (other, second) = pair["A"], pair["B"]
    (rank, inputs), (outputs, found) = first.shape, second.shape
    if rank != found:
        raise WeightsError(
            f"{path}: {one_line(tensor, 200)} has rank {rank}, but {one_line(other, 200)} has {found}",
            "save the adapter again with PEFT",
        )
    ranks = {config.r, *(config.rank_pattern or {}).values()}
    if rank not in ranks:
        expected = " or ".join(map(str, sorted(ranks)))
        raise WeightsError(
            f"{path}: {one_line(tensor, 200)} has rank {rank}, but {CONFIG} says r = {expected}",
            "the two files belong to different adapters; save the adapter again",
        )
    return AdapterModule(name, rank, inputs, outputs, tensor)


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

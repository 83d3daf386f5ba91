"""LoRA adapters that are applied while a model runs: a folder as PEFT saves it (`peft.py`), or a hub id.

adapter = find_adapter("mine=adapters/listener")
check_adapter(adapter, weights.folder)  # adapter_checks.py
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localemp.errors import OptionError, WeightsError
from localemp.models import hub
from localemp.models.checksums import digest_of, sha256_files
from localemp.models.peft import AGAIN, CONFIG, FORM, WEIGHTS, LoraModule, read_adapter
from localemp.models.profiles import HubSource, is_hub_id
from localemp.utils.files import is_file, is_folder
from localemp.utils.paths import at_home
from localemp.utils.progress import OnProgress, silent
from localemp.utils.text import one_line

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM takes for `max_lora_rank`; an adapter of a rank between them needs the next one."""

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}", re.ASCII)
_FORMS = f"{FORM}, or a Hugging Face id (org/name)"


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter on this machine.

    Attributes:
        name: A word without spaces; names of requests and folders have it.
        reference: The path or hub id as it was given.
        folder: The absolute path of its folder.
        rank: The largest that its configuration names.
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
    modules: tuple[LoraModule, ...] = field(default=(), repr=False, compare=False)

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
    return name or _safe(os.path.basename(os.path.abspath(at_home(reference))))  # noqa: PTH100, PTH119  "..", too


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
    elif is_hub_id(reference):
        folder = hub.fetch_adapter(HubSource(id=reference), (CONFIG, WEIGHTS), on_progress).folder
    else:
        what = "is a file, not a folder" if is_file(path) else "is not a folder here, and not a Hugging Face id"
        raise OptionError(f"--adapter {one_line(reference, 200)} {what}", _FORMS)
    return _read(name, reference, folder, on_progress)


def _safe(name: str) -> str:
    """Turn the name of a folder into that of an adapter."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name).lstrip("._-")[:64] or "adapter"


def _read(name: str, reference: str, folder: Path, on_progress: OnProgress) -> Adapter:
    found = read_adapter(folder, f"--adapter {one_line(reference, 200)}")
    if (rank := max(found.config.ranks)) > RANKS[-1]:
        raise WeightsError(
            f"{folder / CONFIG}: the rank is {rank}; vLLM takes at most {RANKS[-1]}",
            "train one of a smaller rank, or merge this one into its model with PEFT and give that as --model",
        )
    if found.config.target_modules is None:
        raise WeightsError(f"{folder / CONFIG}: it has no target_modules, which vLLM needs", AGAIN)
    return Adapter(
        name,
        reference,
        folder,
        rank=rank,
        targets=tuple(sorted({module.target for module in found.modules})),
        base=one_line(found.config.base_model_name_or_path or "", 200),
        sha256=digest_of(sha256_files(folder, [CONFIG, WEIGHTS], on_progress)),
        vocabulary=found.vocabulary,
        modules=found.modules,
    )

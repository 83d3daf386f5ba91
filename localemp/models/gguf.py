"""Converts a GGUF file of a chat model into a folder for vLLM and transformers: bfloat16 safetensors.

Runs as a separate process (`python -m localemp.models.gguf FILE FOLDER`), so that the process that starts the engine
does not import torch, and the memory is released.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from localemp.errors import LocalempError, WeightsError
from localemp.models.data_only import read_settings
from localemp.utils.extras import engine_extra, require

# Pre-tokenizers. transformers rebuilds a GPT-2 tokenizer from a GGUF file without looking at this name, and would merge
# digits and spaces that the model has only seen separately.
_SPLITS_DIGITS = {"smollm"}
_AS_GPT2 = {"gpt-2", "default"}


def convert(source: Path, folder: Path) -> None:
    """Write config, generation config, tokenizer, chat template and bfloat16 weights of `source` to `folder`.

    Raises:
        WeightsError: The file cannot be converted, for instance by this version of transformers.
        MissingPackageError: torch or transformers is not installed.
    """
    require(engine_extra(), f"converting {source.name}", "torch", "transformers")
    command = [sys.executable, "-m", "localemp.models.gguf", str(source), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        reason = said[-1] if said else f"exit status {done.returncode}"
        raise WeightsError(f"cannot convert {source.name}: {reason}")


def _convert(source: Path, folder: Path) -> None:
    splits_digits = _splits_digits(source)

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    here, file = str(source.parent), source.name
    tokenizer = AutoTokenizer.from_pretrained(here, gguf_file=file, trust_remote_code=False)
    if splits_digits:
        _split_digits(tokenizer)
    if not tokenizer.chat_template:
        raise WeightsError(f"{file} has no chat template, which localemp needs")
    model = AutoModelForCausalLM.from_pretrained(
        here,
        gguf_file=file,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
        trust_remote_code=False,
    )
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _remove_keys(folder / "config.json", "_model_name_or_path")
    _remove_keys(folder / "tokenizer_config.json", "is_local", "local_files_only")
    for path in folder.iterdir():
        path.chmod(0o644)


def _splits_digits(source: Path) -> bool:
    from gguf import GGUFReader

    field = GGUFReader(source).get_field("tokenizer.ggml.pre")
    rule = "default" if field is None else str(field.contents())
    if rule not in _SPLITS_DIGITS | _AS_GPT2:
        raise WeightsError(f"{source.name}: unknown pre-tokenizer {rule!r}")
    return rule in _SPLITS_DIGITS


def _split_digits(tokenizer: Any) -> None:
    from tokenizers import pre_tokenizers

    digits = pre_tokenizers.Digits(individual_digits=True)
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])


def _remove_keys(path: Path, *keys: str) -> None:
    kept = {key: value for key, value in read_settings(path).items() if key not in keys}
    path.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    try:
        _convert(Path(sys.argv[1]), Path(sys.argv[2]))
    except LocalempError as error:
        sys.exit(error.message)

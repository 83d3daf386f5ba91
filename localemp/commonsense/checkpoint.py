"""Loads a COMET checkpoint from a folder, and checks that it is complete."""

from pathlib import Path
from typing import Any

from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from localemp.commonsense.decoding import ATTENTION
from localemp.errors import WeightsError
from localemp.models.data_only import check_data_only
from localemp.utils.plain_errors import in_words
from localemp.utils.torch import quiet_transformers


def load_checkpoint(folder: Path, dtype: str) -> tuple[Any, Any]:
    """Load the model, with the attention that `decoding` needs, and its tokenizer.

    Raises:
        WeightsError: The folder has no complete sequence-to-sequence checkpoint, or one with a foreign tokenizer or
            custom code.
    """
    hint = "give a folder with config.json, model.safetensors and the tokenizer of a COMET-BART checkpoint"
    if not folder.is_dir():
        raise WeightsError(f"not a COMET checkpoint: {folder} is not a folder", hint)
    check_data_only(folder)
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
            model, found = AutoModelForSeq2SeqLM.from_pretrained(
                str(folder), dtype=dtype, local_files_only=True, trust_remote_code=False, output_loading_info=True
            )
            model.set_attn_implementation(ATTENTION)
    # Invalid configurations can raise anything.
    except Exception as error:
        reason = in_words(error)
        raise WeightsError(f"cannot load a COMET checkpoint from {folder}: {reason}", hint) from error
    # transformers would initialize these randomly.
    if missing := sorted(found["missing_keys"]):
        raise WeightsError(f"the weights in {folder} lack {len(missing)} tensors, such as {missing[0]}", hint)
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        known = f"the tokenizer in {folder} has {len(tokenizer)} tokens, the weights only {rows}"
        raise WeightsError(f"{known}: they do not match", hint)
    return model, tokenizer

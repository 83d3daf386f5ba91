"""A tokenizer of a few words, with marks of thinking that are special tokens or not, and any chat template."""

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|assistant|>"


def write_tokenizer(
    folder: Path, special: Sequence[str] = (), added: Sequence[str] = (), template: str | None = TEMPLATE
) -> Path:
    """Write a folder with a tokenizer; returns it."""
    words = ["[UNK]", "<eos>", "Sad", "Oh", "no", "."]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<eos>", *special])
    tokenizer.add_tokens([AddedToken(each, special=False) for each in added])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<eos>", "unk_token": "[UNK]"}
    settings |= {"extra_special_tokens": list(special)} if special else {}
    settings |= {"chat_template": template} if template else {}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder

"""A tiny BART of random weights: its texts are nonsense, the machinery is the real one."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast

from localemp.models.atomic import RELATIONS

VOCABULARY = "i my dog died got a new job and we were very happy lost it again today the cat . ! sad"
POSITIONS = 16


def save_tiny(folder: Path, positions: int = POSITIONS, extra_tokens: int = 0, byte_by_byte: bool = False) -> Path:
    torch.manual_seed(7)
    words = [
        "<s>",
        "<pad>",
        "</s>",
        "<unk>",
        *VOCABULARY.split(),
        *RELATIONS,
        "[GEN]",
        *(f"extra{i}" for i in range(extra_tokens)),
    ]
    if byte_by_byte:
        words += pre_tokenizers.ByteLevel.alphabet()
        words = list(dict.fromkeys(words))
        backend = Tokenizer(models.BPE({word: index for index, word in enumerate(words)}, []))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.save_pretrained(folder)
    config = BartConfig(
        vocab_size=len(words) - extra_tokens,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=positions,
        # Large enough that what is asked changes what is answered.
        init_std=0.3,
    )
    BartForConditionalGeneration(config).save_pretrained(folder)
    return folder

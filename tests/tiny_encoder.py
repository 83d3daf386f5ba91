"""A sentence encoder of random weights with the modules of all-mpnet-base-v2: its vectors mean nothing."""

from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import BertConfig, BertModel, BertTokenizerFast

WORDS = "i my dog died got a new job and we were very happy lost it again today the cat sad . !"
LIMIT = 16


def save_tiny_encoder(base: Path, saved: Path) -> Path:
    """Make it in `saved`; `base` holds the transformer alone."""
    torch.manual_seed(5)
    vocabulary = base / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split()]))
    BertTokenizerFast(vocab=str(vocabulary)).save_pretrained(base)
    config = BertConfig(
        vocab_size=5 + len(WORDS.split()),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        # Ten times the usual spread, or all texts would look the same.
        initializer_range=0.2,
    )
    BertModel(config).save_pretrained(base)
    transformer = Transformer(str(base), max_seq_length=LIMIT)
    SentenceTransformer(modules=[transformer, Pooling(32), Normalize()], device="cpu").save(str(saved))
    return saved

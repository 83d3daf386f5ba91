"""Models of known sizes with random weights, for machines that cannot fetch the real ones: COMET-BART and all-mpnet.

python benchmarks/shapes.py FOLDER          # FOLDER/bart-large for --comet, FOLDER/mpnet for --encoder
"""

import logging
from pathlib import Path

import click
import torch
from comet_shapes import save_bart_large
from script import Script
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Normalize, Pooling, Transformer
from transformers import AutoTokenizer, MPNetConfig, MPNetModel

from localemp.data.sources import load_dialogues
from localemp.models.profiles import load_profile
from localemp.models.weights import resolve
from localemp.utils.torch import pick_device

POSITIONS = 514  # of all-mpnet-base-v2, which reads the first 384 tokens of a text
TOKENS = 384


def save_mpnet(folder: Path, tokenizer_of: Path, seed: int) -> Path:
    """A sentence encoder of all-mpnet-base-v2's shape with random weights and another tokenizer.

    Args:
        folder: Is written to.
        tokenizer_of: A model whose tokenizer it gets; the texts have about as many tokens.
        seed: Of the weights.
    """
    bare = folder.with_name(f"{folder.name}-bare")
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_of)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    tokenizer.save_pretrained(bare)
    torch.manual_seed(seed)
    config = MPNetConfig(
        vocab_size=len(tokenizer), max_position_embeddings=POSITIONS, pad_token_id=tokenizer.pad_token_id
    )
    MPNetModel(config).save_pretrained(bare)
    reads = Transformer(str(bare), max_seq_length=TOKENS)
    SentenceTransformer(modules=[reads, Pooling(config.hidden_size), Normalize()], device="cpu").save(str(folder))
    return folder


@click.command(cls=Script)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--seed", default=0, show_default=True)
def main(folder: Path, seed: int) -> None:
    """Write both models into FOLDER; existing ones are kept."""
    logging.disable(logging.WARNING)
    comet, encoder = folder / "bart-large", folder / "mpnet"
    if not (comet / "model.safetensors").exists():
        comet.mkdir(parents=True, exist_ok=True)
        events = [dialogue.last_utterance for dialogue in load_dialogues("bundled", "train")[:16]]
        tokenizer_of = resolve(load_profile("comet-mini", "commonsense")).folder
        save_bart_large(comet, tokenizer_of, events, seed, pick_device(None))
    if not (encoder / "modules.json").exists():
        save_mpnet(encoder, resolve(load_profile("smollm2", "chat")).folder, seed)
    click.echo(f"{comet}\n{encoder}")


if __name__ == "__main__":
    main()

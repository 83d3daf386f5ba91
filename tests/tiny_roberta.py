"""A tiny RoBERTa whose every file is the same wherever it is written, so that versions of libraries can be compared.

Its texts mean nothing to it, the machinery is the real one: byte-level BPE, positions that begin behind the padding,
and a limit of tokens that texts can exceed. `python tests/tiny_roberta.py` prints what bert-score's own `score()` makes
of `PAIRS` with the libraries that are installed; the table in metrics/test_bertscore.py is from transformers
4.57.
"""

import json
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

LIMIT, LAYERS, LAYER, HIDDEN, INNER = 24, 4, 3, 32, 64

# What a BPE trainer learned from seven short replies; a space before a word is written Ġ.
MERGES = """o u|h a|y ou|Ġ s|Ġ you|Ġ a|Ġ h|Ġ t|ha t|Ġs o|e e|e r|n d|Ġ d|Ġ f|Ġ i|Ġ ha|e a|e t|i d|n e|p e|Ġ b|Ġ g|Ġa m
Ġh o|Ġt o|ee l|Ġd id|Ġf eel|Ġha p|T hat|W hat|b ou|e nd|f u|h e|j o|m u|n o|o f|o g|o h|o n|o r|o nd|p r|p y|r r|r ea
s t|t hat|t er|v e|w ond|Ġ I|Ġ ne|Ġ end|Ġ jo|Ġ mu|Ġ no|Ġ of|Ġ pr|Ġ wond|ou d|ou nd|Ġs ound|Ġyou r|Ġa bou|Ġh er|Ġh ea
Ġt hat|Ġt he|Ġso on|Ġso rr|ee n|er fu|Ġd og|Ġf or|Ġi n|Ġi s|Ġi t|Ġha ve|et ter|ne d|pe ned|Ġb een|Ġb etter|Ġg et
Ġg rea"""

# (reply, reference). Between them: spaces around, other scripts, one word, cut texts, repetitions, no letter at all.
PAIRS = (
    ("I am so sorry to hear that.", "That sounds great, how did you feel about it?"),
    ("  I hope you feel better soon!  ", "I hope you feel better soon!"),
    ("you", "your dog"),
    ("That is wonderful. " * 8, "that is wonderful, I am happy for you " * 5),
    ("Oh no, did you get a new job in the end?", "What happened to your dog?"),
    ("ça va mieux, 你好 — naïve café 🙂", "Ça va? 😊 Здравствуйте"),
    ("you\u00a0must\thave been\nso proud", " you must  have been so proud of her"),
    ("!!! ... ???", "no"),
    ("I am so sorry to hear that.", "I am so sorry for your dog."),
    ("that", "What happened? I am so sorry, you must have been so proud of her and of that dog in the end."),
    ("\u3000I feel the same\u2009", "I feel the same"),
    ("it is 3:45 p.m., i'd guess; you've", "IT IS 3:45 PM"),
)


def save_tiny_roberta(folder: Path, limit: bool = True) -> Path:
    """Write the checkpoint; without `limit` its tokenizer knows none, as some published ones do not."""
    folder.mkdir(parents=True, exist_ok=True)
    merges = [tuple(merge.split(" ")) for merge in MERGES.replace("\n", "|").split("|")]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["<s>", "<pad>", "</s>", "<unk>", *alphabet, *dict.fromkeys("".join(merge) for merge in merges), "<mask>"]
    vocabulary = {word: index for index, word in enumerate(words)}
    config = {
        "architectures": ["RobertaModel"],
        "model_type": "roberta",
        "vocab_size": len(words),
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "intermediate_size": INNER,
        "max_position_embeddings": LIMIT + 2,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
    }
    _write(folder / "config.json", config)
    _write(folder / "tokenizer_config.json", {"model_max_length": LIMIT} if limit else {})
    _write(folder / "vocab.json", vocabulary)
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    # Like the published tokenizer.json: no space is put before a text unless one asks for it.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), True, False)
    tokenizer.add_special_tokens([*words[:4], AddedToken("<mask>", lstrip=True)])
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file(_weights(len(words)), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _weights(words: int) -> dict[str, np.ndarray]:
    shapes = {
        "embeddings.word_embeddings.weight": (words, HIDDEN),
        "embeddings.position_embeddings.weight": (LIMIT + 2, HIDDEN),
        "embeddings.token_type_embeddings.weight": (1, HIDDEN),
        "embeddings.LayerNorm": (HIDDEN,),
    }
    for layer in range(LAYERS):
        block = f"encoder.layer.{layer}"
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes[f"{block}.{name}"] = (HIDDEN, HIDDEN)
        shapes[f"{block}.intermediate.dense"] = (INNER, HIDDEN)
        shapes[f"{block}.output.dense"] = (HIDDEN, INNER)
        shapes |= {f"{block}.{name}.LayerNorm": (HIDDEN,) for name in ("attention.output", "output")}
    weights = {}
    for name, shape in shapes.items():
        # The old generator: its numbers are promised never to change.
        draw = np.random.RandomState(zlib.crc32(name.encode()))
        if name.endswith("LayerNorm"):
            weights[f"{name}.weight"] = 1 + 0.1 * draw.standard_normal(shape)
            weights[f"{name}.bias"] = 0.1 * draw.standard_normal(shape)
        elif name.endswith("weight"):
            weights[name] = draw.standard_normal(shape)
        else:
            # Attention that is sharp and adds little: otherwise all tokens would become alike after a layer or two.
            spread = 0.4 if name.endswith(("query", "key")) else 0.1
            weights[f"{name}.weight"] = spread * draw.standard_normal(shape)
            weights[f"{name}.bias"] = 0.1 * draw.standard_normal(shape[:1])
    return {name: tensor.astype(np.float32) for name, tensor in weights.items()}


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    import bert_score
    import transformers

    with tempfile.TemporaryDirectory() as name:
        place = str(save_tiny_roberta(Path(name)))
        replies, references = (list(side) for side in zip(*PAIRS, strict=True))
        found = bert_score.score(replies, references, model_type=place, num_layers=LAYER, device="cpu")
    print(f"bert-score {bert_score.__version__}, transformers {transformers.__version__}", file=sys.stderr)
    for row in zip(*(value.tolist() for value in found), strict=True):
        print("    (" + ", ".join(f"{value:.7f}" for value in row) + "),")

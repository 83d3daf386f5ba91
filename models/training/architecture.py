"""comet-mini before it is trained: a BART whose encoder already knows English.

BERT's and BART's layers are both post-norm, so the six layers of all-MiniLM-L6-v2 fit a BART encoder one to one. Three
of them begin the decoder too (Rothe et al. 2020, "Leveraging Pre-trained Checkpoints for Sequence Generation Tasks").
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import AutoModel, BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast

DECODER_FROM = (1, 3, 5)  # encoder layers that the decoder's begin as
RARE = 10  # times
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def make_tokenizer(
    minilm: Path, learnt: Iterable[str], talk: Iterable[str], persons: Sequence[str], relations: Sequence[str]
) -> PreTrainedTokenizerFast:
    """MiniLM's tokenizer with fewer word pieces, and a token for every person and relation.

    Args:
        minilm: Folder of all-MiniLM-L6-v2.
        learnt: Texts of the training data: all their pieces stay.
        talk: Texts of the kind that will be asked about: their pieces stay where they are not rare.
        persons: Placeholders that the texts have, such as "PersonX".
        relations: Names; their tokens are written "[name]".
    """
    whole = Tokenizer.from_file(str(minilm / "tokenizer.json"))
    whole.no_truncation()
    pieces, spoken = _count(whole, learnt), _count(whole, talk)
    used = pieces.keys() | {piece for piece, times in spoken.items() if times >= RARE}
    spec = json.loads(whole.to_str())
    ranked = sorted(spec["model"]["vocab"].items(), key=lambda item: item[1])
    # Single characters stay, so that every word can still be spelt.
    kept = [piece for piece, _ in ranked if piece in _SPECIAL or piece in used or len(piece.removeprefix("##")) == 1]
    ids = {piece: number for number, piece in enumerate([*_SPECIAL, *(p for p in kept if p not in _SPECIAL)])}
    spec["model"]["vocab"] = ids
    spec["added_tokens"] = [token | {"id": ids[token["content"]]} for token in spec["added_tokens"]]
    for name, token in spec["post_processor"].get("special_tokens", {}).items():
        token["ids"] = [ids[name]]
    for name in ("sep", "cls"):
        if name in spec["post_processor"]:
            spec["post_processor"][name][1] = ids[spec["post_processor"][name][0]]
    spec["padding"] = spec["truncation"] = None
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(spec)),
        pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
        bos_token="[CLS]", eos_token="[SEP]",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    tokenizer.add_tokens(list(persons))
    tokenizer.add_special_tokens({"additional_special_tokens": [f"[{relation}]" for relation in relations]})
    return tokenizer


def make_model(minilm: Path, tokenizer: PreTrainedTokenizerFast) -> BartForConditionalGeneration:
    """A BART of 6 + 3 layers and width 384, its encoder MiniLM's, its decoder begun from MiniLM's layers."""
    bert = AutoModel.from_pretrained(str(minilm), dtype=torch.float32)
    source = bert.state_dict()
    model = BartForConditionalGeneration(
        BartConfig(
            vocab_size=len(tokenizer),
            d_model=384, encoder_layers=6, decoder_layers=3, encoder_attention_heads=12, decoder_attention_heads=12,
            encoder_ffn_dim=1536, decoder_ffn_dim=1536, max_position_embeddings=512, dropout=0.1, attention_dropout=0.0,
            activation_dropout=0.0, activation_function="gelu", scale_embedding=False,
            attn_implementation="eager",  # on a CPU the fused kernel's backward pass took a third of a step
            pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, decoder_start_token_id=tokenizer.bos_token_id,
            forced_eos_token_id=None,
        )
    )  # fmt: skip
    target = model.state_dict()
    words, old = source["embeddings.word_embeddings.weight"], _old_ids(minilm)
    embedding = target["model.shared.weight"]
    embedding.normal_(0.0, float(words.std()))
    for piece, number in tokenizer.get_vocab().items():
        if piece in old:
            embedding[number] = words[old[piece]]
        elif piece.startswith("Person"):
            embedding[number] = words[old["person"]] + 0.3 * words[old[piece[-1].lower()]]
    for side in ("encoder", "decoder"):
        positions = target[f"model.{side}.embed_positions.weight"]
        # BART keeps two rows at the start; what BERT adds for the token type is the same everywhere.
        positions[2:] = source["embeddings.position_embeddings.weight"]
        positions[2:] += source["embeddings.token_type_embeddings.weight"][0]
        for part in ("weight", "bias"):
            target[f"model.{side}.layernorm_embedding.{part}"].copy_(source[f"embeddings.LayerNorm.{part}"])
    for layer in range(6):
        _copy_layer(source, target, layer, f"model.encoder.layers.{layer}", ("self_attn",))
    for layer, origin in enumerate(DECODER_FROM):
        _copy_layer(source, target, origin, f"model.decoder.layers.{layer}", ("self_attn", "encoder_attn"))
    model.load_state_dict(target)
    model.tie_weights()
    return model


def _count(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False):
        found.update(encoding.tokens)
    return found


def _old_ids(minilm: Path) -> dict[str, int]:
    vocabulary: dict[str, int] = json.loads((minilm / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    return vocabulary


def _copy_layer(
    source: dict[str, torch.Tensor], target: dict[str, torch.Tensor], number: int, into: str, attentions: Sequence[str]
) -> None:
    layer = f"encoder.layer.{number}"
    pairs = [(f"{layer}.intermediate.dense", f"{into}.fc1"), (f"{layer}.output.dense", f"{into}.fc2")]
    pairs += [(f"{layer}.output.LayerNorm", f"{into}.final_layer_norm")]
    for attention in attentions:
        for theirs, ours in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
            pairs.append((f"{layer}.attention.self.{theirs}", f"{into}.{attention}.{ours}"))
        pairs.append((f"{layer}.attention.output.dense", f"{into}.{attention}.out_proj"))
        pairs.append((f"{layer}.attention.output.LayerNorm", f"{into}.{attention}_layer_norm"))
    for theirs, ours in pairs:
        for part in ("weight", "bias"):
            target[f"{ours}.{part}"].copy_(source[f"{theirs}.{part}"])

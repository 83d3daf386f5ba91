"""Helpers of benchmarks/comet.py: a BART-large without a hub, time by component, and the lower bound."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoTokenizer, BartConfig, BartForConditionalGeneration

from localemp.commonsense.comet import Comet

VOCABULARY = 50_265
MEAN_TOKENS = 5.0  # an inference of COMET-BART with its end


def save_bart_large(folder: Path, tokenizer_of: Path, events: Sequence[str], seed: int, device: torch.device) -> Path:
    """A BART of BART-large's shape and random weights, whose answers are about as long as real ones.

    With random weights no beam ever ends, so the end token is given a bias, found by trying on a few events. What it
    says is nonsense; what it costs is what the real one costs.

    Args:
        folder: Is written to.
        tokenizer_of: A checkpoint whose tokenizer it gets, filled up to BART-large's vocabulary.
        events: What the bias is tried on.
        seed: Of the weights.
        device: What the bias is tried on, too.
    """
    tokenizer = _fill_up(tokenizer_of, folder)
    torch.manual_seed(seed)
    config = BartConfig(
        vocab_size=VOCABULARY,
        # Large enough that some tokens stand out, as they do in a model that has learnt.
        init_std=0.05,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=tokenizer.eos_token_id,
    )
    with torch.device(device):
        model = BartForConditionalGeneration(config).eval()
    model.generation_config.num_beams, model.generation_config.early_stopping = 4, True  # as facebook/bart-large has it
    model.generation_config.no_repeat_ngram_size = 3
    given = tokenizer(list(events), return_tensors="pt", padding=True, return_token_type_ids=False).to(device)
    low, high = 4.0, 16.0
    for _ in range(7):
        bias = (low + high) / 2
        model.final_logits_bias[0, tokenizer.eos_token_id] = bias
        made = model.generate(**given, num_beams=5, num_return_sequences=5, max_new_tokens=24, min_length=0)
        long = (made[:, 1:] != tokenizer.pad_token_id).sum(dim=1).float().mean() > MEAN_TOKENS
        low, high = (bias, high) if long else (low, bias)
    model.save_pretrained(folder)
    return folder


def where_time_goes(comet: Comet, events: Sequence[str]) -> dict[str, float]:
    """Seconds in the encoder, in the decoder's steps, and in everything else (beams, tokens, texts); and counts."""
    model = comet._model
    spent = {"encoder": 0.0, "decoder": 0.0}
    counts = {"encoder_batches": 0, "encoder_tokens": 0, "decoder_steps": 0, "decoder_rows": 0}
    begun: list[float] = []

    def now() -> float:
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def start(*_: Any) -> None:
        begun.append(now())

    def stop(part: str) -> Callable[..., None]:
        def stopped(_: Any, __: Any, given: dict[str, Any], output: Any) -> None:
            spent[part] += now() - begun.pop()
            if part == "encoder":
                counts["encoder_batches"] += 1
                counts["encoder_tokens"] += given["input_ids"].numel()

        return stopped

    def count(_: Any, __: Any, given: dict[str, Any]) -> None:
        counts["decoder_steps"] += 1
        counts["decoder_rows"] += given["input_ids"].numel()

    hooks = [
        model.get_encoder().register_forward_pre_hook(start),
        model.get_encoder().register_forward_hook(stop("encoder"), with_kwargs=True),
        model.register_forward_pre_hook(start),
        model.register_forward_hook(stop("decoder"), with_kwargs=True),
        model.get_decoder().register_forward_pre_hook(count, with_kwargs=True),
    ]
    started = now()
    comet.infer(events)
    total = now() - started
    for hook in hooks:
        hook.remove()
    return {**spent, "all_else": total - sum(spent.values()), "all": total, **counts}


def floor(comet: Comet, events: Sequence[str], counts: Mapping[str, float]) -> dict[str, float]:
    """What the hardware alone would take: for the matrix products of `infer`, and for reading weights from memory.

    Args:
        comet: Is asked once more.
        events: All of them.
        counts: Of `where_time_goes`: every batch reads the encoder's weights, every step the decoder's.
    """
    with FlopCounterMode(display=False) as counter:
        comet.infer(events)
    model = comet._model
    size = model.config.d_model
    left, right = (
        torch.randn(shape, device=comet._model.device, dtype=comet._model.dtype)
        for shape in ((512, size), (size, 4 * size))
    )
    large = torch.ones(64 * 2**20, device=model.device)
    rate = 2 * 512 * size * 4 * size / _shortest(lambda: left @ right, model.device)
    bandwidth = large.numel() * large.element_size() / _shortest(large.sum, model.device)
    words = model.get_input_embeddings().weight
    # The decoder's share has the word embeddings, its output layer; the encoder looks up single rows of them.
    decoder, encoder = _bytes(model.get_decoder()), _bytes(model.get_encoder()) - words.numel() * words.element_size()
    products = float(counter.get_total_flops())
    read = counts["decoder_steps"] * decoder + counts["encoder_batches"] * encoder
    return {
        "gflop": products / 1e9, "gflop_per_s": rate / 1e9, "arithmetic_seconds": products / rate,
        "weights_gb": read / 1e9, "gb_per_s": bandwidth / 1e9, "memory_seconds": read / bandwidth,
    }  # fmt: skip


def _bytes(module: torch.nn.Module) -> int:
    return sum(weight.numel() * weight.element_size() for weight in module.parameters())


def _shortest(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of 20 times."""
    taken = []
    for _ in range(20):
        if device.type == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return min(taken)


def _fill_up(checkpoint: Path, folder: Path) -> Any:
    """A checkpoint's tokenizer with a text for every token of BART-large's vocabulary."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer.json"
    spec = json.loads(path.read_text("utf-8"))
    # No text is ever split into these.
    spec["model"]["vocab"] |= {f"⟨{number}⟩": number for number in range(len(tokenizer), VOCABULARY)}
    path.write_text(json.dumps(spec), "utf-8")
    return AutoTokenizer.from_pretrained(folder)

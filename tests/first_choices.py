"""How far the tokens of a reply are from those that its weights prefer in float32.

An engine computes in bfloat16. How that rounds depends on the processor, its threads and what else is in the batch, so
that greedy replies part where two tokens are nearly equally likely, and each is right. Texts are therefore not compared
with other texts, but each with its weights.
"""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROUNDING = 0.5
"""How far a token's logit may be below the highest one where only bfloat16 prefers it.

Logits of the embedded model are between 16 and 34, where bfloat16 has steps of 1/8 and 1/4. The widest gap of 144
replies (31 different ones), by kernels for AVX2, AVX-512 and AVX-512 with bfloat16, and by one thread and two, was 0.2.
By weights with another adapter, each reply has one of at least 2.
"""


def score_rounding(tokens: int) -> float:
    """Return how far the score of a text of so many tokens may be from the one in float32.

    Each token's log probability is rounded by itself. Of twelve texts of 27 to 54 tokens, the farthest was 0.7 away, by
    the same kernels: 0.05 a token, and sums grow by the root. A token that is left out changes a score by 3.4.
    """
    return 0.25 * math.sqrt(tokens)


def float32_model(folder: Path) -> Any:
    """Load weights in float32, by transformers."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@contextmanager
def with_adapter(model: Any, folder: Path | None) -> Iterator[None]:
    """Add a LoRA adapter to a model's weights, and take it back at the end; None for no adapter."""
    import torch
    from safetensors.torch import load_file

    weights, changed = dict(model.named_parameters()), {}
    if folder is not None:
        config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
        found = load_file(folder / "adapter_model.safetensors")
        for name in (name for name in found if name.endswith(".lora_A.weight")):
            product = found[name.replace("lora_A", "lora_B")].float() @ found[name].float()
            weight = weights[name.removeprefix("base_model.model.").replace(".lora_A", "")]
            changed[weight] = weight.detach().clone()
            with torch.no_grad():
                weight += config["lora_alpha"] / config["r"] * product
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, before in changed.items():
                weight.copy_(before)


def logits(model: Any, prompt: Sequence[int], reply: Sequence[int]) -> Any:
    """Return what a model says before each token of a reply.

    Args:
        model: A model of transformers.
        prompt: The prompt's tokens.
        reply: The reply's tokens.

    Returns:
        A tensor. Shape (tokens of the reply, size of the vocabulary).
    """
    import torch

    with torch.inference_mode():
        found = model(torch.tensor([[*prompt, *reply]]), logits_to_keep=len(reply) + 1)
    return found.logits[0, :-1].float()


def gaps(model: Any, prompt: Sequence[int], reply: Sequence[int]) -> Any:
    """Return, for each token of a reply, how far its logit is below the highest one; 0 for a first choice.

    Args:
        model: A model of transformers.
        prompt: The prompt's tokens.
        reply: The reply's tokens.

    Returns:
        A tensor. Shape (tokens of the reply,).
    """
    import torch

    found = logits(model, prompt, reply)
    return found.max(dim=1).values - found.gather(1, torch.tensor(reply)[:, None])[:, 0]


def logprob(model: Any, prompt: Sequence[int], reply: Sequence[int]) -> float:
    """Return the natural logarithm of a reply's probability."""
    import torch

    found = logits(model, prompt, reply).log_softmax(dim=1)
    return float(found.gather(1, torch.tensor(reply)[:, None]).sum())

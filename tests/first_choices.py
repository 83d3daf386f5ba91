"""How far the tokens of a reply are from those that transformers would have chosen."""

from collections.abc import Sequence
from typing import Any


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

    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, *reply]])).logits[0, len(prompt) - 1 : -1].float()
    return logits.max(dim=1).values - logits.gather(1, torch.tensor(reply)[:, None])[:, 0]

"""LoRA on CPUs: two small matrix products for each adapter of a batch. vLLM's own way is about ten times slower.

vLLM 0.32 copies an adapter's matrices once for every token of the batch. It also gives tokens without an adapter, in a
batch with some that have one, the adapter in the last place, where these get none.

vLLM imports this module in its worker, before the model is loaded, because `worker_extension_cls` names `FasterLoRA`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import linear

from localemp.engines.vllm.cpu_seeds import Seeds
from localemp.engines.vllm.names import PunicaWrapperCPU, current_platform

Group = tuple[int, torch.Tensor | None]
"""The place of an adapter, and the rows of the batch that have it; None for all rows."""


def groups_of(places: torch.Tensor) -> list[Group]:
    """Return the rows of each adapter.

    Args:
        places: For each row the place of its adapter, -1 for none. Shape (rows,).
    """
    found = places.unique().tolist()
    if len(found) == 1:
        return [] if found[0] < 0 else [(found[0], None)]
    return [(place, (places == place).nonzero().flatten()) for place in found if place >= 0]


def shrink(x: torch.Tensor, a: torch.Tensor, place: int, scale: float) -> torch.Tensor:
    """Multiply by an adapter's first matrix.

    Args:
        x: Shape (rows, inputs).
        a: First matrices by place. Shape (places, 1, rank, inputs).
        place: The adapter's.
        scale: Factor of the result.

    Returns:
        Shape (rows, rank), of x's type: sums are made in float32, and rounded once.
    """
    small = linear(x, a[place].view(a.shape[-2:]).to(x.dtype))
    return small if scale == 1 else small * scale


def expand(y: torch.Tensor, small: torch.Tensor, b: torch.Tensor, group: Group) -> None:
    """Multiply by an adapter's second matrix, and add the product to the adapter's rows of y.

    Args:
        y: Shape (rows, outputs).
        small: Shape (the adapter's rows, rank).
        b: Second matrices by place. Shape (places, 1, outputs, rank); it may have fewer or more outputs than y.
        group: Place and rows.
    """
    place, rows = group
    product = linear(small.to(y.dtype), b[place].view(b.shape[-2:]).to(y.dtype))
    columns = min(product.shape[1], y.shape[1])
    y, product = y[:, :columns], product[:, :columns]
    if rows is None:
        y += product
    else:
        y.index_add_(0, rows, product)


class PunicaWrapperByAdapter(PunicaWrapperCPU):  # type: ignore[misc]  # vLLM's types are unknown here
    """vLLM's multiplication of LoRA matrices, adapter by adapter."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._of_tokens: list[Group] = []
        self._of_samples: list[Group] = []

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        """Take in which adapter each row of the next batch has."""
        super().update_metadata(*args, **kwargs)
        self._of_tokens, self._of_samples = groups_of(self.token_lora_indices), groups_of(self.sampler_indices)

    def add_lora_linear(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: Sequence[torch.Tensor],
        lora_b_stacked: Sequence[torch.Tensor],
        scale: float,
        output_slices: Sequence[int],
        **_: Any,
    ) -> None:
        """Add the adapters' part to the output of a linear layer, which may be several layers in one (q, k and v)."""
        y, x = y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
        for group in self._of_tokens:
            place, rows = group
            chosen, start = x if rows is None else x[rows], 0
            for a, b, size in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
                expand(y[:, start : start + size], shrink(chosen, a, place, scale), b, group)
                start += size

    def add_lora_embedding(
        self, y: torch.Tensor, x: torch.Tensor, lora_b_stacked: torch.Tensor, add_inputs: bool = True, **_: Any
    ) -> None:
        """Add the adapters' part to embeddings; x has the rows of the first matrix already."""
        assert add_inputs, "vLLM always adds"
        for group in self._of_tokens:
            rows = group[1]
            expand(y.view(-1, y.shape[-1]), x if rows is None else x[rows], lora_b_stacked, group)

    def add_lora_logits(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: torch.Tensor,
        lora_b_stacked: torch.Tensor,
        scale: float,
        **_: Any,
    ) -> None:
        """Add the adapters' part to logits, whose rows are those that a token is sampled for."""
        y, x = y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
        for group in self._of_samples:
            rows = group[1]
            expand(y, shrink(x if rows is None else x[rows], lora_a_stacked, group[0], scale), lora_b_stacked, group)


class FasterLoRA(Seeds):
    """An extension of vLLM's worker without methods: what counts is that it imports this module and that of `Seeds`."""


# Not clean: vLLM asks its platform for the class and has no option for it, so this replaces the platform's method.
type(current_platform).get_punica_wrapper = classmethod(lambda _: f"{__name__}.{PunicaWrapperByAdapter.__name__}")

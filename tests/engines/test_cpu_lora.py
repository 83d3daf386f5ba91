"""LoRA on CPUs, adapter by adapter: the same sums as row by row in float64, and as vLLM's own wrapper makes them."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

# vLLM takes seconds to import.
pytestmark = pytest.mark.slow
PLACES = {
    "none": [-1, -1, -1, -1, -1, -1],
    "one": [1, 1, 1, 1, 1, 1],
    "mixed": [0, -1, 1, 1, -1, 0],
    "last": [-1, -1, -1, -1, -1, 1],
}
ADAPTERS, RANK, INPUTS, SLICES = 2, 4, 12, (8, 4)


@pytest.fixture(scope="module")
def cpu_lora() -> Any:
    pytest.importorskip("vllm")
    from localemp.engines.vllm import cpu_lora

    return cpu_lora


def wrapper(kind: Any, places: list[int]) -> Any:
    """A wrapper that was told which adapter each row has; adapter 10 is at place 0, adapter 20 at place 1."""
    made = kind(64, 16, torch.device("cpu"))
    ids = tuple({-1: 0, 0: 10, 1: 20}[place] for place in places)
    mapping = SimpleNamespace(index_mapping=ids, prompt_mapping=ids, is_prefill=True)
    made.update_metadata(mapping, [10, 20], ADAPTERS, 100)
    return made


def matrices(dtype: torch.dtype) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    a = [random(ADAPTERS, 1, RANK, INPUTS) for _ in SLICES]
    return random(6, INPUTS), a, [random(ADAPTERS, 1, size, RANK) for size in SLICES]


def reference(places: list[int], x: torch.Tensor, a: Any, b: Any, scale: float) -> torch.Tensor:
    """What is added to the output of each row, in float64."""
    rows = []
    for place, row in zip(places, x.double(), strict=True):
        parts = [(b_[place, 0].double() @ (a_[place, 0].double() @ row)) * scale for a_, b_ in zip(a, b, strict=True)]
        rows.append(torch.cat(parts) * (place >= 0))
    return torch.stack(rows)


@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize(
    ("dtype", "error"), [(torch.float32, 1e-4), (torch.bfloat16, 0.5)], ids=["float32", "bfloat16"]
)
def test_a_layer_of_several_slices(cpu_lora, places, dtype, error):
    x, a, b = matrices(dtype)
    y = torch.ones(6, sum(SLICES), dtype=dtype)
    wrapper(cpu_lora.PunicaWrapperByAdapter, places).add_lora_linear(y, x, a, b, 0.5, SLICES)
    expected = 1 + reference(places, x, a, b, 0.5)
    assert (y.double() - expected).abs().max() < error
    plain = [row for row, place in enumerate(places) if place < 0]
    assert torch.equal(y[plain], torch.ones(len(plain), sum(SLICES), dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("places", [[1, 1, 1, 1, 1, 1], [0, 1, 0, 0, 1, 1]], ids=["one", "two"])
def test_vllms_own_wrapper_makes_the_same_of_rows_with_adapters(cpu_lora, places, dtype):
    x, a, b = matrices(dtype)
    made = []
    for kind in (cpu_lora.PunicaWrapperByAdapter, cpu_lora.PunicaWrapperCPU):
        y = torch.ones(6, sum(SLICES), dtype=dtype)
        wrapper(kind, places).add_lora_linear(y, x, a, b, 1.0, SLICES)
        made.append(y)
    torch.testing.assert_close(made[0], made[1])


def test_vllms_own_wrapper_is_wrong_about_rows_without_an_adapter(cpu_lora):
    """Why ours is used although it is not asked for: if this fails, vLLM has been repaired."""
    x, a, b = matrices(torch.float32)
    y = torch.zeros(6, sum(SLICES))
    wrapper(cpu_lora.PunicaWrapperCPU, PLACES["mixed"]).add_lora_linear(y, x, a, b, 1.0, SLICES)
    assert y[1].abs().max() > 0


@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
def test_logits_and_embeddings(cpu_lora, places):
    x, a, b = matrices(torch.float32)
    made = wrapper(cpu_lora.PunicaWrapperByAdapter, places)
    logits = torch.zeros(6, 9)  # the vocabulary is padded
    made.add_lora_logits(logits, x, a[0], b[0], 1.0)
    expected = reference(places, x, a[:1], b[:1], 1.0)
    torch.testing.assert_close(logits[:, :8].double(), expected, atol=1e-4, rtol=1e-4)
    small = torch.randn(6, RANK, generator=torch.Generator().manual_seed(1))
    embedded = torch.zeros(6, 8)
    made.add_lora_embedding(embedded, small, b[0], add_inputs=True)
    rows = [b[0][place, 0] @ row if place >= 0 else torch.zeros(8) for place, row in zip(places, small, strict=True)]
    torch.testing.assert_close(embedded, torch.stack(rows), atol=1e-4, rtol=1e-4)


def test_vllm_is_told_of_it(cpu_lora):
    from localemp.engines.vllm.names import current_platform

    if not current_platform.is_cpu():
        pytest.skip("only for vLLM's CPU build")
    assert current_platform.get_punica_wrapper() == "localemp.engines.vllm.cpu_lora.PunicaWrapperByAdapter"

"""Random generators of requests on CPUs, which vLLM rewinds where it takes a token back."""

import pytest
import torch

pytestmark = pytest.mark.slow  # vLLM takes seconds to import


@pytest.fixture
def cpu_seeds():
    pytest.importorskip("vllm")
    from localemp.engines.vllm import cpu_seeds

    return cpu_seeds


def drawn(generator):
    return torch.empty(3).exponential_(generator=generator).tolist()


def test_torchs_own_generator_has_no_offset():
    with pytest.raises(RuntimeError, match="offset"):
        torch.Generator().get_offset()


def test_a_token_that_is_taken_back_leaves_no_trace(cpu_seeds):
    wanted = drawn(torch.Generator().manual_seed(7))
    generator = cpu_seeds.rewound(torch.Generator().manual_seed(7))
    for _ in range(3):
        assert drawn(generator) == wanted
        generator.set_offset(generator.get_offset() - 4)
    assert drawn(generator) == wanted
    assert drawn(generator) != wanted


def test_a_request_without_a_seed_has_no_generator(cpu_seeds):
    assert cpu_seeds.rewound(None) is None


def test_vllm_gives_requests_such_generators(cpu_seeds):
    state = {"req_id": "1", "prompt_token_ids": [1], "mm_features": [], "sampling_params": None, "block_ids": ()}
    made = cpu_seeds.CachedRequestState(
        **state, generator=torch.Generator().manual_seed(3), num_computed_tokens=0, output_token_ids=[]
    )
    assert isinstance(made.generator, cpu_seeds.RewoundGenerator)
    assert made.generator.initial_seed() == 3
    assert made.num_prompt_tokens == 1, "vLLM's own initialisation ran, too"

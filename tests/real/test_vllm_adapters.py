"""Adapters on the real engine with the real embedded model: one engine answers with either of two, and without."""

import asyncio

import pytest
import pytest_asyncio
from first_choices import gaps
from tiny_adapter import write_adapter

from localemp.data.sources import load_dialogues
from localemp.engines.vllm.engine import VLLMEngine
from localemp.models.adapter_checks import check_adapter
from localemp.models.adapters import find_adapter
from localemp.models.profiles import load_profile
from localemp.models.weights import resolve
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.sampling import Sampling
from localemp.utils.paths import resource

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

GREEDY = Sampling(max_tokens=24)
# Inputs and outputs in a layer of SmolLM2 135M, which has 30.
MODULES = {"self_attn.q_proj": (576, 576), "mlp.down_proj": (1536, 576)}


@pytest.fixture(scope="module")
def pipeline():
    return Pipeline(RunConfig(model="smollm2-plain"))


@pytest.fixture(scope="module")
def adapters(pipeline, tmp_path_factory):
    """The adapter that is merged into smollm2, and a random one."""
    random = write_adapter(
        tmp_path_factory.mktemp("adapters") / "random", modules=MODULES, layers=range(30), seed=1, scale=0.2
    )
    found = [find_adapter(f"listener={resource('models', 'smollm2-listener')}"), find_adapter(str(random))]
    for adapter in found:
        check_adapter(adapter, pipeline.weights.folder)
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def views(pipeline, adapters, tmp_path_factory):
    """One engine as it asks without an adapter, with the listener, and with the random one."""
    log = tmp_path_factory.mktemp("engine") / "engine.log"
    arguments = {"kv_cache_memory_bytes": 2**29}
    async with VLLMEngine(pipeline.tokenizer, 1536, arguments, log=log, adapters=adapters) as engine:
        yield [engine.adapted(adapter) for adapter in (None, *adapters)]


@pytest.fixture(scope="module")
def prompts(pipeline):
    return [pipeline.prompts.messages(dialogue) for dialogue in load_dialogues("samples", limit=6)]


async def test_a_mixed_batch_answers_as_each_alone(views, prompts):
    alone = [await asyncio.gather(*(view.chat(prompt, GREEDY) for prompt in prompts)) for view in views]
    mixed = await asyncio.gather(*(view.chat(prompt, GREEDY) for prompt in prompts for view in views))
    plain, listener, random = alone
    for one, other in ((plain, listener), (plain, random), (listener, random)):
        assert not {each.text for each in one} & {each.text for each in other}
    equal = 0
    for number, of_view in enumerate(alone):
        for one, other in zip(of_view, mixed[number :: len(views)], strict=True):
            assert one.text[:8] == other.text[:8]
            equal += one.text == other.text
    assert equal >= 0.8 * len(mixed), "other batch sizes round otherwise, which may change a later word"


async def test_scores_in_a_mixed_batch_are_those_of_each_alone(views, prompts):
    text = "I'm sorry to hear that. How are you now?"
    alone = [[await view.score(prompt, text) for prompt in prompts] for view in views]
    mixed = await asyncio.gather(*(view.score(prompt, text) for prompt in prompts for view in views))
    for number, of_view in enumerate(alone):
        for one, other in zip(of_view, mixed[number :: len(views)], strict=True):
            assert (other.tokens, other.logprob) == (one.tokens, pytest.approx(one.logprob, rel=1e-2))
    plain, listener, random = (sum(score.logprob for score in of_view) for of_view in alone)
    assert listener > plain > random


async def test_the_listener_answers_as_the_weights_that_it_was_merged_into(pipeline, views, prompts):
    """Every token must be the first choice of the merged weights, or tie with it: bfloat16 rounds to 1/16 here."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(resolve(load_profile("smollm2")).folder, dtype=torch.bfloat16)
    first_choices = tokens = 0
    for messages in prompts:
        prompt = pipeline.tokenizer.encode(messages)
        answer = await views[1].chat(messages, GREEDY)
        reply = pipeline.tokenizer.tokenizer(answer.text, add_special_tokens=False)["input_ids"]
        missed = gaps(model, prompt, reply)
        assert missed.max() <= 0.5, missed
        first_choices, tokens = first_choices + int((missed == 0).sum()), tokens + len(reply)
    assert tokens >= 40
    assert first_choices >= 0.9 * tokens


async def test_adapters_share_no_part_of_the_prefix_cache(pipeline, views):
    exemplars = load_dialogues("bundled", limit=5)
    messages = pipeline.prompts.messages(load_dialogues("samples")[0], exemplars)
    assert await views[0].reset_prefix_cache()
    cold = [await view.chat(messages, GREEDY) for view in views]
    warm = [await view.chat(messages, GREEDY) for view in views]
    assert [each.cached_tokens for each in cold] == [0, 0, 0]
    assert min(each.cached_tokens for each in warm) >= 256
    assert views[1].describe()["adapter"]["name"] == "listener"

"""Adapters on the real engine with the real embedded model: one engine answers with either of two, and without."""

import asyncio

import pytest
import pytest_asyncio
from first_choices import ROUNDING, float32_model, gaps, logprob, with_adapter
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
        tmp_path_factory.mktemp("adapters") / "random", modules=MODULES, layers=range(30), seed=2, scale=0.09
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
def weights(pipeline):
    """The weights without an adapter."""
    return float32_model(pipeline.weights.folder)


@pytest.fixture(scope="module")
def prompts(pipeline):
    return [pipeline.prompts.messages(dialogue) for dialogue in load_dialogues("samples", limit=3)]


def tokens_of(pipeline, prompt, text):
    """The tokens of a prompt, and those of a text that follows it."""
    return pipeline.tokenizer.encode(prompt), pipeline.tokenizer.plain_ids(text)


async def test_in_a_mixed_batch_each_is_answered_by_its_own_adapter(pipeline, views, adapters, prompts, weights):
    """Every token is a first choice of the weights with this adapter, up to rounding, and not of those with another."""
    answers = await asyncio.gather(*(view.chat(prompt, GREEDY) for prompt in prompts for view in views))
    asked = [(prompt, number) for prompt in prompts for number in range(len(views))]
    missed = []  # of each answer, by the weights with each adapter
    for adapter in (None, *adapters):
        with with_adapter(weights, adapter and adapter.folder):
            missed.append([gaps(weights, *tokens_of(pipeline, prompt, answer.text))
                           for (prompt, _), answer in zip(asked, answers, strict=True)])  # fmt: skip
    for (_, own), answer, *by_adapter in zip(asked, answers, *missed, strict=True):
        assert by_adapter[own].max() <= ROUNDING, (answer.text, by_adapter[own])
        totals = [float(each.sum()) for each in by_adapter]
        assert min(totals) == totals[own] < sorted(totals)[1], (answer.text, totals)


async def test_in_a_mixed_batch_each_is_scored_by_its_own_adapter(pipeline, views, adapters, prompts, weights):
    """What is found is nearer to the float32 score with this adapter than to that with another."""
    text = "I'm sorry to hear that. How are you now?"
    alone = [[await view.score(prompt, text) for view in views] for prompt in prompts]
    mixed = await asyncio.gather(*(view.score(prompt, text) for prompt in prompts for view in views))
    expected = []
    for adapter in (None, *adapters):
        with with_adapter(weights, adapter and adapter.folder):
            expected.append([logprob(weights, *tokens_of(pipeline, prompt, text)) for prompt in prompts])
    for number, prompt_scores in enumerate(zip(*expected, strict=True)):
        for own, found in (*enumerate(alone[number]), *enumerate(mixed[number * len(views) :][: len(views)])):
            assert found.tokens == len(tokens_of(pipeline, prompts[number], text)[1])
            nearest = min(range(len(views)), key=lambda view: abs(found.logprob - prompt_scores[view]))
            assert nearest == own, (found, prompt_scores)
    plain, listener, random = map(sum, expected)
    assert listener > plain > random


async def test_the_listener_answers_as_the_weights_that_it_was_merged_into(pipeline, views, prompts):
    model = float32_model(resolve(load_profile("smollm2")).folder)
    for prompt in prompts:
        answer = await views[1].chat(prompt, GREEDY)
        missed = gaps(model, *tokens_of(pipeline, prompt, answer.text))
        assert missed.max() <= ROUNDING, (answer.text, missed)


async def test_adapters_share_no_part_of_the_prefix_cache(pipeline, views):
    exemplars = load_dialogues("bundled", limit=5)
    messages = pipeline.prompts.messages(load_dialogues("samples")[0], exemplars)
    assert await views[0].reset_prefix_cache()
    cold = [await view.chat(messages, GREEDY) for view in views]
    warm = [await view.chat(messages, GREEDY) for view in views]
    assert [each.cached_tokens for each in cold] == [0, 0, 0]
    assert min(each.cached_tokens for each in warm) >= 256
    assert views[1].describe()["adapter"]["name"] == "listener"

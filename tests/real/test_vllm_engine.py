"""The real engine with the real embedded model. One engine serves all tests here: it takes a while to start."""

import asyncio
import json
import math
from dataclasses import replace
from functools import partial

import psutil
import pytest
import pytest_asyncio
from first_choices import ROUNDING, float32_model, gaps, logprob, score_rounding

from localemp.data.sources import load_dialogues
from localemp.data.subset import Subset
from localemp.dialogue import EMOTIONS, Message
from localemp.engines.vllm.engine import VLLMEngine
from localemp.errors import EngineError, PromptTooLongError, UnknownNameError
from localemp.estimates.estimator import Estimator
from localemp.pipeline.batch import Batch
from localemp.pipeline.config import RunConfig
from localemp.pipeline.generate import answer_all, draft_all, plan
from localemp.pipeline.pipeline import Pipeline
from localemp.runs.run import Run, read_records
from localemp.sampling import Sampling
from localemp.strategies.base import Draft, Exemplar

pytestmark = pytest.mark.asyncio(loop_scope="module")

RECIPE = RunConfig(model="smollm2-plain", max_tokens=24)  # the listener says little else than replies
GREEDY = Sampling(max_tokens=24)


@pytest.fixture(scope="module")
def pipeline():
    return Pipeline(RECIPE)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(pipeline, tmp_path_factory):
    log = tmp_path_factory.mktemp("engine") / "engine.log"
    async with VLLMEngine(pipeline.tokenizer, 1536, {"kv_cache_memory_bytes": 2**30}, log=log) as started:
        yield started
    assert "VLLM::EngineCor" not in [child.name() for child in psutil.Process().children()], "it stays as a zombie"


@pytest.fixture(scope="module")
def weights(pipeline):
    """The same weights in float32, by transformers."""
    return float32_model(pipeline.weights.folder)


async def test_greedy_replies_are_the_first_choices_of_the_weights(pipeline, engine, weights):
    for dialogue in load_dialogues("samples", limit=3):
        messages = pipeline.prompts.messages(dialogue)
        prompt = pipeline.tokenizer.encode(messages)
        answer = await engine.chat(messages, GREEDY)
        assert (answer.prompt_tokens, answer.finish_reason in ("stop", "length")) == (len(prompt), True)
        missed = gaps(weights, prompt, pipeline.tokenizer.plain_ids(answer.text))
        assert missed.max() <= ROUNDING, (answer.text, missed)


CHOICES = {  # "tie" is one token of this model, "equal" is not, and digits are tokens
    "letters": ("A", "B", "C"),
    "words": ("A", "B", "neither of the two"),
    "numbers": ("1", "2", "10", "100"),
}


def assert_close(found, expected):
    """Compare probabilities of choices, up to rounding: each logit, so twice as much in the odds of a choice."""
    for choice, share in expected.items():
        assert found[choice] == pytest.approx(share, abs=2 * ROUNDING * share * (1 - share) + 0.005), choice


MASS = math.expm1(ROUNDING)  # by which rounding may change a probability


@pytest.mark.parametrize("choices", CHOICES.values(), ids=CHOICES)
async def test_probabilities_of_choices_agree_with_transformers(pipeline, engine, weights, choices):
    """Each is that of the whole choice, computed here from the logits of prompt and choice in one pass."""
    tokenizer = pipeline.tokenizer

    def reached(prompt, text):
        """The probability that the reply begins with these tokens."""
        return math.exp(logprob(weights, prompt, tokenizer.plain_ids(text)))

    for question in ("Which is best?", "How are you?", f"Answer with one of: {', '.join(choices)}."):
        messages = [Message("user", question)]
        prompt = tokenizer.encode(messages)
        expected = {choice: reached(prompt, choice) for choice in choices}
        for choice in choices:  # other spellings that are one token
            for other in {choice.lower(), choice.upper(), choice.capitalize()} | {f" {choice}", f" {choice.lower()}"}:
                if other != choice and len(tokenizer.plain_ids(other)) == 1:
                    expected[choice] += reached(prompt, other)
        for short, long in (("1", "10"), ("10", "100")):
            if short in expected:
                expected[short] -= reached(prompt, long)
        got = await engine.chat(messages, replace(GREEDY, choices=choices))
        assert got.choice_mass == pytest.approx(sum(expected.values()), rel=MASS)
        assert_close(got.choices, {each: p / sum(expected.values()) for each, p in expected.items()})
        assert (got.text, sum(got.choices.values())) == (max(got.choices, key=got.choices.get), pytest.approx(1))


async def test_many_choices_at_once_are_those_of_one(engine):
    """Requests for different tokens share batches."""
    asked = [
        ([Message("user", f"Is {number} even? Answer A or B.")], replace(GREEDY, choices=choices))
        for number in range(8)
        for choices in CHOICES.values()
    ]
    alone = [await engine.chat(*each) for each in asked]
    together = await asyncio.gather(*(engine.chat(*each) for each in asked))
    for one, other in zip(alone, together, strict=True):
        assert_close(one.choices, other.choices)
        assert one.choice_mass == pytest.approx(other.choice_mass, rel=MASS)


async def test_what_dialogues_share_comes_from_the_prefix_cache(pipeline, engine):
    await engine.reset_prefix_cache()
    exemplars = load_dialogues("bundled", limit=5)
    first, second = (pipeline.prompts.messages(each, exemplars) for each in load_dialogues("samples", limit=2))
    cold = await engine.chat(first, GREEDY)
    warm = await engine.chat(second, GREEDY)
    assert cold.cached_tokens == 0
    assert warm.cached_tokens >= 256, "task and exemplars are longer; vLLM's CPU build caches blocks of 128 tokens"


async def test_stop_texts_reach_the_engine(pipeline, engine):
    messages = pipeline.prompts.messages(load_dialogues("samples")[0])
    cut = await engine.chat(messages, replace(GREEDY, stop=("e",)))
    assert (cut.finish_reason, "e" in cut.text) == ("stop", False), "every reply of the model has one"


async def test_seeds_and_the_temperature_reach_the_engine(pipeline, engine):
    """Each request alone, with an empty cache: the same computation, whatever rounds it."""
    messages = pipeline.prompts.messages(load_dialogues("samples")[0])
    texts = []
    for seed in (1, 1, 2):
        await engine.reset_prefix_cache()
        texts.append((await engine.chat(messages, replace(GREEDY, temperature=1.5, seed=seed))).text)
    assert texts[0] == texts[1] != texts[2]


async def test_a_schema_holds_the_answer(pipeline, engine):
    form = {"type": "object", "properties": {"choice": {"enum": ["A", "tie"]}}, "required": ["choice"]}
    schema = json.dumps(form | {"additionalProperties": False})
    prompts = [pipeline.prompts.messages(dialogue) for dialogue in load_dialogues("samples", limit=4)]
    held = [engine.chat(messages, replace(GREEDY, temperature=1.0, seed=1, schema=schema)) for messages in prompts]
    free = [engine.chat(messages, GREEDY) for messages in prompts]  # in the same batches
    answers = await asyncio.gather(*held, *free)
    assert all(json.loads(answer.text)["choice"] in ("A", "tie") for answer in answers[:4])
    assert all(answer.finish_reason == "stop" for answer in answers[:4])
    assert not any(answer.text.startswith("{") for answer in answers[4:])


FLOW = """
about = "a label, JSON and three candidates"
[[stages]]
name = "feeling"
ask = "Which of these does the speaker feel? {labels}"
labels = "emotions"
sampling = { max_tokens = 32 }
[[stages]]
name = "needs"
ask = '''What does the speaker need, and how much does it hurt? Answer with JSON: {{"need": "...", "hurts": 5}}'''
sampling = { max_tokens = 64 }
[stages.schema]
type = "object"
properties = { need = { type = "string", maxLength = 40 }, hurts = { type = "integer", minimum = 0, maximum = 9 } }
required = ["need", "hurts"]
additionalProperties = false
[[stages]]
name = "reply"
ask = "The speaker is {feeling} and needs {needs.need}. Reply in one sentence."
n = 3
sampling = { temperature = 1.0, seed = 1 }
choose = { ask = "Which reply is the best? Answer with its number.\\n{candidates}", sees = ["dialogue"] }
"""


async def test_the_answers_of_a_flow_hold_their_form(engine, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(FLOW, "utf-8")
    strategy = Pipeline(replace(RECIPE, strategy=str(path))).strategy
    draft = replace(
        Draft(load_dialogues("samples")[0]), exemplars=tuple(map(Exemplar, load_dialogues("bundled", limit=5)))
    )
    feeling, needs, *rest = (await strategy.respond(draft, engine)).stages
    assert feeling.answer in EMOTIONS and feeling.completion.text == feeling.answer
    assert needs.answer.keys() == {"need", "hurts"} and needs.answer == json.loads(needs.completion.text)
    candidates = [stage.completion for stage in rest if stage.name != "reply.choice"]
    assert len({each.text for each in candidates}) > 1, "each has a seed of its own"
    judged = [stage for stage in rest if stage.name == "reply.choice"]
    assert all(stage.completion.text == stage.answer for stage in judged)


async def test_candidates_share_the_prompt(engine):
    await engine.reset_prefix_cache()
    messages = [Message("user", "word " * 600 + "Say something.")]
    got = await engine.candidates(messages, Sampling(max_tokens=8, temperature=1.0, seed=1), 4)
    first, *others = sorted(each.cached_tokens for each in got)
    assert first == 0
    assert min(others) >= got[0].prompt_tokens - 128, "the cache's blocks have 128 tokens here"


async def test_a_prompt_that_does_not_fit_is_refused_with_numbers(engine):
    with pytest.raises(PromptTooLongError, match="up to 24 tokens do not fit a context of 1536 tokens") as caught:
        await engine.chat([Message("user", "word " * 3000)], GREEDY)
    assert caught.value.prompt_tokens > 3000


async def test_a_request_that_vllm_refuses_is_an_error_of_this_reply_alone(pipeline, engine):
    messages = pipeline.prompts.messages(load_dialogues("samples")[0])
    for refused in (replace(GREEDY, top_p=7.0), replace(GREEDY, stop=("",))):
        with pytest.raises(EngineError, match="vLLM rejected the request: ") as caught:
            await engine.chat(messages, refused)
        assert type(caught.value) is EngineError
    assert (await engine.chat(messages, GREEDY)).text


@pytest.mark.parametrize("strategy", ["few-shot", "similar+two-stage", "knowledge", "similar+knowledge+two-stage"])
async def test_strategies_fill_a_run(engine, tmp_path, strategy):
    shots = {} if strategy == "knowledge" else {"shots": 2}
    pipeline = Pipeline(replace(RECIPE, strategy=strategy, **shots))
    dialogues = load_dialogues("samples", limit=4)
    drafts = await draft_all(pipeline.strategy, dialogues)
    context = await plan(pipeline.strategy, drafts, pipeline.planner())
    assert 100 < context < engine.max_model_len
    with Run.open(tmp_path, pipeline.settings(dialogues, "test")) as run:
        tally = await answer_all(pipeline.strategy, drafts, engine, run)
    assert (tally.done, tally.failed) == (4, 0)
    stages = 2 if "two-stage" in strategy else 1
    for record in read_records(tmp_path):
        assert len(record["stages"]) == stages
        assert all(stage["prompt_tokens"] + 24 <= context for stage in record["stages"]), "the plan must hold"
        assert all(0 < stage["completion_tokens"] <= 24 for stage in record["stages"])
        assert len(record["exemplars"]) == (0 if strategy == "knowledge" else 2)
        assert bool(record["inferences"]) == ("knowledge" in strategy)
        if "similar" in strategy:
            first, second = (shown["score"] for shown in record["exemplars"])
            assert 1 > first >= second > 0


@pytest.mark.parametrize("strategy", ["zero-shot", "few-shot", "two-stage"])
async def test_an_estimate_counts_the_prefix_cache_as_vllm_does(engine, tmp_path, strategy, monkeypatch):
    monkeypatch.setattr(engine, "fixed_length", 24)  # as benchmarks do: lengths do not depend on rounding
    config = replace(RECIPE, strategy=strategy, engine_args={"kv_cache_memory_bytes": 2**30}, data="bundled")

    async def answer(name):
        batch = Batch(Pipeline(config), subset=Subset(24), folder=tmp_path / name)
        drafts = await draft_all(batch.pipeline.strategy, batch.chosen)
        with batch.open() as run:
            estimator = Estimator()
            estimator.add(batch)
            observe = partial(estimator.planned, batch)
            await plan(batch.pipeline.strategy, drafts, batch.pipeline.planner(), on_planned=observe)
            estimator.ready()
            await engine.reset_prefix_cache()
            tally = await answer_all(batch.pipeline.strategy, drafts, engine, run)
        return estimator.row(batch), tally

    await answer("before")  # so that lengths of replies are known
    row, tally = await answer("run")
    assert row.calls == tally.calls
    assert row.prompt_tokens == pytest.approx(tally.prompt_tokens, rel=0 if strategy != "two-stage" else 0.01)
    assert row.reply_tokens == tally.completion_tokens
    assert tally.cached_tokens > 0 or strategy == "zero-shot", "the task alone is shorter than a block"
    assert row.cached_tokens == pytest.approx(tally.cached_tokens, rel=0.03)


async def test_an_engine_argument_that_vllm_does_not_have(pipeline, tmp_path):
    engine = VLLMEngine(pipeline.tokenizer, 512, {"warp_speed": 9}, log=tmp_path / "log")
    with pytest.raises(UnknownNameError, match="unknown engine argument 'warp_speed'"):
        await engine.start()


async def test_prompts_show_counts_as_the_engine_does(pipeline, engine, localemp):
    shown = await asyncio.to_thread(localemp, "prompts", "show", "--index", 1, "--json", "--max-tokens", 24)
    stage = json.loads(shown.stdout)
    dialogue = load_dialogues("samples")[1]
    assert [Message(**message) for message in stage["messages"]] == pipeline.prompts.messages(dialogue)
    assert stage["tokens"] == (await engine.chat(pipeline.prompts.messages(dialogue), GREEDY)).prompt_tokens


async def test_a_given_text_is_as_probable_as_transformers_finds_it(pipeline, engine, weights):
    dialogues = load_dialogues("samples", limit=4)
    prompts = [pipeline.prompts.messages(dialogue) for dialogue in dialogues]
    texts = [dialogue.reference for dialogue in dialogues]
    await engine.chat(prompts[0], GREEDY)  # its prompt is in the prefix cache now
    found = await asyncio.gather(*map(engine.score, prompts, texts))
    again = await engine.score(prompts[1], texts[1])
    for messages, text, score in zip([*prompts, prompts[1]], [*texts, texts[1]], [*found, again], strict=True):
        answer = pipeline.tokenizer.answer_ids(pipeline.tokenizer.render(messages), text)
        expected = logprob(weights, pipeline.tokenizer.encode(messages), answer)
        assert (score.tokens, score.logprob) == (len(answer), pytest.approx(expected, abs=score_rounding(len(answer))))
    with pytest.raises(PromptTooLongError):
        await engine.score([Message("user", "word " * 3000)], "Hi.")

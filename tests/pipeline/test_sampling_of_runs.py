"""From `--sampling` and a profile to what engines are asked with: nothing that is accepted is ignored."""

import json
from pathlib import Path

import pytest

from localemp.cli.options import parse_sampling
from localemp.data.sources import load_dialogues
from localemp.errors import OptionError, PlanError, UnknownNameError
from localemp.experiments.expand import expand
from localemp.experiments.plan import Plan
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.serving.settings import ServeSettings
from localemp.strategies.base import Draft

SCRIPT = '{"reply": "I hear you."}\n'


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "script.jsonl").write_text(SCRIPT)
    return tmp_path / "script.jsonl"


def test_what_a_run_sets_is_put_over_the_profiles(tmp_path):
    lines = [
        'kind = "chat"',
        'engine = "vllm"',
        'path = "weights"',
        "[sampling]",
        "repetition_penalty = 1.2",
        "top_k = 9",
    ]
    (tmp_path / "mine.toml").write_text("\n".join(lines))
    config = RunConfig(model=str(tmp_path / "mine.toml"), temperature=0.5, sampling={"top_k": 40, "max_tokens": 7})
    found = Pipeline(config).sampling
    assert (found.repetition_penalty, found.top_k, found.temperature, found.max_tokens) == (1.2, 40, 0.5, 7)
    assert (config.sampling, config.max_tokens) == ({"top_k": 40}, 7), "what has a setting of its own is there"


def test_the_manifest_has_what_is_set_and_nothing_else(script):
    def recorded(**settings):
        return Pipeline(RunConfig(script=script, **settings)).settings(load_dialogues("samples"), "test")["sampling"]

    assert recorded(sampling={"presence_penalty": 0.5}) == recorded() | {"presence_penalty": 0.5}
    json.dumps(recorded(sampling={"logit_bias": {"5": -1}}))


def test_values_of_the_command_line_are_json_else_texts():
    pairs = ("top-k=40", "stop=END", 'choice=["a", "b"]', "ignore_eos=true")
    assert parse_sampling(pairs) == {"top_k": 40, "stop": "END", "choice": ["a", "b"], "ignore_eos": True}
    for pairs, why in ((("top_k",), "is not NAME=VALUE"), (("top_k=1", "top_k=2"), "is given twice")):
        with pytest.raises(OptionError, match=why):
            parse_sampling(pairs)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (
            {"temperature": 0.5, "sampling": {"temperature": 0.5}},
            "--temperature and --sampling temperature are the same",
        ),
        ({"sampling": {"n": 2}}, "--sampling n"),
        ({"temperature": 2.5}, "temperature"),
    ],
    ids=str,
)
def test_settings_that_contradict_one_another_are_refused(settings, why):
    with pytest.raises(OptionError, match=why):
        RunConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"sampling": {"top_k": 40}}, "top_k has no effect at temperature 0"),
        ({"sampling": {"min_p": 0.1}}, "min_p has no effect at temperature 0"),
        ({"sampling": {"min_tokens": 500}}, "min_tokens 500 are more than max_tokens, 128"),
    ],
    ids=str,
)
def test_what_would_have_no_effect_is_refused_before_anything_is_asked(script, settings, why):
    with pytest.raises(OptionError, match=why):
        _ = Pipeline(RunConfig(script=script, **settings)).strategy


def test_a_judges_prompts_say_of_what_form_its_answers_are(script):
    with pytest.raises(OptionError, match="--sampling choice: the judge's prompts say"):
        Pipeline(RunConfig(script=script, sampling={"choice": ["A", "B"]})).check_effect(forms=True)


def test_a_flow_that_draws_by_itself_may_be_told_among_how_many_tokens(script, tmp_path):
    flow = tmp_path / "drawing.toml"
    flow.write_text('about = "warm"\n[[stages]]\nname = "reply"\nsampling = { temperature = 0.8 }\n')
    config = RunConfig(script=script, strategy=str(flow), sampling={"top_k": 40})
    assert Pipeline(config).strategy.sampling.top_k == 40


@pytest.mark.parametrize(
    ("model", "sampling", "why"),
    [
        ("gpt-4o-mini", {"repetition_penalty": 1.1}, "OpenAI does not take it"),
        ("gpt-4o-mini", {"choice": ["a", "b"]}, "OpenAI does not take it"),
        ("claude-haiku-5.5", {"frequency_penalty": 1}, "Anthropic does not take it"),
        ("claude-haiku-5.5", {"json_schema": {"type": "object"}}, "Anthropic's endpoint ignores it"),
        ("claude-haiku-5.5", {"temperature": 1.4}, "Anthropic takes 1 at most"),
        ("gpt-6.1-sol", {"temperature": 0.7}, "takes none while it reasons"),
        ("davinci-002", {"json_schema": {"type": "object"}}, "completes texts"),
    ],
)
def test_what_a_service_does_not_take_is_an_error_before_it_is_asked(model, sampling, why):
    with pytest.raises(OptionError, match=why):
        Pipeline(RunConfig(model=model, sampling=sampling)).check_options()
    with pytest.raises(OptionError, match=why):  # as judges, which have no strategy
        Pipeline(RunConfig(model=model, sampling=sampling)).engine()


def test_what_a_service_takes_is_taken():
    config = RunConfig(model="gpt-4o-mini", sampling={"presence_penalty": 0.5, "logit_bias": {"50256": -100}})
    Pipeline(config).check_options()
    Pipeline(
        RunConfig(model="any", base_url="http://localhost:8000/v1", sampling={"repetition_penalty": 1.1})
    ).check_options()


def test_an_engine_of_a_plug_in_says_what_it_takes(monkeypatch):
    from localemp.engines import registry

    monkeypatch.setitem(registry.ENGINES, "guess", registry.EngineEntry(lambda _: pytest.fail("not made")))
    monkeypatch.setattr(Pipeline, "_engine_name", "guess")
    with pytest.raises(OptionError, match="repetition_penalty: the model's engine does not say that it takes it"):
        Pipeline(RunConfig(sampling={"repetition_penalty": 1.1})).check_options()


async def test_the_form_of_the_reply_holds_the_reply_alone(script):
    config = RunConfig(script=script, strategy="two-stage", sampling={"regex": "[A-Z].*", "frequency_penalty": 0.2})
    pipeline = Pipeline(config)
    response = await pipeline.strategy.respond(Draft(load_dialogues("samples")[0]), pipeline.engine())
    asked, reply = response.stages[0], response.stages[-1]
    assert (asked.sampling, reply.sampling) == ({"regex": None}, {}), "which is recorded as the stage's own"


def test_a_server_keeps_the_parameters_on_their_way_to_vllms_process(script):
    config = RunConfig(script=script, temperature=0.7, sampling={"top_k": 40, "logit_bias": {"5": -1}})
    sent = ServeSettings.of("m", config, strategies=("zero-shot",)).to_env()
    assert ServeSettings.from_env(sent).to_config() == config


def test_a_plan_has_them_in_rows_and_defaults():
    plan = Plan(
        defaults={"temperature": 0.7},
        rows=[{"name": "plain"}, {"name": "k {temperature}", "temperature": [0.5, 1.0], "sampling": {"top_k": 40}}],
    )
    assert [dict(row.config.sampling) for row in expand(plan)] == [{}, {"top_k": 40}, {"top_k": 40}]
    with pytest.raises(PlanError, match="sampling: unknown sampling parameter 'top_q'"):
        Plan(rows=[{"sampling": {"top_q": 1}}])
    with pytest.raises(UnknownNameError, match="top_q"):
        RunConfig(sampling={"top_q": 1})

"""The sampling parameters that a user can set: what is taken, what is refused, and what becomes of them."""

import pytest

from localemp.errors import OptionError, ProfileError, UnknownNameError
from localemp.models.profiles import read_profile
from localemp.models.sampling import ELSEWHERE, DrawingSettings, SamplingSettings
from localemp.prompting.flow import StageSampling
from localemp.sampling import Sampling

HOSTED = 'kind = "chat"\nengine = "openai"\nmodel = "m"\n'
LOCAL = 'kind = "chat"\nengine = "vllm"\npath = "weights"\n'


def test_what_is_set_is_put_over_other_parameters():
    told = {"top_k": 40, "stop": "END", "logit_bias": {"7": -5, "3": 1.5}, "json_schema": '{"type": "object"}'}
    found = SamplingSettings.of(told).over(Sampling(max_tokens=9, temperature=0.5))
    assert found == Sampling(
        9, 0.5, top_k=40, stop=("END",), logit_bias=((3, 1.5), (7, -5.0)), schema='{"type": "object"}'
    )
    assert found.further == {"top_k": 40, "logit_bias": {"3": 1.5, "7": -5.0}}


def test_a_manifest_has_only_what_is_set_so_that_older_runs_can_be_resumed():
    assert Sampling().describe().keys() == {"max_tokens", "temperature", "top_p", "seed", "stop"}
    assert Sampling(min_p=0.1).describe().keys() - Sampling().describe().keys() == {"min_p"}


def test_every_parameter_that_can_be_set_reaches_an_engine():
    fields = set(Sampling.__dataclass_fields__)
    assert set(SamplingSettings.model_fields) - fields == {"json_schema"}, "which is `schema`"
    assert set(StageSampling.model_fields) == {*DrawingSettings.model_fields, "seed"}
    assert fields - set(SamplingSettings.model_fields) == {"seed", "schema", "choices", "thinking_budget"}


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_k": "forty"}, "top_k"),
        ({"min_p": 1.1}, "min_p"),
        ({"presence_penalty": -3}, "presence_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"repetition_penalty": float("nan")}, "repetition_penalty"),
        ({"stop": [""]}, "stop"),
        ({"stop_token_ids": [-1]}, "stop_token_ids"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 200}}, "logit_bias"),
        ({"choice": ["one"]}, "choice"),
        ({"json_schema": "{"}, "it is not JSON"),
        ({"choice": ["a", "b"], "regex": "a|b"}, "choice: it excludes regex"),
        ({"regex": "a+", "min_tokens": 3}, "min_tokens: it excludes regex"),
        ({"max_tokens": 3, "min_tokens": 4}, "4 are more than max_tokens, 3"),
    ],
    ids=str,
)
def test_a_value_that_no_engine_would_take_is_an_error(told, why):
    with pytest.raises(OptionError, match=f"--sampling .*{why}"):
        SamplingSettings.of(told)


def test_an_unknown_name_is_told_with_the_known_ones():
    with pytest.raises(UnknownNameError) as raised:
        SamplingSettings.of({"repitition_penalty": 1.1})
    assert "did you mean 'repetition_penalty'?" in raised.value.hint
    assert "docs/profiles.md lists all" in raised.value.hint


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_is_said_elsewhere_is_an_error_that_says_where(name, tmp_path):
    with pytest.raises(OptionError) as raised:
        SamplingSettings.of({name: 2})
    assert raised.value.hint == ELSEWHERE[name]
    (tmp_path / "mine.toml").write_text(f"{HOSTED}[sampling]\n{name} = 2\n")
    with pytest.raises(ProfileError) as raised:
        read_profile(tmp_path / "mine.toml")
    assert ELSEWHERE[name] in raised.value.message


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"{LOCAL}[request]\nrepetition_penalty = 1.1", "request: a model that runs here is sent no requests"),
        (f'{LOCAL}[request]\nthinking = "off"', "request: a model that runs here is sent no requests"),
        (f"{HOSTED}[request]\ntop_k = 5", r"request.top_k: it is a sampling parameter, and belongs in \[sampling\]"),
        (f"{HOSTED}[request]\ntemperature = 1", "request.temperature: it is a sampling parameter"),
        (f"{HOSTED}[request]\nn = 3", "request.n: it is no further field of requests: a run keeps one reply"),
        (f'{LOCAL}base_url = "http://localhost:8000/v1"', "base_url"),
        (f"{LOCAL}[takes]\nverbosity = []", "takes: it is about fields of requests"),
        (f"{LOCAL}[price]\nprompt = 1\ncompletion = 1\nas_of = 2026-01-01", "price: a model that runs here costs"),
        (f'{HOSTED}path = "weights"', "path: a hosted model has no weights here"),
        (f"{HOSTED}[chat_template_kwargs]\nenable_thinking = false", "chat_template_kwargs: a server is told"),
        (f'{LOCAL}query = "{{event}}"', "query: only commonsense models have it"),
        ('kind = "encoder"\npath = "weights"\n[sampling]\ntop_k = 5', "sampling: only chat models have it"),
    ],
)
def test_a_key_of_a_profile_that_would_have_no_effect_is_an_error(tmp_path, text, why):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ProfileError, match=why):
        read_profile(tmp_path / "mine.toml")


def test_what_says_how_long_or_of_what_form_is_the_replys_alone():
    run = Sampling(min_tokens=5, top_k=3, regex="a+")
    assert run.before_reply() == Sampling(top_k=3)
    plain = Sampling(top_k=3)
    assert plain.before_reply() is plain

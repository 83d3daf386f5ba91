"""How a model thinks: its profile's table, and what a run may ask of it."""

import pytest

from localemp.errors import OptionError, ProfileError
from localemp.models.profiles import load_profile, served_profile
from localemp.models.thinking_mode import ThinkingMode, thinking_mode

OWN = 'kind = "chat"\nengine = "vllm"\npath = "weights"\n'
HOSTED = 'kind = "chat"\nengine = "openai"\nmodel = "x"\n'
BOTH = '[thinking]\nswitch = "thinking"\nbudget = 300\nparser = "deepseek_v3"\n'
ALWAYS = '[thinking]\nstart = "<muse>"\nend = "</muse>"\n'


@pytest.fixture
def profile_of(tmp_path):
    def write(text, begin=OWN):
        path = tmp_path / "thinker.toml"
        path.write_text(begin + text)
        return load_profile(str(path))

    return write


def test_a_switch_is_an_argument_of_the_chat_template(profile_of):
    profile = profile_of(BOTH)
    thinking = ThinkingMode(True, 300, {}, {"thinking": True}, {"reasoning_parser": "deepseek_v3"})
    assert thinking_mode(profile) == thinking
    off = thinking_mode(profile, "off")
    assert (off.thinks, off.budget, off.template_options, off.engine_args) == (False, None, {"thinking": False}, {})
    on = thinking_mode(profile_of("[chat_template_kwargs]\nthinking = false\n" + BOTH), "on", 50)
    assert (on.thinks, on.budget, on.template_options) == (True, 50, {"thinking": True})


def test_values_of_a_switch_may_be_words(profile_of):
    profile = profile_of('[thinking]\nswitch = "mode"\non = "deep"\noff = "quick"\n')
    assert thinking_mode(profile, "on").template_options == {"mode": "deep"}
    assert thinking_mode(profile, "off").template_options == {"mode": "quick"}


def test_a_model_that_always_thinks_has_marks_and_no_switch(profile_of):
    mode = thinking_mode(profile_of(ALWAYS), "on", 20)
    marks = {"reasoning_start_str": "<muse>", "reasoning_end_str": "</muse>"}
    assert (mode.budget, mode.asked, mode.engine_args) == (20, {}, {"reasoning_config": marks})


def test_template_arguments_without_a_table_go_on_working(profile_of):
    profile = profile_of("[chat_template_kwargs]\nenable_thinking = false\n")
    assert thinking_mode(profile) == ThinkingMode(template_options={"enable_thinking": False})


@pytest.mark.parametrize(
    ("text", "asked", "message", "hint"),
    [
        ("", ("on",), "--thinking on: the profile of thinker names no switch for thinking", "[thinking]"),
        ("", (None, 9), "--thinking-budget 9: the profile of thinker does not say that it thinks", "[thinking]"),
        (ALWAYS, ("off",), "--thinking off: thinker always thinks", "another model"),
        (BOTH, ("off", 9), "--thinking-budget 9: thinker does not think", "--thinking on"),
    ],
    ids=["no table", "no table, budget", "no switch", "off"],
)
def test_what_a_model_cannot_do_is_an_error(profile_of, text, asked, message, hint):
    with pytest.raises(OptionError) as caught:
        thinking_mode(profile_of(text), *asked)
    assert caught.value.message == message
    assert hint in caught.value.hint


def test_a_server_keeps_its_default_until_it_is_told(profile_of):
    assert thinking_mode(served_profile("qwen3")).thinks is None
    on = thinking_mode(served_profile("qwen3"), "on")
    assert (on.asked, on.budget) == ({"enable_thinking": True}, 1024)
    hosted = profile_of("[thinking]\nbudget = 40\n", HOSTED)
    assert thinking_mode(hosted).budget == 40, "it always thinks"
    with pytest.raises(OptionError) as caught:
        thinking_mode(profile_of("", HOSTED), "on")
    assert "--reasoning-effort" in caught.value.hint


def test_qwen3_does_not_think_unless_it_is_told_to():
    profile = load_profile("qwen3")
    assert thinking_mode(profile).template_options == {"enable_thinking": False}, "as runs of before have it"
    assert not thinking_mode(profile).engine_args
    assert thinking_mode(profile, "on").engine_args == {"reasoning_parser": "qwen3"}


@pytest.mark.parametrize(
    "table",
    [
        "budget = 0",
        "budget = 1.5",
        'switch = "enable thinking"',
        'switch = "a"\non = 1\noff = 1',
        'start = "<a>"',
        'start = ""\nend = ""',
        'parser = "../x"',
        'level = "high"',
        f'start = "{"<" * 65}"\nend = "x"',
    ],
    ids=["no budget", "half a token", "switch", "one value", "one mark", "empty marks", "parser", "key", "long mark"],
)
def test_a_wrong_table_is_told_with_its_key(profile_of, table):
    with pytest.raises(ProfileError, match=r"thinking") as caught:
        profile_of(f"[thinking]\n{table}\n")
    assert "thinker.toml" in caught.value.message


def test_only_chat_models_think(profile_of):
    with pytest.raises(ProfileError, match="thinking: only chat models have it"):
        profile_of(ALWAYS, 'kind = "encoder"\npath = "weights"\n')

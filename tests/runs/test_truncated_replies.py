"""How many replies of a run were truncated, and what is said of it."""

import pytest

from localemp.runs.truncation import Truncation, truncation_of

SETTINGS = {"sampling": {"max_tokens": 128}}
TRIMMED = SETTINGS | {"trim_to_sentence": True}


def line(reason, reply="Oh no. I am", **stage):
    return {"id": "d", "reply": reply, "finish_reason": reason, "stages": [{"name": "reply", **stage}]}


@pytest.mark.parametrize(
    ("lines", "settings", "said"),
    [
        ([line("stop")] * 3, SETTINGS, ""),
        ([line(None)] * 3, SETTINGS, ""),
        ([line("length")] * 3 + [line("stop"), line(None)], SETTINGS, "--max-tokens 128: 3 of 4 replies (75 %)"),
        ([line("length"), {"id": "e", "error": {}}], SETTINGS, "--max-tokens 128: 1 of 1 reply (100 %)"),
        ([line("length"), *[line("stop")] * 300], SETTINGS, "--max-tokens 128: 1 of 301 replies (under 1 %)"),
        ([line("length")], {}, "the most tokens: 1 of 1 reply (100 %)"),
        ([line("length")], SETTINGS | {"extra_body": {"max_completion_tokens": 64}},
         "the profile's max_completion_tokens 64: 1 of 1 reply (100 %)"),
        ([line("length", sampling={"max_tokens": 32})], SETTINGS,
         "max_tokens 32 of the flow's last stage: 1 of 1 reply (100 %)"),
        ([line("length", "Oh no."), line("stop")], TRIMMED,
         "--max-tokens 128: 1 of 2 replies (50 %), cut at their last whole sentence"),
        ([line("length", "Oh no."), line("length", "Oh n")], TRIMMED,
         "--max-tokens 128: 2 of 2 replies (100 %), cut at their last whole sentence; "
         "those without one are left as they were: 1"),
    ],
)  # fmt: skip
def test_the_share_is_said_in_a_line(lines, settings, said):
    assert truncation_of(lines, settings).line.removeprefix("truncated at ") == said


def test_what_to_do_is_said_only_where_there_is_something():
    assert truncation_of([line("stop")], SETTINGS).note == ""
    assert truncation_of([line("length")], TRIMMED).hint == ""
    assert truncation_of([line("length")], SETTINGS).note.endswith(
        "; raise --max-tokens, or cut such replies at their last whole sentence: --trim-to-sentence"
    )
    assert Truncation().share is None

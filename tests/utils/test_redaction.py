"""No secret is kept, and nothing else is hidden."""

import time

import pytest
from hypothesis import example, given
from hypothesis import settings as tries
from hypothesis import strategies as st

from localemp.utils.redaction import redact_command, redact_line, redact_settings, redact_text, shown_command


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--base-url", "http://me:PASS@host:1/v1"], ["--base-url", "http://***@host:1/v1"]),
        (["--base-url=http://me:PASS@host"], ["--base-url=http://***@host"]),
        (["http://me:p/w:rd@host/v1"], ["http://***@host/v1"]),
        (["http://token@host"], ["http://***@host"]),
        (["http://a:b@one,https://c:d@two"], ["http://***@one,https://***@two"]),
        (["https://host/v1?api_key=S&limit=2"], ["https://host/v1?api_key=***&limit=2"]),
        (["--engine-arg", "hf_token=abc def"], ["--engine-arg", "hf_token=***"]),
        (["--engine-arg", 'hf_overrides={"auth_token":"S","n":1}'],
         ["--engine-arg", 'hf_overrides={"auth_token": "***", "n": 1}']),
        (["--", "--api-key", "-K1", "K2", "--seed", "3"], ["--", "--api-key", "***", "***", "--seed", "3"]),
        (["--api-key=K", "--hf-token", "T"], ["--api-key=***", "--hf-token", "***"]),
        (["OPENAI_API_KEY=K", "PGPASSWORD=p"], ["OPENAI_API_KEY=***", "PGPASSWORD=***"]),
        (["say", "sk-proj-abcdefgh12345678"], ["say", "***"]),
        (["\udcff"], ["\ufffd"]),
        # What is no secret stays as it is.
        (["--max-tokens", "64", "--seed", "3"], ["--max-tokens", "64", "--seed", "3"]),
        (["--engine-arg", "max_num_batched_tokens=8192"], ["--engine-arg", "max_num_batched_tokens=8192"]),
        (["--engine-arg", 'hf_overrides={"eos_token_id":2}'], ["--engine-arg", 'hf_overrides={"eos_token_id":2}']),
        (["--model", "org/tokenizer-keys", "http://host:80/@me/x?page=1"],
         ["--model", "org/tokenizer-keys", "http://host:80/@me/x?page=1"]),
    ],
)  # fmt: skip
def test_command_lines(words, shown):
    assert redact_command(words) == shown
    assert redact_command(shown) == shown


def test_command_lines_that_were_put_together():
    assert shown_command(["it's", "--api-key", "a b"]) == """localemp 'it'"'"'s' --api-key '***'"""
    assert (
        redact_line("localemp generate --engine-arg 'hf_token=a b'") == "localemp generate --engine-arg 'hf_token=***'"
    )
    assert redact_line("localemp half' --engine-arg hf_token=S") == """'localemp half'"'"' --engine-arg hf_token=***'"""


def test_settings():
    kept = {
        "max_tokens": 5,
        "pad_token": "<pad>",
        "eos_token_id": 2,
        "prompt_sha256": "ab",
        "api_key": None,
        "top": [1],
    }
    secret = {
        "command": "localemp serve --api-key K",
        "engine_args": {"hf_token": "T", "password": 1234, "max_num_seqs": 8},
        "extra_body": {"Authorization": ["K"], "headers": {"X-Api-Key": "K", "cookie": {"session": "K"}}},
        "engine_options": ("--api-key", "K"),
        "base_url": "http://me:PASS@host/v1",
    }
    assert redact_settings(kept | secret) == kept | {
        "command": "localemp serve --api-key '***'",
        "engine_args": {"hf_token": "***", "password": "***", "max_num_seqs": 8},
        "extra_body": {"Authorization": ["***"], "headers": {"X-Api-Key": "***", "cookie": {"session": "***"}}},
        "engine_options": ["--api-key", "***"],
        "base_url": "http://***@host/v1",
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("401: Authorization: Bearer abc.def", "401: Authorization: ***"),
        ("sent Bearer abcdef123", "sent Bearer ***"),
        ('{"api_key": "a \\" b", "n": 2}', '{"api_key": "***", "n": 2}'),
        ("password: hunter2, then", "password: ***, then"),
        ("hf_abcdefgh12345678 ghp_abcdefgh12345678", "*** ***"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx.abc", "***"),
        ("prompts.toml: unknown key: shot", "prompts.toml: unknown key: shot"),
        ("sk-learn-and-other-things", "sk-learn-and-other-things"),
        ("", ""),
    ],
)
def test_texts(text, shown):
    assert redact_text(text) == shown


@pytest.mark.parametrize(
    "piece",
    ["a", "a=", "a:", "://", "://@", "://a:b", '"', "'", 'key="', "key='", "key: ", "key:", "token=token ", "hf_",
     "sk-a", "eyJ.", "AKIA", "Bearer ", "-", "--key ", "x ", " ", "{", '{"a":'],
)  # fmt: skip
def test_time_is_linear(piece):
    def seconds(size: int) -> float:
        text, begun = piece * (size // len(piece)), time.process_time()
        redact_command([text, *text.split(" ")])
        redact_settings({text: text})
        return time.process_time() - begun

    seconds(1_000)
    assert min(seconds(80_000) for _ in range(3)) < 20 * max(min(seconds(20_000) for _ in range(3)), 0.02)


PIECES = ["password", "token", "api_key", "auth", "--api-key", "--hf-token", "=", ":", ": ", '"', "'", "\\", " ", "\n",
          "://", "@", "http://a:b@host", "{", "}", "[", "]", ",", "&", "***", "Bearer ", "sk-abcdefgh12345678", "-",
          "x", "eyJabcdefghijkl.", "1", "\u00e9", "\ud83d"]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=8).map("".join)
VALUES = st.recursive(
    TEXTS | st.integers() | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
SETTINGS = st.dictionaries(st.sampled_from(["command", "api_key", "n"]) | TEXTS, VALUES, max_size=3)


@tries(max_examples=300, derandomize=True, deadline=None, database=None)
@given(TEXTS, st.lists(TEXTS, max_size=4), SETTINGS)
@example("", ["--api-key:=", ""], {"command": "password:\\"})
@example("", ['://,auth\n{***"&'], {"n": ['://,auth\n{***"&']})
def test_what_was_masked_stays_as_it_is_when_it_is_masked_again(text, words, settings):
    """A run is resumed where its settings, which were masked as they were written, are those of today."""
    assert redact_text(redact_text(text)) == redact_text(text)
    assert redact_command(redact_command(words)) == redact_command(words)
    assert redact_line(redact_line(text)) == redact_line(text)
    assert redact_settings(redact_settings(settings)) == redact_settings(settings)

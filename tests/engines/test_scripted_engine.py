import asyncio
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from localemp.dialogue import Message
from localemp.engines.base import Completion
from localemp.engines.scripted import ScriptedEngine
from localemp.errors import DataError, EngineError, FatalEngineError, PromptTooLongError
from localemp.sampling import Sampling


def script(folder: Path, *entries: Any) -> ScriptedEngine:
    path = folder / "script.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), "utf-8")
    return ScriptedEngine.from_file(path)


async def say(engine: ScriptedEngine, text: str, *before: Message) -> Completion:
    return await engine.chat([*before, Message("user", text)], Sampling(max_tokens=50))


async def test_the_first_entry_that_matches_answers(tmp_path: Path) -> None:
    engine = script(
        tmp_path,
        {"match": "lost my job", "reply": "I am so sorry."},
        {"match": "job", "reply": "Congratulations!"},
        {"reply": "Tell me more."},
    )
    assert (await say(engine, "I lost my job today.")).text == "I am so sorry."
    assert (await say(engine, "I got a new job!")).text == "Congratulations!"
    assert (await say(engine, "Hello.")).text == "Tell me more."


async def test_where_a_match_is_looked_for(tmp_path: Path) -> None:
    engine = script(
        tmp_path,
        {"match": "storm", "where": "last", "reply": "last"},
        {"match": "storm", "reply": "prompt"},
        {"reply": "neither"},
    )
    earlier = (Message("user", "There was a storm."), Message("assistant", "Oh no."))
    assert (await say(engine, "The storm took our roof.")).text == "last"
    assert (await say(engine, "It took our roof.", *earlier)).text == "prompt"
    assert (await say(engine, "It took our roof.")).text == "neither"


async def test_entries_are_used_up_and_lists_go_round(tmp_path: Path) -> None:
    engine = script(tmp_path, {"reply": "once", "times": 1}, {"reply": ["a", "b"], "times": 3}, {"reply": "rest"})
    assert [(await say(engine, "Hi.")).text for _ in range(6)] == ["once", "a", "b", "a", "rest", "rest"]


async def test_counts_words_and_keeps_the_calls(tmp_path: Path) -> None:
    engine = script(tmp_path, {"reply": "I am  so sorry."})
    got = await say(engine, "I lost my job.", Message("system", "You listen."))
    assert (got.prompt_tokens, got.completion_tokens) == (6, 4)
    assert (got.finish_reason, got.cached_tokens, got.cost, got.notes) == ("stop", None, None, ())
    assert engine.calls == [[Message("system", "You listen."), Message("user", "I lost my job.")]]


async def test_delays_run_side_by_side(tmp_path: Path) -> None:
    engine = script(tmp_path, {"reply": "Hm.", "seconds": 0.1})
    loop = asyncio.get_running_loop()
    begun = loop.time()
    answers = await asyncio.gather(*(say(engine, "Hi.") for _ in range(10)))
    assert all(answer.seconds >= 0.099 for answer in answers)
    assert loop.time() - begun < 0.8


@pytest.mark.parametrize(
    ("error", "kind"), [("engine", EngineError), ("fatal", FatalEngineError), ("too-long", PromptTooLongError)]
)
async def test_scripted_errors(tmp_path: Path, error: str, kind: type[EngineError]) -> None:
    engine = script(tmp_path, {"match": "bad", "error": error, "times": 1}, {"reply": "Fine."})
    with pytest.raises(EngineError) as raised:
        await say(engine, "This is bad.")
    assert type(raised.value) is kind
    assert (await say(engine, "This is bad.")).text == "Fine."


async def test_an_error_can_have_a_message_and_too_long_has_numbers(tmp_path: Path) -> None:
    engine = script(tmp_path, {"match": "bad", "error": "fatal", "reply": "the power is out"}, {"error": "too-long"})
    with pytest.raises(FatalEngineError, match=r"^the power is out$"):
        await say(engine, "This is bad.")
    with pytest.raises(PromptTooLongError) as raised:
        await say(engine, "one two three")
    assert (raised.value.prompt_tokens, raised.value.reply_tokens) == (3, 50)


async def test_a_prompt_that_nothing_matches(tmp_path: Path) -> None:
    engine = script(tmp_path, {"match": "job", "reply": "Oh."}, {"match": "exam", "reply": "Ah.", "times": 1})
    with pytest.raises(
        EngineError, match=r"no entry of script.jsonl matches a prompt that ends with 'Hello there.'"
    ) as raised:
        await say(engine, "Hello there.")
    assert '{"reply":' in raised.value.hint
    assert not isinstance(raised.value, FatalEngineError)
    await say(engine, "My exam!")
    with pytest.raises(EngineError):
        await say(engine, "My exam!")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"reply": "a"', "not valid JSON"),
        ('"reply"', "valid dictionary"),
        ("{}", "neither a reply nor an error"),
        ('{"reply": []}', "neither a reply nor an error"),
        ('{"match": "a"}', "neither a reply nor an error"),
        ('{"reply": "a", "mach": "b"}', "mach"),
        ('{"reply": 3}', "reply"),
        ('{"reply": "a", "seconds": -1}', "seconds"),
        ('{"reply": "a", "seconds": NaN}', "seconds"),
        ('{"reply": "a", "times": 0}', "times"),
        ('{"error": "loud"}', "error: .*'engine', 'fatal' or 'too-long'"),
        ('{"reply": "a", "where": "first"}', "where"),
    ],
)
def test_bad_entries_name_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "script.jsonl"
    path.write_text('{"reply": "fine"}\n\n' + line + "\n", "utf-8")
    with pytest.raises(DataError, match=message) as raised:
        ScriptedEngine.from_file(path)
    assert (raised.value.path, raised.value.line) == (path, 3)
    assert "reply" in raised.value.hint


def test_files_that_are_no_script(tmp_path: Path) -> None:
    empty, binary = tmp_path / "empty.jsonl", tmp_path / "binary.jsonl"
    empty.write_text("\n  \n")
    binary.write_bytes(b"\xff\xfe\x00")
    pipe, large = tmp_path / "pipe.jsonl", tmp_path / "large.jsonl"
    os.mkfifo(pipe)
    with large.open("wb") as file:
        file.truncate(2**27)
    for path, message in [
        (tmp_path / "none.jsonl", "No such file"),
        (tmp_path, "cannot read the script"),
        (empty, "no entries"),
        (binary, "line 1: not valid UTF-8"),
        (pipe, "Not a regular file"),
        (large, "more than 64 MiB"),
    ]:
        with pytest.raises(DataError, match=message) as raised:
            ScriptedEngine.from_file(path)
        assert raised.value.line == (1 if path == binary else None)


def test_description(tmp_path: Path) -> None:
    engine = script(tmp_path, {"reply": "a\u2028b"}, {"reply": "b"})
    digest = hashlib.sha256((tmp_path / "script.jsonl").read_bytes()).hexdigest()
    assert engine.describe() == {"engine": "scripted", "script": "script.jsonl", "sha256": digest, "entries": 2}

"""`respond` and `chat`: what streams, standard input, JSON, and the commands of a chat."""

import io
import json
import sys
from pathlib import Path

import pytest
from command import Localemp

from localemp.cli.talking import ReplyPrinter
from localemp.commands.respond import respond


@pytest.fixture
def script(tmp_path: Path) -> str:
    entries = [
        {"match": "/slash", "where": "last", "reply": "A slash."},
        {"match": "combine your thoughts", "where": "last", "reply": "Two stages."},
        {"match": "think step by step", "where": "last", "reply": "The feeling is sad."},
        {"reply": ["Listener: Oh\n\nno. ", "I see.\nSpeaker: What?"]},
    ]
    path = tmp_path / "script.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return str(path)


def test_pieces_are_told_as_the_whole_reply_is(script: str) -> None:
    told: list[str] = []
    response = respond("My cat died.", script=script, on_text=told.append)
    assert "".join(told) == response.reply == "Oh\n\nno."
    assert len(told) > 1
    told.clear()
    respond("My cat died.", script=script, strategy="two-stage", on_text=told.append)
    assert "".join(told) == "Two stages.", "the first stage is not the reply"


def test_what_was_told_wrongly_is_shown_again(capsys: pytest.CaptureFixture[str]) -> None:
    printer = ReplyPrinter("listener: ")
    printer.tell("Oh, my")
    printer.end("Oh, my \x1b dear.")
    printer = ReplyPrinter()
    printer.tell("I was")
    printer.end("Another.")
    printer = ReplyPrinter("listener: ")
    printer.end("Whole.")
    assert capsys.readouterr().out == "listener: Oh, my \\x1b dear.\nI was\nAnother.\nlistener: Whole.\n"


def test_standard_input_is_a_turn(localemp: Localemp, script: str) -> None:
    words = ("respond", "--script", script, "--json")
    found = json.loads(localemp(*words, "-", typed="\ufeff My cat\ndied.\n\n").stdout)
    assert found["stages"][0]["messages"][-1]["content"] == "My cat\ndied."
    found = json.loads(localemp(*words, "Hello.", "Hi.", "-", typed="/slash").stdout)
    assert found["reply"] == "A slash."


@pytest.mark.parametrize(
    ("turns", "raw", "told"),
    [
        (("-",), b" \n", "standard input is empty"),
        (("-",), b"one\ntwo \xff", "standard input, line 2: not valid UTF-8"),
        (("-",), b"x" * (2**20 + 1), "standard input has more than 1 MiB"),
        (("-", "Hi.", "-"), b"x", "- is given twice"),
    ],
    ids=["empty", "latin", "long", "twice"],
)
def test_standard_input_that_is_no_turn(monkeypatch: pytest.MonkeyPatch, turns: tuple[str, ...], raw: bytes, told: str):
    from localemp.cli.respond import _with_stdin
    from localemp.errors import OptionError

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
    with pytest.raises(OptionError, match=told):
        _with_stdin(turns)


def test_json_is_all_of_standard_output(localemp: Localemp, script: str) -> None:
    done = localemp("respond", "Hi.", "--script", script, "--json", "-s", "few-shot", "--shots", 2, "--seed", 3)
    found = json.loads(done.stdout)
    keys = "reply finish_reason model strategy tokens stages exemplars inferences settings server"
    assert list(found) == keys.split()
    assert (found["reply"], found["finish_reason"], found["server"]) == ("Oh\n\nno.", "stop", None)
    assert found["tokens"]["completion"] == 3 and found["tokens"]["cached"] is None
    assert (found["settings"]["seed"], found["settings"]["shots"], found["settings"]["variant"]) == (3, 2, "paper")
    assert localemp("respond", "Hi.", "--json", "--stages").returncode == 2


def test_the_commands_of_a_chat(localemp: Localemp, script: str) -> None:
    typed = [
        "/help", "/trace", "/undo", "Hi.", "//slash", "/undo", "/strategy", "/strategy two-stag",
        "/STRATEGY two-stage", "And now?", "/trace", "/trac", "/quit now", "not read",
    ]  # fmt: skip
    done = localemp("chat", "--script", script, typed="\n".join(typed) + "\n")
    assert done.returncode == 0, done.stderr
    shown = done.stdout
    assert "  /strategy  NAME: answer by another strategy" in shown
    assert "there is no reply yet\n" in shown and "there is nothing to take back\n" in shown
    assert "listener: Oh\n\nno.\n" in shown and "listener: A slash.\n" in shown
    assert "taken back: /slash\n" in shown
    assert "strategy: zero-shot\n" in shown and "strategy: two-stage\nyou: listener: Two stages.\n" in shown
    assert "Stage 1: feeling" in shown and "Stage 2: reply" in shown
    assert "Oh" in shown.partition("Stage 1")[2], "what was taken back is gone, and the turn before is there"
    assert "did you mean 'two-stage'?" in done.stderr
    assert "unknown command /trac: did you mean /trace? // sends a text that begins with /\n" in done.stderr
    assert shown.endswith("you: ")


def test_a_reply_that_breaks_off_does_not_end_a_chat(localemp: Localemp, tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text('{"match": "storm", "error": "engine"}\n{"reply": "I see."}\n')
    done = localemp("chat", "--script", "s.jsonl", typed="storm\n/reset\nsun\n/exit\n")
    assert (done.returncode, "try again" in done.stderr, "listener: I see.\n" in done.stdout) == (0, True, True)


def test_stages_are_shown_as_they_come(localemp: Localemp, tmp_path: Path) -> None:
    entries = [{"match": "combine your thoughts", "error": "engine"}, {"reply": "The feeling is sad."}]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    done = localemp("respond", "Hi.", "--script", "s.jsonl", "-s", "two-stage", "--stages")
    assert done.returncode == 1
    assert "-> The feeling is sad." in done.stdout, "what was done before the failure is shown"

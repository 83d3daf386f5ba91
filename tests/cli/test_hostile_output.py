"""What models and servers write never moves the terminal, and no fault of ours ends in a traceback."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from patience import patience

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))
from fake_server import Answer, FakeServer, completion, error

EVIL = "Oh no.\x1b]0;owned\x07 \x1b[2J\x9b31m red\rover \u202etxt.exe"
SHOWN = r"Oh no.\x1b]0;owned\x07 \x1b[2J\x9b31m red\x0dover \u202etxt.exe"
OBEYED = "\x1b\x07\x9b\r\u202e"


def script(folder: Path, *entries) -> Path:
    path = folder / "script.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), "utf-8")
    return path


def is_harmless(*done: "subprocess.CompletedProcess[str]") -> bool:
    return not any(sign in one.stdout.replace("\r\n", "\n") + one.stderr for one in done for sign in OBEYED)


def test_replies_are_shown_and_not_obeyed(localemp, tmp_path):
    path = script(tmp_path, {"reply": f"<think>hm {EVIL}</think>{EVIL}"})
    once = localemp("respond", "Hi.", "--script", path)
    assert once.stdout == SHOWN + "\n"
    stages = localemp("respond", "Hi.", "--script", path, "--stages", env={"COLUMNS": "300"})
    assert f"thinking: hm {SHOWN}" in stages.stdout
    talk = localemp("chat", "--script", path, typed="Hi.\n\n")
    assert f"listener: {SHOWN}" in talk.stdout
    assert is_harmless(once, stages, talk)


def test_runs_are_shown_and_not_obeyed(localemp, tmp_path):
    (tmp_path / "data.jsonl").write_text(json.dumps({"id": f"a{EVIL}", "turns": [EVIL], "reference": EVIL}) + "\n")
    path = script(tmp_path, {"reply": f"<think>hm {EVIL}</think>{EVIL}"})
    made = localemp(
        "generate", "--script", path, "--data", "data.jsonl", "--out", "runs/r\x1b[2J", env={"COLUMNS": "300"}
    )
    assert made.returncode == 0, made.stderr
    words = ("runs", "show", "runs/r\x1b[2J")
    shown = [localemp(*words, *more, env={"COLUMNS": "300"}) for more in ((), ("--index", 0), ("--json",))]
    assert all(SHOWN in one.stdout for one in shown[:2])
    assert f"thinking: hm {SHOWN}" in shown[1].stdout
    assert json.loads(shown[2].stdout)["reply"] == EVIL
    assert is_harmless(made, *shown, localemp("runs", "list"))
    prompt = ("prompts", "show", "--model", "gpt-4o-mini", "--data", "data.jsonl")
    assert is_harmless(localemp(*prompt), as_json := localemp(*prompt, "--json"))
    assert json.loads(as_json.stdout)["messages"][-1]["content"] == EVIL


def test_json_is_shown_and_not_obeyed(localemp, tmp_path):
    name = "evil\x1b[2J\x9b31m\u202e.jsonl"
    (tmp_path / name).write_text(json.dumps({"id": "a", "turns": ["Hi."]}) + "\n")
    shown = localemp("data", "stats", name, "--json")
    assert json.loads(shown.stdout)["source"] == name
    assert is_harmless(shown)


def test_what_servers_say_is_shown_and_not_obeyed(localemp):
    with FakeServer([error(401, EVIL)], models=error(500, EVIL)) as server:
        key = {"OPENAI_API_KEY": "sk-fake"}
        done = localemp("respond", "Hi.", "--base-url", server.url, "--model", "tiny", env=key)
    assert done.returncode == 1
    assert "warning: no list of models: " in done.stderr
    assert "error: " in done.stderr
    assert done.stderr.count(r"\x1b]0;owned\x07") == 2
    assert is_harmless(done)


def test_thinking_is_kept_where_it_is_wanted(localemp, tmp_path):
    path = script(tmp_path, {"match": "Hi.", "reply": "<think>Who?</think>Oh."}, {"match": "again", "reply": "I see."})
    words = ("--script", path, "--keep-thinking")
    assert localemp("respond", "Hi.", *words).stdout == "<think>\nWho?\n</think>\n\nOh.\n"
    localemp("generate", *words[:2], "--limit", 1, "--out", "run")
    assert (
        "keep_thinking: not set in the run, true now"
        in localemp("generate", *words, "--limit", 1, "--out", "run").stderr
    )


def test_words_that_are_no_text_are_no_traceback(localemp, tmp_path):
    path = script(tmp_path, {"reply": "Oh \ud83d no 😀."})
    assert localemp("respond", "Hi \udcff", "--script", path).stdout == "Oh \ufffd no 😀.\n"
    narrow = localemp("respond", "Hi.", "--script", path, env={"PYTHONIOENCODING": "latin-1"})
    assert narrow.stdout == "Oh \\ufffd no \\U0001f600.\n"


def test_tokens_that_no_server_counts_are_unknown(localemp):
    (localemp.folder / "d.jsonl").write_text("".join(json.dumps({"turns": [f"Story {n}."]}) + "\n" for n in range(3)))
    words = ("generate", "--model", "tiny", "--data", "d.jsonl", "--concurrency", 1, "--out", "run")
    silent = Answer(body=completion(usage=None))
    with FakeServer([silent]) as server:
        done = localemp(*words, "--base-url", server.url)
    assert "unknown tokens/s" in done.stdout
    assert "tokens: 40 of prompts, 10 of replies, without 1 of 3 calls that tell none" in done.stdout
    assert "10 reply tokens (of 2 calls; the others have no counts)" in localemp("runs", "show", "run").stdout
    assert "unknown prompt tokens, unknown reply tokens" in localemp("runs", "show", "run", "--index", 0).stdout
    with FakeServer(rule=lambda _: silent) as server:
        done = localemp(*words[:-1], "other", "--base-url", server.url)
    assert "tokens: unknown: the server does not count them" in done.stdout
    assert "3 calls, unknown reply tokens" in localemp("runs", "show", "other").stdout


def test_an_empty_url_is_never_replaced_by_another(localemp):
    done = localemp("respond", "Hi.", "--base-url", "", "--model", "gpt-4o-mini", env={"OPENAI_API_KEY": "sk-x"})
    assert (done.returncode, "--base-url is empty" in done.stderr) == (2, True)


# What nobody foresaw

COMMAND = """
import click

@click.command()
def boom():
    raise {raised}
"""


def boom(folder: Path, raised: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the command line with one more command, which fails."""
    (folder / "boom.py").write_text(COMMAND.format(raised=raised))
    start = (
        f"import sys, localemp.cli; localemp.cli.__path__.append({str(folder)!r}); sys.argv = ['localemp', 'boom']\n"
        "from localemp.cli.main import COMMANDS, main; COMMANDS['boom'] = ('boom', ''); main()"
    )
    env = os.environ | {"LOCALEMP_CACHE": str(folder / "cache"), **environment}
    return subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, env=env, timeout=patience(60))


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("KeyError('x')", "error: KeyError: 'x'"),
        ("RuntimeError('two\\nlines \\x1b[2J')", r"error: RuntimeError: two lines \x1b[2J"),
        ("OSError(28, 'No space left on device')", "error: OSError: [Errno 28] No space left on device"),
        ("AssertionError", "error: AssertionError"),
        ("OSError('http://me:hush@host/v1')", "error: OSError: http://***@host/v1"),
        ("ValueError('x' * 300)", f"error: ValueError: {'x' * 199}…"),
    ],
)
def test_a_fault_is_one_line_and_its_traceback_a_file(tmp_path, raised, said):
    done = boom(tmp_path, raised)
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first == said
    (log,) = (tmp_path / "cache" / "logs").iterdir()
    assert second.startswith(f"hint: the traceback is in {log}; ")
    assert "Traceback" in log.read_text("utf-8")
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_traceback_can_be_asked_for(tmp_path):
    done = boom(tmp_path, "KeyError('x')", LOCALEMP_TRACEBACK="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_written_is_no_second_fault(tmp_path):
    (tmp_path / "cache").write_text("a file")
    done = boom(tmp_path, "KeyError('x')")
    assert done.stderr.splitlines()[1].startswith("hint: set LOCALEMP_TRACEBACK=1 to see the traceback")


def test_a_reply_of_megabytes_is_kept_whole_and_shown_in_part(localemp, tmp_path):
    path = script(tmp_path, {"reply": "no " * 1_000_000})
    done = localemp("generate", "--script", path, "--limit", 1, "--out", "run")
    assert done.returncode == 0 and len(done.stdout) < 500_000
    (record,) = (tmp_path / "run" / "responses.jsonl").read_text().splitlines()
    assert len(json.loads(record)["reply"]) > 2_999_990

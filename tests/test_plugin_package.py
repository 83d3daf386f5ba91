"""The package that docs/extending.md builds: its code blocks are written, built, installed and used as they stand."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command import Localemp
from patience import patience
from repository import REPOSITORY

from localemp.runs.run import read_records

PAGE = (REPOSITORY / "docs" / "extending.md").read_text("utf-8")
FILES = dict(re.findall(r"`([\w.]+)`:\n\n```\w+\n(.*?)```\n", PAGE, flags=re.S))
COMMANDS = re.findall(r"^    localemp (.+)$", PAGE, flags=re.M)


@pytest.fixture(scope="module")
def user(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """A user's folder with the page's files, and an environment that has the page's package."""
    folder = tmp_path_factory.mktemp("extending")
    package, site = folder / "localemp-example", folder / "site"
    package.mkdir()
    for name, text in FILES.items():
        (package if name in ("pyproject.toml", "localemp_example.py") else folder).joinpath(name).write_text(text)
    # Built with what is here, and its dependency, localemp, is what is tested.
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([sys.executable, *install, "--target", site, package], check=True, timeout=patience(300))
    return folder, {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}


def test_the_page_has_the_files_and_commands():
    assert list(FILES) == ["pyproject.toml", "localemp_example.py", "mirror.toml", "talks.chat", "mine.py"]
    assert [command.split()[0] for command in COMMANDS] == [
        "doctor",
        "data",
        "generate",
        "score",
        "generate",
        "generate",
    ]


def test_the_pages_commands_do_what_it_says(user):
    folder, environment = user
    localemp = Localemp(folder)
    shown = {}
    for command in COMMANDS:
        done = localemp(*command.split(), env=environment)
        assert (done.returncode, "failed to load" in done.stderr) == (0, False), done.stderr
        shown.setdefault(command.split()[0], done.stdout)
    for name in ("brief (strategy)", "Questions (metric)", "mirror (engine)", "chat-files (data reader)"):
        assert re.search(rf"{re.escape(name)} +localemp-example 1.0, ok", shown["doctor"])
    assert re.search(r"instances +│ +2", shown["data"]) and "Questions" in shown["score"]

    settings = json.loads((folder / "run" / "manifest.json").read_text())["settings"]
    assert (settings["strategy"], settings["brief_factor"]) == ("brief", 2.0)
    assert (settings["engine"], settings["begin"]) == ("mirror", "You say:")
    package = "localemp-example 1.0"
    assert settings["plugins"] == {"strategy brief": package, "engine mirror": package}
    records = list(read_records(folder / "run"))
    assert {record["reply"] for record in records} == {
        "You say: I lost my job today?",
        "You say: My sister had a baby?",
    }
    assert {record["stages"][0]["messages"][-1]["content"].splitlines()[-1] for record in records} == {
        "Answer in at most 10 words."
    }
    for name in ("asking", "few-shot-asking"):
        assert all(
            [stage["name"] for stage in record["stages"]] == ["draft", "reply"]
            for record in read_records(folder / name)
        )
    scores = json.loads((folder / "run" / "scores.json").read_text())["scores"]
    assert [score["value"] for score in scores if score["name"] == "Questions"] == [100.0]


def test_the_packages_strategy_joins_others_and_has_help(user):
    folder, environment = user
    localemp = Localemp(folder)
    words = ("--model", "mirror.toml", "--data", "talks.chat", "--strategy", "few-shot+brief", "--shots", 1)
    shown = localemp("prompts", "show", *words, env=environment)
    assert "Answer in at most 5 words." in shown.stdout, shown.stderr
    helped = localemp("generate", "--help", env=environment).stdout
    assert "a reply as short as what the speaker said" in helped and "--brief-factor" in helped


def test_a_run_of_another_version_is_not_continued(user, tmp_path):
    folder, environment = user
    localemp = Localemp(folder)
    words = (
        "generate",
        "--model",
        "mirror.toml",
        "--strategy",
        "brief",
        "--data",
        "talks.chat",
        "--out",
        tmp_path / "run",
    )
    assert localemp(*words, env=environment).returncode == 0
    (info,) = (folder / "site").glob("localemp_example-1.0.dist-info")
    metadata = info / "METADATA"
    before = metadata.read_text()
    metadata.write_text(before.replace("Version: 1.0", "Version: 1.1"))
    done = localemp(*words, env=environment)
    metadata.write_text(before)
    assert done.returncode != 0
    assert "plugins" in done.stderr and "localemp-example 1.1" in done.stderr

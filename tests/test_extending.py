"""One of each from outside the package: what is registered works everywhere; no module of localemp changes for it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from localemp.cli.main import cli
from localemp.dialogue import Message
from localemp.engines.base import Completion, Engine
from localemp.engines.registry import ENGINES, EngineContext, register_engine
from localemp.errors import OptionError, UnknownNameError
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.runs.run import read_records
from localemp.sampling import Sampling
from localemp.serving.vllm.command import prepare


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    """The registries are as they were when the test ends."""
    before = [(registry, dict(registry)) for registry in (ENGINES,)]
    yield
    for registry, entries in before:
        registry.clear()
        registry.update(entries)


def run(*words: object) -> str:
    return CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False).output


class EchoEngine(Engine):
    """Says the first line of the last message again, louder."""

    name = "echo"

    def __init__(self, end: str) -> None:
        self.end = end

    @classmethod
    def make(cls, context: EngineContext) -> "EchoEngine":
        return cls(context.profile.request["end"])

    @staticmethod
    def settings(context: EngineContext) -> Mapping[str, Any]:
        return {"end": context.profile.request["end"]}

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        return Completion(messages[-1].content.partition("\n")[0] + self.end, "stop")

    def describe(self) -> dict[str, Any]:
        return {"engine": self.name}


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    """A model that the engine answers for."""
    register_engine("echo", EchoEngine.make, EchoEngine.settings)
    profile = tmp_path / "echo.toml"
    profile.write_text('kind = "chat"\nengine = "echo"\n\n[request]\nend = "!"\n')
    return profile


def test_engine_that_a_profile_chooses(echo, tmp_path):
    run("generate", "--model", echo, "--data", "samples", "--limit", 2, "--out", tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert (manifest["settings"]["engine"], manifest["settings"]["end"]) == ("echo", "!")
    assert all(record["reply"].endswith("!") for record in read_records(tmp_path / "run"))
    assert "Hello.!" in run("respond", "--model", echo, "Hello.")
    assert "hosted" in run("models", "show", echo)


def test_an_engine_cannot_be_registered_twice_and_an_unknown_one_is_refused(echo, tmp_path):
    with pytest.raises(OptionError, match="'echo' already"):
        register_engine("echo", EchoEngine.make)
    echo.write_text(echo.read_text().replace("echo", "ecko"))
    with pytest.raises(UnknownNameError, match="unknown engine 'ecko'"):
        Pipeline(RunConfig(model=str(echo))).engine()
    with pytest.raises(OptionError, match="'ecko' cannot be served"):
        prepare(Pipeline(RunConfig(model=str(echo))), ["zero-shot"])

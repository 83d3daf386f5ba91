"""`respond` and `chat` through a running server: which one is used, why one is not, and that the reply is the same."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command import Localemp
from model_app import ModelApp, served

from localemp.commands.respond import choose_responder
from localemp.dialogue import Dialogue
from localemp.errors import EngineError, OptionError
from localemp.models.profiles import read_profile
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.serving.client import ServedResponder, _response
from localemp.serving.finding import find_server
from localemp.serving.matching import why_not
from localemp.serving.middleware import StrategyMiddleware
from localemp.serving.running import RunningServer, announced, running_servers
from localemp.serving.settings import ServeSettings
from localemp.utils.paths import cache_dir

STRATEGIES = ("zero-shot", "few-shot", "two-stage")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALEMP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def tiny(tmp_path: Path, tiny_folder: Path) -> str:
    """A profile of a model that would run here."""
    path = tmp_path / "tiny.toml"
    path.write_text(f'name = "tiny"\nkind = "chat"\nengine = "vllm"\npath = "{tiny_folder}"\nlayout = "chat"\n')
    return str(path)


@pytest.fixture
def model() -> ModelApp:
    return ModelApp()


def serve_settings(config: RunConfig, keys: tuple[str, ...] = ()) -> ServeSettings:
    return ServeSettings.of("tiny", config, strategies=STRATEGIES, api_keys=keys)


def described(tiny: str, url: str = "http://127.0.0.1:9", keys: tuple[str, ...] = (), **settings: Any) -> RunningServer:
    config = RunConfig(model=tiny, **settings)
    return RunningServer.of(serve_settings(config, keys), read_profile(Path(tiny)), url, ())


@pytest.fixture
def run(tiny: str, model: ModelApp) -> Iterator[Callable[..., str]]:
    """Starts a server with a key, and announces it; returns its address."""
    # In front of the app there is a proxy's configuration, since no weights are here.
    settings = serve_settings(RunConfig(model="tiny", base_url="http://127.0.0.1:1/v1"), ("sesame",))
    with served(StrategyMiddleware(model.app, settings)) as url, announced(described(tiny, url, ("sesame",))):
        yield url


KEY = {"LOCALEMP_API_KEY": "sesame,other"}


def test_a_running_server_answers_and_streams(localemp: Localemp, tiny: str, run: str, model: ModelApp) -> None:
    done = localemp("respond", "My dog died.", "--model", tiny, env=KEY)
    assert (done.returncode, done.stdout) == (0, "I hear you: My dog died\n"), done.stderr
    assert done.stderr == f"using the server for tiny at {run}; --server none loads the model here\n"
    assert model.asked[-1]["stream"] is True
    for words in (("--server", run), ("--server", f"{run}/v1/")):
        assert localemp("respond", "My dog died.", "--model", tiny, *words, env=KEY).stdout == done.stdout


def test_json_is_one_object_with_all_stages(localemp: Localemp, tiny: str, run: str) -> None:
    words = ("respond", "My dog died.", "--model", tiny, "-s", "two-stage", "--json", "--max-tokens", 128)
    found = json.loads(localemp(*words[:-2], env=KEY).stdout)
    assert (found["reply"], found["finish_reason"]) == ("I hear you, and I am with you", "stop")
    assert (found["model"], found["strategy"], found["server"]) == ("tiny", "two-stage", run)
    assert [(stage["name"], stage["text"]) for stage in found["stages"]] == [
        ("feeling", "The user's emotion may be sad."),
        ("reply", "I hear you, and I am with you"),
    ]
    assert found["tokens"]["completion"] == 6 + 8 and found["tokens"]["prompt"] > 100
    assert found["settings"]["sampling"]["max_tokens"] == 128


def test_stages_and_chat(localemp: Localemp, tiny: str, run: str) -> None:
    shown = localemp("respond", "My dog died.", "--model", tiny, "-s", "few-shot", "--stages", env=KEY)
    assert "exemplar" in shown.stdout and "-> I hear you" in shown.stdout
    typed = "My dog died.\n/strategy two-stage\nYes.\n/strategy similar\n/trace\n\n"
    talk = localemp("chat", "--model", tiny, typed=typed, env=KEY)
    assert "listener: I hear you: My dog died\n" in talk.stdout
    assert "strategy: two-stage\n" in talk.stdout and "listener: I hear you, and I am with you\n" in talk.stdout
    assert f"the server at {run} cannot do that: it does not offer similar" in talk.stderr
    assert "Stage 2: reply" in talk.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--seed", 7), "its --seed is 0, and yours 7"),
        (("--temperature", 0.5), "its --temperature is not set, and yours 0.5"),
        (("--layout", "transcript"), "its --layout is not set, and yours transcript"),
        (("--deterministic",), "its --deterministic is off, and yours on"),
        (("--engine-arg", "quantization=fp8"), "its engine argument quantization is not set, and yours fp8"),
        (("-s", "knowledge"), "it does not offer knowledge"),
        (("--keep-thinking",), "it writes the thinking of --keep-thinking in another form"),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, tuple) else "",
)
def test_another_setting_is_not_answered(localemp: Localemp, tiny: str, run: str, words: Any, told: str) -> None:
    done = localemp("respond", "Hi.", "--model", tiny, "--server", run, *words, env=KEY)
    assert (done.returncode, f"the server at {run} cannot be used: {told}" in done.stderr) == (2, True), done.stderr


def test_a_server_without_a_file_is_used_by_its_address(localemp: Localemp, tiny: str, model: ModelApp) -> None:
    settings = serve_settings(RunConfig(model="tiny", base_url="http://127.0.0.1:1/v1"))
    with served(StrategyMiddleware(model.app, settings)) as url:
        words = ("respond", "My dog died.", "--model", tiny, "--server", f"{url}/v1")
        done = localemp(*words, "--seed", 7)
        assert done.stdout == "I hear you: My dog died\n", done.stderr
        assert done.stderr == f"using the server at {url}; its operator decides on seed, sampling and thinking\n"
        assert "it does not offer knowledge" in localemp(*words, "-s", "knowledge").stderr
        assert "you asked for smollm2" in localemp(*words[:2], *words[4:]).stderr
    assert "it cannot be reached" in localemp(*words).stderr
    with served(model.app) as url:  # a model's server without strategies
        assert "it does not offer zero-shot" in localemp(*words[:-1], url).stderr


def test_what_only_changes_speed_matches(tiny: str) -> None:
    server = described(tiny)
    config = RunConfig(model=tiny, engine_args={"max_num_seqs": 2}, concurrency=3, strategy="few-shot", shots=4)
    assert why_not(server, Pipeline(config)) == ""
    assert (
        why_not(server, Pipeline(replace(config, strategy="few-shot+two-stage")))
        == "it does not offer few-shot+two-stage"
    )
    assert "its engine argument dtype is not set" in why_not(
        server, Pipeline(replace(config, engine_args={"dtype": "half"}))
    )
    assert why_not(server.model_copy(update={"localemp": "0.0.1"}), Pipeline(config)).startswith("it is localemp 0.0.1")
    other = server.model_copy(update={"profile_sha256": "0"})
    assert why_not(other, Pipeline(config)) == "its profile of tiny is another"
    assert why_not(server, Pipeline(RunConfig(model="smollm2"))) == "you asked for smollm2"


def test_a_server_that_does_not_fit_is_named(tiny: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "localemp")
    with announced(described(tiny)):
        assert find_server("auto", Pipeline(RunConfig(model="smollm2"))) is None
        assert find_server("auto", Pipeline(RunConfig(model=tiny))) is None
        assert find_server("none", Pipeline(RunConfig(model=tiny))) is None
        # Nothing would be loaded: no server is looked for.
        for settings in ({"script": "x"}, {"base_url": "http://a/v1"}):
            assert find_server("auto", Pipeline(RunConfig(model=tiny, **settings))) is None
    assert caplog.messages[0] == "a server for tiny runs at http://127.0.0.1:9; it is not used: you asked for smollm2"
    assert caplog.messages[1].startswith(
        "a server for tiny runs at http://127.0.0.1:9; it is not used: it cannot be reached"
    )
    assert len(caplog.messages) == 2


def test_a_key_is_needed_and_never_in_the_file(tiny: str, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = (cache_dir() / f"servers-{os.getuid()}").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    assert "sesame" not in path.read_text()
    monkeypatch.delenv("LOCALEMP_API_KEY", raising=False)
    for key, told in ((None, "it needs a key; set LOCALEMP_API_KEY"), ("wrong", "it refuses the key")):
        if key:
            monkeypatch.setenv("LOCALEMP_API_KEY", key)
        with pytest.raises(OptionError, match=told):
            choose_responder(RunConfig(model=tiny), run)
    monkeypatch.setenv("LOCALEMP_API_KEY", "sesame")
    assert isinstance(choose_responder(RunConfig(model=tiny)), ServedResponder)


def test_files_of_dead_servers_and_of_others_are_skipped(tiny: str, tmp_path: Path) -> None:
    server, folder = described(tiny), cache_dir() / f"servers-{os.getuid()}"
    with announced(server):
        assert running_servers() == [server]
        path = next(folder.iterdir())
        content = json.loads(path.read_text())

        def skipped(text: str, mode: int = 0o600) -> bool:
            path.write_text(text)
            path.chmod(mode)
            return running_servers() == []

        for change in (
            {"machine": "elsewhere"},
            {"pid": 2**22 - 1},
            {"pid": 2**62},
            {"started": 1},
            {"format": 2},
            {"url": "http://a@b"},
        ):
            assert skipped(json.dumps(content | change)), change
        assert skipped("{") and skipped("[1]") and skipped(json.dumps(content), 0o620)
        assert skipped(json.dumps(content | {"config": {"colour": "x" * 2**20}}))
        path.unlink()
        (tmp_path / "else.json").write_text(json.dumps(content))
        path.symlink_to(tmp_path / "else.json")
        assert running_servers() == []
        path.unlink()
        path.write_text(json.dumps(content))
        folder.chmod(0o770)
        assert running_servers() == []
        folder.chmod(0o700)
        (folder / "dead.json").write_text(json.dumps(content | {"pid": 2**22 - 1}))
    with announced(server):
        assert [each.name for each in folder.iterdir()] == [f"{os.getpid()}.json"], "what is dead goes"
    assert running_servers() == [] and not list(folder.iterdir())


def test_a_cache_that_cannot_be_written_stops_no_server(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LOCALEMP_CACHE", str(tmp_path / "file" / "cache"))
    with announced(described(tiny)):
        assert running_servers() == []


@pytest.mark.parametrize("url", ["ftp://a", "http://me:pw@a", "http://a/b", "yes"])
def test_what_is_no_address_is_told(localemp: Localemp, url: str) -> None:
    done = localemp("respond", "Hi.", "--server", url)
    assert (done.returncode, "is not auto, none or an address" in done.stderr) == (2, True)
    both = localemp("respond", "Hi.", "--server", "http://127.0.0.1:9", "--base-url", "http://127.0.0.1:9/v1")
    assert (both.returncode, "--server does nothing with --base-url" in both.stderr) == (2, True)


STAGE = {
    "name": "reply", "text": "Oh.", "finish_reason": "stop", "prompt_tokens": 1, "completion_tokens": 1, "seconds": 0.1,
    "notes": [], "thinking": "", "thinking_tokens": None, "messages": [], "exemplars_dropped": 0, "answer": None,
}  # fmt: skip
TRACE = {"stages": [STAGE], "exemplars": [], "inferences": None, "inferences_dropped": {}}


@pytest.mark.parametrize(
    "wrong",
    [
        {"stages": []},
        {"skipped": 5},
        {"inferences": {"a": 5}},
        {"exemplars": [{"id": "x", "turns": [], "score": 1}]},
        {"inferences_dropped": {"a": [{"text": 5}]}},
        *(
            {"stages": [STAGE | {name: value}]}
            for name, value in (
                ("text", 5), ("thinking", None), ("seconds", "x"), ("seconds", float("nan")), ("answer", [1]),
                ("finish_reason", {}), ("messages", [{"role": "x", "content": ""}]), ("sampling", 5), ("notes", "x"),
            )
        ),
    ],
)  # fmt: skip
def test_a_trace_of_another_form_is_an_error(wrong: dict[str, Any]) -> None:
    dialogue = Dialogue("d", ("My dog died.",))
    assert _response(dialogue, "Oh.", TRACE, 0.1).reply == "Oh."
    with pytest.raises(EngineError, match="missing, or of another form"):
        _response(dialogue, "Oh.", TRACE | wrong, 0.1)

"""`runs verify`: which replies are asked for again, how, what counts as equal, and the certificate."""

import asyncio
import json
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from patience import patience
from small_runs import make_run

import localemp
from localemp import Progress, generate, verify
from localemp.cli.interrupts import INTERRUPTED
from localemp.dialogue import Message
from localemp.engines.base import Completion, Engine
from localemp.engines.registry import ENGINES, EngineContext, register_engine
from localemp.errors import EngineError, FatalEngineError, OptionError, RunError
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.pipeline.recorded import differences_to, recorded_config
from localemp.runs.run import read_manifest, read_records
from localemp.runs.verified import VERIFIED, read_verifications, verified_line
from localemp.sampling import Sampling
from localemp.utils.machine import machine, versions


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test works in a folder of its own, and registered engines are as they were when it ends."""
    monkeypatch.chdir(tmp_path)
    before = dict(ENGINES)
    yield
    ENGINES.clear()
    ENGINES.update(before)


class Rounding(Engine):
    """Answers with another last word when more than two requests are in flight, as rounding does it in batches."""

    name = "rounding"
    concurrency = 1

    def __init__(self, context: EngineContext) -> None:
        self.alone = context.deterministic
        self.failing = context.profile.request.get("failing")
        self.calls: list[tuple[str, Sampling]] = []
        self.resets = self.in_flight = 0
        Rounding.last = self

    last: "Rounding"

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        self.in_flight += 1
        self.calls.append((messages[-1].content, sampling))
        await asyncio.sleep(0)
        crowded = self.in_flight > 2 and not self.alone
        await asyncio.sleep(0)
        self.in_flight -= 1
        if self.failing and self.failing in messages[-1].content:
            raise (FatalEngineError if self.failing == "fatal" else EngineError)("the wire is cut")
        said = f"I am sorry to hear that, you must feel {'alone' if crowded else 'sad'}."
        return Completion(said, "stop", 10, 11)

    async def reset_prefix_cache(self) -> bool:
        self.resets += 1
        return True

    def describe(self) -> dict[str, Any]:
        return {"engine": self.name, **({"deterministic": "one at a time"} if self.alone else {})}


def model(**request: str) -> str:
    """A profile that chooses the engine; the path for `model`."""
    if "rounding" not in ENGINES:
        register_engine("rounding", Rounding, lambda _: {"digits": 3}, deterministic=True)
    lines = [f'{name} = "{value}"' for name, value in request.items()]
    Path("rounding.toml").write_text("\n".join(['kind = "chat"', 'engine = "rounding"', "[request]", *lines]))
    return str(Path("rounding.toml").resolve())


def made(**settings: Any) -> Path:
    return generate(model=model(), data="samples", out="run", **settings).folder


def test_batches_that_change_replies_are_found_and_shown_where_they_part():
    folder = made(strategy="two-stage")
    found = verify(folder, model=model(), sample=5, batch_sizes=(8, 1))
    assert [(each.batch_size, each.equal, each.different, each.cold) for each in found.sizes] == [
        (1, 5, 0, True),
        (8, 0, 5, True),
    ]
    assert (found.equal, found.different, found.failed) == (0, 5, 0)
    assert found.holds, "the run does not claim that its replies can be repeated"
    parting = found.partings[0]
    assert (parting.what, parting.batch_size, parting.stage) == ("text", 8, "feeling")
    assert (parting.common[-5:], parting.before, parting.now) == ("feel ", "sad.", "alone.")
    assert (parting.character, parting.word, parting.token) == (39, 9, None)
    assert Rounding.last.resets == 2
    assert len(Rounding.last.calls) == 2 * 2 * 5, "both stages of each reply, at each batch size"


def test_every_stage_is_asked_with_its_recorded_prompt_and_sampling():
    folder = made(strategy="two-stage", temperature=0.5, seed=7, max_tokens=33)
    recorded = [stage["messages"][-1]["content"] for record in read_records(folder) for stage in record["stages"]]
    verify(folder, model=model(), batch_sizes=[1])
    assert sorted(content for content, _ in Rounding.last.calls) == sorted(recorded)
    assert {sampling for _, sampling in Rounding.last.calls} == {Sampling(33, 0.5, seed=7)}


def test_a_deterministic_run_is_asked_deterministically_and_holds():
    folder = made(deterministic=True)
    found = verify(folder, model=model(), batch_sizes=[1, 16])
    assert (found.equal, found.different) == (12, 0)
    assert (found.claimed, found.deterministic, found.holds) == (True, "one at a time", True)
    assert found.summary == "12 of 12 replies equal at batch sizes 1 and 16"


def test_the_sample_depends_on_its_seed_alone():
    folder = made()
    samples = [verify(folder, model=model(), sample=4, seed=seed, batch_sizes=[1]).ids for seed in (1, 1, 2)]
    assert samples[0] == samples[1] != samples[2]
    assert all(len(set(sample)) == 4 for sample in samples)


def test_a_failed_request_is_not_a_different_reply():
    folder = made()
    said = read_records(folder)[3]["turns"][-1]
    found = verify(folder, model=model(failing=said[:20]), batch_sizes=[1, 2])
    assert (found.equal, found.different, found.failed) == (11, 0, 1)
    assert not found.holds
    assert {failure.error["message"] for failure in found.failures} == {"the wire is cut"}
    assert found.summary == "11 of 12 replies equal at batch sizes 1 and 2, 1 failed"


def test_an_engine_that_is_lost_leaves_no_certificate():
    folder = made()
    Path("talk.jsonl").write_text('{"id": "f", "turns": ["It was fatal."]}\n')
    folder = generate(model=model(), data="talk.jsonl", out="other").folder
    with pytest.raises(FatalEngineError, match="the wire is cut"):
        verify(folder, model=model(failing="fatal"))
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "responses.jsonl"]


def test_the_certificate_keeps_all_verifications_and_how_many_replies_there_were():
    generate(model=model(), data="samples", limit=5, out="run")
    assert verified_line(Path("run")) == ""
    first = verify("run", model=model(), batch_sizes=[1])
    assert verified_line(Path("run")) == f"verified {first.made[:10]}: 5 of 5 replies equal at batch size 1 (rounding)"
    generate(model=model(), data="samples", out="run")
    assert verified_line(Path("run")).endswith("; the run had 5 replies then and was continued since")
    second = verify("run", model=model(), batch_sizes=[1])
    assert read_verifications(Path("run")) == [first, second]
    lines = Path("run", "responses.jsonl")
    lines.write_text(lines.read_text().replace("sorry", "happy", 1))
    assert verified_line(Path("run")).endswith("; the run's file of replies has been changed since")


def test_a_verified_run_is_resumed_as_before():
    folder = made()
    verify(folder, model=model(), batch_sizes=[1])
    assert generate(model=model(), data="samples", out="run").tally is None


@pytest.mark.parametrize("content", ["{", "[]", '{"verifications": [{"made": 3}]}'], ids=["cut", "list", "other"])
def test_a_damaged_certificate_is_reported_before_anything_is_asked_and_kept(content):
    folder = made()
    (folder / VERIFIED).write_text(content)
    with pytest.raises(RunError, match=r"verified\.json: it is damaged"):
        verify(folder, model=model())
    assert (folder / VERIFIED).read_text() == content
    assert "damaged" in verified_line(folder)


def test_what_differs_from_what_made_the_run_is_refused_unless_it_is_accepted():
    folder = made()
    manifest = read_manifest(folder)
    manifest["settings"]["digits"] = 5
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match="digits: 5 in the run, 3 now"):
        verify(folder, model=model())
    found = verify(folder, model=model(), anyway=True, batch_sizes=[1])
    assert found.anyway == ["digits: 5 in the run, 3 now"]
    assert "with 1 difference to what made the run" in verified_line(folder)


def test_weights_versions_and_hardware_are_compared_and_names_are_not(tiny_folder):
    pipeline = Pipeline(RunConfig(model=str(tiny_folder)))
    settings = pipeline.model_settings()
    session = {"versions": versions(), "machine": machine() | {"memory": "1.0 GiB"}}
    assert differences_to({"settings": settings, "sessions": [session, {}]}, pipeline) == []
    moved = settings | {"model": "elsewhere", "weights_origin": "/elsewhere"}
    assert differences_to({"settings": moved, "sessions": []}, pipeline) == []
    session["machine"] |= {"GPU": "an old one"}
    session["versions"] |= {"torch": "1.0"}
    found = differences_to({"settings": settings | {"weights_sha256": "0" * 64}, "sessions": [session] * 2}, pipeline)
    assert [line.partition(":")[0] for line in found] == ["weights_sha256", "torch", "GPU"]


def test_a_manifest_chooses_no_server_and_no_code():
    folder = make_run(Path("run"), {"a": "Oh."}, engine="openai", base_url="http://evil.example/v1")
    with pytest.raises(OptionError, match=r"the server http://evil\.example/v1"):
        verify(folder)
    Path("evil.toml").write_text('kind = "chat"\nengine = "openai"\nmodel = "m"\nbase_url = "http://evil.example/v1"\n')
    folder = make_run(
        Path("third"), {"a": "Oh."}, model="evil.toml", engine="openai", base_url="http://evil.example/v1"
    )
    with pytest.raises(OptionError, match=r"names a file as its model: evil\.toml"):
        verify(folder)
    folder = make_run(Path("other"), {"a": "Oh."}, engine="vllm", engine_args={"trust_remote_code": True})
    with pytest.raises(OptionError, match="trust_remote_code, which can run code"):
        verify(folder)
    two = {"trust_remote_code": True, "worker_cls": "evil.Worker"}
    folder = make_run(Path("two"), {"a": "Oh."}, engine="vllm", engine_args=two)
    with pytest.raises(OptionError, match="worker_cls, which can run code"):
        verify(folder, engine_args={"trust_remote_code": True})  # one that is trusted does not let in another


def test_a_model_that_was_told_to_think_is_told_so_again():
    text = '[thinking]\nswitch = "enable_thinking"\n'
    for name in ("off", "on"):  # by default
        default = f"[chat_template_kwargs]\nenable_thinking = {str(name == 'on').lower()}\n"
        Path(f"{name}.toml").write_text(f'kind = "chat"\nengine = "rounding"\n{default}{text}')
    model()  # registers the engine
    manifest: dict[str, Any] = {"settings": {"engine": "vllm"}, "sessions": []}
    for told, thinking in (({"enable_thinking": True}, "on"), ({"enable_thinking": False}, "off"), ({}, None)):
        manifest["settings"]["chat_template_kwargs"] = told
        for name in ("off", "on"):
            assert recorded_config(manifest, model=f"{name}.toml").thinking == thinking
    assert recorded_config(manifest, model=model()).thinking is None, "it has no switch"


def test_the_adapter_is_found_where_the_run_had_it_and_keeps_its_name():
    session = {"engine_args": {}, "adapter": {"reference": "adapters/one"}}
    manifest = {"settings": {"engine": "rounding", "adapter": "mine"}, "sessions": [session]}
    assert recorded_config(manifest, model=model()).adapter == "mine=adapters/one"
    assert recorded_config(manifest, model=model(), adapter="moved").adapter == "moved"
    assert recorded_config({**manifest, "sessions": []}, model=model()).adapter == "mine"


def test_replies_of_chance_are_not_asked_for_again():
    folder = make_run(Path("run"), {"a": "Oh."}, sampling={"temperature": 0.7})
    with pytest.raises(RunError, match=r"temperature 0\.7 without a seed"):
        verify(folder)


def test_unusable_runs_and_arguments_say_what_is_wrong():
    folder = make_run(Path("run"), {})
    with pytest.raises(RunError, match="no replies yet"):
        verify(folder)
    (folder / "responses.jsonl").unlink(missing_ok=True)
    with pytest.raises(RunError, match="no replies yet"):
        verify(folder)
    folder = make_run(Path("other"), {"a": "Oh."}, sampling=[1])
    with pytest.raises(RunError, match="sampling parameters are damaged"):
        verify(folder)
    for sizes in ((), (0, 1), (5000,)):
        with pytest.raises(OptionError, match="batch sizes"):
            verify(folder, batch_sizes=sizes)
    with pytest.raises(OptionError, match="--sample 0"):
        verify(folder, sample=0)


def test_progress_reaches_its_end():
    folder = made()
    events: list[Progress] = []
    verify(folder, model=model(), batch_sizes=[1, 4], on_progress=events.append)
    ends = {event.task: (event.done, event.total) for event in events if event.unit == "requests"}
    assert ends == {"Asking at batch size 1": (12, 12), "Asking at batch size 4": (12, 12)}


def test_it_is_public():
    assert localemp.verify is verify
    assert localemp.Verification.__name__ == "Verification"


class TestCommand:
    """The command line, with the scripted engine."""

    @pytest.fixture
    def run(self, localemp, tmp_path):
        """A run of a script that always says the same, and one that does not."""

        def make(*replies: str, words: Sequence[str] = ()) -> tuple[str, ...]:
            path = tmp_path / "script.jsonl"
            path.write_text(json.dumps({"reply": list(replies)}) + "\n")
            done = localemp("generate", "--script", path, "--out", "run", "--show", 0, *words)
            assert done.returncode == 0, done.stderr
            return ("runs", "verify", "run", "--script", str(path), "--sample", "5")

        return make

    def test_equal_replies(self, localemp, run):
        done = localemp(*run("I am here."))
        assert done.returncode == 0, done.stderr
        assert "5 of 5 replies equal at batch sizes 1, 8 and 64 (scripted)" in done.stdout
        shown = localemp("runs", "show", "run")
        assert ": 5 of 5 replies equal at batch sizes 1, 8 and 64 (scripted)" in shown.stdout
        assert localemp("report", "run", "--html", "report.html").returncode == 0
        assert "5 of 5 replies equal" in Path("report.html").read_text()

    def test_different_replies_fail_only_where_the_run_claims_otherwise(self, localemp, run):
        done = localemp(*run("I am here.", "I am \x1b[31mthere."))
        assert done.returncode == 0, done.stderr
        assert "  recorded I am |here.\n" in done.stdout
        assert "  now      I am |\\x1b[31mthere.\n" in done.stdout

    def test_a_claim_that_does_not_hold_ends_with_1(self, localemp, run):
        done = localemp(*run("I am here.", "I am there.", words=["--deterministic"]))
        assert done.returncode == 1
        assert "its replies should be equal" in done.stderr

    def test_json_is_the_certificates(self, localemp, run):
        done = localemp(*run("I am here."), "--json")
        assert json.loads(done.stdout) == json.loads(Path("run", VERIFIED).read_text())["verifications"][0]

    def test_a_scripted_run_needs_its_script(self, localemp, run):
        done = localemp(*run("I am here.")[:3])
        assert done.returncode == OptionError.exit_code
        assert "give it with --script" in done.stderr

    def test_ctrl_c_leaves_the_run_as_it_was(self, localemp, run, tmp_path):
        words = run("I am here.")
        before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
        (tmp_path / "script.jsonl").write_text(json.dumps({"reply": "I am here.", "seconds": 600}) + "\n")
        process = localemp.start(*words)
        assert process.stderr is not None
        assert "Starting scripted" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=patience(60))
        assert process.returncode == INTERRUPTED
        assert "stopped" in told
        assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before

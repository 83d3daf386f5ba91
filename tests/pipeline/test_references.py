"""`score --ppl`: an engine that scores given texts, from outside the package, and what runs keep of it."""

import asyncio
import json
import math
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner, Result
from small_runs import four, make_run

from localemp.cli.main import cli
from localemp.commands.compare import compare
from localemp.commands.report import report
from localemp.commands.score import score
from localemp.dialogue import Message
from localemp.engines.base import Completion, Engine, TextScore
from localemp.engines.registry import ENGINES, EngineContext, register_engine
from localemp.engines.scripted import Entry, ScriptedEngine
from localemp.errors import EngineError, FatalEngineError, OptionError, RunError
from localemp.metrics.registry import metric
from localemp.metrics.replies import replies_of_run
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.sampling import Sampling
from localemp.utils.asynchronous import run_here


class Guess(Engine):
    """Finds each word of a text as probable as one of `choices`; a word of the messages twice as probable.

    All is in the profile's `request`: texts with a word of `fail` fail; after so many texts the engine stops for good
    (`stop_after`), or somebody presses Ctrl-C (`press_after`).
    """

    name, concurrency = "guess", 2
    asked: ClassVar[list[tuple[list[Message], str]]] = []
    started = 0

    def __init__(
        self, choices: float, fail: Sequence[str] = (), stop_after: int | None = None, press_after: int | None = None
    ) -> None:
        self.choices, self.fail, self.stop_after, self.press_after = choices, fail, stop_after, press_after

    @classmethod
    def make(cls, context: EngineContext) -> "Guess":
        return cls(**context.profile.request)

    @staticmethod
    def settings(context: EngineContext) -> Mapping[str, Any]:
        return {"choices": context.profile.request["choices"]}

    async def start(self) -> None:
        Guess.started += 1

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        return Completion("sad" if "emotion" in messages[-1].content else "Oh no.", "stop")

    async def score(self, messages: Sequence[Message], text: str) -> TextScore:
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise FatalEngineError("the power went out")
        if self.press_after is not None and len(self.asked) >= self.press_after:
            signal.raise_signal(signal.SIGINT)
            await asyncio.Event().wait()
        if any(word in text for word in self.fail):
            raise EngineError("too odd")
        self.asked.append((list(messages), text))
        known = " ".join(message.content for message in messages).split()
        logprobs = [math.log((2 if word in known else 1) / self.choices) for word in text.split()]
        return TextScore(sum(logprobs), len(logprobs))

    def describe(self) -> dict[str, Any]:
        return {"engine": self.name, self.name: "1.0"}


@pytest.fixture(autouse=True)
def guess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A profile of the engine, in a folder of its own; what was asked before is forgotten."""
    before = dict(ENGINES)
    register_engine("guess", Guess.make, Guess.settings, scores=True)
    Guess.asked.clear()
    Guess.started = 0
    monkeypatch.chdir(tmp_path)
    yield profile()
    ENGINES.clear()
    ENGINES.update(before)


def profile(**request: Any) -> Path:
    told = "\n".join(f"{name} = {json.dumps(value)}" for name, value in ({"choices": 8.0} | request).items())
    path = Path("guess.toml")
    path.write_text(f'kind = "chat"\nengine = "guess"\n\n[request]\n{told}\n')
    return path


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def generate(out: str, strategy: str = "zero-shot", limit: int = 3) -> Path:
    started = Guess.started
    done = run("generate", "-m", "guess.toml", "-s", strategy, "--data", "samples", "--limit", limit, "--out", out)
    assert done.exit_code == 0, done.output
    Guess.started = started  # counts engines that score
    return Path(out)


def ppl(folder: Path, **options: Any) -> float | None:
    found = score(folder, no_bertscore=True, ppl=True, model="guess.toml", **options).systems[0].score("PPL")
    assert found is not None
    return found.value


def logprobs(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "perplexity" / "logprobs.jsonl").read_text().splitlines()]


def test_each_reference_is_scored_under_the_prompt_of_its_reply(guess):
    plain, two = generate("plain"), generate("two", "two-stage")
    scored = score([plain, two], no_bertscore=True, ppl=True, model=str(guess))
    assert Guess.started == 1, "both runs have one model"
    some = score(plain, metric="Dist-1", ppl=True, model=str(guess))
    assert [each.name for each in some.systems[0].scores] == ["Dist-1", "PPL", "BPB"]
    for folder in (plain, two):
        records = [json.loads(line) for line in (folder / "responses.jsonl").read_text().splitlines()]
        asked = [[{"role": m.role, "content": m.content} for m in messages] for messages, _ in Guess.asked]
        assert all(record["stages"][-1]["messages"] in asked for record in records)
    lines = logprobs(plain)
    expected = math.exp(-sum(line["logprob"] for line in lines) / sum(line["tokens"] for line in lines))
    first = scored.systems[0].score("PPL")
    assert first is not None and first.value == pytest.approx(expected) and 4 <= expected <= 8
    assert dict(first.signature.settings) | {"of": "references", "engine": "guess 1.0", "layout": "chat"} == dict(
        first.signature.settings
    )
    references = [item.reference or "" for item in replies_of_run(plain).items]
    bits = scored.systems[0].score("BPB")
    assert bits is not None and bits.hidden
    nats = -sum(line["logprob"] for line in lines)
    assert bits.value == pytest.approx(nats / math.log(2) / sum(len(text.encode()) for text in references))


def test_only_what_is_missing_is_computed_and_what_is_kept_needs_no_engine(guess):
    folder = generate("plain")
    value = ppl(folder)
    assert (len(Guess.asked), Guess.started) == (3, 1)
    assert ppl(folder) == value
    generate("plain", limit=5)
    assert ppl(folder) != value
    assert (len(Guess.asked), Guess.started) == (5, 2)
    kept = score(folder, no_bertscore=True).systems[0].score("PPL")
    assert kept is not None and kept.value == ppl(folder) and Guess.started == 2


def test_an_engine_that_stops_loses_nothing_and_the_same_command_goes_on(guess):
    folder = generate("plain")
    profile(stop_after=2)
    done = run("score", folder, "--ppl", "-m", guess, "--no-bertscore")
    assert str(done.exception) == "the power went out"
    assert "stopped: log probabilities of 2 of 3 references saved to plain/perplexity" in done.output
    missing = metric("PPL").missing(replies_of_run(folder))
    assert missing == "not computed for 1 of 3 dialogues; `localemp score --ppl` computes it"
    profile()
    assert ppl(folder) is not None
    assert len(Guess.asked) == 3


def test_ctrl_c_keeps_what_is_there(guess):
    folder = generate("plain")
    profile(press_after=2)
    done = run("score", folder, "--ppl", "-m", guess, "--no-bertscore")
    assert done.exit_code == 130
    assert "stopped: log probabilities of 2 of 3 references saved to plain/perplexity" in done.output
    assert "hint: run the same command again" in done.output
    profile()
    assert ppl(folder) is not None and len(Guess.asked) == 3


def test_a_reference_that_fails_is_a_line_of_its_own_and_asked_again(guess):
    folder = generate("plain")
    odd = replies_of_run(folder).items[1].reference or ""
    profile(fail=[odd])
    scored = score(folder, no_bertscore=True, ppl=True, model=str(guess)).systems[0].score("PPL")
    assert scored is not None
    assert (scored.value, scored.reason[:34]) == (None, "not computed for 1 of 3 dialogues;")
    assert [line["error"]["message"] for line in logprobs(folder) if "error" in line] == ["too odd"]
    profile()
    assert ppl(folder) is not None


def test_another_model_than_the_runs_is_refused(guess):
    folder = generate("plain")
    profile(choices=9.0)
    with pytest.raises(RunError, match=r"plain: PPL needs the model .*\n  choices: 8.0 in the run, 9.0 now") as caught:
        ppl(folder)
    assert "--model" in caught.value.hint
    assert not (folder / "perplexity").exists()


def test_another_way_of_computing_is_not_mixed_with_what_is_kept(guess):
    folder = generate("plain")
    ppl(folder)
    manifest = json.loads((folder / "perplexity" / "manifest.json").read_text())
    manifest["settings"]["end_of_turn"] = "counted"
    (folder / "perplexity" / "manifest.json").write_text(json.dumps(manifest))
    generate("plain", limit=4)
    with pytest.raises(RunError, match='end_of_turn: "counted" there, "left out" now') as caught:
        ppl(folder)
    assert caught.value.hint == "remove plain/perplexity, and score again"


def test_runs_that_no_engine_can_score_have_an_empty_cell_and_a_note(guess):
    one, hosted = generate("plain"), make_run(Path("hosted"), {"a": "Oh."}, engine="openai")
    done = run("score", one, hosted, "--ppl", "-m", guess, "--no-bertscore")
    assert done.exit_code == 0, done.output
    told = " ".join(done.output.split())
    assert "note: no PPL for hosted: its engine 'openai' cannot score a given text" in told
    assert "n/a: PPL of hosted: not computed" in told
    refused = run("score", hosted, "--ppl")
    assert isinstance(refused.exception, OptionError)
    assert "no PPL for hosted: its engine 'openai' cannot score a given text: a server" in str(refused.exception)
    with pytest.raises(OptionError, match="its engine 'scripted' cannot score"):
        score(four(Path("scripted"), engine="scripted"), no_bertscore=True, ppl=True)


def test_a_manifest_chooses_no_code_and_no_profile(guess):
    code = make_run(Path("code"), {"a": "Oh."}, engine="vllm", engine_args={"trust_remote_code": True})
    with pytest.raises(OptionError, match="trust_remote_code, which can run code"):
        score(code, no_bertscore=True, ppl=True)
    file = make_run(Path("file"), {"a": "Oh."}, engine="guess", model="guess.toml")
    with pytest.raises(OptionError, match=r"names a file as its model: guess\.toml"):
        score(file, no_bertscore=True, ppl=True)


def test_a_run_of_the_embedded_model_of_then_says_what_it_is_called_now():
    plain = Pipeline(RunConfig(model="smollm2-plain")).model_settings()
    folder = make_run(Path("then"), {"a": "Oh."}, **plain | {"model": "smollm2"})
    with pytest.raises(RunError, match="PPL needs the model that made the run") as caught:
        score(folder, no_bertscore=True, ppl=True)
    assert caught.value.hint == "the run's model is called smollm2-plain now: give --model smollm2-plain"


def test_a_run_of_an_engine_that_is_not_registered_is_a_note(guess):
    one, strange = generate("plain"), make_run(Path("strange"), {"a": "Oh."}, engine="warp")
    done = run("score", one, strange, "--ppl", "-m", guess, "--no-bertscore")
    assert done.exit_code == 0, done.output
    assert "no PPL for strange: its engine 'warp' cannot score a given text" in " ".join(done.output.split())


def test_models_that_think_and_runs_without_prompts_or_references_say_so(guess):
    folder = generate("plain", limit=1)
    line = json.loads((folder / "responses.jsonl").read_text())
    for change, reason in (
        ({"stages": [line["stages"][0] | {"thinking": "Hm."}]}, "thinks before it replies"),
        ({"stages": [line["stages"][0] | {"messages": []}]}, "has no prompts"),
        ({"reference": None}, "have no reference reply"),
    ):
        (folder / "responses.jsonl").write_text(json.dumps(line | change) + "\n")
        with pytest.raises(OptionError, match=reason):
            ppl(folder)


def test_the_options_of_the_model_are_for_ppl(guess):
    with pytest.raises(OptionError, match="--engine-arg are for --ppl"):
        score(generate("plain", limit=1), model=str(guess))


def test_compare_and_report_have_ppl_where_a_run_has_it(guess):
    plain, two = generate("plain", limit=12), generate("two", "two-stage", limit=12)
    names = {one.name for one in compare(plain, two, bertscore=False, show=0).comparisons}
    assert "PPL" not in names
    (asked,) = compare(plain, two, metric="PPL").comparisons
    assert asked.reason == "not computed; `localemp score --ppl` computes it"
    score([plain, two], no_bertscore=True, ppl=True, model=str(guess))
    found = {one.name: one for one in compare(plain, two, bertscore=False, show=0).comparisons}["PPL"]
    assert found.a is not None and found.b is not None and found.interval is not None
    assert (found.higher_is_better, found.interval_by, found.is_mean) == (False, "bootstrap", False)
    assert found.interval[0] <= found.b - found.a <= found.interval[1]
    table = report([plain, two], against="plain").tables
    assert all("PPL" in each.columns for each in table if each.key in ("automatic", "differences"))
    assert any(note.text == "Lower is better: PPL." for note in table[0].notes)
    assert "lower is better: PPL" in run("compare", plain, two, "--no-bertscore").output
    third = generate("third", limit=12)
    cells = {
        row.name: row.cells[-1] for row in report({"plain": plain, "third": third}).tables[0].rows if not row.published
    }
    assert cells["third"].about == "not scored; `localemp score --ppl` adds it"


def test_tokenizers_that_differ_are_not_compared_and_bits_per_byte_are(guess):
    plain, two = generate("plain"), generate("two", "two-stage")
    score([plain, two], no_bertscore=True, ppl=True, model=str(guess))
    kept = two / "perplexity" / "manifest.json"
    manifest = json.loads(kept.read_text())
    manifest["settings"]["tokenizer_sha256"] = "0" * 64
    kept.write_text(json.dumps(manifest))
    found = {one.name: one for one in compare(plain, two, metric=("PPL", "BPB")).comparisons}
    assert "their tokenizers differ" in found["PPL"].reason and "--metric BPB" in found["PPL"].reason
    assert found["BPB"].difference is not None and not found["BPB"].reason


def test_an_experiment_scores_it_with_the_model_of_its_rows(guess):
    Path("plan.toml").write_text(
        'about = "two rows"\ndata = "samples"\nlimit = 2\n[[rows]]\nname = "plain"\nstrategy = "zero-shot"\n'
        '[[rows]]\nname = "two"\nstrategy = "two-stage"\n[after]\nscore = { no_bertscore = true, ppl = true }\n'
    )
    done = run("experiment", "plan.toml", "-m", guess, "--out", "made")
    assert done.exit_code == 0, done.output
    assert len(Guess.asked) == 4
    assert "PPL" in Path("made", "report.html").read_text()
    again = run("experiment", "plan.toml", "-m", guess, "--out", "made")
    assert again.exit_code == 0 and len(Guess.asked) == 4


def test_a_row_of_an_experiment_that_cannot_have_it_is_a_note(guess):
    profile = guess.read_text().replace('engine = "guess"', 'engine = "mute"')
    assert profile != guess.read_text()
    Path("mute.toml").write_text(profile)
    register_engine("mute", Guess.make, settings=Guess.settings)
    Path("plan.toml").write_text(
        'about = "two models"\ndata = "samples"\nlimit = 2\n[[models]]\nmodel = "guess.toml"\n'
        '[[models]]\nmodel = "mute.toml"\n[[rows]]\nstrategy = "zero-shot"\n'
        "[after]\nscore = { no_bertscore = true, ppl = true }\n"
    )
    done = run("experiment", "plan.toml", "--out", "made")
    assert done.exit_code == 0, done.output
    assert len(Guess.asked) == 2
    assert "its engine 'mute' cannot score a given text" in " ".join(done.output.split())


def test_engines_without_it_say_so():
    engine = ScriptedEngine([Entry(reply="Oh.")])
    with pytest.raises(FatalEngineError, match="'scripted' cannot score a given text"):
        run_here(engine.score([Message("user", "Hello.")], "Hi."), "")
    with pytest.raises(FatalEngineError, match="'openai' cannot score a given text"):
        run_here(Pipeline(RunConfig(model="a", base_url="http://127.0.0.1:1/v1")).engine().score([], "Hi."), "")

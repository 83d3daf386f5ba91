"""P(choice): judges whose probabilities are known, what is kept of them, and what has no value."""

import asyncio
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from read_only import only_read, open_folder
from small_runs import make_run

from localemp.cli.main import cli
from localemp.commands.compare import compare
from localemp.commands.report import report
from localemp.commands.score import score
from localemp.engines.registry import ENGINES, EngineContext, register_engine
from localemp.engines.scripted import Entry, ScriptedEngine
from localemp.errors import FatalEngineError, JudgeError, OptionError, RunError, UnknownNameError
from localemp.metrics.base import Score
from localemp.metrics.choice import Choice, judge_folder
from localemp.metrics.registry import CHOICE
from localemp.metrics.replies import Replies, Reply, replies_of_run
from localemp.pipeline.config import RunConfig
from localemp.runs.judge_answers import first_share

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))
from fake_server import Answer, FakeServer, completion, error

# Of a reply that says "warm" a judge thinks much, whatever it stands; of its place a little.
WARM = [
    {"match": "Reply A: Warm", "choices": {"A": 0.7, "B": 0.1, "C": 0.1}},
    {"match": "Reply B: Warm", "choices": {"A": 0.1, "B": 0.5, "C": 0.4}},
    {"choices": {"A": 0.2, "B": 0.6, "C": 0.2}},
]
# Shown first: (0.7 + 0.1 / 2) / 0.9; shown second, the reference: 0.1 + 0.4 / 2.
OF_WARM = 100 * (0.75 / 0.9 + 1 - 0.3) / 2


class Told(ScriptedEngine):
    """Answers from the entries in its profile's `request`; after so many questions somebody presses Ctrl-C."""

    press_after = -1

    @classmethod
    def make(cls, context: EngineContext) -> "Told":
        told = dict(context.profile.request)
        engine = cls([Entry(**entry) for entry in told["entries"]])
        engine.press_after = told.get("press_after", -1)
        engine.concurrency = 1
        return engine

    async def chat(self, *args: Any, **options: Any) -> Any:
        if len(self.calls) == self.press_after:
            signal.raise_signal(signal.SIGINT)
            await asyncio.Event().wait()
        return await super().chat(*args, **options)


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = dict(ENGINES)
    register_engine("told", Told.make, gives_choices=lambda context: Told.make(context).gives_choices)
    monkeypatch.chdir(tmp_path)
    yield
    ENGINES.clear()
    ENGINES.update(before)


def judge(*entries: dict[str, Any], name: str = "warm", **request: Any) -> str:
    """A judge's profile."""
    entries = entries or tuple(WARM)
    told = {"entries": list(entries)} | request
    lines = "\n".join(f"{key} = {_toml(value)}" for key, value in told.items())
    Path(f"{name}.toml").write_text(f'kind = "chat"\nengine = "told"\n\n[request]\n{lines}\n')
    return f"{name}.toml"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    return "[" + ", ".join(map(_toml, value)) + "]" if isinstance(value, list) else json.dumps(value)


def choice(folder: Path, by: str | RunConfig | None = None, **options: Any) -> Score:
    found = score(folder, judge=by, no_bertscore=True, **options).systems[0].score(CHOICE)
    assert found is not None
    return found


def missing(folder: Path) -> str:
    return Choice().missing(replies_of_run(folder))


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def lines(folder: Path, name: str = "warm", aspect: str = "Empathy") -> list[dict[str, Any]]:
    path = folder / "choices" / name / aspect / "votes.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def runs() -> tuple[Path, Path]:
    return make_run(Path("warm"), dict.fromkeys("abc", "Warm words.")), make_run(
        Path("cold"), dict.fromkeys("abc", "Ok.")
    )


def test_it_is_the_mean_of_both_orders_with_half_of_a_tie():
    warm, _ = runs()
    found = choice(warm, judge())
    assert found.value == pytest.approx(OF_WARM)
    kept = lines(warm)
    assert len(kept) == 6
    assert kept[0]["shown"][0].startswith("reply-") and kept[1]["shown"] == kept[0]["shown"][::-1]
    assert "Reply A: Warm words.\n\nReply B: Tell me more of a." in kept[0]["messages"][0]["content"]
    signed = dict(found.signature.settings)
    assert (signed["judge"], signed["aspect"], signed["answers"], signed["orders"]) == (
        "warm",
        "Empathy",
        "probabilities",
        "both",
    )
    assert signed["prompts"] == "judge-letters" and len(signed["prompts sha256"]) == 64


@pytest.mark.parametrize(
    ("record", "share"),
    [
        ({"answer": "A", "probabilities": {"A": 0.6, "B": 0.3, "tie": 0.1}}, 0.65),
        ({"answer": "A"}, 1.0),
        ({"answer": "B", "probabilities": None}, 0.0),
        ({"answer": "tie"}, 0.5),
        ({"answer": None}, None),
    ],
    ids=["probabilities", "A", "B", "tie", "unreadable"],
)
def test_the_share_of_the_reply_shown_first(record, share):
    assert first_share(record) == (share if share is None else pytest.approx(share))


def test_a_reply_like_the_reference_has_half_whatever_the_bias():
    same = make_run(Path("same"), {name: f"Tell me more of {name}." for name in "ab"})
    assert choice(same, judge({"choices": {"A": 0.9, "B": 0.1}})).value == pytest.approx(50)


def test_without_probabilities_what_is_written_counts_and_the_signature_says_so():
    warm, _ = runs()
    written = judge({"match": "Reply A: Warm", "reply": '{"choice": "A"}'}, {"reply": '{"choice": "tie"}'})
    found = choice(warm, written)
    assert found.value == pytest.approx(75)
    signed = dict(found.signature.settings)
    assert (signed["answers"], signed["prompts"]) == ("written", "judge")
    assert '"temperature": 0.0' in str(signed["sampling"])


def test_an_answer_that_cannot_be_read_is_half_and_a_note_counts_it():
    warm, _ = runs()
    odd = judge({"match": "Reply A: Warm", "reply": "Hm."}, {"reply": '{"choice": "B"}'})
    result = score(warm, judge=odd, no_bertscore=True)
    found = result.systems[0].score(CHOICE)
    assert found is not None and found.value == pytest.approx(75)
    assert any("3 of 6 answers cannot be read and count as half" in note for note in result.notes)
    assert Choice().unreadable(replies_of_run(warm)) == 3


def test_only_what_is_missing_is_asked_and_later_no_judge_is_needed():
    warm, cold = runs()
    value = choice(warm, judge()).value
    assert choice(warm).value == choice(warm, judge({"error": "fatal"})).value == value
    make_run(warm, {"d": "Warm words, too."})
    assert missing(warm) == "warm has not judged 1 of 4 dialogues; `localemp score --judge warm` goes on"
    assert choice(warm, judge()).value == pytest.approx(OF_WARM)
    assert len(lines(warm)) == 8
    assert CHOICE not in [each.name for each in score(cold, no_bertscore=True).systems[0].scores]


def test_a_reply_that_has_changed_is_asked_about_again():
    warm, _ = runs()
    choice(warm, judge())
    make_run(warm, {"a": "Cold words."})
    assert "has not judged 1 of 3" in missing(warm)
    assert choice(warm, judge()).value == pytest.approx((2 * OF_WARM + 50) / 3)


def test_a_judge_that_fails_loses_nothing_and_the_same_command_goes_on():
    warm, _ = runs()
    dies = judge({**WARM[0], "times": 2}, {**WARM[1], "times": 1}, {"error": "fatal", "reply": "the power went out"})
    done = run("score", warm, "--judge", dies, "--no-bertscore")
    assert str(done.exception) == "the power went out"
    assert "stopped: 3 of 6 answers saved to warm/choices/warm/Empathy" in done.output
    assert missing(warm).startswith("warm has not judged 2 of 3 dialogues")
    assert choice(warm, judge()).value == pytest.approx(OF_WARM)
    assert len(lines(warm)) == 6


def test_ctrl_c_keeps_the_answers():
    warm, _ = runs()
    done = run("score", warm, "--judge", judge(press_after=4), "--no-bertscore")
    assert done.exit_code == 130
    assert "stopped: 4 of 6 answers saved to warm/choices/warm/Empathy" in done.output
    assert choice(warm, judge()).value == pytest.approx(OF_WARM)


def test_a_question_that_fails_alone_is_asked_again():
    warm, _ = runs()
    assert (
        "has not judged 1 of 3"
        in choice(warm, judge({"match": "story b", "error": "engine", "times": 1}, *WARM)).reason
    )
    assert [line["error"]["type"] for line in lines(warm) if "error" in line] == ["EngineError"]
    assert choice(warm, judge()).value == pytest.approx(OF_WARM)


def test_a_judge_that_cannot_be_read_is_given_up():
    many = make_run(Path("many"), {f"d{number}": "Warm words." for number in range(12)})
    with pytest.raises(JudgeError, match="20 of 20 answers cannot be read") as caught:
        choice(many, judge({"reply": "Hm."}))
    assert caught.value.hint == "take another --judge"


def test_another_judge_of_the_same_name_is_not_mixed_with_the_first():
    warm, _ = runs()
    choice(warm, judge())
    kept = warm / "choices" / "warm" / "Empathy" / "manifest.json"
    manifest = json.loads(kept.read_text())
    kept.write_text(json.dumps(manifest | {"settings": manifest["settings"] | {"prompts_sha256": "0" * 64}}))
    with pytest.raises(RunError, match="asked in another way") as caught:
        choice(warm, judge())
    assert caught.value.hint == "remove warm/choices/warm/Empathy, and score again"


def test_several_judges_stay_and_the_one_that_was_asked_last_counts():
    warm, cold = runs()
    plain = judge({"choices": {"C": 1.0}}, name="plain")
    score([warm, cold], judge=judge(), no_bertscore=True)
    assert choice(warm, plain).value == choice(warm).value == pytest.approx(50)
    assert choice(warm, "warm.toml").value == choice(warm).value == pytest.approx(OF_WARM)
    assert judge_folder(replies_of_run(warm)) == warm / "choices" / "warm" / "Empathy"
    assert choice(warm, "warm.toml", judge_aspect="Coherence").value == pytest.approx(OF_WARM)
    assert dict(choice(warm).signature.settings)["aspect"] == "Coherence"
    (found,) = compare(warm, cold, metric=CHOICE, judge="warm", judge_aspect="Empathy").comparisons
    assert found.difference == pytest.approx(50 - OF_WARM)
    (found,) = compare(warm, cold, metric=CHOICE, judge="gpt").comparisons
    assert "no judge gpt was asked, but plain, warm; `localemp score --judge MODEL` asks one" in found.reason


def test_different_judges_are_not_compared_and_marked_in_the_report():
    warm, cold = runs()
    choice(warm, judge())
    choice(cold, judge({"choices": {"C": 1.0}}, name="plain"))
    (found,) = compare(warm, cold, metric=CHOICE).comparisons
    assert found.difference is None
    assert "not judged in the same way, but by warm (Empathy) and plain (Empathy)" in found.reason
    (table,) = [each for each in report([warm, cold]).tables if each.key == "automatic-choice"]
    notes = " ".join(note.text for note in table.notes)
    assert "judge: plain, where scripted zero-shot: warm has warm (scripted zero-shot: cold: P(choice))" in notes


def test_compare_and_report_have_it_with_intervals():
    names = [f"d{number}" for number in range(12)]
    warm = make_run(Path("warm"), {name: "Warm words." if number % 2 else "Ok." for number, name in enumerate(names)})
    cold = make_run(Path("cold"), dict.fromkeys(names, "Ok."))
    notes = score([warm, cold], judge=judge(), no_bertscore=True).notes
    (told,) = [note for note in notes if note.startswith("95 % intervals of P(choice)")]
    assert told.endswith("; 50 is as good as people's") and "cold 50.0 to 50.0" in told
    found = {one.name: one for one in compare(warm, cold, bertscore=False, show=0).comparisons}[CHOICE]
    assert found.difference == pytest.approx((50 - OF_WARM) / 2)
    assert found.interval is not None and found.interval[0] < found.difference < found.interval[1] < 0
    assert found.interval_by == "bootstrap" and found.p is not None and found.t_test is not None
    tables = {table.key: table for table in report([warm, cold], against="warm").tables}
    assert tables["automatic-choice"].columns == ("Replies", CHOICE)
    assert any("warm" in note.text and "50 is as good" in note.text for note in tables["automatic-choice"].notes)
    assert any(CHOICE in table.columns for table in tables.values() if table.kind == "differences")


def test_replies_of_other_programs_have_it_beside_their_file():
    told = [{"id": name, "turns": [f"Story {name}."], "reference": "Oh.", "reply": "Warm words."} for name in "ab"]
    Path("theirs.jsonl").write_text("".join(json.dumps(each) + "\n" for each in told))
    done = run("score", "--import", "jsonl", "theirs.jsonl", "--judge", judge(), "--no-bertscore")
    assert done.exit_code == 0, done.output
    assert Path("theirs.jsonl.choices/warm/Empathy/votes.jsonl").is_file()
    scored = score(imports=[("jsonl", "theirs.jsonl")], no_bertscore=True).systems[0].score(CHOICE)
    assert scored is not None and scored.value == pytest.approx(OF_WARM)
    kept = Path("theirs.jsonl.scores.json")
    (found,) = compare(kept, kept, metric=CHOICE).comparisons
    assert found.difference == 0


def test_what_cannot_be_judged_has_an_empty_cell_and_a_note():
    warm, _ = runs()
    bare = make_run(Path("bare"), {"a": "Warm words."})
    line = json.loads((bare / "responses.jsonl").read_text())
    (bare / "responses.jsonl").write_text(json.dumps(line | {"reference": None}) + "\n")
    result = score([warm, bare], judge=judge(), no_bertscore=True)
    reason = "no reference replies"
    assert f"no P(choice) for bare: {reason}" in result.notes
    found = result.systems[1].score(CHOICE)
    assert found is not None and (found.value, found.reason) == (None, reason)
    with pytest.raises(OptionError, match=r"no P\(choice\) for bare: no reference"):
        score(bare, judge=judge(), no_bertscore=True)
    unknown = Replies("x", (Reply("a", "Warm.", "Oh."),), {"file": "x.jsonl"})
    assert Choice().missing(unknown) == "the conversations before 1 of 1 replies are not known"
    nowhere = Replies("x", (Reply("a", "Warm.", "Oh.", turns=("Hi.",)),))
    assert Choice().missing(nowhere) == "it is neither a run nor a file, where answers could be kept"


def test_an_unfinished_run_is_judged_as_far_as_it_got():
    part = make_run(Path("part"), {"a": "Warm words."}, dialogues=5)
    result = score(part, judge=judge(), no_bertscore=True).systems[0]
    found = result.score(CHOICE)
    assert found is not None and found.value == pytest.approx(OF_WARM)
    assert "not finished: 1 of 5 dialogues" in result.notes


def test_a_damaged_file_is_a_reason():
    warm, _ = runs()
    choice(warm, judge())
    path = warm / "choices" / "warm" / "Empathy" / "votes.jsonl"
    path.write_text("{\n" + path.read_text())
    found = score(warm, metric=CHOICE).systems[0].score(CHOICE)
    assert found is not None and "votes.jsonl, line 1: cannot be read" in found.reason


def test_options_belong_to_a_judge():
    warm, _ = runs()
    with pytest.raises(UnknownNameError, match="Empathie"):
        choice(warm, judge(), judge_aspect="Empathie")
    with pytest.raises(OptionError, match="--judge-aspect is for --judge"):
        score(warm, judge_aspect="Empathy")
    for option, value in {"--base-url": "http://127.0.0.1:1/v1", "--judge-aspect": "Empathy"}.items():
        assert f"{option} does nothing without --judge" in str(run("score", warm, option, value).exception)
    with pytest.raises(FatalEngineError):
        choice(warm, RunConfig(model="a", base_url="http://127.0.0.1:1/v1"))


def test_a_judge_of_the_systems_family_is_warned_of():
    own = make_run(Path("own"), {"a": "Warm words."}, model="qwen2.5-7b")
    other = make_run(Path("other"), {"a": "Warm words."}, model="llama")
    notes = score([own, other], judge=judge(name="qwen3"), no_bertscore=True).notes
    [note] = [note for note in notes if "family" in note]
    assert note.startswith("qwen3 is of the same family as own (Qwen): judges may prefer")


def test_the_summary_of_a_judge_tells_its_bias():
    warm, _ = runs()
    notes = score(warm, judge=judge({"choices": {"A": 0.8, "B": 0.2}}), no_bertscore=True).notes
    assert notes[0] == (
        "warm about warm: 80.0% of the probability is for the reply shown first; "
        "100.0% of pairs change with the order (50.0% by guessing)"
    )


def test_a_server_without_probabilities_is_read_and_the_signature_says_so():
    def refuse(request):
        if "logprobs" in request.body:
            return error(403, "You are not allowed to request logprobs from this model")
        first_is_warm = "Reply A: Warm" in request.body["messages"][0]["content"]
        return Answer(body=completion(message={"content": "A" if first_is_warm else "C"}))

    warm, _ = runs()
    with FakeServer(rule=refuse) as server:
        done = run("score", warm, "--judge", "tiny", "--base-url", server.url, "--metric", "Dist-1", "--no-bertscore")
    assert done.exit_code == 0, done.output
    found = choice(warm)
    assert found.value == pytest.approx(75)
    signed = dict(found.signature.settings)
    assert (signed["judge"], signed["answers"], signed["prompts"]) == ("tiny", "written", "judge-letters")
    assert signed["base url"] == server.url


def test_a_plan_has_a_judge(tmp_path):
    Path("script.jsonl").write_text('{"reply": "Warm words."}\n')
    judge()
    text = (
        'about = "one row"\ndata = "samples"\nlimit = 2\n[[rows]]\nstrategy = "zero-shot"\n'
        '[after]\nscore = { no_bertscore = true, judge = "warm.toml" }\n'
    )
    Path("plan.toml").write_text(text)
    done = run("experiment", "plan.toml", "-m", "any", "--script", "script.jsonl", "--out", "made")
    assert done.exit_code == 0, done.output
    page = Path("made", "report.html").read_text()
    assert CHOICE in page and "Warm about zero-shot: " in page
    (kept,) = Path("made").glob("**/choices/warm/Empathy/votes.jsonl")
    judge({"error": "fatal"})
    again = run("experiment", "plan.toml", "-m", "any", "--script", "script.jsonl", "--out", "made")
    assert again.exit_code == 0, again.output
    Path("plan.toml").write_text(text.replace('"warm.toml"', '{ model = "warm.toml", aspect = "Coherence" }'))
    judge()
    other = run("experiment", "plan.toml", "-m", "any", "--script", "script.jsonl", "--out", "made")
    assert other.exit_code == 0, other.output
    assert (kept.parents[1] / "Coherence" / "votes.jsonl").is_file()
    for wrong, told in (('"nix"', "unknown model 'nix'"), ('{ model = "warm.toml", aspect = "x" }', "'x'")):
        Path("plan.toml").write_text(text.replace('"warm.toml"', wrong))
        refused = run("experiment", "plan.toml", "-m", "any", "--script", "script.jsonl", "--out", "else")
        assert "after.score.judge: " in str(refused.exception) and told in str(refused.exception)


def test_beside_a_file_that_lies_where_nothing_can_be_written_it_says_so():
    with open_folder() as folder:
        path = folder / "theirs.jsonl"
        path.write_text('{"id": "a", "turns": ["Story a."], "reference": "Oh.", "reply": "Warm words."}\n')
        judged = Path(judge()).rename(folder / "warm.toml")
        score(imports=[("jsonl", path)], judge=str(judged), judge_aspect="Coherence", no_bertscore=True)
        with only_read(folder), pytest.raises(RunError, match=r"theirs.jsonl.choices/warm/Empathy: ") as caught:
            score(imports=[("jsonl", path)], judge=str(judged), no_bertscore=True)
    assert caught.value.hint == "choose another run or file"

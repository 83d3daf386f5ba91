"""Runs whose strategy is a file: their folders, what they record, and how they go on."""

import json
import shutil

import pytest
from whole_flow import FLOW, SCRIPT, write_flow

import localemp
from localemp.errors import RunError
from localemp.metrics.replies import replies_of_run
from localemp.pipeline.asking_again import recorded_calls
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.runs.run import default_folder, read_manifest, read_records
from localemp.sampling import Sampling
from localemp.utils.config_diff import compare_settings

# Named by the code of before strategies were files, for the bundled samples.
FOLDERS_BEFORE_FLOWS = {
    "zero-shot-30d824a2": {},
    "few-shot-fa13d9d3": {},
    "few-shot+two-stage-e4edacd5": {},
    "two-stage-28ace2ac": {},
    "two-stage-87f9146b": {"given": ("emotion",)},
    "two-stage-6e40fa6c": {"given": ("situation",)},
    "two-stage-fa3f77a1": {"given": ("situation", "emotion")},
    "two-stage-91505209": {"list_labels": True},
    "two-stage-645bfb7f": {"variant": "released"},
    "two-stage-9e748f33": {"keep_thinking": True, "temperature": 0.7},
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_flow(tmp_path)
    return tmp_path


def generate(strategy, limit=2, **settings):
    return localemp.generate(strategy=strategy, script="script.jsonl", limit=limit, **settings)


@pytest.mark.parametrize("name", FOLDERS_BEFORE_FLOWS)
def test_folders_have_the_names_they_had_before(name):
    strategy, _, _ = name.rpartition("-")
    pipeline = Pipeline(RunConfig(model="gpt-4o-mini", strategy=strategy, **FOLDERS_BEFORE_FLOWS[name]))
    settings = pipeline.settings(pipeline.dialogues("test"), "test")
    assert default_folder(settings).name == f"gpt-4o-mini-{name}"
    before = {key: value for key, value in settings.items() if key != "flow_sha256"}
    assert compare_settings(before, settings) == []


@pytest.mark.parametrize("given", [(), ("emotion",), ("situation",), ("emotion", "situation")], ids="-".join)
def test_a_run_of_before_goes_on(place, given):
    folder = generate("two-stage", given=given).folder
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["settings"]["flow_sha256"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert generate("two-stage", 4, given=given).folder == folder
    assert len(read_records(folder)) == 4


def test_a_lookup_without_a_flow_of_its_own_goes_on_too(place):
    folder = generate("few-shot", shots=2).folder
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (
        manifest["settings"].pop("flow_sha256")
        == read_manifest(generate("zero-shot").folder)["settings"]["flow_sha256"]
    )
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert generate("few-shot", 3, shots=2).folder == folder


def test_a_run_is_called_by_the_files_stem_and_names_no_place(place):
    (place / "deep").mkdir()
    shutil.copy("mine.toml", "deep/mine.toml")
    folder = generate("few-shot+./mine.toml").folder
    assert folder.name.startswith("scripted-few-shot+mine-")
    manifest = read_manifest(folder)
    assert manifest["settings"]["strategy"] == "few-shot+mine"
    assert str(place) not in json.dumps(manifest["settings"])
    assert generate(str(place / "deep" / "mine.toml") + "+few-shot", 3).folder == folder, "wherever the file lies"


def test_a_changed_flow_is_refused_and_a_changed_comment_is_not(place):
    folder = generate("./mine.toml").folder
    about = FLOW.replace("one stage of every kind", "told otherwise")
    write_flow(place, text=f"# A comment.\n{about}\n# Another one.\n")
    assert generate("./mine.toml", 3, out=folder).folder == folder
    write_flow(place, text=FLOW.replace("Say something.", "Say anything."))
    with pytest.raises(RunError, match=r"flow_sha256: \w{12}… in the run, \w{12}… now") as refused:
        generate("./mine.toml", 3, out=folder)
    assert refused.value.hint == "the stages of the flow have changed since: choose another --out, or undo the change"
    assert generate("./mine.toml").folder != folder, "by default, another flow has another folder"


def test_what_was_read_and_what_did_not_run_is_recorded(place):
    records = sorted(read_records(generate("./mine.toml").folder), key=lambda record: len(record["stages"]))
    short, long = records
    answers = {stage["name"]: stage.get("answer") for stage in short["stages"]}
    assert answers == {
        "support": "Question",
        "appraisal": {"cause": "a loss"},
        "reply.candidate": None,
        "reply.choice": "2",
        "reply": None,
    }
    assert short["skipped"] == ["why"]
    assert [stage["name"] for stage in long["stages"]][:3] == ["support", "appraisal", "why"]
    assert "skipped" not in long
    assert long["stages"][0]["answer"] == "Others"


def test_lines_of_before_have_neither_and_damaged_ones_are_named(place):
    folder = generate("two-stage").folder
    assert all("answer" not in stage for record in read_records(folder) for stage in record["stages"])
    lines = (folder / "responses.jsonl").read_text().splitlines()
    for damage in ({"skipped": "why"}, {"stages": [{"name": "reply", "text": "", "answer": "x" * 101}]}):
        (folder / "responses.jsonl").write_text(json.dumps(json.loads(lines[0]) | damage) + "\n")
        with pytest.raises(RunError, match=r"skipped|answer"):
            read_records(folder)


def test_one_reply_is_shown_with_every_answer(localemp, place):
    for words in (("generate", "--strategy", "./mine.toml", "--script", "script.jsonl", "--limit", 1, "--out", "run"),):
        assert localemp(*words).returncode == 0
    shown = localemp("runs", "show", "run", "--index", 0).stdout
    for line in (
        "read as Question",
        'read as {"cause": "a loss"}',
        "Stage 3: reply, a candidate that was not chosen",
        "Stage 3: reply, the choice among the candidates",
        "(the prompt is that of the candidate above)",
        "stage why did not run",
    ):
        assert line in shown, shown
    assert "reply.candidate" in localemp("runs", "show", "run", "--index", 0, "--json").stdout


def test_replies_are_those_that_were_chosen(place):
    replies = replies_of_run(generate("./mine.toml").folder)
    assert set(replies.texts) <= {"One.", "Two.", "Three."}
    assert [item.feeling for item in replies.items] == [None, None]


def test_a_stages_own_sampling_is_recorded_and_asked_with_again(place):
    folder = generate("./mine.toml").folder
    record = read_records(folder)[0]
    own = {}
    for stage in record["stages"]:
        own.setdefault(stage["name"], []).append(stage.get("sampling"))
    assert own["support"][0]["max_tokens"] == 16
    assert "Reflection" in own["support"][0]["schema"]
    others = own["reply.candidate"] + own["reply"]
    assert sorted(each["seed"] for each in others) == [0, 1, 2]
    assert {each["temperature"] for each in others} == {0.8}
    assert "sampling" not in read_records(generate("two-stage").folder)[0]["stages"][0]
    calls = recorded_calls(record, Sampling())
    assert [call.sampling.max_tokens for call in calls if call.stage == "support"] == [16]
    record["stages"][0]["sampling"] = {"max_tokens": "many"}
    with pytest.raises(ValueError, match="max_tokens"):
        recorded_calls(record, Sampling())


def test_a_run_of_a_flow_can_be_verified(place):
    steady = [entry | {"reply": entry["reply"] if isinstance(entry["reply"], str) else "Others"} for entry in SCRIPT]
    (place / "script.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in steady))
    folder = generate("./mine.toml").folder
    found = localemp.verify(folder, script=place / "script.jsonl", batch_sizes=(1, 3))
    assert (found.equal, found.different, found.failed) == (2, 0, 0)


@pytest.mark.parametrize("answer", ["x" * 101, ["Question"], True], ids=["long", "list", "true"])
def test_an_answer_that_is_no_label_and_no_object_is_told_in_words(tmp_path, answer):
    stage = {"name": "a", "text": "", "messages": [], "finish_reason": "stop", "answer": answer}
    record = {"id": "a", "reply": "", "raw": "", "finish_reason": "stop", "turns": ["Hi."], "stages": [stage]}
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "responses.jsonl").write_text(json.dumps(record) + "\n")
    with pytest.raises(RunError, match=r"stages\[1\]\.answer: it is neither a label nor an object"):
        read_records(tmp_path)

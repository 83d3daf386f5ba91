"""Rows on their engines: what follows what, what fails alone, what is told before anything starts, what goes on."""

import asyncio
import sys
import threading
from pathlib import Path

import pytest
from patience import patience
from small_plans import ROWS, LocalEngine, plan_of, write_local_model, write_script, write_talks
from small_runs import four

import localemp
from localemp.engines.registry import register_engine
from localemp.errors import LocalempError, RunError
from localemp.experiments.folder import read_experiment
from localemp.experiments.states import show
from localemp.runs.journal import read_manifest
from localemp.runs.run import Run, read_records

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))
from fake_server import FakeServer, error

pytestmark = pytest.mark.usefixtures("place")


def states(result):
    return {row.row.name: (row.answered, row.failed, row.error) for row in result.rows}


def lives():
    return [event for event in LocalEngine.events if event[0] != "chat"]


def test_models_follow_one_another_each_on_one_engine(place):
    models = [write_local_model(place, name) for name in ("one", "two")]
    steps = []
    result = localemp.experiment(plan_of(place, models=models), on_progress=steps.append)
    assert lives() == [("start", "one"), ("close", "one"), ("start", "two"), ("close", "two")]
    assert states(result) == {f"{model} {row}": (6, 0, "") for model in ("one", "two") for row in ("0-shot", "staged")}
    assert result.complete
    assert result.folder == Path("experiments/mine-one-two")
    for row in result.rows:
        manifest = read_manifest(row.folder)
        session = manifest["sessions"][-1]
        assert (session["experiment"], session["row"]) == ("experiments/mine-one-two", row.row.name)
        assert manifest["settings"]["strategy"] == row.row.config.strategy
        assert len(read_records(row.folder)) == 6
        tasks = [step.task for step in steps if step.row == row.row.name]
        assert [task for task in dict.fromkeys(tasks) if task not in ("Looking up", "Measuring")] == [
            "Checking",
            "Waiting",
            "Answering",
            "Finished",
        ]
        assert (tasks.count("Finished"), tasks[-1]) == (1, "Finished")
    assert {row.state for row in show(result.folder).rows} == {"finished"}


def test_what_is_finished_starts_no_engine(place):
    model = write_local_model(place, "one")
    localemp.experiment(plan_of(place), models=model)
    LocalEngine.events.clear()
    result = localemp.experiment(plan_of(place), models=model)
    assert LocalEngine.events == []
    assert states(result) == {"0-shot": (6, 0, ""), "staged": (6, 0, "")}
    assert [row.tally for row in result.rows] == [None, None]


def test_a_raised_limit_a_new_row_and_a_new_name_ask_only_what_is_new(place):
    model = write_local_model(place, "one")
    plan = plan_of(place)
    localemp.experiment(plan, models=model, limit=2)
    assert localemp.experiment(plan, models=model, limit=4).complete
    assert LocalEngine.events.count(("chat", "one")) == 4 * 3  # two-stage has two calls
    LocalEngine.events.clear()
    rows = [{"name": "base", "strategy": "zero-shot"}, {"name": "1-shot", "strategy": "few-shot", "shots": 1}]
    result = localemp.experiment(plan_of(place, rows), models=model, limit=4)
    assert LocalEngine.events.count(("chat", "one")) == 4
    assert result.rows[0].folder.name.startswith("0-shot-")
    state = show(result.folder)
    assert [(row.name, row.planned) for row in state.rows] == [("base", True), ("1-shot", True), ("staged", False)]


def test_an_engine_that_dies_leaves_the_other_models_and_what_it_has_answered(place):
    dying, fine = write_local_model(place, "one", dies_after=8), write_local_model(place, "two")
    steps = []
    result = localemp.experiment(plan_of(place, models=[dying, fine]), on_progress=steps.append)
    assert [row.answered for row in result.rows[2:]] == [6, 6]
    stopped = [row for row in result.rows[:2] if row.error]
    assert stopped
    for row in stopped:
        assert (row.error, row.hint) == ("the engine died", "see its log")
        assert row.retry == "the same call"
        assert row.answered < 6
    saved = sum(len(read_records(row.folder)) for row in result.rows[:2])
    assert 4 <= saved == sum(row.answered for row in result.rows[:2]) <= 8
    assert not result.complete
    kept = {row.name: (row.state, row.error) for row in show(result.folder).rows}
    assert all(kept[row.row.name] == ("failed", "the engine died") for row in stopped)
    assert {step.row for step in steps if step.task == "Failed"} == {row.row.name for row in stopped}
    write_local_model(place, "one")
    LocalEngine.events.clear()
    again = localemp.experiment(plan_of(place, models=[dying, fine]))
    assert again.complete
    assert ("start", "two") not in LocalEngine.events
    assert {row.error for row in show(result.folder).rows} == {""}


def test_an_engine_that_cannot_start_stops_no_other_model(place):
    models = [write_local_model(place, "one", starts=False), write_local_model(place, "two")]
    result = localemp.experiment(plan_of(place, models=models))
    assert [row.error for row in result.rows] == ["no memory is left"] * 2 + [""] * 2
    assert [row.answered for row in result.rows] == [0, 0, 6, 6]


def test_a_fault_that_nobody_foresaw_is_its_models_own(place, caplog):
    class Broken(LocalEngine):
        async def start(self):
            raise ZeroDivisionError("by nothing")

    register_engine("broken", Broken)
    broken = Path(write_local_model(place, "one"))
    broken.write_text(broken.read_text().replace('"local"', '"broken"'))
    result = localemp.experiment(plan_of(place, models=[str(broken), write_local_model(place, "two")]))
    assert [row.error for row in result.rows] == ["ZeroDivisionError: by nothing"] * 2 + [""] * 2
    assert "ZeroDivisionError" in caplog.text


def test_rows_of_the_same_settings_are_asked_once(place):
    rows = [*ROWS, {"name": "base", "strategy": "zero-shot"}]
    steps = []
    result = localemp.experiment(plan_of(place, rows), models=write_local_model(place, "one"), on_progress=steps.append)
    assert states(result) == dict.fromkeys(("0-shot", "staged", "base"), (6, 0, ""))
    assert result.rows[0].folder == result.rows[2].folder != result.rows[1].folder
    assert LocalEngine.events.count(("chat", "one")) == 6 * 3
    assert [row.name for row in show(result.folder).rows] == ["0-shot", "staged", "base"]
    for name in ("0-shot", "base"):
        assert {"Waiting", "Finished"} <= {step.task for step in steps if step.row == name}
    again = localemp.experiment(plan_of(place, rows[1:]), models=str(place / "one.toml"))
    assert [(row.name, row.planned) for row in show(again.folder).rows] == [("staged", True), ("base", True)]


def test_dialogues_that_fail_are_retried_when_asked_for(place):
    script = write_script(place, {"match": "number d3.", "error": "engine", "times": 1})
    plan = plan_of(place, [{"name": "0-shot", "strategy": "zero-shot"}])
    result = localemp.experiment(plan, script=script)
    (row,) = result.rows
    assert (row.answered, row.failed, row.error, row.retry) == (5, 1, "", "the same call with retry_errors=True")
    (row,) = localemp.experiment(plan, script=script).rows
    assert (row.failed, row.tally, row.retry) == (1, None, "the same call with retry_errors=True")
    write_script(place)
    (row,) = localemp.experiment(plan, script=script, retry_errors=True).rows
    assert (row.answered, row.failed, row.retry) == (6, 0, "")


def test_models_on_servers_are_asked_while_one_here_answers(place):
    asked, answering = threading.Event(), threading.Event()

    class Waiting(LocalEngine):
        async def chat(self, messages, sampling):
            answering.set()
            await asyncio.to_thread(asked.wait, patience(60))
            return await super().chat(messages, sampling)

    def rule(request):
        asked.set()
        assert answering.wait(patience(60))

    register_engine("waiting", Waiting)
    model = Path(write_local_model(place, "here"))
    model.write_text(model.read_text().replace('"local"', '"waiting"'))
    with FakeServer(rule=rule) as server:
        models = [{"model": str(model)}, {"model": "tiny", "base_url": server.url}]
        result = localemp.experiment(plan_of(place, models=models))
    assert asked.is_set()
    assert answering.is_set()
    assert result.complete, states(result)


def test_a_server_that_fails_for_good_stops_no_model_here(place):
    with FakeServer(rule=lambda request: error(401, "wrong key")) as server:
        models = [{"model": "tiny", "base_url": server.url}, {"model": write_local_model(place, "here")}]
        result = localemp.experiment(plan_of(place, models=models))
    assert [row.answered for row in result.rows] == [0, 0, 6, 6]
    assert all("wrong key" in row.error or "key" in row.hint for row in result.rows[:2])


def test_a_run_of_generate_is_taken_over(place, caplog):
    caplog.set_level("INFO", "localemp")
    model, talks = write_local_model(place, "one"), write_talks(place)
    single = localemp.generate(model=model, data=talks, limit=4)
    LocalEngine.events.clear()
    result = localemp.experiment(plan_of(place), models=model)
    assert LocalEngine.events.count(("chat", "one")) == 2 + 6 * 2
    assert f"row '0-shot': 4 replies taken over from {single.folder}" in caplog.text
    kept = read_experiment(result.folder)["rows"][0]
    assert kept["taken_over"] == {"from": str(single.folder), "replies": 4}
    assert len(read_records(single.folder)) == 4
    assert [len(session) for session in (read_manifest(result.rows[0].folder)["sessions"],)] == [2]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"name": "given", "strategy": "two-stage", "given": ["emotion"]}], "row 'given': .*emotion"),
        (
            [
                {"name": "emo", "strategy": "two-stage", "given": ["emotion"]},
                {"name": "situ", "strategy": "two-stage", "given": ["situation"]},
                {"name": "fine", "strategy": "zero-shot"},
            ],
            "2 rows cannot be answered:\n  row 'emo': .*emotion.*\n  row 'situ': .*situation",
        ),
    ],
)
def test_rows_that_the_data_cannot_answer_are_told_before_anything_starts(place, rows, said):
    with pytest.raises(LocalempError, match=said) as caught:
        localemp.experiment(plan_of(place, rows), models=write_local_model(place, "one"))
    assert caught.value.exit_code == 2
    assert LocalEngine.events == []
    assert not Path("experiments").exists()


def test_what_concerns_a_model_is_told_once_for_all_of_its_rows(place):
    model = write_local_model(place, "one")
    (place / "weights-one" / "model.safetensors").unlink()
    rows = [{"name": "{shots} shots", "strategy": "few-shot", "shots": list(range(1, 9))}]
    with pytest.raises(LocalempError, match=r"rows '1 shots', .*'5 shots' and 3 more: .*no model\.safetensors"):
        localemp.experiment(plan_of(place, rows), models=model)


def test_a_missing_key_is_told_before_anything_starts(place):
    models = [write_local_model(place, "one"), {"model": "gpt", "base_url": "https://api.openai.com/v1"}]
    with pytest.raises(LocalempError, match=r"rows 'gpt 0-shot', 'gpt staged': .* requires a key") as caught:
        localemp.experiment(plan_of(place, models=models))
    assert "OPENAI_API_KEY" in caught.value.hint
    assert LocalEngine.events == []
    assert not Path("experiments").exists()


def test_a_row_that_another_process_answers_is_told_and_the_call_goes_on_later(place):
    model, plan = write_local_model(place, "one"), plan_of(place)
    first = localemp.experiment(plan, models=model, limit=2)
    folder = first.rows[0].folder
    said = r"row '0-shot': .*another localemp is writing to it"
    with Run.open(folder, read_manifest(folder)["settings"]), pytest.raises(LocalempError, match=said):
        localemp.experiment(plan, models=model)
    assert localemp.experiment(plan, models=model).complete


def test_a_place_that_is_something_else_is_refused_before_data_are_read(place):
    run = four(place / "run")
    with pytest.raises(RunError, match=r"experiment\.json is missing"):
        localemp.experiment(plan_of(place), models="no-such-model-here/x", out=run)


def test_a_full_disk_is_an_error_of_its_row_alone(place):
    model, plan = write_local_model(place, "one"), plan_of(place)
    first = localemp.experiment(plan, models=model, limit=1)
    full = first.rows[0].folder / "responses.jsonl"
    full.unlink()
    full.symlink_to("/dev/full")
    result = localemp.experiment(plan, models=model)
    assert [row.answered for row in result.rows] == [0, 6]
    assert "the disk is full" in result.rows[0].error
    assert "nothing is lost" in result.rows[0].hint
    full.unlink()
    assert localemp.experiment(plan, models=model).complete


def test_rows_of_a_later_model_are_shown_as_waiting(place):
    models = [write_local_model(place, name) for name in ("one", "two")]
    seen = []

    def look(progress):
        if progress.task == "Answering" and progress.done:
            seen.append([row.state for row in show(Path("experiments/mine-one-two")).rows])

    localemp.experiment(plan_of(place, models=models), on_progress=look)
    assert seen[0] == ["running", "running", "waiting", "waiting"]
    assert seen[-1][:2] == ["finished", "finished"]
    assert "waiting" not in seen[-1]

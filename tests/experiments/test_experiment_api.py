"""`localemp.experiment` as a function: Ctrl-C, kill -9, event loops, two at once, wrong arguments."""

import asyncio
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from patience import patience, wait_until
from small_plans import IDS, LocalEngine, plan_of, write_local_model, write_script, write_talks

import localemp
from localemp.errors import LocalempError, OptionError, RunError
from localemp.experiments.folder import read_experiment
from localemp.experiments.states import show
from localemp.runs.journal import read_manifest
from localemp.runs.run import read_records

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))
from fake_server import FakeServer

pytestmark = pytest.mark.usefixtures("place")


# A process that works on an experiment of slow answers.
PROGRAM = """
import sys
from pathlib import Path
import localemp
localemp.experiment(sys.argv[1], script=Path(sys.argv[2]))
"""


def test_a_process_that_is_killed_goes_on_and_another_one_is_told_meanwhile(place):
    never = [{"match": f"number {name}.", "reply": "Hm.", "seconds": 3600} for name in IDS[2:]]
    talks, slow = write_talks(place), write_script(place, *never)
    Path("mine.toml").write_text(
        f'data = "{talks}"\n[[rows]]\nname = "{{strategy}}"\nstrategy = ["zero-shot", "two-stage"]\n'
        "[after]\nscore = false\nreport = false\n"
    )
    folder = Path("experiments/mine-smollm2")
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "mine.toml", str(slow)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: (folder / "experiment.json").exists() and replies(folder) == 4, process=process)
        state = show(folder)
        assert state.running
        assert {row.state for row in state.rows} == {"running"}
        with pytest.raises(RunError, match="another localemp is working on this experiment"):
            localemp.experiment("mine.toml", script=slow)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    state = show(folder)
    assert not state.running
    assert {row.state for row in state.rows} == {"stopped"}
    assert replies(folder) == 4
    result = localemp.experiment("mine.toml", script=write_script(place, name="fast"))
    assert result.complete
    assert [row.tally.done for row in result.rows if row.tally] == [4, 4]
    assert len(read_experiment(folder)["sessions"]) == 2


def test_more_rows_than_files_may_be_open(place):
    talks, script = write_talks(place, IDS[:1]), write_script(place)
    Path("mine.toml").write_text(
        f'data = "{talks}"\n[[rows]]\nstrategy = "zero-shot"\nmax_tokens = {list(range(1, 101))}\n'
        "[after]\nscore = false\nreport = false\n"
    )
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "mine.toml", str(script)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, most)),
        capture_output=True,
        text=True,
        timeout=patience(),
    )
    assert done.returncode == 0, done.stderr
    assert {row.state for row in show(Path("experiments/mine-smollm2")).rows} == {"finished"}


def replies(folder):
    return sum(row.answered for row in show(folder).rows)


def test_ctrl_c_says_how_far_it_got_and_does_nothing_afterwards(place):
    model = write_local_model(place, "one")
    plan = plan_of(place, after={"score": {"no_bertscore": True}, "report": True})
    answers = []

    def stop(progress):
        answers.append(progress)
        if sum(step.task == "Answering" and step.done > 0 for step in answers) == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        localemp.experiment(plan, models=model, on_progress=stop)
    (note,) = caught.value.__notes__
    saved = sum(len(read_records(row.folder)) for row in show(Path("experiments/mine-one")).rows)
    assert note.endswith(f"{saved} of 12 replies saved to experiments/mine-one")
    assert "of 2 rows finished" in note
    assert sorted(path.name for path in Path("experiments/mine-one").iterdir()) == ["experiment.json", "rows"]
    assert LocalEngine.events[-1] == ("close", "one")
    result = localemp.experiment(plan_of(place), models=model)
    assert result.complete
    assert sum(row.tally.done for row in result.rows if row.tally) == 12 - saved


@pytest.mark.parametrize("task", ["Checking", "Waiting", "Finished"])
def test_what_the_callback_raises_ends_the_call_and_the_next_one_goes_on(place, task):
    model, plan = write_local_model(place, "one"), plan_of(place)

    def refuse(progress):
        if progress.task == task:
            raise ZeroDivisionError(task)

    with pytest.raises(ZeroDivisionError, match=task):
        localemp.experiment(plan, models=model, on_progress=refuse)
    assert localemp.experiment(plan, models=model).complete


async def test_in_an_event_loop_and_cancelled_there(place):
    model, plan = write_local_model(place, "one"), plan_of(place)
    with pytest.raises(OptionError, match="an event loop is running") as caught:
        localemp.experiment(plan, models=model)
    assert "await experiment_async" in caught.value.hint
    began = asyncio.Event()
    task = asyncio.create_task(
        localemp.experiment_async(plan, models=model, on_progress=lambda step: step.task == "Answering" and began.set())
    )
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert LocalEngine.events[-1] == ("close", "one")
    assert (await localemp.experiment_async(plan, models=model)).complete


@pytest.mark.cluster
def test_models_on_a_cluster_and_one_on_a_server(place, monkeypatch):
    pytest.importorskip("ray", reason="clusters are tested with Ray: pip install 'localemp[ray]'")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with FakeServer() as server:
        models = [
            {"model": "smollm2", "script": str(write_script(place))},
            {"model": "tiny", "base_url": server.url},
        ]
        result = localemp.experiment(plan_of(place, models=models), ray="local", actors=1)
    assert result.complete
    assert (result.folder / "ray.log").exists()
    ran = [read_manifest(row.folder)["sessions"][-1] for row in result.rows]
    assert ["ray" in session for session in ran] == [True, True, False, False]
    assert {session["experiment"] for session in ran} == {str(result.folder)}


def test_bad_arguments(place):
    plan = plan_of(place)
    for wrong, said in (
        ({"limit": 0}, "--limit 0"),
        ({"actors": 2}, "--actors"),
        ({"ray": "auto", "actors": 0}, "--actors 0"),
        ({"model": "a", "models": ["b"]}, "both a model and models"),
        ({"shots": "many"}, "shots"),
        ({"colour": "red"}, "colour"),
    ):
        with pytest.raises(LocalempError, match=said):
            localemp.experiment(plan, **wrong)
    with pytest.raises(LocalempError, match="unknown plan"):
        localemp.experiment("papre")
    with FakeServer() as server, pytest.raises(OptionError, match="--ray is for models that run on the cluster"):
        localemp.experiment(plan, models={"model": "tiny", "base_url": server.url}, ray="auto")


def test_estimate_and_truth_are_of_the_models_as_the_plan_calls_them(place):
    one, two = (str(write_script(place, name=name)) for name in ("one", "two"))
    models = [
        {"model": "smollm2", "name": name, "script": script, "max_tokens": tokens}
        for name, script, tokens in (("a", one, 10), ("b", one, 20), ("c", two, 30))
    ]
    result = localemp.experiment(plan_of(place, models=models))
    assert [estimate.model for estimate, _ in result.compared] == ["a, b", "c"], "a and b have one engine"


def test_steps_afterwards_are_given_by_the_keys_of_a_plan(place):
    plan = plan_of(place, after={"score": {"no_bertscore": True}, "report": {"cases": 3}})
    told = {"compare": "0-shot", "report": False}
    result = localemp.experiment(plan, script=write_script(place), after=told)
    assert [path.name for path in result.written] == ["comparisons.json"]
    with pytest.raises(LocalempError, match=r"after\.compare: no row is called 'nobody'"):
        localemp.estimate_experiment(plan, script=write_script(place), after={"compare": "nobody"})

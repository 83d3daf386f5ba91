"""The commands as functions: the same results as the command line, typed, quiet, with progress."""

import json
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest
from repository import REPOSITORY
from small_runs import four, make_run
from studies.small_study import small_study

import localemp
from localemp import LocalempError, Progress, study
from localemp.errors import DataError, FatalEngineError, OptionError, RunError, UnknownNameError
from localemp.pipeline.config import RunConfig, RunSettings
from localemp.runs.run import read_manifest
from localemp.strategies.registry import part_options


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Every test works in a folder of its own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def localemp_command(localemp):
    """The command, beside the module of the same name."""
    return localemp


@pytest.fixture
def data(tmp_path):
    """Twenty small dialogues."""
    path = tmp_path / "talks.jsonl"
    lines = [{"id": f"d{i}", "turns": [f"Story number {i}."], "reference": f"Tell me of {i}."} for i in range(20)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return str(path)


def script(*entries: dict[str, object]) -> Path:
    path = Path("script.jsonl").resolve()
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), "utf-8")
    return path


def assert_monotonous(events: list[Progress]) -> None:
    """Each task only goes forward, and comes to its end."""
    for task in dict.fromkeys(event.task for event in events):
        of_task = [event for event in events if event.task == task]
        assert [event.done for event in of_task] == sorted(event.done for event in of_task)
        if of_task[-1].total is not None:
            assert of_task[-1].done == of_task[-1].total


def test_generate_in_five_lines(data, capfd):
    events: list[Progress] = []
    result = localemp.generate(data=data, script=script({"reply": "Oh."}), out="run", on_progress=events.append)
    assert (result.folder, result.dialogues, len(result.answered), result.failed) == (Path("run"), 20, 20, 0)
    assert [record["reply"] for record in result.records(limit=2)] == ["Oh.", "Oh."]
    assert result.tally.done == 20
    assert_monotonous(events)
    assert [event.task for event in events if event.done == event.total] == ["Looking up", "Measuring", "Answering"]
    assert capfd.readouterr() == ("", ""), "the library prints nothing"
    with pytest.raises(FrozenInstanceError):
        result.failed = 3


def test_generate_again_resumes_and_other_settings_are_refused(data, caplog):
    first = localemp.generate(data=data, script=script({"reply": "Oh."}), limit=5)
    with caplog.at_level("INFO", "localemp"):
        again = localemp.generate(data=data, script=script({"reply": "Oh."}), limit=5)
    assert (again.folder, again.answered, again.tally) == (first.folder, first.answered, None)
    assert f"resuming: 5 of 5 replies already in {first.folder}" in caplog.text
    with pytest.raises(RunError, match="other settings"):
        localemp.generate(data=data, script=script({"reply": "Oh."}), out=first.folder, strategy="two-stage")


def test_what_stops_generate_notes_how_far_it_got(data):
    broken = script({"match": "number 9.", "error": "fatal", "seconds": 0.5}, {"reply": "Oh."})
    with pytest.raises(FatalEngineError) as stop:
        localemp.generate(data=data, script=broken, out="run", concurrency=4)
    lines = Path("run/responses.jsonl").read_bytes().count(b"\n")
    assert stop.value.__notes__ == [f"{lines} of 20 replies saved to run"]


def test_ctrl_c_raises_after_everything_finished_is_written(data):
    script({"reply": "Oh.", "seconds": 0.05})
    program = (
        "import localemp, os, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        "def stop(progress):\n"
        "    if progress.task == 'Answering' and progress.done == 3: os.kill(os.getpid(), signal.SIGINT)\n"
        "settings = {'data': 'talks.jsonl', 'script': 'script.jsonl', 'out': 'run', 'concurrency': 1}\n"
        "try: localemp.generate(**settings, on_progress=stop)\n"
        "except KeyboardInterrupt as error: print(*error.__notes__)\n"
    )
    program += "print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written = len(Path("run/responses.jsonl").read_text().splitlines())
    assert done.stdout == f"{written} of 20 replies saved to run\nTrue\n"


async def test_in_a_running_loop_generate_says_what_to_await(data):
    answers = {"data": data, "script": script({"reply": "Oh."}), "out": "run"}
    with pytest.raises(OptionError, match="event loop is running") as refused:
        localemp.generate(**answers)
    assert "generate_async" in refused.value.hint
    assert len((await localemp.generate_async(**answers)).answered) == 20


def test_unknown_settings_and_a_config_twice_are_refused(data):
    with pytest.raises(UnknownNameError, match="unknown setting 'modle'"):
        localemp.generate(data=data, modle="smollm2")
    with pytest.raises(OptionError, match="both a config and model are given"):
        localemp.generate(RunConfig(data=data), model="smollm2")
    with pytest.raises(LocalempError):
        localemp.generate(data="nowhere.jsonl", script=script({"reply": "Oh."}))


def test_the_settings_that_are_typed_are_those_of_a_config():
    known = {field.name for field in fields(RunConfig)} | {option.name for option in part_options()}
    assert set(RunSettings.__annotations__) <= known
    assert {field.name for field in fields(RunConfig)} <= set(RunSettings.__annotations__)


def test_a_run_from_python_says_so(data):
    result = localemp.generate(data=data, script=script({"reply": "Oh."}))
    (session,) = read_manifest(result.folder)["sessions"]
    assert session["dialogues"] == 20
    assert not session["command"].startswith("localemp ")


def test_score_has_what_the_command_prints(localemp_command, tmp_path):
    events: list[Progress] = []
    result = localemp.score(four(tmp_path / "a"), no_bertscore=True, on_progress=events.append)
    printed = json.loads(localemp_command("score", "a", "--no-bertscore", "--json").stdout)
    told = result.as_dict()
    assert [each["scores"] for each in printed["systems"]] == json.loads(
        json.dumps([each["scores"] for each in told["systems"]])
    )
    assert result.systems[0].score("B-2").signature.items == 4
    assert Path("a/scores.json").is_file()
    assert_monotonous(events)
    with pytest.raises(UnknownNameError, match="option of a metric 'bert'"):
        localemp.score("a", bert="x")


def test_compare_has_what_the_command_prints(localemp_command, tmp_path):
    events: list[Progress] = []
    a, b = four(tmp_path / "a"), four(tmp_path / "b", "two-stage")
    result = localemp.compare(a, b, metric=["Dist-2", "B-4"], samples=100, on_progress=events.append)
    words = ("compare", "a", "b", "--metric", "Dist-2", "--metric", "B-4", "--samples", 100, "--json")
    printed = json.loads(localemp_command(*words).stdout)
    assert [one["name"] for one in printed["comparisons"]] == [one.name for one in result.comparisons]
    assert printed["comparisons"] == json.loads(json.dumps([one.as_dict() for one in result.comparisons]))
    assert (result.items, printed["items"]) == (4, 4)
    assert_monotonous(events)


def test_compare_takes_the_scores_of_a_file_of_replies(tmp_path):
    run = four(tmp_path / "a")
    replies = [{"id": name, "reply": f"I am with you, {name}."} for name in "abcd"]
    Path("theirs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in replies))
    localemp.score(imports=[("jsonl", "theirs.jsonl")], no_bertscore=True)
    result = localemp.compare(run, "theirs.jsonl.scores.json", metric="Dist-1", samples=100)
    assert (result.items, len(result.b)) == (4, 4)
    Path("theirs.jsonl").write_text(json.dumps(replies[0]) + "\n")
    with pytest.raises(DataError, match="have changed since they were scored"):
        localemp.compare(run, "theirs.jsonl.scores.json")


def test_report_writes_what_is_named_and_says_which_folder_it_makes(tmp_path, caplog):
    events: list[Progress] = []
    with caplog.at_level("INFO", "localemp"):
        result = localemp.report(
            four(tmp_path / "a"), html="new/page.html", csv="tables", published="none", on_progress=events.append
        )
    assert result.written[0] == Path("new/page.html")
    assert [path.suffix for path in result.written[1:]] == [".csv"] * len(result.tables)
    assert all(path.is_file() for path in result.written)
    assert "created folder: new" in caplog.text
    assert_monotonous(events)


def test_a_report_of_nothing_is_refused(tmp_path):
    with pytest.raises(OptionError, match="nothing to report"):
        localemp.report([], html="report.html")
    assert not Path("report.html").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"limit": 0},
        {"limit": -3},
        {"max_tokens": 0},
        {"concurrency": 0},
        {"temperature": -1},
        {"top_p": 0},
        {"top_p": 7},
    ],
)
def test_generate_refuses_numbers_out_of_range(data, settings):
    [(name, value)] = settings.items()
    with pytest.raises(OptionError, match=f"--{name.replace('_', '-')} {value}: "):
        localemp.generate(data=str(data), out="run", **settings)
    assert not Path("run").exists()


def test_studies_refuse_numbers_out_of_range(tmp_path):
    small_study(tmp_path / "study", "rating")
    for call in (
        lambda: study.create(["a", "b"], out="new", sample=0),
        lambda: study.create(["a", "b"], out="new", checks=-1),
        lambda: study.judge("study", votes=0),
        lambda: study.judge("study", limit=0),
        lambda: study.report("study", resamples=0),
        lambda: study.report("study", seed=-1),
    ):
        with pytest.raises(OptionError, match="too small"):
            call()
    with pytest.raises(UnknownNameError, match="unknown kind of study 'best'"):
        study.create(["a", "b"], out="new", kind="best")
    with pytest.raises(UnknownNameError, match="unknown format 'xml'"):
        study.export("study", format="xml")


def test_a_study_from_its_creation_to_its_report(tmp_path):
    runs = [four(tmp_path / name, name) for name in ("plain", "similar")]
    made = study.create(runs, out="study", kind="rating", sample=2)
    assert (len(made.study.items), made.study.manifest.kind) == (2, "rating")
    events: list[Progress] = []
    judged = study.judge("study", script=script({"reply": '{"rating": 4}'}), on_progress=events.append)
    assert (judged.failed, judged.questions) == (0, judged.stats.answers)
    assert_monotonous(events)
    result = study.report("study", markdown="study.md", resamples=100)
    assert result.written == (Path("study.md"),)
    assert result.results.as_dict()["opinions"][0]["who"] == "scripted"
    exported = study.export("study", out="answers.csv")
    assert exported.out.read_text() == exported.text
    assert exported.answers == judged.questions


def test_a_run_is_read(tmp_path):
    make_run(tmp_path / "x", {"a": "Oh.", "b": "Oh no."}, failed="c")
    run = localemp.read_run(tmp_path / "x")
    assert (run.replies, [*run.errors]) == ({"a": "Oh.", "b": "Oh no."}, ["c"])
    assert (run.settings["strategy"], len(run.sessions), len(run.records)) == ("zero-shot", 1, 3)
    with pytest.raises(RunError):
        localemp.read_run(tmp_path)
    with pytest.raises(OptionError, match=r"localemp.read_run\('runs/x'\) reads a run"):
        localemp.Run("runs/x")


def test_ratings_are_imported(tmp_path):
    small_study(tmp_path / "study", "rating")
    Path("ratings.csv").write_text("who,item,reply,Empathy\nann,i0,k0-0,4\nann,i0,k0-1,5\n")
    result = study.import_("study", "ratings.csv", column={"rater": "who"})
    assert (len(result.votes), result.replaced) == (2, 0)
    assert result.unrated == ("Coherence", "Informativity")
    assert study.report("study", resamples=100).results.as_dict()["opinions"][0]["raters"] == 1


@pytest.mark.parametrize(
    "words",
    [
        ("data", "stats", ""),
        ("generate", "--pool", ""),
        ("generate", "--data", ""),
        ("generate", "--out", ""),
        ("report", "a", "--html", ""),
        ("report", "a", "--csv", ""),
        ("report", ""),
        ("score", ""),
        ("compare", "a", ""),
        ("study", "report", ""),
    ],
)
def test_an_empty_path_is_refused(localemp_command, words):
    done = localemp_command(*words)
    assert done.returncode == 2
    assert "it is empty" in done.stderr
    assert ("leave it out" in done.stderr) == ("--" in "".join(words) or words == ("score", ""))


def test_the_version_is_that_of_the_package():
    assert re.fullmatch(r"\d+\.\d+\S*", localemp.__version__)


def test_functions_hide_no_module():
    program = (
        "import localemp, localemp.runs.run, localemp.data.sources, localemp.studies.study\n"
        "localemp.generate, localemp.score, localemp.compare, localemp.report, localemp.study\n"
        "names = localemp.runs.run.Run.__name__, localemp.data.sources.load_dialogues.__name__\n"
        "print(*names, callable(localemp.report))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "Run load_dialogues True\n", done.stderr


def test_the_examples_have_the_types_that_the_library_says(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / "python.md").read_text("utf-8"), re.DOTALL)
    for number, block in enumerate(blocks):
        (tmp_path / f"example_{number}.py").write_text(block, "utf-8")
    files = [str(path) for path in sorted(tmp_path.glob("example_*.py"))]
    command = [sys.executable, "-m", "mypy", "--config-file", str(REPOSITORY / "pyproject.toml"), *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert len(blocks) == 5
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("wrong", [{"out": "afile"}, {"strategy": "knowledge", "knowledge": "nofile"}])
def test_wrong_settings_are_reported_before_a_model_is_looked_for(tmp_path, monkeypatch, wrong):
    monkeypatch.chdir(tmp_path)
    Path("afile").touch()
    heard = []
    with pytest.raises(localemp.LocalempError, match=r"^(afile|nofile): "):
        localemp.generate(model="smollm2", data="samples", on_progress=heard.append, **wrong)
    assert not [progress.task for progress in heard if "weights" in progress.task]


@pytest.mark.parametrize("wrong", [{"layout": "foo"}, {"instances": "bad"}])
def test_a_config_refuses_values_that_are_not_of_a_list(wrong):
    with pytest.raises(UnknownNameError, match=next(iter(wrong))):
        localemp.RunConfig(**wrong)

"""`localemp experiment`, its `show` and `list`, with the scripted engine: from the command line to the folder."""

import json
import signal

import pytest
from click.shell_completion import ShellComplete
from patience import patience, wait_until

from localemp.cli.main import cli
from localemp.experiments.folder import read_experiment
from localemp.experiments.plan import PLANS, plan_file, read_plan
from localemp.runs.run import read_manifest, read_records

PLAN = """
about = "Shots and stages"
data = "talks.jsonl"

[defaults]
max_tokens = 40

[[rows]]
name = "plain"
strategy = "zero-shot"

[[rows]]
name = "{shots} shots"
strategy = "few-shot"
shots = [1, 2]

[[rows]]
name = "stages"
strategy = "two-stage"
max_tokens = 50

[after]
score = false
report = false
"""


@pytest.fixture
def plan(tmp_path):
    """A plan of four rows over ten dialogues, and a script that answers them."""
    lines = [{"id": f"d{i}", "turns": [f"Story number {i}."], "reference": "I see."} for i in range(10)]
    (tmp_path / "talks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "mine.toml").write_text(PLAN)
    (tmp_path / "script.jsonl").write_text('{"reply": "Oh."}\n')
    return tmp_path / "mine.toml"


@pytest.fixture
def script(tmp_path):
    def write(*entries):
        (tmp_path / "script.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))

    return write


WORDS = ("experiment", "mine.toml", "--script", "script.jsonl", "--pool", "bundled")
FOLDER = "experiments/mine-smollm2"


def runs_of(folder):
    """The runs of an experiment, by the names of their rows."""
    return {row["name"]: folder / row["folder"] for row in read_experiment(folder)["rows"]}


def test_all_rows_are_answered_and_told(localemp, plan, tmp_path):
    done = localemp(*WORDS)
    assert done.returncode == 0, done.stderr
    rows = [line.split("│")[1:4] for line in done.stdout.splitlines() if "10 of 10" in line]
    assert [row[0].strip() for row in rows] == ["plain", "1 shots", "2 shots", "stages"]
    assert f"experiment: {FOLDER}" in done.stdout
    told = done.stderr.splitlines()
    assert "Starting scripted (scripted) ..." in told
    assert sorted(line.partition(" (")[0] for line in told if "rows done" in line) == [
        f"{row}: 10 of 10 replies" for row in ("1 shots", "2 shots", "plain", "stages")
    ]
    assert "\x1b" not in done.stdout + done.stderr
    assert len(read_records(runs_of(tmp_path / FOLDER)["stages"])) == 10


def test_only_what_was_typed_is_a_setting_and_a_row_has_the_last_word(localemp, plan, tmp_path):
    localemp(*WORDS, "--limit", 2)
    before = {name: read_manifest(run)["settings"]["sampling"] for name, run in runs_of(tmp_path / FOLDER).items()}
    assert [before[name]["max_tokens"] for name in ("plain", "2 shots", "stages")] == [40, 40, 50]
    localemp(*WORDS, "--limit", 2, "--max-tokens", 30, "--engine-arg", "max_num_seqs=4", "--out", "other")
    after = {name: read_manifest(run)["settings"]["sampling"] for name, run in runs_of(tmp_path / "other").items()}
    assert [after[name]["max_tokens"] for name in ("plain", "2 shots", "stages")] == [30, 30, 50]


def test_failed_rows_are_named_with_the_command_that_retries_them(localemp, plan, script, tmp_path):
    script({"match": "number 3.", "error": "engine", "reply": "no\nroom"}, {"reply": "Oh."})
    words = (*WORDS, "--out", "my experiment", "--engine-arg", "hf_token=SECRET")
    done = localemp(*words)
    assert done.returncode == 1
    assert "failed: plain: 1 dialogue failed" in done.stderr
    assert "why: localemp runs show 'my experiment/rows/plain-" in done.stderr
    retry = next(line for line in done.stderr.splitlines() if line.startswith("hint: to retry, run: localemp"))
    assert retry.endswith("--out 'my experiment' --engine-arg 'hf_token=***' --retry-errors")
    assert done.stderr.count("hint: to retry") == 1, "one command retries all rows"
    assert localemp(*words).returncode == 1, "without --retry-errors it is not asked again"
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"SECRET" in path.read_bytes()]
    script({"reply": "Better now."})
    done = localemp(*words, "--retry-errors")
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stderr


def test_an_engine_that_fails_for_good_leaves_the_other_model_and_an_exit_code(localemp, plan, script, tmp_path):
    script({"match": "number 3.", "error": "fatal", "reply": "out of\nmemory"}, {"reply": "Oh."})
    done = localemp(*WORDS, "--concurrency", 1)
    assert done.returncode == 1
    assert "failed: plain; 1 shots; 2 shots; stages: out of memory" in done.stderr
    assert "hint: to retry, run: localemp experiment mine.toml" in done.stderr
    shown = localemp("experiment", "show", FOLDER)
    assert shown.returncode == 0
    assert "failed: plain; 1 shots; 2 shots; stages: out of memory" in shown.stdout


def test_the_same_command_again_asks_nothing(localemp, plan, script):
    localemp(*WORDS)
    script({"match": "nobody", "reply": "Oh."})
    done = localemp(*WORDS)
    assert done.returncode == 0, done.stderr
    assert "had all of their replies before" in done.stdout


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_stopped_in_the_middle_it_goes_on(localemp, plan, script, tmp_path, sent):
    script({"match": "number 3.", "reply": "Oh.", "seconds": 600}, {"reply": "Oh."})
    process = localemp.start(*WORDS, "--concurrency", 2)

    def lines():
        return sum(path.read_bytes().count(b"\n") for path in (tmp_path / FOLDER).glob("rows/*/responses.jsonl"))

    wait_until(lambda: lines() > 2, process=process)
    process.send_signal(sent)
    _, error = process.communicate(timeout=patience(60))
    before = lines()
    assert 0 < before < 40
    if sent == signal.SIGINT:
        assert process.returncode == 130
        assert f"{before} of 40 replies saved to {FOLDER}" in error
        assert "hint: run the same command again to resume" in error
        assert "Traceback" not in error
    shown = localemp("experiment", "show", FOLDER)
    assert f"{before} of 40 replies" in shown.stdout
    script({"reply": "Oh."})
    done = localemp(*WORDS)
    assert done.returncode == 0, done.stderr
    assert lines() == 40, "nothing lost, nothing twice"


@pytest.mark.parametrize("columns", [80, 120])
def test_what_is_printed_fits_the_terminal(localemp, plan, columns):
    long = PLAN.replace('"plain"', '"a row with a name that is longer than any column of a table has any room for"')
    plan.write_text(long)
    code, _, shown = localemp.on_terminal(*WORDS)
    assert code == 0, shown
    assert "4 of 4 rows done; 40 of 40 dialogues" in shown
    env = {"COLUMNS": str(columns), "TTY_COMPATIBLE": "1", "NO_COLOR": "1", "TERM": "dumb"}
    for words in (WORDS, ("experiment", "show", FOLDER), ("experiment", "show", "mine.toml"), ("experiment", "list")):
        out = localemp(*words, env=env).stdout
        boxes = [line for line in out.splitlines() if line.startswith(("│", "┃", "┏"))]
        assert boxes, out
        assert max(map(len, boxes)) <= columns, out


def test_a_plan_is_shown_as_its_rows_would_run(localemp, plan):
    done = localemp("experiment", "show", "mine.toml")
    assert done.returncode == 0, done.stderr
    assert "mine: Shots and stages" in done.stdout
    assert "4 rows; afterwards: nothing" in done.stdout
    assert done.stdout.endswith("plan: mine.toml\n")
    told = json.loads(localemp("experiment", "show", "mine.toml", "--json", "-m", "llama", "-m", "qwen").stdout)
    assert list(told) == ["name", "about", "file", "rows", "after"]
    assert (told["name"], told["about"], told["file"]) == ("mine", "Shots and stages", "mine.toml")
    assert told["after"] == dict.fromkeys(("score", "compare", "report", "study"))
    rows = told["rows"]
    assert [row["name"] for row in rows][:2] == ["llama plain", "llama 1 shots"]
    assert len(rows) == 8
    assert rows[-1]["model"] == "qwen"
    assert rows[-1]["settings"]["max_tokens"] == 50
    assert rows[1]["settings"]["shots"] == 1


@pytest.mark.parametrize("name", PLANS)
def test_the_toml_that_is_shown_is_a_plan_of_ones_own(localemp, tmp_path, name):
    shown = localemp("experiment", "show", name, "--toml")
    assert shown.returncode == 0, shown.stderr
    (tmp_path / "mine.toml").write_text(shown.stdout, "utf-8")
    assert shown.stdout == plan_file(name).read_text("utf-8")
    assert read_plan(tmp_path / "mine.toml").model_dump() == {**read_plan(name).model_dump(), "name": "mine"}


SCORED = """
data = "talks.jsonl"
[[rows]]
name = "plain"
strategy = "zero-shot"
[[rows]]
name = "stages"
strategy = "two-stage"
"""


def test_steps_afterwards_can_be_typed_for_any_plan(localemp, plan, tmp_path):
    plan.write_text(SCORED)
    done = localemp(*WORDS[:4], "--no-bertscore", "--against", "plain", "--study")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / FOLDER
    assert list(json.loads((folder / "comparisons.json").read_text())["rows"])
    assert (folder / "study-stages" / "study.json").exists()
    after = json.loads((folder / "experiment.json").read_text())["plan"]["after"]
    assert after["score"] == {"no_bertscore": True, "ppl": False, "judge": None}
    assert after["compare"]["base"] == "plain"
    assert after["report"] is not None, "what was not typed stays"
    assert "BERTScore" not in done.stdout + done.stderr
    words = (*WORDS[:4], "--no-bertscore", "--bertscore-model", "all-minilm-l6-v2", "--limit", 1)
    assert localemp(*words).returncode == 0
    after = json.loads((folder / "experiment.json").read_text())["plan"]["after"]
    assert after["score"] == {"no_bertscore": True, "bertscore_model": "all-minilm-l6-v2", "ppl": False, "judge": None}


def test_typed_steps_are_checked_before_anything_starts(localemp, plan, tmp_path):
    for words, told in (
        (("--against", "plane"), "no row is called 'plane'"),
        (("--study",), "there is no base row"),
        (("--judge", "nobody", "--against", "plain"), "after.study.judge: unknown model 'nobody'"),
        (("--bertscore-model", "nobody"), "after.score.bertscore_model: unknown model 'nobody'"),
    ):
        done = localemp(*WORDS, *words)
        assert done.returncode == 2, done.stderr
        assert told in done.stderr
        assert "Traceback" not in done.stderr
    assert "--against ROW" in localemp(*WORDS, "--study").stderr
    assert not (tmp_path / FOLDER).exists()


def test_an_experiment_is_shown_and_listed(localemp, plan, tmp_path):
    localemp(*WORDS, "--limit", 3)
    shown = localemp("experiment", "show", FOLDER).stdout
    assert "4 of 4 rows finished, 12 of 12 replies" in shown
    assert "last command: localemp experiment mine.toml --script script.jsonl" in shown
    state = json.loads(localemp("experiment", "show", FOLDER, "--json").stdout)
    assert [(row["name"], row["state"], row["answered"]) for row in state["rows"][:1]] == [("plain", "finished", 3)]
    (tmp_path / "experiments" / "bad").mkdir()
    (tmp_path / "experiments" / "bad" / "experiment.json").write_text('{"rows": 5}')
    listed = localemp("experiment", "list")
    assert listed.returncode == 0
    assert FOLDER in listed.stdout
    assert "12 of 12" in listed.stdout
    assert "paper" in listed.stdout
    assert "warning: experiments/bad/experiment.json" in listed.stderr
    as_json = json.loads(localemp("experiment", "list", "--json").stdout)
    assert [each["plan"] for each in as_json["experiments"]] == ["mine"]
    assert list(as_json["plans"]) == ["paper", "combinations", "methods", "shots", "smoke"]


def test_without_experiments_the_list_says_how_to_make_one(localemp):
    done = localemp("experiment", "list")
    assert done.returncode == 0
    assert "no experiments in experiments" in done.stdout


def test_a_plan_may_have_the_name_of_a_command(localemp, plan, tmp_path):
    for name in ("show.toml", "list.toml", "run.toml"):
        (tmp_path / name).write_text(PLAN)
        done = localemp("experiment", f"./{name}", *WORDS[2:], "--limit", 1)
        assert done.returncode == 0, done.stderr


def test_options_may_come_before_the_plan(localemp, plan):
    done = localemp("experiment", *WORDS[2:], "--limit", 1, "mine.toml")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nothing"], ["unknown plan 'nothing'", "paper, combinations, methods, shots, smoke"]),
        (["nothing.toml"], ["nothing.toml: no such file"]),
        ([""], ["it is empty"]),
        (["mine.toml", "more"], ["unexpected extra argument (more)"]),
        (["--limit", "3"], ["Missing argument 'PLAN'"]),
        (["mine.toml", "--model", ""], ["--model", "it is empty"]),
        (["mine.toml", "--model", "nobody"], ["unknown model 'nobody'"]),
        (["mine.toml", "--strategi", "x"], ["No such option '--strategi'"]),
        (["mine.toml", "--limit", "0"], ["--limit"]),
        (["mine.toml", "--engine-arg", "nonsense"], ["NAME=VALUE"]),
        (["mine.toml", "--out", "talks.jsonl"], ["talks.jsonl"]),
        (["mine.toml", "--actors", "2"], ["--ray"]),
        (["mine.toml", "--split", "tomorrow"], ["unknown split 'tomorrow'"]),
        (["mine.toml", "--data", "nowhere.jsonl"], ["nowhere.jsonl"]),
        (["mine.toml", "--temperature", "nan"], ["temperature"]),
        (["show", "nothing"], ["nothing", "paper, combinations, methods, shots, smoke"]),
        (["show", "."], ["not an experiment"]),
        (["show"], ["Missing argument"]),
        (["show", "experiments", "-m", "llama"], ["--model is for a plan"]),
        (["show", "experiments", "--toml"], ["--toml is for a plan", "experiment.json"]),
        (["show", "mine.toml", "--toml", "--json"], ["--toml prints the file", "leave out --json"]),
        (["list", "nowhere"], ["nowhere is not a folder"]),
    ],
)
def test_wrong_input_is_one_clear_error(localemp, plan, tmp_path, words, told):
    done = localemp("experiment", *words)
    places = (["show", "."], ["mine.toml", "--out", "talks.jsonl"])  # read or written, and something else is there
    assert done.returncode == (1 if words in places else 2), done.stderr
    assert all(text in done.stderr for text in told), done.stderr
    assert not (tmp_path / "experiments").exists(), "nothing is made before the input is good"


def completions(*words):
    return {
        each.value for each in ShellComplete(cli, {}, "localemp", "_X").get_completions(list(words[:-1]), words[-1])
    }


def test_shells_complete_commands_plans_and_options():
    assert completions("experiment", "") >= {"show", "list", "paper", "smoke"}
    assert completions("experiment", "sh") == {"show", "shots"}
    assert completions("experiment", "paper", "--retry") == {"--retry-errors"}
    assert completions("experiment", "show", "--js") == {"--json"}
    assert "experiment" in completions("exp")


def test_help_lists_plans_and_commands_and_no_default_that_a_plan_overrides(localemp):
    done = localemp("experiment", "--help")
    assert done.returncode == 0
    for text in (
        "Usage: ",
        " experiment [OPTIONS] PLAN",
        "Bundled plans:",
        "combinations",
        "Commands:",
        "show",
        "--shots",
    ):
        assert text in done.stdout
    assert "[default" not in done.stdout
    assert "[default" in localemp("generate", "--help").stdout

"""Experiments as processes of their own that are killed, whose disk fills, or whose engines and servers fail: what they
had is there, nothing that was answered is asked again, and in the end everything is as if nothing had happened."""

import csv
import hashlib
import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from patience import patience
from tiny_encoder import save_tiny_encoder
from wordnet_here import small_files, write_files

from localemp.experiments.folder import read_experiment
from localemp.runs.run import read_records

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))
from fake_server import Answer, FakeServer, completion, error

IDS = [f"d{number}" for number in range(8)]
ROWS = {"0-shot": 8, "2-shot": 8, "staged": 16}
"""Rows and their requests."""
PLAN = """
[[rows]]
name = "0-shot"
strategy = "zero-shot"
[[rows]]
name = "2-shot"
strategy = "few-shot"
shots = 2
[[rows]]
name = "staged"
strategy = "two-stage"
"""
AFTER = """
[after]
score = { no_bertscore = true }
compare = "0-shot"
report = true
"""
HASH = re.compile("-[0-9a-f]{8}$")  # a folder's name ends with that of its settings, and they have the server's port
# The command as a person gives it, but it is killed when it opens for writing, or renames, a certain file.
PROGRAM = """
import fnmatch, os, signal, sys
wanted, left = sys.argv[1], int(sys.argv[2])
def watch(event, args):
    global left
    if event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        path = args[0]
    elif event == "os.rename":
        path = args[1]
    else:
        return
    if not isinstance(path, int) and fnmatch.fnmatch(os.path.relpath(os.fsdecode(path)), wanted):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
sys.argv[:3] = ["localemp"]
from localemp.cli.main import main
main()
"""


class Model(FakeServer):
    """A server whose reply is a function of the prompt; it can kill who asks it."""

    def __init__(self, rule=None):
        super().__init__(rule=self.reply_to)
        self.own_rule, self.victim, self.left = rule, None, 0
        self.guard = threading.Lock()

    def reply_to(self, request):
        with self.guard:
            self.left -= 1
            if self.left == 0 and self.victim is not None:
                self.victim.kill()
        told = self.own_rule(request) if self.own_rule else None
        return told or Answer(body=completion(message={"role": "assistant", "content": f"I hear {asked(request)}."}))


def asked(request):
    return hashlib.sha256(json.dumps(request.body["messages"]).encode()).hexdigest()[:8]


class Experiment:
    """An experiment in a folder, as a command in processes of its own."""

    def __init__(self, place, plan=PLAN + AFTER, models=""):
        self.place, self.folder = place, place / "ex"
        self.words = ["experiment", "mine.toml", "--out", "ex"]
        write_files(place / "nltk" / "corpora" / "wordnet", small_files())
        talks = [
            {"id": name, "turns": [f"Story number {name}."], "reference": f"I see {name}.", "emotion": "sad"}
            for name in IDS
        ]
        (place / "talks.jsonl").write_text("".join(json.dumps(talk) + "\n" for talk in talks))
        (place / "mine.toml").write_text(f'data = "talks.jsonl"\n{models}\n{plan}')

    def start(self, file="", number=0, limit=None):
        """Start, to be killed at the file (a pattern, as the command names it) when it is written that many times.

        `limit` is the longest file in bytes: the system refuses more, as it does when a disk is full.
        """
        environment = {**os.environ, "LOCALEMP_CACHE": str(self.place / "cache"), "COLUMNS": "200"}
        environment["NLTK_DATA"] = str(self.place / "nltk")  # nothing is fetched
        environment |= {"OPENAI_API_KEY": "sk-nobody"}

        def prepare():
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, file, str(number), *self.words],
            cwd=self.place,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=prepare,
        )

    def run(self, **how):
        process = self.start(**how)
        out, told = process.communicate(timeout=patience(120))
        assert "Traceback" not in out + told, told
        return subprocess.CompletedProcess(process.args, process.returncode, out, told)

    def run_folder(self, row):
        """The run of a row, by its name or its row's."""
        (folder,) = {path for path in (self.folder / "rows").iterdir() if path.name.startswith(f"{row}-")}
        return folder

    def replies(self):
        """The prompts that have a reply in a run, by row and dialogue."""
        return {
            (HASH.sub("", folder.name), record["id"]): [stage["text"] for stage in record["stages"]]
            for folder in (self.folder / "rows").glob("*/")
            if (folder / "manifest.json").exists()
            for record in read_records(folder)
            if "reply" in record
        }

    def result(self):
        """Everything that two experiments that ended alike have in common."""
        with (self.folder / "tables.csv").open(encoding="utf-8", newline="") as stream:
            cells = [row for row in csv.reader(stream) if row[4] != "Seconds"]
        rows = [
            (row["name"], row["model"], HASH.sub("", row["folder"]), row["planned"], row["error"], row["retry"])
            for row in read_experiment(self.folder)["rows"]
        ]
        half = [path.name for path in self.folder.rglob("*.part")]
        # Of scores there may be: others may score the same run at the same time, and nobody can tell whose they are.
        assert not [name for name in half if not name.startswith(".scores.json.")], "half-written files are taken away"
        return self.replies(), rows, cells, sorted(path.name for path in self.folder.iterdir())


def ask(server, **settings):
    told = "".join(f", {key} = {value}" for key, value in settings.items())
    return f'models = [{{ model = "tiny", base_url = "{server.url}"{told} }}]\n[defaults]\nconcurrency = 2\n'


@pytest.fixture
def model():
    with Model() as server:
        yield server


@pytest.fixture
def killed(tmp_path, model):
    return Experiment(tmp_path, models=ask(model))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The same experiment, never interrupted."""
    with Model() as server:
        experiment = Experiment(tmp_path_factory.mktemp("whole"), models=ask(server))
        done = experiment.run()
        assert done.returncode == 0, done.stderr
        assert len(server.requests) == sum(ROWS.values())
        return experiment.result()


def goes_on(experiment, model, whole):
    """The same command ends as if nothing had happened, and asks nothing that has a reply."""
    before = set(experiment.replies())
    texts = [text for each in experiment.replies().values() for text in each]
    count = len(model.requests)
    done = experiment.run()
    assert done.returncode == 0, done.stderr
    again = [asked(request) for request in model.requests[count:]]
    assert not [text for text in texts if any(prompt in text for prompt in again)], "a reply that was there"
    assert before <= set(experiment.replies())
    assert experiment.result() == whole


@pytest.mark.parametrize(
    ("file", "number"),
    [
        pytest.param("experiment.json", 1, marks=pytest.mark.slow),
        pytest.param("rows/*/manifest.json", 2, marks=pytest.mark.slow),
        pytest.param("rows/*/responses.jsonl", 2, marks=pytest.mark.slow),
        pytest.param(".experiment.json.*.part", 2, marks=pytest.mark.slow),
        ("experiment.json", 4),
        ("rows/*/scores.json", 2),
        pytest.param("comparisons.json", 1, marks=pytest.mark.slow),
        ("report.html", 1),
        pytest.param("tables.csv", 1, marks=pytest.mark.slow),
        pytest.param("results.jsonl", 1, marks=pytest.mark.slow),
    ],
    ids=lambda value: re.sub(r"[^\w.]+", "-", value) if isinstance(value, str) else str(value),
)
def test_killed_at_a_file_it_goes_on(killed, model, whole, file, number):
    assert killed.run(file=f"ex/{file}", number=number).returncode == -signal.SIGKILL
    goes_on(killed, model, whole)


@pytest.mark.parametrize(
    "number", [3, *(pytest.param(number, marks=pytest.mark.slow) for number in (1, 17, 26, 32))], ids=str
)
def test_killed_at_a_request_it_goes_on(killed, model, whole, number):
    """At the first, within the first row to be answered, between rows, at the last."""
    model.left = number
    model.victim = process = killed.start()
    process.communicate(timeout=patience(120))
    assert process.returncode == -signal.SIGKILL
    model.victim = None
    in_flight = 2
    assert number - 2 * in_flight <= sum(map(len, killed.replies().values())) <= number
    goes_on(killed, model, whole)
    assert len(model.requests) <= sum(ROWS.values()) + 2 * in_flight, "only what was in flight is asked again"


@pytest.mark.slow
@pytest.mark.parametrize("file", ["*cache/*", "ex/rows/*/manifest.json"], ids=["embedding", "looking up"])
def test_killed_before_the_first_request_it_goes_on(tmp_path, model, file):
    save_tiny_encoder(tmp_path, tmp_path / "encoder")
    similar = (
        '[[rows]]\nname = "similar"\nstrategy = "similar"\npool = "talks.jsonl"\nencoder = "./encoder"\nshots = 1\n'
    )
    experiment = Experiment(tmp_path, similar + AFTER.replace('compare = "0-shot"', ""), ask(model))
    assert experiment.run(file=file, number=1).returncode == -signal.SIGKILL
    assert not model.requests
    done = experiment.run()
    assert done.returncode == 0, done.stderr
    assert len(experiment.replies()) == len(model.requests) == 8


@pytest.mark.slow
def test_killed_again_and_again(killed, model, whole):
    number, times = 1, 0
    while (done := killed.run(file="ex/*", number=number)).returncode == -signal.SIGKILL:
        number, times = number + 3, times + 1
    assert done.returncode == 0, done.stderr
    assert times > 5
    assert killed.result() == whole


def test_a_full_disk_stops_a_row_or_a_step_and_nothing_else(killed, model, whole):
    sizes = dict.fromkeys(ROWS, 0)
    done = killed.run(limit=9_000)
    assert done.returncode == 1
    assert "disk is full" in done.stdout + done.stderr
    replies = killed.replies()
    assert replies
    for folder in (killed.folder / "rows").glob("*/"):
        raw = (folder / "responses.jsonl").read_bytes()
        assert not raw or raw.endswith(b"}\n")
        sizes[folder.name] = len(raw)
    assert max(sizes.values()) <= 9_000
    # Now the replies fit, but the report does not.
    done = killed.run(limit=60_000)
    assert done.returncode == 1
    assert "report" in done.stdout + done.stderr
    assert len(killed.replies()) == 24
    goes_on(killed, model, whole)


def test_an_engine_that_dies_in_row_5(tmp_path):
    rows = "".join(f'[[rows]]\nname = "row {shots}"\nstrategy = "few-shot"\nshots = {shots}\n' for shots in range(1, 7))
    dead = threading.Event()

    def rule(request):
        if len(server.requests) > 35:
            dead.set()
        return error(401, "your key was withdrawn", code="invalid_api_key") if dead.is_set() else None

    with Model(rule) as server:
        experiment = Experiment(tmp_path, rows + AFTER.replace("0-shot", "row 1"), ask(server))
        done = experiment.run()
        assert done.returncode == 1
        answered = [len(read_records(experiment.run_folder(f"row-{number}"))) for number in range(1, 7)]
        assert answered[:4] == [8] * 4
        assert 1 <= answered[4] <= 3
        assert answered[5] == 0
        shown = " ".join((done.stdout + done.stderr).split())
        assert "key was withdrawn" in shown
        assert "row 5" in shown
        assert "row 6" in shown
        page = (experiment.folder / "report.html").read_text("utf-8")
        assert "row 5 is not complete" in page
        assert "row 6 is missing" in page
        server.own_rule = None
        retry = {row["retry"] for row in read_experiment(experiment.folder)["rows"] if row["retry"]}
        assert len(retry) == 1
        words = shlex.split(retry.pop())
        assert words[0] == "localemp"
        assert shlex.join(words) in shown
        experiment.words = words[1:]
        again = experiment.run()
        assert again.returncode == 0, again.stderr
        assert len(experiment.replies()) == 48
        assert "is not complete" not in (experiment.folder / "report.html").read_text("utf-8")


def test_a_server_that_fails_sometimes_beside_a_model_that_is_here(tmp_path):
    """One in sixteen requests fails: with 500, with 429, cut before the answer or inside it."""
    failures = [
        error(500, "oh"),
        error(429, "slow down", {"retry-after": "0"}),
        Answer(cut="before"),
        Answer(cut="inside"),
    ]
    failed = []

    def rule(request):
        number = server.requests.index(request)
        if number % 16 == 7:
            failed.append(asked(request))
            return failures[number // 16]
        return None

    (tmp_path / "script.jsonl").write_text('{"reply": "Tell me more."}\n')
    with Model(rule) as server:
        models = (
            f'models = [{{ model = "tiny", base_url = "{server.url}" }}, {{ model = "here", script = "script.jsonl" }}]'
        )
        grid = PLAN.replace('name = "2-shot"', 'name = "{shots}-shot"').replace("shots = 2", "shots = [2, 3, 4, 5, 6]")
        experiment = Experiment(tmp_path, grid + AFTER, models)
        done = experiment.run()
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(failed) == 4 == len(set(failed))
        assert len(experiment.replies()) == 2 * 7 * 8
        assert len(server.requests) == 8 * 8 + 4
        hosted = {row["name"] for row in read_experiment(experiment.folder)["rows"] if row["model"] == "tiny"}
        assert len(hosted) == 7

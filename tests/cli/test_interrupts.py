"""Ctrl-C at every step of a commit: what is said afterwards is what is in the file, and no traceback shows.

A command runs in this process under a tracer, which sends it SIGINT before the n-th line of the modules that write,
counted from the first write on; each n has a run of its own. Nothing of the command is replaced.
"""

import gc
import json
import logging
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from click.exceptions import Exit
from small_runs import make_run
from tiny_comet import save_tiny

import localemp
from localemp.bench.result import read_result
from localemp.cli.bench.printing import print_result
from localemp.cli.interrupts import INTERRUPTED, resumable
from localemp.cli.main import main
from localemp.commonsense.cache import InferenceCache
from localemp.commonsense.inferences import Beam, Beams
from localemp.commonsense.source import InferenceSource
from localemp.metrics.scoring import read_scores
from localemp.utils.interrupts import noting

sys.path.insert(0, str(Path(__file__).parents[1] / "studies"))
from small_study import small_study

PACKAGE = Path(localemp.__file__).parent
LOG = ("utils/append_log.py", "runs/journal.py", "commonsense/writer.py")
KEY_REPEAT = 0.02  # seconds; a keyboard repeats a key some 30 times a second

# Once: main's handler cancels what asyncio runs. Twice: it also raises KeyboardInterrupt at that very line.
PRESSES = [1, 2]


class Interrupter:
    """A tracer that presses Ctrl-C before the n-th line of some files, counted from the first call of a function.

    Args:
        files: In the package.
        first: The function; before it, lines do not count.
        at: Which line; 0 for none.
        presses: How many times.
    """

    def __init__(self, files: tuple[str, ...], first: str, at: int, presses: int) -> None:
        self.files, self.first = {str(PACKAGE / name) for name in files}, first
        self.at, self.presses, self.lines, self.began = at, presses, 0, False

    def __call__(self, frame: FrameType, event: str, arg: object) -> Any:
        if frame.f_code.co_filename not in self.files:
            return None
        self.began = self.began or frame.f_code.co_qualname == self.first
        return self.line if self.began else None

    def line(self, frame: FrameType, event: str, arg: object) -> Any:
        self.lines += event == "line"
        if event == "line" and self.lines == self.at:
            for _ in range(self.presses):
                signal.raise_signal(signal.SIGINT)
        return self.line


class Command:
    """Runs the command line in this process, interrupted or not."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capsys, self.monkeypatch = capsys, monkeypatch

    def __call__(self, words: list[object], tracer: Interrupter) -> tuple[int, str, str]:
        """The exit code and what was printed."""
        self.monkeypatch.setattr(sys, "argv", ["localemp", *map(str, words)])
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.settrace(tracer)
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            sys.settrace(None)
            signal.signal(signal.SIGINT, signal.default_int_handler)
        out, err = self.capsys.readouterr()
        assert "Traceback" not in out + err, err
        return code, out, err


@pytest.fixture
def command(capsys, monkeypatch, tmp_path) -> Iterator[Command]:
    """The command line, in a folder and with a cache of its own."""
    for name in ("excepthook", "unraisablehook"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    for logger in (logging.getLogger("localemp"), logging.getLogger("asyncio")):
        monkeypatch.setattr(logger, "handlers", list(logger.handlers))
        monkeypatch.setattr(logger, "level", logger.level)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOCALEMP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")
    before, hook = signal.getsignal(signal.SIGINT), sys.excepthook
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield Command(capsys, monkeypatch)
    # Collected here, not in the middle of a later test: where coroutines end inside ast.parse, Python 3.11 loses count.
    gc.collect()
    sys.excepthook = hook
    signal.signal(signal.SIGINT, before)


def at_every_step(
    command: Command,
    words: Callable[[str], list[object]],
    tracer: Callable[[int], Interrupter],
    check: Callable[[str, int, str, str], None],
    stride: int = 1,
    most: int = 1000,
) -> int:
    """Run once uninterrupted to count the steps, then once for each up to `most`; returns how many were stopped."""
    whole = tracer(0)
    code, _, err = command(words("whole"), whole)
    assert code == 0, err
    assert whole.lines > 5, "it never came to the first step"
    stopped = 0
    for step in range(1, min(whole.lines, most) + 1, stride):
        code, out, err = command(words(f"at{step}"), tracer(step))
        assert code in (0, INTERRUPTED), err
        stopped += code == INTERRUPTED
        check(f"at{step}", code, out, err)
    return stopped


def said(err: str) -> tuple[int, int] | None:
    """How many of how many are saved, as the message says it; None where it says no more than "stopped"."""
    found = re.search(r"^stopped: (?:scores of |.* finished, )?(\d+) of (\d+) \w+ saved", err, re.MULTILINE)
    return (int(found[1]), int(found[2])) if found else None


def closed(err: str) -> bool:
    """Whether it was stopped after its work, while it closed its files, and says no more than that."""
    return err.endswith("\nstopped\n")


def count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


@pytest.mark.parametrize("presses", PRESSES)
def test_generate_says_how_many_replies_are_in_the_run(command, tmp_path, presses):
    (tmp_path / "script.jsonl").write_text('{"reply": "Oh."}\n')
    lines = [{"id": f"d{i}", "turns": [f"Story number {i}."]} for i in range(2)]
    (tmp_path / "talks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ["generate", "--script", "script.jsonl", "--data", "talks.jsonl", "--concurrency", 1, "--out"]
    told = []

    def check(run: str, code: int, out: str, err: str) -> None:
        there = count_lines(tmp_path / run / "responses.jsonl")
        if code:
            assert said(err) == (there, 2) or closed(err)
            told.append(there)
        else:
            assert f"{there} replies, 0 failed" in out

    stopped = at_every_step(
        command, lambda run: [*words, run], lambda at: Interrupter(LOG, "Journal.append", at, presses), check
    )
    assert stopped > 20
    assert {0, 1, 2} >= set(told) >= {1, 2}
    assert (0 in told) == (presses == 2), "asyncio lets the reply be written that is being written"


@pytest.mark.parametrize("presses", PRESSES)
def test_experiment_says_how_many_replies_are_in_its_runs(command, tmp_path, presses):
    (tmp_path / "script.jsonl").write_text('{"reply": "Oh."}\n')
    (tmp_path / "talks.jsonl").write_text('{"id": "d0", "turns": ["It rained."]}\n')
    rows = '[[rows]]\nstrategy = ["zero-shot", "two-stage"]\n'
    (tmp_path / "mine.toml").write_text(f'data = "talks.jsonl"\n{rows}[after]\nscore = false\nreport = false\n')
    words = ["experiment", "mine.toml", "--script", "script.jsonl", "--concurrency", 1, "--out"]
    told = []

    def check(name: str, code: int, out: str, err: str) -> None:
        there = sum(map(count_lines, (tmp_path / name).glob("rows/*/responses.jsonl")))
        if code:
            assert said(err) == (there, 2) or closed(err), err
            told.append(there)
        else:
            assert there == 2

    stopped = at_every_step(
        command, lambda name: [*words, name], lambda at: Interrupter(LOG, "Journal.append", at, presses), check, 2
    )
    assert stopped > 10
    assert {0, 1, 2} >= set(told) >= {1, 2}


@pytest.mark.parametrize("presses", PRESSES)
def test_study_judge_says_how_many_answers_are_in_the_folder(command, tmp_path, presses):
    study = small_study(tmp_path / "study", items=1, aspects=("Empathy",))
    (tmp_path / "script.jsonl").write_text(json.dumps({"reply": json.dumps({"choice": "A"})}) + "\n")
    words = ["study", "judge", "study", "--script", "script.jsonl", "--concurrency", 1, "--name"]

    def check(judge: str, code: int, out: str, err: str) -> None:
        there = count_lines(study.folder / "judges" / judge / "votes.jsonl")
        assert said(err) == (there, 2) or closed(err) if code else there == 2

    assert at_every_step(
        command, lambda judge: [*words, judge], lambda at: Interrupter(LOG, "Journal.append", at, presses), check
    )


def test_knowledge_build_says_how_many_dialogues_are_in_the_file(command, tmp_path):
    words = comet_words(tmp_path, 2)

    def check(name: str, code: int, out: str, err: str) -> None:
        there = count_lines(tmp_path / name) - 1
        if code and not closed(err):
            assert said(err) == (there, 2)
            assert ", 10 answered queries of theirs in the cache" in err
        else:
            assert there == 2

    steps = lambda at: Interrupter(LOG, "KnowledgeWriter.add", at, 1)  # noqa: E731
    assert at_every_step(command, lambda name: [*words, name], steps, check)


class Echo:
    """A COMET that says its event back."""

    events_at_once = 1

    def infer(self, events: Sequence[str], relations: Sequence[str]) -> list[Beams]:
        return [{relation: (Beam(f"{relation} of {event}", -1.0),) for relation in relations} for event in events]

    def fit(self, event: str) -> tuple[str, int]:
        return event, 0


@pytest.mark.usefixtures("command")
def test_what_is_said_to_be_in_the_cache_is_in_its_file(tmp_path):
    files = ("commonsense/cache.py", "commonsense/checked_values.py", "commonsense/entries.py", "commonsense/source.py")
    events, step, told = ["one", "two"], 0, set()
    while 10 not in told:
        step += 1
        path = tmp_path / f"{step}.sqlite"
        source = InferenceSource(Echo, {"comet": "echo"}, InferenceCache(path))  # type: ignore[arg-type]
        sys.settrace(Interrupter(files, "InferenceCache.put", step, 1))
        try:
            source.infer(events)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        kept = source.kept(events)
        with sqlite3.connect(path) as database:
            assert kept == database.execute("SELECT count(*) FROM answers").fetchone()[0], f"step {step}"
        told.add(kept)
    assert told == {0, 5, 10}


def comet_words(folder: Path, dialogues: int) -> list[object]:
    """The command, with a tiny COMET and data of its own."""
    save_tiny(folder / "comet", positions=64)
    lines = [{"id": f"d{i}", "turns": [f"my dog died {i}"]} for i in range(dialogues)]
    (folder / "talks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return ["knowledge", "build", "--data", "talks.jsonl", "--comet", folder / "comet", "--beams", 1, "--out"]


def test_score_says_of_how_many_systems_scores_are_saved(command, tmp_path):
    def words(name: str) -> list[object]:
        runs = [make_run(tmp_path / name / system, {"a": "Oh no.", "b": "Good for you!"}) for system in "xy"]
        return ["score", "--no-bertscore", *runs]

    def check(name: str, code: int, out: str, err: str) -> None:
        files = sorted((tmp_path / name).glob("*/scores.json"))
        assert all(read_scores(file) for file in files)
        assert said(err) == (len(files), 2) if code and "stopped:" in err else len(files) == 2
        assert not list((tmp_path / name).glob("*/.*.part"))

    steps = lambda at: Interrupter(("metrics/scoring.py", "utils/files.py"), "write_scores", at, 1)  # noqa: E731
    assert at_every_step(command, words, steps, check, stride=2)


def test_bench_shows_what_is_in_the_result(command, tmp_path, capsys):
    make_run(tmp_path / "run", {"a": "Oh no.", "b": "Good for you!"})

    def check(name: str, code: int, out: str, err: str) -> None:
        kept = read_result(tmp_path / name)
        assert kept.finished or code
        print_result(kept)
        shown = capsys.readouterr().out
        if not out.startswith(shown):
            assert shown.startswith(out)
            assert closed(err)
            return
        assert f"result: {name}" in out
        assert kept.finished or f"not finished: {kept.stopped or 'the process ended'}" in err

    steps = lambda at: Interrupter(("bench/result.py", "utils/files.py"), "Recording.add", at, 1)  # noqa: E731
    words = ["bench", "score", "--run", "run", "--repeats", 1, "--out"]
    assert at_every_step(command, lambda name: [*words, name], steps, check, stride=2, most=40)


def test_another_ctrl_c_while_files_are_closed_hides_no_count():
    told: list[str] = []
    noted = noting(lambda: "5 of 8 replies saved")
    with pytest.raises(Exit) as ending, resumable(told.append), closing_is_interrupted(), noted:
        raise KeyboardInterrupt
    assert ending.value.exit_code == INTERRUPTED
    assert told == ["stopped: 5 of 8 replies saved", "hint: run the same command again to resume"]


@contextmanager
def closing_is_interrupted() -> Iterator[None]:
    try:
        yield
    finally:
        raise KeyboardInterrupt


@pytest.mark.parametrize("command_of", ["generate", "experiment", "score"])
def test_ctrl_c_held_down_shows_no_traceback(localemp, tmp_path, command_of):
    (tmp_path / "script.jsonl").write_text('{"reply": "Oh.", "seconds": 0.05}\n')
    runs = [make_run(tmp_path / name, {f"d{i}": f"Oh {i}." for i in range(500)}) for name in "xy"]
    words = {
        "generate": ("generate", "--script", "script.jsonl", "--out", "run"),
        "experiment": ("experiment", "smoke", "--script", "script.jsonl", "--out", "run"),
        "score": ("score", "--no-bertscore", *runs),
    }
    process = localemp.start(*words[command_of])
    assert process.stderr is not None
    began = process.stderr.readline() if command_of == "score" else ""
    while command_of != "score" and not list((tmp_path / "run").glob("**/responses.jsonl")):
        assert process.poll() is None, process.communicate()
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(KEY_REPEAT)
    out, err = process.communicate()
    assert process.returncode in (INTERRUPTED, -signal.SIGINT), err
    assert "Traceback" not in began + out + err

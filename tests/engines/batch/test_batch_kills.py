"""Runs by batch that are killed in each state in turn, and taken up by the same command: nothing is paid twice."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hosted import HostedService, Outcome
from patience import patience, wait_until

from localemp.engines.openai.batch.state import read_state
from localemp.runs.bill import Bill

DIALOGUES = 4
Condition = Callable[[], object]


class KilledRun:
    """A run by batch, in a process of its own, against the fake service."""

    def __init__(self, localemp, folder: Path, service: HostedService, strategy: str) -> None:
        self.folder, self.service = folder, service
        words = ("generate", "--batch", "--model", "gpt-4o-mini", "--strategy", strategy, "--limit", DIALOGUES)
        self._command = localemp.command(*words, "--out", folder)
        self._environment = {**os.environ, "OPENAI_BASE_URL": service.url, "OPENAI_API_KEY": "sk-of-a-test-1234"}

    @contextmanager
    def running(self, *words: str) -> Iterator["subprocess.Popen[str]"]:
        """The command, with further words; killed at the end of the block."""
        with subprocess.Popen(
            [*self._command, *words],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def kill_when(self, reached: Condition) -> None:
        """Run until something is so, and kill."""
        with self.running() as process:
            wait_until(reached, process=process)

    def complete(self, process: "subprocess.Popen[str]", code: int = 0) -> str:
        """Let the service answer whatever comes until the command ends with a code; return what it printed."""

        def ended() -> bool:
            self.service.advance()
            return process.poll() is not None

        wait_until(ended, seconds=120)
        told, _ = process.communicate(timeout=patience())
        assert process.returncode == code, told
        return told

    def batches(self) -> list[Path]:
        return [place for place in (self.folder / "batches").glob("localemp-*") if (place / "state.json").exists()]

    def steps(self) -> list[str]:
        return sorted(read_state(place).step for place in self.batches())

    def statuses(self) -> list[str]:
        return sorted(read_state(place).status for place in self.batches())

    def replies(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in (self.folder / "responses.jsonl").read_text("utf-8").splitlines()]

    def bill(self) -> Bill:
        """What the run says that it has cost."""
        found = Bill()
        for reply in self.replies():
            found.take(reply)
        return found

    def asked(self, method: str, path: str) -> int:
        """How many requests of this kind the service has heard."""
        return sum(each.method == method and each.path.startswith(path) for each in self.service.log)


def once_more(count: Callable[[], int]) -> Condition:
    """Whether a count has grown since now."""
    before = count()
    return lambda: count() > before


@pytest.mark.parametrize("strategy", [pytest.param("zero-shot", marks=pytest.mark.slow), "two-stage"])
def test_a_run_that_is_killed_in_each_state_is_taken_up_and_paid_once(localemp, tmp_path, strategy):
    stages = 2 if strategy == "two-stage" else 1
    with HostedService() as service:
        run = KilledRun(localemp, tmp_path / "run", service, strategy)

        def heard(method: str, path: str) -> Condition:
            return once_more(lambda: run.asked(method, path))

        # While requests are collected.
        run.kill_when(lambda: list(run.folder.glob("batches/*/requests.part")))
        assert not service.files.all
        # Before the file is uploaded, and when it is, but the process has not heard of it.
        for after in (False, True):
            service.fail_next("hang", "/v1/files", after=after)
            run.kill_when(heard("POST", "/v1/files"))
            assert run.steps() == ["prepared"]
        assert len(service.files.all) == 1
        # Before the batch is created, and when it is, but the process has not heard of it.
        for after in (False, True):
            service.fail_next("hang", "/v1/batches", after=after)
            run.kill_when(heard("POST", "/v1/batches"))
            assert run.steps() == ["uploaded"]
        assert len(service.batches.all) == 1
        # While it is validated, and while it is in progress.
        run.kill_when(lambda: run.statuses() == ["validating"])
        service.advance()
        service.work(service.batch().id, 2)
        run.kill_when(lambda: run.statuses() == ["in_progress"])
        # When it has ended, before its answers are fetched, and when half of them are.
        service.advance(to="completed")
        service.fail_next("hang", "/v1/files/", "GET")
        run.kill_when(heard("GET", "/v1/files/"))
        assert run.steps() == ["ended"]
        service.fail_next("cut", "/v1/files/", "GET", after=True)
        service.fail_next("hang", "/v1/files/", "GET")
        twice = run.asked("GET", "/v1/files/") + 1
        run.kill_when(lambda: run.asked("GET", "/v1/files/") > twice)
        assert run.steps() == ["ended"]
        if stages == 2:
            # Between the stages, and when the second one is in progress.
            service.fail_next("hang", "/v1/files")
            run.kill_when(heard("POST", "/v1/files"))
            assert run.steps() == ["fetched", "prepared"]
            run.kill_when(lambda: run.steps() == ["created", "fetched"])
        assert not (run.folder / "responses.jsonl").read_text()
        with run.running() as process:
            run.complete(process)
        assert len(run.replies()) == DIALOGUES
        assert all("reply" in reply for reply in run.replies())
        assert len(service.batches.all) == stages
        assert sum(file.purpose == "batch" for file in service.files.all.values()) == stages
        assert service.bill.of("gpt-4o-mini", "batch").requests == DIALOGUES * stages == service.bill.requests
        assert run.bill().cost == pytest.approx(service.bill.total)


def test_a_run_whose_batch_is_cancelled_ends_with_what_is_answered(localemp, tmp_path):
    with HostedService() as service:
        run = KilledRun(localemp, tmp_path / "run", service, "zero-shot")
        with run.running() as process:
            wait_until(lambda: run.statuses() == ["validating"], process=process)
            service.advance()
            service.work(service.batch().id, 3)
            wait_until(lambda: run.statuses() == ["in_progress"], process=process)
            localemp("batches", "cancel", run.folder, env={"OPENAI_API_KEY": "sk-of-a-test-1234"})
            service.advance()
            told, _ = process.communicate(timeout=patience())
        assert process.returncode == 1, told
        assert "was cancelled" in told and "the same command asks for the rest" in told
        assert "3 of 4 replies saved" in told
        with run.running() as process:
            run.complete(process)
        assert len(run.replies()) == DIALOGUES == service.bill.requests


def test_a_failed_line_is_asked_anew_and_each_answer_is_billed_once(localemp, tmp_path):
    asked = []

    def rule(body: dict[str, Any]) -> Outcome | None:
        asked.append(body)
        # The first dialogue's second stage has no text at first.
        return Outcome(text="", finish_reason="length") if len(asked) == DIALOGUES + 1 else None

    with HostedService(rule=rule) as service:
        run = KilledRun(localemp, tmp_path / "run", service, "two-stage")
        with run.running() as process:
            assert "1 failed" in run.complete(process, code=1)
        assert sum("error" in reply for reply in run.replies()) == 1
        with run.running("--retry-errors") as process:
            run.complete(process)
        assert service.bill.requests == 2 * DIALOGUES + 1, "its first stage is not asked again"
        assert run.bill().cost == pytest.approx(service.bill.total)
        assert run.bill().answers == service.bill.requests


def test_ctrl_c_leaves_batches_going_and_says_how_to_go_on(localemp, tmp_path):
    with HostedService() as service:
        run = KilledRun(localemp, tmp_path / "run", service, "zero-shot")
        with run.running() as process:
            wait_until(lambda: run.statuses() == ["validating"], process=process)
            process.send_signal(signal.SIGINT)
            told, _ = process.communicate(timeout=patience())
        assert process.returncode == 130, told
        assert "1 batch goes on at the service: the same command takes it up" in told
        assert f"localemp batches cancel {run.folder}" in told
        assert service.batch().status == "validating"

        environment = {"OPENAI_API_KEY": "sk-of-a-test-1234"}
        service.advance()
        service.work(service.batch().id, 1)
        shown = localemp("batches", "list", run.folder, env=environment)
        assert "in progress" in shown.stdout and "1 of 4" in shown.stdout
        assert (
            json.loads(localemp("batches", "list", run.folder, "--json", env=environment).stdout)[0]["completed"] == 1
        )
        cancelled = localemp("batches", "cancel", run.folder, env=environment)
        assert "1 batch is being cancelled" in cancelled.stdout
        service.advance()

        with run.running() as process:
            run.complete(process)
        assert len(run.replies()) == DIALOGUES
        assert [batch.status for batch in service.batches.all.values()] == ["cancelled", "completed"]
        assert service.bill.requests == DIALOGUES, "what was answered before it was cancelled is used"
        assert "fetched" in localemp("batches", "list", run.folder, env=environment).stdout
        again = localemp("batches", "cancel", run.folder, env=environment)
        assert "nothing to cancel: no batch is under way" in again.stdout

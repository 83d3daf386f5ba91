"""Servers that differ from OpenAI's, and the command `localemp batches`, in this process."""

import asyncio
import json
from typing import Any

import pytest
from batch_engines import MODEL, QUICK, SHORT, answers, ask, batch_engine, texts_of, until
from hosted import HostedService, Limits, ServiceError

from localemp.engines.openai.batch.api import read_batch
from localemp.engines.openai.batch.lines import NotAnsweredError, read_answer
from localemp.engines.openai.batch.service import Timing
from localemp.errors import FatalEngineError
from localemp.protocol.errors import MalformedResponseError, ResponseError, ServerError

ASKED = ["I lost my job.", "I won a race."]


class Changed(HostedService):
    """Changes what the service answers on some paths."""

    def __init__(self, change, **options: Any) -> None:
        super().__init__(**options)
        self.change = change

    def _route(self, method, path, request):
        return self.change(method, path, super()._route(method, path, request))


def test_a_server_that_answers_an_unknown_path_with_200_has_no_api(tmp_path):
    def change(method, path, found):
        return {"error": f"Unexpected endpoint or method. ({method} {path})"} if "batches" in path else found

    with Changed(change) as service, pytest.raises(FatalEngineError, match="has no Batch API"):
        answers(service, tmp_path, ASKED)


def test_a_file_that_is_not_ready_is_waited_for(tmp_path):
    looks = []

    def change(method, path, found):
        if method == "GET" and path.startswith("/v1/files/") and not path.endswith("/content"):
            looks.append(path)
            return found | {"status": "pending" if len(looks) < 4 else "processed"}
        return found

    with Changed(change, pace=QUICK) as service:
        assert len(texts_of(answers(service, tmp_path, ASKED))) == 2
    assert len(looks) == 4


def test_a_server_without_single_files_or_metadata_will_do(tmp_path):
    def change(method, path, found):
        if method == "GET" and path.startswith("/v1/files/") and not path.endswith("/content"):
            raise ServiceError(405, "Method not allowed")
        if path == "/v1/batches" and method == "GET":
            return found | {"data": [each | {"metadata": None} for each in found["data"]]}
        return found

    with Changed(change, pace=QUICK) as service:
        service.fail_next("reset", "/v1/batches", after=True)
        assert len(texts_of(answers(service, tmp_path, ASKED))) == 2
        assert len(service.batches.all) == 1, "it is known by its file"


def test_absent_files_may_be_empty_texts(tmp_path):
    with HostedService(pace=QUICK, absent_file="") as service:
        assert len(texts_of(answers(service, tmp_path, ASKED))) == 2


def test_answers_that_are_named_late_are_waited_for(tmp_path):
    seen = []

    def change(method, path, found):
        if path.startswith("/v1/batches/") and found["status"] == "completed":
            seen.append(path)
            return found | ({"output_file_id": None} if len(seen) < 3 else {})
        return found

    with Changed(change, pace=QUICK) as service:
        assert len(texts_of(answers(service, tmp_path, ASKED))) == 2
        assert service.bill.requests == 2


def test_a_queue_without_room_for_days_ends_the_session(tmp_path):
    timing = Timing(lull=0.05, poll=0.01, longest_poll=0.02, silence=0.1)
    with HostedService(pace=QUICK, limits=Limits(enqueued_tokens=1)) as service:
        [found] = answers(service, tmp_path, ["word " * 50], timing=timing)
    assert isinstance(found, FatalEngineError)
    assert "has no room" in found.message and "Enqueued token limit" in found.message


def test_a_service_that_is_silent_for_days_ends_the_session(tmp_path):
    timing = Timing(lull=0.05, poll=0.01, longest_poll=0.02, silence=0.1)

    async def asked(service: HostedService) -> None:
        engine = batch_engine(service, tmp_path, timing=timing)
        async with engine:
            task = asyncio.create_task(ask(engine, "hello"))
            await until(lambda: service.batches.all)
            service.fail_next("server_error", "/v1/batches/", "GET", times=10_000)
            await until(lambda: "has not answered since" in engine.status() or task.done())
            with pytest.raises(FatalEngineError, match="status 500"):
                await task

    with HostedService() as service:
        asyncio.run(asked(service))
        service.planned.clear()
        service.advance(to="completed")
        assert len(texts_of(answers(service, tmp_path, ["hello"]))) == 1
        assert service.bill.requests == 1


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ({"response": None, "error": {"code": "batch_expired", "message": "x"}}, NotAnsweredError),
        ({"response": None, "error": {"code": "batch_cancelled", "message": "x"}}, NotAnsweredError),
        ({"response": None, "error": None}, NotAnsweredError),
        ({}, NotAnsweredError),
        ([], NotAnsweredError),
        ({"response": {"status_code": 0, "body": None}}, MalformedResponseError),
        ({"response": {"status_code": 200, "body": {"choices": []}}}, MalformedResponseError),
        ({"response": {"status_code": 400, "body": {"error": {"message": "no"}}}}, ServerError),
        ({"response": {"status_code": True, "body": {"error": {"message": "no"}}}}, ServerError),
        ({"response": None, "error": {"code": "request_timeout", "message": "x"}}, ServerError),
        ({"response": None, "error": "no"}, ServerError),
    ],
    ids=lambda value: None if isinstance(value, dict | list) else value.__name__,
)
def test_a_line_without_an_answer_is_the_error_that_it_is(line, kind):
    with pytest.raises(kind):
        read_answer(json.dumps({"custom_id": "a", **line} if isinstance(line, dict) else line).encode())


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 1000, b"\xff", b"1" * 5000], ids=range(5))
def test_a_line_that_is_not_json_is_malformed(content):
    with pytest.raises(ResponseError):
        read_answer(content)


@pytest.mark.parametrize("value", [None, 7, "x" * 500, ["a"], {"a": 1}, True, -1], ids=str)
def test_nothing_that_a_batch_says_is_trusted(value):
    names = ("id", "status", "metadata", "request_counts", "output_file_id", "errors", "created_at", "completed_at")
    for name in names:
        found = read_batch({"id": "batch_1", "status": "completed", name: value})
        assert len(found.id) <= 200 and len(found.status) <= 40
        assert found.total is None and found.output_file in ("", value)


def test_batches_of_a_folder_without_any(localemp, tmp_path):
    (tmp_path / "run").mkdir()
    assert "no batches in" in localemp("batches", "list", "run").stdout
    done = localemp("batches", "cancel", "elsewhere")
    assert done.returncode == 2
    assert "elsewhere is not a folder" in done.stderr


def test_batches_are_listed_from_the_folder_where_no_service_answers(localemp, tmp_path):
    with HostedService(pace=QUICK) as service:
        answers(service, tmp_path / "run", ASKED)
        with HostedService() as other:
            left(other, tmp_path / "run")
    shown = localemp("batches", "list", "run")
    assert shown.returncode == 0
    assert "completed, fetched" in shown.stdout and "2 of 2" in shown.stdout
    assert "validating" in shown.stdout
    assert "no server answers" in shown.stderr
    done = localemp("batches", "cancel", "run")
    assert done.returncode == 1 and "no server answers" in done.stderr


def test_a_batch_that_was_never_heard_of_is_cancelled_by_its_name(localemp, tmp_path):
    with HostedService() as service:
        left(service, tmp_path / "run")
        [state] = (tmp_path / "run").rglob("state.json")
        known = json.loads(state.read_text())
        state.write_text(json.dumps(known | {"step": "uploaded", "batch": "", "status": ""}))
        done = localemp("batches", "cancel", "run", env={"OPENAI_API_KEY": "sk-of-a-test"})
        assert done.returncode == 0, done.stderr
        assert service.batch().status == "cancelling"
        state.write_text("{}")
        shown = localemp("batches", "list", "run", "--base-url", service.url, env={"OPENAI_API_KEY": "sk-of-a-test"})
        assert "cancelling" in shown.stdout


def test_an_engine_does_not_tell_of_the_batches_of_another(tmp_path, caplog):
    caplog.set_level("INFO")
    with HostedService() as service:
        left(service, tmp_path)
        assert "1 batch goes on at the service" in caplog.text
        caplog.clear()

        async def idle() -> None:
            async with batch_engine(service, tmp_path, model="gpt-6-luna"):
                pass

        asyncio.run(idle())
    assert "goes on" not in caplog.text


def test_one_batch_that_is_gone_does_not_keep_others_from_being_cancelled(localemp, tmp_path):
    environment = {"OPENAI_API_KEY": "sk-of-a-test"}
    with HostedService() as service:
        left(service, tmp_path / "run")
        left(service, tmp_path / "run", "another")
        gone, other = service.batches.all.values()
        del service.batches.all[gone.id]
        done = localemp("batches", "cancel", "run", env=environment)
        assert done.returncode == 1 and "status 404" in done.stderr
        assert other.status == "cancelling"


def test_batches_that_have_ended_are_not_said_to_be_cancelled(localemp, tmp_path):
    with HostedService(pace=QUICK) as service:
        answers(service, tmp_path / "run", ASKED)
        done = localemp("batches", "cancel", "run", env={"OPENAI_API_KEY": "sk-of-a-test"})
    assert done.returncode == 0
    assert "nothing to cancel" in done.stdout


def test_without_batch_a_run_says_that_its_batches_are_charged_besides(localemp, tmp_path):
    with HostedService() as service:
        left(service, tmp_path / "run")
        batches = (tmp_path / "run" / "batches").rename(tmp_path / "batches")
        words = ("generate", "--model", MODEL, "--limit", 1, "--out", "run")
        environment = {"OPENAI_BASE_URL": service.url, "OPENAI_API_KEY": "sk-of-a-test"}
        (tmp_path / "run").rmdir()
        assert "--batch is not given" not in localemp(*words, env=environment).stderr
        batches.rename(tmp_path / "run" / "batches")
        told = localemp(*words[:-3], 2, "--out", "run", env=environment).stderr
        assert "--batch is not given" in told and "localemp batches cancel run" in told


def left(service: HostedService, folder, text="hello") -> None:
    """Leave a batch at the service."""
    known = len(service.batches.all)

    async def leave() -> None:
        engine = batch_engine(service, folder, timing=SHORT)
        async with engine:
            task = asyncio.create_task(ask(engine, text))
            await until(lambda: len(service.batches.all) > known and "validating" in engine.status())
            task.cancel()

    asyncio.run(leave())


def test_an_uploaded_file_that_is_gone_is_uploaded_again(tmp_path):
    async def leave(service: HostedService) -> None:
        engine = batch_engine(service, tmp_path)
        async with engine:
            service.fail_next("hang", "/v1/batches")
            task = asyncio.create_task(ask(engine, "hello"))
            await until(lambda: any(each.path == "/v1/batches" and each.method == "POST" for each in service.log))
            task.cancel()

    with HostedService(pace=QUICK) as service:
        asyncio.run(leave(service))
        service.files.all.clear()
        assert len(texts_of(answers(service, tmp_path, ["hello"]))) == 1
        assert service.bill.requests == 1


def test_no_credit_ends_the_session_at_once(tmp_path):
    def change(method, path, found):
        if method == "POST" and path == "/v1/batches":
            raise ServiceError(429, "You exceeded your current quota.", code="insufficient_quota")
        return found

    with Changed(change, pace=QUICK) as service:
        found = answers(service, tmp_path, ASKED)
    assert all(isinstance(each, FatalEngineError) for each in found)
    assert "quota" in found[0].message


def test_nothing_is_sent_once_a_batch_was_refused(tmp_path):
    async def asked(service: HostedService) -> None:
        engine = batch_engine(service, tmp_path)
        async with engine:
            first = asyncio.create_task(ask(engine, "one"))
            await until(lambda: service.batches.all)
            second = asyncio.create_task(ask(engine, "two"))  # collected now
            await until(lambda: len(list(tmp_path.glob("batches/*/requests.part"))) == 1)
            service.fail(service.batch().id, "billing_hard_limit_reached", "No.")
            for task in (first, second):
                with pytest.raises(FatalEngineError, match="No"):
                    await task
            with pytest.raises(FatalEngineError, match="No"):
                await ask(engine, "three")
        assert len(service.batches.all) == 1
        assert not list(tmp_path.glob("batches/*/requests.part"))

    with HostedService() as service:
        asyncio.run(asked(service))

"""Services and folders that mean harm, or are broken: nothing is paid twice, nothing leaks, nothing else is touched."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from batch_engines import QUICK, answers, ask, batch_engine, errors_of, texts_of, until
from hosted import HostedService, Pace

from localemp.engines.openai.batch.api import read_batch
from localemp.engines.openai.batch.lines import texts_and_limit
from localemp.engines.openai.batch.stored_batch import add_reported
from localemp.errors import FatalEngineError, RunError

ASKED = ["I lost my job.", "I won a race."]
KEY = "a-key-of-my-own-0123456789"


class Changed(HostedService):
    """Changes what the service answers."""

    def __init__(self, change, **options: Any) -> None:
        super().__init__(**options)
        self.change = change

    def _route(self, method, path, request):
        return self.change(method, path, super()._route(method, path, request))


def of_batches(**changes: Any):
    """A change of what the service says about a batch that has ended."""

    def change(method, path, found):
        ended = isinstance(found, dict) and found.get("object") == "batch" and found["status"] == "completed"
        return found | changes if ended else found

    return change


def leave(service: HostedService, folder: Path) -> Path:
    """Leave a batch at the service; return the file of its state."""

    async def asked() -> None:
        async with batch_engine(service, folder) as engine:
            tasks = [asyncio.create_task(ask(engine, text)) for text in ASKED]
            await until(lambda: service.batches.all and "validating" in engine.status())
            for task in tasks:
                task.cancel()

    asyncio.run(asked())
    [state] = folder.rglob("state.json")
    return state


def contents(change):
    """A change of the files of answers."""
    return lambda method, path, found: change(found) if path.endswith("/content") else found


@pytest.mark.parametrize(
    "change",
    [
        of_batches(output_file_id=None, request_counts=None),
        of_batches(output_file_id=None),
        of_batches(output_file_id="../../files"),
        of_batches(output_file_id=".."),
        contents(lambda _: b""),
        contents(lambda found: found.replace(b'"custom_id"', b'"id"')),
    ],
    ids=["no file, no counts", "no file", "a path", "the folder above", "empty", "no ids"],
)
def test_answers_that_are_billed_and_cannot_be_had_are_not_asked_again(tmp_path, change):
    with Changed(change, pace=QUICK) as service:
        found = answers(service, tmp_path, ASKED)
        assert all(isinstance(each, FatalEngineError) for each in found)
        assert "paid again" in found[0].hint
        assert len(service.batches.all) == 1
        service.change = lambda method, path, found: found
        assert len(texts_of(answers(service, tmp_path, ASKED))) == 2
        assert service.bill.requests == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"batch": ""},
        {"batch": ".."},
        {"batch": "\ud800/\x1b[31m"},
        {"step": "uploaded", "file": ""},
        {"created": 10**30},
        {"completed": -(10**400)},
        {"prepared": 1e308},
    ],
    ids=["no id", "a path", "no text", "no file", "late", "huge", "later"],
)
def test_a_state_that_makes_no_sense_is_damaged_and_the_batch_is_found(localemp, tmp_path, changes):
    with HostedService() as service:
        state = leave(service, tmp_path / "run")
        state.write_text(json.dumps(json.loads(state.read_text()) | changes))
        shown = localemp("batches", "list", "run", "--base-url", service.url, env={"OPENAI_API_KEY": KEY})
        assert shown.returncode == 0 and "validating" in shown.stdout, shown.stderr
        service.advance(to="completed")
        assert len(texts_of(answers(service, tmp_path / "run", ASKED))) == 2
        assert service.bill.requests == 2


@pytest.mark.parametrize("ordering", ["oldest first", "no has_more", "no times"])
def test_a_batch_is_found_in_any_kind_of_list(tmp_path, ordering):
    def change(method, path, found):
        if method == "GET" and path == "/v1/batches":
            if ordering == "no has_more":
                del found["has_more"]
            for each in found["data"] if ordering == "no times" else ():
                del each["created_at"]
        return found

    class Listed(Changed):
        def _route(self, method, path, request):
            if ordering == "oldest first":
                request.query["order"] = "asc"
            return super()._route(method, path, request)

    with Listed(change, pace=Pace(0.05, 0, 0, 0)) as service:

        def others(number: int, created: float) -> None:
            for _ in range(number):
                file = service.files.add("other.jsonl", "batch", b"{}", created)
                told = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
                service.batches.create(told, created)

        others(150 if ordering == "oldest first" else 0, 1000.0)
        state = leave(service, tmp_path)
        others(0 if ordering == "oldest first" else 150, service.clock())
        state.unlink()
        service.advance(to="completed")
        assert len(texts_of(answers(service, tmp_path, ASKED))) == 2
        assert service.bill.requests == 2


def test_a_key_that_the_service_quotes_is_masked(tmp_path):
    def in_lines(found):
        wrong = {"status_code": 400, "body": {"error": {"message": f"wrong key: {KEY}"}}}
        return b"\n".join(json.dumps(json.loads(line) | {"response": wrong}).encode() for line in found.splitlines())

    def in_problems(method, path, found):
        said = {"code": "invalid", "message": f"wrong key: {KEY}", "line": None}
        status = {"status": "failed", "errors": {"data": [said]}}
        return found | status if isinstance(found, dict) and found.get("object") == "batch" else found

    for number, change in enumerate([contents(in_lines), in_problems]):
        folder = tmp_path / str(number)
        with Changed(change, pace=QUICK) as service:
            found = errors_of(answers(service, folder, ASKED, api_key=KEY))
        assert len(found) == 2
        assert all("wrong key: ***" in each.message and KEY not in str(each.__cause__) for each in found)
        assert all(KEY not in state.read_text() for state in folder.rglob("state.json"))


def test_no_key_is_sent_to_a_server_that_only_a_folder_names(localemp, tmp_path):
    with HostedService() as service:
        state = leave(service, tmp_path / "run")
    state.write_text(json.dumps(json.loads(state.read_text()) | {"server": "http://stranger.invalid/v1"}))
    shown = localemp("batches", "list", "run", env={"OPENAI_API_KEY": KEY})
    assert shown.returncode == 0 and "your key is not sent there" in shown.stderr
    done = localemp("batches", "cancel", "run", env={"OPENAI_API_KEY": KEY})
    assert done.returncode == 1 and "--base-url" in done.stderr
    done = localemp("batches", "cancel", "run", "--base-url", "http://127.0.0.1:9/v1", env={"OPENAI_API_KEY": KEY})
    assert done.returncode == 1 and "no server answers" in done.stderr


def test_a_link_in_a_folder_does_not_lead_answers_elsewhere(tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("precious")
    with HostedService() as service:
        state = leave(service, tmp_path / "run")
        (state.parent / "output.part").symlink_to(mine)
        service.advance(to="completed")
        assert len(texts_of(answers(service, tmp_path / "run", ASKED))) == 2
        assert mine.read_text() == "precious"
        (state.parent / "reported").symlink_to(mine)
        with pytest.raises(RunError, match="cannot be written"):
            add_reported(state.parent, ["a"])
        [lock] = state.parent.parent.glob(".*.lock")
        lock.unlink()
        lock.symlink_to(tmp_path / "made")
        with pytest.raises(RunError, match="cannot be written"):
            answers(service, tmp_path / "run", ASKED)
    assert mine.read_text() == "precious" and not (tmp_path / "made").exists()


def test_a_disk_that_is_full_while_answers_are_fetched_loses_nothing(tmp_path):
    with HostedService() as service:
        state = leave(service, tmp_path)
        service.advance(to="completed")
        (state.parent / "output.jsonl").mkdir()  # as good as full: the file cannot be there
        assert "cannot be written" in str(answers(service, tmp_path, ASKED)[0])
        (state.parent / "output.jsonl").rmdir()
        assert len(texts_of(answers(service, tmp_path, ASKED))) == 2
        assert service.bill.requests == 2


@pytest.mark.parametrize("kind", ["server_error", "rate_limit", "reset", "cut"])
@pytest.mark.parametrize("path", ["/v1/batches", "/v1/files"])
def test_a_service_that_is_busy_at_the_start_is_asked_again(tmp_path, path, kind):
    with HostedService(pace=QUICK) as service:
        service.fail_next(kind, path, "GET", times=2)
        assert len(texts_of(answers(service, tmp_path, ASKED))) == 2
        assert sum(each.path == "/v1/files" and each.method == "GET" for each in service.log) >= 1


def test_a_service_that_stays_broken_is_given_up_before_anything_is_asked(tmp_path):
    with HostedService(pace=QUICK) as service:
        service.fail_next("server_error", "/v1/batches", "GET", times=1000)
        with pytest.raises(FatalEngineError, match="status 500"):
            answers(service, tmp_path, ASKED)
        assert not any(each.method == "POST" for each in service.log)


@pytest.mark.parametrize("odd", [None, 7, "x", [1], {"a": 1}], ids=repr)
def test_a_request_that_was_edited_has_the_texts_that_make_sense(odd):
    body = {"messages": odd, "max_tokens": odd, "n": odd}
    texts, most = texts_and_limit(json.dumps({"custom_id": "a", "body": body}).encode())
    assert texts == [] and most in (0, 49)
    assert texts_and_limit(json.dumps({"custom_id": "a", "body": odd}).encode()) == (["None"], 0)


@pytest.mark.parametrize("id", [".", "..", "a\nb", "\x1b", "x" * 201, 7, None, ["x"]], ids=repr)
def test_what_is_no_id_is_none(id):
    assert read_batch({"id": id}).id == ""

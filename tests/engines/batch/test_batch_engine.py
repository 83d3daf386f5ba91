"""The engine of the Batch API, in this process, against the fake of a hosted service."""

import asyncio
import json
from pathlib import Path

import pytest
from batch_engines import (
    MODEL,
    QUICK,
    SHORT,
    answers,
    ask,
    ask_all,
    batch_engine,
    errors_of,
    texts_of,
    until,
    while_asking,
)
from hosted import HostedService, Limits, Outcome, Service, ServiceError, Shares
from hosted.batches import Pace
from hosted.faults import Kind

import localemp
from localemp.engines.base import Completion
from localemp.engines.openai.batch.engine import OpenAIBatchEngine
from localemp.engines.openai.batch.lines import AnswerFile
from localemp.engines.openai.batch.queue import BatchLimits
from localemp.errors import EngineError, FatalEngineError, RunError

ASKED = [f"I lost my job today, for the {number}th time." for number in range(12)]


def only_batch_folder(folder: Path) -> Path:
    [found] = [each for each in (folder / "batches").iterdir() if each.is_dir()]
    return found


def failing(service: HostedService, code: str, line: int | None = None):
    """A step that lets the first batch fail when it is there."""

    def step() -> bool:
        if not service.batches.all:
            return False
        with service.lock:
            service.fail(service.batch().id, code, "It is wrong.")
            service.batch().errors[0]["line"] = line
        return True

    return step


def finishing(service: HostedService, number: int):
    """A step that completes a batch, by its number, when it is there."""

    def step() -> bool:
        return len(service.batches.all) == number and bool(service.advance(to="completed"))

    return step


def test_answers_come_by_batch_in_its_tier_and_are_found_again(tmp_path):
    with HostedService(pace=QUICK) as service:
        first = answers(service, tmp_path, ASKED)
        again = answers(service, tmp_path, ASKED)
        assert texts_of(first) == texts_of(again)
        assert {each.tier for each in first} == {"batch"}
        assert not service.completions_of(), "nothing is asked one by one"
        assert len(service.batches.all) == 1
        assert service.bill.of(MODEL, "batch").requests == len(ASKED) == service.bill.requests


def test_each_answer_is_that_of_its_own_request(tmp_path):
    rule = lambda body: f"about {body['messages'][-1]['content']}"  # noqa: E731
    with HostedService(pace=QUICK, rule=rule, seed=3) as service:
        assert texts_of(answers(service, tmp_path, ASKED)) == [f"about {text}" for text in ASKED]


def test_equal_requests_have_an_answer_each(tmp_path):
    with HostedService(pace=QUICK) as service:
        found = answers(service, tmp_path, ["the same"] * 3)
        assert len(texts_of(found)) == 3
        assert service.bill.requests == 3
        assert len(answers(service, tmp_path, ["the same"] * 4)) == 4
        assert service.bill.requests == 4, "only the fourth is new"


def test_what_is_full_becomes_a_batch(tmp_path):
    with HostedService(pace=QUICK) as service:
        assert len(texts_of(answers(service, tmp_path, ASKED, limits=BatchLimits(requests=5), concurrency=50))) == 12
        assert sorted(batch.total for batch in service.batches.all.values()) == [2, 5, 5]
    with HostedService(pace=QUICK) as service:
        limits = BatchLimits(size=2000)
        assert len(texts_of(answers(service, tmp_path / "other", ASKED, limits=limits))) == 12
        uploaded = [file for file in service.files.all.values() if file.purpose == "batch"]
        assert len(uploaded) > 1
        assert all(len(file.content) <= limits.size for file in uploaded)


def test_a_request_longer_than_a_file_fails_alone(tmp_path):
    with HostedService(pace=QUICK) as service:
        found = answers(service, tmp_path, ["short", "long" * 1000], limits=BatchLimits(size=2000))
        assert isinstance(found[0], Completion)
        assert "too long for a batch" in str(found[1])


def test_a_refused_parameter_is_dropped_in_a_second_batch_and_noted(tmp_path):
    async def asked(service: HostedService) -> list[Completion]:
        async with batch_engine(service, tmp_path, model="gpt-5") as engine:
            return await asyncio.gather(*(ask(engine, text, max_tokens=2000) for text in ASKED[:3]))

    with HostedService(pace=QUICK) as service:
        found = asyncio.run(asked(service))
        assert all(any("max_completion_tokens" in note for note in each.notes) for each in found)
        made = len(service.batches.all)
        assert made > 1
        assert texts_of(asyncio.run(asked(service))) == texts_of(found)
        assert len(service.batches.all) == made, "the refusals are remembered, too"
        assert service.bill.of("gpt-5", "batch").requests == 3


def test_lines_that_fail_are_asked_again_and_paid_once(tmp_path):
    with HostedService(pace=QUICK, line_errors=0.2, seed=2) as service:
        found = answers(service, tmp_path, ASKED)
        assert len(texts_of(found)) == len(ASKED)
        assert len(service.batches.all) > 1
        assert service.bill.requests == len(ASKED)


def test_lines_that_never_succeed_fail_after_three_batches(tmp_path):
    with HostedService(pace=QUICK, line_errors=1.0) as service:
        found = answers(service, tmp_path, ASKED[:4])
        assert [type(each) for each in found] == [EngineError] * 4
        assert all("3 batches" in each.message and "--retry-errors" in each.hint for each in errors_of(found))
        assert len(service.batches.all) == 3


def test_errors_of_lines_are_those_of_single_requests(tmp_path):
    error = ServiceError(400, "Something is wrong with this.", code="invalid_request_error")

    def rule(body):
        text = body["messages"][-1]["content"]
        return {"wrong": Outcome(error=error), "silent": Outcome(text="", finish_reason="length")}.get(text)

    with HostedService(pace=QUICK, rule=rule) as service:
        found = answers(service, tmp_path, ["wrong", "silent", "fine"])
        assert "Something is wrong with this." in found[0].message
        assert "no text within the token limit" in found[1].message
        assert isinstance(found[2], Completion)
        paid = service.bill.requests
        answers(service, tmp_path, ["wrong", "silent", "fine"])
        assert len(service.batches.all) == 2, "failures that were passed on are asked anew"
        assert service.bill.requests == paid + 1, "only what has no text is paid again"


def test_an_expired_batch_is_asked_for_the_rest(tmp_path):
    with HostedService() as service:

        def expired() -> bool:
            if not service.batches.all:
                return False
            service.advance()
            service.work(service.batch().id, 5)
            service.expire(service.batch().id)
            return True

        steps = expired, finishing(service, 2)
        found = asyncio.run(while_asking(batch_engine(service, tmp_path), ASKED, service, *steps))
        assert len(texts_of(found)) == len(ASKED)
        assert [batch.total for batch in service.batches.all.values()] == [12, 7]
        assert service.bill.requests == len(ASKED)


def test_a_batch_that_always_expires_fails_its_requests(tmp_path):
    with HostedService() as service:

        def expire(number: int):
            def step() -> bool:
                if len(service.batches.all) < number:
                    return False
                service.expire(service.batch().id)
                return True

            return step

        found = asyncio.run(
            while_asking(batch_engine(service, tmp_path), ASKED[:2], service, expire(1), expire(2), expire(3))
        )
        assert all("the batch expired" in each.message for each in found)
        assert not service.bill.requests


def test_cancelling_hands_out_what_is_answered_and_ends_the_session(tmp_path):
    with HostedService() as service:

        def polled() -> bool:
            return sum(each.path == f"/v1/batches/{service.batch().id}" for each in service.log) > 1

        def cancel() -> bool:
            service.advance()
            service.work(service.batch().id, 5)
            service.batches.cancel(service.batch().id, service.clock())
            service.advance()
            return True

        def created() -> bool:
            return bool(service.batches.all)

        found = asyncio.run(while_asking(batch_engine(service, tmp_path), ASKED, service, created, polled, cancel))
        assert sum(isinstance(each, Completion) for each in found) == 5
        fatal = [each for each in found if isinstance(each, FatalEngineError)]
        assert len(fatal) == 7
        assert "cancelled" in fatal[0].message and "kept" in fatal[0].hint

        again = asyncio.run(while_asking(batch_engine(service, tmp_path), ASKED, service, finishing(service, 2)))
        assert len(texts_of(again)) == 12
        assert service.bill.requests == 12, "what was answered before it was cancelled is used"


@pytest.mark.parametrize("path", ["/v1/files", "/v1/batches"])
@pytest.mark.parametrize("after", [False, True], ids=["unheard", "answer_lost"])
def test_no_request_is_asked_twice_when_a_step_fails(tmp_path, path, after):
    kinds: list[Kind] = ["reset", "cut", "server_error", "rate_limit"]
    for kind in kinds[: 2 if after else 4]:
        with HostedService(pace=QUICK) as service:
            service.fail_next(kind, path, after=after)
            assert len(texts_of(answers(service, tmp_path / kind, ASKED))) == 12
            assert service.bill.requests == 12, kind
            assert len(service.batches.all) == 1
            assert sum(file.purpose == "batch" for file in service.files.all.values()) == 1


def test_polling_and_fetching_go_on_after_failures(tmp_path):
    kinds: list[Kind] = ["reset", "cut", "server_error", "rate_limit"]
    with HostedService(pace=QUICK) as service:
        for kind in kinds:
            service.fail_next(kind, "/v1/batches/", "GET", times=2)
            service.fail_next(kind, "/v1/files/", "GET", times=2)
        assert len(texts_of(answers(service, tmp_path, ASKED))) == 12
        assert not service.planned, "all of them came"
        assert service.bill.requests == 12


def test_no_room_in_the_queue_waits_or_makes_smaller_batches(tmp_path):
    long = [f"{number}: " + "word " * 200 for number in range(40)]
    with HostedService(pace=QUICK, limits=Limits(enqueued_tokens=3000)) as service:
        assert len(texts_of(answers(service, tmp_path, long))) == 40
        assert service.bill.requests == 40
        ended = [batch.status for batch in service.batches.all.values()]
        assert ended.count("failed") < 15, "the tries are few"


def test_a_request_that_never_fits_the_queue_waits_for_others_alone(tmp_path):
    with HostedService(pace=QUICK, limits=Limits(enqueued_tokens=5)) as service:

        async def asked() -> str:
            engine = batch_engine(service, tmp_path)
            async with engine:
                task = asyncio.create_task(ask(engine, "word " * 100))
                await until(lambda: len(service.batches.all) > 2)
                await until(lambda: "room" in engine.status())
                task.cancel()
                return engine.status()

        assert asyncio.run(asked()) == "batch: waiting for room in the service's queue"


def test_a_batch_that_the_service_refuses_stops_with_its_reason(tmp_path):
    with HostedService() as service:
        failed = failing(service, "billing_hard_limit_reached")
        found = asyncio.run(while_asking(batch_engine(service, tmp_path), ASKED, service, failed))
        assert all(isinstance(each, FatalEngineError) for each in found)
        assert "It is wrong." in found[0].message
        again = asyncio.run(while_asking(batch_engine(service, tmp_path), ASKED, service, finishing(service, 2)))
        assert len(texts_of(again)) == 12, "it is made anew when it is asked again"


def test_a_request_that_makes_its_batch_fail_fails_alone(tmp_path):
    with HostedService() as service:
        steps = failing(service, "invalid_request", line=3), finishing(service, 2)
        found = asyncio.run(while_asking(batch_engine(service, tmp_path), ASKED, service, *steps))
        assert [place for place, each in enumerate(found) if isinstance(each, EngineError)] == [2]
        assert "It is wrong." in found[2].message
        assert service.bill.requests == 11


def test_a_batch_that_fails_for_no_reason_of_ours_is_made_again(tmp_path):
    with HostedService() as service:
        steps = failing(service, "server_error"), finishing(service, 2)
        found = asyncio.run(while_asking(batch_engine(service, tmp_path), ASKED, service, *steps))
        assert len(texts_of(found)) == 12


@pytest.mark.parametrize("path", ["/v1/files", "/v1/batches"])
def test_a_server_without_the_api_is_refused_before_anything_is_asked(tmp_path, path):
    class Without(HostedService):
        def _route(self, method, asked, request):
            if asked.startswith(path):
                raise ServiceError(404, f"Invalid URL ({method} {asked})")
            return super()._route(method, asked, request)

    with Without(pace=QUICK) as service:
        with pytest.raises(FatalEngineError, match="has no Batch API") as caught:
            answers(service, tmp_path, ASKED)
        assert "--batch" in caught.value.hint
        assert not any(each.method == "POST" for each in service.log)
        assert not (tmp_path / "batches").exists()


def test_a_wrong_key_is_refused_before_anything_is_asked(tmp_path):
    with HostedService(keys={"sk-right"}) as service, pytest.raises(FatalEngineError, match="rejects the key"):
        answers(service, tmp_path, ASKED, api_key="sk-wrong")


def test_a_second_process_does_not_take_the_same_batches(tmp_path):
    async def both(service: Service) -> None:
        async with batch_engine(service, tmp_path):
            with pytest.raises(RunError, match="another localemp"):
                await batch_engine(service, tmp_path).start()
            async with batch_engine(service, tmp_path, model="gpt-4o"):
                pass  # another model has batches of its own

    with HostedService(pace=QUICK) as service:
        asyncio.run(both(service))
        assert len(texts_of(answers(service, tmp_path, ASKED[:1]))) == 1


def test_the_status_says_where_the_batch_stands(tmp_path):
    seen = set()

    async def asked(service: HostedService) -> None:
        engine = batch_engine(service, tmp_path)
        async with engine:
            tasks = [asyncio.create_task(ask(engine, text)) for text in ASKED]
            await until(lambda: service.batches.all)
            service.advance()
            service.work(service.batch().id, 4)
            await until(lambda: "4 of 12" in engine.status())
            seen.add(engine.status())
            service.advance(to="completed")
            await asyncio.gather(*tasks)
            assert engine.status() == ""

    with HostedService() as service:
        asyncio.run(asked(service))
    [status] = seen
    assert status.startswith("batch: in progress, 4 of 12, since ")


def test_nothing_on_disk_has_the_key_or_the_address_with_a_password(tmp_path):
    with HostedService(pace=QUICK, keys=None) as service:
        url = service.url.replace("http://", "http://me:hidden@")
        engine = OpenAIBatchEngine(MODEL, url, folder=tmp_path, api_key="sk-of-a-test-1234", timing=SHORT)
        assert len(texts_of(asyncio.run(ask_all(engine, ASKED)))) == 12
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 3
    for path in files:
        assert b"sk-of-a" not in path.read_bytes() and b"hidden" not in path.read_bytes(), path


def test_answers_in_odd_files_are_found_and_the_rest_is_asked_again(tmp_path, caplog):
    class Odd(HostedService):
        """Adds to the file of answers what no service should send."""

        def _route(self, method, path, request):
            found = super()._route(method, path, request)
            if path.endswith("/content") and "-odd-" not in path:
                lines = found.splitlines()
                stranger = json.loads(lines[0]) | {"custom_id": "a-stranger"}
                odd = [b"", lines[0], b"{broken", json.dumps(stranger).encode(), b"[]", b"\xff\xfe"]
                return b"\n".join([*odd[:1], *lines[1:], *odd[1:]]) + b'\n{"custom_id": "cut'
            return found

    with Odd(pace=QUICK) as service:
        assert len(texts_of(answers(service, tmp_path, ASKED))) == 12
        assert len(service.batches.all) == 1
    [warning] = [each.message for each in caplog.records if "left out" in each.message]
    assert "a-stranger" in warning and "5 lines" in warning


def test_a_file_of_answers_that_is_short_is_fetched_again(tmp_path):
    class Short(HostedService):
        fetched = 0

        def _route(self, method, path, request):
            found = super()._route(method, path, request)
            if path.endswith("/content"):
                self.fetched += 1
                if self.fetched == 1:
                    return found[: len(found) // 2]
            return found

    with Short(pace=QUICK) as service:
        assert len(texts_of(answers(service, tmp_path, ASKED))) == 12
        assert service.fetched == 2
        assert service.bill.requests == 12


def test_a_line_of_gigabytes_is_not_read_into_memory(tmp_path):
    path = tmp_path / "answers.jsonl"
    good = json.dumps({"custom_id": "a", "response": {"status_code": 200, "body": {}}}).encode()
    path.write_bytes(good + b"\n" + b"x" * 300_000 + b"\n" + good.replace(b'"a"', b'"b"') + b"\n")
    found = AnswerFile.read(path, {"a", "b"}, longest=1000)
    assert set(found.places) == {"a", "b"}
    assert found.odd == ["line 2: more than 0.000953674 MiB"]
    assert found.places["b"].read() == good.replace(b'"a"', b'"b"') + b"\n"


def test_a_batch_that_the_service_has_lost_is_named(tmp_path):
    async def lose(service: HostedService) -> None:
        engine = batch_engine(service, tmp_path)
        async with engine:
            tasks = [asyncio.create_task(ask(engine, text)) for text in ASKED]
            await until(lambda: service.batches.all)
            service.batches.all.clear()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(each, FatalEngineError) for each in found)
            assert "does not have the batch" in found[0].message
            assert str(tmp_path) in found[0].hint

    with HostedService() as service:
        asyncio.run(lose(service))


@pytest.mark.parametrize("damage", ["", "{", '{"step": 7}', None], ids=["empty", "broken", "other", "missing"])
@pytest.mark.parametrize("step", ["created", "fetched"])
def test_a_damaged_state_is_recovered_from_the_service(tmp_path, damage, step, caplog):
    with HostedService(pace=QUICK if step == "fetched" else None) as service:
        if step == "fetched":
            answers(service, tmp_path, ASKED)
        else:

            async def leave() -> None:
                engine = batch_engine(service, tmp_path)
                async with engine:
                    task = asyncio.create_task(ask_all_open(engine))
                    await until(lambda: service.batches.all)
                    task.cancel()

            async def ask_all_open(engine) -> None:
                await asyncio.gather(*(ask(engine, text) for text in ASKED))

            asyncio.run(leave())
            service.advance(to="completed")
        state = only_batch_folder(tmp_path) / "state.json"
        if damage is None:
            state.unlink()
        else:
            state.write_text(damage)
        assert len(texts_of(answers(service, tmp_path, ASKED))) == 12
        assert len(service.batches.all) == 1
        assert service.bill.requests == 12
    assert any("looked for by its name" in each.message for each in caplog.records)


def test_damaged_requests_are_an_error_and_not_paid_again(tmp_path):
    async def leave(service: HostedService) -> None:
        engine = batch_engine(service, tmp_path)
        async with engine:
            task = asyncio.create_task(ask(engine, "hello"))
            await until(lambda: service.batches.all)
            task.cancel()

    with HostedService() as service:
        asyncio.run(leave(service))
        requests = only_batch_folder(tmp_path) / "requests.jsonl"
        requests.write_bytes(requests.read_bytes()[:50])
        with pytest.raises(RunError, match=r"requests\.jsonl, line 1"):
            answers(service, tmp_path, ["hello"])


def test_old_batches_of_others_are_passed_over_page_by_page(tmp_path):
    with HostedService(pace=Pace(0, 0, 0, 0)) as service:
        for number in range(150):
            file = service.files.add(f"other-{number}.jsonl", "batch", b"{}", service.clock())
            told = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
            service.batches.create(told, service.clock())

        async def leave() -> None:
            engine = batch_engine(service, tmp_path)
            async with engine:
                service.fail_next("hang", "/v1/batches", after=True)
                task = asyncio.create_task(ask(engine, "hello"))
                await until(lambda: len(service.batches.all) == 151)
                task.cancel()

        asyncio.run(leave())
        for number in range(150):
            file = service.files.add(f"later-{number}.jsonl", "batch", b"{}", service.clock())
            told = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
            service.batches.create(told, service.clock())
        assert len(texts_of(answers(service, tmp_path, ["hello"]))) == 1
        assert len(service.batches.all) == 301
        assert service.bill.requests == 1
        assert sum(each.path == "/v1/batches" and each.method == "GET" for each in service.log) >= 4


def test_refusals_are_passed_on_and_asked_anew(tmp_path):
    with HostedService(pace=QUICK, shares=Shares(filtered=1.0)) as service:
        first = answers(service, tmp_path, ["hello"])
        assert len(errors_of(first)) == 1
        answers(service, tmp_path, ["hello"])
        assert len(service.batches.all) == 2


@pytest.mark.parametrize("effort", ["none", "low"])
def test_what_a_model_of_openai_refuses_is_known_behind_a_proxy_too(tmp_path, monkeypatch, effort):
    with HostedService(pace=QUICK) as service:
        monkeypatch.setenv("OPENAI_BASE_URL", service.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-a-test")
        config = {"model": "gpt-6.1-terra", "reasoning_effort": effort, "data": "samples", "limit": 2, "batch": True}
        result = localemp.generate(**config, out=tmp_path / "run")
    assert len(result.answered) == 2
    assert [len(batch.bad) for batch in service.batches.all.values()] == [0], "no batch is lost by a refusal"

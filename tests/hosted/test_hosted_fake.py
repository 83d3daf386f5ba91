"""The fake of a hosted service, driven by OpenAI's own client."""

import json
from typing import Any

import openai
import pytest

from hosted import REFUSAL, Faults, HostedProcess, HostedService, Limits, Outcome, Shares, content_filtered, duration


def client(service: HostedService | HostedProcess, key: str = "sk-fake", timeout: float = 60) -> openai.OpenAI:
    return openai.OpenAI(base_url=service.url, api_key=key, max_retries=0, timeout=timeout)


def ask(service: HostedService | HostedProcess, text: str = "I lost my job.", **told: Any) -> Any:
    told = {"model": "gpt-4o-mini", "max_tokens": 50, **told}
    return client(service).chat.completions.create(messages=[{"role": "user", "content": text}], **told)


def lines(*texts: str, model: str = "gpt-4o-mini") -> bytes:
    requests = [
        {
            "custom_id": text,
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 50},
        }
        for text in texts
    ]
    return "".join(json.dumps(each) + "\n" for each in requests).encode()


def start_batch(service: HostedService | HostedProcess, content: bytes, **told: Any) -> Any:
    api = client(service)
    file = api.files.create(file=("requests.jsonl", content), purpose="batch")
    return api.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"run": "1"}, **told
    )


def read(service: HostedService | HostedProcess, id: str | None) -> list[Any]:
    assert id is not None
    return [json.loads(line) for line in client(service).files.content(id).text.splitlines()]


class Clock:
    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


def test_an_answer_has_usage_a_tier_and_a_price():
    with HostedService() as service:
        answer = ask(service)
        assert answer.choices[0].message.content and answer.service_tier == "default"
        usage = answer.usage
        line = service.bill.of("gpt-4o-mini")
        assert line.requests == 1
        assert line.dollars == pytest.approx((usage.prompt_tokens * 0.15 + usage.completion_tokens * 0.6) / 1e6)
        assert ask(service).choices[0].message.content == answer.choices[0].message.content
        assert service.bill.requests == 2  # repeated requests are charged again


def test_long_prompts_are_cached_and_cheaper():
    with HostedService() as service:
        first, second = (ask(service, "word " * 1000 + end) for end in ("one", "two"))
        assert first.usage.prompt_tokens_details.cached_tokens == 0
        assert second.usage.prompt_tokens_details.cached_tokens == 1152
        costs = [each.dollars for each in service.completions_of()]
        assert costs[0] - costs[1] == pytest.approx(1152 * 0.075 / 1e6)


def test_limits_are_told_and_held():
    clock = Clock()
    with HostedService(limits=Limits(requests=2, tokens=1000), clock=clock) as service:
        api = client(service).chat.completions.with_raw_response
        messages: Any = [{"role": "user", "content": "Hello."}]
        told = api.create(model="gpt-4o-mini", messages=messages, max_tokens=100).headers
        assert told["x-ratelimit-limit-requests"] == "2" and told["x-ratelimit-remaining-requests"] == "1"
        assert told["x-ratelimit-reset-requests"] == "30s" and told["x-ratelimit-reset-tokens"] == "6s"
        assert told["x-ratelimit-remaining-tokens"] == "900"
        ask(service)
        with pytest.raises(openai.RateLimitError, match=r"Limit 2, Used 2, Requested 1.* again in 30s") as error:
            ask(service)
        assert error.value.response.headers["retry-after"] == "30"
        clock.now += 30
        ask(service)
        with pytest.raises(openai.RateLimitError, match="Request too large"):
            clock.now += 60
            ask(service, max_tokens=1001)
        assert [each.refused_by_limit for each in service.completions_of()] == [False, False, True, False, True]


def test_a_window_is_filled_at_its_end():
    clock = Clock()
    with HostedService(limits=Limits(requests=2, refill="window"), clock=clock) as service:
        ask(service)
        clock.now += 45
        ask(service)
        with pytest.raises(openai.RateLimitError, match="again in 15s") as error:
            ask(service)
        assert error.value.response.headers["x-ratelimit-reset-requests"] == "15s"
        clock.now += 15
        ask(service)


@pytest.mark.parametrize(
    ("style", "names"),
    [
        ("azure", {"x-ratelimit-limit-requests", "x-ratelimit-remaining-requests"}),
        ("anthropic", {f"anthropic-ratelimit-requests-{name}" for name in ("limit", "remaining", "reset")}),
        ("none", set()),
    ],
    ids=["azure", "anthropic", "none"],
)
def test_limits_are_told_in_several_styles(style, names):
    with HostedService(limits=Limits(requests=2, headers=style)) as service:
        answer = client(service).chat.completions.with_raw_response.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello."}]
        )
        assert {name for name in answer.headers if "ratelimit" in name} == names


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.012, "12ms"), (1, "1s"), (8.64, "8.64s"), (360, "6m0s"), (3600, "1h0m0s")]
)
def test_durations_are_written_as_the_service_does(seconds, text):
    assert duration(seconds) == text


def test_tiers_have_their_price_and_their_faults():
    with HostedService(shares=Shares(downgraded=1.0)) as service:
        assert ask(service, service_tier="priority").service_tier == "default"
        with pytest.raises(openai.BadRequestError, match="Invalid service_tier"):
            ask(service, service_tier="flex")
        flex = {"model": "gpt-5", "max_tokens": openai.omit, "max_completion_tokens": 60, "service_tier": "flex"}
        assert ask(service, **flex).service_tier == "flex"
        assert {tier for _, tier in service.bill.lines} == {"default", "flex"}
    with HostedService(shares=Shares(flex_unavailable=1.0)) as service:
        with pytest.raises(openai.RateLimitError) as error:
            ask(service, **flex)
        assert error.value.code == "resource_unavailable" and service.bill.total == 0


def test_thinking_takes_of_the_room_and_is_paid():
    with HostedService() as service:
        thinker = {"model": "gpt-6-luna", "max_tokens": openai.omit, "reasoning_effort": "low"}
        whole = ask(service, max_completion_tokens=200, **thinker)
        assert whole.choices[0].message.content and whole.usage.completion_tokens_details.reasoning_tokens == 64
        short = ask(service, max_completion_tokens=50, **thinker)
        assert (short.choices[0].message.content, short.choices[0].finish_reason) == ("", "length")
        assert short.usage.completion_tokens == 50
        with pytest.raises(openai.BadRequestError, match="reasoning_effort"):
            ask(service, max_completion_tokens=50, **{**thinker, "reasoning_effort": "minimal"})


def test_other_ends_than_a_reply():
    ends = {"refuse": Outcome(refusal=REFUSAL), "filter": Outcome(finish_reason="content_filter")}
    ends["block"] = Outcome(error=content_filtered())
    with HostedService(rule=lambda body: ends.get(body["messages"][0]["content"])) as service:
        refused, filtered = ask(service, "refuse").choices[0], ask(service, "filter").choices[0]
        assert refused.message.refusal == REFUSAL and refused.message.content is None
        assert filtered.finish_reason == "content_filter"
        with pytest.raises(openai.BadRequestError) as error:
            ask(service, "block")
        assert error.value.code == "content_filter"
        assert service.bill.requests == 2


def test_keys_models_parameters_and_credit():
    with HostedService(keys={"sk-right"}, credit=1e-9) as service:
        with pytest.raises(openai.AuthenticationError):
            ask(service)
        api = client(service, "sk-right")
        assert "gpt-4o-mini" in {model.id for model in api.models.list()}
        messages: Any = [{"role": "user", "content": "Hello."}]
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            api.chat.completions.create(model="gpt-9", messages=messages)
        with pytest.raises(openai.BadRequestError, match="max_completion_tokens"):
            api.chat.completions.create(model="gpt-5", messages=messages, max_tokens=5)
        with pytest.raises(openai.BadRequestError, match="reasoning_effort"):
            api.chat.completions.create(model="gpt-4o-mini", messages=messages, reasoning_effort="low")
        api.chat.completions.create(model="gpt-4o-mini", messages=messages)
        with pytest.raises(openai.RateLimitError) as error:
            api.chat.completions.create(model="gpt-4o-mini", messages=messages)
        assert error.value.code == "insufficient_quota"


@pytest.mark.parametrize(
    ("kind", "kinds", "paid"),
    [
        ("rate_limit", openai.RateLimitError, 0),
        ("rate_limit_wait", openai.RateLimitError, 0),
        ("server_error", openai.InternalServerError, 0),
        ("reset", openai.APIConnectionError, 0),
        ("hang", openai.APITimeoutError, 0),
        ("cut", openai.APIConnectionError, 1),
    ],
)
def test_faults_are_what_they_are_called(kind, kinds, paid):
    with HostedService(faults=Faults({kind: 1.0})) as service:
        messages: Any = [{"role": "user", "content": "Hello."}]
        with pytest.raises(kinds):
            client(service, timeout=0.5).chat.completions.create(model="gpt-4o-mini", messages=messages)
        assert service.bill.requests == paid
        (entry,) = service.completions_of()
        assert entry.fault == kind and not entry.answered


def test_faults_come_in_the_share_that_was_asked_for():
    faults = Faults.all(0.05, seed=3)
    found = [faults.of(f"{number:032x}", 1) for number in range(4000)]
    assert 0.27 < sum(each is not None for each in found) / 4000 < 0.33
    assert found == [faults.of(f"{number:032x}", 1) for number in range(4000)]


def test_a_batch_goes_through_its_states():
    with HostedService() as service:
        batch = start_batch(service, lines("a", "b", "c"))
        states = [batch.status] + [service.advance()[0] for _ in range(3)]
        assert states == ["validating", "in_progress", "finalizing", "completed"]
        done = client(service).batches.retrieve(batch.id)
        assert done.request_counts is not None and done.request_counts.completed == 3
        assert done.metadata == {"run": "1"} and done.error_file_id is None
        found = read(service, done.output_file_id)
        assert {line["custom_id"] for line in found} == {"a", "b", "c"}
        assert [line["response"]["status_code"] for line in found] == [200] * 3
        assert service.bill.of("gpt-4o-mini", "batch").requests == 3
        assert service.bill.total == pytest.approx(
            (done.usage.input_tokens * 0.075 + done.usage.output_tokens * 0.3) / 1e6
        )


def test_output_lines_come_in_another_order():
    names = [str(number) for number in range(50)]
    with HostedService() as service:
        batch = start_batch(service, lines(*names))
        service.advance(to="completed")
        found = [line["custom_id"] for line in read(service, client(service).batches.retrieve(batch.id).output_file_id)]
        assert found != names and sorted(found) == sorted(names)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (b"{", "invalid_json_line"),
        (lines("a", "a"), "duplicate_custom_id"),
        (lines("a") + lines("b", model="gpt-4o"), "mismatched_model"),
        (lines("a", model="gpt-9"), "model_not_found"),
        (lines("a" * 400), "token_limit_exceeded"),
    ],
    ids=["empty", "json", "duplicate", "models", "unknown", "enqueued"],
)
def test_a_bad_batch_fails_when_it_is_validated(content, code):
    with HostedService(limits=Limits(enqueued_tokens=50)) as service:
        batch = start_batch(service, content)
        assert service.advance() == ["failed"]
        found = client(service).batches.retrieve(batch.id)
        assert found.errors is not None and found.errors.data is not None and found.errors.data[0].code == code
        assert found.output_file_id is None and service.bill.total == 0


def test_an_expired_batch_has_what_was_answered():
    with HostedService() as service:
        batch = start_batch(service, lines("a", "b", "c"))
        service.advance()
        service.work(batch.id, 1)
        service.expire(batch.id)
        found = client(service).batches.retrieve(batch.id)
        assert found.status == "expired" and service.bill.requests == 1
        assert len(read(service, found.output_file_id)) == 1
        assert {line["error"]["code"] for line in read(service, found.error_file_id)} == {"batch_expired"}


def test_a_cancelled_batch_ends_after_a_while():
    with HostedService() as service:
        batch = start_batch(service, lines("a", "b"))
        assert client(service).batches.cancel(batch.id).status == "cancelling"
        assert service.advance() == ["cancelled"]
        with pytest.raises(openai.ConflictError):
            client(service).batches.cancel(batch.id)


def test_lines_that_fail_are_in_the_error_file():
    with HostedService(line_errors=0.5) as service:
        batch = start_batch(service, lines(*map(str, range(40))))
        service.advance(to="completed")
        found = client(service).batches.retrieve(batch.id)
        good, bad = read(service, found.output_file_id), read(service, found.error_file_id)
        assert len(good) + len(bad) == 40 and 10 < len(bad) < 30
        assert {line["response"] and line["response"]["status_code"] for line in bad} == {None, 500}


def test_lists_come_in_pages_newest_first():
    with HostedService() as service:
        made = [start_batch(service, lines("a")).id for _ in range(5)]
        api = client(service)
        first = api.batches.list(limit=2)
        assert [each.id for each in first.data] == made[:2:-1] and first.has_more
        assert [each.id for each in api.batches.list(limit=2)] == made[::-1]
        assert len(list(api.files.list(limit=2, purpose="batch"))) == 5
        file = next(iter(api.files.list()))
        assert api.files.delete(file.id).deleted
        with pytest.raises(openai.NotFoundError):
            api.files.content(file.id)


def test_a_request_can_have_its_effect_and_no_answer():
    with HostedService() as service:
        service.fail_next("reset", "/v1/batches", after=True)
        with pytest.raises(openai.APIConnectionError):
            start_batch(service, lines("a"))
        assert len(list(client(service).batches.list())) == 1


def test_a_process_of_its_own_is_driven_over_http():
    with HostedProcess("--pace", "{}", "--requests", "5") as process:
        batch = start_batch(process, lines("a"))
        assert process.advance(to="completed") == ["completed"]
        assert len(read(process, client(process).batches.retrieve(batch.id).output_file_id)) == 1
        ask(process)
        summary = process.summary()
        assert summary["answered"] == 1 and summary["bill"]["requests"] == 2
        assert summary["taken"]["gpt-4o-mini"]["requests"] == 1

"""One fake of a hosted service with OpenAI's API, for all tests and benchmarks: limits, tiers, batches, faults, a bill.

It is written from OpenAI's documentation (and Azure's, where it says so), and shares no code with localemp: it has its
own models and prices (`prices.py`), counts what it charges, and keeps a log. It answers more than 1,500 requests a
second on one core.

In a test, in a thread of its own:

    from hosted import Faults, HostedService, Limits, Outcome

    with HostedService(limits=Limits(requests=500, tokens=200_000)) as service:
        engine = OpenAIEngine("gpt-4o-mini", service.url)
        ...
        assert service.bill.of("gpt-4o-mini", "batch").dollars == pytest.approx(run.cost)
        assert [each.status for each in service.completions_of()] == [200, 429, 200]

    HostedService(rule=lambda body: "Oh no!" if "storm" in str(body) else None)     # or an Outcome: a refusal, an error
    HostedService(faults=Faults.all(0.05, seed=7))                                  # 5 % of each kind
    HostedService(shares=Shares(refused=0.02, flex_unavailable=0.3))
    HostedService(keys={"sk-right"}, credit=0.5)

Requests get the same answer whenever they come, and faults depend on the request and the number of the attempt only, so
that a test with a seed goes the same way however fast it runs. `clock` may be a test's own.

Batches stay as they are until the test moves them, or move by the clock with `pace=Pace()`:

    service.fail_next("reset", "/v1/batches", after=True)   # the batch is created, and the client never hears of it
    service.advance()                          # validating -> in_progress (or failed)
    service.work(service.batch().id, 10)       # ten lines are answered
    service.expire(service.batch().id)         # the rest is in the error file
    service.advance(to="completed")            # another batch, to its end

In a process of its own (`python -m hosted --requests 500 --faults 0.05`, in tests/; it prints its port, and ends with
its standard input), the same calls go over HTTP:

    with HostedProcess("--requests", "500", "--faults", "0.05") as process:
        ... process.url ...
        process.advance(to="completed")
        assert process.summary()["bill"]["dollars"] == ...

The prompt's tokens are its characters / 4, and 3 for each message and 3 more; a limit counts the larger of the first
and max_tokens. Repeated requests, files and batches are new ones each time, and charged again, as the service does it.
Streams and the Responses API are not there.
"""

from hosted.batches import Pace
from hosted.completions import REFUSAL, Outcome, Shares, tokens_in
from hosted.errors import ServiceError, content_filtered
from hosted.faults import KINDS, Faults
from hosted.limits import Limits, duration
from hosted.prices import MODELS, Bill, Rates, Tokens
from hosted.running import HostedProcess, HostedService
from hosted.service import Served, Service

__all__ = [
    "KINDS",
    "MODELS",
    "REFUSAL",
    "Bill",
    "Faults",
    "HostedProcess",
    "HostedService",
    "Limits",
    "Outcome",
    "Pace",
    "Rates",
    "Served",
    "Service",
    "ServiceError",
    "Shares",
    "Tokens",
    "content_filtered",
    "duration",
    "tokens_in",
]

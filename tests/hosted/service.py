"""What the service does with a request, without any transport: keys, limits, faults, routes, log and bill."""

import hashlib
import json
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from hosted import errors
from hosted.batches import Batch, Batches, Pace
from hosted.completions import Answered, Completions, Rule, Shares, prompt_of, tokens_in
from hosted.errors import ServiceError
from hosted.faults import Faults, Kind, Planned, chance
from hosted.files import Files
from hosted.limits import Limits, Meter
from hosted.prices import MODELS, Bill, Tokens

COMPLETIONS = ("/v1/chat/completions", "/v1/completions")
_RESPONSE = {"openai-organization": "org-fake", "openai-version": "2020-10-01"}


@dataclass(frozen=True)
class Request:
    """A request as it came: header names in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """What goes back, and how: "whole", or a fault of the connection."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    delivery: Literal["whole", "reset", "hang", "cut"] = "whole"


@dataclass
class Served:
    """One request in the log.

    Attributes:
        at: Seconds of the service's clock.
        digest: Of the body.
        body: The body of a request for a completion, as JSON values.
        status: 0 if no status went out.
        fault: What went wrong on purpose.
        refused_by_limit: Whether a limit of requests or tokens refused it.
        counted: Tokens that it took of the limit.
        tier: What it was served and charged in; "" if it was not.
        dollars: What it was charged.
    """

    at: float
    method: str
    path: str
    digest: str
    body: dict[str, Any] | None = None
    status: int = 0
    fault: str = ""
    refused_by_limit: bool = False
    counted: int = 0
    model: str = ""
    tier: str = ""
    tokens: Tokens | None = None
    dollars: float = 0.0

    @property
    def answered(self) -> bool:
        """Whether a completion went out whole."""
        return self.status == 200 and self.tokens is not None and not self.fault


class Service:
    """A hosted service with the OpenAI API.

    Args:
        limits: Of requests and tokens.
        faults: Faults by share.
        rule: What is answered to a request (the body as JSON values): a text, an `Outcome`, or None for the service's
            own reply.
        shares: Refusals, filtered answers, tiers that are not given.
        line_errors: Share of lines of a batch that fail at an attempt (half with status 500, half with a time-out).
        keys: The keys that are let in; None for any, or none.
        credit: Dollars that are prepaid; then nothing more is answered.
        pace: How fast batches move; None if a test moves them.
        clock: Seconds; a test's own, or `time.time`.
        seed: Of everything that is chosen by chance.
        absent_file: What a batch says where it has no output or error file: None or "".
        keep_bodies: Whether the log keeps the bodies of requests for completions.

    Attributes:
        log: All requests, in the order in which they came.
        bill: What is charged.
    """

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        faults: Faults | None = None,
        rule: Rule | None = None,
        shares: Shares | None = None,
        line_errors: float = 0.0,
        keys: Collection[str] | None = None,
        credit: float | None = None,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.time,
        seed: int = 0,
        absent_file: str | None = None,
        keep_bodies: bool = True,
    ) -> None:
        self.limits, self.faults = limits or Limits(), faults or Faults(seed=seed)
        self.keys, self.credit, self.line_errors = keys, credit, line_errors
        self.clock, self.seed, self.keep_bodies = clock, seed, keep_bodies
        self.completions = Completions(rule, shares, seed)
        self.bill = Bill()
        self.log: list[Served] = []
        self.files = Files()
        self.batches = Batches(
            self.files, self._line, self._enqueued, self.limits.enqueued_tokens, pace, seed, absent_file
        )
        self.meters: dict[str, Meter] = {}
        self.planned: list[Planned] = []
        self.connections: set[Any] = set()
        self.lock = threading.RLock()
        self._attempts: Counter[str] = Counter()

    # What a test does, from any thread.

    def fail_next(self, kind: Kind, path: str, method: str = "POST", *, after: bool = False, times: int = 1) -> None:
        """Let the next requests of this method, whose path begins so, fail; `after`: once they had their effect."""
        with self.lock:
            self.planned += [Planned(kind, method, path, after)] * times

    def advance(self, id: str | None = None, to: str | None = None) -> list[str]:
        """Move one batch, or all that have not ended, on by a state, or until they are in state `to`, or end."""
        with self.lock:
            now, found = self.clock(), []
            for each in [id] if id else list(self.batches.all):
                state = self.batches.advance(each, now)
                while to and state != to and state not in ("completed", "failed", "expired", "cancelled"):
                    state = self.batches.advance(each, now)
                found.append(state)
            return found

    def work(self, id: str, lines: int) -> None:
        """Answer some lines of a batch in progress."""
        with self.lock:
            self.batches.work(id, lines)

    def expire(self, id: str) -> None:
        """Let a batch expire; what it has not answered is in its error file."""
        with self.lock:
            self.batches.expire(id, self.clock())

    def fail(self, id: str, code: str = "server_error", message: str = "The batch failed. Please try again.") -> None:
        """Let a batch fail as a whole."""
        with self.lock:
            self.batches.fail(id, self.clock(), code, message)

    def batch(self, place: int = -1) -> Batch:
        """A batch by its place in the order of creation; the newest by default."""
        with self.lock:
            return list(self.batches.all.values())[place]

    def completions_of(self, served: Sequence[Served] | None = None) -> list[Served]:
        """The requests for completions in the log."""
        return [each for each in (self.log if served is None else served) if each.path in COMPLETIONS]

    def summary(self) -> dict[str, Any]:
        """Counts of the log and the bill, as JSON values."""
        with self.lock:
            asked = self.completions_of()
            answered = Counter(each.digest for each in asked if each.answered)
            return {
                "requests": len(asked),
                "different": len({each.digest for each in asked}),
                "answered": sum(answered.values()),
                "answered_once": sum(times == 1 for times in answered.values()),
                "answered_more_often": sum(times > 1 for times in answered.values()),
                "lost": sum(each.tokens is not None and not each.answered for each in asked),
                "refused_by_limit": sum(each.refused_by_limit for each in asked),
                "faults": dict(Counter(each.fault for each in asked if each.fault)),
                "statuses": {str(status): times for status, times in Counter(each.status for each in asked).items()},
                "taken": {
                    model: {
                        "requests": meter.minute.taken if meter.minute else None,
                        "tokens": meter.tokens.taken if meter.tokens else None,
                    }
                    for model, meter in self.meters.items()
                },
                "batches": [batch.value(None) for batch in self.batches.all.values()],
                "bill": self.bill.value(),
            }

    # What the transport does.

    def handle(self, request: Request) -> Reply:
        """Answer a request."""
        with self.lock:
            try:
                if request.path.startswith("/fake/"):
                    return self._controlled(request)
                return self._served(request)
            except Exception:
                traceback.print_exc()
                return Reply(500, errors.server_error().body, {"x-fake-is-broken": "see its standard error"})

    def _served(self, request: Request) -> Reply:
        path = _plain(request.path)
        entry = Served(self.clock(), request.method, path, digest_of(request.body))
        self.log.append(entry)
        fault = self._planned(request.method, path)
        try:
            self._check_key(request)
            if fault and not fault.after:
                return self._faulty(entry, fault.kind)
            if path in COMPLETIONS and request.method == "POST":
                reply = self._complete(entry, request)
            else:
                value = self._route(request.method, path, request)
                body = value if isinstance(value, bytes) else json.dumps(value).encode()
                reply = Reply(200, body)
        except ServiceError as error:
            reply = Reply(error.status, error.body, error.headers)
        entry.status = reply.status if reply.delivery == "whole" else 0
        if fault and fault.after:
            return self._faulty(entry, fault.kind, reply)
        return reply

    def _complete(self, entry: Served, request: Request) -> Reply:
        body = _json(request)
        entry.body = body if self.keep_bodies else None
        model = self.completions.check(body, request.path)
        entry.model = model.name
        if self.credit is not None and self.bill.total >= self.credit:
            raise errors.no_credit()
        meter = self.meters.setdefault(model.name, Meter(self.limits))
        taken = self.limits.taken(tokens_in(prompt_of(body)), self.completions.most(body))
        try:
            meter.admit(model.name, taken, entry.at)
        except ServiceError:
            entry.refused_by_limit = True
            raise
        entry.counted = taken
        headers = {**_RESPONSE, **meter.headers(), "x-request-id": f"req_{len(self.log):09d}"}
        attempt = self._attempts[entry.digest] = self._attempts[entry.digest] + 1
        fault = self.faults.of(entry.digest, attempt)
        if fault and fault != "cut":
            return self._faulty(entry, fault, headers=headers)
        tier = self.completions.tier(body, entry.digest)
        unavailable = self.completions.shares.flex_unavailable
        if tier == "flex" and chance(self.seed, "flex", entry.digest, attempt) < unavailable:
            entry.fault = "flex_unavailable"
            refusal = errors.flex_unavailable()
            return Reply(refusal.status, refusal.body, headers)
        try:
            answered = self.completions.answer(body, model, entry.digest, tier)
        except ServiceError as error:
            return Reply(error.status, error.body, {**headers, **error.headers})
        self._charge(entry, answered)
        reply = Reply(200, json.dumps(answered.value).encode(), headers)
        return self._faulty(entry, "cut", reply) if fault else reply

    def _charge(self, entry: Served, answered: Answered) -> None:
        entry.tier, entry.tokens = answered.tier, answered.tokens
        entry.dollars = self.bill.add(answered.model, answered.tier, answered.tokens)

    def _faulty(
        self, entry: Served, kind: Kind, reply: Reply | None = None, headers: dict[str, str] | None = None
    ) -> Reply:
        entry.fault, headers = kind, headers or {}
        if kind in ("rate_limit", "rate_limit_wait"):
            if kind == "rate_limit_wait":
                wait = self.faults.wait
                headers = {
                    **headers,
                    "retry-after-ms": f"{wait * 1000:.0f}",
                    "retry-after": f"{wait:.3f}".rstrip("0").rstrip("."),
                }
            entry.status = 429
            return Reply(429, errors.overloaded().body, headers)
        if kind == "server_error":
            entry.status = 500
            return Reply(500, errors.server_error().body, headers)
        entry.status = 0
        reply = reply or Reply(200, b"")
        if kind == "cut":
            return Reply(reply.status, reply.body, reply.headers, "cut")
        return Reply(reply.status, reply.body, reply.headers, "hang" if kind == "hang" else "reset")

    def _planned(self, method: str, path: str) -> Planned | None:
        for place, planned in enumerate(self.planned):
            if planned.method == method and path.startswith(planned.path):
                return self.planned.pop(place)
        return None

    def _check_key(self, request: Request) -> None:
        if self.keys is None:
            return
        key = request.headers.get("api-key") or request.headers.get("authorization", "").removeprefix("Bearer ")
        if not key.strip():
            raise errors.missing_key()
        if key not in self.keys:
            raise errors.wrong_key(key)

    def _route(self, method: str, path: str, request: Request) -> Any:
        now = self.clock()
        if not path.startswith("/v1/"):
            raise ServiceError(404, f"Invalid URL ({method} {path})")
        match method, *path.split("/")[2:]:
            case "GET", "models":
                return {"object": "list", "data": [_model(name) for name in MODELS]}
            case "GET", "models", name if name in MODELS:
                return _model(name)
            case "POST", "files":
                return self.files.upload(request.headers.get("content-type", ""), request.body, now).value()
            case "GET", "files":
                return self.files.listed(request.query)
            case "GET", "files", id:
                return self.files.get(id).value()
            case "GET", "files", id, "content":
                return self.files.get(id).content
            case "DELETE", "files", id:
                return self.files.delete(id)
            case "POST", "batches":
                return self.batches.create(_json(request), now)
            case "GET", "batches":
                return self.batches.listed(request.query, now)
            case "GET", "batches", id:
                return self.batches.get(id, now)
            case "POST", "batches", id, "cancel":
                return self.batches.cancel(id, now)
        raise ServiceError(404, f"Invalid URL ({method} {path})")

    def _line(self, body: dict[str, Any], custom_id: str) -> tuple[int, dict[str, Any], Tokens | None]:
        """Answer a line of a batch; status 0 for one that was not executed."""
        # As clients write it, so that a batch and a single request get the same answer.
        digest = digest_of(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())
        attempt = self._attempts[digest] = self._attempts[digest] + 1
        place = chance(self.seed, "line", digest, attempt)
        if place < self.line_errors / 2:
            return 500, errors.server_error().value, None
        if place < self.line_errors:
            return 0, {"error": {"code": "request_timeout", "message": "The call to the model timed out."}}, None
        try:
            model = self.completions.check(body, "/v1/chat/completions" if "messages" in body else "/v1/completions")
            answered = self.completions.answer(body, model, digest, "batch")
        except ServiceError as error:
            return error.status, error.value, None
        self.bill.add(model, "batch", answered.tokens)
        return 200, answered.value, answered.tokens

    def _enqueued(self, body: dict[str, Any]) -> int:
        if body.get("model") not in MODELS:
            raise ServiceError(
                400, f"The model '{body.get('model')}' does not exist.", code="model_not_found", param="body.model"
            )
        return tokens_in(prompt_of(body))

    def _controlled(self, request: Request) -> Reply:
        """What `HostedProcess` asks for, in place of a test's own calls."""
        name, told = request.path.removeprefix("/fake/"), _json(request) if request.body else {}
        if name == "summary":
            return Reply(200, json.dumps(self.summary()).encode())
        if name == "log":
            return Reply(200, json.dumps([asdict(each) for each in self.log]).encode())
        if name in ("advance", "work", "expire", "fail", "fail_next"):
            return Reply(200, json.dumps(getattr(self, name)(**told)).encode())
        return Reply(404, b"{}")


def digest_of(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=16).hexdigest()


def _plain(path: str) -> str:
    """The path without what some hosts have before it ("/openai/v1/files")."""
    return path.removeprefix("/openai").removeprefix("/api")


def _json(request: Request) -> dict[str, Any]:
    try:
        value = json.loads(request.body)
    except ValueError as error:
        raise ServiceError(400, "We could not parse the JSON body of your request.") from error
    if not isinstance(value, dict):
        raise ServiceError(400, "The body of your request is not a JSON object.")
    return value


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "system"}

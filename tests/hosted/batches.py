"""Batches: an input file that goes through the states of the Batch API.

    validating -> in_progress -> finalizing -> completed
        |             |-> expired               (what is not answered by then is in the error file)
        |             '-> cancelling -> cancelled
        '-> failed

A test moves them (`advance`, `expire`, `work`); with `Pace` they move by the clock whenever somebody looks.
"""

import json
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from hosted.errors import ServiceError
from hosted.files import File, Files, page
from hosted.limits import ORGANISATION
from hosted.prices import Tokens

MOST_REQUESTS = 50_000
WINDOW = 24 * 3600
ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/moderations")
ENDED = ("completed", "failed", "expired", "cancelled")
_EXPIRED = "This request could not be executed before the completion window expired."
_CANCELLED = "The batch was cancelled before this request was executed."

# Answers a line in the batch tier: the status, the body, and the tokens that were billed (None if nothing was).
AnswerLine = Callable[[dict[str, Any], str], tuple[int, dict[str, Any], Tokens | None]]
# Checks a line and returns the prompt tokens that it enqueues.
CountLine = Callable[[dict[str, Any]], int]


@dataclass(frozen=True)
class Pace:
    """Seconds that batches stay in a state when they move by themselves."""

    validating: float = 0.1
    in_progress: float = 0.3
    finalizing: float = 0.1
    cancelling: float = 0.1


@dataclass
class Batch:
    """A batch and its lines."""

    id: str
    input_file_id: str
    endpoint: str
    metadata: dict[str, str] | None
    created: float
    status: str = "validating"
    since: float = 0.0
    model: str | None = None
    errors: list[dict[str, Any]] = field(default_factory=list)
    times: dict[str, int] = field(default_factory=dict)
    waiting: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    good: list[bytes] = field(default_factory=list)
    bad: list[bytes] = field(default_factory=list)
    total: int = 0
    enqueued: int = 0
    used: Tokens = field(default_factory=Tokens)
    output_file_id: str | None = None
    error_file_id: str | None = None

    def value(self, absent: str | None) -> dict[str, Any]:
        """The batch as JSON values; `absent` stands for a file that is not there."""
        names = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
        ended = self.status in ENDED
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "model": self.model,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "input_file_id": self.input_file_id,
            "completion_window": "24h",
            "status": self.status,
            "output_file_id": self.output_file_id or (absent if ended else None),
            "error_file_id": self.error_file_id or (absent if ended else None),
            "created_at": int(self.created),
            "expires_at": int(self.created) + WINDOW,
            **{f"{name}_at": self.times.get(name) for name in names},
            "request_counts": {"total": self.total, "completed": len(self.good), "failed": len(self.bad)},
            "metadata": self.metadata,
            "usage": {
                "input_tokens": self.used.prompt,
                "input_tokens_details": {"cached_tokens": self.used.cached},
                "output_tokens": self.used.completion,
                "output_tokens_details": {"reasoning_tokens": self.used.reasoning},
                "total_tokens": self.used.prompt + self.used.completion,
            },
        }


class Batches:
    """All batches, the newest last.

    Args:
        files: Where their files are.
        answer, count: Answer and check a line.
        enqueued_tokens: The most of a model in batches that have not ended; None for no limit.
        pace: How long states last; None if only a test moves them.
        seed: Of the order of output lines.
        absent: What stands for a file that is not there: None, or "" as the service was seen to say.
    """

    def __init__(
        self,
        files: Files,
        answer: AnswerLine,
        count: CountLine,
        enqueued_tokens: int | None,
        pace: Pace | None,
        seed: int,
        absent: str | None,
    ) -> None:
        self.all: dict[str, Batch] = {}
        self._files, self._answer, self._count = files, answer, count
        self._most_enqueued, self._pace, self._absent = enqueued_tokens, pace, absent
        self._order = random.Random(seed)
        self._number = 0

    def create(self, body: dict[str, Any], now: float) -> dict[str, Any]:
        for name in ("input_file_id", "endpoint", "completion_window"):
            if not isinstance(body.get(name), str):
                message = f"Missing required parameter: '{name}'."
                raise ServiceError(400, message, code="missing_required_parameter", param=name)
        if body["endpoint"] not in ENDPOINTS:
            raise _invalid("endpoint", ENDPOINTS)
        if body["completion_window"] != "24h":
            raise _invalid("completion_window", ("24h",))
        metadata = body.get("metadata")
        _check_metadata(metadata)
        file = self._files.all.get(body["input_file_id"])
        if file is None or file.purpose != "batch":
            raise ServiceError(400, f"No such File object: {body['input_file_id']}", param="input_file_id")
        self._number += 1
        batch = Batch(f"batch_{self._number:020d}", file.id, body["endpoint"], metadata, now, since=now)
        self.all[batch.id] = batch
        return batch.value(self._absent)

    def get(self, id: str, now: float) -> dict[str, Any]:
        return self._moved(id, now).value(self._absent)

    def listed(self, query: dict[str, str], now: float) -> dict[str, Any]:
        newest = {key: value for key, value in query.items() if key != "order"}
        return page([self.get(id, now) for id in self.all], newest, 20, 100)

    def cancel(self, id: str, now: float) -> dict[str, Any]:
        batch = self._moved(id, now)
        if batch.status not in ("validating", "in_progress", "finalizing"):
            message = f"Cannot cancel a batch with status '{batch.status}'."
            raise ServiceError(409, message, param="batch_id")
        self._enter(batch, "cancelling", now)
        return batch.value(self._absent)

    def advance(self, id: str, now: float) -> str:
        """Move a batch on by a state; return the state."""
        batch = self._find(id)
        if batch.status == "validating":
            self._validate(batch, now)
        elif batch.status == "in_progress":
            self.work(id, batch.total)
            self._enter(batch, "finalizing", now)
        elif batch.status == "finalizing":
            self._end(batch, "completed", now)
        elif batch.status == "cancelling":
            self._give_up(batch, "batch_cancelled", _CANCELLED)
            self._end(batch, "cancelled", now)
        return batch.status

    def work(self, id: str, lines: int) -> None:
        """Answer some of the lines of a batch in progress, in an order of the service's own."""
        batch = self._find(id)
        done, batch.waiting = batch.waiting[:lines], batch.waiting[lines:]
        for custom_id, body in done:
            status, value, tokens = self._answer(body, custom_id)
            if status == 0:  # the call to the model failed without an answer
                self._fail(batch, custom_id, value["error"]["code"], value["error"]["message"])
                continue
            response = {"status_code": status, "request_id": self._id("req"), "body": value}
            line = {"id": self._id("batch_req"), "custom_id": custom_id, "response": response, "error": None}
            (batch.good if status == 200 else batch.bad).append(json.dumps(line).encode())
            if tokens is not None:
                batch.used += tokens

    def expire(self, id: str, now: float) -> None:
        """End the window of a batch: what is answered stays, the rest was not executed."""
        batch = self._find(id)
        if batch.status == "validating":
            self._validate(batch, now)
        if batch.status in ("in_progress", "finalizing"):
            self._give_up(batch, "batch_expired", _EXPIRED)
            self._end(batch, "expired", now)

    def fail(self, id: str, now: float, code: str, message: str) -> None:
        """Let a batch that is validated fail as a whole."""
        batch = self._find(id)
        batch.errors = [{"code": code, "message": message, "line": None, "param": None}]
        batch.waiting = []
        self._enter(batch, "failed", now)

    def _find(self, id: str) -> Batch:
        if id not in self.all:
            raise ServiceError(404, f"No batch found with id '{id}'.", param="id")
        return self.all[id]

    def _moved(self, id: str, now: float) -> Batch:
        """Find a batch, and move it as far as the clock says."""
        batch = self._find(id)
        while self._pace is not None and batch.status not in ENDED:
            stays = getattr(self._pace, batch.status)
            if now - batch.since < stays:
                if batch.status == "in_progress" and stays:
                    share = (now - batch.since) / stays
                    self.work(id, int(share * batch.total) - (batch.total - len(batch.waiting)))
                break
            self.advance(id, batch.since + stays)
        if now - batch.created > WINDOW and batch.status not in ENDED:
            self.expire(id, now)
        return batch

    def _validate(self, batch: Batch, now: float) -> None:
        file = self._files.all.get(batch.input_file_id)
        lines = [] if file is None else _lines(file)
        batch.errors = list(self._wrong(batch, lines))[:100]
        batch.total = 0 if batch.errors else len(batch.waiting)
        enqueued = sum(
            each.enqueued for each in self.all.values() if each.status not in ENDED and each.model == batch.model
        )
        if not batch.errors and self._most_enqueued is not None and enqueued > self._most_enqueued:
            message = (
                f"Enqueued token limit reached for {batch.model} in organization {ORGANISATION}. Limit: "
                f"{self._most_enqueued:,} enqueued tokens. Please try again once some in_progress batches have been "
                "completed."
            )
            batch.errors = [{"code": "token_limit_exceeded", "message": message, "line": None, "param": None}]
        if batch.errors:
            batch.waiting = []
        else:
            self._order.shuffle(batch.waiting)
        self._enter(batch, "failed" if batch.errors else "in_progress", now)

    def _wrong(self, batch: Batch, lines: list[bytes]) -> Iterator[dict[str, Any]]:
        """Yield what is wrong with an input file; take its lines into the batch."""
        batch.waiting, batch.enqueued = [], 0
        seen: set[str] = set()
        if not lines:
            yield _error("empty_file", "The batch file is empty.", None)
        if len(lines) > MOST_REQUESTS:
            message = f"The batch input file has more than the maximum of {MOST_REQUESTS:,} requests."
            yield _error("too_many_tasks", message, None)
            return
        for number, line in enumerate(lines, 1):
            try:
                value = json.loads(line)
            except ValueError:
                yield _error("invalid_json_line", "This line is not parseable as valid JSON.", number)
                continue
            missing = [
                name
                for name in ("custom_id", "method", "url", "body")
                if not (isinstance(value, dict) and name in value)
            ]
            if missing:
                yield _error(
                    "missing_required_parameter", f"Missing required parameter: '{missing[0]}'.", number, missing[0]
                )
                continue
            custom_id, body = value["custom_id"], value["body"]
            if value["method"] != "POST" or value["url"] != batch.endpoint:
                message = (
                    f"The URL provided for this request does not match the endpoint of the batch, {batch.endpoint}."
                )
                yield _error("invalid_url", message, number, "url")
            if custom_id in seen:
                message = f"The custom_id '{custom_id}' is a duplicate of another request in the batch."
                yield _error("duplicate_custom_id", message, number, "custom_id")
            seen.add(custom_id)
            batch.model = batch.model or body.get("model")
            if body.get("model") != batch.model:
                message = f"All requests of a batch must have the same model; {body.get('model')!r} is another one."
                yield _error("mismatched_model", message, number, "body.model")
            try:
                batch.enqueued += self._count(body)
            except ServiceError as error:
                yield _error(error.fields["code"] or "invalid_request", error.message, number, error.fields["param"])
            batch.waiting.append((custom_id, body))

    def _give_up(self, batch: Batch, code: str, message: str) -> None:
        for custom_id, _ in batch.waiting:
            self._fail(batch, custom_id, code, message)
        batch.waiting = []

    def _fail(self, batch: Batch, custom_id: str, code: str, message: str) -> None:
        error = {"code": code, "message": message}
        line = {"id": self._id("batch_req"), "custom_id": custom_id, "response": None, "error": error}
        batch.bad.append(json.dumps(line).encode())

    def _end(self, batch: Batch, status: str, now: float) -> None:
        batch.output_file_id = self._write(batch, "output", batch.good, now)
        batch.error_file_id = self._write(batch, "error", batch.bad, now)
        self._enter(batch, status, now)

    def _write(self, batch: Batch, name: str, lines: list[bytes], now: float) -> str | None:
        if not lines:
            return None
        content = b"".join(line + b"\n" for line in lines)
        return self._files.add(f"{batch.id}_{name}.jsonl", "batch_output", content, now).id

    def _enter(self, batch: Batch, status: str, now: float) -> None:
        batch.status, batch.since = status, now
        batch.times[status] = int(now)

    def _id(self, kind: str) -> str:
        self._number += 1
        return f"{kind}_{self._number:020d}"


def _lines(file: File) -> list[bytes]:
    return [line for line in file.content.splitlines() if line.strip()]


def _error(code: str, message: str, line: int | None, param: str | None = None) -> dict[str, Any]:
    return {"code": code, "message": message, "line": line, "param": param}


def _invalid(name: str, allowed: Iterable[str]) -> ServiceError:
    message = f"Invalid value for '{name}'. Supported values are: {', '.join(map(repr, allowed))}."
    return ServiceError(400, message, code="invalid_value", param=name)


def _check_metadata(metadata: Any) -> None:
    if metadata is None:
        return
    wrong = not isinstance(metadata, dict) or len(metadata) > 16
    if wrong or any(len(key) > 64 or not isinstance(value, str) or len(value) > 512 for key, value in metadata.items()):
        message = "Invalid 'metadata': at most 16 pairs, keys of at most 64 and texts of at most 512 characters."
        raise ServiceError(400, message, code="invalid_value", param="metadata")

"""The lines of batch files: requests, and answers, which come in any order and are not trusted.

A request is named by what it asks, so that whoever asks the same again finds the answer, or the batch that it is in.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from localemp.engines.openai.answers import Answers, answers_in
from localemp.protocol.completions import MAX_VALUES, decode, whole_completion
from localemp.protocol.errors import ResponseError, ServerError
from localemp.utils.files import open_regular
from localemp.utils.json_reader import parse_json
from localemp.utils.text import one_line

LONGEST_ANSWER = 16 * 2**20
"""Longest line of an answer, in bytes; the log probabilities of ten thousand tokens take about as much."""

_DIGITS = 40  # of the hash in an id: ids may have 64 characters
_NAMED = 5  # odd lines that are named
# Codes of requests that were not answered because their batch ended.
_NOT_ANSWERED = {"batch_expired": "the batch expired", "batch_cancelled": "the batch was cancelled"}


class NotAnsweredError(ResponseError):
    """A request of a batch has no answer, and nothing was paid for it."""

    @property
    def is_transient(self) -> bool:
        """Always."""
        return True


def content_hash(endpoint: str, body: Mapping[str, Any]) -> str:
    """Return a hash of what a request asks."""
    asked = json.dumps([endpoint, body], sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(asked.encode()).hexdigest()[:_DIGITS]


def request_line(custom_id: str, endpoint: str, body: Mapping[str, Any]) -> bytes:
    """Return a request as a line of a file."""
    request = {"custom_id": custom_id, "method": "POST", "url": endpoint, "body": body}
    return json.dumps(request, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def texts_and_limit(line: bytes) -> tuple[Sequence[str], int]:
    """Return the texts of a request from its line, and the most tokens of its answers; 0 if it does not say."""
    value = parse_json(line, max_values=MAX_VALUES)
    found = value.get("body") if isinstance(value, dict) else None
    body = found if isinstance(found, dict) else {}
    limits = [body.get(name) for name in ("max_tokens", "max_completion_tokens")]
    most, number = max((limit for limit in limits if isinstance(limit, int)), default=0), body.get("n")
    messages = body.get("messages", [{"content": body.get("prompt")}])
    listed = messages if isinstance(messages, list) else []
    texts = [str(each.get("content")) for each in listed if isinstance(each, dict)]
    texts += [json.dumps(form)] if (form := body.get("response_format")) else []
    return texts, most * (number if isinstance(number, int) else 1)


def request_id(line: bytes) -> str:
    """Return the id of a request from its line.

    Raises:
        ValueError: It is not one of our lines.
    """
    value = parse_json(line, max_values=MAX_VALUES)
    found = value.get("custom_id") if isinstance(value, dict) else None
    if not isinstance(found, str):
        raise ValueError("it has no custom_id")
    return found


@dataclass(frozen=True, slots=True)
class Place:
    """Where an answer is: a file, and its part that is the line."""

    path: Path
    offset: int
    length: int

    def read(self) -> bytes:
        """Return the line.

        Raises:
            OSError: The file cannot be read.
        """
        with open_regular(self.path) as file:
            file.seek(self.offset)
            return file.read(self.length)


@dataclass(slots=True)
class AnswerFile:
    """What a file of answers holds.

    Attributes:
        places: The place of each answer by the id of its request; of several, of the first.
        lines: Number of its lines that could be read.
        odd: Lines that are not answers to what was asked, in words, the first of them.
        number_odd: How many there are.
    """

    places: dict[str, Place] = field(default_factory=dict)
    lines: int = 0
    odd: list[str] = field(default_factory=list)
    number_odd: int = 0

    def _add_odd(self, line: int, what: str) -> None:
        self.number_odd += 1
        if len(self.odd) < _NAMED:
            self.odd.append(f"line {line}: {what}")

    @classmethod
    def read(cls, path: Path, asked: Collection[str] | None, longest: int = LONGEST_ANSWER) -> "AnswerFile":
        """Read a file line by line, and remember where each answer is.

        Args:
            path: The file.
            asked: Ids of the requests; None to take any.
            longest: Longest line that is read, in bytes.

        Raises:
            OSError: The file cannot be read.
        """
        found = cls()
        with open_regular(path) as file:
            for number, (offset, line) in enumerate(_lines(file, longest), 1):
                if line is not None and not line.strip():
                    continue
                if line is None:
                    found._add_odd(number, f"more than {longest / 2**20:g} MiB")
                    continue
                try:
                    name = request_id(line)
                except ValueError as error:
                    found._add_odd(number, one_line(str(error)))
                    continue
                if asked is not None and name not in asked:
                    found._add_odd(number, f"the id {one_line(name, 80)!r} was not asked")
                    continue
                found.lines += 1
                if name in found.places:
                    found._add_odd(number, f"the id {one_line(name, 80)!r} again")
                    continue
                found.places[name] = Place(path, offset, len(line))
        return found


def read_answer(line: bytes) -> Answers:
    """Return the answers that a line holds.

    Raises:
        NotAnsweredError: The request was not answered.
        ResponseError: It holds an error, or is not an answer.
    """
    value = decode(line)
    response = value.get("response") if isinstance(value, dict) else None
    if not isinstance(response, dict):
        raise _without_response(value)
    status, body = response.get("status_code"), response.get("body")
    if isinstance(status, int) and not isinstance(status, bool) and status >= 400:
        raise ServerError.parse(body, status)
    return answers_in(whole_completion(body))


def _without_response(value: Any) -> ResponseError:
    error = value.get("error") if isinstance(value, dict) else None
    if not error:
        return NotAnsweredError("the line of the answer has no response")
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, str) and code in _NOT_ANSWERED:
        return NotAnsweredError(_NOT_ANSWERED[code])
    return ServerError.parse(error)


def _lines(file: BinaryIO, longest: int) -> Iterator[tuple[int, bytes | None]]:
    """Yield the offset of each line, and the line; None for one that is too long."""
    offset = 0
    while line := file.readline(longest + 1):
        begun = offset
        offset += len(line)
        if len(line) <= longest:
            yield begun, line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(2**20)
            offset += len(line)
        yield begun, None

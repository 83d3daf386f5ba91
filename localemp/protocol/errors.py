"""What can be wrong with an answer, whatever its status says.

AnswerError
├── ServedError             the server says that it failed: by the status, or inside an answer with status 200
└── UnreadableAnswerError   what came is no completion: a web page, nothing, half of one
"""

from collections.abc import Mapping
from typing import Any

from localemp.utils.json_reader import JSONError, parse_json
from localemp.utils.text import one_line, well_formed

LONGEST_MESSAGE = 300
"""Characters of a server's message that are told."""

LARGEST_ERROR = 2**20
"""Bytes of an answer whose status is an error's."""

_RETRIED = frozenset({408, 409, 425, 429})
# What servers write where a status should be, by a word that is in it; the first that fits counts.
_STATUS_OF = (
    ("rate_limit", 429), ("ratelimit", 429), ("too_many_requests", 429), ("resource_exhausted", 429),
    ("quota", 429), ("overloaded", 503), ("unavailable", 503), ("timeout", 504), ("timed_out", 504), ("deadline", 504),
    ("context_length", 400), ("invalid", 400), ("bad_request", 400), ("badrequest", 400), ("content_filter", 400),
    ("content_policy", 400), ("unsupported", 400), ("authentication", 401), ("unauthorized", 401), ("api_key", 401),
    ("billing", 402), ("permission", 403), ("forbidden", 403), ("moderation", 403), ("not_found", 404),
    ("notfound", 404),
)  # fmt: skip
UNKNOWN_STATUS = 502
"""Of an error inside an answer that tells nothing of what kind it is."""


class AnswerError(Exception):
    """An answer that holds no reply.

    Attributes:
        message: What is wrong, in one line.
        retry_after: Seconds after which the server wants to be asked again; None where it does not say.
    """

    retry_after: float | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed later."""
        raise NotImplementedError


class ServedError(AnswerError):
    """A server's own error.

    Attributes:
        status: Of HTTP; of an error inside an answer with status 200 the one that fits it.
        code, type, param: As OpenAI's API has them; empty where the server does not say.
        inside: Whether it stood inside an answer, so that the status is ours.
    """

    inside: bool = False

    def __init__(self, message: str, status: int, code: str = "", type: str = "", param: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.type, self.param = status, code, type, param

    @property
    def may_pass(self) -> bool:
        """Whether HTTP calls such a status a passing one: 408, 409, 425, 429, 5xx."""
        return self.status in _RETRIED or self.status >= 500

    @classmethod
    def read(cls, error: Any, status: int | None = None) -> "ServedError":
        """Make one of what a server sent as its error, whatever form that has.

        Args:
            error: The body of the answer, decoded or not, or what it has under "error".
            status: Of HTTP, where it says more than 200.
        """
        error = _decoded(error) if isinstance(error, bytes) else error
        body = error.get("error") or error if isinstance(error, Mapping) else error
        # FastAPI and others write {"detail": ...}, some hosts a list of errors.
        if isinstance(body, list) and body:
            body = body[0].get("error", body[0]) if isinstance(body[0], Mapping) else body[0]
        fields = body if isinstance(body, Mapping) else {}
        code, kind, param = (_word(fields.get(name)) for name in ("code", "type", "param"))
        said = next((fields[name] for name in ("message", "detail", "msg", "error") if fields.get(name)), None)
        message = one_line(well_formed(str(said or body or "")), LONGEST_MESSAGE)
        inside = _status(fields)
        found = status or inside or _by_name(f"{code} {kind}".lower())
        made = cls(message or "the server gave no reason", found, code, kind, param)
        made.inside = status is None
        return made


class UnreadableAnswerError(AnswerError):
    """What came is no completion; a proxy's page, an empty body and a cut one usually pass."""

    @property
    def may_pass(self) -> bool:
        """Always."""
        return True


def _decoded(body: bytes) -> Any:
    try:
        return parse_json(body)
    except JSONError:
        return body.decode("utf-8", "replace")


def _status(fields: Mapping[str, Any]) -> int | None:
    """The status that an error names itself."""
    for name in ("status", "status_code", "http_status", "code"):
        value = fields.get(name)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599:
            return value
    return None


def _by_name(words: str) -> int:
    return next((status for word, status in _STATUS_OF if word in words), UNKNOWN_STATUS)


def _word(value: Any) -> str:
    if isinstance(value, str):
        return one_line(well_formed(value), 100)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**6 else ""

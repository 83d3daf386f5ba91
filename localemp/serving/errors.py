"""The errors that clients get, in OpenAI's form."""

from collections.abc import Iterable

from localemp.utils.text import one_line
from localemp.web.asgi import SafeJSONResponse

LONGEST_MESSAGE = 600
"""Characters of an error message; names in it have at most 200."""


class RequestError(Exception):
    """A request that cannot be answered.

    Args:
        message: What is wrong.
        param: The key of the request at fault.
        code: OpenAI's machine-readable code.
        status: The HTTP status.
        kind: OpenAI's type of error.
        headers: Further headers, such as Retry-After.

    Attributes:
        content: The body: `{"error": {"message", "type", "param", "code"}}`.
    """

    def __init__(
        self,
        message: str,
        param: str | None = None,
        code: str | None = None,
        status: int = 400,
        *,
        kind: str = "invalid_request_error",
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        # Names in it are the client's, and may be long.
        message, param = one_line(message, LONGEST_MESSAGE), param and one_line(param)
        super().__init__(message)
        self.status, self.headers = status, headers
        self.content = {"error": {"message": message, "type": kind, "param": param, "code": code}}

    def response(self, more_headers: Iterable[tuple[bytes, bytes]] = ()) -> SafeJSONResponse:
        """Return the response that tells the client."""
        response = SafeJSONResponse(self.content, self.status)
        response.raw_headers += [*self.headers, *more_headers]
        return response


def not_found(path: str) -> RequestError:
    """Return the error for a path that leads nowhere."""
    return RequestError(f"there is nothing at {one_line(path)}", code="not_found", status=404)


def model_not_found(name: str, near: str | None = None) -> RequestError:
    """Return the error for a model that is not served, with the name that may be meant."""
    hint = f"; did you mean {near!r}?" if near else ""
    return RequestError(f"there is no model {one_line(name)!r}{hint}", "model", "model_not_found", 404)

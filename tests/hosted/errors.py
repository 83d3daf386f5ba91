"""Errors as the service sends them."""

import json
from collections.abc import Mapping
from typing import Any


class ServiceError(Exception):
    """An error that the service answers with: a status, a message, and what its body says besides."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str | None = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})
        self.fields = {"message": message, "type": kind, "param": param, "code": code, **(extra or {})}

    @property
    def value(self) -> dict[str, Any]:
        """The body as JSON values."""
        return {"error": self.fields}

    @property
    def body(self) -> bytes:
        return json.dumps(self.value).encode()


def missing_key() -> ServiceError:
    return ServiceError(401, "You didn't provide an API key. Send it as a bearer token in the Authorization header.")


def wrong_key(key: str) -> ServiceError:
    shown = f"{key[:3]}***{key[-2:]}"
    return ServiceError(401, f"Incorrect API key provided: {shown}.", code="invalid_api_key")


def no_credit() -> ServiceError:
    return ServiceError(
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        kind="insufficient_quota",
        code="insufficient_quota",
    )


def overloaded() -> ServiceError:
    """What the service says when it is busy, which no header foretells."""
    return ServiceError(
        429,
        "That model is currently overloaded with other requests. You can retry your request.",
        kind="requests",
        code="rate_limit_exceeded",
    )


def server_error() -> ServiceError:
    return ServiceError(
        500, "The server had an error while processing your request. Sorry about that!", kind="server_error"
    )


def content_filtered() -> ServiceError:
    """Azure's answer to a prompt that its content filter withholds."""
    return ServiceError(
        400,
        "The response was filtered due to the prompt triggering the content management policy.",
        kind=None,
        code="content_filter",
        param="prompt",
        extra={
            "status": 400,
            "innererror": {
                "code": "ResponsibleAIPolicyViolation",
                "content_filter_result": {
                    "hate": {"filtered": False, "severity": "safe"},
                    "self_harm": {"filtered": True, "severity": "high"},
                    "sexual": {"filtered": False, "severity": "safe"},
                    "violence": {"filtered": False, "severity": "safe"},
                },
            },
        },
    )


def flex_unavailable() -> ServiceError:
    """Flex processing has no room now; not charged."""
    return ServiceError(
        429, "Resource unavailable. Please try again later.", kind="resource_unavailable", code="resource_unavailable"
    )


def unsupported(param: str, message: str, code: str) -> ServiceError:
    return ServiceError(400, message, code=code, param=param)

"""Which server is asked, for which model, with which key."""

import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from localemp.errors import OptionError
from localemp.utils.redaction import redact_text

OPENAI_URL = "https://api.openai.com/v1"
KEY_VARIABLE = "OPENAI_API_KEY"
URL_VARIABLE = "OPENAI_BASE_URL"
URL_HINT = "check --base-url: it usually ends in /v1"


@dataclass(frozen=True, slots=True)
class Target:
    """A server, a model of it, and the key for it.

    Attributes:
        url: The base URL as it may be shown: without credentials, query and final slash.
        model: The model's name at the server.
        address: The base URL as it was given.
        key: Empty where there is none.
    """

    url: str
    model: str
    address: str = field(repr=False)
    key: str = field(repr=False)

    @classmethod
    def find(cls, model: str, base_url: str | None, api_key: str | None) -> "Target":
        """Take what is given, else what the environment says, else OpenAI's own server.

        Raises:
            OptionError: The URL is none, or the key holds characters that no key has.
        """
        # What is given is never replaced, an empty one neither: prompts and key would go to another server.
        address = _tidy(os.environ.get(URL_VARIABLE) or OPENAI_URL if base_url is None else base_url)
        key = (api_key or os.environ.get(KEY_VARIABLE) or "").strip()
        if not (key.isascii() and key.isprintable()):
            raise OptionError(
                f"the key in {KEY_VARIABLE} holds characters that no key has",
                f"copy it again, without quotation marks: export {KEY_VARIABLE}=...",
            )
        return cls(shown_url(address), model, address, key)

    @property
    def is_openai(self) -> bool:
        """Whether the server is OpenAI's own, regional ones included: those want a key."""
        host = urlsplit(self.url).hostname or ""
        return host == "api.openai.com" or host.endswith(".api.openai.com")


def _tidy(url: str) -> str:
    """Without the white space and the final slashes that are copied along."""
    head, mark, query = url.strip().partition("?")
    return head.rstrip("/") + mark + query


def shown_url(url: str) -> str:
    """A base URL as it may be shown and kept: without credentials, query and final slash.

    Raises:
        OptionError: It is no URL.
    """
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:  # a port that is no number, half a bracket
        parts, port = urlsplit(""), ""
    if parts.scheme not in ("http", "https") or not parts.hostname:
        shown = f"***@{url.rpartition('@')[2]}" if "@" in url else redact_text(url)
        raise OptionError(f"{shown!r} is no URL of a server", "write it like http://localhost:8000/v1")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}{parts.path}".rstrip("/")

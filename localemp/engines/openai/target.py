"""The server, model and key that requests are sent with."""

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
        url: The base URL for display: without credentials, query and trailing slash.
        model: Name of the model on the server.
        address: The base URL as given.
        key: The API key; empty if there is none.
        notice: What is known of the model's end, which explains that it is missing; usually empty.
    """

    url: str
    model: str
    address: str = field(repr=False)
    key: str = field(repr=False)
    notice: str = ""

    @classmethod
    def resolve(cls, model: str, base_url: str | None, api_key: str | None, notice: str = "") -> "Target":
        """Return the target from the arguments, else from the environment, else OpenAI's server.

        Raises:
            OptionError: The URL is invalid, or the key has characters that no key has.
        """
        # A given URL is never replaced, not even an empty one: prompts and key would go to another server.
        address = _tidy(os.environ.get(URL_VARIABLE) or OPENAI_URL if base_url is None else base_url)
        key = (api_key or os.environ.get(KEY_VARIABLE) or "").strip()
        if not (key.isascii() and key.isprintable()):
            raise OptionError(
                f"the key in {KEY_VARIABLE} has characters that no key has",
                f"copy it again, without quotation marks: export {KEY_VARIABLE}=...",
            )
        return cls(shown_url(address), model, address, key, notice)

    @property
    def is_openai(self) -> bool:
        """Whether this is OpenAI's server, including regional ones, which require a key."""
        host = urlsplit(self.url).hostname or ""
        return host == "api.openai.com" or host.endswith(".api.openai.com")


def _tidy(url: str) -> str:
    """Strip white space and trailing slashes, which are easily copied along."""
    head, mark, query = url.strip().partition("?")
    return head.rstrip("/") + mark + query


def shown_url(url: str) -> str:
    """Return a base URL for display and storage: without credentials, query and trailing slash.

    Raises:
        OptionError: The URL is invalid.
    """
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:  # a port that is not a number, an unclosed bracket
        parts, port = urlsplit(""), ""
    if parts.scheme not in ("http", "https") or not parts.hostname:
        shown = f"***@{url.rpartition('@')[2]}" if "@" in url else redact_text(url)
        raise OptionError(f"{shown!r} is not the URL of a server", "use the form http://localhost:8000/v1")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}{parts.path}".rstrip("/")

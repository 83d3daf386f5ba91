"""The server, model and key that requests are sent with."""

import os
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from localemp.engines.openai.servers import OPENAI, Server, headers_of, key_for, server_at
from localemp.errors import FatalEngineError, OptionError
from localemp.utils.redaction import redact_text

OPENAI_URL = "https://api.openai.com/v1"
URL_VARIABLE = "OPENAI_BASE_URL"


@dataclass(frozen=True, slots=True)
class Target:
    """A server, a model of it, and the key for it.

    Attributes:
        url: The base URL for display: without credentials, query and trailing slash.
        model: Name of the model on the server.
        address: The base URL as given.
        key: The API key; empty if there is none.
        key_variable: The environment variable that has the key, or should have it.
        server: What is known of the server.
        notice: What is known of the model's end, which explains that it is missing; usually empty.
        given_by: What gave the URL, such as "--base-url"; empty if nobody gave one.
    """

    url: str
    model: str
    address: str = field(repr=False)
    key: str = field(repr=False)
    key_variable: str
    server: Server = field(repr=False)
    notice: str = ""
    given_by: str = "--base-url"

    @classmethod
    def resolve(
        cls, model: str, base_url: str | None, api_key: str | None, *, named: bool = True, notice: str = ""
    ) -> "Target":
        """Return the target from the arguments, else from the environment, else OpenAI's server.

        Args:
            model: Name of the model on the server.
            base_url: URL of the server; None for the environment's, else OpenAI's.
            api_key: The key; None for the environment's, see `servers.key_for`.
            named: Whether the user gave the URL, rather than a model's profile.
            notice: What is known of the model's end.

        Raises:
            OptionError: The URL is invalid, the key has characters that no key has, or it is another server's.
        """
        # A given URL is never replaced, not even an empty one: prompts and key would go to another server.
        address = address_of(base_url)
        url = shown_url(address)
        server = server_at(url)
        if api_key:
            key, variable = api_key.strip(), server.key_variable
        else:
            key, variable = key_for(server, named=named or base_url is None)
        if not (key.isascii() and key.isprintable()):
            raise OptionError(
                f"the key in {variable} has characters that no key has",
                f"copy it again, without quotation marks: export {variable}=...",
            )
        given_by = "--base-url" if named else "base_url in the model's profile"
        if base_url is None:
            given_by = URL_VARIABLE if os.environ.get(URL_VARIABLE) else ""
        return cls(url, model, address, key, variable, server, notice, given_by)

    @property
    def is_openai(self) -> bool:
        """Whether this is OpenAI's server, including regional ones."""
        return self.server is OPENAI

    @property
    def url_hint(self) -> str:
        """What to check where the server is not there, or is another one."""
        if not self.given_by:
            return "check the network, or give a server of your own with --base-url"
        return f"check {self.given_by}: it usually ends in /v1"

    @property
    def base(self) -> str:
        """The base URL without its query."""
        return self.address.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        """The query of the base URL, which goes with every request."""
        return dict(parse_qsl(self.address.partition("?")[2], keep_blank_values=True))

    @property
    def key_header(self) -> tuple[str, str]:
        """Name and value of the header that carries the key."""
        return headers_of(self.server, self.key)

    def check_key(self) -> None:
        """Check that there is a key where the server is known to need one.

        Raises:
            FatalEngineError: There is none.
        """
        if self.server.needs_key and not self.key:
            raise FatalEngineError(
                f"{self.url} requires a key, and {self.key_variable} is not set",
                f"export {self.key_variable}=..., or give your own server with --base-url",
            )


def address_of(base_url: str | None) -> str:
    """Return the address that is asked: the given one, else the environment's, else OpenAI's."""
    return _tidy(os.environ.get(URL_VARIABLE) or OPENAI_URL if base_url is None else base_url)


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

"""Types of options and arguments: paths and names that must not be empty."""

import re
from pathlib import Path
from typing import Any

import click


def _empty(param: click.Parameter | None) -> str:
    """Return the message for an empty value; only what is not required can be left out."""
    return "it is empty; give one" if param is not None and param.required else "it is empty; give one, or leave it out"


class FilePath(click.Path):
    """A path that is not empty, as a `Path`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(path_type=Path, **kwargs)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Reject an empty path."""
        if isinstance(value, str) and not value.strip():
            self.fail(_empty(param), param, ctx)
        return super().convert(value, param, ctx)


class Name(click.ParamType[str]):
    """A name, or a path that may stand in its place; not empty."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Reject an empty name."""
        if not str(value).strip():
            self.fail(_empty(param), param, ctx)
        return str(value)


class Server(click.ParamType[str]):
    """A running `localemp serve`: "auto", "none" or a URL."""

    name = "server"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Reject what is neither of them."""
        text = str(value).strip()
        if text not in ("auto", "none") and not re.match(r"https?://[^/@?#\s]+(?:/v1)?/?$", text):
            from localemp.utils.redaction import redact_text

            self.fail(
                f"{redact_text(text)!r} is not auto, none or an address such as http://127.0.0.1:8000", param, ctx
            )
        return text


PATH, NAME, SERVER = FilePath(), Name(), Server()

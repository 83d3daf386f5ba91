"""The files of web pages: a page's own, and those that all pages share (`page/`: base.css, elements.js)."""

from collections.abc import Mapping
from pathlib import Path

from starlette.responses import Response

SHARED = Path(__file__).with_name("page")
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


def page_responses(folder: Path, headers: Mapping[str, str] | None = None) -> dict[str, Response]:
    """Return a response for each of a page's files, by the file's name.

    Args:
        folder: The page's own files.
        headers: Headers of every response.
    """
    files = [*SHARED.iterdir(), *folder.iterdir()]
    return {path.name: Response(path.read_bytes(), headers=headers, media_type=_TYPES[path.suffix]) for path in files}

"""The files of the page that `localemp serve` shows at `/`."""

from functools import cache
from pathlib import Path

from starlette.responses import Response

from localemp.web.page_files import page_responses

_FOLDER = Path(__file__).with_name("page")
_HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": "frame-ancestors 'none'",  # the page's own policy cannot say this
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


@cache
def _files() -> dict[str, Response]:
    files = page_responses(_FOLDER, _HEADERS)
    return {"/": files["index.html"]} | {f"/page/{name}": response for name, response in files.items()}


def is_page(path: str) -> bool:
    """Whether a path is the page's or one of its files'."""
    return path == "/" or path.startswith("/page/")


def page_file(path: str) -> Response | None:
    """Return the response with a file of the page; None if a path names none."""
    return _files().get(path)

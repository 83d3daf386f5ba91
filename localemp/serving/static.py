"""The files of the page that `localemp serve` shows at `/`."""

from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent / "page"
_TYPES = {".html": b"text/html; charset=utf-8", ".css": b"text/css; charset=utf-8", ".js": b"text/javascript"}
_HEADERS = (
    (b"cache-control", b"no-cache"),
    (b"content-security-policy", b"frame-ancestors 'none'"),  # the page's own policy cannot say this
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


@cache
def _files() -> dict[str, tuple[bytes, bytes]]:
    files = {f"/page/{path.name}": (path.read_bytes(), _TYPES[path.suffix]) for path in _FOLDER.iterdir()}
    return files | {"/": files["/page/index.html"]}


def is_page(path: str) -> bool:
    """Whether the page or its files are there, and nothing else."""
    return path == "/" or path.startswith("/page/")


def page_file(path: str) -> tuple[bytes, bytes, tuple[tuple[bytes, bytes], ...]] | None:
    """Content, type and headers of a file of the page; None where a path names none."""
    found = _files().get(path)
    return (*found, _HEADERS) if found else None

"""`study.serve`: the page on which people rate a study."""

import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from localemp.errors import OptionError
from localemp.studies.privacy import open_study
from localemp.studies.study import ANSWERS, Study
from localemp.utils.extras import require
from localemp.utils.paths import StrPath

if TYPE_CHECKING:
    from localemp.studies.answers import AnswerStore

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class ServedStudy:
    """A study that is about to be served, and how raters reach it.

    Attributes:
        study: The study.
        answers: The file with the answers.
        base: The address that raters type.
        links: The secret link of each rater, and of the owner, by name; None if there was one already, which
            cannot be shown again.
        by_name: Whether raters may sign in by a name alone.
        local: Whether it is reached from this machine alone.
    """

    study: Study
    answers: Path
    base: str
    links: Mapping[str, str | None] = field(repr=False)
    by_name: bool
    local: bool


def serve(
    study: StrPath,
    *,
    raters: str | Iterable[str] | None = None,
    new_link: str | Iterable[str] = (),
    open_signup: bool = False,
    host: str = "127.0.0.1",
    port: int = 8300,
    url: str | None = None,
    on_links: Callable[[ServedStudy], None],
    on_ready: Callable[[ServedStudy], None] = lambda served: None,
) -> None:
    """Serve the page on which people rate in a browser, until Ctrl-C. Every answer is saved at once.

    Args:
        study: The study's folder.
        raters: Names; each who has no link gets one. By default a study of a preset that has no rater yet gets as many
            as it asks for.
        new_link: Raters, or "owner", who get a fresh link, which ends the old one.
        open_signup: Let everybody who reaches the page become a rater by giving a name.
        host: Where to listen; "0.0.0.0" is every network.
        port: The port.
        url: The address that raters type, if an HTTPS server stands in front of this one.
        on_links: Called once with the links, which cannot be had again, before anybody is served.
        on_ready: Called when the page is served.

    Raises:
        OptionError: A package is missing, or a value cannot be used.
        RunError: The folder holds no study.
        LocalempError: The port cannot be had.
    """
    require("serve", "`localemp study serve`", "starlette", "uvicorn")
    from localemp.studies.answers import AnswerStore
    from localemp.studies.raters import OWNER
    from localemp.studies.web.app import StudyApp
    from localemp.web.server import open_listener, serve_on

    base = _checked(url) if url else _url_of(host, port)
    local = host in _LOOPBACK and not url
    rated = open_study(Path(study))
    answers = AnswerStore(Path(study) / ANSWERS, rated)
    app = StudyApp(
        rated, answers, signup=local or open_signup, hosts=_LOOPBACK if local else None, url=base if url else ""
    )
    try:
        with open_listener(host, port) as listener:
            # Only now: a link that was made and not shown cannot be had again.
            tokens = answers.make_links(
                _named(raters, rated, answers), [new_link] if isinstance(new_link, str) else list(new_link)
            )
            links = {
                name: f"{base}/{'o' if name == OWNER else 'r'}/{token}" if token else None
                for name, token in tokens.items()
            }
            served = ServedStudy(rated, Path(study) / ANSWERS, base, links, local or open_signup, local)
            on_links(served)
            app.warm(list(answers.progress()))
            serve_on(listener, app.app, partial(on_ready, served))
    finally:
        answers.close()


def _named(raters: str | Iterable[str] | None, study: Study, answers: "AnswerStore") -> list[str]:
    """Return the raters who get a link: those named, else as many as the design asks for if there are none yet."""
    if raters is not None:
        return [raters] if isinstance(raters, str) else list(raters)
    planned = 0 if answers.progress() or answers.votes() else study.manifest.annotators or 0
    return [f"annotator-{number}" for number in range(1, planned + 1)]


def _url_of(host: str, port: int) -> str:
    """Return the URL for raters: this machine's name if the server listens on all interfaces."""
    name = socket.gethostname() if host in ("0.0.0.0", "::", "") else host
    return f"http://{f'[{name}]' if ':' in name else name}:{port}"


def _checked(url: str) -> str:
    from localemp.web.addresses import normalize_address

    try:
        return normalize_address(url)
    except ValueError as error:
        raise OptionError(f"--url {url!r}: {error}", "for example https://study.example.org") from error

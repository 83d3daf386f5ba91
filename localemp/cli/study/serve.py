"""`localemp study serve`: a page on which people rate."""

import shlex
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import click

from localemp.cli.study.opened import opened
from localemp.utils.text import one_line
from localemp.utils.words import count

if TYPE_CHECKING:
    from localemp.studies.answers import AnswerStore
    from localemp.studies.study import Study

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option(
    "--raters",
    metavar="ANNA,BEN,...",
    help="Make a link for each of them who has none. Without it, a study of a preset that has no rater yet gets as "
    "many as it asks for.",
)
@click.option("--new-link", "anew", multiple=True, metavar="NAME",
              help="A fresh link for a rater, or for `owner`, which ends the old one; may be repeated.")  # fmt: skip
@click.option("--open-signup", is_flag=True, help="Let everybody who reaches the page become a rater by giving a name.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; 0.0.0.0 is every network.")
@click.option("--port", type=click.IntRange(1, 65535), default=8300, show_default=True)
@click.option("--url", help="The address that raters type, if an HTTPS server stands in front of this one.")
def serve(
    study: Path, raters: str | None, anew: tuple[str, ...], open_signup: bool, host: str, port: int, url: str | None
) -> None:
    """Serve the page on which people rate in a browser.

    Each rater has a secret link, which is printed once, and so has the owner, who sees progress and agreement. On this
    machine alone (127.0.0.1) raters may also sign in by a name. Every answer is saved at once; Ctrl-C stops.
    """
    from importlib.util import find_spec

    from localemp.errors import OptionError

    if not (find_spec("starlette") and find_spec("uvicorn")):
        raise OptionError("`localemp study serve` needs starlette and uvicorn", "pip install 'localemp[serve]'")
    from localemp.studies.answers import AnswerStore
    from localemp.studies.raters import OWNER
    from localemp.studies.study import ANSWERS
    from localemp.studies.web.app import StudyApp
    from localemp.web.server import open_listener, serve_on

    base = _checked(url) if url else _url_of(host, port)
    local = host in _LOOPBACK and not url
    rated = opened(study)
    answers = AnswerStore(study / ANSWERS, rated)
    app = StudyApp(
        rated, answers, signup=local or open_signup, hosts=_LOOPBACK if local else None, url=base if url else ""
    )

    def ready() -> None:
        if local or open_signup:
            click.echo(f"By a name alone, {'on this machine' if local else 'from anywhere'}: {base}/")
        if not local and base.startswith("http:"):
            click.echo(
                f"warning: {base} is reached without encryption; beyond a network that you trust, put a server with "
                "https before it and give its address as --url",
                err=True,
            )
        click.echo("ready; Ctrl-C stops")

    try:
        with open_listener(host, port) as listener:
            # Only now: a link that was made and not shown cannot be had again.
            links = answers.make_links(_named(raters, rated, answers), anew)
            click.echo(
                f"{one_line(rated.manifest.title)}: {count(len(rated.items), 'item')}, answers in {study / ANSWERS}\n"
            )
            for name, token in links.items():
                kept = f"has a link already (--new-link {shlex.quote(name)} makes a fresh one)"
                click.echo(f"  {name}: " + (f"{base}/{'o' if name == OWNER else 'r'}/{token}" if token else kept))
            if any(links.values()):
                click.echo("\nA link is a key: give it to nobody else. It is shown only now.")
            click.echo()
            app.warm(list(answers.progress()))
            serve_on(listener, app.app, ready)
    finally:
        answers.close()


def _named(raters: str | None, study: "Study", answers: "AnswerStore") -> list[str]:
    """Return the raters who get a link: those named, else as many as the design asks for if there are none yet."""
    if raters is not None:
        return raters.split(",")
    planned = 0 if answers.progress() or answers.votes() else study.manifest.annotators or 0
    return [f"annotator-{number}" for number in range(1, planned + 1)]


def _url_of(host: str, port: int) -> str:
    """Return the URL for raters: this machine's name if the server listens on all interfaces."""
    name = socket.gethostname() if host in ("0.0.0.0", "::", "") else host
    return f"http://{f'[{name}]' if ':' in name else name}:{port}"


def _checked(url: str) -> str:
    from localemp.errors import OptionError
    from localemp.web.addresses import normalize_address

    try:
        return normalize_address(url)
    except ValueError as error:
        raise OptionError(f"--url {url!r}: {error}", "for example https://study.example.org") from error

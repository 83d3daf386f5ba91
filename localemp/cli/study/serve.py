"""`localemp study serve`: a page on which people rate."""

import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from localemp.cli.words import count

if TYPE_CHECKING:
    from localemp.studies.answers import Answers
    from localemp.studies.raters import RaterRole

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option("--raters", metavar="ANNA,BEN,...", help="Make a link for each of them who has none.")
@click.option("--new-link", "anew", multiple=True, metavar="NAME",
              help="A fresh link for a rater, or for `owner`, which ends the old one; may be repeated.")  # fmt: skip
@click.option("--open-signup", is_flag=True, help="Let everybody who reaches the page become a rater by giving a name.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; 0.0.0.0 is every network.")
@click.option("--port", type=click.IntRange(1, 65535), default=8300, show_default=True)
@click.option("--url", help="What raters type, where a server with https stands before this one.")
def serve(
    study: Path, raters: str | None, anew: tuple[str, ...], open_signup: bool, host: str, port: int, url: str | None
) -> None:
    """Serve a study's page, on which people rate in a browser.

    Each rater has a secret link, which is printed once, and so has the owner, who sees progress and agreement. On this
    machine alone (127.0.0.1) raters may also sign in by a name. Every answer is on the disk at once; Ctrl-C stops.
    """
    from importlib.util import find_spec

    from localemp.errors import OptionError

    if not (find_spec("starlette") and find_spec("uvicorn")):
        raise OptionError("`localemp study serve` needs starlette and uvicorn", "pip install 'localemp[serve]'")
    from localemp.serving.listening import serve as listen
    from localemp.studies.answers import Answers
    from localemp.studies.raters import OWNER, clean_name
    from localemp.studies.study import ANSWERS, Study
    from localemp.studies.web import StudyApp

    base = _checked(url) if url else _url_of(host, port)
    local = host in _LOOPBACK and not url
    rated = Study.read(study)
    answers = Answers(study / ANSWERS, rated)
    named = [] if raters is None else [clean_name(name) for name in raters.split(",")]
    click.echo(f"{rated.manifest.title}: {count(len(rated.items), 'item')}, answers in {study / ANSWERS}\n")
    # Printed at once: whatever happens next, a link that was made cannot be had again.
    made = [_show_link(answers, name, name in anew, base) for name in dict.fromkeys([OWNER, *named, *anew])]
    click.echo("\nA link is a key: give it to nobody else. It is shown only now.\n" if any(made) else "")
    app = StudyApp(rated, answers, signup=local or open_signup, hosts=_LOOPBACK if local else None, url=url or "")
    app.warm(list(answers.progress()))

    def ready() -> None:
        if local or open_signup:
            click.echo(f"By a name alone, {'on this machine' if local else 'from anywhere'}: {base}/")
        if not local and not url:
            click.echo(
                f"warning: {host} is reached without encryption; beyond a network that you trust, put a server with "
                "https before it and give its address as --url",
                err=True,
            )
        click.echo("ready; Ctrl-C stops")

    try:
        listen(app.app, host, port, ready)
    finally:
        answers.close()


def _show_link(answers: "Answers", name: str, anew: bool, base: str) -> bool:
    """Print somebody's link, as far as there is one to show; whether one was made."""
    from localemp.studies.raters import OWNER

    kind: RaterRole = "owner" if name == OWNER else "person"
    if not anew and answers.has_link(name, kind):
        click.echo(f"  {name}: has a link already (--new-link {_quoted(name)} makes a fresh one)")
        return False
    token = answers.new_link(name, kind) if anew else answers.add_rater(name, kind)
    click.echo(f"  {name}: {base}/{'o' if name == OWNER else 'r'}/{token}")
    return True


def _quoted(name: str) -> str:
    return f'"{name}"' if " " in name else name


def _url_of(host: str, port: int) -> str:
    """What a rater types: where the server listens everywhere, this machine's name."""
    name = socket.gethostname() if host in ("0.0.0.0", "::", "") else host
    return f"http://{f'[{name}]' if ':' in name else name}:{port}"


def _checked(url: str) -> str:
    from localemp.errors import OptionError

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/") or parts.query:
        raise OptionError(f"--url {url!r} is no address of a server", "for example https://study.example.org")
    return url.rstrip("/")

"""`localemp study serve`: a page on which people rate."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from localemp.cli.command import Command
from localemp.cli.types import PATH
from localemp.utils.formatting import count
from localemp.utils.text import one_line

if TYPE_CHECKING:
    from localemp.commands.study import ServedStudy


@click.command(cls=Command)
@click.argument("study", type=PATH)
@click.option(
    "--raters",
    metavar="ANNA,BEN,...",
    help="Make a link for each of these raters who has none. By default, a study with a preset and no raters yet gets "
    "as many as the preset asks for.",
)
@click.option("--new-link", "new_links", multiple=True, metavar="NAME",
              help="Replace the link of a rater, or of `owner`; may be repeated.")  # fmt: skip
@click.option("--open-signup", is_flag=True, help="Let anyone who reaches the page sign in with a name.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 is all networks.")
@click.option("--port", type=click.IntRange(1, 65535), default=8300, show_default=True)
@click.option("--url", help="The address that raters type, if an HTTPS server stands in front of this one.")
def serve(
    study: Path,
    raters: str | None,
    new_links: tuple[str, ...],
    open_signup: bool,
    host: str,
    port: int,
    url: str | None,
) -> None:
    """Serve the page on which people rate in a browser.

    Each rater has a secret link; the owner has one too, which shows progress and agreement. Links are printed once.
    On this machine alone (127.0.0.1) raters may also sign in by a name. Every answer is saved at once; Ctrl-C stops.
    """
    from localemp.commands.study import serve as serve_study

    serve_study(
        study,
        raters=None if raters is None else raters.split(","),
        new_link=new_links,
        open_signup=open_signup,
        host=host,
        port=port,
        url=url,
        on_links=_show_links,
        on_ready=_show_ready,
    )


def _show_links(served: "ServedStudy") -> None:
    study = served.study
    click.echo(f"{one_line(study.manifest.title)}: {count(len(study.items), 'item')}, answers in {served.answers}\n")
    for name, link in served.links.items():
        click.echo(f"  {name}: {link or f'has a link already (--new-link {shlex.quote(name)} makes a fresh one)'}")
    if any(served.links.values()):
        click.echo("\nA link is a secret key: give it only to its rater. It is shown only once.")
    click.echo()


def _show_ready(served: "ServedStudy") -> None:
    if served.by_name:
        click.echo(f"By a name alone, {'on this machine' if served.local else 'from anywhere'}: {served.base}/")
    if not served.local and served.base.startswith("http:"):
        click.echo(
            f"warning: {served.base} is reached without encryption; beyond a network that you trust, put an HTTPS "
            "server in front of it and pass its address as --url",
            err=True,
        )
    click.echo("ready; Ctrl-C stops")

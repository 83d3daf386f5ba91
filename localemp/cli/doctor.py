"""`localemp doctor`: checks this machine, and suggests what to install or fetch."""

import os
from typing import TYPE_CHECKING

import click

from localemp.cli.command import Command
from localemp.cli.tables import show_table

if TYPE_CHECKING:
    from localemp.utils.plugins import Plugin


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Check this machine: GPU, memory, versions, weights, keys and plug-ins, and what is missing."""
    import json
    from dataclasses import asdict

    from rich.markup import escape
    from rich.table import Table

    from localemp.utils.machine import machine, versions

    found = {"Machine": machine() | _cache(), "Packages": versions(), "Weights": _weights(), "Keys": _keys()}
    found["Defaults"] = _defaults()
    found |= {"Servers": servers} if (servers := _servers()) else {}
    plugins = _plugins()
    verdict, following = _verdict(found)
    if as_json:
        told = {"Plug-ins": [asdict(plugin) for plugin in plugins], "Verdict": verdict, "Next": following}
        click.echo(json.dumps(found | told, indent=2))
        return
    table = Table(show_header=False, box=None)
    shown = {
        f"{plugin.name} ({plugin.kind})": f"{plugin.package} {plugin.version}, {plugin.state}" for plugin in plugins
    }
    for title, facts in (found | ({"Plug-ins": shown} if shown else {})).items():
        table.add_row(f"[bold]{title}[/bold]")
        for name, fact in facts.items():
            table.add_row(f"  {escape(name)}", escape(fact))
    show_table(table)
    broken = dict.fromkeys(plugin.package for plugin in plugins if plugin.error)
    for step in [*_missing(found), *(f"repair {name}, or remove it: pip uninstall {name}" for name in broken)]:
        click.echo(f"hint: {step}")
    click.echo(f"{click.style(verdict, bold=True)}\nnext: {following}")


def _verdict(found: dict[str, dict[str, str]]) -> tuple[str, str]:
    """Return in a sentence what this machine is ready for, and the command to go on with."""
    from localemp.cli.config import wrong_default
    from localemp.engines.vllm.versions import vllm_version
    from localemp.utils.extras import engine_extra, install_command

    if wrong := wrong_default():
        return f"Not ready: {wrong.message}.", wrong.hint
    keys = [name for name, state in found["Keys"].items() if state == "set" and name != "HF_TOKEN"]
    hosted = f"models of a service too ({', '.join(keys)})" if keys else "models of a service need a key"
    example = 'respond "I lost my job today."'
    version = vllm_version()
    if version is None:
        verdict = f"Not ready for models on this machine: vLLM is not installed. {hosted[0].upper()}{hosted[1:]}."
        return verdict, f"localemp {example} --model gpt-6-luna" if keys else install_command(engine_extra())
    where = "the CPU, so small models only" if found["Machine"]["GPU"] == "none" else found["Machine"]["GPU"]
    return f"Ready: models run here with vLLM {version} on {where}; {hosted}.", f"localemp {example}"


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
    from localemp.utils.formatting import size

    places = {profile.name: find(profile) for profile in list_profiles() if not profile.hosted}
    return {
        name: f"{size(place.bytes)}, {place.source}" if place else "not downloaded" for name, place in places.items()
    }


def _plugins() -> "list[Plugin]":
    from localemp.data.readers import readers
    from localemp.engines.registry import engines
    from localemp.metrics.registry import metric_entries
    from localemp.strategies.registry import parts
    from localemp.utils.plugins import plugins

    for load in (parts, metric_entries, engines, readers):
        load()
    return plugins()


def _keys() -> dict[str, str]:
    from localemp.engines.openai.servers import key_variables

    found = {name: "set" if os.environ.get(name) else "not set" for name in key_variables()}
    return {name: state for name, state in found.items() if state == "set" or name in ("OPENAI_API_KEY", "HF_TOKEN")}


def _defaults() -> dict[str, str]:
    """Return the config file, and the defaults of the user's; what is wrong with it, if it is damaged."""
    from localemp.cli.defaults import find_defaults, shown
    from localemp.errors import LocalempError
    from localemp.utils.user_config import config_path, read_config

    path = config_path()
    try:
        defaults = find_defaults(read_config())
    except LocalempError as error:
        return {"config file": error.message}
    listed = {key: f"{shown(each.value)}, from {each.source}" for key, each in defaults.items()}
    return {"config file": str(path) if path.exists() else f"{path}, not there", **listed}


def _servers() -> dict[str, str]:
    """Return the user's running servers, which `respond` and `chat` use."""
    from localemp.serving.running import running_servers

    return {server.url: f"{server.model}, process {server.pid}" for server in running_servers()}


def _missing(found: dict[str, dict[str, str]]) -> list[str]:
    from localemp.engines.vllm.versions import is_known, not_known, vllm_version
    from localemp.utils.extras import engine_extra, install_command

    steps = []
    installed = vllm_version()
    if installed is None:
        steps.append(f"install an engine: {install_command(engine_extra())}")
    elif not is_known(installed):
        steps.append(f"{not_known(installed)}: it may fail or give other replies")
    steps += [
        f"{what}: `localemp models pull {name}` (or it is fetched on first use)"
        for name, what in (
            ("smollm2", "the default model is not downloaded"),
            ("all-mpnet-base-v2", "no encoder for `similar`"),
            ("all-minilm-l6-v2", "no encoder for `knowledge` and the EmbSim of `score`"),
            (
                "roberta-large",
                "no model for the BERTScore of `score`, 1.4 GB from the hub; without it, EmbSim stands in",
            ),
        )
        if found["Weights"].get(name) == "not downloaded"
    ]
    return steps

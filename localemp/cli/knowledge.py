"""`localemp knowledge`: COMET's inferences for a text or a whole data set."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from localemp.cli.command import Group
from localemp.cli.interrupts import resumable
from localemp.cli.options import data_options, dialogues_of, subset_options, verify_option
from localemp.cli.tables import show_table
from localemp.cli.types import NAME, FilePath
from localemp.errors import OptionError
from localemp.utils.formatting import count, share
from localemp.utils.interrupts import noting
from localemp.utils.progress import OnProgress, Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from localemp.commonsense.inferences import EventInferences
    from localemp.commonsense.selection import Keep, Selection
    from localemp.commonsense.source import InferenceSource
    from localemp.prompting.template import Template

# Dialogues that are looked up and written together: the more, the more alike are the lengths in a batch of COMET.
_AT_ONCE = 256


@click.group(cls=Group)
def knowledge() -> None:
    """Infer causes and effects with COMET, for a text or a whole data set."""


_comet = click.option(
    "--comet",
    type=NAME,
    help="COMET model: comet-mini (default), comet-bart, a folder, a Hugging Face id or a profile (.toml).",
)
_variant = click.option(
    "--variant", type=NAME, default="paper", show_default=True,
    help="Form of events: paper (the text or whole context), released (last utterance, tokenized), or a .toml file.",
)  # fmt: skip
_beams = click.option(
    "--beams", type=click.IntRange(min=1), default=5, show_default=True, help="Width of the beam search."
)
_keep = click.option("--keep", type=click.IntRange(min=1), help="Number of beams to keep; by default up to 5.")
_device = click.option("--device", help="torch device; by default a GPU if available.")


@knowledge.command()
@click.argument("texts", nargs=-1, required=True, metavar="TEXT...")
@_comet
@click.option(
    "--relations", help="Relations, such as xIntent,xReact; by default the paper's five of the 23 in ATOMIC 2020."
)
@_beams
@_keep
@_device
@_variant
@verify_option
@click.option(
    "--select", type=click.Choice(["relevant", "on-topic"]),
    help="Also show which inferences such a selection puts into a prompt, and why it leaves out the others.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each text.")
def infer(
    texts: tuple[str, ...],
    comet: str | None,
    relations: str | None,
    beams: int,
    keep: int | None,
    device: str | None,
    variant: str,
    select: "Keep | None",
    as_json: bool,
) -> None:
    """Print COMET's inferences for each TEXT, with the score of every beam (log probability per token)."""
    from localemp.cli.display import Display
    from localemp.commonsense.events import check_events, event_of
    from localemp.commonsense.inferences import check_relations
    from localemp.commonsense.store import Entry, line_of
    from localemp.dialogue import Dialogue
    from localemp.models.atomic import RELATIONS
    from localemp.prompting.template import load_template

    if select is not None and as_json:
        raise OptionError("--select does not apply to --json, which has all inferences", "leave one of them out")
    asked = tuple(name.strip() for name in relations.split(",")) if relations is not None else RELATIONS
    check_events(texts)
    check_relations(asked)
    template = load_template(variant)
    event = event_of(template.knowledge.event)
    events = [event(Dialogue("text", (text,))) for text in texts]
    with Display() as display:
        source = _source(comet, beams, keep, device, display.on_progress)
        with display.clock("Inferring"):
            answers = source.infer(events, asked)
        chosen = _selections(texts, answers, template, select, display.on_progress) if select else None
    for number, (text, answer) in enumerate(zip(events, answers, strict=True)):
        if as_json:
            click.echo(line_of(Entry(text, answer.beams, cut=answer.cut)), nl=False)
        else:
            _print(text, answer, chosen[number] if chosen else None)


@knowledge.command(needs={"seed": ("sample",)})
@data_options
@subset_options
@click.option("--seed", default=0, show_default=True, help="Seed of --sample.")
@_comet
@_beams
@_keep
@_device
@_variant
@verify_option
@click.option("--out", required=True, type=FilePath(dir_okay=False), help="Output file, such as K.jsonl.")
def build(
    data: str,
    columns: dict[str, str],
    split: str,
    instances: Any,
    limit: int | None,
    sample: int | None,
    seed: int,
    comet: str | None,
    beams: int,
    keep: int | None,
    device: str | None,
    variant: str,
    out: Path,
) -> None:
    """Infer for every dialogue of a data set, and write a file for `generate --knowledge`.

    Ctrl-C stops; rerun the same command to resume. Inferences are cached, so that nothing is inferred twice.
    """
    from localemp.cli.display import Display
    from localemp.commonsense.events import event_of
    from localemp.commonsense.store import Entry
    from localemp.commonsense.writer import KnowledgeWriter
    from localemp.data.sources import data_hash
    from localemp.data.subset import Subset
    from localemp.prompting.template import load_template
    from localemp.utils.machine import versions

    kind = load_template(variant).knowledge.event
    event = event_of(kind)
    subset = Subset(limit, sample, seed)
    started = time.perf_counter()
    with Display() as display:
        dialogues = dialogues_of(data, columns, split, instances)
        chosen = subset.of(dialogues)
        source = _source(comet, beams, keep, device, display.on_progress)
        header = {
            **source.settings,
            "event": kind,
            "data_sha256": data_hash(dialogues),
            "split": split,
            "localemp": versions().get("localemp"),
        }
        with KnowledgeWriter.open(out, header) as writer:
            pending = [dialogue for dialogue in chosen if dialogue.id not in writer.done]
            if before := len(chosen) - len(pending):
                display.say(f"resuming: {share(before, len(chosen), 'dialogue')} already in {out}")

            def saved() -> str:
                written = writer.written()
                done = sum(dialogue.id in written for dialogue in chosen)
                kept = count(source.kept(map(event, chosen)), "answered query", "answered queries")
                return f"{share(done, len(chosen), 'dialogue')} saved to {out}, {kept} of theirs in the cache"

            with resumable(display.say), noting(saved):
                for start in range(0, len(pending), _AT_ONCE):
                    display.on_progress(Progress("Inferring", start, len(pending), "dialogues"))
                    part = pending[start : start + _AT_ONCE]
                    events = [event(dialogue) for dialogue in part]

                    def on_progress(progress: Progress, start: int = start) -> None:
                        display.on_progress(Progress("Inferring", start + progress.done, len(pending), "dialogues"))

                    answers = source.infer(events, on_progress=on_progress)
                    writer.add(
                        Entry(text, answer.beams, dialogue.id, cut=answer.cut)
                        for dialogue, text, answer in zip(part, events, answers, strict=True)
                    )
                display.on_progress(Progress("Inferring", len(pending), len(pending), "dialogues"))
    _summary(source, len(chosen), time.perf_counter() - started, out)


def _source(
    comet: str | None, beams: int, keep: int | None, device: str | None, on_progress: OnProgress
) -> "InferenceSource":
    from localemp.commonsense.source import DEFAULT_COMET, open_source

    return open_source(comet or DEFAULT_COMET, on_progress, beams=beams, keep=keep, device=device)


def _selections(
    texts: "Sequence[str]",
    answers: "Sequence[EventInferences]",
    template: "Template",
    keep: "Keep",
    on_progress: OnProgress,
) -> "list[Selection]":
    from localemp.strategies.knowledge import SELECT, selection_of
    from localemp.strategies.parts import PartContext

    context = PartContext(template=template, options={SELECT.name: keep}, on_progress=on_progress)
    select, shorten, _ = selection_of(context)
    return select(shorten(texts), [answer.beams for answer in answers])


def _print(event: str, answer: "EventInferences", selection: "Selection | None" = None) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(event), title_justify="left")
    table.add_column("Relation")
    table.add_column("Inference", ratio=1)
    table.add_column("Score", justify="right")
    if selection is not None:
        table.add_column("In the prompt")
    for relation, beams in answer.beams.items():
        for row, beam in enumerate(beams):
            score = "" if beam.score is None else f"{beam.score:.2f}"
            fate = [] if selection is None else [_fate(selection, relation, beam.text)]
            table.add_row("" if row else relation, Text(beam.text), score, *fate, end_section=row == len(beams) - 1)
        if not beams:
            table.add_row(relation, Text("(nothing)", "dim"), end_section=True)
    show_table(table)
    if answer.cut:
        click.echo(f"the first {count(answer.cut, 'character')} did not fit the encoder")


def _fate(selection: "Selection", relation: str, text: str) -> "Text":
    """Return the rank of a selected inference, or why another one was dropped."""
    from rich.text import Text

    kept = selection.kept.get(relation, ())
    if text in kept:
        return Text(str(kept.index(text) + 1), "bold")
    reasons = {one.text: one.reason for one in selection.dropped.get(relation, ())}
    return Text(reasons.get(text, ""), "dim")


def _summary(source: "InferenceSource", dialogues: int, seconds: float, out: Path) -> None:
    click.echo(
        f"{count(dialogues, 'dialogue')}: {count(source.inferred, 'query', 'queries')} answered now, "
        f"{source.cached:,} from the cache, {seconds:.1f} s"
    )
    click.echo(f"use it with: --knowledge {out}")

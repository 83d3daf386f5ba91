"""`localemp bench retrieval`, `comet` and `score`: the speed of single components."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from localemp.cli.bench.options import default_out, measured, number_list, out_option, repeats_option
from localemp.cli.command import Command
from localemp.cli.options import data_options, dialogues_of
from localemp.cli.types import NAME, PATH

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from localemp.bench.result import Recording
    from localemp.dialogue import Dialogue
    from localemp.metrics.replies import Replies

_seed = click.option("--seed", default=0, show_default=True, help="Seed of the synthetic rows.")


def _dialogues(default: int) -> Callable[[Any], Any]:
    return click.option(
        "--dialogues",
        type=click.IntRange(min=1),
        default=default,
        show_default=True,
        help="From the start of the data.",
    )


@click.command(cls=Command)
@data_options
@_dialogues(256)
@click.option("--encoder", type=NAME, default="all-mpnet-base-v2", show_default=True, help="The sentence encoder.")
@click.option(
    "--encoder-dtype",
    type=click.Choice(["auto", "bfloat16", "float32"]),
    default="auto",
    show_default=True,
    help="auto is bfloat16 if the processor supports it.",
)
@click.option(
    "--pool-rows",
    metavar="N,N,...",
    callback=number_list(int),
    default="10000,40000,160000",
    show_default=True,
    help="Sizes of the searched pool.",
)
@click.option("--queries", type=click.IntRange(min=1), default=512, show_default=True, help="Queries in one search.")
@click.option("--shots", default=5, type=click.IntRange(min=1), show_default=True, help="Rows returned for a query.")
@_seed
@repeats_option
@out_option
def retrieval(
    data: str,
    columns: dict[str, str],
    split: str,
    instances: Any,
    dialogues: int,
    encoder: str,
    encoder_dtype: str,
    pool_rows: tuple[int, ...],
    queries: int,
    shots: int,
    seed: int,
    repeats: int,
    out: Path | None,
) -> None:
    """Measure the sentence encoder and the search.

    Contexts of real dialogues are embedded. Pools hold their vectors, plus copies of them with random noise.
    Side by side with sentence-transformers: benchmarks/retrieval.py.
    """
    from localemp.bench.components import measure_encoder, measure_search
    from localemp.cli.display import Display
    from localemp.data.sources import data_hash
    from localemp.models.profiles import load_profile
    from localemp.models.weights import resolve
    from localemp.retrieval.encoder import Encoder
    from localemp.strategies.similar import similarity_text

    asked = dialogues_of(data, columns, split, instances, dialogues)
    texts = [similarity_text(each.turns, "context") for each in asked]
    with Display() as display:
        found = resolve(load_profile(encoder, "encoder"), display.on_progress)
        model = Encoder(found.folder, encoder_dtype)
        about = {"encoder_sha256": found.digest, "encoder_dtype": model.dtype, **model.versions}
        about["data_sha256"] = data_hash(asked)
        with _recording("retrieval", f"{encoder} in {model.dtype}", out, about) as recording:
            with display.clock(f"embedding {len(texts)} contexts"):
                recording.add(measure_encoder(model, texts, repeats))
            embedded = model.encode(texts)
            for rows in pool_rows:
                with display.clock(f"searching in {rows:,} rows"):
                    recording.add(measure_search(embedded, rows, queries, k=shots, seed=seed, repeats=repeats))


@click.command(cls=Command)
@data_options
@_dialogues(64)
@click.option(
    "--comet", type=NAME, default="comet-mini", show_default=True, help="A name, a folder, or a Hugging Face id."
)
@click.option(
    "--beams",
    metavar="N,N,...",
    callback=number_list(int),
    default="1,5",
    show_default=True,
    help="Widths of the beam search.",
)
@click.option("--device", help="Torch device of COMET; by default a GPU if there is one.")
@repeats_option
@out_option
def comet(
    data: str,
    columns: dict[str, str],
    split: str,
    instances: Any,
    dialogues: int,
    comet: str,
    beams: tuple[int, ...],
    device: str | None,
    repeats: int,
    out: Path | None,
) -> None:
    """Measure COMET: queries (a context and a relation) answered in a second, with an empty cache.

    Side by side with transformers and with the released code: benchmarks/comet.py.
    """
    from localemp.bench.components import measure_comet
    from localemp.cli.display import Display
    from localemp.commonsense.events import event_of
    from localemp.commonsense.source import open_source
    from localemp.data.sources import data_hash

    event, asked = event_of("context"), dialogues_of(data, columns, split, instances, dialogues)
    events = [event(dialogue) for dialogue in asked]
    with Display() as display:
        sources = [open_source(comet, display.on_progress, beams=each, device=device) for each in beams]
        about = {name: value for name, value in sources[0].settings.items() if name not in ("beams", "keep")}
        about["data_sha256"] = data_hash(asked)
        with _recording("comet", comet, out, about) as recording:
            for width, source in zip(beams, sources, strict=True):
                with display.clock(f"inferring with {width} beams"):
                    recording.add(measure_comet(source, events, repeats))


@click.command(cls=Command, excludes=dict.fromkeys(("data", "columns", "split", "instances"), ("run",)))
@data_options
@_dialogues(1000)
@click.option("--run", type=PATH, help="Score this run's replies; by default people's replies in the data.")
@click.option("--bertscore-model", metavar="MODEL", help="Measure BERTScore, too, with a model on this machine.")
@repeats_option
@out_option
def score(
    data: str,
    columns: dict[str, str],
    split: str,
    instances: Any,
    dialogues: int,
    run: Path | None,
    bertscore_model: str | None,
    repeats: int,
    out: Path | None,
) -> None:
    """Measure the metrics of `localemp score`: replies scored in a second, by all together and by each alone.

    Side by side with bert-score: benchmarks/score.py.
    """
    from localemp.bench.components import measure_bertscore, measure_metrics
    from localemp.cli.display import Display
    from localemp.metrics.bertscore import BertScore

    replies = _replies(lambda: dialogues_of(data, columns, split, instances), dialogues, run)
    about = {"replies_sha256": replies.sha256, "replies": replies.name}
    with Display() as display, _recording("score", f"{len(replies):,} replies", out, about) as recording:
        with display.clock("scoring"):
            for point in measure_metrics(replies, repeats):
                recording.add(point)
        if bertscore_model:
            with display.clock("scoring by BERTScore"):
                recording.add(measure_bertscore(lambda: BertScore(bertscore_model, fetch=False), replies, repeats))


def _replies(read: "Callable[[], list[Dialogue]]", most: int, run: Path | None) -> "Replies":
    from localemp.bench.components import replies_of_data
    from localemp.metrics.replies import replies_of_run

    if run is None:
        return replies_of_data(read(), most)
    replies = replies_of_run(run)
    return replies.only(set(replies.ids[:most]))


def _recording(kind: Any, title: str, out: Path | None, about: dict[str, Any]) -> "AbstractContextManager[Recording]":
    """A recording whose settings are the command's options, and their resolved values."""
    from localemp.bench.result import Recording

    options = {name: value for name, value in click.get_current_context().params.items() if name != "out"}
    settings = {**{name: str(value) if isinstance(value, Path) else value for name, value in options.items()}, **about}
    return measured(Recording(out or default_out(kind), kind, title, settings))

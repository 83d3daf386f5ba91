"""The speed of scoring, with BERTScore compared with bert-score's own `score()`, in one run, alternating.

    metrics    seconds for every metric without a model, METEOR with its WordNet among them, each time in a new process
               with empty caches
    bertscore  one system and several on the same references: `BertScore` against one call of `score()` for each
    bfloat16   how far scores move at that precision, and how long it takes

With --data replies are real ones: what MoEL and CEM (with ComFact's knowledge) answered to the published test rows,
and, where more systems are asked for, the same replies given to other rows. Without it, replies and references are
sentences of the bundled dialogues, put together at random. Rows with an empty text, on which the peer crashes, are left
out.
"""

import json
import os
import random
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from script import Script, out_option, write_result

from localemp.data.sources import load_dialogues
from localemp.dialogue import EMOTIONS
from localemp.imports.reading import read_import
from localemp.metrics.bertscore import BertScore, split_layer
from localemp.metrics.replies import Replies, Reply
from localemp.models.profiles import load_profile
from localemp.models.weights import resolve
from localemp.utils.machine import machine, versions

# Below the folder of --data: format, file, and the hypotheses in it.
RELEASED = (
    ("moel", "MoEL/generation_result.txt.gz", ("MOE", "trs", "trs+multitask", "MOE+oracle")),
    ("cem", "CEM_ComFact/CEM_link.txt.gz", ("Greedy", "Beam")),
)


@click.command(cls=Script)
@click.option(
    "--data", type=click.Path(path_type=Path), help="A folder with baseline_outputs and empathetic_dialogues."
)
@click.option("--rows", type=click.IntRange(min=2), default=5255, show_default=True, help="Replies of a system.")
@click.option("--systems", "count", type=click.IntRange(min=2), default=10, show_default=True)
@click.option("--bertscore-model", "model", default="all-minilm-l6-v2", show_default=True, help="Or MODEL:LAYER.")
@click.option("--bertscore-rows", type=click.IntRange(min=2), default=1000, show_default=True)
@click.option("--peer-batch", type=click.IntRange(min=1), default=64, show_default=True, help="Texts; score()'s own.")
@click.option("--batch-tokens", type=click.IntRange(min=1), default=1024, show_default=True, help="Ours: 64 of 16.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Of torch.")
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--no-bertscore", is_flag=True, help="Only the metrics without a model.")
@out_option
def main(
    data: Path | None,
    rows: int,
    count: int,
    model: str,
    bertscore_rows: int,
    peer_batch: int,
    batch_tokens: int,
    device: str,
    threads: int | None,
    repeats: int,
    seed: int,
    no_bertscore: bool,
    out: Path | None,
) -> None:
    """Measure scoring."""
    settings = {key: value for key, value in click.get_current_context().params.items() if key not in ("data", "out")}
    import torch  # Not at the top: the fresh processes import this module too.

    torch.set_num_threads(threads or torch.get_num_threads())
    systems = released(data, rows, count) if data else invented(rows, count, random.Random(seed))
    part = [system.only(system.ids[:bertscore_rows]) for system in systems]
    result: dict[str, Any] = {
        "machine": machine()
        | versions()
        | {"bert-score": version("bert-score"), "load_before": os.getloadavg()[0], "date": time.strftime("%Y-%m-%d")},
        "settings": settings
        | {"replies": "released" if data else "invented", "threads": torch.get_num_threads()}
        | {"rows": len(systems[0])},
        "metrics": metrics(systems, repeats),
    }
    if not no_bertscore:
        name, _ = split_layer(model)
        weights = resolve(load_profile(name, "encoder"))
        result["settings"] |= {"bertscore_rows": len(part[0]), "weights_sha256": weights.digest}
        own = {"batch_tokens": batch_tokens, "device": device}
        result["bertscore"] = against_peer(part, model, weights.folder, own, peer_batch, repeats)
        result["bfloat16"] = at_bfloat16(part[0], model, own)
    write_result(out, result)
    _print(result)


def metrics(systems: Sequence[Replies], repeats: int) -> dict[str, Any]:
    """Every metric without a model, for one system and for all: seconds after the import, and the most memory."""
    told: dict[str, Any] = {}
    for some in (systems[:1], systems):
        runs = [_in_a_fresh_process(_score_all, some) for _ in range(repeats)]
        told[str(len(some))] = {key: [run[key] for run in runs] for key in runs[0]}
    return told


def against_peer(
    systems: Sequence[Replies], model: str, folder: Path, own: dict[str, Any], peer_batch: int, repeats: int
) -> dict[str, Any]:
    """Both from the names of their models on: `BertScore` made anew, and one call of `score()` for each system.

    Loading is timed apart as well: `score()` loads the model at every call, ours once, and checks its SHA-256 for it.
    """
    import bert_score
    import torch
    from bert_score.utils import get_model, get_tokenizer

    from localemp.utils.torch import quiet_transformers

    layer = BertScore(model, **own).settings()["layer"]

    def peer(some: Sequence[Replies]) -> NDArray[np.float64]:
        with quiet_transformers():
            found = [
                bert_score.score(
                    list(each.texts),
                    list(each.references),
                    model_type=str(folder),
                    num_layers=layer,
                    device=own["device"],
                    batch_size=peer_batch,
                )
                for each in some
            ]
        values: NDArray[np.float64] = torch.cat([torch.stack(each, 1) for each in found]).double().numpy()
        return values

    def ours(some: Sequence[Replies]) -> NDArray[np.float64]:
        bertscore = BertScore(model, **own)
        return np.concatenate([bertscore.values([each]) for each in some])

    def peer_loads() -> None:
        with quiet_transformers():
            get_model(str(folder), layer).to(own["device"])
            get_tokenizer(str(folder))

    told: dict[str, Any] = {"layer": layer}
    for warm_up in (peer, ours):
        warm_up([systems[0].only(systems[0].ids[:64])])
    for some in (systems[:1], systems):
        timed: dict[str, list[float]] = {key: [] for key in ("seconds", "load", "peer_seconds", "peer_load")}
        gap = 0.0
        for _ in range(repeats):
            timed["load"].append(_seconds(lambda: BertScore(model, **own).settings())[0])
            seconds, found = _seconds(ours, some)
            timed["seconds"].append(seconds)
            timed["peer_load"].append(len(some) * _seconds(peer_loads)[0])
            seconds, expected = _seconds(peer, some)
            timed["peer_seconds"].append(seconds)
            gap = max(gap, float(np.abs(found - expected).max()))
        ratios = [theirs / mine for mine, theirs in zip(timed["seconds"], timed["peer_seconds"], strict=True)]
        bare = [(peer - peer_load) / (mine - load) for mine, load, peer, peer_load in zip(*timed.values(), strict=True)]
        told[str(len(some))] = {
            **timed,
            "times_faster": ratios,
            "times_faster_without_loading": bare,
            "largest_difference": gap,
        }
    kept = [_in_a_fresh_process(_bertscore_memory, some, model, own) for some in (systems[:1], systems)]
    return told | {"peak_mib_of_one_system": kept[0], "peak_mib_of_all_systems": kept[1]}


def at_bfloat16(replies: Replies, model: str, own: dict[str, Any]) -> dict[str, Any]:
    """The same scores at both precisions."""
    exact, fast = (BertScore(model, dtype=dtype, **own) for dtype in ("float32", "bfloat16"))
    for each in (exact, fast):
        each.settings()
    seconds, expected = _seconds(exact.values, [replies])
    fast_seconds, found = _seconds(fast.values, [replies])
    return {
        "seconds_float32": seconds,
        "seconds_bfloat16": fast_seconds,
        "largest_difference_of_a_reply": float(np.abs(found - expected).max()),
        "largest_difference_of_a_mean": float(np.abs((found - expected).mean(axis=0)).max()),
    }


def released(data: Path, rows: int, count: int) -> list[Replies]:
    """Real replies to the first rows that all files answer."""
    imported = [
        read_import(form, data / "baseline_outputs" / path, str(data / "empathetic_dialogues"), hypothesis).replies
        for form, path, hypotheses in RELEASED
        for hypothesis in hypotheses
    ]
    common = set.intersection(*(set(each.ids) for each in imported))
    whole = set.intersection(*({item.id for item in each.items if item.text and item.reference} for each in imported))
    ids = set([name for name in imported[0].ids if name in common & whole][:rows])
    systems = [each.only(ids) for each in imported]
    return [_shifted(systems[row % len(systems)], row // len(systems)) for row in range(count)]


def invented(rows: int, count: int, draw: random.Random) -> list[Replies]:
    """Replies of one to three sentences that people said, and references of the same kind."""
    said = [turn for dialogue in load_dialogues("samples", "test") for turn in dialogue.turns]

    def text() -> str:
        return " ".join(draw.choice(said) for _ in range(draw.choice((1, 1, 1, 2))))

    references, emotions = [text() for _ in range(rows)], [draw.choice(EMOTIONS) for _ in range(rows)]
    return [
        Replies(
            f"system {system}",
            tuple(
                Reply(str(row), text(), reference, emotion, f"They feel {draw.choice(EMOTIONS)}.")
                for row, (reference, emotion) in enumerate(zip(references, emotions, strict=True))
            ),
        )
        for system in range(count)
    ]


def _shifted(replies: Replies, by: int) -> Replies:
    """The same replies, each to the dialogue that comes `by` rows later."""
    if not by:
        return replies
    texts = replies.texts[-by:] + replies.texts[:-by]
    items = tuple(replace(item, text=text) for item, text in zip(replies.items, texts, strict=True))
    return replace(replies, name=f"{replies.name}, {by} rows later", items=items)


def _seconds(work: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    started = time.perf_counter()
    done = work(*arguments)
    return time.perf_counter() - started, done


def _in_a_fresh_process(work: Callable[..., Any], *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def _score_all(systems: Sequence[Replies]) -> dict[str, Any]:
    """Seconds of all metrics and of each, on the clock and of the processor, which a busy machine does not change."""
    from localemp.metrics.registry import metric, metrics
    from localemp.metrics.scoring import score_all

    chosen = [*metrics(with_models=False), metric("METEOR")]
    each = dict.fromkeys((one.name for one in chosen), 0.0)
    started, started_cpu = time.perf_counter(), time.process_time()
    for system in systems:
        for one in chosen:
            before = time.process_time()
            (score,) = score_all(system, [one]).scores
            each[one.name] += time.process_time() - before
            if score.value is None and score.name == "METEOR":  # which a machine without WordNet cannot time
                print(f"METEOR: {score.reason}")
    seconds, cpu = time.perf_counter() - started, time.process_time() - started_cpu
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_mib": _peak_mib(), "each": each}


def _bertscore_memory(systems: Sequence[Replies], model: str, own: dict[str, Any]) -> float:
    bertscore = BertScore(model, **own)
    for each in systems:
        bertscore.values([each])
    return _peak_mib()


def _peak_mib() -> float:
    """The peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _print(result: dict[str, Any]) -> None:
    console = Console()
    table = Table(title=f"every metric without a model, {result['settings']['rows']:,} replies a system")
    for column in ("systems", "seconds after import (median; min to max)", "of the processor", "most memory, MiB"):
        table.add_column(column)
    for count, told in result["metrics"].items():
        spread = [_spread(told[key]) for key in ("seconds", "cpu_seconds")]
        table.add_row(count, *spread, f"{statistics.median(told['peak_mib']):.0f}")
    console.print(table)
    first = result["metrics"]["1"]["each"]
    shares = {name: statistics.median(run[name] for run in first) for name in first[0]}
    longest = sorted(shares.items(), key=lambda share: -share[1])
    console.print("one system, seconds of the processor:", ", ".join(f"{name} {took:.2f}" for name, took in longest))
    if "bertscore" in result:
        _print_bertscore(console, result)
    console.print(json.dumps(result["machine"]), json.dumps(result["settings"]), sep="\n", soft_wrap=True)


def _print_bertscore(console: Console, result: dict[str, Any]) -> None:
    found = result["bertscore"]
    table = Table(title=f"BERTScore, layer {found['layer']}, {result['settings']['bertscore_rows']:,} replies a system")
    for column in ("systems", "localemp, s", "bert-score, s", "times faster", "without loading", "largest difference"):
        table.add_column(column)
    for count, told in found.items():
        if count.isdigit():
            shown = [_spread(told[key]) for key in ("seconds", "peer_seconds", "times_faster")]
            bare = _spread(told["times_faster_without_loading"])
            table.add_row(count, *shown, bare, f"{told['largest_difference']:.1e}")
    console.print(table)
    console.print(
        f"most memory: {found['peak_mib_of_one_system']:.0f} MiB for one system, "
        f"{found['peak_mib_of_all_systems']:.0f} MiB for {result['settings']['count']}"
    )
    half = result["bfloat16"]
    console.print(
        f"bfloat16: {half['seconds_float32'] / half['seconds_bfloat16']:.2f} times as fast; a reply's score moves by "
        f"up to {half['largest_difference_of_a_reply']:.1e}, a mean by up to {half['largest_difference_of_a_mean']:.1e}"
    )


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f}; {min(values):.2f} to {max(values):.2f}"


if __name__ == "__main__":
    main()

"""Retrieval of similar dialogues compared with sentence-transformers, in one run, alternating.

    search     top k of all queries in the whole pool, against `util.cos_sim` and a full sort, one query at a time
    embedding  texts/s of `Encoder` (what "auto" chooses here) against `SentenceTransformer.encode` as it comes: float32

Queries and pool are the paper's rows and are written as its released code writes them, so that `generate --variant
released --instances published --strategy similar` uses the same index. Both are embedded once and kept in localemp's
cache; that takes a while on a CPU and is not part of a measurement.
"""

import json
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from script import Script, out_option, write_result
from sentence_transformers import SentenceTransformer, util

from localemp.data.sources import load_dialogues
from localemp.dialogue import Dialogue
from localemp.models.profiles import load_profile
from localemp.models.weights import resolve
from localemp.retrieval.encoder import Encoder
from localemp.retrieval.index import Index
from localemp.strategies.similar import Similarity, pool_texts, similarity_text
from localemp.utils.machine import machine, versions

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]

SIMILARITY: Similarity = "context-and-reply"

# Two float32 sums of 768 products may differ by this much and mean the same.
ROUNDING = 1e-6


@click.command(cls=Script)
@click.option("--data", required=True, help="A folder with EmpatheticDialogues.")
@click.option("--encoder", "encoder_name", default="all-mpnet-base-v2", show_default=True)
@click.option("--pool-rows", type=click.IntRange(min=1), help="Only so many training contexts.")
@click.option("--query-rows", type=click.IntRange(min=1), help="Only so many test contexts.")
@click.option("--peer-queries", type=click.IntRange(min=1), default=200, show_default=True, help="Timed one by one.")
@click.option("--embed-rows", type=click.IntRange(min=2), default=512, show_default=True)
@click.option("--shots", "k", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--random-vectors", is_flag=True, help="Search in random vectors of the same shape: nothing to embed first."
)
@click.option("--seed", default=0, show_default=True, help="Draws the peer's queries and the rows to embed.")
@out_option
def main(
    data: str,
    encoder_name: str,
    pool_rows: int | None,
    query_rows: int | None,
    peer_queries: int,
    embed_rows: int,
    k: int,
    repeats: int,
    random_vectors: bool,
    seed: int,
    out: Path | None,
) -> None:
    """Measure search and embedding."""
    settings = {key: value for key, value in click.get_current_context().params.items() if key not in ("data", "out")}
    pool = load_dialogues(data, "train", instances="published", limit=pool_rows)
    tests = load_dialogues(data, "test", instances="published", limit=query_rows)
    weights = resolve(load_profile(encoder_name, "encoder"))
    encoder = Encoder(weights.folder)
    draw = np.random.default_rng(seed)
    if random_vectors:
        index = Index(_unit_vectors(len(pool), encoder.dim, draw))
        queries = _unit_vectors(len(tests), encoder.dim, draw)
    else:
        index, queries = _embedded(pool, tests, encoder, weights.digest)
    sample = draw.permutation(len(queries))[:peer_queries]
    rows = np.sort(draw.permutation(len(pool))[:embed_rows])
    result = {
        "machine": machine() | versions() | {"load_before": os.getloadavg()[0], "date": time.strftime("%Y-%m-%d")},
        "settings": settings | {"encoder_sha256": weights.digest, "dtype": encoder.dtype},
        "search": search(index, queries, sample, k, repeats),
        "embedding": embedding([pool[row] for row in rows], encoder, weights.folder, k, repeats),
    }
    write_result(out, result)
    _print(result)


def search(index: Index, queries: Vectors, sample: Rows, k: int, repeats: int) -> dict[str, Any]:
    """Ours on all queries, the peer's on a sample of them; seconds are per query.

    Each repeat times ours once and the peer on its share of the sample, so that both meet the same moments of a machine
    that others use too.
    """
    pool = torch.from_numpy(np.array(index.vectors))
    found = np.full((len(queries), k), -1)
    peer_found, peer_scores = np.full_like(found, -1), {}
    ours, theirs = [], []
    index.search(queries[:32], k)
    util.cos_sim(torch.from_numpy(queries[0]), pool)
    for share in np.array_split(sample, min(repeats, len(sample))):
        started = time.perf_counter()
        found, _ = index.search(queries, k)
        ours.append((time.perf_counter() - started) / len(queries))
        started = time.perf_counter()
        for query in share:
            scores = util.cos_sim(torch.from_numpy(queries[query]), pool)[0]
            order = torch.sort(scores, descending=True, stable=True).indices[:k].numpy()
            peer_found[query, : len(order)], peer_scores[query] = order, scores.numpy()
        theirs.append((time.perf_counter() - started) / len(share))
    different = [query for query in sample if not np.array_equal(found[query], peer_found[query])]
    gaps = [
        float(np.abs(peer_scores[query][found[query]] - peer_scores[query][peer_found[query]]).max())
        for query in different
    ]
    return {
        "pool_rows": len(pool),
        "queries": len(queries),
        "seconds_per_query": ours,
        "peer_queries": len(sample),
        "peer_seconds_per_query": theirs,
        "times_faster": [peer / own for own, peer in zip(ours, theirs, strict=True)],
        "same_result": len(sample) - len(different),
        "same_but_for_float32_rounding": sum(gap <= ROUNDING for gap in gaps),
        "largest_cosine_gap": max(gaps, default=0.0),
    }


def embedding(dialogues: Sequence[Dialogue], encoder: Encoder, folder: Path, k: int, repeats: int) -> dict[str, Any]:
    """Both embed the same contexts; then each looks for its neighbours among the others, in float32 and in ours."""
    texts = [" ".join(dialogue.turns) for dialogue in dialogues]
    peer = SentenceTransformer(str(folder), local_files_only=True)
    for warm_up in (peer.encode, encoder.encode):
        warm_up(texts[:32])
    ours, theirs = [], []
    for _ in range(repeats):
        started = time.perf_counter()
        vectors = encoder.encode(texts)
        ours.append(len(texts) / (time.perf_counter() - started))
        started = time.perf_counter()
        peer_vectors = np.asarray(peer.encode(texts), dtype=np.float32)
        theirs.append(len(texts) / (time.perf_counter() - started))
    peer_vectors /= np.linalg.norm(peer_vectors, axis=1, keepdims=True)
    own_conversation = _own_conversation(dialogues)
    rows, _ = Index(vectors).search(vectors, k, own_conversation)
    peer_rows, _ = Index(peer_vectors).search(peer_vectors, k, own_conversation)
    kept = [set(mine) & set(other) for mine, other in zip(rows.tolist(), peer_rows.tolist(), strict=True)]
    return {
        "texts": len(texts),
        "dtype": encoder.dtype,
        "texts_per_s": ours,
        "peer_texts_per_s": theirs,
        "times_faster": [own / other for own, other in zip(ours, theirs, strict=True)],
        "smallest_cosine_to_float32": float((vectors * peer_vectors).sum(axis=1).min()),
        "same_neighbours": sum(map(len, kept)) / rows.size,
        "same_neighbours_in_order": float((rows == peer_rows).mean()),
        "changed": _changes(texts, peer_vectors, rows, peer_rows),
    }


def _changes(texts: Sequence[str], vectors: Vectors, rows: Rows, peer_rows: Rows) -> list[dict[str, Any]]:
    """The neighbours that were lost and gained, with their float32 cosines."""
    changes = []
    for query, (mine, other) in enumerate(zip(rows.tolist(), peer_rows.tolist(), strict=True)):
        gone, come = ([row for row in a if row not in b] for a, b in ((other, mine), (mine, other)))
        if gone or come:

            def told(neighbours: Sequence[int], query: int = query) -> list[dict[str, Any]]:
                return [{"text": texts[row], "cosine": float(vectors[row] @ vectors[query])} for row in neighbours]

            changes.append({"query": texts[query], "gone": told(gone), "come": told(come)})
    return changes


def _own_conversation(dialogues: Sequence[Dialogue]) -> list[list[int]]:
    """For each dialogue the rows that share a conversation with it, itself included."""
    rows_of = defaultdict(list)
    for row, dialogue in enumerate(dialogues):
        for conversation in dialogue.conversations:
            rows_of[conversation].append(row)
    return [[row for name in dialogue.conversations for row in rows_of[name]] for dialogue in dialogues]


def _unit_vectors(rows: int, dim: int, draw: np.random.Generator) -> Vectors:
    vectors = draw.standard_normal((rows, dim), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _embedded(
    pool: Sequence[Dialogue], tests: Sequence[Dialogue], encoder: Encoder, weights: str
) -> tuple[Index, Vectors]:
    with Progress(
        TextColumn("embedding {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    ) as bar:
        index = _index(pool_texts(pool, SIMILARITY), "pool", encoder, weights, bar)
        texts = [similarity_text(dialogue.turns, SIMILARITY) for dialogue in tests]
        return index, np.array(_index(texts, "queries", encoder, weights, bar).vectors)


def _index(texts: Sequence[str], what: str, encoder: Encoder, weights: str, bar: Progress) -> Index:
    task = bar.add_task(what, total=len(texts))
    index = Index.build_or_load(
        texts, encoder, {"weights": weights}, on_progress=lambda progress: bar.update(task, completed=progress.done)
    )
    bar.update(task, completed=len(texts))
    return index


def _print(result: dict[str, Any]) -> None:
    found, made, console = result["search"], result["embedding"], Console()
    kind = "random vectors" if result["settings"]["random_vectors"] else "rows"
    table = Table(
        title=f"top {result['settings']['k']} of {found['queries']:,} queries in {found['pool_rows']:,} {kind}"
    )
    for column in ("", "localemp", "sentence-transformers", "times faster (median; min to max)"):
        table.add_column(column)

    def row(name: str, ours: Sequence[float], theirs: Sequence[float], ratios: Sequence[float]) -> None:
        spread = f"{statistics.median(ratios):.2f}; {min(ratios):.2f} to {max(ratios):.2f}"
        table.add_row(name, f"{statistics.median(ours):.3f}", f"{statistics.median(theirs):.3f}", spread)

    ours, theirs = ([1000 * value for value in found[key]] for key in ("seconds_per_query", "peer_seconds_per_query"))
    row("search, ms a query", ours, theirs, found["times_faster"])
    row(f"embedding, texts/s ({made['dtype']})", made["texts_per_s"], made["peer_texts_per_s"], made["times_faster"])
    console.print(table)
    console.print(
        f"search: {found['same_result']} of {found['peer_queries']} results are the same, "
        f"{found['same_but_for_float32_rounding']} more but for float32 rounding "
        f"(largest gap {found['largest_cosine_gap']:.1e})"
    )
    console.print(
        f"embedding: {made['same_neighbours']:.2%} of the neighbours are the same as in float32, "
        f"{made['same_neighbours_in_order']:.2%} in the same place; {len(made['changed'])} of {made['texts']} texts "
        f"have other ones; smallest cosine to float32 {made['smallest_cosine_to_float32']:.5f}"
    )
    for change in made["changed"][:3]:
        console.print(f"  {_short(change['query'])}", markup=False)
        for word in ("gone", "come"):
            for neighbour in change[word]:
                console.print(f"    {word} {neighbour['cosine']:.4f}  {_short(neighbour['text'])}", markup=False)
    console.print(json.dumps(result["machine"]), json.dumps(result["settings"]), sep="\n", soft_wrap=True)


def _short(text: str) -> str:
    return text if len(text) <= 100 else text[:97] + "..."


if __name__ == "__main__":
    main()

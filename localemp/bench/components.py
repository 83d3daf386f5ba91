"""The speed of the encoder, the search, COMET and the metrics, each on its own, after a warm-up."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from localemp.bench.result import Point
from localemp.dialogue import Dialogue
from localemp.errors import OptionError
from localemp.metrics.bleu import clear_count_cache
from localemp.metrics.context_overlap import clear_content_cache
from localemp.metrics.ngrams import clear_ngram_cache
from localemp.metrics.registry import metrics
from localemp.metrics.replies import Replies, Reply
from localemp.metrics.scoring import score_all
from localemp.metrics.tokens import clear_word_cache
from localemp.models.atomic import RELATIONS
from localemp.utils.machine import gib

if TYPE_CHECKING:
    from localemp.commonsense.source import InferenceSource
    from localemp.metrics.bertscore import BertScore
    from localemp.retrieval.encoder import Encoder

T = TypeVar("T")

Vectors = NDArray[np.float32]

# Synthetic rows are real ones with noise: cosines of about 0.8 to their origin, as similar texts have.
_TURN = 0.75
_MADE_AT_ONCE = 16_384

_WARM = Reply("warm", "I am sorry to hear that.", "That must have been hard for you.")


def measure_seconds(work: Callable[[T], object], repeats: int, fresh: Callable[[], T]) -> list[float]:
    """Return the seconds of some work after a warm-up; the time of `fresh`, which prepares each run, is not counted."""
    seconds = []
    for _ in range(repeats + 1):
        thing = fresh()
        started = time.perf_counter()
        work(thing)
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def measure_encoder(encoder: "Encoder", texts: Sequence[str], repeats: int) -> Point:
    """Measure how many texts and tokens the encoder embeds per second."""
    tokens = encoder.count_tokens(texts)
    seconds = measure_seconds(encoder.encode, repeats, lambda: texts)
    values = {"texts_per_s": _rates(len(texts), seconds), "text_tokens_per_s": _rates(tokens, seconds)}
    labels: dict[str, Any] = {"texts": len(texts), "tokens of a text": round(tokens / len(texts), 1)}
    return Point(part="embedding", labels=labels, values=values)


def measure_search(embedded: Vectors, rows: int, queries: int, *, k: int, seed: int, repeats: int) -> Point:
    """Measure how many queries per second the search answers in a pool of a given size.

    Args:
        embedded: Vectors of real texts, shape (texts, dim), from which queries and pool are made.
        rows: The size of the pool.
        queries: The number of queries in one search.
        k: The number of rows for each query.
        seed: The seed of the synthetic rows.
        repeats: Timed searches, after a warm-up.

    Raises:
        OptionError: The pool does not fit this machine's memory.
    """
    from localemp.retrieval.index import Index

    draw = np.random.default_rng(seed)
    asked = np.resize(embedded, (queries, embedded.shape[1]))
    index = Index(pool_of_size(embedded, rows, draw))
    seconds = measure_seconds(lambda queries: index.search(queries, k), repeats, lambda: asked)
    made = max(0, rows - len(embedded))
    note = f"{made:,} rows are synthetic: real vectors with random noise" if made else ""
    values = {"queries_per_s": _rates(queries, seconds)}
    return Point(part="search", labels={"rows": rows, "queries": queries, "k": k}, values=values, note=note)


def pool_of_size(embedded: Vectors, rows: int, draw: np.random.Generator) -> Vectors:
    """Return the first vectors, followed by real ones with random noise if there are too few.

    Raises:
        OptionError: They do not fit this machine's memory.
    """
    dim = embedded.shape[1]
    needed, there = rows * dim * 4, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there * 0.6:
        raise OptionError(
            f"a pool of {rows:,} rows of {dim} numbers needs {gib(needed)}; this machine has {gib(there)}",
            "search in smaller pools",
        )
    vectors = np.empty((rows, dim), dtype=np.float32)
    vectors[: len(embedded)] = embedded[:rows]
    for start in range(len(embedded), rows, _MADE_AT_ONCE):
        part = vectors[start : start + _MADE_AT_ONCE]
        part[:] = draw.standard_normal(part.shape, dtype=np.float32) * np.float32(_TURN / np.sqrt(dim))
        part += embedded[np.arange(start, start + len(part)) % len(embedded)]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return vectors


def measure_comet(source: "InferenceSource", events: Sequence[str], repeats: int) -> Point:
    """Measure how many queries (an event and a relation) COMET answers per second with an empty cache."""
    distinct = list(dict.fromkeys(events))
    queries = len(distinct) * len(RELATIONS)
    with tempfile.TemporaryDirectory() as folder:
        caches = (Path(folder) / f"{number}.sqlite" for number in count())
        loaded = source.with_cache(next(caches))
        loaded.infer(distinct[:1])
        seconds = measure_seconds(lambda empty: empty.infer(distinct), repeats, lambda: loaded.with_cache(next(caches)))
    labels: dict[str, Any] = {"beams": source.settings["beams"], "events": len(distinct), "queries": queries}
    return Point(part="COMET", labels=labels, values={"queries_per_s": _rates(queries, seconds)})


def measure_metrics(replies: Replies, repeats: int) -> Iterator[Point]:
    """Measure how many replies are scored per second: by all metrics without a model together, then by each alone."""

    def forgotten() -> Replies:
        clear_word_cache()
        clear_count_cache()
        clear_ngram_cache()
        clear_content_cache()
        return replies

    yield _scored("all but BERTScore", replies, measure_seconds(score_all, repeats, forgotten))
    for metric in metrics(with_models=False):
        if reason := metric.score(replies).reason:
            yield Point(part="metrics", labels={"metric": metric.name, "replies": len(replies)}, note=reason)
        else:
            yield _scored(metric.name, replies, measure_seconds(metric.score, repeats, forgotten))


def measure_bertscore(make: "Callable[[], BertScore]", replies: Replies, repeats: int) -> Point:
    """Measure how many replies BERTScore scores per second, with its model loaded and nothing cached.

    Args:
        make: Makes a BERTScore without cached texts.
        replies: The replies of one system.
        repeats: The number of timed runs.

    Raises:
        LocalempError: Its model is missing, or a reply has no reference.
    """

    def loaded() -> "BertScore":
        bertscore = make()
        bertscore.values([Replies("warm", (_WARM,))])
        return bertscore

    return _scored(
        "BERTScore", replies, measure_seconds(lambda bertscore: bertscore.values([replies]), repeats, loaded)
    )


def replies_of_data(dialogues: Sequence[Dialogue], most: int) -> Replies:
    """Return people's replies to other dialogues as those of a system, so that no reply is its own reference.

    Raises:
        OptionError: Too few dialogues have a reply.
    """
    answered = [dialogue for dialogue in dialogues if dialogue.reference]
    half = min(most, len(answered) // 2)
    if not half:
        raise OptionError("no two dialogues of the data have a reply to score", "give --run FOLDER, or other data")
    pairs = zip(answered[:half], answered[half : 2 * half], strict=True)
    items = [
        Reply(one.id, other.reference or "", one.reference, one.emotion, other.emotion, tuple(one.turns))
        for one, other in pairs
    ]
    return Replies("people's replies to other dialogues", tuple(items))


def _scored(metric: str, replies: Replies, seconds: Sequence[float]) -> Point:
    labels: dict[str, Any] = {"metric": metric, "replies": len(replies)}
    return Point(part="metrics", labels=labels, values={"scored_per_s": _rates(len(replies), seconds)})


def _rates(number: int, seconds: Sequence[float]) -> tuple[float, ...]:
    return tuple(number / each for each in seconds)

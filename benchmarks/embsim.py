"""What EmbSim can tell apart: known replies on the published test rows, and the ratings of people (EmPO).

    python benchmarks/embsim.py DATA ENCODER...

DATA has `empathetic_dialogues/`, `baseline_outputs/` and `human_ratings/`, as their authors released them. Printed are
means of replies that are known to be good or bad, and Spearman's correlation of single replies with ratings.
"""

import gzip
import json
import random
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import numpy as np
from scipy.stats import spearmanr

from localemp.imports.reading import read_import
from localemp.metrics.base import Metric
from localemp.metrics.embedding_similarity import EmbeddingSimilarity
from localemp.metrics.registry import MetricContext, metric
from localemp.metrics.replies import Replies, Reply

ROWS = 400
SCALES = ("appropriate", "emotion", "natural", "continue")
OTHERS = ("ROUGE-L", "Length")
SORRY = "I am sorry to hear that."


def known(data: Path) -> dict[str, Replies]:
    """Return replies to the same rows: of systems, and some that are known to be good or bad."""
    rows = sorted(random.Random(0).sample(range(5255), ROWS))
    made = data / "baseline_outputs"
    files = {
        "MoEL": ("moel", made / "MoEL" / "generation_result.txt.gz"),
        "CEM": ("cem", made / "CEM_ComFact" / "CEM_link.txt.gz"),
    }
    systems = {
        name: read_import(form, file, str(data / "empathetic_dialogues"), None).replies
        for name, (form, file) in files.items()
    }
    items = systems["MoEL"].items
    shuffled = random.Random(1).sample(rows, ROWS)
    texts = {
        "people's reply to another dialogue": [items[row].reference or "" for row in shuffled],
        f"“{SORRY}”": [SORRY] * ROWS,
        "the speaker's last turn, repeated": [items[row].turns[-1] for row in rows],
        "people's reply, its words in another order": [_shuffled(items[row].reference or "") for row in rows],
        "people's reply, the first half of its words": [_half(items[row].reference or "") for row in rows],
        **{name: [system.items[row].text for row in rows] for name, system in systems.items()},
    }
    return {
        name: Replies(
            name, tuple(Reply(items[row].id, text, items[row].reference) for row, text in zip(rows, each, strict=True))
        )
        for name, each in texts.items()
    }


def _shuffled(text: str) -> str:
    words = text.split()
    random.Random(text).shuffle(words)
    return " ".join(words)


def _half(text: str) -> str:
    words = text.split()
    return " ".join(words[: (len(words) + 1) // 2])


def rated(data: Path) -> tuple[list[Replies], dict[str, dict[str, list[float]]]]:
    """Return the rated replies, one system each, and the mean rating of each by scale."""
    with gzip.open(data / "human_ratings" / "items.jsonl.gz", "rt", encoding="utf-8") as file:
        items = [json.loads(line) for line in file]
    lines = (data / "human_ratings" / "ratings_long.tsv").read_text("utf-8").splitlines()
    head = lines[0].split("\t")
    votes: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in lines[1:]:
        row = dict(zip(head, line.split("\t"), strict=True))
        for scale in SCALES:
            votes[int(row["item_id"])][scale].append(float(row[scale]))
    systems, ratings = [], {}
    for name in dict.fromkeys(item["model"] for item in items if item["response"].strip() != item["target"].strip()):
        own = [item for item in items if item["model"] == name]
        systems.append(
            Replies(name, tuple(Reply(str(item["item_id"]), item["response"], item["target"]) for item in own))
        )
        ratings[name] = {scale: [fmean(votes[item["item_id"]][scale]) for item in own] for scale in SCALES}
    return systems, ratings


def each(metric: Metric, replies: Replies) -> list[float]:
    """Return the value of every reply."""
    found = metric.statistics([replies]).each(np.arange(len(replies)))
    assert found is not None
    return [float(value) for value in found]


def main(data: Path, encoders: list[str]) -> None:
    """Print both tables."""
    metrics: dict[str, Metric] = {f"EmbSim, {name}": EmbeddingSimilarity(name) for name in encoders}
    metrics |= {name: metric(name, MetricContext()) for name in OTHERS}
    print(f"\nMeans over {ROWS} published test rows")
    for name, replies in known(data).items():
        print(f"{name:<45}", *(f"{title} {fmean(each(one, replies)):.2f}" for title, one in metrics.items()), sep="  ")
    systems, ratings = rated(data)
    print(f"\nRated replies: {sum(map(len, systems))} of {len(systems)} systems; Spearman with the mean of the raters")
    for title, one in metrics.items():
        values = {system.name: each(one, system) for system in systems}
        told = []
        for scale in SCALES:
            pooled = spearmanr(
                [v for name in values for v in values[name]], [v for name in values for v in ratings[name][scale]]
            )
            told.append(f"{scale} {pooled.statistic:+.2f} (p {pooled.pvalue:.2g})")
        means = ", ".join(f"{name} {fmean(found):.1f}" for name, found in values.items())
        print(f"{title:<30}", *told, f"means: {means}", sep="  ")
    for name, found in ratings.items():
        print(f"{name:<30}", *(f"{scale} {fmean(found[scale]):.1f}" for scale in SCALES))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or ["all-minilm-l6-v2"])

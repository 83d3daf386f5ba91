"""EPITOME's columns against people's ratings: Spearman's correlation, reply by reply, with intervals over dialogues.

    python benchmarks/epitome.py FOLDER [--epitome-model FOLDER]

FOLDER has EmPO's human ratings, `items.jsonl` and `ratings_long.tsv`. A reply's rating is the mean of its raters. The
time of scoring is printed, too.
"""

import argparse
import time
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import numpy as np

from localemp.metrics.registry import MetricContext, metrics
from localemp.studies.rated_items import read_rated_items
from localemp.studies.stats.correlation import spearman, spearman_of
from localemp.studies.stats.intervals import Bootstrap, Numbers


def main() -> None:
    """Print a row for each column, an entry for each aspect."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epitome-model")
    asked = parser.parse_args()
    rated = read_rated_items(asked.folder)
    given: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for rating in rated.ratings:
        given[rating.aspect, rating.system, rating.dialogue].append(rating.value)
    aspects = list(dict.fromkeys(aspect for aspect, _, _ in given))
    items = [(system.name, item.id) for system in rated.systems for item in system.items]
    dialogues = [dialogue for _, dialogue in items]
    people = {aspect: np.array([fmean(given[aspect, *item]) for item in items]) for aspect in aspects}
    context = MetricContext({"epitome_model": asked.epitome_model})
    began = time.perf_counter()
    print("| column |", " | ".join(aspects), "|")
    for column in metrics(context):
        if column.group == "epitome":
            each = [column.statistics([system]).each(np.arange(len(system))) for system in rated.systems]
            values = np.concatenate([found for found in each if found is not None])
            told = [_correlation(values, people[aspect], dialogues) for aspect in aspects]
            print(f"| {column.name} |", " | ".join(told), "|")
    seconds = time.perf_counter() - began
    print(f"{len(items)} replies to {len(set(dialogues))} dialogues; {seconds:.1f} s, loading included")


def _correlation(values: Numbers, people: Numbers, dialogues: list[str]) -> str:
    value = spearman(values, people).value
    if value is None:
        return "none"
    low, high = Bootstrap().estimate(value, spearman_of(values, people), dialogues).interval or (np.nan, np.nan)
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f})"


if __name__ == "__main__":
    main()

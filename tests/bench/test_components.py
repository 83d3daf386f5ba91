"""The parts alone: real encoder, search, COMET and metrics on a few texts."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from localemp.bench.components import (
    measure_bertscore,
    measure_metrics,
    measure_search,
    measure_seconds,
    pool_of_size,
    replies_of_data,
)
from localemp.bench.result import Result, read_result
from localemp.cli.bench import bench
from localemp.data.sources import load_dialogues
from localemp.dialogue import Dialogue
from localemp.errors import OptionError, WeightsError
from localemp.metrics.bertscore import BertScore
from localemp.metrics.registry import metrics

DRAW = np.random.default_rng(0)
UNIT = DRAW.standard_normal((20, 16)).astype(np.float32)
UNIT /= np.linalg.norm(UNIT, axis=1, keepdims=True)


def test_work_is_done_once_before_the_clock_and_each_time_on_something_fresh():
    seen: list[int] = []
    numbers = iter(range(9))
    seconds = measure_seconds(seen.append, 3, lambda: next(numbers))
    assert seen == [0, 1, 2, 3]
    assert len(seconds) == 3


def test_a_grown_pool_begins_with_the_real_rows_and_goes_on_near_them():
    pool = pool_of_size(UNIT, 50, np.random.default_rng(1))
    assert np.array_equal(pool[:20], UNIT)
    assert np.allclose(np.linalg.norm(pool, axis=1), 1, atol=1e-5)
    near = [float(pool[row] @ UNIT[row % 20]) for row in range(20, 50)]
    assert 0.6 < np.mean(near) < 0.95
    assert np.array_equal(pool, pool_of_size(UNIT, 50, np.random.default_rng(1)))
    assert np.array_equal(pool_of_size(UNIT, 5, DRAW), UNIT[:5])
    with pytest.raises(OptionError, match=r"needs .* GiB; this machine has"):
        pool_of_size(UNIT, 10**13, DRAW)


def test_a_search_says_how_many_rows_are_made_up():
    point = measure_search(UNIT, rows=50, queries=30, k=5, seed=0, repeats=2)
    assert point.labels == {"rows": 50, "queries": 30, "k": 5}
    assert "30 rows are synthetic" in point.note
    assert len(point.values["queries_per_s"]) == 2
    assert measure_search(UNIT, rows=10, queries=3, k=2, seed=0, repeats=1).note == ""


def test_replies_of_data_are_never_their_own_reference():
    replies = replies_of_data(load_dialogues("bundled", "train"), 4)
    assert len(replies) == 4
    assert not set(replies.texts) & set(replies.references)
    assert all(item.emotion and item.feeling for item in replies.items)
    with pytest.raises(OptionError, match="no two dialogues"):
        replies_of_data([Dialogue("a", ("Hello",))], 4)


WITHOUT_MODEL = [metric.name for metric in metrics(with_models=False)]


def test_every_metric_has_a_point_and_says_why_where_it_has_no_figure():
    replies = replies_of_data(load_dialogues("bundled", "train"), 3)
    points = list(measure_metrics(replies, 2))
    assert [point.labels["metric"] for point in points] == ["all but BERTScore", *WITHOUT_MODEL]
    assert all(len(point.values["scored_per_s"]) == 2 for point in points)
    blind = replies_of_data([Dialogue(str(n), ("Hi",), reference=f"Yes {n}.") for n in range(4)], 2)
    acc = next(point for point in measure_metrics(blind, 1) if point.labels["metric"] == "Acc")
    assert acc.note and not acc.values


def test_bertscore_is_never_fetched(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    replies = replies_of_data(load_dialogues("bundled", "train"), 2)
    with pytest.raises(WeightsError):
        measure_bertscore(lambda: BertScore("no/such-model", fetch=False), replies, 1)


def run(*words: object) -> Result:
    """A command in this process, which has torch already; what it wrote."""
    done = CliRunner().invoke(bench, [*map(str, words), "--dialogues", "3", "--repeats", "2", "--out", "out.json"])
    assert done.exit_code == 0, done.output
    assert "result: out.json" in done.output
    return read_result(Path("out.json"))


@pytest.mark.usefixtures("one_thread")
def test_commands_write_results_that_can_be_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encoder = ("--encoder", "all-minilm-l6-v2", "--encoder-dtype", "float32")
    kept = run("retrieval", *encoder, "--pool-rows", "100,50", "--queries", 8)
    assert kept.title == "all-minilm-l6-v2 in float32"
    assert [point.labels.get("rows") for point in kept.points] == [None, 50, 100]
    assert kept.points[0].values.keys() == {"texts_per_s", "text_tokens_per_s"}
    assert kept.settings["pool_rows"] == [50, 100]
    assert len(kept.settings["encoder_sha256"]) == len(kept.settings["data_sha256"]) == 64
    assert kept.settings["torch_threads"] == 1
    kept = run("comet", "--beams", 2)
    assert kept.finished and kept.points[0].labels == {"beams": 2, "events": 3, "queries": 15}
    assert (len(kept.settings["data_sha256"]), kept.settings["torch_threads"]) == (64, 1)
    kept = run("score", "--data", "bundled", "--bertscore-model", "all-minilm-l6-v2")
    assert [point.labels["metric"] for point in kept.points] == ["all but BERTScore", *WITHOUT_MODEL, "BERTScore"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("retrieval", "--pool-rows", "10,x"), "is not a whole number above 0"),
        (("comet", "--beams", "0"), "is not a whole number above 0"),
        (("score", "--run", "nothing"), "nothing is not a run"),
    ],
)
def test_mistakes_are_said(words, said):
    done = CliRunner().invoke(bench, words)
    assert done.exit_code
    assert said in done.output + str(done.exception)

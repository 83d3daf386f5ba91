"""`localemp compare` of more than two runs."""

import json

import pytest
from small_runs import make_run

import localemp as package
from localemp.errors import OptionError, RunError
from localemp.metrics.significance import holm

IDS = [f"d{number:02}" for number in range(40)]
METRICS = ("B-2", "Dist-1", "Length")
QUICK = tuple(word for name in METRICS for word in ("--metric", name))


@pytest.fixture
def runs(tmp_path):
    """Replies like the references, half of them, and others; one run is on fewer dialogues."""
    said = {
        "near": {name: f"Tell me more of {name}." for name in IDS},
        "half": {name: f"Tell me more of {name}." if place % 2 else "Oh." for place, name in enumerate(IDS)},
        "other": dict.fromkeys(IDS[:36], "I am so sorry to hear all of that today."),
    }
    return {name: make_run(tmp_path / "runs" / name, replies, shots=1) for name, replies in said.items()}


def test_every_pair_is_what_compare_says_corrected_for_their_number(runs):
    result = package.compare_all(runs.values(), metric=METRICS, samples=120)
    assert [(each.a, each.b, each.items) for each in result.pairs] == [("A", "B", 40), ("A", "C", 36), ("B", "C", 36)]
    assert result.confidence == pytest.approx(1 - 0.05 / 3)
    alone = [package.compare(runs[a], runs[b], metric=METRICS, samples=120, show=0).comparisons
             for a, b in (("near", "half"), ("near", "other"), ("half", "other"))]  # fmt: skip
    for place, name in enumerate(METRICS):
        ours = [each.comparisons[place] for each in result.pairs]
        theirs = [each[place] for each in alone]
        assert [one.name for one in ours] == [name] * 3
        assert [(one.a, one.b, one.p) for one in ours] == [(one.a, one.b, one.p) for one in theirs]
        assert [one.p_holm for one in ours] == holm([one.p for one in theirs])
        for one, other in zip(ours, theirs, strict=True):
            assert one.interval[0] <= other.interval[0] <= other.interval[1] <= one.interval[1], "wider"


def test_the_table_fits_80_columns_and_says_how_it_is_corrected(localemp, runs):
    (localemp.folder / "runs/bad").mkdir()
    done = localemp("compare", "runs/bad", *(f"runs/{name}" for name in runs), *QUICK, env={"COLUMNS": "80"})
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(len(line) for line in lines if not line.startswith(("p: ", "intervals: ", "two runs"))) <= 80
    for told in (
        "A: runs/near, scripted zero-shot (1 shot), 40 replies",
        "note: A-C, B-C: on the 36 dialogues that are in both, of 40 and 36",
        "corrected by Holm's method over the 3 pairs of each metric, not over metrics; * below 0.05",
        "all 3 pairs of a metric hold together with 95 % (Bonferroni)",
        "98.33 % interval",
        "jackknife: Dist-1",
    ):
        assert told in done.stdout
    assert sum(line.split()[:1] == ["B-2"] for line in lines) == 1
    assert "warning: left out: runs/bad is not a run" in done.stderr


def test_with_a_baseline_each_run_is_compared_with_it(localemp, runs):
    words = ("compare", "runs/near", "runs/half", "runs/other", "--baseline", "runs/half", *QUICK, "--json")
    told = json.loads(localemp(*words).stdout)
    assert {letter: system["name"] for letter, system in told["systems"].items()} == {
        "A": "half", "B": "near", "C": "other",
    }  # fmt: skip
    assert [(each["a"], each["b"]) for each in told["pairs"]] == [("A", "B"), ("A", "C")]
    assert (told["baseline"], told["confidence"], told["samples"]) == ("A", pytest.approx(0.975), 1000)
    assert "Holm over the pairs" in told["correction"]
    two = json.loads(localemp(*words[:2], "--baseline", "runs/half", *QUICK, "--json").stdout)
    assert (two["a"]["name"], two["b"]["name"]) == ("half", "near")


def test_more_pairs_take_more_samples():
    from localemp.commands.compare_all import _samples

    assert [_samples(None, pairs) for pairs in (3, 25, 45)] == [1000, 1000, 1800]
    with pytest.raises(OptionError, match="100 samples are too few for 3 pairs"):
        _samples(100, 3)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("runs/near",), "one run alone cannot be compared"),
        (("runs/near", "runs/half", "runs/other", "--show", "2"), "--show is for two runs"),
        (("runs/near", "runs", ".", "--metric", "B-2"), "only runs/near is left to compare"),
        (("runs/near", "runs/half", "nowhere"), "nowhere is not a run"),
        (("runs/near", "runs/half", "--baseline", "."), ". is not a run"),
    ],
)
def test_what_cannot_be_compared_is_said(localemp, runs, words, told):
    done = localemp("compare", *words)
    assert done.returncode in (1, 2) and told in done.stderr


def test_runs_of_other_data_are_left_apart(runs, tmp_path):
    far = make_run(tmp_path / "far", {"x": "Oh.", "y": "No."})
    result = package.compare_all([runs["near"], runs["half"], far], metric="B-2")
    assert ([(each.a, each.b) for each in result.pairs], result.confidence) == ([("A", "B")], pytest.approx(0.95))
    assert any(note.startswith("A and C are not compared: no dialogue is in both") for note in result.notes)
    farther = make_run(tmp_path / "farther", {"z": "Oh."})
    with pytest.raises(OptionError, match="no two of these runs"):
        package.compare_all([runs["near"], far, farther], metric="B-2")
    with pytest.raises(RunError):
        package.compare_all([tmp_path / "runs", tmp_path], metric="B-2")

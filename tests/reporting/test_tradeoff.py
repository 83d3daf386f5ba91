"""The figure of quality against cost: its unit, its front, its labels; and runs by name, against a base run."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from small_runs import four, make_run
from tiny_roberta import LAYER, save_tiny_roberta

import localemp
from localemp.errors import LocalempError, OptionError, RunError, UnknownNameError
from localemp.metrics.registry import metric
from localemp.metrics.significance import value_interval
from localemp.reporting.cost import effort_of
from localemp.reporting.published import read_published
from localemp.reporting.report import Report
from localemp.reporting.scatter import Mark, scatter
from localemp.reporting.systems import read_systems
from localemp.reporting.tradeoff import cost_of, points
from localemp.utils.paths import named_paths

FAR = {name: f"I hear you, {name}." for name in "abcd"}
NEAR = {name: f"Tell me of {name}, please." for name in "abcd"}


def runs_in(folder):
    """Two cheap runs, of which one is better, and two dear ones, of which one is better than all."""
    return [
        make_run(folder / "cheap", FAR, tokens=2),
        make_run(folder / "better", NEAR, tokens=2),
        make_run(folder / "dear", FAR, tokens=50),
        make_run(folder / "best", {name: f"Tell me more of {name}." for name in "abcd"}, tokens=90),
    ]


def report_of(folders, **options):
    return Report(tuple(read_systems(folders, **options)), read_published())


def points_of(report, column="B-2"):
    runs = list(report.systems)
    return points(runs, cost_of(runs, [effort_of(run) for run in runs]), report.tables[0], column)


def test_the_front_has_whom_no_other_run_beats(tmp_path):
    found = points_of(report_of(runs_in(tmp_path)))
    assert [(point.name, point.cost, point.best) for point in found] == [
        ("better", 14, True),
        ("cheap", 14, False),
        ("dear", 62, False),
        ("best", 102, True),
    ]


def test_intervals_are_those_of_the_run_s_own_value(tmp_path):
    report = report_of(runs_in(tmp_path))
    point = points_of(report)[0]
    replies = next(system.replies for system in report.systems if system.name == "better")
    statistics = metric("B-2").statistics([replies])
    assert point.interval == value_interval(statistics, 4, 500)
    assert point.interval[0] <= point.value <= point.interval[1]
    dist = metric("Dist-2").statistics([replies])
    low, high = value_interval(dist, 4)
    assert math.isclose((low + high) / 2, dist.value(np.arange(4)))  # a jackknife: around the value itself
    assert value_interval(statistics, 1) is None


def test_dollars_are_the_cost_where_all_have_a_price(tmp_path):
    folders = runs_in(tmp_path)
    for number, folder in enumerate(folders):
        path = folder / "responses.jsonl"
        path.write_text(path.read_text().replace('"cost": null', f'"cost": 0.00{number + 1}'))
    runs = read_systems(folders)
    cost = cost_of(runs, [effort_of(run) for run in runs])
    assert (cost.key, cost.values) == ("dollars", pytest.approx((1, 2, 3, 4)))
    free = [*runs, *read_systems([four(tmp_path / "free")])]
    assert cost_of(free, [effort_of(run) for run in free]).key == "tokens"


def test_without_tokens_the_cost_is_time(tmp_path):
    folders = [make_run(tmp_path / name, FAR, tokens=None) for name in ("x", "y")]
    runs = read_systems(folders)
    assert cost_of(runs, [effort_of(run) for run in runs]).key == "seconds"
    assert cost_of(runs[:1], [effort_of(runs[0])]) is None


def test_a_score_that_cannot_be_compared_is_never_on_the_front(tmp_path):
    small = make_run(tmp_path / "small", {"a": "Tell me more of a."}, tokens=1)
    found = points_of(report_of([*runs_in(tmp_path), small]), "Dist-2")
    assert {point.name: bool(point.mark) for point in found}["small"]
    assert not next(point for point in found if point.name == "small").best


def test_the_figure_is_in_the_report_for_two_runs_and_more(tmp_path):
    one = report_of(runs_in(tmp_path)[:1])
    assert "tradeoff" not in [figure.key for figure in one.figures]
    figure = next(figure for figure in report_of(runs_in(tmp_path)).figures if figure.key == "tradeoff")
    told = re.findall("<svg[^>]*><title>([^<]*)", "".join(figure.charts))
    assert [title.partition(" against ")[0] for title in told] == ["B-2", "Dist-2"]
    assert "better: " in told[0] and "14 tokens, on the front" in told[0]
    assert figure.charts[0].count('class="front"') == 1


def marks(count, x=lambda n: 100.0, y=lambda n: 5.0):
    return [Mark(f"run {n}", x(n), y(n), "100", "5.00", (y(n) - 1, y(n) + 1), n == 0) for n in range(count)]


@pytest.mark.parametrize(
    ("name", "plotted"),
    [
        ("alone", marks(1)),
        ("same place", marks(9)),
        ("crowded", marks(12, lambda n: 100.0 + n, lambda n: 5 + n / 50)),
        ("zero", marks(3, lambda n: 0.0, lambda n: 0.0)),
        ("decades", marks(6, lambda n: 10.0**n, lambda n: -(2.0**n))),
        ("tiny", marks(4, lambda n: 1e-6 * (n + 1), lambda n: 1e-9 * n)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_numbers_of_points_stand_in_the_plot_and_apart(name, plotted):
    chart = str(scatter("B-2", "tokens", ("tokens", "B-2"), plotted))
    assert "nan" not in chart and "inf" not in chart
    found = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="middle" class="number', chart)
    assert len(found) == len(plotted)
    places = [(float(x), float(y)) for x, y in found]
    assert all(40 <= x <= 320 and 20 <= y <= 200 for x, y in places)
    apart = [
        (a, b) for n, a in enumerate(places) for b in places[:n] if abs(a[0] - b[0]) < 11 and abs(a[1] - b[1]) < 10
    ]
    assert not apart


def test_a_hostile_name_is_only_text():
    plotted = [Mark("</svg><script>alert(1)</script>" * 3, 1.0, 1.0, "1", "1", None, True)] * 2
    assert "<script>" not in scatter("B-2", "tokens", ("tokens", "B-2"), plotted)


def test_runs_are_called_as_they_are_named(tmp_path):
    zero, near = make_run(tmp_path / "zero-1a2b", FAR), make_run(tmp_path / "near=1", NEAR)
    by_mapping = localemp.report({"0-shot": zero, "n = 1": near}, against="0-shot")
    by_text = localemp.report([f"0-shot={zero}", f"n = 1={near}"], against=["0-shot"])
    for made in (by_mapping, by_text):
        assert [row.name for row in made.tables[0].rows if not row.published] == ["0-shot", "n = 1"]
        titles = [table.title for table in made.tables if table.kind == "differences"]
        assert titles[0] == "Against 0-shot, 4 dialogues"
        assert all(title.startswith("Against 0-shot, 4 dialogues: ") for title in titles[1:])
    assert named_paths([near]) == [("", near)]
    assert named_paths("a=b") == [("a", Path("b"))]
    with pytest.raises(OptionError, match="two runs are called x"):
        localemp.report([f"x={zero}", f"x={near}"])
    with pytest.raises(UnknownNameError, match="run to compare with 'zero'"):
        localemp.report({"0-shot": zero, "near": near}, against="zero")


def test_a_study_s_systems_are_called_as_runs_are_named(tmp_path):
    runs = {"0-shot": four(tmp_path / "zero-1a2b"), "near": make_run(tmp_path / "near-3c4d", NEAR)}
    made = localemp.study.create(runs, out=tmp_path / "study", sample=2)
    assert made.study.systems == ("0-shot", "near")


def test_runs_that_cannot_be_used_are_left_out_and_named(tmp_path, caplog):
    """What `runs/*` gives: a run without a reply, a damaged one, one with a damaged line, a folder, and a file."""
    zero = four(tmp_path / "zero")
    (four(tmp_path / "cut") / "responses.jsonl").open("a").write("{]\n")
    for name, manifest in (("bad", "{"), ("none", None)):
        (tmp_path / name).mkdir()
        (tmp_path / name / ("manifest.json" if manifest else "x")).write_text(manifest or "")
    (tmp_path / "notes.txt").write_text("Hi.")
    make_run(tmp_path / "empty", {}, failed="a")
    left_out = [tmp_path / name for name in ("bad", "cut", "empty", "none", "notes.txt")]
    made = localemp.report([*left_out, zero], html=tmp_path / "r.html", markdown=tmp_path / "r.md")
    scored = localemp.score([*left_out, zero], metric="B-2")
    assert len(scored.systems) == len(made.report.systems) == 1
    told = ("manifest is damaged", "line 5: cannot be read", "no replies yet", "is not a run", "holds no scores")
    for place, what in enumerate(told):
        assert what in made.report.notes[place]
        assert all(text.startswith("left out: ") for text in (made.report.notes[place], scored.left_out[place]))
        assert made.report.notes[place] in caplog.messages
    for file in made.written:
        assert "left out: " in file.read_text() and "empty: no replies yet" in file.read_text()
    with pytest.raises(RunError, match="no replies yet"):
        localemp.report(tmp_path / "empty")
    with pytest.raises(LocalempError, match="manifest is damaged"):
        localemp.score(left_out)
    with pytest.raises(RunError, match="is not a run"):  # a mistake in the command, whatever the other runs are
        localemp.report([zero, tmp_path / "zrro"])


def test_rows_need_no_explanation(tmp_path):
    runs = [
        four(tmp_path / "x1", model="llama", shots=1, given=["emotion"], strategy="few-shot"),
        four(tmp_path / "x2", temperature=0.7),
        four(tmp_path / "scripted-zero-shot-0123abcd", temperature=0.0),
    ]
    names = ["llama few-shot (1 shot, given emotion)", "scripted zero-shot: x2", "scripted zero-shot: 0123abcd"]
    made = localemp.report(runs, published="none", latex=tmp_path / "t.tex", csv=tmp_path / "t.csv")
    text = (tmp_path / "t.tex").read_text()
    assert [row.name for row in made.tables[0].rows] == names
    assert all(f"    {name} & 4 &" in text for name in names) and "Rows:" not in text
    for against in ("x2", tmp_path / "x2"):
        by_folder = localemp.report([*runs, tmp_path / "x1/../x2"], against=str(against))
        assert "Against scripted zero-shot: x2, 4 dialogues" in [table.title for table in by_folder.tables]
    alike = [four(tmp_path / place / "x", seed=seed) for seed, place in enumerate("ab")]
    by_end = localemp.report(alike, against="b/x", published="none").tables
    assert "Against scripted zero-shot: b/x, 4 dialogues" in [table.title for table in by_end]
    localemp.report({"mine": runs[0], "other": runs[1]}, published="none", latex=tmp_path / "t.tex")
    text = (tmp_path / "t.tex").read_text()
    assert text.count("Rows: mine: llama few-shot (1 shot, given emotion); other: scripted zero-shot.") == 1


def test_a_comparison_without_a_common_dialogue_says_why(tmp_path):
    other = make_run(tmp_path / "other", {"x": "Oh.", "y": "No."})
    made = localemp.report([four(tmp_path / "zero"), make_run(tmp_path / "near", NEAR), other], against="zero")
    table = next(table for table in made.tables if table.kind == "differences")
    assert [cell.text for cell in table.rows[1].cells] == ["0", *["n/a"] * (len(table.columns) - 1)]
    assert any("no dialogue is in both" in note.text for note in table.notes)


def test_kept_values_give_bertscore_on_shared_dialogues(tmp_path):
    model = f"{save_tiny_roberta(tmp_path / 'tiny')}:{LAYER}"
    whole, part = make_run(tmp_path / "whole", NEAR), make_run(tmp_path / "part", {"a": "Oh.", "b": "Oh no."})
    localemp.score([whole, part], bertscore_model=model)
    common = localemp.report([whole, part], common=True, against="part")
    row = next(row for row in common.tables[0].rows if row.name == "scripted zero-shot: whole")
    shared = make_run(tmp_path / "shared", {name: NEAR[name] for name in "ab"})
    alone = localemp.score(shared, bertscore_model=model).systems[0].score("F_BERT")
    assert row.cells[common.tables[0].columns.index("F_BERT")].value == pytest.approx(alone.value)
    table = next(table for table in common.tables if table.kind == "differences")
    assert "F_BERT" in table.columns


def test_what_failed_replies_cost_is_in_the_price_of_the_others(tmp_path):
    folder = make_run(tmp_path / "paid", FAR, tokens=2)
    path = folder / "responses.jsonl"
    lines = path.read_text().replace('"cost": null', '"cost": 0.001').splitlines()
    failed = {"id": "e", "error": {"type": "EngineError", "message": "filtered"}, "paid": [{"cost": 0.002}] * 2}
    path.write_text("\n".join([json.dumps(failed), *lines, json.dumps(failed)]) + "\n")
    report = report_of([folder, make_run(tmp_path / "free", FAR, tokens=2)])
    table = next(table for table in report.tables if table.kind == "effort")
    assert table.columns[-1] == "$ / 1,000"
    assert table.rows[0].cells[-1].value == pytest.approx(1000 * (4 * 0.001 + 4 * 0.002) / 4)
    assert (table.rows[1].cells[-1].value, table.rows[1].cells[-1].about) == (None, "no price of the model is known")
    assert "what was paid for replies that failed is in it" in " ".join(note.text for note in table.notes)

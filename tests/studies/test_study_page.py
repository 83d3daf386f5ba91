"""The raters' page in headless Chromium, against the server that `localemp study serve` starts."""

import contextlib
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ports import free_port

pytest.importorskip("starlette", reason="the raters' page needs starlette: pip install 'localemp[serve]'")
pytest.importorskip("uvicorn", reason="the raters' page needs uvicorn: pip install 'localemp[serve]'")
pytest.importorskip("playwright.sync_api", reason="the page is tested by playwright: pip install playwright")

import uvicorn
from playwright.sync_api import Page, expect
from small_study import ASPECTS, small_study

from localemp.metrics.replies import Replies
from localemp.metrics.replies import Reply as SystemReply
from localemp.studies.answers import AnswerStore
from localemp.studies.create import create_study
from localemp.studies.questionnaire import load_questionnaire
from localemp.studies.schema import Item, Key, Reply
from localemp.studies.study import ANSWERS, JUDGES, Study
from localemp.studies.votes import Vote
from localemp.studies.web.app import StudyApp

WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 320, "height": 640}
ATTACK = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\"><b>bold</b>"

Visit = Callable[..., Page]


class Server:
    """The app in this process, on a port of its own."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.answers = AnswerStore(study.folder / ANSWERS, study)
        app = StudyApp(study, self.answers, signup=True, hosts=("127.0.0.1",)).app
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def said(self, rater: str) -> dict[tuple[str, str], str | int]:
        """What a rater said, by item and aspect (and reply)."""
        return {
            (vote.item, vote.aspect + vote.reply): vote.value for vote in self.answers.votes() if vote.rater == rater
        }


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(small_study(tmp_path / "study")) as server:
        yield server


def begin(page: Page, name: str = "anna") -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_role("heading", name="Before you begin")).to_be_visible()
    page.keyboard.press("Enter")
    at(page, 1)


def at(page: Page, number: int, of: int = 6) -> None:
    expect(page.get_by_role("heading", name=f"Conversation {number} of {of}")).to_be_visible()


def kept(page: Page) -> None:
    expect(page.locator("#saved")).to_have_text("all saved")


def test_items_are_answered_by_keys_and_a_reload_or_another_device_goes_on(visit: Visit, server: Server) -> None:
    page = visit(server.url, viewport=WIDE)
    begin(page)
    link = page.locator("#own-link code").text_content()
    shown = server.study.shown_to("anna")
    for number, keys in enumerate(("120", "t11", "222"), 1):
        at(page, number)
        for key in keys:
            page.keyboard.press(key)
        expect(page.get_by_text("✓ saved")).to_have_count(3)
        page.keyboard.press("Enter" if number % 2 else "ArrowRight")
    at(page, 4)
    page.keyboard.press("ArrowLeft")
    at(page, 3)
    page.get_by_role("group", name="Coherence").get_by_role("radio", name="Equal").check()
    kept(page)
    first, second = ([item.replies[place].key for item in shown] for place in (0, 1))
    values = [first[0], second[0], "tie", "tie", first[1], first[1], second[2], "tie", second[2]]
    questions = [(item.id, aspect) for item in shown[:3] for aspect in ASPECTS]
    assert server.said("anna") == dict(zip(questions, values, strict=True))
    page.reload()
    at(page, 3)
    expect(page.get_by_role("group", name="Coherence").get_by_role("radio", name="Equal")).to_be_checked()
    other = visit(server.url, viewport=PHONE)
    other.goto(str(link))
    at(other, 4)  # where the rater stopped
    assert "/r/" not in other.url
    other.get_by_role("button", name="Back").click()
    at(other, 3)
    expect(other.get_by_role("radio", name="Equal").nth(1)).to_be_checked()
    other.get_by_role("group", name="Coherence").get_by_role("radio", name="Reply 2").check()
    kept(other)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # back to the first device
    expect(page.get_by_role("group", name="Coherence").get_by_role("radio", name="Reply 2")).to_be_checked()


def test_looking_at_another_tab_does_not_begin_the_item_anew(visit: Visit, server: Server) -> None:
    page = visit(server.url, viewport=WIDE)
    begin(page)
    page.get_by_role("radio", name="Reply 2").first.focus()
    time.sleep(1)
    with page.expect_response("**/items"):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.get_by_role("radio", name="Reply 2").first).to_be_focused()
    page.keyboard.press("1")
    kept(page)
    (given,) = server.answers.timed_votes()
    assert given.seconds is not None
    assert given.seconds >= 1


def test_the_replies_are_in_view_on_a_desktop_and_the_first_gap_is_found_again(visit: Visit, server: Server) -> None:
    page = visit(server.url, viewport=WIDE)
    begin(page)
    for name in ("Reply 1", "Reply 2"):
        expect(page.get_by_role("article", name=name)).to_be_in_viewport(ratio=1)
    expect(page.get_by_role("group", name="Informativity")).to_be_in_viewport(ratio=1)
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    expect(page.get_by_text("6 of 6 items are not fully answered.")).to_be_visible()
    page.get_by_role("button", name="Go to the first unanswered item").click()
    at(page, 1)
    page.keyboard.type("111")
    page.get_by_role("button", name="Next").click()
    page.get_by_role("button", name="Next").click()
    page.get_by_role("button", name="First unanswered").click()
    at(page, 2)
    page.go_back()
    at(page, 3)


def test_ratings_are_given_by_touch_on_a_narrow_screen(visit: Visit, tmp_path: Path) -> None:
    with Server(small_study(tmp_path / "study", "rating")) as server:
        page = visit(server.url, viewport=PHONE, has_touch=True, is_mobile=True, color_scheme="dark")
        begin(page)
        for reply in ("Reply 1", "Reply 2"):
            for number, aspect in enumerate(ASPECTS, 3):
                group = page.get_by_role("article", name=reply).get_by_role("group", name=aspect)
                group.locator("label").nth(number - 1).tap()
        kept(page)
        replies = server.study.shown_to("anna")[0].replies
        assert list(server.said("anna").values()) == [3, 4, 5, 3, 4, 5]
        assert [vote.reply for vote in server.answers.votes()] == [reply.key for reply in replies for _ in ASPECTS]
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        small = """[...document.querySelectorAll("button, #questions label")]
          .filter((each) => each.checkVisibility()).map((each) => each.getBoundingClientRect())
          .filter(({ width, height }) => width < 44 || height < 44).length"""
        assert page.evaluate(small) == 0
        page.get_by_role("button", name="Next").tap()
        at(page, 2)


def test_a_preset_shows_the_papers_words_and_the_owner_how_many_have_rated(visit: Visit, tmp_path: Path) -> None:
    said = {name: tuple(SystemReply(f"d{n}", f"{name} {n}.", turns=(f"Hi {n}.",)) for n in range(2)) for name in "abc"}
    systems = [Replies(name, replies) for name, replies in said.items()]
    study, _ = create_study(tmp_path / "study", systems, "rating", load_questionnaire(), preset="paper", sample=2)
    with Server(study) as server:
        token = server.answers.add_rater("owner", "owner")
        page = visit(server.url, viewport={"width": 400, "height": 640})
        page.get_by_label("Name").fill("anna")
        page.get_by_role("button", name="Begin").click()
        expect(page.locator("#aspects dd")).to_contain_text(["Whether the response shows an understanding"])
        page.keyboard.press("Enter")
        at(page, 1, of=2)
        words = page.get_by_text("1: not at all, 3: OK, 5: very good")
        third = page.get_by_role("article", name="Reply 3")
        for name in ("1 ?, not at all", "2", "3 ?, OK", "4", "5 ?, very good"):
            expect(third.get_by_role("radio", name=re.compile(f"^{name}$"))).to_have_count(4)
        for _ in range(12):  # three replies by four aspects; the last is far below the words
            page.keyboard.press("4")
        kept(page)
        last = third.get_by_role("group", name="Fluency")
        last.scroll_into_view_if_needed()
        for seen in (words, last):
            expect(seen).to_be_in_viewport(ratio=1)
        page.goto(f"{server.url}/o/{token}")
        expect(page.locator("#planned")).to_have_text("3 people should rate each item; 0 of 2 items have that many.")
        for who in ("ben", "cleo"):
            asked = [(item.id, reply.key) for item in study.items for reply in item.replies]
            aspects = [aspect.name for aspect in study.manifest.aspects]
            server.answers.put_all([Vote(who, item, name, 2, reply) for item, reply in asked for name in aspects])
        page.reload()
        expect(page.locator("#planned")).to_have_text("3 people should rate each item; 1 of 2 items have that many.")


def scaled(folder: Path, low: int, high: int) -> Study:
    """A rating study on another scale than 1 to 5, with two questions an item."""
    made = small_study(folder / "made", "rating", aspects=("Empathy", "Coherence"), systems=("plain",))
    known = made.manifest.model_dump(exclude={"items_sha256", "key_sha256", "format"})
    return Study.write(folder / "study", made.items, made.key, **{**known, "scale": (low, high)})


def test_numbers_on_a_fine_scale_are_typed_whole_and_kept_only_within_it(visit: Visit, tmp_path: Path) -> None:
    with Server(scaled(tmp_path, 0, 100)) as server:
        page = visit(server.url, viewport=PHONE)
        begin(page)
        first, second = page.get_by_role("spinbutton").all()
        page.keyboard.type("75")  # the first digit moves the focus
        expect(first).to_have_value("75")
        assert server.answers.history() == []
        page.keyboard.press("Enter")
        expect(second).to_be_focused()
        page.keyboard.type("100")
        second.blur()
        kept(page)
        expect(page.get_by_text("✓ saved")).to_have_count(2)
        for wrong in ("750", "-7", "7.5", "-"):
            first.press("ControlOrMeta+a")
            page.keyboard.type(wrong)
            expect(page.get_by_text("✓ saved")).to_have_count(1)
            expect(page.locator("#saved")).to_be_empty()
            page.keyboard.press("Enter")
            said = page.get_by_role("alert").filter(has_text="Not saved: enter a whole number from 0 to 100.")
            expect(said).to_contain_text("75 still counts.")
            page.get_by_role("button", name="Next").click()
            expect(first).to_be_focused()
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        first.fill("")
        first.blur()
        expect(first).to_have_value("75")
        first.fill("8")
        page.get_by_role("button", name="Next").click()
        at(page, 2)
        kept(page)
        (shown, _), replies = server.study.shown_to("anna")[:2], {vote.reply for vote in server.answers.votes()}
        assert replies == {shown.replies[0].key}
        assert [given.vote.value for given in server.answers.history()] == [75, 100, 8]


def test_negative_ratings_are_typed_and_digits_do_not_answer_in_passing(visit: Visit, tmp_path: Path) -> None:
    with Server(scaled(tmp_path, -2, 2)) as server:
        page = visit(server.url, viewport=WIDE)
        begin(page)
        assert "type a whole number" in str(page.locator("#keys").text_content())
        page.keyboard.type("-2")
        page.keyboard.press("Enter")
        page.keyboard.type("0")
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")  # on "Next"
        at(page, 2)
        kept(page)
        assert list(server.said("anna").values()) == [-2, 0]


def test_digits_rate_where_every_rating_is_one_digit(visit: Visit, tmp_path: Path) -> None:
    with Server(scaled(tmp_path, 0, 9)) as server:
        page = visit(server.url, viewport=WIDE)
        begin(page)
        assert "0 to 9 rate" in str(page.locator("#keys").text_content())
        page.keyboard.type("90")
        kept(page)
        assert list(server.said("anna").values()) == [9, 0]


def test_markup_is_shown_as_text_wherever_it_comes_from(visit: Visit, tmp_path: Path) -> None:
    plain = small_study(tmp_path / "plain", items=1)
    item = Item(
        id="i0", turns=(ATTACK, ATTACK, ATTACK), replies=(Reply(key="a", text=ATTACK), Reply(key="b", text=" "))
    )
    known = plain.manifest.model_dump(exclude={"items_sha256", "key_sha256", "format"})
    aspects = [{"name": ATTACK, "about": ATTACK}]
    texts = {"title": ATTACK, "instructions": ATTACK, "question": ATTACK, "aspects": aspects}
    key = Key(systems={"a": "one", "b": "two"}, dialogues={"i0": "d0"}, sources={"one": {}, "two": {}})
    with Server(Study.write(tmp_path / "study", [item], key, **{**known, **texts})) as server:
        page = visit(server.url)
        page.get_by_label("Name").fill("a <b>name</b>")
        page.get_by_role("button", name="Begin").click()
        expect(page.locator("#instructions")).to_have_text(ATTACK)
        page.keyboard.press("Enter")
        at(page, 1, of=1)
        for place in ("h1", "#talk li:first-child p", ".reply .text:not(.none)", ".ask", "legend", ".about"):
            expect(page.locator(place).filter(visible=True).first).to_contain_text(ATTACK)
        assert page.locator(".reply .text").filter(has_text=re.compile("empty reply|script")).count() == 2
        expect(page.locator("#who span")).to_have_text("a <b>name</b>")
        assert page.locator("main b, main img, main script, header b").count() == 0
        assert page.title() == ATTACK


def test_the_owner_watches(visit: Visit, server: Server) -> None:
    token = server.answers.add_rater("owner", "owner")
    server.answers.put(Vote("crowd", "i0", "Empathy", "tie", kind="import"))
    (server.study.folder / JUDGES / "llama").mkdir(parents=True)
    page = visit(server.url)
    begin(page, "ben <i>lee</i>")
    page.keyboard.type("111")
    kept(page)
    page.goto(f"{server.url}/o/{token}")
    expect(page.get_by_role("row", name="ben <i>lee</i>")).to_contain_text("1 of 6")
    expect(page.get_by_role("row", name="Empathy")).to_contain_text("nothing was answered by two raters")
    expect(page.locator("#also")).to_contain_text("Imported: crowd (1 answer). Judges: llama. Not included above")
    assert page.url == f"{server.url}/owner"
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV", exact=True).click()
    assert download.value.suggested_filename == "votes.csv"
    page.goto(server.url)  # the same browser still rates
    at(page, 2)


@contextlib.contextmanager
def started(localemp: Callable[..., Any], port: int) -> Iterator["subprocess.Popen[str]"]:
    """The server, once it is ready."""
    process = localemp.start("study", "serve", "study", "--port", port)
    try:
        assert any("ready" in line for line in process.stdout), process.stderr.read()
        yield process
    finally:
        process.kill()
        process.communicate()


def test_answers_outlive_a_server_that_is_killed(visit: Visit, tmp_path: Path, localemp: Callable[..., Any]) -> None:
    study, port = small_study(tmp_path / "study"), free_port()
    with started(localemp, port) as process:
        page = visit(f"http://127.0.0.1:{port}")
        begin(page)
        page.keyboard.press("1")
        kept(page)
        process.kill()
        process.wait()
        page.keyboard.type("12")
        expect(page.get_by_role("alert").filter(visible=True)).to_contain_text("2 answers are not saved yet.")
        page.keyboard.press("Enter")
        page.keyboard.press("2")
        expect(page.get_by_role("alert").filter(visible=True)).to_contain_text("3 answers are not saved yet.")
        expect(page.get_by_text("✓ saved")).to_have_count(0)
        expect(page.locator("#saved")).to_have_text("3 not saved yet")
        time.sleep(0.1)
        assert len(AnswerStore(study.folder / ANSWERS, study).votes()) == 1
    with started(localemp, port):
        page.get_by_role("button", name="Try now").click()
        kept(page)
        expect(page.locator("#notice")).to_be_hidden()
        expect(page.get_by_text("✓ saved")).to_have_count(1)
    shown = study.shown_to("anna")
    votes = AnswerStore(study.folder / ANSWERS, study).votes()
    assert [(vote.item, vote.value) for vote in votes] == [
        (shown[0].id, shown[0].replies[0].key),
        (shown[0].id, shown[0].replies[0].key),
        (shown[0].id, shown[0].replies[1].key),
        (shown[1].id, shown[1].replies[1].key),
    ]

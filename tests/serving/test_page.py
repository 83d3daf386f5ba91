"""The page of `localemp serve` in headless Chromium, against a real server that answers as it is told."""

import re
from collections.abc import Callable, Iterator

import pytest
from patience import patience

pytest.importorskip("starlette", reason="the page's server needs starlette, which comes with vLLM")
pytest.importorskip("uvicorn", reason="the page's server needs uvicorn, which comes with vLLM")
pytest.importorskip("playwright.sync_api", reason="the page is tested by playwright: pip install playwright")

from model_app import ModelApp, served
from page_server import REPLY, STRATEGIES, TRACE, Answer, PageServer, refusal
from playwright.sync_api import Locator, Page, expect

from localemp.pipeline.config import RunConfig
from localemp.serving.flows import register_flows
from localemp.serving.middleware import StrategyMiddleware
from localemp.serving.settings import ServeSettings
from localemp.strategies.registry import PARTS

SAID = "I lost my job today."
DEEP = "smollm2:similar+knowledge+two-stage"
PHONE = {"width": 360, "height": 740}

Visit = Callable[..., Page]


def box(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Your message")


def answered_by(page: Page) -> Locator:
    return page.get_by_role("combobox", name="Answered by")


def replies(page: Page) -> Locator:
    return page.get_by_role("article")


def say(page: Page, text: str = SAID) -> None:
    expect(answered_by(page)).to_be_enabled()
    box(page).fill(text)
    page.get_by_role("button", name="Send").click()


def compare(page: Page, second: str | None = None) -> None:
    page.get_by_role("button", name="Compare").click()
    if second is not None:
        page.get_by_role("combobox", name="Compared with").select_option(second)


def test_a_reply_appears_piece_by_piece_and_the_next_message_carries_the_talk(visit: Visit) -> None:
    with PageServer(Answer(pause=0.1)) as server:
        page = visit(server.url)
        # All that is ever shown, since a busy machine may look too late.
        page.evaluate(
            """() => {
                window.seen = new Set();
                new MutationObserver(() => window.seen.add(document.querySelector(".text")?.textContent))
                    .observe(document.body, {childList: true, subtree: true, characterData: true});
            }"""
        )
        say(page)
        expect(page.locator(".text")).to_have_text("".join(REPLY))
        pieces = [text.strip() for text in page.evaluate("() => [...window.seen]") if text]
        assert len(pieces) >= 3 and all("".join(REPLY).startswith(text) for text in pieces), pieces
        say(page, "How I tell my family.")
        expect(replies(page)).to_have_count(2)
        expect(page.get_by_role("status")).to_have_text("".join(REPLY))
    assert [turn["content"] for turn in server.chats[1]["messages"]] == [SAID, "".join(REPLY), "How I tell my family."]
    assert [turn["role"] for turn in server.chats[1]["messages"]] == ["user", "assistant", "user"]
    assert server.chats[0]["localemp"] == {"trace": True}


def test_every_model_is_offered_the_bare_one_first_each_explained(visit: Visit) -> None:
    with PageServer() as server:
        page = visit(server.url)
        group = answered_by(page).locator("optgroup")
        expect(group).to_have_attribute("label", "smollm2")
        assert group.locator("option").all_inner_texts() == ["smollm2", *(f"smollm2:{name}" for name in STRATEGIES)]
        explained = set()
        for name in group.locator("option").all_inner_texts():
            answered_by(page).select_option(name)
            explained.add(page.locator("#about-first").inner_text())
        assert len(explained) == len(STRATEGIES) + 1
        answered_by(page).select_option(DEEP)
        expect(answered_by(page)).to_have_accessible_description(
            re.compile("^The model reads .+, and infers the emotion")
        )


def test_an_adapter_has_a_group_of_its_own_and_is_named(visit: Visit) -> None:
    with PageServer(adapters=("mine",)) as server:
        page = visit(server.url)
        groups = answered_by(page).locator("optgroup")
        expect(groups).to_have_count(2)
        assert [group.get_attribute("label") for group in groups.all()] == ["smollm2", "smollm2@mine"]
        offered = groups.nth(1).locator("option").all_inner_texts()
        assert offered == ["smollm2@mine", *(f"smollm2@mine:{name}" for name in STRATEGIES)]
        expect(answered_by(page)).to_have_value("smollm2:zero-shot")
        for name, about in (("smollm2@mine", "answers without a strategy"), ("smollm2@mine:two-stage", "infers the")):
            answered_by(page).select_option(name)
            expect(answered_by(page)).to_have_accessible_description(
                re.compile(f"^The model with the adapter mine {about}")
            )
        say(page)
        expect(page.get_by_role("article", name="Reply by smollm2@mine:two-stage")).to_contain_text("".join(REPLY))
    assert [chat["model"] for chat in server.chats] == ["smollm2@mine:two-stage"]


def test_the_strategy_can_be_switched_in_the_middle_of_a_talk(visit: Visit) -> None:
    with PageServer() as server:
        page = visit(server.url)
        say(page)
        answered_by(page).select_option("smollm2:two-stage")
        say(page, "And now?")
        expect(page.get_by_role("article", name="Reply by smollm2:two-stage")).to_contain_text("".join(REPLY))
    assert [chat["model"] for chat in server.chats] == ["smollm2:zero-shot", "smollm2:two-stage"]


def test_two_replies_are_compared_and_the_talk_goes_on_with_the_chosen_one(visit: Visit) -> None:
    with PageServer(by_model={"smollm2": Answer(("Update", " your resume.")), DEEP: Answer()}) as server:
        page = visit(server.url)
        expect(answered_by(page)).to_be_enabled()
        compare(page, "smollm2")
        answered_by(page).select_option(DEEP)
        say(page)
        expect(page.get_by_role("article", name=f"Reply by {DEEP}")).to_contain_text("".join(REPLY))
        bare = page.get_by_role("article", name="Reply by smollm2", exact=True)
        expect(bare).to_contain_text("Update your resume.")
        bare.get_by_role("button", name="Continue with this reply").click()
        expect(bare).to_contain_text("Continuing with this reply")
        say(page, "I have none.")
        expect(replies(page)).to_have_count(4)
        expect(page.get_by_role("button", name="Continue with this reply")).to_have_count(2)
    assert {chat["model"] for chat in server.chats[2:]} == {DEEP, "smollm2"}
    for chat in server.chats[2:]:
        assert [turn["content"] for turn in chat["messages"]] == [SAID, "Update your resume.", "I have none."]


def test_a_comparison_starts_with_two_strategies_and_has_one_sampling_which_it_says(visit: Visit) -> None:
    with PageServer() as server:
        page = visit(server.url)
        expect(answered_by(page)).to_have_value("smollm2:zero-shot")
        told = page.locator("#sampling")
        expect(told).to_be_hidden()
        compare(page)
        expect(page.get_by_role("combobox", name="Compared with")).to_have_value("smollm2:two-stage")
        expect(told).to_have_text("Same sampling on both sides: temperature 0, top k 40, at most 64 tokens.")
        page.get_by_role("combobox", name="Compared with").select_option("smollm2")
        say(page)
        expect(page.get_by_role("button", name="Continue with this reply")).to_have_count(2)
    asked = {chat["model"]: chat["localemp"] for chat in server.chats}
    assert asked == {"smollm2:zero-shot": {"trace": True}, "smollm2": {"sampling": True}}


def test_a_comparison_must_be_decided_before_the_talk_goes_on(visit: Visit) -> None:
    with PageServer() as server:
        page = visit(server.url)
        compare(page)
        say(page)
        expect(page.get_by_role("button", name="Continue with this reply")).to_have_count(2)
        say(page, "And now?")
        expect(page.get_by_role("alert")).to_contain_text("Choose one")
        expect(box(page)).to_have_value("And now?")
        expect(page.get_by_role("button", name="Continue with this reply").first).to_be_focused()
    assert len(server.chats) == 2


def test_one_side_of_a_comparison_may_fail(visit: Visit) -> None:
    with PageServer(by_model={"smollm2": refusal(500, "the engine is gone")}) as server:
        page = visit(server.url)
        expect(answered_by(page)).to_be_enabled()
        compare(page, "smollm2")
        say(page)
        expect(page.get_by_role("article", name="Reply by smollm2", exact=True)).to_contain_text("the engine is gone")
        expect(page.get_by_role("button", name="Continue with this reply")).to_have_count(0)
        server.by_model.clear()
        page.get_by_role("button", name="Ask again").click()
        expect(page.get_by_role("article", name="Reply by smollm2", exact=True)).to_contain_text("".join(REPLY))
        expect(page.get_by_role("button", name=re.compile("with this"))).to_have_count(2)


def test_what_happened_inside_is_told_in_plain_words(visit: Visit) -> None:
    with PageServer(Answer(trace=TRACE)) as server:
        page = visit(server.url)
        answered_by(page).select_option(DEEP)
        say(page)
        page.get_by_text("How this reply was made").click()
        inside = page.locator(".trace")
        expect(inside).to_contain_text("The user may feel devastated.")
        first = inside.locator(".exemplar").first
        expect(first).to_contain_text("0.61")
        expect(first.get_by_text("How are you holding up?")).to_be_hidden()
        first.locator("summary").click()
        expect(first.get_by_text("How are you holding up?")).to_be_visible()
        expect(inside).to_contain_text("the last 1 of 2")
        assert [" ".join(text.split()) for text in inside.locator("dd").all_inner_texts()] == [
            "sad lost", "to find a new job", "none selected", "worries about money",
        ]  # fmt: skip
        assert inside.locator("dt").all_inner_texts() == ["Feels", "Wants", "Needs", "Effects"]
        inside.get_by_text("Dropped (2)").click()
        expect(inside.get_by_text("Feels: happy – below the cut-off (0.11)")).to_be_visible()
        expect(inside.get_by_text("Needs: none – says nothing")).to_be_visible()
        expect(inside).to_contain_text("239 tokens read, 20 written · 0.81 s")
        inside.get_by_text("Messages sent to the model").first.click()
        expect(inside.get_by_text("This is an empathetic dialogue task")).to_be_visible()


def test_the_bare_model_is_asked_for_no_trace_and_shows_none(visit: Visit) -> None:
    with PageServer(Answer(trace=TRACE)) as server:
        page = visit(server.url)
        answered_by(page).select_option("smollm2")
        say(page)
        expect(page.locator(".text")).to_have_text("".join(REPLY))
        expect(page.get_by_text("How this reply was made")).to_have_count(0)
    assert server.chats[0]["localemp"] == {"sampling": True}


def test_what_a_model_writes_is_text_and_never_markup(visit: Visit) -> None:
    markup = "<img src=x onerror=alert(1)><b>bold</b>"
    with PageServer(Answer((markup,))) as server:
        page = visit(server.url)
        say(page, "<i>hi</i>")
        expect(page.locator(".text")).to_have_text(markup)
        assert page.locator("main img, main b, main i").count() == 0


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (refusal(429, "slow down", {"Retry-After": "7"}), "Try again in 7 seconds."),
        (refusal(429, "slow down"), "Try again in a moment."),
        (refusal(400, "This model's maximum context length is 4096 tokens."), "longer than the model's context"),
        (refusal(400, "too much", code="context_length_exceeded"), "start a new chat"),
        (refusal(400, "stop must be a string"), "rejected this: stop must be a string"),
        (refusal(503, "the engine is starting"), "could not answer: the engine is starting"),
        (Answer((), error={"message": "the engine died"}), "The reply was cut off: the engine died"),
        (Answer(()), "reply was empty"),
    ],
)
def test_an_error_says_what_to_do_and_gives_the_text_back(visit: Visit, answer: Answer, shown: str) -> None:
    with PageServer(answer) as server:
        page = visit(server.url)
        say(page)
        expect(page.get_by_role("alert")).to_contain_text(shown)
        expect(box(page)).to_have_value(SAID)
        page.get_by_role("button", name="Send").click()
        expect(page.locator(".text")).to_have_text("".join(REPLY))
        expect(page.get_by_role("alert")).to_be_hidden()
    assert server.chats[1]["messages"] == [{"role": "user", "content": SAID}]


def test_a_server_that_is_gone_is_told_and_what_was_typed_since_is_kept_too(visit: Visit) -> None:
    with PageServer(Answer((), endless=True)) as server:
        page = visit(server.url)
        say(page)
        box(page).fill("I typed on.")
        server.stop()
        expect(page.get_by_role("alert")).to_contain_text("cut off")
        expect(box(page)).to_have_value(f"{SAID}\n\nI typed on.")
        page.get_by_role("button", name="Send").click()
        expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached.")
        expect(box(page)).to_have_value(f"{SAID}\n\nI typed on.")


def test_models_that_cannot_be_listed_can_be_asked_for_again(visit: Visit) -> None:
    with PageServer() as server:
        server.ready = False
        page = visit(server.url)
        expect(page.get_by_role("alert")).to_contain_text("could not answer: the engine is starting")
        box(page).fill(SAID)
        with page.expect_response("**/v1/models"):  # Enter asks for the models again; its alert is a new one
            page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("could not answer: the engine is starting")
        expect(box(page)).to_have_value(SAID)
        server.ready = True
        page.get_by_role("button", name="Try again").click()
        expect(page.get_by_role("alert")).to_be_hidden()
        page.get_by_role("button", name="Send").click()
        expect(page.locator(".text")).to_have_text("".join(REPLY))


@pytest.mark.parametrize(
    "broken", [Answer(REPLY[:3], error={"message": "the engine died"}), Answer(REPLY[:3], pause=0.1, cut=True)]
)
def test_a_reply_that_breaks_off_is_kept_and_can_be_asked_for_again(visit: Visit, broken: Answer) -> None:
    with PageServer(broken) as server:
        page = visit(server.url)
        say(page)
        expect(replies(page)).to_contain_text("Losing a job after")
        expect(replies(page)).to_contain_text("The reply was cut off")
        page.get_by_role("button", name="Ask again").click()
        expect(page.locator(".text")).to_have_text("".join(REPLY))
        expect(page.get_by_role("button", name="Ask again")).to_have_count(0)
    assert server.chats[0] == server.chats[1]


def test_a_key_is_asked_for_until_it_fits_and_kept_in_this_tab_only(visit: Visit) -> None:
    with PageServer(keys=("open-sesame",)) as server:
        page = visit(server.url)
        dialog = page.get_by_role("dialog", name="A key is required")
        for key, hint in [("wrong", "until you close it"), ("open-sesame", "key you entered is not valid")]:
            expect(dialog).to_contain_text(hint)
            dialog.get_by_label("API key").fill(key)
            dialog.get_by_role("button", name="Use this key").click()
        expect(dialog).to_be_hidden()
        say(page)
        expect(page.locator(".text")).to_have_text("".join(REPLY))
        assert page.evaluate("[localStorage.length, document.cookie, Object.values(sessionStorage)]") == [
            0, "", ["open-sesame"],
        ]  # fmt: skip


def test_without_a_key_nothing_is_lost_and_one_can_be_given_later(visit: Visit) -> None:
    with PageServer(keys=("first",)) as server:
        page = visit(server.url)
        page.get_by_label("API key").fill("first")
        page.keyboard.press("Enter")
        expect(answered_by(page)).to_be_enabled()
        server.keys = ("second",)
        say(page)
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_role("alert")).to_contain_text("needs an API key")
        expect(box(page)).to_have_value(SAID)
        page.get_by_role("button", name="Send").click()
        page.get_by_label("API key").fill("second")
        page.keyboard.press("Enter")
        expect(page.locator(".text")).to_have_text("".join(REPLY))


def test_the_whole_page_works_by_keyboard(visit: Visit) -> None:
    with PageServer(Answer(trace=TRACE), Answer(("Take", " your time."), endless=True)) as server:
        page = visit(server.url)
        expect(answered_by(page)).to_be_enabled()
        press, typed = page.keyboard.press, page.keyboard.type
        expect(box(page)).to_be_focused()
        typed("one")
        press("Shift+Enter")
        typed("two")
        press("Enter")
        expect(page.locator(".text").first).to_have_text("".join(REPLY))
        expect(box(page)).to_be_focused()
        press("Shift+Tab")
        expect(page.locator(".trace > summary")).to_be_focused()
        assert page.locator(".trace > summary").evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
        press("Enter")
        expect(page.get_by_text("Emotion and situation")).to_be_visible()
        press("Enter")
        press("Tab")
        typed("go on")
        press("Enter")
        expect(page.locator(".text").last).to_have_text("Take your time.")
        press("Escape")
        expect(page.get_by_text("Stopped here.")).to_be_visible()
        assert server.left.wait(patience())
        page.locator("h1").click()
        for role, name in [("combobox", "Answered by"), ("button", "Compare"), ("button", "New chat")]:
            press("Tab")
            expect(page.get_by_role(role, name=name)).to_be_focused()
        press("Enter")
        expect(replies(page)).to_have_count(0)
        expect(box(page)).to_be_focused()
    assert server.chats[0]["messages"] == [{"role": "user", "content": "one\ntwo"}]


def test_stop_keeps_what_has_come_and_before_that_gives_the_text_back(visit: Visit) -> None:
    with PageServer(Answer((), endless=True), Answer(REPLY[:3], endless=True)) as server:
        page = visit(server.url)
        say(page)
        page.get_by_role("button", name="Stop").click()
        expect(box(page)).to_have_value(SAID)
        expect(box(page)).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator(".text")).to_have_text("Losing a job after")
        page.get_by_role("button", name="Stop").click()
        say(page, "Go on.")
        expect(page.locator(".text").last).to_have_text("".join(REPLY))
    assert [turn["content"] for turn in server.chats[2]["messages"]] == [SAID, "Losing a job after", "Go on."]


def test_a_new_talk_forgets_the_old_one_even_while_it_is_answered(visit: Visit) -> None:
    with PageServer(Answer(REPLY[:3], endless=True)) as server:
        page = visit(server.url)
        say(page)
        expect(page.locator(".text")).to_have_text("Losing a job after")
        page.get_by_role("button", name="New chat").click()
        expect(page.get_by_role("heading", name="What is on your mind?")).to_be_visible()
        say(page, "Something else.")
        expect(page.locator(".text")).to_have_text("".join(REPLY))
    assert server.chats[1]["messages"] == [{"role": "user", "content": "Something else."}]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone_and_everything_can_be_read(visit: Visit, scheme: str) -> None:
    long = Answer(("unbreakable" * 20,), trace=TRACE)
    with PageServer(long, long, refusal(500, "/a/very/long/path" * 10), refusal(500, "no")) as server:
        page = visit(server.url, viewport=PHONE, color_scheme=scheme, reduced_motion="reduce")
        compare(page)
        answered_by(page).select_option(DEEP)
        say(page, "unbreakable" * 20)
        page.get_by_role("button", name="Continue with this reply").first.click()
        page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
        say(page)
        expect(page.get_by_role("alert")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        assert page.evaluate(HARD_TO_READ) == []


def test_dark_and_light_have_grounds_of_their_own(visit: Visit) -> None:
    with PageServer() as server:
        light, dark = (visit(server.url, color_scheme=scheme) for scheme in ("light", "dark"))
        ground = "getComputedStyle(document.documentElement).backgroundColor"
        assert (light.evaluate(ground), dark.evaluate(ground)) == ("rgb(247, 245, 240)", "rgb(19, 25, 24)")


def test_the_real_middleware_and_the_page_understand_each_other(visit: Visit) -> None:
    config = RunConfig(model="tiny", base_url="http://127.0.0.1:1/v1", shots=2)
    settings = ServeSettings.of("tiny", config, strategies=("few-shot+two-stage",), api_keys=("sesame",), ui=True)
    with served(StrategyMiddleware(ModelApp().app, settings)) as url:
        page = visit(url)
        page.get_by_label("API key").fill("sesame")
        page.keyboard.press("Enter")
        compare(page)
        say(page, "My dog died.")
        expect(page.get_by_role("article", name="Reply by tiny", exact=True)).to_contain_text("I hear you: My dog died")
        deep = page.get_by_role("article", name="Reply by tiny:few-shot+two-stage")
        expect(deep).to_contain_text("I hear you, and I am with you")
        deep.get_by_text("How this reply was made").click()
        expect(deep).to_contain_text("The user's emotion may be sad.")
        expect(deep.locator(".exemplar")).to_have_count(2)
        deep.get_by_role("button", name="Continue with this reply").click()
        say(page, "far too long " * 400)
        expect(page.get_by_role("alert")).to_contain_text("longer than the model's context")


FLOW = """
about = "The mood of the page first."

[[stages]]
name = "the_mood"
ask = "One of: {labels}."
labels = ["Good", "Bad"]

[[stages]]
name = "reply"
ask = "It is {the_mood}."
"""


@pytest.fixture
def flow() -> Iterator[str]:
    """The name of a registered flow."""
    register_flows({"page-mood": FLOW})
    yield "page-mood"
    del PARTS["page-mood"]


def test_a_flow_has_its_line_and_shows_its_labels(visit: Visit, flow: str) -> None:
    config = RunConfig(model="tiny", base_url="http://127.0.0.1:1/v1", shots=1)
    settings = ServeSettings.of("tiny", config, strategies=(flow, f"few-shot+{flow}"))
    with served(StrategyMiddleware(ModelApp().app, settings)) as url:
        page = visit(url)
        expect(answered_by(page)).to_have_accessible_description("The mood of the page first.")
        answered_by(page).select_option(f"tiny:few-shot+{flow}")
        expect(answered_by(page)).to_have_accessible_description(re.compile("; The mood of the page first.$"))
        say(page, "say: Good")
        page.get_by_text("How this reply was made").click()
        inside = page.locator(".trace")
        expect(inside.get_by_role("heading", name="the mood")).to_be_visible()
        expect(inside.locator(".chip")).to_have_text("Good")
        expect(inside.locator(".exemplar")).to_have_count(1)


def test_json_and_candidates_are_shown_by_their_stage(visit: Visit) -> None:
    stage = TRACE["stages"][-1]
    calls = [
        {"name": "cause", "text": "{...}", "answer": {"event": "the office closed", "certain": True}},
        {"name": "reply.candidate", "text": "Oh.", "answer": None},
        {"name": "reply.choice", "text": "None.", "answer": "2", "notes": ["it named no candidate"]},
        {"name": "reply"},
    ]
    with PageServer(Answer(trace={**TRACE, "stages": [stage | call for call in calls], "inferences": None})) as server:
        page = visit(server.url)
        say(page)
        page.get_by_text("How this reply was made").click()
        inside = page.locator(".trace")
        assert inside.get_by_role("heading").all_inner_texts()[:3] == [
            "cause", "reply: candidate not chosen", "reply: choice of a candidate"
        ]  # fmt: skip
        assert inside.locator("dt").all_inner_texts()[:2] == ["event", "certain"]
        assert inside.locator("dd").all_inner_texts()[:2] == ["the office closed", "true"]
        expect(inside.locator(".chip").first).to_have_text("2")
        expect(inside.get_by_text("it named no candidate")).to_be_visible()


# Texts that have a contrast below 4.5:1 with the nearest ground behind them, as WCAG 2 counts it.
HARD_TO_READ = """() => {
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b]
    .map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    const color = numbers(getComputedStyle(element).backgroundColor);
    return color[3] === 0 && element.parentElement ? ground(element.parentElement) : color;
  };
  const contrast = (element) => {
    const [a, b] = [luminance(numbers(getComputedStyle(element).color)), luminance(ground(element))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
  const says = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  return [...document.querySelectorAll("body *")]
    .filter((element) => element.checkVisibility() && says(element) && contrast(element) < 4.5)
    .map((element) => `${element.tagName}.${element.className} ${contrast(element).toFixed(2)}`);
}"""

"""A truncated reply is cut at its last whole sentence: whole, streamed, and of a strategy."""

import random

import pytest
from stage_prompts import flow_of
from told_engine import ToldEngine, file_flow

from localemp.dialogue import Dialogue
from localemp.engines.base import Completion, Engine
from localemp.prompting.render import Prompts
from localemp.prompting.template import load_template
from localemp.sampling import Sampling
from localemp.strategies.cleaning import Cleaner, clean_reply
from localemp.strategies.strategy import Strategy
from localemp.strategies.trimming import Trimmer, ends_whole, whole_sentences

# Where "|" stands the text is cut; without one there is no whole sentence, and it stays.
TEXTS = [
    "",
    "I am so sorry to hear that you",
    "I am so sorry.| That must have be",
    "i am sorry. that is sad.| i ho",
    "What?! No!|",
    "Are you ok.| You s",
    "So do I.| What hap",
    "Oh no.\n\nI am sorry.|\n\nWhat",
    # A full stop that is part of a word or a number.
    "He met Dr. Smi",
    "Dr. Smith is kind.| He sa",
    "Oh no!| It starts at 5 p.m. We sh",
    "He lives in the U.S. Army",
    "J. R. R. Tolkien wr",
    "See example.com for mo",
    "It costs 3.50.| I",
    "It costs 3.",
    "It was in 2020.| We",
    "Try this:\n1. Talk to",
    "Try this:\n1. Talk to her.|\n2. Wa",
    "Yes. Three things help: 1. Talk.| 2. Wa",
    # Quotations, brackets, emphasis.
    'I see. He said "Stop."| Now I',
    'I see.| He said "Stop. Now I',
    '"I am sorry.| What hap',
    "“I am sorry.”| She sa",
    '"Really?" she sa',
    '"Stop," he said.|\nNow "what',
    "(I know how it feels.)| You",
    "**I am sorry.**| You",
    "I am 5'11\" tall.| And she",
    # Ellipses.
    "I see... that must be",
    "I see...| That must be",
    "Oh no…| What hap",
    "...|",
    # Chinese, Japanese, Hindi, Arabic.
    "それは大変でしたね。|何があっ",
    "「大変でしたね。」|と彼",
    "真的吗?|我",
    "我知道……但是",
    "वह दुखी है।| मैं",
    "هل أنت بخير؟| أنا",
    # Emoji.
    "That is great! 😊| What a",
    "That is great 🎉🎉| What a",
    "That is great! ❤️|",
    "Family! 👩‍👩‍👧| What a",
    "I love 😊 emoji",
]


@pytest.mark.parametrize("told", TEXTS)
def test_a_text_is_cut_at_its_last_whole_sentence(told):
    text, wanted = told.replace("|", ""), told.partition("|")[0]
    assert whole_sentences(text) == wanted
    assert ends_whole(wanted) is ("|" in told or wanted == "It costs 3.")


def in_pieces(text, reason, sizes):
    cleaner, said, at = Cleaner(trims=True), "", 0
    while at < len(text):
        size = sizes.choice((1, 2, 5, 40))
        said += cleaner.feed(text[at : at + size])
        at += size
    return said + cleaner.end(reason)


def test_a_streamed_text_is_cut_as_a_whole_one_is():
    sizes = random.Random(1)
    for _ in range(300):
        text = " ".join(sizes.choice(TEXTS).replace("|", "") for _ in range(sizes.randrange(1, 4)))
        assert in_pieces(text, "length", sizes) == clean_reply(text, "length", trims=True)
        assert in_pieces(text, "stop", sizes) == clean_reply(text)


def test_what_is_whole_is_streamed_at_once():
    trimmer = Trimmer()
    given = [trimmer.feed(word) for word in ("I am ", "sorry.", " Really", " so. ", "What")]
    assert given == ["", "", "I am sorry.", "", " Really so."]
    assert trimmer.end(truncated=True) == ""


@pytest.mark.parametrize("part", [".", ". ", ' "', "😊", ".\u200d", "\n1.", "e.g. ", " ", "a"])
def test_hostile_texts_take_linear_time(part):
    text = "No." + part * 10_000
    trimmer = Trimmer()
    pieces = "".join(map(trimmer.feed, text)) + trimmer.end(truncated=True)
    assert pieces == whole_sentences(text)


class Answers(Engine):
    """Gives one answer after the other."""

    name = "answers"

    def __init__(self, *answers):
        self.answers = list(answers)

    async def chat(self, messages, sampling):
        return self.answers.pop(0)

    def describe(self):
        return {}


async def respond(*answers, flow=None, **options):
    made = Strategy("test", Prompts(load_template("paper"), "chat"), Sampling(), (), flow, **options)
    return await made.respond(Dialogue("d", ("My dog died.",)), Answers(*answers)), made


CUT = Completion("Listener: Oh no. I am so sor", "length")


async def test_only_the_reply_is_cut_and_only_if_it_was_truncated():
    feeling = Completion("Sad. Or an", "length")
    response, made = await respond(feeling, CUT, flow=flow_of(), trim_to_sentence=True)
    assert (response.reply, response.raw, response.truncated) == ("Oh no.", CUT.text, True)
    assert response.stages[0].completion.text == "Sad. Or an"
    assert made.describe()["trim_to_sentence"] is True
    plain, as_before = await respond(CUT)
    assert plain.reply == "Oh no. I am so sor"
    assert "trim_to_sentence" not in as_before.describe(), "earlier runs can be resumed"
    ended, _ = await respond(Completion("Oh no. I am here", "stop"), trim_to_sentence=True)
    assert (ended.reply, ended.truncated) == ("Oh no. I am here", False)


async def test_an_invented_next_turn_that_is_truncated_cuts_nothing_else():
    answer = Completion("Oh no. I am here\nSpeaker: Thank you. It", "length")
    response, _ = await respond(answer, trim_to_sentence=True)
    assert response.reply == "Oh no. I am here"


async def test_a_judge_sees_candidates_as_the_replies_that_they_would_be():
    choose = '{ ask = "Which is best?\\n{candidates}", task = "You judge." }'
    stage = f'name = "reply"\nn = 2\nsampling = {{ temperature = 1.0 }}\nchoose = {choose}'
    flow = file_flow(f"[[stages]]\n{stage}")
    engine = ToldEngine({"Which is best": "2", "": [CUT, Completion("I see. And y", "length")]})
    made = Strategy("test", Prompts(load_template("paper"), "chat"), Sampling(), (), flow, trim_to_sentence=True)
    response = await made.respond(Dialogue("d", ("My dog died.",)), engine)
    assert engine.calls[-1].last.endswith("1. Oh no.\n2. I see.")
    assert response.reply == "I see."


async def test_thinking_stays_whole():
    answer = Completion("Oh no. I am", "length", thinking="Sad. What to s")
    response, _ = await respond(answer, trim_to_sentence=True, keep_thinking=True)
    assert response.reply == "<think>\nSad. What to s\n</think>\n\nOh no."
    assert response.said == "Oh no."

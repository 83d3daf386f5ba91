"""The metrics of form by hand: Length, Question rate, Repetition, Loops, Context."""

import time

import numpy as np
import pytest
from patience import patience

from localemp.data.sources import load_dialogues
from localemp.metrics.context_overlap import ContextOverlap
from localemp.metrics.length import Length
from localemp.metrics.question_rate import QuestionRate
from localemp.metrics.registry import metrics
from localemp.metrics.repetition import Loops, Repetition, ends_in_loop
from localemp.metrics.replies import Replies, Reply
from localemp.metrics.scoring import score_all
from localemp.metrics.stopwords import STOPWORDS
from localemp.metrics.tokens import words


def replies(*texts, name="system", turns=("My dog is ill.",), reference="Oh no."):
    items = (Reply(str(number), text, reference, None, None, turns) for number, text in enumerate(texts))
    return Replies(name, tuple(items))


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["I am sorry."], 3),
        (["I don't know!", "Oh."], (4 + 1) / 2),
        (["", "...", "?!"], 0),
        (["हिन्दी में", "naïve café", "100"], 5 / 3),
        (["😊 👍🏽", "so 😊 happy"], 1),
    ],
)
def test_length_counts_words_and_not_punctuation(texts, expected):
    assert Length().score(replies(*texts)).value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["What happened?", "Oh."], 50),
        (["what happened ? i see .", "really??", ""], 200 / 3),
        (["What happened", "どうして？", "لماذا؟"], 200 / 3),
    ],
)
def test_a_reply_with_a_question_mark_asks(texts, expected):
    assert QuestionRate().score(replies(*texts)).value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("texts", "repetition", "loops"),
    [
        (["I am so sorry to hear that."], 0, 0),
        (["", "no", "no no no"], 0, 0),  # no 4-gram
        (["no no no no no"], 50, 0),  # two 4-grams; a phrase has two words
        (["a b a b a b"], 100 / 3, 100),  # abab baba abab
        (["a b a b a"], 0, 0),  # abab baba: what a loop is, is said three times
        (["a b c d a b c d"], 20, 0),  # abcd bcda cdab dabc abcd: only twice
        (["x a b c a b c a b c a b"], 100 * 5 / 9, 100),  # the last one is cut off; xabc abca bcab cabc and five again
        (["a b c a b c a b c x y z"], 100 * 3 / 9, 0),  # it got out of it
        (["ha ha ha ha ha ha", "b c"], 100 * 2 / 3 / 2, 50),  # three times "ha ha"
    ],
)
def test_repetition_inside_a_reply(texts, repetition, loops):
    assert Repetition().score(replies(*texts)).value == pytest.approx(repetition)
    assert Loops().score(replies(*texts)).value == pytest.approx(loops)


def test_repetition_is_not_between_replies():
    assert Repetition().score(replies(*["I am so sorry."] * 50)).value == 0


def test_loops_are_those_that_a_search_of_all_phrases_finds():
    draw = np.random.default_rng(5)
    found = 0
    for _ in range(3000):
        text = [int(word) for word in draw.integers(0, 2, draw.integers(0, 16))]
        phrases = (text[len(text) - size :] for size in range(2, len(text) // 3 + 1))
        expected = any(text[len(text) - 3 * len(phrase) :] == phrase * 3 for phrase in phrases)
        assert ends_in_loop(text) == expected, text
        found += expected
    assert 100 < found < 2900


@pytest.mark.parametrize(
    ("text", "turns", "expected"),
    [
        ("I am sorry about your dog.", ["My Dog is ill."], 1 / 2),  # sorry, dog
        ("Your DOG, your poor dog!", ["My dog is ill.", "Poor thing!"], 1),
        ("That is it.", ["That is it."], 0),  # no content
        ("", ["My dog is ill."], 0),
        ("dogs", ["dog"], 0),  # as written
        ("i do n't know", ["i do n't know"], 1),
        ("Ça va bien?", ["ça ne va pas"], 2 / 3),
    ],
)
def test_context_is_the_share_of_content_words_that_were_said(text, turns, expected):
    system = Replies("system", (Reply("1", text, "x", None, None, tuple(turns)),))
    assert ContextOverlap().score(system).value == pytest.approx(100 * expected)
    people = Replies("system", (Reply("1", "x", text or " ?", None, None, tuple(turns)),))
    assert ContextOverlap("reference").score(people).value == pytest.approx(100 * expected)


def test_context_of_all_is_the_mean_of_the_replies():
    system = replies("Poor dog.", "Ill?", "Oh.", "What happened?", turns=("My dog is ill.",))
    assert ContextOverlap().score(system).value == pytest.approx(100 * (1 / 2 + 1 + 0 + 0) / 4)


@pytest.mark.parametrize(
    ("of", "turns", "reference", "reason"),
    [
        ("reply", (), None, "no contexts"),
        ("reply", ("", " "), "x", "no contexts"),
        ("reply", ("Hi.",), None, ""),
        ("reference", ("Hi.",), None, "no reference replies"),
        ("reference", (), None, "no contexts"),
    ],
)
def test_without_a_context_the_reason_is_told(of, turns, reference, reason):
    score = ContextOverlap(of).score(replies("Oh dear.", turns=turns, reference=reference))
    assert (score.reason, score.value is None) == (reason, bool(reason))


def test_some_without_a_context_are_counted():
    some = Replies("s", (*replies("a", "b").items, Reply("x", "c", "d")))
    assert ContextOverlap().score(some).reason == "1 of 3 dialogues have no context"
    without = Replies("s", (*replies("a").items, Reply("x", "c", None, None, None, ("Hi.",))))
    assert ContextOverlap("reference").score(without).reason == "1 of 2 dialogues have no reference reply"


def test_what_people_have_is_noted_beside_the_column():
    scored = score_all(replies("Poor dog.", reference="My dog was ill, too, last week."))
    assert scored.score("Context ref").value == pytest.approx(100 * 2 / 4)  # dog ill last week
    assert "people's replies to these dialogues have a Context of 50.00" in scored.notes
    assert not any("Context" in note for note in score_all(replies("Oh.", reference=None)).notes)


def test_people_repeat_little_of_the_context(shared_data):
    dialogues = load_dialogues(str(shared_data / "empathetic_dialogues"), "test", "published")
    items = tuple(Reply(each.id, each.reference, each.reference, None, None, each.turns) for each in dialogues)
    people = Replies("people", items)
    assert ContextOverlap().score(people).value == pytest.approx(14.52, abs=0.005)
    without = ContextOverlap().statistics([people]).each(np.arange(len(people))) == 0
    assert without.mean() == pytest.approx(0.592, abs=0.0005)
    assert QuestionRate().score(people).value == pytest.approx(34.69, abs=0.005)
    assert Loops().score(people).value == 0


def test_stopwords_are_words_in_lower_case():
    assert all(word == word.lower() for word in STOPWORDS)
    contracted = {piece.lower() for text in ("I'm you've it's don't can't won't she'd we'll",) for piece in words(text)}
    assert contracted <= STOPWORDS


def test_values_of_samples_are_means_of_rows():
    systems = [replies("What? dog", "a b a b a b"), replies("Oh.", "I see you.", name="other")]
    for metric, each in (
        (Length(), [2, 6, 1, 3]),
        (QuestionRate(), [100, 0, 0, 0]),
        (Repetition(), [0, 100 / 3, 0, 0]),
        (Loops(), [0, 100, 0, 0]),
        (ContextOverlap(), [100, 0, 0, 0]),
    ):
        statistics = metric.statistics(systems)
        assert statistics.each(np.arange(4)) == pytest.approx(each)
        assert statistics.value(np.array([0, 1, 1, 3])) == pytest.approx(np.mean([each[row] for row in (0, 1, 1, 3)]))


HOSTILE = ("x " * 100_000, "\u202e\u0000", "?" * 100_000, "a" * 100_000, "ab " * 50_000, "\ud83d", "🙂" * 1000)


@pytest.mark.parametrize("text", HOSTILE, ids=["words", "controls", "marks", "letters", "loop", "surrogate", "emoji"])
def test_long_and_odd_texts_take_linear_time(text):
    said = Reply("odd", text, text, None, None, (text,))
    odd = Replies("odd", (said, *replies("", "one", *["I am so sorry."] * 5000).items))
    start = time.perf_counter()
    for metric in metrics(with_models=False):
        if metric.group in ("diversity", "form"):
            score = metric.score(odd)
            assert metric.bounds[0] <= score.value <= metric.bounds[1] or score.reason, metric.name
    assert time.perf_counter() - start < patience(20)

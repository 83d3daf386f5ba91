import numpy as np
import pytest

from localemp.dialogue import EMOTIONS
from localemp.metrics.emotion import EMOTION_METRICS, NO_LABEL, VARIANTS, confusion, first_label
from localemp.metrics.replies import Replies, Reply


def replies(*pairs):
    items = tuple(Reply(str(n), "Oh.", emotion=true, feeling=said) for n, (true, said) in enumerate(pairs))
    return Replies("system", items)


def scores(*pairs):
    return {name: make().score(replies(*pairs)).value for name, make in EMOTION_METRICS.items()}


@pytest.mark.parametrize(
    ("text", "label", "variant"),
    [
        (None, None, None),
        ("", None, None),
        ("The speaker feels Sad.", "sad", "sad"),
        ("**ANXIOUS**", "anxious", "anxious"),
        ("_sad_", "sad", "sad"),
        ("sad/lonely", "sad", "sad"),
        ("lonely, then sad", "lonely", "lonely"),
        ("sadness", None, "sad"),
        ("unprepared", None, None),
        ("Anger, or rather furious", "furious", "angry"),
        ("proud2be", None, None),
        ("happy", None, None),
    ],
)
def test_the_first_label_at_word_boundaries_in_any_case(text, label, variant):
    assert (first_label(text), first_label(text, variants=True)) == (label, variant)


def test_variants_are_words_of_one_emotion_each():
    words = [word for each in VARIANTS.values() for word in each.split()]
    assert set(VARIANTS) == set(EMOTIONS)
    assert len(set(words)) == len(words)
    assert not set(words) & set(EMOTIONS)


def test_by_hand():
    found = scores(("sad", "Sad."), ("sad", "I hear sadness"), ("angry", "proud"), ("proud", "proud"))
    # F1: sad 2*1/(2+1), angry 0, proud 2*1/(1+2).
    assert found == pytest.approx(
        {"Acc": 50, "Acc variants": 75, "Macro-F1": 100 * (2 / 3 + 0 + 2 / 3) / 3, "No label": 25}
    )


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ([], "no replies"),
        ([("sad", None)], "nothing names the emotion (a stage called feeling does, and some files)"),
        ([(None, "sad")], "the data does not say the emotion"),
        ([("sad", "sad"), (None, "sad")], "of 1 of 2 dialogues the emotion is not known"),
        (
            [("sad", "sad"), ("zzz", "sad")],
            "of 1 of 2 dialogues the emotion is unknown, or none of those that are scored",
        ),
        ([("fear", "sad"), ("anxiety", "sad")], "the data's emotions are not of the 32 that are scored: anxiety, fear"),
    ],
)
def test_why_there_is_none(pairs, reason):
    for make in EMOTION_METRICS.values():
        score = make().score(replies(*pairs))
        assert (score.value, score.reason) == (None, reason)


def test_a_missing_stage_is_wrong():
    assert scores(("sad", "sad"), ("sad", None))["Acc"] == 50


def test_nothing_named_at_all():
    assert scores(("sad", "hm"), ("proud", "")) == {"Acc": 0, "Acc variants": 0, "Macro-F1": 0, "No label": 100}


def test_rows_and_single_values():
    statistics = EMOTION_METRICS["Acc"]().statistics([replies(("sad", "sad"), ("sad", "proud"))])
    assert statistics.value(np.array([0, 0, 1])) == pytest.approx(200 / 3)
    np.testing.assert_array_equal(statistics.each(np.arange(2)), [100, 0])
    assert np.isnan(statistics.value(np.array([], np.intp)))
    assert EMOTION_METRICS["Macro-F1"]().statistics([replies(("sad", "sad"))]).each(np.arange(1)) is None


def test_confusion_has_a_row_for_every_true_emotion():
    found = confusion(replies(("sad", "sad"), ("sad", "proud"), ("sad", "hm"), (None, "sad")))
    assert found.columns == (*EMOTIONS, NO_LABEL)
    row = dict(zip(found.columns, found.counts[found.labels.index("sad")], strict=True))
    assert {name: count for name, count in row.items() if count} == {"sad": 1, "proud": 1, "none": 1}
    assert found.counts.sum() == 3

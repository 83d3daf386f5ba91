"""Which dialogues are taken: the first, or a sample that is fair to conversations."""

from collections import Counter

import pytest

from localemp.data.subset import Subset
from localemp.dialogue import Dialogue
from localemp.errors import OptionError

# Conversations of one to four dialogues each, and three dialogues of none.
DATA = [
    *(Dialogue(f"c{c}:{n}", ("Hi.",), conversations=(f"c{c}",)) for c in range(40) for n in range(c % 4 + 1)),
    *(Dialogue(f"alone{n}", ("Hi.",)) for n in range(3)),
]


def names(subset, data=DATA):
    return [dialogue.id for dialogue in subset.of(data)]


def of_conversations(subset):
    return Counter(dialogue.conversations or dialogue.id for dialogue in subset.of(DATA))


def test_all_and_the_first_are_taken_in_order():
    assert names(Subset()) == [dialogue.id for dialogue in DATA]
    assert names(Subset(limit=3)) == ["c0:0", "c1:0", "c1:1"]
    assert Subset(limit=3).settings() == Subset().settings() == {}


def test_a_sample_keeps_the_order_of_the_data_and_is_repeated_by_its_seed():
    sample = Subset(sample=20, seed=1)
    positions = list(sample.positions(DATA))
    assert positions == sorted(set(positions))
    assert len(positions) == 20
    assert names(sample) == names(Subset(sample=20, seed=1)) != names(Subset(sample=20, seed=2))
    assert sample.settings() == {"sample_seed": 1}


def test_no_conversation_gives_a_second_dialogue_before_all_have_given_one():
    assert set(of_conversations(Subset(sample=43)).values()) == {1}
    assert len(of_conversations(Subset(sample=43))) == 43
    assert set(of_conversations(Subset(sample=60)).values()) == {1, 2}
    assert len(names(Subset(sample=10_000))) == len(DATA), "all, if there are fewer"


def test_a_sample_is_part_of_every_larger_one_and_needs_nothing_but_the_ids():
    small, large = (set(names(Subset(sample=number, seed=7))) for number in (10, 30))
    assert small < large
    assert set(names(Subset(sample=10, seed=7), DATA[::-1])) == small
    assert names(Subset(sample=3, seed=0)) == ["c0:0", "c2:2", "c28:0"], "the same on every machine, for good"


def test_every_dialogue_is_as_likely_as_the_others_of_its_conversation():
    drawn = Counter(name for seed in range(400) for name in names(Subset(sample=20, seed=seed), DATA[:20]))
    assert set(drawn.values()) == {400}
    first = Counter(name for seed in range(400) for name in names(Subset(sample=1, seed=seed), DATA[6:10]))
    assert sorted(first) == [f"c3:{n}" for n in range(4)]
    assert min(first.values()) > 60


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"limit": 2, "sample": 2}, "--limit 2 and --sample 2 exclude each other"),
        ({"sample": 0}, "--sample 0: too small"),
        ({"limit": -1}, "--limit -1: too small"),
    ],
)
def test_what_is_wrong_is_said(told, said):
    with pytest.raises(OptionError, match=said):
        Subset(**told)


def test_a_note_says_how_many_of_how_many():
    assert Subset(limit=3).note(DATA) == ""
    assert Subset(sample=60, seed=5).note(DATA) == (
        "a sample of 60 of 103 dialogues, of 43 of 43 conversations, drawn with seed 5"
    )

"""What of COMET's beams goes into a prompt. The encoder here counts chosen words, so that cosines are known."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from localemp.commonsense.feelings import Feelings, load_feelings
from localemp.commonsense.inferences import Beam
from localemp.commonsense.selection import Dropped, Select, Selection, Selector, key_of, select_all
from localemp.prompting.template import load_template
from localemp.strategies.knowledge import selection_of
from localemp.utils.paths import resource

WORDS = ("dog", "died", "car", "sad", "vet")
NUMBERS = {
    "encoder": "words",
    "stopwords": ("none", "n/a"),
    "duplicate_threshold": 0.9,
    "beam_weight": 0.2,
    "context_weight": 0.8,
}


class Words:
    """A vector of length one with a place for each of a few words."""

    dim = len(WORDS) + 1
    key: Mapping[str, str] = {}
    versions: Mapping[str, str] = {}

    def __init__(self) -> None:
        self.calls = 0

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls += 1
        assert len(set(texts)) == len(texts), "a text is embedded twice"
        rows = [[float(text.lower().split().count(word)) for word in WORDS] for text in texts]
        counted = np.array([[*row, 0.0 if any(row) else 1.0] for row in rows], dtype=np.float32)
        return counted / np.linalg.norm(counted, axis=1, keepdims=True)


def selector(min_score: float = 0.3, max_per_relation: int = 3) -> Selector:
    return Selector(
        Select(keep="relevant", min_score={"other": min_score}, max_per_relation=max_per_relation, **NUMBERS), Words()
    )  # type: ignore[arg-type]


def beams(*texts: str, score: float | None = None) -> dict[str, tuple[Beam, ...]]:
    return {"xWant": tuple(Beam(text, score) for text in texts)}


def reasons(selection: Selection) -> dict[str, str]:
    return {one.text: one.reason for each in selection.dropped.values() for one in each}


def test_all_keeps_all():
    found = [{"xReact": (Beam("none", -1.0), Beam("sad")), "xWant": ()}]
    assert select_all(["My dog died"], found) == [Selection({"xReact": ("none", "sad"), "xWant": ()}, {})]


def test_what_says_nothing_and_what_does_not_fit_is_dropped():
    (chosen,) = selector()(["My dog died"], [beams("None.", "to fix the car", "to bury the dog", "N/A", "?!")])
    assert chosen.kept == {"xWant": ("to bury the dog",)}
    assert reasons(chosen) == {
        "None.": "says nothing",
        "N/A": "says nothing",
        "?!": "says nothing",
        "to fix the car": "below the cut-off",
    }


def test_a_relation_with_nothing_left_is_left_out():
    found = {**beams("none"), "xReact": (Beam("sad dog", -0.1),)}
    (chosen,) = selector()(["My dog died"], [found])
    assert list(chosen.kept) == ["xReact"]
    assert list(chosen.dropped) == ["xWant"]


def test_near_duplicates_are_merged_by_words_and_by_meaning():
    (chosen,) = selector(max_per_relation=5)(
        ["My dog died"],
        [beams("to walk the dog", "walks dogs", "see the vet , dog", "to see a vet about a dog", "dog died")],
    )
    assert chosen.kept == {"xWant": ("dog died", "to walk the dog", "see the vet , dog")}
    assert reasons(chosen) == {"walks dogs": "below the cut-off", "to see a vet about a dog": "like: see the vet , dog"}
    (merged,) = selector(min_score=-1)(["My dog died"], [beams("to walk the dog", "walks dogs")])
    assert reasons(merged) == {"walks dogs": "like: to walk the dog"}


def test_rank_is_a_weighted_sum_of_beam_and_context():
    found = {"xWant": (Beam("car dog", -0.1), Beam("dog died", -3.0), Beam("dog vet", -0.1))}
    (chosen,) = selector(max_per_relation=2)(["dog died"], [found])
    assert chosen.kept == {"xWant": ("dog died", "car dog")}
    assert chosen.dropped == {"xWant": (Dropped("dog vet", "too many", round(0.2 * np.exp(-0.1) + 0.8 * 0.5, 4)),)}


def test_without_scores_the_rank_stands_in_for_them():
    (chosen,) = selector()(["dog"], [beams("dog car", "dog vet")])
    assert chosen.kept == {"xWant": ("dog car", "dog vet")}
    # 1/2 for the first, 1/3 for the second, and a cosine of 0.7071.
    (chosen,) = selector(min_score=0.2 / 2 + 0.8 * 0.707)(["dog"], [beams("dog car", "dog vet")])
    assert chosen.kept == {"xWant": ("dog car",)}


def test_company_makes_no_difference_and_everything_is_embedded_at_once():
    contexts = ["my dog died", "the car", "a vet"]
    found = [beams("to walk the dog", "to drive the car", "none"), beams("to drive the car"), beams("car vet", "vet")]
    together = selector()
    assert together(contexts, found) == [
        selector()([context], [one])[0] for context, one in zip(contexts, found, strict=True)
    ]
    assert together.encoder.calls == 1  # type: ignore[attr-defined]


def test_a_relation_may_have_a_min_score_of_its_own():
    settings = Select(keep="relevant", min_score={"xWant": 0.9, "other": 0.3}, max_per_relation=3, **NUMBERS)  # type: ignore[arg-type]
    found = {"xWant": (Beam("dog car"),), "xReact": (Beam("dog car"),)}
    assert list(Selector(settings, Words())(["dog"], [found])[0].kept) == ["xReact"]


def test_nothing_inferred_gives_nothing():
    assert selector()(["dog"], [{"xReact": ()}]) == [Selection({}, {})]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("to be sad", "Sad."),
        ("feel better", "to get better"),
        ("to go to the store", "goes to stores"),
        ("gets yelled at", "get yelled at ."),
    ],
)
def test_texts_that_say_the_same(one: str, other: str):
    assert key_of(one) == key_of(other)


def test_texts_that_do_not_say_the_same():
    assert key_of("to be happy") != key_of("unhappy")
    assert key_of("to be") == "to be", "small words alone are still words"


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_per_relation": 0},
        {"duplicate_threshold": 0},
        {"beam_weight": -1},
        {"keep": "some"},
        {"min_score": {"other": "low"}},
        {"min_score": {"xReact": 0.1}},
        {"min_score": {"other": 0.1, "xMood": 0.1}},
        {"colour": 1},
    ],
)
def test_numbers_out_of_range(wrong: dict[str, object]):
    with pytest.raises(ValidationError):
        Select(**{"keep": "all", "min_score": {"other": 0.2}, "max_per_relation": 3, **NUMBERS, **wrong})  # type: ignore[arg-type]


def test_keys_of_version_0_1_are_still_read():
    old = {"nothing": ["none"], "same": 0.9, "cut_off": {"other": 0.3}, "most": 3}
    new = {"stopwords": ["none"], "duplicate_threshold": 0.9, "min_score": {"other": 0.3}, "max_per_relation": 3}
    rest = {"keep": "relevant", "encoder": "words", "beam_weight": 0.2, "context_weight": 0.8}
    assert Select.model_validate(rest | old) == Select.model_validate(rest | new)
    with pytest.raises(ValidationError, match="most"):
        Select.model_validate(rest | new | {"most": 3})


FEELINGS = Feelings(
    weight=0.1,
    signs={"happy": 1, "calm": 1, "sad": -1},
    # Of the places of `Words`, "died" is unpleasant and "vet" pleasant.
    direction=np.array([0, -2, 0, 0, 2, 0], dtype=np.float32),
    offset=0.0,
    word_weight=0.5,
    clear=0.3,
    sha256="",
)


def feeling_selector(min_score: float = -1) -> Selector:
    settings = Select(keep="relevant", min_score={"other": min_score}, max_per_relation=3, **NUMBERS)  # type: ignore[arg-type]
    return Selector(settings, Words(), FEELINGS)


def test_a_reaction_that_contradicts_is_dropped_and_one_that_agrees_is_first():
    texts = ("happy", "a tall car", "not happy", "car sad")
    (chosen,) = feeling_selector()(["dog died"], [{"xReact": tuple(Beam(text, -1.0) for text in texts)}])
    assert chosen.kept == {"xReact": ("not happy", "car sad", "a tall car")}
    assert reasons(chosen) == {"happy": "contradicts the feeling"}
    pleased = feeling_selector()(["vet"], [{"xReact": (Beam("sad", -1.0), Beam("happy", -1.0))}])
    assert pleased[0].kept == {"xReact": ("happy",)}


def test_feelings_matter_only_for_reactions_and_where_the_context_has_one():
    (chosen,) = feeling_selector()(["dog died"], [{"xWant": (Beam("happy"),)}])
    assert chosen.kept == {"xWant": ("happy",)}
    (chosen,) = feeling_selector()(["a car"], [{"xReact": (Beam("happy"), Beam("sad"))}])
    assert chosen.kept == {"xReact": ("happy", "sad")}


@pytest.mark.parametrize(
    ("context", "clear", "kept"),
    [("sad car", 0.3, ("sad",)), ("sad car", 0.9, ("sad", "happy")), ("not sad car", 0.3, ("happy",))],
)
def test_words_of_the_context_count_and_an_unclear_feeling_only_ranks(
    context: str, clear: float, kept: tuple[str, ...]
):
    """By its words alone the context has a feeling of 0.46."""
    selector = feeling_selector()
    selector.feelings = dataclasses.replace(FEELINGS, clear=clear)
    (chosen,) = selector([context], [{"xReact": (Beam("happy", -1.0), Beam("sad", -1.0))}])
    assert chosen.kept == {"xReact": kept}


@pytest.mark.parametrize(
    ("text", "named"),
    [("to be happy", 1), ("sad, sad", -1), ("not very happy", -1), ("happy and sad", 0), ("gets a dog", 0), ("", 0)],
)
def test_feelings_that_a_text_names(text: str, named: float):
    assert FEELINGS.named(text) == named


def test_the_feelings_that_ship_are_for_the_encoder_that_ships():
    """The direction belongs to one encoder's vectors; with other weights, feelings are ignored."""
    fitted = json.loads(resource("models", "feelings", "all-minilm-l6-v2.json").read_text("utf-8"))
    found = load_feelings("all-minilm-l6-v2", fitted["encoder_sha256"])
    assert found is not None and found.direction.shape == (384,)
    assert not set(fitted["pleasant"]) & set(fitted["unpleasant"])
    assert load_feelings("all-minilm-l6-v2", "0" * 64) is load_feelings("all-mpnet-base-v2", "") is None


@pytest.mark.parametrize(("keep", "feelings"), [("relevant", True), ("on-topic", False), ("all", False)])
def test_a_manifest_says_whether_feelings_counted_and_on_topic_is_what_relevant_was(keep: str, feelings: bool):
    fitted = json.loads(resource("models", "feelings", "all-minilm-l6-v2.json").read_text("utf-8"))
    weights = SimpleNamespace(digest=fitted["encoder_sha256"])
    context = SimpleNamespace(
        template=load_template("paper"),
        option=lambda _: keep,
        encoder=lambda *_: (weights, SimpleNamespace(ends=list)),
    )
    recorded = selection_of(context)[2]  # type: ignore[arg-type]
    assert ("select_feelings_sha256" in recorded) == feelings
    assert recorded["select"] == ("all" if keep == "all" else "relevant")

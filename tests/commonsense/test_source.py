"""Cache and COMET together: nothing is inferred twice, and COMET is loaded only when it is needed."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from tiny_comet import save_tiny

from localemp.commonsense.cache import InferenceCache
from localemp.commonsense.comet import Comet
from localemp.commonsense.inferences import Beam, Beams
from localemp.commonsense.source import InferenceSource, open_source
from localemp.errors import OptionError, UnknownNameError, WeightsError
from localemp.models.atomic import RELATIONS

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("comet"), positions=64)


class Scripted:
    """Says its event back, without what stands before a "|", and remembers what it was asked."""

    events_at_once = 32

    def __init__(self, fails_at: str = "") -> None:
        self.asked: list[tuple[str, str]] = []
        self.fails_at = fails_at

    def infer(self, events: Sequence[str], relations: Sequence[str]) -> list[Beams]:
        if self.fails_at in events:
            raise KeyboardInterrupt
        self.asked += [(event, relation) for event in events for relation in relations]
        return [{relation: (Beam(f"{relation} of {event}", -1.0),) for relation in relations} for event in events]

    def fit(self, event: str) -> tuple[str, int]:
        kept = event.rpartition("|")[2]
        return kept, len(event) - len(kept)


def source(path: Path, answers: Scripted, **settings: object) -> InferenceSource:
    return InferenceSource(lambda: answers, {"comet": "scripted", **settings}, InferenceCache(path))  # type: ignore[arg-type, return-value]


def test_nothing_is_inferred_twice(tmp_path: Path):
    comet = Scripted()
    first = source(tmp_path / "c", comet)
    answers = first.infer(["a", "-|b", "a"], ["xReact", "xWant"])
    assert [answer.beams["xReact"][0].text for answer in answers] == ["xReact of a", "xReact of b", "xReact of a"]
    assert [answer.cut for answer in answers] == [0, 2, 0]
    assert sorted(comet.asked) == [(event, name) for event in ("a", "b") for name in ("xReact", "xWant")]
    assert (first.inferred, first.cached) == (4, 0)
    again = source(tmp_path / "c", comet)
    assert again.infer(["a", "-|b", "a"], ["xReact", "xWant"]) == answers
    assert (again.inferred, again.cached) == (0, 4)
    # One relation more: only that is asked, and the order is the one that was asked for.
    more = again.infer(["-|b"], ["xNeed", "xReact"])
    assert list(more[0].beams) == ["xNeed", "xReact"]
    assert comet.asked[4:] == [("b", "xNeed")]


def test_events_that_differ_only_in_what_is_cut_are_inferred_once(tmp_path: Path):
    comet = Scripted()
    first = source(tmp_path / "c", comet)
    heard: list[int] = []
    answers = first.infer(["long|b", "longer|b", "b", "c"], ["xReact"], lambda progress: heard.append(progress.done))
    assert [answer.cut for answer in answers] == [5, 7, 0, 0]
    assert [answer.beams["xReact"][0].text for answer in answers] == ["xReact of b"] * 3 + ["xReact of c"]
    assert sorted(comet.asked) == [("b", "xReact"), ("c", "xReact")]
    assert heard == [0, 4]
    # Another beginning of an event that is known: COMET says how much of it goes, and is not asked.
    (third,) = source(tmp_path / "c", comet).infer(["quite another|b"], ["xReact"])
    assert (third.cut, third.beams) == (14, answers[0].beams)
    assert len(comet.asked) == 2
    unloaded = InferenceSource(lambda: pytest.fail("loaded"), {"comet": "scripted"}, InferenceCache(tmp_path / "c"))
    assert unloaded.infer(["quite another|b", "long|b"], ["xReact"]) == [third, answers[0]]


def test_the_same_weights_by_another_name_are_one_comet_and_other_beams_are_not(tmp_path: Path):
    comet = Scripted()
    source(tmp_path / "c", comet, beams=5).infer(["a"], ["xReact"])
    source(tmp_path / "c", comet, beams=5, comet="other").infer(["a"], ["xReact"])
    assert len(comet.asked) == 1
    source(tmp_path / "c", comet, beams=4).infer(["a"], ["xReact"])
    assert len(comet.asked) == 2


def test_what_was_answered_before_a_stop_stays(tmp_path: Path):
    events = [f"{number:02} " + "word " * (100 - number) for number in range(100)]
    comet = Scripted(fails_at=events[70])
    with pytest.raises(KeyboardInterrupt):
        source(tmp_path / "c", comet).infer(events, ["xReact"])
    assert len(comet.asked) == 64
    comet.fails_at = ""
    second = source(tmp_path / "c", comet)
    heard: list[int] = []
    second.infer([*events, events[0]], ["xReact"], lambda progress: heard.append(progress.done))
    assert heard == [64, 96, 100]
    assert (second.inferred, second.cached) == (36, 64)
    assert len(comet.asked) == len(set(comet.asked)) == 100


def test_a_real_comet_is_loaded_only_when_something_is_missing(tiny: Path, tmp_path: Path):
    events = ["my dog died", "the cat lost it again"]
    first = open_source(str(tiny), device="cpu", cache=tmp_path / "c")
    answers = first.infer(events)
    plain = Comet(tiny, device="cpu").infer(events)
    assert [answer.beams for answer in answers] == plain
    (tiny / "model.safetensors").rename(tiny / "away")
    (tiny / "model.safetensors").write_bytes((tiny / "away").read_bytes()[:1000])
    try:
        broken = InferenceSource(lambda: Comet(tiny), first.settings, InferenceCache(tmp_path / "c"))
        assert broken.infer(events) == answers
        with pytest.raises(WeightsError, match="cannot load a COMET checkpoint"):
            broken.infer(["sad"])
    finally:
        (tiny / "away").replace(tiny / "model.safetensors")


def test_settings_name_everything_that_decides_an_answer(tiny: Path, tmp_path: Path):
    opened = open_source(str(tiny), beams=3, cache=tmp_path / "c")
    assert opened.settings == {
        "comet": tiny.name,
        "comet_sha256": opened.settings["comet_sha256"],
        "query": "{event} {relation} [GEN]",
        "decoder_prompt": "",
        "beams": 3,
        "keep": 3,
        "max_new_tokens": 24,
        "dtype": "float32",
    }
    assert len(opened.settings["comet_sha256"]) == 64


def test_questions_are_checked_before_anything_is_loaded(tmp_path: Path):
    empty = InferenceSource(lambda: pytest.fail("loaded"), {}, InferenceCache(tmp_path / "c"), RELATIONS)
    with pytest.raises(OptionError, match="event 1 is empty"):
        empty.infer([" "])
    with pytest.raises(UnknownNameError, match="unknown relation 'xMood'"):
        empty.infer(["a"], ["xMood"])
    with pytest.raises(OptionError, match="not trained on the relation 'oWant'"):
        empty.infer(["a"], ["oWant"])

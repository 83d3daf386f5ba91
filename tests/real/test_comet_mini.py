"""The COMET that ships with localemp: what it is asked, what it says, and what its card promises."""

from pathlib import Path

import pytest

from localemp.commonsense.comet import Comet
from localemp.models.atomic import RELATIONS
from localemp.models.profiles import load_profile
from localemp.models.weights import resolve

PROFILE = load_profile("comet-mini", "commonsense")


@pytest.fixture(scope="module")
def folder() -> Path:
    return resolve(PROFILE).folder


@pytest.fixture(scope="module")
def comet(folder: Path) -> Comet:
    return Comet(folder, query=PROFILE.query or "", decoder_prompt=PROFILE.decoder_prompt, relations=PROFILE.relations)


def test_it_is_small_enough_to_ship(folder: Path) -> None:
    assert sum(path.stat().st_size for path in folder.glob("*.safetensors")) < 50e6


@pytest.mark.parametrize(
    ("event", "feelings"),
    [
        ("My dog died yesterday.", {"sad"}),
        ("PersonX loses PersonX's dog", {"sad"}),
        ("I got promoted today!", {"happy", "proud", "excited"}),
        ("I heard a strange noise in the cellar last night.", {"scared", "afraid", "frightened"}),
    ],
)
def test_it_feels_with_both_forms_of_an_event(comet: Comet, event: str, feelings: set[str]) -> None:
    (found,) = comet.infer([event], ["xReact"])
    assert feelings & {beam.text for beam in found["xReact"]}


def test_it_answers_all_relations_that_its_profile_names(comet: Comet) -> None:
    assert PROFILE.relations is not None
    (found,) = comet.infer(["PersonX wins the lottery"], PROFILE.relations)
    assert set(RELATIONS) <= set(found)
    for relation, beams in found.items():
        assert len({beam.text for beam in beams}) == len(beams) >= 3, relation
        assert not any("[" in beam.text or beam.text == "none" for beam in beams)

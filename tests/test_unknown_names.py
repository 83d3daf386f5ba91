"""What is said of a name that does not exist: the name that was probably meant, and not three hundred others."""

import pytest

from localemp.errors import UnknownNameError, nearest, suggestion

MANY = [f"setting_{number:03}" for number in range(200)] + ["tensor_parallel_size", "Pipeline_Size"]


@pytest.mark.parametrize(
    ("name", "known", "told"),
    [
        ("tset", ["train", "valid", "test"], "did you mean 'test'? known: train, valid, test"),
        ("SAMPLES", ["samples", "bundled"], "did you mean 'samples'? known: samples, bundled"),
        ("xyz", ["train", "test"], "known: train, test"),
        ("x", [], "none exists yet"),
        ("tensor_paralel_size", MANY, "did you mean 'tensor_parallel_size'? `list them` lists all 202"),
    ],
)
def test_a_hint_has_the_name_that_was_meant(name, known, told):
    assert suggestion(name, known, "`list them`") == told


def test_a_long_list_is_not_printed_whole():
    for name in ("zzz", "setting_1", ""):
        told = suggestion(name, MANY, "`list them`")
        assert told.endswith("`list them` lists all 202")
        assert len(told) < 200
    assert suggestion("zzz", MANY).endswith("202 are known")


def test_other_near_names_are_told_too():
    told = suggestion("setting_0071", MANY, "x")
    assert told.startswith("did you mean 'setting_071'? close to it: setting_0")


def test_nearest():
    assert nearest("pipeline_size", MANY) == "Pipeline_Size"
    assert nearest("anything else", MANY) is None
    assert nearest("x" * 10**6, MANY) is None


def test_the_error_has_all_names_even_if_its_hint_has_not():
    error = UnknownNameError("engine argument", "tp", MANY, "More", "it is short", "the manual")
    assert error.message == "unknown engine argument 'tp': it is short"
    assert error.hint.endswith("the manual lists all 202. More")
    assert error.known == tuple(MANY)

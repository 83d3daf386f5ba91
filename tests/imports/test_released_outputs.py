"""The real outputs of MoEL, EmpDG and CEM, matched to the 5,255 published rows."""

import pytest

from localemp.data.sources import load_dialogues
from localemp.imports.alignment import letters
from localemp.imports.reading import read_import


@pytest.fixture(scope="module")
def outputs(shared_data):
    return shared_data / "baseline_outputs"


@pytest.fixture(scope="module")
def data(shared_data):
    return str(shared_data / "empathetic_dialogues")


@pytest.mark.parametrize("hypothesis", ["trs", "trs+multitask", "MOE", "MOE+oracle"])
def test_moel_answers_every_row(outputs, data, hypothesis):
    imported = read_import("moel", outputs / "MoEL" / "generation_result.txt.gz", data, hypothesis)
    dialogues = load_dialogues(data, "test", "published")
    assert imported.replies.ids == tuple(dialogue.id for dialogue in dialogues)
    assert len(imported.replies) == 5255
    assert imported.unmapped == ()
    assert all(imported.replies.texts)


def test_six_of_the_rows_go_on_from_another_dialogue(data):
    """What is left without them are the 5,249 rows that align with the conversations."""
    groups = [row for row in load_dialogues(data, "test", "published") if len(row.conversations) > 1]
    own = {(row.turns, row.reference) for row in load_dialogues(data, "test", "clean")}
    assert len(groups) == 12
    assert sum((row.turns, row.reference) not in own for row in groups) == 6


def test_empdg_is_on_2713_rows_and_agrees_with_the_released_map(outputs, data):
    imported = read_import("empdg", outputs / "EmpDG" / "EmpDG.txt.gz", data)
    assert (len(imported.replies), imported.unmapped) == (2713, ())
    dialogues = load_dialogues(data, "test", "published")
    place = {dialogue.id: row for row, dialogue in enumerate(dialogues)}
    ours = [place[identity] for identity in imported.replies.ids]
    theirs = (outputs / "EmpDG" / "test_index_map.txt").read_text().split("\n")[:2713]
    named = [(our, int(their)) for our, their in zip(ours, theirs, strict=True) if their.strip()]
    different = [(our, their) for our, their in named if our != their]
    assert (len(named), len(different)) == (2191, 8)
    # The map went by the context alone and took the first of several rows that begin alike.
    assert all(letters(dialogues[our].turns[0]) == letters(dialogues[their].turns[0]) for our, their in different)
    assert all(dialogues[our].reference != dialogues[their].reference for our, their in different)


@pytest.mark.parametrize("hypothesis", ["transformer", "emoprepend", "moel", "empDG_woD", "empDG", None])
def test_the_lists_of_empdg_are_aligned_by_references_as_the_file_is_by_contexts(outputs, data, hypothesis):
    exact = read_import("empdg", outputs / "EmpDG" / "EmpDG.txt.gz", data).replies
    imported = read_import("empdg-json", outputs / "EmpDG" / "models_result.json.gz", data, hypothesis)
    assert imported.replies.ids == exact.ids
    if hypothesis in ("empDG", None):
        same = sum(ours == theirs for ours, theirs in zip(imported.replies.texts, exact.texts, strict=True))
        assert same == 2643
        assert all(theirs.endswith(ours) for ours, theirs in zip(imported.replies.texts, exact.texts, strict=True))


@pytest.mark.parametrize("hypothesis", ["Beam", "Greedy"])
def test_cem_answers_every_row_and_predicts_37_percent_of_the_emotions(outputs, data, hypothesis):
    replies = read_import("cem", outputs / "CEM_ComFact" / "CEM_link.txt.gz", data, hypothesis).replies
    assert len(replies) == 5255
    table = (outputs / "CEM_ComFact" / "emotion_pred_top3.tsv").read_text().splitlines()[1:]
    assert [item.feeling.split(", ") for item in replies.items] == [line.split("\t")[1:] for line in table]
    right = sum(item.feeling.split(",")[0] == item.emotion for item in replies.items)
    assert round(100 * right / len(replies), 2) == 37.16

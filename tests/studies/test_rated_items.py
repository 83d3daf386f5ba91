"""Replies that people rated elsewhere: the forms of files, and the study that is made of them."""

import gzip
import json
import re

import pytest

from localemp.errors import DataError, LocalempError, OptionError, RunError, UnknownNameError
from localemp.studies.calibration_study import MEAN, calibration_study
from localemp.studies.collected_votes import read_votes
from localemp.studies.rated_items import read_rated_items

DIALOGUE = "Speaker: I lost my job.\nListener: Oh no.\nSpeaker: It was the third\ntime.\nListener (Response): {}"


def empo(folder, systems=("mine", "theirs"), dialogues=3, ratings=None):
    """A folder in EmPO's form: every reply has two raters of its own, and system 0 is rated 10 higher."""
    folder.mkdir(exist_ok=True)
    items, rows = [], ["item_id\ted_index\tmodel\tannotator\tappropriate\temotion\tconsistent"]
    for dialogue in range(dialogues):
        for place, system in enumerate(systems):
            number, text = len(items), f"Reply {place} to {dialogue}."
            items.append({"item_id": number, "ed_index": 100 + dialogue, "model": system, "response": text,
                          "dialogue": DIALOGUE.format(text), "target": "Ah."})  # fmt: skip
            rows += [f"{number}\t{100 + dialogue}\t{system}\t{2 * place + who}\t{50 - 10 * place + who}\t70\t1"
                     for who in (1, 2)]  # fmt: skip
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    (folder / "ratings_long.tsv").write_text("\n".join(ratings or rows) + "\n")
    return folder


def own(folder, ratings, systems=("mine", "theirs")):
    """A folder in localemp's own form."""
    folder.mkdir(exist_ok=True)
    replies = [{name: f"{name} {number}" for name in systems} for number in range(2)]
    items = [{"id": f"d{number}", "turns": ["I lost."], "replies": said} for number, said in enumerate(replies)]
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    (folder / "ratings.csv").write_text(ratings)
    return folder / "ratings.csv", folder / "items.jsonl"


def unblinded(study):
    """The imported answers by dialogue, with systems for replies."""
    key = study.key
    return {
        (vote.rater, key.dialogues[vote.item], vote.aspect, key.systems.get(vote.reply, "")): key.systems.get(
            vote.value, vote.value
        )
        for vote in read_votes(study)
    }


def test_a_folder_of_empo_has_turns_systems_and_ratings(tmp_path):
    rated = read_rated_items(empo(tmp_path / "empo"))
    assert [system.name for system in rated.systems] == ["mine", "theirs"]
    first = rated.systems[0].items[0]
    assert first.turns == ("I lost my job.", "Oh no.", "It was the third\ntime.")
    assert (first.id, first.text, first.reference) == ("100", "Reply 0 to 0.", "Ah.")
    assert [aspect.name for aspect in rated.asked.aspect] == ["Appropriate", "Emotion"]
    assert (len(rated.ratings), rated.asked.scale, rated.notes) == (24, (0, 100), ())
    alone = read_rated_items(tmp_path / "empo" / "ratings_long.tsv", chosen=["appropriate"])
    assert {rating.aspect for rating in alone.ratings} == {"Appropriate"}
    assert alone.sha256 != rated.sha256


def test_packed_items_are_read_and_another_shown_reply_is_told_of(tmp_path):
    folder = empo(tmp_path / "empo", dialogues=1)
    lines = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    lines[1]["dialogue"] = DIALOGUE.format("Something else.")
    (folder / "items.jsonl").unlink()
    with gzip.open(folder / "items.jsonl.gz", "wt") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))
    (note,) = read_rated_items(folder).notes
    assert note.startswith("theirs: in 1 item ")


def test_mean_ratings_decide_where_nobody_rated_both_replies(tmp_path):
    rated = read_rated_items(empo(tmp_path / "empo"))
    study, notes = calibration_study(tmp_path / "study", rated, "ab")
    answers = unblinded(study)
    assert answers[MEAN, "101", "Appropriate", ""] == "mine"
    assert answers[MEAN, "101", "Emotion", ""] == "tie"
    assert len(answers) == 6
    assert "nobody rated both replies of 6 of 6 pairs" in notes[-1]


def test_a_persons_own_ratings_decide_where_they_rated_both(tmp_path):
    rows = "rater,dialogue,system,Empathy\nann,d0,mine,5\nann,d0,theirs,2\nben,d0,mine,1\nben,d0,theirs,3\n"
    files = own(tmp_path / "own", rows + "ann,d1,mine,4\nann,d1,theirs,4\ncleo,d1,mine,1\n")
    rated = read_rated_items(*files)
    study, notes = calibration_study(tmp_path / "study", rated, "ab")
    assert unblinded(study) == {
        ("ann", "d0", "Empathy", ""): "mine",
        ("ben", "d0", "Empathy", ""): "theirs",
        ("ann", "d1", "Empathy", ""): "tie",
    }
    assert not any("nobody rated both" in note for note in notes)


def test_a_study_of_ratings_has_them_as_they_are(tmp_path):
    rated = read_rated_items(empo(tmp_path / "empo"))
    study, _ = calibration_study(tmp_path / "study", rated, "rating", sample=2, seed=1)
    answers = unblinded(study)
    assert len(study.items) == 2
    assert len(answers) == 16
    drawn = study.key.dialogues[study.items[0].id]
    assert (answers["1", drawn, "Appropriate", "mine"], answers["4", drawn, "Appropriate", "theirs"]) == (51, 42)
    assert study.manifest.scale == (0, 100)


def test_the_same_call_goes_on_and_another_is_rejected(tmp_path):
    rated = read_rated_items(empo(tmp_path / "empo"))
    study, _ = calibration_study(tmp_path / "study", rated, "ab")
    again, _ = calibration_study(tmp_path / "study", rated, "ab")
    assert again.items == study.items
    for change, told in [({"kind": "rating"}, "--kind ab, not rating"), ({"sample": 1}, "--sample 100, not 1"),
                         ({"seed": 2}, "--seed 0, not 2")]:  # fmt: skip
        with pytest.raises(RunError, match=told):
            calibration_study(tmp_path / "study", rated, **({"kind": "ab"} | change))
    fewer = read_rated_items(tmp_path / "empo", chosen=["Emotion"])
    with pytest.raises(RunError, match="other ratings, replies or aspects"):
        calibration_study(tmp_path / "study", fewer, "ab")


HEAD = "item_id\ted_index\tmodel\tannotator\tappropriate"
EMPO_MISTAKES = [
    pytest.param([HEAD, "0\t999\tmine\t1\t5"], "line 2: no item of the dialogue '999'", id="unknown dialogue"),
    pytest.param(
        [HEAD, "0\t100\tmine\t1\t5", "0\t100\tother\t1\t5"],
        "line 3: item 100.*other.*known: mine, theirs",
        id="unknown system",
    ),
    pytest.param([HEAD, "0\t100\tmine\t1\t101"], "line 2: .*0 to 100", id="beyond the scale"),
    pytest.param([HEAD, "0\t100\tmine\t1\t5", "0\t100\tmine\t1\t6"], "line 3: 1 rated 100.* line 2", id="twice"),
    pytest.param([HEAD], "no rating in it", id="no rating"),
]


@pytest.mark.parametrize(("rows", "told"), EMPO_MISTAKES)
def test_a_mistake_in_ratings_is_told_with_its_line(tmp_path, rows, told):
    folder = empo(tmp_path / "empo", ratings=rows)
    with pytest.raises(DataError) as caught:
        read_rated_items(folder)
    assert re.search(told, caught.value.with_hint)


ITEM = {"ed_index": 1, "model": "m", "dialogue": DIALOGUE.format("Oh."), "response": "Oh."}
ITEM_MISTAKES = [
    pytest.param(["{"], "line 1", id="no JSON"),
    pytest.param([json.dumps({"ed_index": 1})], "line 1: model: missing key", id="missing keys"),
    pytest.param([json.dumps(ITEM), json.dumps(ITEM)], "line 2: the reply of 'm' .* line 1 already", id="twice"),
    pytest.param([json.dumps(ITEM | {"dialogue": "Listener: Hi."})], "line 1: .*do not take turns", id="no speaker"),
    pytest.param([json.dumps(ITEM | {"dialogue": "Hi."})], "line 1: .*does not begin", id="no prefix"),
]


@pytest.mark.parametrize(("lines", "told"), ITEM_MISTAKES)
def test_a_mistake_in_items_is_told_with_its_line(tmp_path, lines, told):
    folder = empo(tmp_path / "empo")
    (folder / "items.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=told):
        read_rated_items(folder)


def test_what_is_missing_is_named(tmp_path):
    folder = empo(tmp_path / "empo", systems=("mine",))
    with pytest.raises(OptionError, match=r"one system \(mine\)"):
        calibration_study(tmp_path / "study", read_rated_items(folder), "ab")
    with pytest.raises(UnknownNameError, match="Warmth"):
        read_rated_items(folder, chosen=["Warmth"])
    (folder / "items.jsonl").unlink()
    for path, told in [(folder, "no items.jsonl in it"), (tmp_path, "no ratings_long.tsv in it"),
                       (tmp_path / "none", "No such file")]:  # fmt: skip
        with pytest.raises(LocalempError, match=told):
            read_rated_items(path)
    ratings, _ = own(tmp_path / "own", "rater,dialogue,system,Empathy\nann,d0,mine,5\n")
    with pytest.raises(OptionError, match="which replies were rated is not known"):
        read_rated_items(ratings)

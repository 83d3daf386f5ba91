"""`study calibrate`: judges of known bias beside people, and what cannot be measured."""

import csv
import json
import sys
from pathlib import Path

import pytest
from small_study import small_study
from test_rated_items import empo, own

from localemp import study as studies
from localemp.errors import DataError, JudgeError, OptionError, RunError, UnknownNameError
from localemp.studies.answers import AnswerStore
from localemp.studies.votes import Vote

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))

FIRST = {"choices": {"A": 0.7, "B": 0.3}}  # 70 % for what is shown first, whatever it says
A_LITTLE_LESS = {"match": "to 1.", "choices": {"A": 0.6, "B": 0.4}}
OPEN = {"choices": {"A": 0.5, "B": 0.5}}
PREFERS_MINE = [{"match": "Reply A: Reply 0", "choices": {"A": 0.8, "B": 0.2}}, {"choices": {"A": 0.2, "B": 0.8}}]


def script(folder, *entries, name="script.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def calibrated(tmp_path, *entries, **options):
    """Calibrate a scripted judge on EmPO's form."""
    ratings = options.pop("ratings", None) or empo(tmp_path / "empo", dialogues=options.pop("dialogues", 40))
    told = {"judge": "smollm2", "out": tmp_path / "study", "resamples": 200} | options
    return studies.calibrate(ratings=ratings, script=script(tmp_path, *entries), **told)


def test_a_judge_that_prefers_the_first_reply_is_found_out(tmp_path):
    found = calibrated(tmp_path, A_LITTLE_LESS, FIRST)
    (judge,) = found.results.calibration.judges
    biases = dict(judge.biases)
    assert set(biases) == {"Appropriate", "Emotion", None}
    assert biases["Appropriate"].first.value == pytest.approx((39 * 0.7 + 0.6) / 40)
    assert biases["Appropriate"].position.share.value == pytest.approx((39 * 0.7 + 0.6) / 40)
    low, high = biases["Appropriate"].position.share.interval
    assert 0.68 < low < 0.7 <= high
    agreement = dict(judge.agreements)["Appropriate"]
    assert (agreement.pairs, agreement.accuracy.value) == (40, 0.5)
    rates = {each.system: each.raw.value for each in judge.win_rates}
    assert rates == {"mine": pytest.approx(0.5), "theirs": pytest.approx(0.5)}
    assert {each.system: each.won.value for each in judge.people} == {"mine": 0.75, "theirs": 0.25}


def test_a_judge_that_agrees_with_people_is_seen_to(tmp_path):
    found = calibrated(tmp_path, *PREFERS_MINE)
    (judge,) = found.results.calibration.judges
    assert dict(judge.biases)["Appropriate"].first.value == pytest.approx(0.5)
    assert dict(judge.agreements)["Appropriate"].accuracy.value == 1
    assert {each.system: each.raw.value for each in judge.win_rates}["mine"] == pytest.approx(0.8)


def test_the_tables_say_what_was_found_and_how(tmp_path):
    found = calibrated(tmp_path, FIRST, markdown=tmp_path / "t.md", csv=tmp_path / "t.csv", own=["theirs"])
    assert [table.key for table in found.tables] == [
        "judges", "correlation-scripted", "bias-scripted", "accuracy-scripted", "win-rates-scripted",
    ]  # fmt: skip
    rows = [row for row in csv.DictReader((tmp_path / "t.csv").open()) if row["table"] == "bias-scripted"]
    first = next(row for row in rows if row["row"] == "Appropriate" and row["column"] == "First shown")
    assert float(first["value"]) == pytest.approx(70)
    text = (tmp_path / "t.md").read_text()
    assert "What moves scripted" in text and "Own model: replies of theirs." in text
    assert "nobody rated both replies" in found.notes[-1]


def test_ratings_of_a_lenient_judge(tmp_path):
    entries = [{"match": "The reply: Reply 0", "choices": {"90": 1.0}}, {"choices": {"100": 1.0}}]
    found = calibrated(tmp_path, *entries, kind="rating")
    (judge,) = found.results.calibration.judges
    known = {each.aspect: each for each in judge.leniency}
    # People gave 51.5 to system 0 and 41.5 to system 1, and 70 for emotion.
    assert known["Appropriate"].people.value == pytest.approx(0.465)
    assert known["Appropriate"].difference.value == pytest.approx(0.95 - 0.465)
    assert known["Emotion"].difference.value == pytest.approx(0.25)
    assert known["Emotion"].top.value == 0.5
    assert {"leniency-scripted", "bias-scripted"} < {table.key for table in found.tables}


def test_the_same_call_asks_nothing_twice(tmp_path):
    first = calibrated(tmp_path, FIRST)
    again = calibrated(tmp_path, FIRST)
    assert first.judges["scripted"].tally.done == 160
    assert again.judges["scripted"].tally is None
    assert again.results.as_dict() == first.results.as_dict()
    with pytest.raises(RunError, match="--kind ab, not rating"):
        calibrated(tmp_path, FIRST, kind="rating")


def test_several_judges_are_worth_less_than_their_number(tmp_path):
    study = calibrated(tmp_path, *PREFERS_MINE).study.folder
    (study / "judges" / "scripted").rename(study / "judges" / "other")
    found = studies.calibrate(study, judge="smollm2", script=script(tmp_path, *PREFERS_MINE), resamples=200)
    together = found.results.calibration.effective
    assert together.judges == ("other", "scripted")
    assert together.effective.value == pytest.approx(1)
    assert "How many judges other and scripted are worth" in [table.title for table in found.tables]


def test_a_study_that_people_answered_needs_no_ratings(tmp_path):
    study = small_study(tmp_path / "study", items=12)
    answers = AnswerStore(study.folder / "answers.sqlite", study)
    answers.put_all([Vote(who, item.id, "Empathy", item.replies[0].key) for item in study.items for who in "ab"])
    answers.close()
    told = {"judge": "smollm2", "resamples": 200}
    found = studies.calibrate(study.folder, script=script(tmp_path, *PREFERS_MINE), **told)
    (judge,) = found.results.calibration.judges
    assert {aspect for aspect, _ in judge.biases} == {"Empathy", None}, "the others were not answered by people"
    assert dict(judge.agreements)["Empathy"].pairs == 12
    assert judge.corrected[0].pairs == 36
    with pytest.raises(OptionError, match="--ratings is for a new study"):
        studies.calibrate(study.folder, ratings="r.csv", **told)


def test_biases_are_known_without_people(tmp_path):
    study = small_study(tmp_path / "study", items=12)
    found = studies.calibrate(study.folder, judge="smollm2", script=script(tmp_path, FIRST), resamples=200)
    (judge,) = found.results.calibration.judges
    assert dict(judge.biases)["Empathy"].first.value == pytest.approx(0.7)
    assert not judge.agreements and not judge.people
    assert not any(
        "People" in column for table in found.tables for column in table.columns if column != "People's choice"
    )


def test_own_ratings_in_a_spreadsheet(localemp, tmp_path):
    files = own(tmp_path / "own", "rater,dialogue,system,Empathy\nann,d0,mine,5\nann,d0,theirs,2\nann,d1,mine,4\n")
    words = ("study", "calibrate", "--judge", "smollm2", "--script", script(tmp_path, FIRST))
    done = localemp(*words, "--ratings", files[0], "--items", files[1], "--resamples", "100")
    assert done.returncode == 0, done.stderr
    assert "study: studies/calibration-ratings-ab" in done.stdout and "What moves scripted" in done.stdout
    assert "only 2 of the 100 dialogues" in done.stderr
    known = json.loads(localemp(*words, "studies/calibration-ratings-ab", "--json").stdout)
    assert known["calibration"]["judges"][0]["judge"] == "scripted"


def test_a_judge_that_cannot_be_read_stops_with_its_answers_kept(localemp, tmp_path):
    empo(tmp_path / "empo", dialogues=20)
    words = ("study", "calibrate", "--judge", "smollm2", "--ratings", "empo", "--answers", "written", "--script")
    done = localemp(*words, script(tmp_path, {"reply": "Both have merits, I could not say."}))
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert "answers cannot be read" in done.stderr and "saved to studies/calibration-empo-ab" in done.stderr


def test_ratings_on_another_scale_need_their_questionnaire(tmp_path):
    ratings, items = own(tmp_path / "own", "rater,dialogue,system,Natural\nann,d0,mine,70\nann,d0,theirs,40\n")
    told = {"ratings": ratings, "items": items}
    with pytest.raises(DataError, match="needs columns aspect and value"):
        calibrated(tmp_path, FIRST, **told)
    found = calibrated(tmp_path, FIRST, aspects="empo", **told)
    assert [aspect.name for aspect in found.study.manifest.aspects] == ["Natural"]
    own(tmp_path / "own", "rater,dialogue,system,Empathy\nann,d0,mine,70\n")
    with pytest.raises(DataError, match="line 2: item d0, Empathy: 70 is not a rating") as caught:
        calibrated(tmp_path, FIRST, **told)
    assert "whole numbers from 1 to 5" in caught.value.hint and "--aspects" in caught.value.hint


EDGES = [
    pytest.param({"dialogues": 1}, id="one dialogue"),
    pytest.param({"dialogues": 2, "kind": "rating"}, id="two dialogues, ratings"),
    pytest.param({"dialogues": 1, "kind": "rating", "systems": ("mine",)}, id="one system"),
    pytest.param({"dialogues": 3, "limit": 1}, id="one item judged"),
]


@pytest.mark.parametrize("options", EDGES)
def test_what_cannot_be_measured_has_a_reason(tmp_path, options):
    systems = options.get("systems", ("mine", "theirs"))
    ratings = empo(tmp_path / "empo", systems, dialogues=options["dialogues"])
    rest = {name: value for name, value in options.items() if name not in ("dialogues", "systems")}
    answer = {"choices": {"50": 1.0}} if rest.get("kind") == "rating" else OPEN
    found = calibrated(tmp_path, answer, ratings=ratings, **rest)
    notes = " ".join(note.text for table in found.tables for note in table.notes)
    assert "n/a in" in notes


def test_equal_ratings_have_a_reason(tmp_path):
    rows = "rater,dialogue,system,Empathy\n" + "".join(
        f"{who},d{n},{system},3\n" for who in ("ann", "ben") for n in range(2) for system in ("mine", "theirs")
    )
    for kind in ("ab", "rating"):
        ratings, items = own(tmp_path / "own", rows)
        answer = FIRST if kind == "ab" else {"choices": {"4": 1.0}}
        found = calibrated(tmp_path, answer, ratings=ratings, items=items, kind=kind, out=tmp_path / kind)
        assert "n/a in" in " ".join(note.text for table in found.tables for note in table.notes)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(OptionError, match="name people's ratings"):
        studies.calibrate(judge="smollm2")
    with pytest.raises(OptionError, match="no judge has answered"):
        calibrated(tmp_path, FIRST, judge=())
    with pytest.raises(UnknownNameError, match="none"):
        calibrated(tmp_path, FIRST, own="none")
    with pytest.raises(JudgeError):
        calibrated(tmp_path, {"reply": "Hm."}, answers="written", out=tmp_path / "unread")


def test_files_that_are_no_studys_are_not_written_over(tmp_path):
    ratings = empo(tmp_path / "empo")
    before = (ratings / "items.jsonl").read_bytes()
    with pytest.raises(RunError, match=r"holds a file items\.jsonl that is of no study"):
        calibrated(tmp_path, FIRST, ratings=ratings, out=ratings)
    assert (ratings / "items.jsonl").read_bytes() == before


def test_a_negative_seed_is_refused_before_the_judge_is_asked(tmp_path):
    with pytest.raises(OptionError, match="--seed -1: too small"):
        calibrated(tmp_path, FIRST, seed=-1)
    assert not (tmp_path / "study").exists()


def test_ratings_that_are_empty_or_nowhere_are_named(tmp_path):
    empty = empo(tmp_path / "empo") / "ratings_long.tsv"
    empty.write_text("")
    with pytest.raises(DataError, match="the file is empty"):
        calibrated(tmp_path, FIRST, ratings=empty)
    with pytest.raises(DataError, match="File name too long"):
        calibrated(tmp_path, FIRST, ratings="x" * 5000)

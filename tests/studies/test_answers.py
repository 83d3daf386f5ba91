"""Answers on disk: what counts, what stays, and that nothing is lost, whoever writes and whatever dies."""

import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from patience import patience
from small_study import ASPECTS, small_study

from localemp.errors import OptionError, RunError
from localemp.studies.answers import AnswerStore
from localemp.studies.raters import Rater
from localemp.studies.study import ANSWERS, Study
from localemp.studies.votes import Vote

# Puts an answer to every question in turn, again and again with another value, and says each that is kept.
WRITER = """
import sys
from itertools import cycle
from pathlib import Path
from localemp.studies.answers import AnswerStore
from localemp.studies.study import ANSWERS, Study
from localemp.studies.votes import Vote

folder, rater, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
study = Study.read(folder)
answers = AnswerStore(folder / ANSWERS, study)
for number in range(rounds):
    for item in study.items:
        for aspect in study.manifest.aspects:
            value = item.replies[number % 2].key
            answers.put(Vote(rater, item.id, aspect.name, value))
            print(item.id, aspect.name, value, flush=True)
"""


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return small_study(tmp_path / "study")


def opened(study: Study) -> AnswerStore:
    return AnswerStore(study.folder / ANSWERS, study)


def start_writer(study: Study, rater: str, rounds: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WRITER, str(study.folder), rater, str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_the_newest_answer_counts_and_the_older_ones_stay(study):
    answers = opened(study)
    first, second = Vote("anna", "i0", "Empathy", "k0-0"), Vote("anna", "i0", "Empathy", "tie", first="k0-1")
    answers.put(first, 2.5)
    answers.put(second)
    answers.put(second)  # sent again by a page that did not hear of it
    assert answers.votes() == [second]
    assert [(given.vote, given.seconds) for given in answers.history()] == [(first, 2.5), (second, None)]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", answers.timed_votes()[0].at)


def test_numbers_stay_numbers_and_replies_are_rated_apart(tmp_path):
    answers = opened(small_study(tmp_path / "study", "rating"))
    votes = [Vote("anna", "i1", "Empathy", value, f"k1-{value % 2}", kind="import") for value in (4, 5)]
    answers.put_all(votes)
    assert answers.votes() == votes
    assert answers.progress() == {}  # what was imported has no progress


def test_of_many_votes_with_one_mistake_none_is_kept(study):
    answers = opened(study)
    with pytest.raises(OptionError, match="unknown aspect"):
        answers.put_all([Vote("anna", "i0", "Empathy", "tie"), Vote("anna", "i0", "Warmth", "tie")])
    assert answers.votes() == []


def test_a_person_and_a_file_of_the_same_name_are_two(study):
    answers = opened(study)
    votes = [Vote("anna", "i0", "Empathy", "tie"), Vote("anna", "i0", "Empathy", "k0-0", kind="import")]
    answers.put_all(votes)
    assert answers.votes() == votes
    assert [given.vote for given in answers.timed_votes(Rater("anna", "person"))] == votes[:1]


def test_progress_counts_items_that_are_answered_whole(study):
    answers = opened(study)
    answers.add_rater("ben")
    answers.put_all([Vote("anna", "i0", aspect, "tie") for aspect in ASPECTS])
    answers.put(Vote("anna", "i1", "Empathy", "tie"))
    assert answers.progress() == {"ben": 0, "anna": 1}


def test_tokens_are_random_kept_as_hashes_and_outlive_the_server(study):
    answers = opened(study)
    anna, owner = answers.add_rater(" anna  lee "), answers.add_rater("", "owner")
    again = opened(study)
    assert again.rater_of(anna) == Rater("anna lee", "person")
    assert again.rater_of(owner) == Rater("owner", "owner")
    assert again.rater_of(anna[:-1]) is None
    assert len(anna) >= 22  # 128 bits in base 64
    answers.close()
    again.close()
    assert not any(token.encode() in path.read_bytes() for path in study.folder.iterdir() for token in (anna, owner))


def test_a_new_link_ends_the_old_one(study):
    answers = opened(study)
    old = answers.add_rater("anna")
    with pytest.raises(OptionError, match="the name 'anna' is taken"):
        answers.add_rater("Anna")
    new = answers.make_links([], renew=["anna"])["anna"]
    assert (answers.rater_of(old), answers.rater_of(str(new))) == (None, Rater("anna", "person"))


def test_links_are_made_for_all_or_for_none(study):
    answers = opened(study)
    for names, anew, why in (
        (["anna", "ben"], ["zoe"], "no rater is called 'zoe'"),
        (["anna", "Anna"], [], "'Anna' is too much like 'anna'"),
        (["anna", "=1"], [], "not a valid name"),
    ):
        with pytest.raises(OptionError, match=why):
            answers.make_links(names, anew)
    assert answers.progress() == {}
    made = answers.make_links(["anna", "ben"], ["anna"])
    assert all(made.values()) and list(made) == ["owner", "anna", "ben"]
    again = answers.make_links(["ben"], ["Owner"])
    assert (again["ben"], answers.rater_of(str(made["owner"]))) == (None, None)
    assert answers.rater_of(str(again["owner"])) == Rater("owner", "owner")


@pytest.mark.parametrize("name", ["", "  ", "x" * 61, "=1+1", "a,b", "Owner", "a\u202eb", "a\x00b", "\ud800"])
def test_names_that_cannot_be_kept_are_refused(study, name):
    with pytest.raises(OptionError):
        opened(study).add_rater(name)


def test_a_study_that_was_changed_after_rating_began_is_refused(tmp_path, study):
    answers = opened(study)
    answers.add_rater("anna")
    other = small_study(tmp_path / "other", items=7)
    AnswerStore(answers.path, other).close()  # nothing is answered yet
    answers.put(Vote("anna", "i0", "Empathy", "tie"))
    with pytest.raises(RunError, match="changed after rating began \\(items, key\\)"):
        AnswerStore(answers.path, other)
    with pytest.raises(RunError, match="changed after rating began \\(orders\\)"):
        AnswerStore(answers.path, small_study(tmp_path / "reseeded", seed=1))


def test_only_the_owner_of_the_files_may_read_them(study):
    answers = opened(study)
    answers.put(Vote("anna", "i0", "Empathy", "tie"))
    assert {path.stat().st_mode & 0o777 for path in study.folder.glob("answers.sqlite*")} == {0o600}


def test_a_file_that_is_no_database_is_named_with_what_to_do(study):
    (study.folder / ANSWERS).write_text("no database, but long enough to be looked at as one " * 40)
    with pytest.raises(RunError, match=r"answers.sqlite: answers cannot be kept or read: file is not a database"):
        opened(study)


def test_two_processes_write_at_once_and_nothing_is_lost(study):
    writers = [start_writer(study, rater, 4) for rater in ("anna", "ben", "anna")]
    said = [writer.communicate(timeout=patience(60))[0].splitlines() for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert {len(lines) for lines in said} == {4 * 6 * len(ASPECTS)}
    votes = opened(study).votes()
    assert len(votes) == 2 * 6 * len(ASPECTS)
    ben = {(vote.item, vote.aspect): vote.value for vote in votes if vote.rater == "ben"}
    assert set(ben.values()) == {f"k{number}-1" for number in range(6)}


def test_what_was_kept_outlives_a_kill_in_the_middle(study):
    writer = start_writer(study, "anna", 1000)
    assert writer.stdout is not None
    said = [writer.stdout.readline() for _ in range(50)]
    writer.kill()
    said += writer.stdout.read().splitlines(keepends=True)
    writer.wait()
    whole = [line.split() for line in said if line.endswith("\n")]
    history = [given.vote for given in opened(study).history()]
    assert [[vote.item, vote.aspect, vote.value] for vote in history[: len(whole)]] == whole
    assert len(history) - len(whole) in (0, 1)  # the last may be kept, and not yet said to be
    with sqlite3.connect(study.folder / ANSWERS) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)

"""Studies that disks, editors and other programs have damaged: a RunError that says what, and never a traceback."""

import hashlib
import json
import os
import re
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from simulated import judged
from small_study import ASPECTS, small_study
from utils.mutants import Kind

from localemp.errors import RunError
from localemp.runs.journal import read_manifest
from localemp.sampling import Sampling
from localemp.studies.answers import AnswerStore
from localemp.studies.create import create_study, replies_of_items
from localemp.studies.exporting import all_votes, as_csv, as_jsonl, lines_of
from localemp.studies.importing import keep_ratings, read_ratings
from localemp.studies.judging.judge import Judge, JudgeLog, questions
from localemp.studies.judging.prompts import JudgePrompts
from localemp.studies.judging.verdicts import VOTES, read_stats
from localemp.studies.questionnaire import load_questionnaire
from localemp.studies.report.results import study_results
from localemp.studies.report.tables import study_tables
from localemp.studies.stats.intervals import Bootstrap
from localemp.studies.study import ANSWERS, ITEMS, KEY, STUDY, Study
from localemp.studies.votes import Vote
from localemp.studies.web.progress import overview


def whole_study(folder: Path) -> Path:
    """A study of two items that two people, a file and a judge answered."""
    study = small_study(folder / "s", items=2, aspects=ASPECTS[:1])
    answers = AnswerStore(study.folder / ANSWERS, study)
    answers.make_links(["ann", "ben"])
    answers.put_all(
        [Vote(who, f"i{n}", "Empathy", f"k{n}-0", first=f"k{n}-1") for who in ("ann", "ben") for n in (0, 1)]
    )
    answers.put(Vote("zoe", "i1", "Empathy", "tie", kind="import"))
    answers.close()
    judged(study, "strict", lambda number, aspect: 1 - number)
    return study.folder


def use(folder: Path) -> None:
    """What `study serve`, `export`, `judge` and `report` do."""
    study = Study.read(folder)
    study.shown_to("ann")
    if (folder / ANSWERS).exists():
        answers = AnswerStore(folder / ANSWERS, study)
        try:
            overview(study, answers)
            lines = list(lines_of(all_votes(study, answers), study, unblinded=True))
            (as_csv(lines, unblinded=True) + as_jsonl(lines)).encode()
        finally:
            answers.close()
    judge = Judge(study, JudgePrompts.read(), Sampling())
    for question in questions(study):
        judge.messages(question)
    for each in (folder / "judges").iterdir():
        read_stats(each)
        with JudgeLog.open(each, read_manifest(each)["settings"]) as kept:
            kept.check()
    study_tables(study_results(study, Bootstrap(20)))


def of(name: str) -> Callable[[Path], Path]:
    return lambda folder: whole_study(folder) / name


def rehashed(path: Path) -> None:
    """The same with a study.json that knows the damaged file by its hash; what people answered is of another study."""
    manifest = json.loads((path.parent / STUDY).read_bytes())
    manifest["items_sha256" if path.name == ITEMS else "key_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (path.parent / STUDY).write_text(json.dumps(manifest))
    (path.parent / ANSWERS).unlink(missing_ok=True)
    use(path.parent)


def imported(path: Path) -> None:
    """What `study import` does."""
    study = Study.read(path.parent)
    votes = read_ratings(path, study, {"Empathy": "warm"} if path.suffix == ".tsv" else None)
    answers = AnswerStore(path.parent / ANSWERS, study)
    try:
        keep_ratings(answers, votes)
    finally:
        answers.close()


def exported(folder: Path) -> Path:
    """All answers of people, unblinded, under another name, so that they can be imported."""
    path = whole_study(folder) / "votes.csv"
    study = Study.read(path.parent)
    answers = AnswerStore(path.parent / ANSWERS, study)
    lines = [
        {**line, "rater": f"{line['rater']} on paper"}
        for line in lines_of(answers.timed_votes(), study, unblinded=True)
    ]
    answers.close()
    path.write_text(as_csv(lines, unblinded=True))
    return path


def crowd(folder: Path) -> Path:
    """A file of another form, as Excel writes it."""
    path = small_study(folder / "s", "rating", items=2).folder / "ratings.tsv"
    rows = [
        "rater\tdialogue\tsystem\twarm\tnote",
        'zo\u00eb\td0\tplain\t3,0\t"a\n""b"""',
        "ann\td1\ttwostage\t4\t",
        "\t\t",
    ]
    path.write_bytes("\r\n".join(rows).encode("utf-16"))
    return path


def items_of_others(folder: Path) -> Path:
    path = folder / "items.jsonl"
    lines = [
        {"id": n, "turns": [f"I lost my job {n}."], "replies": {"a": f"Oh no {n}", "b": "I see"}} for n in range(3)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def created(path: Path) -> None:
    """What `study create --items` does."""
    with tempfile.TemporaryDirectory() as folder:
        create_study(Path(folder), replies_of_items(path), "ab", load_questionnaire(), checks=1)


KINDS = {
    "study.json": Kind(of(STUDY), lambda path: use(path.parent)),
    "items.jsonl": Kind(of(ITEMS), lambda path: use(path.parent)),
    "items.jsonl, with its hash": Kind(of(ITEMS), rehashed),
    "key.json": Kind(of(KEY), lambda path: use(path.parent)),
    "key.json, with its hash": Kind(of(KEY), rehashed),
    "answers.sqlite": Kind(of(ANSWERS), lambda path: use(path.parent)),
    "votes.jsonl": Kind(of(f"judges/strict/{VOTES}"), lambda path: use(path.parents[2])),
    "manifest.json": Kind(of("judges/strict/manifest.json"), lambda path: use(path.parents[2])),
    "an export": Kind(exported, imported),
    "ratings": Kind(crowd, imported),
    "items of others": Kind(items_of_others, created),
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_mutant_of_a_study_ends_in_a_traceback(kind, tmp_path):
    KINDS[kind].check(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("UPDATE given SET item = 'i9'", "an answer is damaged: unknown item 'i9'"),
        ("UPDATE given SET value = 3 WHERE id = 1", "an answer is damaged: item i0, Empathy: 3 is not an answer"),
        ("UPDATE given SET value = x'00ff'", "answer 1 is damaged"),
        ("UPDATE given SET value = 1e300", "answer 1 is damaged"),
        ("UPDATE given SET seconds = 9e999", "answer 1 is damaged"),
        ("UPDATE given SET at = x'07' WHERE id = 2", "answer 2 is damaged"),
        ("UPDATE raters SET name = x'ff' WHERE kind = 'owner'", "rater 1 is damaged"),
        ("UPDATE raters SET kind = 'boss' WHERE kind = 'import'", "rater 4 is damaged"),
        ("UPDATE study SET made_of = '[[['", "what it answers is damaged"),
        ("UPDATE study SET made_of = '{}'", "the study was changed after rating began"),
        ("ALTER TABLE given DROP COLUMN seconds", "no such column: seconds"),
        ("PRAGMA user_version = 2", "made by a newer localemp"),
    ],
)
def test_answers_that_nobody_wrote_are_refused(tmp_path, damage, message):
    folder = whole_study(tmp_path)
    connection = sqlite3.connect(folder / ANSWERS)
    connection.executescript(damage)
    connection.close()
    with pytest.raises(RunError, match=re.escape(message)) as caught:
        use(folder)
    assert caught.value.hint


def test_a_file_of_answers_from_before_versions_were_written_is_used(tmp_path):
    folder = whole_study(tmp_path)
    connection = sqlite3.connect(folder / ANSWERS)
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    connection.execute("PRAGMA user_version = 0")
    connection.close()
    use(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "rating"}, "study.json: scale: a rating study has one"),
        ({"scale": [5, 1]}, "study.json: scale: a rating study has one"),
        ({"scale": [1, 10**9]}, "study.json: scale[2]: "),
        ({"aspects": 2 * [{"name": "x", "about": "y"}]}, "study.json: aspects: two have one name"),
        ({"title": "\ud83d"}, "study.json: it has an unpaired surrogate"),
        ({"\x1b[2J" * 1000: 1}, "study.json: \\x1b[2J"),
    ],
)
def test_a_wrong_study_is_told_in_a_line(tmp_path, change, message):
    folder = whole_study(tmp_path)
    (folder / STUDY).write_text(json.dumps(json.loads((folder / STUDY).read_bytes()) | change))
    with pytest.raises(RunError, match=re.escape(message)) as caught:
        Study.read(folder)
    assert len(caught.value.message) < 300 + len(str(folder))
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shown": None}, "line 1: cannot be read: shown: "),
        ({"shown": []}, "line 1: cannot be read: shown: "),
        ({"answer": 4}, "line 1: cannot be read: answer: of one reply a number, of two a choice"),
        ({"answer": "C"}, "line 1: cannot be read: answer"),
        ({"prompt_tokens": "9"}, "line 1: cannot be read: prompt_tokens: "),
        ({"cost": float("nan")}, "line 1: cannot be read: it has NaN"),
        ({"notes": None}, "line 1: cannot be read: notes: "),
    ],
)
def test_a_judges_line_that_cannot_be_counted_is_named(tmp_path, change, message):
    folder = whole_study(tmp_path)
    path = folder / "judges" / "strict" / VOTES
    first, *others = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps(json.loads(first) | change), *others]) + "\n")
    with pytest.raises(RunError, match=re.escape(message)):
        use(folder)


def test_a_study_that_is_open_to_others_is_closed_and_said_to_have_been(localemp, tmp_path):
    folder = whole_study(tmp_path)
    for name in (KEY, ANSWERS):
        (folder / name).chmod(0o644)
    done = localemp("study", "export", "s", "--out", "votes.csv")
    assert done.returncode == 0
    said = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert said == [f"warning: s/{name} could be read by others; now only its owner can" for name in (KEY, ANSWERS)]
    assert {(folder / name).stat().st_mode & 0o777 for name in (KEY, ANSWERS)} == {0o600}
    assert not localemp("study", "report", "s").stderr


def test_the_key_is_the_owners_alone_whatever_lay_there_before(tmp_path):
    old = os.umask(0)
    try:
        (tmp_path / "s").mkdir()
        (tmp_path / "s" / KEY).write_text("left by a study that was not finished")
        (tmp_path / "s" / KEY).chmod(0o666)
        whole_study(tmp_path)
    finally:
        os.umask(old)
    assert (tmp_path / "s" / KEY).stat().st_mode & 0o777 == 0o600
    assert {path.name for path in (tmp_path / "s").iterdir()} >= {STUDY, ITEMS, KEY, ANSWERS}
    assert not list((tmp_path / "s").glob(".*"))


def test_what_others_wrote_is_shown_on_a_terminal_and_not_obeyed(localemp, tmp_path):
    odd = "\x1b[2Jsys\u202e\x9b1m"
    small_study(tmp_path / "s", systems=("plain", odd), items=2)
    study = Study.read(tmp_path / "s")
    judged(study, "j", lambda number, aspect: None if number else 1)
    answers = AnswerStore(study.folder / ANSWERS, study)
    answers.put_all([Vote("ann", f"i{n}", "Empathy", f"k{n}-1", kind="import") for n in (0, 1)])
    answers.close()
    report = localemp("study", "report", "s")
    as_json = localemp("study", "report", "s", "--json")
    assert report.returncode == as_json.returncode == 0
    assert odd in json.loads(as_json.stdout)["systems"]
    for said in (report.stdout, as_json.stdout, as_json.stderr):
        assert not {"\x1b", "\x9b"} & set(said)
    assert "\\x1b[2J" in report.stdout
    assert "\u202e" not in report.stdout

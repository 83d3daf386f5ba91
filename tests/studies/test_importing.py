"""Ratings from spreadsheets: every form that the documentation names, and mistakes with their line."""

import csv
import gzip
import io

import pytest
from small_study import small_study

from localemp.data.spreadsheet import LARGEST
from localemp.errors import DataError, OptionError, UnknownNameError
from localemp.metrics.replies import Replies, Reply
from localemp.studies.answers import AnswerStore
from localemp.studies.create import create_study
from localemp.studies.exporting import as_csv, lines_of
from localemp.studies.importing import keep_ratings, read_ratings
from localemp.studies.questionnaire import QuestionnaireAspect, load_questionnaire
from localemp.studies.study import ANSWERS
from localemp.studies.votes import Vote


def vote(item: str, aspect: str, value: str | int, reply: str = "", rater: str = "ann") -> Vote:
    return Vote(rater, item, aspect, value, reply, kind="import")


@pytest.mark.parametrize(
    ("text", "votes"),
    [
        (
            "rater,item,aspect,value\nann,i0,Empathy,k0-1\nann,i1,Coherence,Tie\n",
            [vote("i0", "Empathy", "k0-1"), vote("i1", "Coherence", "tie")],
        ),
        (
            "\ufeffrater;item;Empathy;;\nann;i0;k0-1;;\n",
            [vote("i0", "Empathy", "k0-1")],
        ),
        (
            " RATER , Item,ASPECT,Value\nann,i0,Empathy,k0-1\n",
            [vote("i0", "Empathy", "k0-1")],
        ),
        (
            "Rater;Dialogue;empathy ;COHERENCE\nann;d2;twostage;\n",
            [vote("i2", "Empathy", "k2-1")],
        ),
        (
            "dialogue\tEmpathy\tCoherence\trater\nd2\ttwostage\t\tann\nd3\tequal\tplain\tann\n",
            [vote("i2", "Empathy", "k2-1"), vote("i3", "Empathy", "tie"), vote("i3", "Coherence", "k3-0")],
        ),
    ],
)
def test_preferences_are_read(tmp_path, text, votes):
    file = tmp_path / "ratings.csv"
    file.write_text(text)
    assert read_ratings(file, small_study(tmp_path / "s")) == votes


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_file_is_read_as_any_spreadsheet_writes_it(tmp_path, encoding, end):
    lines = ["sep=;", "rater;item;reply;Empathy;Coherence", ";;;;", "Zo\xeb;i0;k0-1;3,0;4", " ; ", "", "ann;i0;k0-0;2;"]
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(encoding, b"")
    (file := tmp_path / "ratings.csv").write_bytes(mark + end.join(lines).encode(encoding))
    (packed := tmp_path / "packed").write_bytes(gzip.compress(file.read_bytes()))
    study = small_study(tmp_path / "s", "rating")
    for path in (file, packed):
        assert read_ratings(path, study) == [
            vote("i0", "Empathy", 3, "k0-1", "Zo\xeb"),
            vote("i0", "Coherence", 4, "k0-1", "Zo\xeb"),
            vote("i0", "Empathy", 2, "k0-0"),
        ]


@pytest.mark.parametrize(
    "text",
    [
        'rater,"note;a;b;c;d;e",item,Empathy\nann,,i0,tie\n',
        "rater;item;Empathy;note, if any, or none, at all\nann;i0;tie;\n",
        '"rater"\t"item"\t"Empathy"\t"a,b,c,d,e"\nann\ti0\ttie\t"a;b"\n',
        '\n,,\n"rater","item","Empathy"\n"ann","i0","tie"',
        "sep=|\nrater|item|Empathy\nann|i0|tie\n",
        '"SEP=,";;\nrater,item,Empathy\nann,i0,tie\n',
    ],
)
def test_the_separator_is_what_makes_columns_of_the_first_row(tmp_path, text):
    (file := tmp_path / "ratings.csv").write_text(text)
    assert read_ratings(file, small_study(tmp_path / "s")) == [vote("i0", "Empathy", "tie")]


def test_no_file_is_read_beyond_its_bounds(tmp_path):
    study, file = small_study(tmp_path / "s"), tmp_path / "ratings.csv"
    with file.open("wb") as sparse:
        sparse.truncate(LARGEST + 1)
    with pytest.raises(DataError, match="more than 64 MiB"):
        read_ratings(file, study)
    file.write_bytes(gzip.compress(b"\0" * (LARGEST + 1), 1))
    with pytest.raises(DataError, match="more than 64 MiB"):
        read_ratings(file, study)
    for content in (gzip.compress(b"rater,item")[:-4], b"\xff\xfer\0a", b"rater,item,\xe9"):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"gzip file|line 1: not UTF"):
            read_ratings(file, study)


def test_numbers_are_read_by_reply_or_system_and_columns_may_have_other_names(tmp_path):
    study, file = small_study(tmp_path / "s", "rating"), tmp_path / "ratings.csv"
    file.write_text("rater,item,reply,aspect,value\nann,i0,k0-1,Empathy,4\nann,i0,k0-0,Empathy,2.0\n")
    expected = [vote("i0", "Empathy", 4, "k0-1"), vote("i0", "Empathy", 2, "k0-0")]
    assert read_ratings(file, study) == expected
    file.write_text("who,dialogue,model,warm\nann,d0,twostage,4\nann,d0,plain,2\n")
    renamed = {"rater": "who", "system": "model", "Empathy": "warm"}
    assert read_ratings(file, study, renamed) == expected


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (
            "rating",
            "rater,item,reply,aspect,value\nann,i0,k0-1,Empathy,4\nann,i0,k0-0,Empathy,6\n",
            "line 3: .*6 is not a rating",
        ),
        ("rating", "rater,item,reply,aspect,value\nann,i0,k0-1,Empathy,4.5\n", "line 2: .*'4.5' is not a rating"),
        ("rating", "rater,item,reply,aspect,value\nann,i0,k1-1,Empathy,4\n", "line 2: .*unknown reply 'k1-1'"),
        ("rating", "rater,item,Empathy\nann,i0,4\n", "line 2: .*unknown reply ''"),
        ("ab", "rater,item,aspect,value\nann,i9,Empathy,tie\n", "line 2: unknown item 'i9'"),
        ("ab", "rater,item,aspect,value\nann,i0,Warmth,tie\n", "line 2: .*unknown aspect 'Warmth'"),
        ("ab", "rater,item,aspect,value\nann,i0,Empathy,third\n", "line 2: .*'third' is not an answer"),
        ("ab", "rater,item,aspect,value\n,i0,Empathy,tie\n", "line 2: no rater"),
        ("ab", "rater,dialogue,aspect,value\nann,d99,Empathy,tie\n", "line 2: no item of the dialogue 'd99'"),
        ("ab", "rater,item,aspect,value\n" + 2 * "ann,i0,Empathy,tie\n", "line 3: .*in line 2 already"),
        ("ab", "rater,item,aspect,value\nann,i0,Empathy,tie,k0-1\n", "line 2: more fields than there are columns"),
        ("ab", "rater,item,dialogue,Empathy\nann,i0,d1,tie\n", "line 2: item i0 shows the dialogue 'd0', not 'd1'"),
        ("rating", "rater,item,reply,system,Empathy\nann,i0,k0-1,plain,4\n", "line 2: .*'k0-1' is not of 'plain'"),
        ("ab", "rater,kind,item,aspect,value\ngpt-4,judge,i0,Empathy,tie\n", "line 2: a judge's answer"),
        ("ab", "rater,item,aspect,value\nOwner,i0,Empathy,tie\n", "line 2: 'Owner' is the owner's name"),
        ("ab", "rater,item,Empathy,Empathy\n", "line 1: two columns are called 'Empathy'"),
        ("ab", "\n", "csv: the file is empty"),
        ("ab", 'rater,item,aspect,value\nann,i0,Empathy,"' + "x" * 200_000, "line 2: cannot be read as columns"),
        ("ab", "rater,item,aspect,value\nann,i0,Empathy,t\0e\n", "line 2: a NUL byte"),
        ("ab", "rater,item,aspect,value\n\n" + "x" * 100_000 + ",i0,Empathy,tie\n", "line 3: a name of 100000"),
        (
            "ab",
            'rater,item,aspect,value,note\nann,i0,Empathy,tie,"a\nb"\nann,i9,Empathy,tie,\n',
            "line 4: unknown item",
        ),
        ("ab", 'sep=;\nrater;item;note;aspect;value\nann;i9;"a\n\nb";Empathy;tie\n', "line 3: unknown item"),
        ("rating", "rater;item;reply;Empathy\nann;i0;k0-1;4,5\n", "line 2: .*'4,5' is not a rating"),
        ("rating", "rater;item;reply;Empathy\nann;i0;k0-1;1,000\n", "line 2: .*'1,000' is not a rating"),
        ("rating", "rater;item;reply;Empathy\nann;i0;k0-1;1e0\n", "line 2: .*'1e0' is not a rating"),
        ("rating", f"rater;item;reply;Empathy\nann;i0;k0-1;{'9' * 5000}\n", "line 2: .*9+…' is not a rating"),
        ("ab", "rater,item\u0000\n", "line 1: a NUL byte"),
        ("ab", ";;;\n;;\n", "csv: the file is empty"),
        ("ab", "rater,item,aspect,value\nann,i0,Empathy,\n", "line 2: .*'' is not an answer"),
        ("ab", "rater,item,aspect,value,first\nann,i0,Empathy,tie,k1-0\n", "line 2: .*unknown reply 'k1-0' in the col"),
        ("ab", "rater,item,aspect,value,Empathy\nann,i0,Empathy,tie,tie\n", "line 1: .*one for Empathy: which counts"),
        (
            "ab",
            "rater,item,system,Empathy\nann,i0,foo vs bar,tie\n",
            "line 2: .*compares 'plain vs twostage', not 'foo",
        ),
        ("ab", "rater,item\nann,i0\n", "line 1: needs columns aspect and value, or some of Empathy"),
        ("ab", "item,aspect,value\n", "line 1: needs columns rater"),
        ("ab", "rater,item,aspect,value\n", "no rating in it"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_nothing_is_taken(tmp_path, kind, text, message):
    file = tmp_path / "ratings.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=message):
        read_ratings(file, small_study(tmp_path / "s", kind))


def test_a_column_that_nobody_asks_for_and_an_aspect_without_one_are_told(tmp_path, localemp):
    study = small_study(tmp_path / "s")
    (tmp_path / "f.csv").write_text("rater,item,Empathi,Coherence\nann,i0,tie,tie\n")
    with pytest.raises(UnknownNameError, match="unknown column 'warmth'"):
        read_ratings(tmp_path / "f.csv", study, {"warmth": "Empathi"})
    assert [one.aspect for one in read_ratings(tmp_path / "f.csv", study, {"EMPATHY": "empathi"})] == [
        "Empathy",
        "Coherence",
    ]
    done = localemp("study", "import", "s", "f.csv")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "1 rating of 1 rater on 1 item")
    assert "note: no rating of Empathy, Informativity; if a column has them, name it: --column Empathy=" in done.stderr


def test_whose_answers_were_imported_does_not_rate_on_the_page_too(tmp_path):
    study = small_study(tmp_path / "s")
    answers = AnswerStore(study.folder / ANSWERS, study)
    keep_ratings(answers, [vote("i0", "Empathy", "tie")])
    for join in (lambda: answers.add_rater("Ann"), lambda: answers.make_links(["ann"])):
        with pytest.raises(OptionError, match="were imported, and would count as a second person's"):
            join()
    answers.close()


def test_replaced_answers_are_counted_and_people_on_the_page_are_not_mixed_up(tmp_path):
    study = small_study(tmp_path / "s")
    answers = AnswerStore(study.folder / ANSWERS, study)
    first = [vote("i0", "Empathy", "k0-1"), vote("i1", "Empathy", "tie"), vote("i2", "Empathy", "tie")]
    assert keep_ratings(answers, first) == 0
    assert keep_ratings(answers, [vote("i0", "Empathy", "tie"), vote("i1", "Empathy", "tie")]) == 1
    assert {each.item: each.value for each in answers.votes()} == {"i0": "tie", "i1": "tie", "i2": "tie"}
    answers.add_rater("Ben")
    with pytest.raises(OptionError, match="ben rates on the page"):
        keep_ratings(answers, [vote("i0", "Empathy", "tie"), vote("i0", "Empathy", "tie", rater="ben")])
    answers.close()


@pytest.mark.parametrize("kind", ["ab", "rating"])
@pytest.mark.parametrize("unblinded", [False, True])
def test_an_export_with_attention_checks_can_be_read_back(tmp_path, kind, unblinded):
    systems = [
        Replies(name, tuple(Reply(f"d{n}", f"{name} {n}", turns=(f"Test {n}.",)) for n in range(4))) for name in "xy"
    ]
    study, _ = create_study(tmp_path / "s", systems, kind, load_questionnaire(), sample=3, checks=1)
    votes = [
        Vote("ann", item.id, "Empathy", reply.key if kind == "ab" else 2, "" if kind == "ab" else reply.key, reply.key)
        for item in study.items
        for reply in item.replies[: 1 if kind == "ab" else 2]
    ]
    answers = AnswerStore(study.folder / ANSWERS, study)
    answers.put_all(votes)
    file = tmp_path / "votes.csv"
    file.write_text(as_csv(lines_of(answers.timed_votes(), study, unblinded), unblinded))
    answers.close()
    read = [(each.item, each.value, each.reply, each.first) for each in read_ratings(file, study)]
    assert read == [(each.item, each.value, each.reply, each.first) for each in votes]


@pytest.mark.parametrize("kind", ["ab", "rating"])
@pytest.mark.parametrize("unblinded", [False, True])
def test_names_that_would_be_formulas_are_guarded_and_read_back(tmp_path, kind, unblinded):
    names = ("=HYPERLINK(1)", "'+x", "-1", " @y", "\tz", '"=w')
    dialogues = ("=d", "+d", " -d ", "@d", "\td", "'=d")
    systems = [Replies(name, tuple(Reply(each, "Oh.", turns=("Hi.",)) for each in dialogues)) for name in names]
    asked = load_questionnaire().model_copy(
        update={"aspect": (QuestionnaireAspect(name="=Warmth", about="How warm it is."),)}
    )
    study, _ = create_study(tmp_path / "s", systems, kind, asked, sample=6)
    votes = [
        Vote("ann", item.id, "=Warmth", reply.key if kind == "ab" else 2, "" if kind == "ab" else reply.key, reply.key)
        for item in study.items
        for reply in item.replies[: 1 if kind == "ab" else 6]
    ]
    answers = AnswerStore(study.folder / ANSWERS, study)
    answers.put_all(votes)
    text = as_csv(lines_of(answers.timed_votes(), study, unblinded), unblinded)
    answers.close()
    cells = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
    assert [cell for cell in cells if cell.lstrip(" \"'")[:1] in ("=", "+", "-", "@", "\t") and cell[0] != "'"] == []
    assert "'=Warmth" in cells
    (file := tmp_path / "votes.csv").write_text(text)
    read = [(each.item, each.value, each.reply, each.first) for each in read_ratings(file, study)]
    assert read == [(each.item, each.value, each.reply, each.first) for each in votes]


def test_a_check_without_an_answer_is_none(tmp_path):
    systems = [Replies(name, (Reply("d0", name, turns=("Hi.",)), Reply("d1", name, turns=("Ho.",)))) for name in "xy"]
    study, _ = create_study(tmp_path / "s", systems, "ab", load_questionnaire(), sample=1, checks=1)
    (check,) = study.key.checks
    file = tmp_path / "votes.csv"
    file.write_text(f"rater,item,aspect,value\nann,{check},Empathy,\n")
    with pytest.raises(DataError, match="'' is not an answer"):
        read_ratings(file, study)

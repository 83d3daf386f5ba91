"""The official format with its quirks, and the two ways to build instances, on small files worked out by hand."""

import contextlib
import csv
import gzip
import io
import time
from pathlib import Path

import pytest

from localemp.data.conversations import Conversation, clean_instances, complete_dialogues, published_instances
from localemp.data.empathetic_dialogues import read_conversations
from localemp.data.splits import canonical_split, split_file
from localemp.errors import DataError, UnknownNameError

HEADER = "conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags"


def write(path: Path, *rows: str, header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def talk(number: int, *turns: str, situation: str | None = None, emotion: str = "sad") -> Conversation:
    return Conversation(f"c{number}", emotion, situation or f"situation {number}", turns)


# One utterance field as it stands in the file, in a file whose other rows hold no quotes, and the text it means.
UTTERANCES = [
    ("Hi_comma_ you", "Hi, you"),
    ('she said "no" to me', 'she said "no" to me'),
    ('"I love it.. my dog', '"I love it.. my dog'),
    ('what a "day', 'what a "day'),
    ('"Hello"', '"Hello"'),
    ('"Hello" "you"', '"Hello" "you"'),
    ('"They said ""hi"" to me"', 'They said "hi" to me'),
    ('"One, two"', "One, two"),
    ('"""Hello"""', '"Hello"'),
    ("a\u2028b\x85c\x0bd", "a\u2028b\x85c\x0bd"),
    ("  spaces  ", "  spaces  "),
]


@pytest.mark.parametrize(("field", "text"), UTTERANCES)
def test_utterance(tmp_path, field, text):
    rows = [f"c1,1,sad,p,7,{field},5|5|5_2|2|5,", "c1,2,sad,p,9,Oh no,,"]
    (conversation,) = read_conversations(write(tmp_path / "test.csv", *rows))
    assert conversation.turns == (text, "Oh no")


def test_one_stray_quote_makes_the_whole_file_plain(tmp_path):
    rows = ['c1,1,sad,"open,7,They said "hi,,', 'c1,2,sad,"open,9,"They ""quote"" it",,']
    (conversation,) = read_conversations(write(tmp_path / "test.csv", *rows))
    assert conversation == Conversation("c1", "sad", '"open', ('They said "hi', '"They ""quote"" it"'))


def test_two_stray_quotes_do_not_swallow_the_fields_between(tmp_path):
    (conversation,) = read_conversations(write(tmp_path / "test.csv", 'c1,1,sad,"a,7,b",,'))
    assert (conversation.situation, conversation.turns) == ('"a', ('b"',))


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
def test_file_saved_again_by_a_csv_library(tmp_path, quoting):
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=quoting)
    texts = ['He said "well, no".', '"Quoted"', "Plain"]
    writer.writerow(HEADER.split(","))
    writer.writerows([["c1", i, "sad", "a, b", 7, text, "", ""] for i, text in enumerate(texts, 1)])
    path = tmp_path / "train.csv"
    path.write_bytes(buffer.getvalue().encode())  # with the \r\n that the library writes
    assert read_conversations(path) == [Conversation("c1", "sad", "a, b", tuple(texts))]


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_line_break_inside_quotes(tmp_path, quoting, end):
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=quoting, lineterminator=end)
    texts = [f"My dog died.{end}{end}Today, at noon.", "Oh no.", f'He was{end}"old".', "I am sorry."]
    writer.writerow(HEADER.split(","))
    writer.writerows([["c1", i, "sad", f"a{end}b", i % 2, text, "", ""] for i, text in enumerate(texts, 1)])
    path = tmp_path / "train.csv"
    path.write_bytes(buffer.getvalue().encode())
    expected = tuple(text.replace("\r\n", "\n") for text in texts)
    assert read_conversations(path) == [Conversation("c1", "sad", "a\nb", expected)]


def test_stray_quotes_in_two_rows_are_no_line_break(tmp_path):
    rows = ['c1,1,sad,p,0,"hello,,', 'c1,2,sad,p,1,hi there",,']
    (conversation,) = read_conversations(write(tmp_path / "test.csv", *rows))
    assert conversation.turns == ('"hello', 'hi there"')


def test_a_line_break_without_quotes_is_told_with_its_line(tmp_path):
    rows = ["c1,1,sad,p,0,My dog", "died.,,", "c1,2,sad,p,1,Oh no.,,"]
    with pytest.raises(DataError, match=r"line 3: 3 fields, expected 8"):
        read_conversations(write(tmp_path / "test.csv", *rows))


@pytest.mark.parametrize("piece", ['"', '",', 'a"', '""', '"a",', ',"', '"\n', ",", '"a""b', "a\n"])
def test_time_is_linear_in_hostile_rows(tmp_path, piece):
    def seconds(size: int) -> float:
        path = write(tmp_path / "test.csv", f"c1,1,sad,p,0,{piece * (size // len(piece))}")
        begun = time.thread_time()
        with contextlib.suppress(DataError):
            read_conversations(path)
        return time.thread_time() - begun

    seconds(1_000)
    assert min(seconds(160_000) for _ in range(3)) < 20 * max(min(seconds(40_000) for _ in range(3)), 0.05)


def test_rows_with_more_columns(tmp_path):
    candidates = "I am so sorry|Oh_comma_ no"
    rows = [f"c1,1,sad,p,7,Hi,5|5|5_2|2|5,,{candidates}", "c1,2,sad,p,9,Oh,NA,<HI>,more,and more"]
    (conversation,) = read_conversations(write(tmp_path / "test.csv", *rows))
    assert conversation.turns == ("Hi", "Oh")


def test_speakers_follow_the_order_of_utterances_not_worker_numbers(tmp_path):
    rows = ["c2,3,sad,p,311,three,,", "c1,1,proud,q,7,uno,,", "c2,1,sad,p,311,one,,", "", "c2,2,sad,p,311,two,,"]
    conversations = read_conversations(write(tmp_path / "train.csv", *rows))
    assert [(one.id, one.turns) for one in conversations] == [("c2", ("one", "two", "three")), ("c1", ("uno",))]


def test_other_column_order_gzip_and_byte_order_mark(tmp_path):
    path = tmp_path / "named_like_plain.csv"
    text = "utterance,prompt,context,utterance_idx,conv_id\nHi,p,sad,1,c1\n"
    path.write_bytes(gzip.compress(text.encode("utf-8-sig")))
    assert read_conversations(path) == [Conversation("c1", "sad", "p", ("Hi",))]


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (b"", None, "empty"),
        (b"\xef\xbb\xbf\n", None, "empty"),
        (HEADER.encode() + b"\n\n", None, "no rows"),
        (b"c1,1,sad,p,7,Hi,,\n", 1, "not EmpatheticDialogues; its columns are c1, 1, sad"),
        (b"conv_id,context,prompt,utterance\nc1,sad,p,Hi\n", 1, "lacks utterance_idx"),
        (HEADER.encode() + b"\nc1,1,sad,p,7,Hi,,\nc1,two,sad,p,7,Hi,,\n", 3, "'two' is not a whole number"),
        (HEADER.encode() + b"\nc1,1,sad,p\n", 2, "4 fields, expected 8"),
        (HEADER.encode() + b"\nc1,1,sad,p,7,Hi,,\n\nc1,1,sad,p,7,Hi,,\n", 4, "utterance 1 of c1 occurs twice"),
        (HEADER.encode() + b"\nc1,1,sad,p,7,Hi, how are you?,,\n", 2, "comma inside a text"),
        (HEADER.encode() + b"\nc1,1,sad,Once, long ago,7,Hi,,\n", 2, "comma inside a text"),
        (HEADER.encode() + b"\nc1,1,sad,p,7,caf\xe9,,\n", 2, "UTF-8"),
        (gzip.compress(HEADER.encode() * 100, mtime=0)[:-20], None, "gzip"),
        (b"\x1f\x8bnothing", None, "gzip"),
    ],
)
def test_bad_file(tmp_path, content, line, words):
    path = tmp_path / "test.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_conversations(path)
    assert words in caught.value.message
    assert str(path) in caught.value.message
    assert caught.value.line == line


def test_missing_file_and_folder_in_place_of_a_file(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(DataError, match=path.name):
            read_conversations(path)


def test_clean_instances():
    conversations = [talk(1, " a ", 'b "x"', "c", "d", "e"), talk(2, "alone"), talk(3, "f", "g")]
    instances = clean_instances(conversations)
    assert [(one.id, one.turns, one.reference) for one in instances] == [
        ("c1#1", ("a",), 'b "x"'),
        ("c1#3", ("a", 'b "x"', "c"), "d"),
        ("c3#1", ("f",), "g"),
    ]
    assert {(one.emotion, one.situation, one.conversations) for one in instances} == {
        ("sad", "situation 1", ("c1",)),
        ("sad", "situation 3", ("c3",)),
    }


def test_published_drops_two_conversations_and_every_quote():
    conversations = [talk(1, '"a"', ' b "x" ', "c", situation=' s "1" '), talk(2, "d", "e"), talk(3, "f", "g")]
    (instance,) = published_instances(conversations)
    assert (instance.id, instance.turns, instance.reference, instance.situation) == ("c1#1", ("a",), "b x", "s 1")


def test_published_merges_neighbours_with_the_same_situation():
    conversations = [
        talk(1, "a", "b", "left over", situation="same"),
        talk(2, "c", "d", situation="same", emotion="proud"),
        talk(3, "e", "f", situation="other"),
        talk(4, "g", "h", situation="same"),
        talk(5, "i", "j"),
        talk(6, "k", "l"),
    ]
    instances = published_instances(conversations)
    assert [(one.id, one.turns, one.reference, one.emotion, one.conversations) for one in instances] == [
        ("c1+c2#1", ("a",), "b", "proud", ("c1", "c2")),
        ("c1+c2#3", ("a", "b", "c"), "d", "proud", ("c1", "c2")),
        ("c3#1", ("e",), "f", "sad", ("c3",)),
        ("c4#1", ("g",), "h", "sad", ("c4",)),
    ]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_published_of_at_most_two_conversations_is_nothing(count):
    assert published_instances([talk(number, "a", "b") for number in range(count)]) == []


def test_empty_utterance_ends_the_conversation():
    conversations = [talk(1, "a", "b", " ", "d"), talk(2, "", "b"), talk(3, "a", '"', "c", "d")]
    assert [one.id for one in clean_instances(conversations)] == ["c1#1", "c3#1", "c3#3"]
    padding = [talk(8, "x", "y"), talk(9, "x", "y")]
    assert [one.id for one in published_instances(conversations + padding)] == ["c1#1"]


def test_complete_dialogues_are_the_last_instances():
    instances = clean_instances([talk(1, "a", "b", "c", "d", "e"), talk(2, "f", "g")])
    assert [one.complete_turns for one in complete_dialogues(instances)] == [("a", "b", "c", "d"), ("f", "g")]
    assert complete_dialogues([]) == []


@pytest.mark.parametrize(
    ("name", "split"), [("train", "train"), ("dev", "valid"), ("validation", "valid"), ("valid", "valid")]
)
def test_split_names(name, split):
    assert canonical_split(name) == split


def test_unknown_split_lists_the_known_ones():
    with pytest.raises(UnknownNameError) as caught:
        canonical_split("tset")
    assert caught.value.known == ("train", "valid", "test")


@pytest.mark.parametrize("name", ["valid.csv", "valid.csv.gz", "dev.csv", "validation.csv.gz"])
def test_split_file(tmp_path, name):
    (tmp_path / name).touch()
    assert split_file(tmp_path, "valid") == tmp_path / name
    assert split_file(tmp_path, "test") is None

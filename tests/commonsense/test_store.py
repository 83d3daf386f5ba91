import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from localemp.commonsense.inferences import Beam
from localemp.commonsense.store import Entry, KnowledgeStore, line_of
from localemp.commonsense.writer import KnowledgeWriter
from localemp.dialogue import Dialogue
from localemp.errors import DataError
from localemp.models.atomic import RELATIONS
from localemp.utils.lines import LONGEST_LINE

NONE = dict.fromkeys(RELATIONS, ())
SAD = Beam("sad")


def save(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def ours(event: str, react: str, **more: str) -> dict[str, Any]:
    return {"event": event, "inferences": {"xReact": [react]}, **more}


def comfact(conversation: str, utterance: str, react: str) -> dict[str, Any]:
    return {"index": 0, "conv_id": conversation, "last_utterance": utterance, "xIntent": [], "xReact": [react]}


def react(store: KnowledgeStore, dialogue: Dialogue) -> str | None:
    found = store.find(dialogue)
    return None if found is None else found["xReact"][0].text


def test_our_format(tmp_path: Path):
    record = {
        "id": "a",
        "event": " My dog died. ",
        "inferences": {"xReact": ["sad ", "", ["sad", None]], "xWant": ["to cry"], "oReact": ["sorry"]},
    }
    store = KnowledgeStore.read(save(tmp_path / "k.jsonl", record))
    found = store.find(Dialogue("a", ("Something else.",)))
    # The five are always there, other relations of ATOMIC are kept, empty texts are not.
    assert found == {**NONE, "xReact": (SAD, SAD), "xWant": (Beam("to cry"),), "oReact": (Beam("sorry"),)}
    assert store.digest == hashlib.sha256((tmp_path / "k.jsonl").read_bytes()).hexdigest()
    assert store.path == tmp_path / "k.jsonl"


def test_gzip_and_plain_hold_the_same(tmp_path: Path):
    plain = save(tmp_path / "k.jsonl", ours("I won.", "happy"))
    packed = tmp_path / "k.jsonl.gz"
    packed.write_bytes(gzip.compress(b"\n" + plain.read_bytes() + b"\n"))
    dialogue = Dialogue("x", ("I won.",))
    assert KnowledgeStore.read(packed).find(dialogue) == KnowledgeStore.read(plain).find(dialogue) is not None
    assert KnowledgeStore.read(packed).digest == hashlib.sha256(packed.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("dialogue", "expected"),
    [
        (Dialogue("one", ("Hello.",)), "by id"),
        # The same words in two conversations, and in none of them.
        (Dialogue("x", ("Hello.",), conversations=("c1",)), "c1, first"),
        (Dialogue("x", ("Hello.",), conversations=("c2",)), "c2"),
        (Dialogue("x", ("Hello.",), conversations=("c9",)), "c1, first"),
        # A conversation that several were merged into.
        (Dialogue("x", ("Hello.",), conversations=("c9", "c2")), "c2"),
        # The speaker repeats herself; what the listener says does not count.
        (Dialogue("x", ("Hello.", "Hi!", "hello."), conversations=("c1",)), "c1, second"),
        (Dialogue("x", ("Hello.", "Hello.", "Hello."), conversations=("c1",)), "c1, second"),
        (Dialogue("x", ("Hello.", "Hi!", "Hello.", "Hi!", "Hello."), conversations=("c1",)), "c1, second"),
        # The whole context, before the last utterance alone.
        (Dialogue("x", ("My dog died.", "Oh no!", "He was  OLD.")), "context"),
        (Dialogue("x", ("Hi.", "Hm?", 'He was "old".')), "last utterance"),
        # As the released code writes an event.
        (Dialogue("x", ("Hi.", "Hm?", "I'm so sad, and can't sleep.")), "released"),
        (Dialogue("x", ("Something else.",)), None),
        (Dialogue("x", ("Hello.", "Hi!", "Bye.")), None),
    ],
)
def test_find(tmp_path: Path, dialogue: Dialogue, expected: str | None):
    store = KnowledgeStore.read(
        save(
            tmp_path / "k.jsonl",
            comfact("c1", "Hello.", "c1, first"),
            comfact("c1", "hello.", "c1, second"),
            comfact("c2", "Hello.", "c2"),
            ours("He was old.", "last utterance"),
            ours("My dog died. Oh no! He was old.", "context"),
            ours("i am so sad , and can not sleep .", "released"),
            ours("anything", "by id", id="one"),
        )
    )
    assert react(store, dialogue) == expected


def test_equal_events_without_a_conversation_give_the_first(tmp_path: Path):
    store = KnowledgeStore.read(save(tmp_path / "k.jsonl", ours("I won.", "happy"), ours("i  WON.", "proud")))
    assert react(store, Dialogue("x", ("I won.",))) == "happy"


HEADER = {"comet": "tiny", "comet_sha256": "ab", "beams": 5, "event": "context", "data_sha256": "cd", "localemp": "1"}
FIRST = Entry("I’m glad 🙂", {**NONE, "xReact": (Beam("happy", -0.4123),), "xAttr": (Beam("kind"),)}, id="a", cut=7)
SECOND = Entry("I won.", {**NONE, "xWant": (Beam("to tell all", -1.0),)}, id="b")


def write(path: Path, *entries: Entry, **changed: Any) -> set[str]:
    """Append to a file as `knowledge build` does; returns the ids that were there before."""
    with KnowledgeWriter.open(path, {**HEADER, **changed}) as writer:
        before = set(writer.done)
        writer.add(entries)
    return before


def test_what_is_written_is_read_again(tmp_path: Path):
    path = tmp_path / "deep" / "k.jsonl"
    assert write(path, FIRST) == set()
    assert write(path, SECOND, localemp="2") == {"a"}, "another version of localemp may go on"
    store = KnowledgeStore.read(path)
    assert store.header == HEADER
    assert store.find(Dialogue("a", ("I’m glad 🙂",))) == FIRST.inferences
    assert store.find(Dialogue("x", ("I won.",))) == SECOND.inferences
    assert json.loads(path.read_text("utf-8").splitlines()[1])["cut"] == 7


def test_an_id_alone_does_not_make_it_the_same_dialogue(tmp_path: Path):
    path = tmp_path / "k.jsonl"
    write(path, FIRST, SECOND)
    store = KnowledgeStore.read(path)
    assert store.find(Dialogue("b", ("I lost.",))) is None
    assert store.find(Dialogue("a", ("I won.",))) == SECOND.inferences


def test_other_settings_are_refused_with_the_difference(tmp_path: Path):
    path = tmp_path / "k.jsonl"
    write(path, FIRST)
    before = path.read_bytes()
    with pytest.raises(DataError) as caught:
        write(path, SECOND, beams=7, data_sha256="ef")
    assert "beams: 5 in the file, 7 now" in caught.value.message
    assert 'data_sha256: "cd" in the file, "ef" now' in caught.value.message
    assert "--out" in caught.value.hint
    assert path.read_bytes() == before
    store = KnowledgeStore.read(path)
    store.check_settings({"event": "context", "comet": "another name", "comet_sha256": "ab"})
    with pytest.raises(DataError, match='comet_sha256: "ab" in the file, "xy" now'):
        store.check_settings({"event": "context", "comet_sha256": "xy"})
    with pytest.raises(DataError, match='event: "context" in the file, "last-utterance" now'):
        store.check_settings({"event": "last-utterance"})


@pytest.mark.parametrize("half", [b'{"id": "b", "event', line_of(SECOND)[:-1]])
def test_half_a_line_at_the_end_is_taken_away(tmp_path: Path, half: bytes):
    path = tmp_path / "k.jsonl"
    write(path, FIRST)
    path.write_bytes(path.read_bytes() + half)
    assert write(path, SECOND) == {"a"}
    assert react(KnowledgeStore.read(path), Dialogue("a", (FIRST.event,))) == "happy"
    assert path.read_bytes().count(b"\n") == 3


def test_half_a_header_is_written_again(tmp_path: Path):
    path = tmp_path / "k.jsonl"
    path.write_bytes(b'{"knowledge": {"comet": "ti')
    assert write(path, FIRST) == set()
    assert KnowledgeStore.read(path).header == HEADER


@pytest.mark.parametrize(
    "content",
    [
        b"my diary",
        b"my\ndiary\n",
        b"my\ndiary",
        b'{"knowledge of": ["life"]}',
        b'{"knowledge": ["of", "life"]}\nand more',
        b'{"event": "a", "inferences": {"xReact": []}}\n',
        b'{"event": "a", "inferences": {"xReact": []}}\n{"event": "b", "inf',
        b'{"knowledge": {"comet": "another"}}\n{"id": "a", "ev',
        b"[" * 9000 + b"\n" + b"x",
        b"\xff\xfe\n\x00",
    ],
)
def test_what_localemp_did_not_begin_is_left_alone(tmp_path: Path, content: bytes):
    path = tmp_path / "k.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"does not record how it was made|made with other settings"):
        write(path, FIRST)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{}\n", "line 3: it holds no inferences of a dialogue"),
        (b'{"id": 7}\n', "line 3: it holds no inferences of a dialogue"),
        (b'["id"]\n', "line 3: it holds no inferences of a dialogue"),
        (b'{"id": "b", "inf\n', "line 3: not valid JSON"),
        (b"\xff\n", "line 3: not valid UTF-8"),
        (b"[" * 9000 + b"\n", "line 3: "),
        (b'{"id": ' + b"9" * 5000 + b"}\n", "line 3: it has a number with too many digits"),
    ],
)
def test_a_line_that_is_none_of_ours_is_named_and_nothing_is_changed(tmp_path: Path, line: bytes, said: str):
    path = tmp_path / "k.jsonl"
    write(path, FIRST)
    path.write_bytes(before := path.read_bytes() + line + b'{"id": "c", "ev')
    with pytest.raises(DataError) as caught:
        write(path, SECOND)
    assert said in caught.value.message
    assert path.read_bytes() == before


def test_a_line_without_bounds_is_refused(tmp_path: Path):
    path = tmp_path / "k.jsonl"
    write(path, FIRST)
    with path.open("ab") as file:
        file.truncate(size := path.stat().st_size + LONGEST_LINE + 1)
    with pytest.raises(DataError, match="line 3: the line has more than 64 MiB"):
        write(path, SECOND)
    assert path.stat().st_size == size


def test_only_one_writes_at_a_time(tmp_path: Path):
    path = tmp_path / "k.jsonl"
    with KnowledgeWriter.open(path, HEADER), pytest.raises(DataError, match="another localemp writes to it"):
        write(path, FIRST)
    assert write(path, FIRST) == set()


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("{", "not valid JSON"),
        ("[]", "expected a JSON object"),
        ("3", "expected a JSON object"),
        ('{"inferences": {"xReact": []}}', 'neither "event" nor "last_utterance"'),
        ('{"event": 3, "inferences": {"xReact": []}}', '"event" must be a non-empty string'),
        ('{"event": "", "inferences": {"xReact": []}}', '"event" must be a non-empty string'),
        ('{"last_utterance": ["a"], "xReact": []}', '"last_utterance" must be a non-empty string'),
        ('{"last_utterance": "a", "conv_id": 4, "xReact": []}', '"conv_id" must be a non-empty string'),
        ('{"id": 7, "event": "a", "inferences": {"xReact": []}}', '"id" must be a non-empty string'),
        ('{"event": "a"}', '"inferences" must be an object'),
        ('{"event": "a", "inferences": ["sad"]}', '"inferences" must be an object'),
        ('{"event": "a", "inferences": {}}', "none of the relations xIntent"),
        ('{"event": "a", "inferences": {"react": ["sad"]}}', "none of the relations xIntent"),
        ('{"last_utterance": "a"}', "none of the relations xIntent"),
        ('{"event": "a", "inferences": {"xReact": "sad"}}', '"xReact" must be a list of strings'),
        ('{"last_utterance": "a", "xWant": [], "xReact": {}}', '"xReact" must be a list of strings'),
        (
            '{"event": "a", "inferences": {"xReact": ["sad", null]}}',
            '"xReact", item 2, must be a string, or a string and a number',
        ),
        ('{"event": "\\ud83d", "inferences": {"xReact": []}}', "an unpaired surrogate"),
        ('{"event": "a", "inferences": {"xReact": [["sad", "-1"]]}}', "or a string and a number"),
        ('{"event": "a", "inferences": {"xReact": [["sad", true]]}}', "or a string and a number"),
        ('{"event": "a", "inferences": {"xReact": [["sad", NaN]]}}', "or a string and a number"),
        ('{"event": "a", "inferences": {"xReact": [["sad", 1e999]]}}', "or a string and a number"),
        ('{"event": "a", "inferences": {"xReact": [["sad", %s]]}}' % ("9" * 400), "or a string and a number"),
        ('{"event": "a", "inferences": {"xReact": [["sad", %s]]}}' % ("9" * 5000), "too many digits"),
        ('{"event": "a", "inferences": {"xReact": %s}}' % ("[" * 5000), "nested"),
        ('{"event": "a", "inferences": {"xReact": [], "\\ud83d": []}}', "an unpaired surrogate"),
        ('{"event": "a", "cut": "7", "inferences": {"xReact": []}}', '"cut" must be a number'),
        ('{"event": "a", "cut": true, "inferences": {"xReact": []}}', '"cut" must be a number'),
        ('{"event": "a", "cut": -1, "inferences": {"xReact": []}}', '"cut" must be a number'),
        ('{"id": "one", "event": "b", "inferences": {"xReact": []}}', "line 1 has the same id 'one'"),
    ],
)
def test_a_line_that_cannot_be_used(tmp_path: Path, line: str, named: str):
    path = save(tmp_path / "k.jsonl", ours("a", "sad", id="one"))
    path.write_text(path.read_text() + "\n" + line + "\n")
    with pytest.raises(DataError) as caught:
        KnowledgeStore.read(path)
    assert named in caught.value.message
    assert f"{path}, line 3: " in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("content", [b"", b" \n\n", gzip.compress(b"", mtime=0), b'{"knowledge": {}}\n'])
def test_an_empty_file(tmp_path: Path, content: bytes):
    path = tmp_path / "k.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"empty|no inferences"):
        KnowledgeStore.read(path)


def test_files_that_cannot_be_read_or_written(tmp_path: Path):
    with pytest.raises(DataError, match="No such file"):
        KnowledgeStore.read(tmp_path / "nowhere.jsonl")
    with pytest.raises(DataError, match="No such file"):
        KnowledgeStore.read(tmp_path / "nowhere" / "k.jsonl")
    with pytest.raises(DataError, match="Is a directory"):
        write(tmp_path)
    with pytest.raises(DataError, match="plain files only"):
        write(tmp_path / "k.jsonl.gz")
    assert not (tmp_path / "k.jsonl.gz").exists()

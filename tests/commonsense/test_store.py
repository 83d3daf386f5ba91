import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from localemp.commonsense.relations import RELATIONS
from localemp.commonsense.store import Entry, KnowledgeStore
from localemp.dialogue import Dialogue
from localemp.errors import DataError

NONE = dict.fromkeys(RELATIONS, ())


def save(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def ours(event: str, react: str, **more: str) -> dict[str, Any]:
    return {"event": event, "inferences": {"xReact": [react]}, **more}


def comfact(conversation: str, utterance: str, react: str) -> dict[str, Any]:
    return {"index": 0, "conv_id": conversation, "last_utterance": utterance, "xIntent": [], "xReact": [react]}


def react(store: KnowledgeStore, dialogue: Dialogue) -> str | None:
    found = store.find(dialogue)
    return None if found is None else found["xReact"][0]


def test_our_format(tmp_path: Path):
    record = {
        "id": "a",
        "event": " My dog died. ",
        "inferences": {"xReact": ["sad ", "", "sad"], "xWant": ["to cry"], "oReact": ["sorry"]},
    }
    store = KnowledgeStore.read(save(tmp_path / "k.jsonl", record))
    found = store.find(Dialogue("a", ("Something else.",)))
    # The five are always there, other relations of ATOMIC are kept, empty texts are not.
    assert found == {**NONE, "xReact": ("sad", "sad"), "xWant": ("to cry",), "oReact": ("sorry",)}
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
    assert store.missing([dialogue]) == ([dialogue] if expected is None else [])


def test_equal_events_without_a_conversation_give_the_first(tmp_path: Path):
    store = KnowledgeStore.read(save(tmp_path / "k.jsonl", ours("I won.", "happy"), ours("i  WON.", "proud")))
    assert react(store, Dialogue("x", ("I won.",))) == "happy"


def test_what_is_written_is_read_again(tmp_path: Path):
    path = tmp_path / "k.jsonl"
    first = Entry("I’m glad 🙂", {**NONE, "xReact": ("happy",), "xAttr": ("kind",)}, id="a")
    KnowledgeStore.write(path, [first])
    KnowledgeStore.write(path, [Entry("I won.", {**NONE, "xWant": ("to tell all",)})])
    KnowledgeStore.write(path, [])
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2
    store = KnowledgeStore.read(path)
    assert store.find(Dialogue("a", ("x",))) == first.inferences
    assert store.find(Dialogue("x", ("I won.",))) == {**NONE, "xWant": ("to tell all",)}


def test_writing_after_a_line_without_its_end(tmp_path: Path):
    path = tmp_path / "k.jsonl"
    path.write_text(json.dumps(ours("I won.", "happy")), encoding="utf-8")
    KnowledgeStore.write(path, [Entry("I lost.", {**NONE, "xReact": ("sad",)})])
    store = KnowledgeStore.read(path)
    assert react(store, Dialogue("x", ("I won.",))) == "happy"
    assert react(store, Dialogue("x", ("I lost.",))) == "sad"


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("{", "not JSON"),
        ("[]", "expected a JSON object"),
        ("3", "expected a JSON object"),
        ('{"inferences": {"xReact": []}}', 'neither "event" nor "last_utterance"'),
        ('{"event": 3, "inferences": {"xReact": []}}', '"event" must be a text'),
        ('{"event": "", "inferences": {"xReact": []}}', '"event" must be a text that is not empty'),
        ('{"last_utterance": ["a"], "xReact": []}', '"last_utterance" must be a text'),
        ('{"last_utterance": "a", "conv_id": 4, "xReact": []}', '"conv_id" must be a text'),
        ('{"id": 7, "event": "a", "inferences": {"xReact": []}}', '"id" must be a text'),
        ('{"event": "a"}', '"inferences" must be an object'),
        ('{"event": "a", "inferences": ["sad"]}', '"inferences" must be an object'),
        ('{"event": "a", "inferences": {}}', "none of the relations xIntent"),
        ('{"event": "a", "inferences": {"react": ["sad"]}}', "none of the relations xIntent"),
        ('{"last_utterance": "a"}', "none of the relations xIntent"),
        ('{"event": "a", "inferences": {"xReact": "sad"}}', '"xReact" must be a list of texts'),
        ('{"last_utterance": "a", "xWant": [], "xReact": {}}', '"xReact" must be a list of texts'),
        ('{"event": "a", "inferences": {"xReact": ["sad", null]}}', '"xReact", item 2, must be a text'),
        ('{"event": "\\ud83d", "inferences": {"xReact": []}}', "half of a surrogate pair"),
        ('{"id": "one", "event": "b", "inferences": {"xReact": []}}', "id 'one' is taken by line 1"),
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


@pytest.mark.parametrize("content", [b"", b" \n\n", gzip.compress(b"")])
def test_an_empty_file(tmp_path: Path, content: bytes):
    path = tmp_path / "k.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match="empty"):
        KnowledgeStore.read(path)


def test_files_that_cannot_be_read_or_written(tmp_path: Path):
    with pytest.raises(DataError, match="No such file"):
        KnowledgeStore.read(tmp_path / "nowhere.jsonl")
    with pytest.raises(DataError, match="No such file"):
        KnowledgeStore.write(tmp_path / "nowhere" / "k.jsonl", [])
    with pytest.raises(DataError, match="plain files only"):
        KnowledgeStore.write(tmp_path / "k.jsonl.gz", [])
    assert not (tmp_path / "k.jsonl.gz").exists()

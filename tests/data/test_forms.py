"""Which form a file has, from its beginning alone, and what is said of a file of none."""

import gzip
import json
import os
import threading
import time

import pytest

from localemp.data.forms import ESCONV, MESSAGES, OWN, UTTERANCES, first_keys, form_of
from localemp.data.sources import find_source, load_dialogues
from localemp.errors import DataError


@pytest.mark.parametrize(
    ("content", "form"),
    [
        ('{"turns": ["Hi."]}', OWN),
        ('{"id": 7, "emotion": null, "turns": ["Hi."]}', OWN),
        ('[{"turns": ["Hi."]}]', OWN),
        ('  \n\n [\n {"turns": []}]', OWN),
        ('\ufeff{"turns": ["Hi."]}', OWN),
        ('{"t\\u0075rns": ["Hi."]}', OWN),
        ('{"turns": ["Hi."], "messages": [], "dialog": 1}', OWN),
        ('{"turns": [', OWN),
        ('{"dialog": []}', ESCONV),
        ('{"text": "{\\"dialog\\": []}"}', ESCONV),
        ('{"text": "{\\"x\\": 1, \\"dialog\\": [\\"\\\\u00e9\\"]}"}', ESCONV),
        ('{"a": {"turns": 1}, "messages": []}', MESSAGES),
        ('{"a": [{"turns": 1}], "b": "dialog", "conversations": []}', MESSAGES),
        ('{"a": "{\\"turns\\": 1}", "conversation": []}', MESSAGES),
        ('{"x": "turns", "messages": "]}"}', MESSAGES),
        ('{"conv_id": "a", "utterance": "Hi."}', UTTERANCES),
        ('{"messages": [], "dialog": []}', None),
        ('{"a": 1}\n{"turns": ["Hi."]}', None),
        ('{"a": {"turns": 1}}', None),
        ('{"a": "turns"}', None),
        ('{"a": "turns", "tur', None),
        ('{"text": "turns"}', None),
        ('["dialog", {"turns": 1}]', OWN),
        ('[[{"turns": 1}]]', None),
        ('"turns": 1', None),
        ("{}", None),
        ("[]", None),
        ("", None),
        ("turns", None),
        ('{"turns', None),
        ("\0" * 100, None),
    ],
    ids=range(31),
)
def test_form(tmp_path, content, form):
    path = tmp_path / "a.json"
    path.write_text(content, "utf-8")
    assert form_of(path) == form
    path.write_bytes(gzip.compress(content.encode()))
    assert form_of(path) == form


@pytest.mark.parametrize(
    "content",
    [
        "[" * 2**20,
        '{"' * 2**20,
        '{"a":' * 2**20,
        '"' * 2**20,
        "\\" * 2**20,
        '{"a": "' + "\\" * 2**20,
        "{}" * 2**20,
        '{"a"' + ',"a"' * 2**18,
    ],
    ids=range(8),
)
def test_hostile_beginnings_take_no_time(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(content)
    began = time.process_time()
    assert form_of(path) is None
    assert time.process_time() - began < 2


def test_only_the_beginning_is_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"messages": [' + " " * 2**22 + "], " + ", ".join(f'"k{n}": 1' for n in range(10_000)) + "}")
    assert list(first_keys(path)) == ["messages"]


ARE = "form: the keys of the first record are"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[{"prompt": "Hi.", "chosen": "a", "rejected": "b"}]', f"an unknown {ARE} prompt, chosen, rejected"),
        ('{"instruction": "Hi.", "output": "Oh."}', f"an unknown {ARE} instruction, output"),
        ('{"messages": [], "dialog": []}', f"keys of several forms ({ESCONV}, {MESSAGES}): the keys of the"),
        ('{"\\u001b[31m": 1}', f"an unknown {ARE} \\x1b[31m"),
        (json.dumps({"k" * 1000: 1}), "are kkk"),
        ('{"prompt": "Hi.", "chosen": "a"', "line 1: not valid JSON"),
        ("{}", 'line 1: no "turns"'),
    ],
    ids=range(7),
)
def test_file_of_no_form(tmp_path, content, words):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        load_dialogues(str(path))
    assert words in caught.value.message
    assert len(caught.value.message) < len(str(path)) + 300
    if "form" in words:
        assert "ESConv has dialog; ShareGPT or OpenAI messages has messages" in caught.value.hint


def test_names_come_before_files(tmp_path, monkeypatch):
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "test.jsonl").write_text('{"messages": [{"role": "user", "content": "Hi."}]}')
    monkeypatch.chdir(tmp_path)
    assert find_source("samples").read("test", "clean")[0].id != "test:1#1"
    assert find_source("./samples").read("test", "clean")[0].id == "test:1#1"


def test_a_pipe_is_not_looked_into(tmp_path):
    """It can be read only once; it is of our own form then."""
    pipe = tmp_path / "a.jsonl"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=('{"turns": ["Hi."]}\n',))
    writer.start()
    assert [one.turns for one in load_dialogues(str(pipe))] == [("Hi.",)]
    writer.join()

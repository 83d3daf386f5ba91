"""ShareGPT and OpenAI messages: which dialogues a talk gives, where it ends, and what is told or refused."""

import gzip
import json
from pathlib import Path

import pytest

from localemp.data.messages import read_messages
from localemp.data.sources import find_source, load_dialogues
from localemp.data.talks import MOST_TURNS, MOST_TURNS_IN_ALL
from localemp.dialogue import Dialogue
from localemp.errors import DataError


def openai(said):
    """Messages as the OpenAI API has them, from words such as "u: Hi." (user), "a: Hello." (assistant)."""
    names = {"u": "user", "a": "assistant", "s": "system", "d": "developer", "t": "tool"}
    return [{"role": names[one[0]], "content": one[3:]} for one in said]


def sharegpt(said):
    names = {"u": "human", "a": "gpt", "s": "system", "d": "system", "t": "observation"}
    return [{"from": names[one[0]], "value": one[3:]} for one in said]


FORMS = {"messages": openai, "conversations": sharegpt, "conversation": openai}


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def told(path: Path, caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().removeprefix(f"{path}: ") for record in caplog.records]


BLANK = "1 messages are blank and left out (line 1)"
FIRST = "1 talks begin with the assistant, whose words are left out until the user's (line 1)"
JOINED = "1 talks have several messages of one side in a row, which are joined (line 1)"
NONE = "1 talks have no reply to a speaker and give no dialogue (line 1)"
SYSTEM = "1 system messages are left out: the strategy writes its own (line 1)"
TOOL = "1 talks end before a tool is called or answers (line 1)"


@pytest.mark.parametrize("key", FORMS)
@pytest.mark.parametrize(
    ("said", "dialogues", "notes"),
    [
        (["u: 1"], [(("1",), None)], []),
        (["u: 1", "a: 2"], [(("1",), "2")], []),
        (["u: 1", "a: 2", "u: 3", "a: 4"], [(("1",), "2"), (("1", "2", "3"), "4")], []),
        (["u: 1", "a: 2", "u: 3"], [(("1", "2", "3"), None)], []),
        (["a: 0", "u: 1", "a: 2"], [(("1",), "2")], [FIRST]),
        (["a: 0", "a: 0", "u: 1"], [(("1",), None)], [FIRST]),
        (["u: 1", "u: 1b", "a: 2", "a: 2b"], [(("1\n1b",), "2\n2b")], [JOINED]),
        (["u: 1", "a:  ", "u: 1b", "a: 2"], [(("1\n1b",), "2")], [BLANK, JOINED]),
        (["u:   1 \n", "a: 2\n"], [(("1",), "2")], []),
        (["s: Be kind.", "u: 1", "a: 2"], [(("1",), "2")], [SYSTEM]),
        (["d: Be kind.", "u: 1"], [(("1",), None)], [SYSTEM]),
        (["u: 1", "a: 2", "u: 3", "t: {}", "a: 4"], [(("1",), "2")], [TOOL]),
        (["u: 1", "t: {}", "a: 4"], [], [TOOL, NONE]),
        (["a: 0"], [], [NONE, FIRST]),
        (["s: Be kind."], [], [SYSTEM, NONE]),
        ([], [], [NONE]),
    ],
    ids=range(16),
)
def test_talk(tmp_path, caplog, key, said, dialogues, notes):
    path = tmp_path / "a.jsonl"
    lines(path, {"id": "x", key: FORMS[key](said)}, {"id": "y", key: FORMS[key](["u: Hi."])})
    *found, last = load_dialogues(str(path))
    assert last == Dialogue("y#1", ("Hi.",), conversations=("y",))
    assert [(one.turns, one.reference) for one in found] == dialogues
    assert [one.id for one in found] == [f"x#{len(one.turns)}" for one in found]
    assert told(path, caplog) == notes


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "you."}]}, "Hi\nyou."),
        ({"role": "user", "content": ["Hi."]}, "Hi."),
        ({"role": "user", "content": [{"text": "Hi."}]}, "Hi."),
        ({"role": "user", "content": [{"type": "input_text", "text": "Hi."}]}, "Hi."),
        ({"role": "Human ", "content": "Hi.", "weight": 0}, "Hi."),
        ({"from": "USER", "value": "Hi.", "markdown": None}, "Hi."),
        ({"role": None, "from": "human", "content": None, "value": "Hi."}, "Hi."),
        ({"role": "user", "content": "<p>H&amp;M</p>", "tool_calls": []}, "<p>H&amp;M</p>"),
    ],
    ids=range(8),
)
def test_message(tmp_path, caplog, message, text):
    path = lines(tmp_path / "a.jsonl", {"messages": [message]})
    (dialogue,) = read_messages([path])
    assert dialogue == Dialogue("a:1#1", (text,), conversations=("a:1",))
    assert not caplog.records


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ({"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}, "a tool is called or answers"),
        ({"role": "assistant", "content": "So.", "function_call": {"name": "f"}}, "a tool is called or answers"),
        ({"from": "function_call", "value": "{}"}, "a tool is called or answers"),
        ({"role": "narrator", "content": "So."}, "a message of a role other than user and assistant"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "a message that is not only text"),
        ({"role": "user", "content": [{"type": "text", "text": 3}]}, "a message that is not only text"),
        ({"role": "user", "content": [7]}, "a message that is not only text"),
        ({"role": "user", "content": [{"type": ["text"], "text": "x"}]}, "a message that is not only text"),
    ],
    ids=range(8),
)  # fmt: skip
def test_where_a_talk_ends(tmp_path, caplog, message, why):
    path = lines(tmp_path / "a.jsonl", {"messages": [*openai(["u: 1", "a: 2", "u: 3"]), message, *openai(["a: 5"])]})
    (dialogue,) = read_messages([path])
    assert (dialogue.turns, dialogue.reference) == (("1",), "2"), "a question that was answered elsewhere is none"
    assert told(path, caplog) == [f"1 talks end before {why} (line 1)"]


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ([], "expected a JSON object, found a list"),
        ({"id": "a"}, "no messages or conversations or conversation"),
        ({"messages": None}, "no messages or conversations or conversation"),
        ({"messages": "Hi."}, '"messages" must be a list of messages, found a string'),
        ({"conversations": {"a": 1}}, '"conversations" must be a list of messages, found an object'),
        ({"messages": ["Hi."]}, '"messages", item 1, must be an object, found a string'),
        ({"messages": [{"content": "Hi."}]}, '"messages", item 1, has no "role" and no "from"'),
        ({"messages": [{"role": 7, "content": "Hi."}]}, '"messages", item 1, has no "role" and no "from"'),
        ({"messages": [{"role": "user", "content": 7}]}, "neither a text nor a list, but a number"),
        ({"messages": [{"role": "user", "content": {"text": "Hi."}}]}, "neither a text nor a list, but an object"),
        ('{"messages": [', "not valid JSON"),
        ('{"messages": ' + "[" * 5000, "nested more than 100 levels deep"),
    ],
    ids=range(12),
)
def test_bad_record(tmp_path, record, words):
    path = lines(tmp_path / "a.jsonl", {"messages": openai(["u: Hi."])}, "", record)
    with pytest.raises(DataError) as caught:
        load_dialogues(str(path))
    assert caught.value.message.startswith(f"{path}, line 3: ")
    assert words in caught.value.message


ODD = [
    {"id": 7},
    {"conv_id": "c"},
    {"id": " "},
    {"id": 7},
    {"id": True},
    {"id": ["x"]},
    {"id": "x" * 1001},
    {"id": "\ud83d"},
]


def test_ids(tmp_path, caplog):
    talk = {"messages": openai(["u: 1", "a: 2"])}
    rows = [talk | more for more in ODD]
    path = lines(tmp_path / "chats.v2.jsonl", *rows)
    found = read_messages([path])
    places = [f"chats:{number}#1" for number in range(3, 8)]
    assert [one.id for one in found] == ["7#1", "c#1", places[0], "7@chats:4#1", *places[2:], "\ufffd#1"]
    assert found[0].conversations == found[3].conversations == ("7",), "perhaps the same talk: never an exemplar"
    assert told(path, caplog) == ["1 talks have the id of an earlier one; the place is added to theirs (line 4)"]


def test_emotion_and_situation_where_a_conversion_of_a_data_set_has_them(tmp_path):
    about = {"conv_id": "hit:0_conv:0", "situation": " I was alone. ", "emotion": "lonely"}
    row = about | {"conversations": openai(["u: 1", "a: 2"])}
    assert read_messages([lines(tmp_path / "a.jsonl", row, row | {"conv_id": "x", "emotion": {"a": 1}})]) == [
        Dialogue("hit:0_conv:0#1", ("1",), "lonely", "I was alone.", "2", ("hit:0_conv:0",)),
        Dialogue("x#1", ("1",), None, "I was alone.", "2", ("x",)),
    ]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("packed", [False, True])
def test_one_list(tmp_path, indent, packed):
    content = json.dumps([{"conversations": sharegpt([f"u: {n}", "a: Oh."])} for n in range(3)], indent=indent).encode()
    path = tmp_path / f"ShareGPT.json{'.gz' * packed}"
    path.write_bytes(gzip.compress(content) if packed else content)
    assert [one.id for one in load_dialogues(str(path))] == ["ShareGPT:1#1", "ShareGPT:2#1", "ShareGPT:3#1"]


def test_folder_with_splits(tmp_path):
    (tmp_path / "data").mkdir()
    lines(tmp_path / "data" / "train.jsonl", {"messages": openai(["u: 1", "a: 2"])})
    lines(tmp_path / "data" / "validation.jsonl.gz", {"messages": openai(["u: 3", "a: 4"])})
    assert load_dialogues(str(tmp_path), "dev")[0].reference == "4"
    source = find_source(str(tmp_path))
    assert (source.splits, source.pool) == (("train", "valid"), str(tmp_path))
    assert [one.words_per_reply for one in source.count((), "clean").values()] == [1, 1]


def test_a_talk_of_very_many_turns_is_cut(tmp_path, caplog):
    path = lines(tmp_path / "a.jsonl", {"messages": openai(["u: 1", "a: 2"] * 100_000)})
    found = read_messages([path])
    assert len(found) == MOST_TURNS // 2
    assert told(path, caplog) == ["1 talks have more than 1,000 turns; the rest is left out (line 1)"]


@pytest.mark.slow
def test_very_many_long_talks_are_refused(tmp_path):
    most = MOST_TURNS_IN_ALL // (MOST_TURNS // 2) ** 2
    path = lines(tmp_path / "a.jsonl", *[{"messages": openai(["u: 1", "a: 2"] * (MOST_TURNS // 2))}] * (most + 1))
    with pytest.raises(DataError, match="its dialogues have more than 20,000,000 turns in all"):
        read_messages([path])


def test_what_is_odd_is_told_of_its_own_file(tmp_path, caplog):
    whole, odd = openai(["u: 1", "a: 2"]), openai(["a: 0", "a: 0"])
    first = lines(tmp_path / "a.jsonl", {"messages": whole}, {"messages": whole})
    second = lines(tmp_path / "b.jsonl", {"messages": odd}, {"messages": whole})
    assert len(read_messages([first, second])) == 3
    assert caplog.records
    assert all(record.getMessage().startswith(f"{second}: ") for record in caplog.records)

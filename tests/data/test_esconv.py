"""ESConv in its two forms: whose turn it is, what a reference's strategies are, and what is refused."""

import gzip
import json
from pathlib import Path

import pytest

from localemp.data.conversations import complete_dialogues
from localemp.data.esconv import read_esconv
from localemp.data.sources import find_source, load_dialogues, pool_source
from localemp.dialogue import SUPPORT_STRATEGIES, Dialogue
from localemp.errors import DataError


def seeker(text):
    return {"speaker": "seeker", "annotation": {"feedback": "4"}, "content": text}


def supporter(text, strategy="Question"):
    return {"speaker": "supporter", "annotation": {"strategy": strategy}, "content": text}


def talk(*dialog, **more):
    return {
        "experience_type": "Previous Experience",
        "emotion_type": "anxiety",
        "problem_type": "job crisis",
        "situation": "My job is at risk.\n",
        "survey_score": {"seeker": {"empathy": "5"}, "supporter": {}},
        "dialog": list(dialog),
        "seeker_question1": "",
    } | more


WHOLE = talk(
    supporter("Hello!\n", "Others"),
    supporter("How are you?"),
    seeker("Not well.\n"),
    seeker(" I may lose my job. "),
    supporter("Oh no.\n", "Reflection of feelings"),
    supporter("Why?"),
    supporter("What did they say?"),
    seeker("They cut costs."),
    supporter("That happened to me.", "Self-disclosure"),
    seeker("Thank you!"),
)
SITUATION = "My job is at risk."
FIRST = Dialogue(
    "ESConv:1#1",
    ("Not well. I may lose my job.",),
    "anxiety",
    SITUATION,
    "Oh no. Why? What did they say?",
    ("ESConv:1",),
    ("Reflection of feelings", "Question"),
)
SECOND = Dialogue(
    "ESConv:1#3",
    (*FIRST.turns, "Oh no. Why? What did they say?", "They cut costs."),
    "anxiety",
    SITUATION,
    "That happened to me.",
    ("ESConv:1",),
    ("Self-disclosure",),
)


def hub(of):
    """A talk in the form of the hub's files."""
    dialog = [
        {"text": said["content"].strip(), "speaker": "usr" if said["speaker"] == "seeker" else "sys"}
        | ({"strategy": said["annotation"]["strategy"]} if said["speaker"] == "supporter" else {})
        for said in of["dialog"]
    ]
    return of | {"dialog": dialog}


def failed(of):
    """A talk in the form of the authors' file of failed talks."""
    other = {"seeker": "speaker", "supporter": "listener"}
    return of | {"dialog": [said | {"speaker": other[said["speaker"]]} for said in of["dialog"]]}


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, "utf-8")
    return path


FORMS = {
    "pretty": ("ESConv.json", json.dumps([WHOLE], indent=1)),
    "compact": ("ESConv.json", json.dumps([WHOLE])),
    "failed": ("ESConv.json", json.dumps([failed(WHOLE)])),
    "lines": ("ESConv.jsonl", json.dumps(WHOLE) + "\n"),
    "hub": ("ESConv.txt", json.dumps(hub(WHOLE)) + "\n"),
    "wrapped": ("ESConv.jsonl", json.dumps({"text": json.dumps(hub(WHOLE))}) + "\n"),
    "wrapped-list": ("ESConv.json", json.dumps([{"text": json.dumps(hub(WHOLE))}])),
    "one": ("ESConv.json", json.dumps(WHOLE, indent=2)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_dialogues(tmp_path, caplog, form):
    name, content = FORMS[form]
    source = str(write(tmp_path / name, content))
    assert load_dialogues(source) == load_dialogues(source, "train") == [FIRST, SECOND]
    assert not caplog.records, "what is usual in the data set is not told"
    (counted,) = find_source(source).count((), "clean").values()
    assert (counted.conversations, counted.utterances, counted.instances) == (1, 4, 2)
    assert pool_source(source) == "bundled"


def test_packed(tmp_path):
    path = tmp_path / "ESConv.json.gz"
    path.write_bytes(gzip.compress(json.dumps([WHOLE]).encode()))
    assert load_dialogues(str(path)) == [FIRST, SECOND]


@pytest.mark.parametrize("ending", ["txt", "json", "jsonl"])
def test_folder_with_splits(tmp_path, ending):
    for name, count in (("train", 3), ("valid", 2), ("test", 1)):
        talks = [json.dumps(hub(WHOLE))] * count
        write(tmp_path / f"{name}.{ending}", "\n".join(talks) if ending != "json" else f"[{','.join(talks)}]")
    source = str(tmp_path)
    assert [len(load_dialogues(source, split)) for split in ("train", "dev", "test")] == [6, 4, 2]
    assert {one.conversations for one in load_dialogues(source, "train")} == {("train:1",), ("train:2",), ("train:3",)}
    assert pool_source(source) == source
    assert len(complete_dialogues(load_dialogues(source, "train"))) == 3
    counted = find_source(source).count((), "clean")
    assert {name: one.conversations for name, one in counted.items()} == {"train": 3, "valid": 2, "test": 1}


def test_missing_split(tmp_path):
    write(tmp_path / "train.txt", json.dumps(hub(WHOLE)))
    with pytest.raises(DataError, match="no file of the split test; it has train"):
        load_dialogues(str(tmp_path))


@pytest.mark.parametrize(
    ("written", "meant"),
    [(name, (name,)) for name in SUPPORT_STRATEGIES]
    + [
        ("[Question]", ("Question",)),
        ("Questions", ("Question",)),
        ("Other", ("Others",)),
        (" providing suggestions ", ("Providing Suggestions",)),
        ("Humour", ("Humour",)),
        ("", ()),
        (None, ()),
        (["Question"], ()),
    ],
    ids=str,
)
def test_strategies(tmp_path, caplog, written, meant):
    path = write(tmp_path / "a.json", json.dumps([talk(seeker("Hi."), supporter("Hi?", written))]))
    (dialogue,) = read_esconv([path])
    assert dialogue.support_strategies == meant
    odd = [f"{path}: 1 strategies are not of ESConv's eight and stay as they are (item 1)"]
    assert [record.getMessage() for record in caplog.records] == (odd if meant == ("Humour",) else [])


def test_what_gives_no_dialogue_and_what_is_blank(tmp_path, caplog):
    talks = [
        talk(supporter("Hi?"), supporter("Hello?")),
        talk(seeker("Hi."), seeker("Hello?")),
        talk(),
        talk(seeker("Hi."), supporter(" \n"), seeker("Hello?"), supporter("Yes?"), situation=None, emotion_type=7),
    ]
    path = write(tmp_path / "a.json", json.dumps(talks))
    (dialogue,) = read_esconv([path])
    assert dialogue == Dialogue("a:4#1", ("Hi. Hello?",), None, None, "Yes?", ("a:4",), ("Question",))
    assert [record.getMessage().removeprefix(f"{path}: ") for record in caplog.records] == [
        "3 talks have no reply to a speaker and give no dialogue (items 1, 2, 3)",
        "1 talks have a blank text, which is left out (item 4)",
    ]


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (7, "expected a JSON object, found a number"),
        ({"dialog": "Hi."}, '"dialog" must be a list, found a string'),
        ({"dialog": {"a": 1}}, '"dialog" must be a list, found an object'),
        ({"situation": "x"}, '"dialog" must be a list, found null'),
        (talk("Hi."), '"dialog", item 1, must be an object, found a string'),
        (talk({"content": "Hi."}), '"dialog", item 1, has no "speaker"'),
        (talk({"speaker": ["seeker"], "content": "Hi."}), '"dialog", item 1, has no "speaker"'),
        (talk(seeker("Hi."), {"speaker": "sys"}), '"dialog", item 2, has no text'),
        (talk(seeker(None)), '"dialog", item 1, has no text'),
        (talk(seeker(["Hi."])), '"dialog", item 1, has no text'),
        ({"text": "{"}, '"text": not valid JSON'),
        ({"text": "[1]"}, '"text" must hold an object, found a list'),
        ({"text": "[" * 1000}, '"text": '),
    ],
    ids=range(13),
)
def test_bad_talk(tmp_path, record, words):
    path = write(tmp_path / "a.json", json.dumps([WHOLE, record]))
    with pytest.raises(DataError) as caught:
        load_dialogues(str(path))
    assert caught.value.message.startswith(f"{path}, item 2: ")
    assert words in caught.value.message


@pytest.mark.parametrize("cut", [20, 200, 900, 1400])
def test_cut_file(tmp_path, cut):
    path = write(tmp_path / "a.json", json.dumps([WHOLE], indent=1)[:cut])
    with pytest.raises(DataError, match=r"a\.json, line \d+: not valid JSON"):
        load_dialogues(str(path))


def test_nothing_to_reply_to(tmp_path):
    path = write(tmp_path / "a.json", json.dumps([talk(seeker("Hi."))]))
    with pytest.raises(DataError, match="no talk has a reply to a speaker"):
        load_dialogues(str(path))


def test_text_file_of_another_kind(tmp_path):
    path = write(tmp_path / "a.txt", "Hello.\n")
    with pytest.raises(DataError, match="the name must end in one of"):
        load_dialogues(str(path))

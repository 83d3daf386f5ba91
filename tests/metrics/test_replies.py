import json
from dataclasses import replace

import pytest

from localemp.errors import RunError
from localemp.metrics.replies import Replies, Reply, replies_of_run

LINE = {"id": "a", "reply": "Oh.", "turns": ["Hi."], "emotion": "sad", "reference": "Oh dear.", "stages": []}


def run(folder, *lines, dialogues=0):
    manifest = {"settings": {"model": "m"}, "sessions": [{"dialogues": dialogues}]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "responses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_run_as_far_as_it_got(tmp_path):
    stages = [{"name": "feeling", "text": "Sad."}, {"name": "reply", "text": "Oh."}]
    failed = {"id": "b", "error": {"type": "EngineError", "message": "no"}}
    replies = replies_of_run(run(tmp_path, {**LINE, "stages": stages}, failed, {**LINE, "id": "c"}, dialogues=5))
    assert replies.items[0] == Reply("a", "Oh.", "Oh dear.", "sad", "Sad.", ("Hi.",))
    assert replies.items[1].feeling is None
    assert replies.ids == ("a", "c")
    assert replies.notes == ("1 of 3 dialogues failed and have no reply", "not finished: 3 of 5 dialogues")
    assert replies.source["settings"] == {"model": "m"}


@pytest.mark.parametrize(
    "change",
    [{"reply": None}, {"reply": 7}, {"id": 3}, {"reference": ["x"]}, {"turns": 5}, {"turns": [1]}, {"stages": [{}]},
     {"stages": 1}, {"emotion": {}}, {"stages": [{"name": "feeling", "text": 1}]}],
)  # fmt: skip
def test_what_is_not_text_is_an_error(tmp_path, change):
    with pytest.raises(RunError, match=r"responses.jsonl, line 1: cannot be read"):
        replies_of_run(run(tmp_path, {**LINE, **change}))


def test_two_replies_with_one_id_are_said(tmp_path):
    other = {**LINE, "reply": "Ah."}
    replies = replies_of_run(run(tmp_path, LINE, LINE, other))
    assert replies.texts == ("Ah.",)
    assert "1 ids have two replies, of which the later one counts: 'a' (lines 1 and 3)" in replies.notes


def test_an_empty_reference_is_none_and_empty_replies_are_counted(tmp_path):
    replies = replies_of_run(run(tmp_path, {**LINE, "reference": " ", "reply": ""}))
    assert replies.references == (None,)
    assert "1 of 1 replies are empty" in replies.notes


def test_the_hash_covers_what_scores_depend_on():
    item = Reply("a", "Oh.", "Oh dear.", "sad", "Sad.")
    others = [replace(item, **change) for change in ({"text": "Ah."}, {"reference": None}, {"emotion": "proud"})]
    assert len({Replies("x", (each,)).sha256 for each in (item, *others)}) == 4
    assert Replies("x", (item, others[0])).sha256 == Replies("y", (others[0], item)).sha256


def test_a_run_without_a_reply_is_an_error(tmp_path):
    with pytest.raises(RunError, match="no replies yet"):
        replies_of_run(run(tmp_path))
    with pytest.raises(RunError, match="is not a run"):
        replies_of_run(tmp_path / "none")


def test_some_of_the_replies():
    replies = Replies("s", (Reply("a", "1"), Reply("b", "2"), Reply("c", "3")))
    some = replies.only({"c", "a"}, "two of three")
    assert (some.ids, some.notes) == (("a", "c"), ("two of three",))
    assert some.ids_sha256 != replies.ids_sha256
    assert len(some) == 2

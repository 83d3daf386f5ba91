"""`score --by emotion` and `report --by emotion`."""

import json

import pytest
from small_runs import EMOTIONS, make_run

import localemp
from localemp.errors import UnknownNameError
from localemp.metrics.groups import Group, by_emotion
from localemp.metrics.kept_values import VALUES
from localemp.metrics.registry import metrics
from localemp.metrics.replies import Replies, Reply, replies_of_run
from localemp.reporting.emotion_tables import emotion_table

ROUND = [f"d{number:03}" for number in range(126)]
SAID = {name: f"Tell me {'more of ' * (place % 4)}{name}." for place, name in enumerate(ROUND)}


@pytest.fixture
def run(tmp_path):
    """126 replies: 32 to the first two of four emotions, 31 to the others, each of another length."""
    return make_run(tmp_path / "run", SAID)


def test_a_value_is_that_of_the_emotion_s_replies_alone(run):
    groups = localemp.score(run, metric=["Length", "B-2", "ROUGE-L", "Dist-1", "Acc"], by="emotion").groups["run"]
    assert [(group.emotion, group.items) for group in groups] == [
        ("angry", 31), ("joyful", 32), ("proud", 31), ("sad", 32),
    ]  # fmt: skip
    assert {group.emotion: group.values["Length"] for group in groups} == {
        name: 3 + 2 * place for place, name in enumerate(EMOTIONS)
    }
    assert list(groups[0].values) == ["Length", "B-2", "ROUGE-L"], "Dist changes with the number, nothing names an Acc"
    replies = replies_of_run(run)
    of_one = replies.only({item.id for item in replies.items if item.emotion == "proud"})
    for metric in metrics(only=["B-2", "ROUGE-L", "Length"]):
        assert groups[2].values[metric.name] == pytest.approx(metric.score(of_one).value)


def test_small_groups_are_marked_and_unknown_emotions_come_last():
    items = [Reply("a", "Oh no.", emotion="sad"), *(Reply(f"b{n}", "Oh.", emotion="afraid") for n in range(30))]
    groups = by_emotion(Replies("x", (*items, Reply("c", "Well.")), {}), metrics(only=["Length"]))
    assert [(group.emotion, group.is_small) for group in groups] == [("afraid", False), ("sad", True), ("(none)", True)]
    table = emotion_table("x", groups)
    assert [row.cells[0].mark for row in table.rows] == ["", "s", "s"]
    assert any(note.mark == "s" and "(2 of 3 emotions)" in note.text for note in table.notes)
    assert emotion_table("x", [Group("sad", 40, {"B-2": None})]).rows[0].cells[1].text == "n/a"
    assert by_emotion(Replies("x", (Reply("c", "Well."),), {}), metrics(only=["Length"])) == ()


def test_a_report_has_a_table_for_each_run_and_takes_kept_values(run, tmp_path):
    replies = replies_of_run(run)
    kept = {"format": 1, "replies_sha256": replies.sha256, "options": {}, "ids": list(replies.ids)}
    values = [float(place % 4) for place, _ in enumerate(replies.ids)]
    kept["metrics"] = [{"name": "F_BERT", "settings": {}, "values": values}]
    (run / VALUES).write_text(json.dumps(kept))
    other = make_run(tmp_path / "other", {"d000": "Oh."}, "two-stage")
    made = localemp.report([run, other], by="emotion", published="none")
    tables = [table for table in made.tables if table.kind == "emotions"]
    assert [(table.key, table.title) for table in tables] == [
        ("emotions", "By emotion: scripted zero-shot"), ("emotions-2", "By emotion: scripted two-stage"),
    ]  # fmt: skip
    place = tables[0].columns.index("F_BERT")
    assert {row.name: row.cells[place].value for row in tables[0].rows} == {n: i for i, n in enumerate(EMOTIONS)}
    assert "F_BERT" not in tables[1].columns


def test_the_command_prints_it_and_says_what_cannot_be(localemp, run, tmp_path):
    done = localemp("score", "run", "--by", "emotion", "--metric", "B-2", env={"COLUMNS": "80"})
    assert (done.returncode, "By emotion: run" in done.stdout) == (0, True)
    assert [line.split()[:2] for line in done.stdout.splitlines() if "proud" in line] == [["proud", "31"]]
    told = json.loads(localemp("score", "run", "--by", "emotion", "--metric", "B-2", "--json").stdout)
    assert [group["small"] for group in told["by_emotion"]["run"]] == [False] * 4
    assert localemp("report", "run", "--by", "mood").returncode == 2
    path = tmp_path / "run/responses.jsonl"
    path.write_text("".join(json.dumps(json.loads(line) | {"emotion": None}) + "\n" for line in path.open()))
    for command in ("score", "report"):
        assert "no dialogue has an emotion" in localemp(command, "run", "--by", "emotion").stderr


def test_from_python_another_grouping_is_an_error(run):
    with pytest.raises(UnknownNameError, match="unknown grouping 'mood'"):
        localemp.score(run, by="mood")

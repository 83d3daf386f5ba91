"""Flows reach the machines of a cluster by content."""

import asyncio
import pickle

import pytest
from whole_flow import FLOW, write_flow

from localemp.errors import PromptError
from localemp.pipeline.config import RunConfig
from localemp.pipeline.flow_copies import copies_of, with_copies
from localemp.pipeline.pipeline import Pipeline
from localemp.pipeline.ray_actor import ActorRow, EngineActor, Share

GIVEN = 'about = "given"\n[[stages]]\nname = "reply"\nask = "{emotion}"\n'


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_flow(tmp_path)
    return tmp_path


async def answer(folder, dialogues, *rows):
    actor = await asyncio.to_thread(EngineActor, pickle.loads(pickle.dumps(rows)), folder)
    shares = [{"share": pickle.dumps(Share(number, dialogues))} for number in range(len(rows))]
    return [pickle.loads((await actor(share))["answers"]) for share in shares]


def row_of(strategy, dialogues):
    config = RunConfig(strategy=strategy, script="script.jsonl")
    settings = Pipeline(config).settings(dialogues, "test")
    return ActorRow(strategy, config, settings, dialogues[0], copies_of(strategy))


async def test_an_actor_needs_no_file_of_the_flow(place):
    dialogues = Pipeline(RunConfig()).dialogues("test")[:2]
    rows = [row_of("few-shot+./mine.toml", dialogues), row_of("zero-shot", dialogues)]
    (place / "mine.toml").write_text("another file of this name")
    mine, plain = await answer(place, dialogues, *rows)
    assert (mine.failed, mine.stopped, plain.failed) == (None, None, None)
    assert [stage["name"] for stage in mine.records[0]["stages"]][-2:] == ["reply.choice", "reply"]
    assert [len(record["stages"]) for record in plain.records] == [1, 1]


async def test_a_flow_that_changed_on_its_way_is_refused(place):
    dialogues = Pipeline(RunConfig()).dialogues("test")[:2]
    settings = row_of("./mine.toml", dialogues).settings
    write_flow(place, text=FLOW.replace("Why a question?", "Why?"))
    config = RunConfig(strategy="./mine.toml", script="script.jsonl")
    (result,) = await answer(place, dialogues, ActorRow("", config, settings, dialogues[0], copies_of("./mine.toml")))
    assert "flow_sha256" in result.failed.message


def test_forms_for_given_facts_travel_with_the_flow(place):
    (place / "mine.given-emotion.toml").write_text(GIVEN)
    copies = copies_of("similar+./mine.toml")
    assert set(copies["./mine.toml"]) == {"mine.toml", "mine.given-emotion.toml"}
    copied = with_copies("similar+./mine.toml", copies, place / "there")
    assert copied == f"similar+{place / 'there' / '1' / 'mine.toml'}"
    assert (place / "there" / "1" / "mine.given-emotion.toml").read_text() == GIVEN
    assert with_copies("similar+two-stage", copies_of("similar+two-stage"), place) == "similar+two-stage"
    with pytest.raises(PromptError, match="no such file"):
        copies_of("./none.toml")

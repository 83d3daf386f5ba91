"""ComFact's file of COMET-BART's inferences, looked up for the test dialogues of EmpatheticDialogues."""

import csv
import gzip
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from localemp.commonsense.inferences import Beam, Beams
from localemp.commonsense.store import KnowledgeStore
from localemp.dialogue import Dialogue
from localemp.models.atomic import RELATIONS


def rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def inferences(entry: dict[str, Any]) -> Beams:
    return {relation: tuple(Beam(text) for text in entry[relation]) for relation in RELATIONS}


@pytest.fixture(scope="module")
def path(shared_data: Path) -> Path:
    return shared_data / "comet_bart" / "ed_test_comet_linked.jsonl.gz"


@pytest.fixture(scope="module")
def store(path: Path) -> KnowledgeStore:
    return KnowledgeStore.read(path)


@pytest.fixture(scope="module")
def entries(path: Path) -> list[dict[str, Any]]:
    return rows(path)


@pytest.fixture(scope="module")
def published(shared_data: Path) -> list[Dialogue]:
    return [
        Dialogue(f"test-{row['index']}", tuple(row["context"]), conversations=tuple(row["conv_ids"]))
        for row in rows(shared_data / "empathetic_dialogues" / "paper_instances.test.jsonl.gz")
    ]


@pytest.fixture(scope="module")
def clean(shared_data: Path) -> list[Dialogue]:
    """One dialogue for every listener turn, conversation by conversation, as in the data set."""
    conversations: defaultdict[str, list[str]] = defaultdict(list)
    with gzip.open(shared_data / "empathetic_dialogues" / "test.csv.gz", "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            conversations[row["conv_id"]].append(row["utterance"].replace("_comma_", ",").strip())
    return [
        Dialogue(f"{name}/{end}", tuple(turns[:end]), conversations=(name,))
        for name, turns in conversations.items()
        for end in range(1, len(turns), 2)
    ]


def test_every_published_row_finds_its_own_entry(
    store: KnowledgeStore, entries: list[dict[str, Any]], published: list[Dialogue]
):
    assert len(published) == len(entries) == 5255
    assert [dialogue.id for dialogue in published if not store.find(dialogue)] == []
    wrong = [
        dialogue.id
        for dialogue, entry in zip(published, entries, strict=True)
        if store.find(dialogue) != inferences(entry)
    ]
    assert wrong == []
    assert [dialogue for dialogue in published if store.find(dialogue) is None] == []


def test_clean_rows_find_theirs_as_far_as_the_file_goes(
    store: KnowledgeStore, entries: list[dict[str, Any]], published: list[Dialogue], clean: list[Dialogue]
):
    assert len(clean) == 5259
    # A merged group's later rows begin with the other conversation's turns: what is equal is the end.
    by_end: defaultdict[tuple[str, str], list[tuple[Dialogue, dict[str, Any]]]] = defaultdict(list)
    for dialogue, entry in zip(published, entries, strict=True):
        for name in dialogue.conversations:
            by_end[name, dialogue.last_utterance].append((dialogue, entry))
    without, wrong = [], []
    for dialogue in clean:
        same = by_end[dialogue.conversations[0], dialogue.last_utterance.replace('"', "").strip()]
        own = tuple(turn.replace('"', "").strip() for turn in dialogue.turns)
        expected = [entry for row, entry in same if row.turns[-len(own) :] == own]
        if not expected:
            without.append(dialogue)
        elif store.find(dialogue) != inferences(expected[0]):
            wrong.append(dialogue.id)
    assert wrong == []
    # The file leaves out the split's last two conversations.
    last_two = list(dict.fromkeys(dialogue.conversations[0] for dialogue in clean))[-2:]
    assert [dialogue.id for dialogue in without] == [d.id for d in clean if d.conversations[0] in last_two]
    assert [dialogue for dialogue in clean if store.find(dialogue) is None] == without

"""Files that disks, editors and other programs have damaged: no command ends in a traceback, whatever they hold."""

import json
from pathlib import Path

import pytest
from utils.mutants import Kind, mutants

from localemp.data.jsonl import read_jsonl


def dialogues(folder: Path) -> Path:
    path = folder / "dialogues.jsonl"
    records = [
        {"id": "a", "turns": ["I lost my job.", "Oh no.", "Yes — today."], "emotion": "sad", "conversation": ["c"]},
        {"turns": ["My dog died."], "situation": "A dog.", "reference": "I am sorry.", "conversation": "c"},
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


KINDS = {
    "dialogues": Kind(dialogues, read_jsonl),
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_mutant_ends_in_a_traceback(kind, tmp_path):
    KINDS[kind].check(tmp_path)


def test_mutants_are_the_same_in_every_run_and_differ():
    good = b'{"a": [1, "x"], "b": {"c": null}}\nname,idx\nsome words,3\n'
    first = list(mutants(good, 200))
    assert first == list(mutants(good, 200))
    assert len(set(first)) > 150
    assert first != list(mutants(good, 200, seed=2))

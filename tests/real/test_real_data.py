"""The official data set, and the very rows that the paper and its baselines worked on."""

import csv
import gzip
import json
from pathlib import Path

import pytest

from localemp.data.conversations import Conversation, clean_instances, complete_dialogues, published_instances
from localemp.data.csv_rows import columns_of, rows_of
from localemp.data.empathetic_dialogues import read_conversations
from localemp.data.sources import load_dialogues
from localemp.data.splits import canonical_split, split_file
from localemp.data.textfile import read_lines
from localemp.dialogue import EMOTIONS

# split, conversations, utterances, clean and published instances, conversations with a listener turn
COUNTS = [
    ("train", 19533, 84169, 40254, 40250, 19531),
    ("dev", 2770, 12078, 5738, 5734, 2769),
    ("test", 2547, 10973, 5259, 5255, 2547),
]


def conversations_of(shared_data: Path, split: str) -> list[Conversation]:
    file = split_file(shared_data / "empathetic_dialogues", canonical_split(split))
    assert file is not None
    return read_conversations(file)


@pytest.mark.parametrize(("split", "conversations", "utterances", "clean", "published", "complete"), COUNTS)
def test_counts(shared_data, split, conversations, utterances, clean, published, complete):
    read = conversations_of(shared_data, split)
    instances = clean_instances(read)
    assert (len(read), sum(len(one.turns) for one in read)) == (conversations, utterances)
    assert (len(instances), len(published_instances(read))) == (clean, published)
    assert len(complete_dialogues(instances)) == complete
    assert len({one.id for one in instances}) == clean
    assert {one.emotion for one in instances} == set(EMOTIONS)


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_published_equals_the_paper(shared_data, split):
    with gzip.open(shared_data / "empathetic_dialogues" / f"paper_instances.{split}.jsonl.gz", "rt") as file:
        paper = [json.loads(line) for line in file]
    built = published_instances(conversations_of(shared_data, split))
    assert len({one.id for one in built}) == len(built) == len(paper)
    for ours, theirs in zip(built, paper, strict=True):
        assert [list(ours.turns), ours.reference] == [theirs["context"], theirs["target"]]
        assert [ours.emotion, ours.situation] == [theirs["emotion"], theirs["situation"]]
        assert list(ours.conversations) == theirs["conv_ids"]


@pytest.mark.parametrize("split", ["valid", "test"])
def test_original_form_reads_the_same(shared_data, tmp_path, split):
    """The shared files are quoted as CSV; the original has the same rows unquoted, worker numbers and more columns."""
    source = split_file(shared_data / "empathetic_dialogues", canonical_split(split))
    assert source is not None
    with gzip.open(source, "rt", newline="") as file:
        header, *rows = csv.reader(file)
    lines = [",".join(header)]
    for number, row in enumerate(rows):
        more = [",Sorry_comma_ no|What a day!"] if number % 3 == 0 else []
        lines.append(",".join([*row[:4], str(300 + number % 500), row[5], "5|5|5_4|4|5", "", *more]))
    original = tmp_path / f"{split}.csv"
    original.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
    assert any(line.count('"') % 2 for line in lines)
    assert read_conversations(original) == read_conversations(source)


def test_the_table_of_the_hub_reads_the_same(shared_data, tmp_path):
    """The hub has the columns of the official files, two of them as numbers."""
    pyarrow = pytest.importorskip("pyarrow", reason="tables need pyarrow")
    from pyarrow import parquet

    source = split_file(shared_data / "empathetic_dialogues", "test")
    assert source is not None
    lines = read_lines(source)
    at = columns_of(source, lines[0])
    rows = [{name: fields[place] for name, place in at.items()} for _, fields in rows_of(source, lines, at)]
    table = pyarrow.Table.from_pylist(
        [row | {name: int(row[name]) for name in ("utterance_idx", "speaker_idx")} for row in rows]
    )
    (tmp_path / "test").mkdir()
    parquet.write_table(table, tmp_path / "test" / "0000.parquet", row_group_size=1000)
    for instances in ("clean", "published"):
        assert load_dialogues(str(tmp_path), "test", instances) == load_dialogues(str(source), "test", instances)

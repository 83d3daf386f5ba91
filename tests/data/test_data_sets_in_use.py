"""Every form of data set with the commands that take it: counted, answered, and used as a pool."""

import json

import pytest

from localemp.runs.run import read_records

ESCONV = {
    "emotion_type": "anxiety",
    "situation": "My job is at risk.",
    "dialog": [
        {"speaker": "supporter", "annotation": {"strategy": "Others"}, "content": "Hello"},
        {"speaker": "seeker", "annotation": {}, "content": "I may lose my job.\n"},
        {"speaker": "supporter", "annotation": {"strategy": "Question"}, "content": "Why?\n"},
    ],
}
SAID = [{"role": "user", "content": "I may lose my job."}, {"role": "assistant", "content": "Why?"}]
SHARED = [{"from": "human", "value": "I may lose my job."}, {"from": "gpt", "value": "Why?"}]
ROWS = [
    {"conv_id": "c", "utterance_idx": n, "context": "afraid", "prompt": "p", "speaker_idx": n, "utterance": text}
    for n, text in enumerate(("I may lose my job.", "Why?"), 1)
]
DATA = {
    "ESConv.json": [ESCONV],
    "messages.jsonl": [{"messages": SAID}],
    "ShareGPT.json": [{"id": "a", "conversations": SHARED}],
    "mine.json": [{"turns": ["I may lose my job."], "reference": "Why?", "support_strategies": "Question"}],
    "messages.parquet": [{"messages": SAID}],
    "utterances.parquet": ROWS,
}


@pytest.fixture
def data(request, tmp_path):
    name, records = request.param, DATA[request.param]
    path = tmp_path / name
    if name.endswith("parquet"):
        pyarrow = pytest.importorskip("pyarrow", reason="tables need pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(records), path)
    else:
        path.write_text("\n".join(map(json.dumps, records)) if name.endswith("jsonl") else json.dumps(records))
    return path


@pytest.mark.parametrize("data", DATA, indirect=True)
def test_counted_answered_and_shown_as_an_exemplar(localemp, tmp_path, data):
    (counted,) = json.loads(localemp("data", "stats", data, "--json").stdout)["splits"].values()
    assert (counted["conversations"], counted["utterances"], counted["instances"]) == (1, 2, 1)
    (tmp_path / "script.jsonl").write_text('{"reply": "Oh no."}\n')
    done = localemp("generate", "--data", data, "--script", tmp_path / "script.jsonl", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    (record,) = read_records(tmp_path / "run")
    assert (record["turns"], record["reference"]) == (["I may lose my job."], "Why?")
    told = data.name in ("ESConv.json", "mine.json")
    assert record.get("support_strategies") == (["Question"] if told else None)
    words = ("--data", "samples", "--limit", 1, "--strategy", "few-shot", "--shots", 1, "--pool", data)
    done = localemp("generate", *words, "--script", tmp_path / "script.jsonl", "--out", tmp_path / "few")
    assert done.returncode == 0, done.stderr
    (shown,) = read_records(tmp_path / "few")
    assert [each["id"] for each in shown["exemplars"]] == [record["id"]]

"""`localemp knowledge` and what `generate` makes of it, with a tiny COMET."""

import json
import signal
import sqlite3

import pytest
from patience import patience, wait_until
from tiny_comet import save_tiny

from localemp.runs.run import read_manifest, read_records

pytestmark = pytest.mark.usefixtures("one_thread")
SENTENCE = "i my dog died got a new job and we were very happy lost it again today the cat sad"
WORDS = SENTENCE.split()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own."""
    monkeypatch.setenv("LOCALEMP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "commonsense" / "inferences.sqlite"


@pytest.fixture(scope="module")
def comet(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("comet"), positions=64)


@pytest.fixture
def data(tmp_path):
    """Writes dialogues and returns their file."""

    def write(count=6, name="talks.jsonl", start=0):
        said = [" ".join(WORDS[(i * k) % len(WORDS)] for k in range(1, 7)) for i in range(start, start + count)]
        lines = [{"id": f"d{i}", "turns": ["hello .", "oh .", f"{text} {i}"]} for i, text in enumerate(said)]
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
        return name

    return write


@pytest.fixture
def script(tmp_path):
    (tmp_path / "script.jsonl").write_text('{"reply": "Oh."}\n')
    return "script.jsonl"


def lines(path):
    header, *entries = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return header["knowledge"], entries


def answers(cache):
    with sqlite3.connect(cache) as database:
        return database.execute("SELECT count(*) FROM answers").fetchone()[0]


def test_infer_prints_a_table_and_json(localemp, comet):
    asked = ("knowledge", "infer", "my dog died", "i got a new job", "--comet", comet, "--keep", 2)
    shown = localemp(*asked, "--select", "relevant")
    assert shown.returncode == 0, shown.stderr
    assert "In the prompt" in shown.stdout
    assert "--select does not apply to --json" in localemp(*asked, "--select", "on-topic", "--json").stderr
    assert all(part in shown.stdout for part in ("my dog died", "i got a new job", "xIntent", "xReact", "Score", "-"))
    words = ("knowledge", "infer", "my dog died", "--comet", comet, "--json")
    (line,) = localemp(*words, "--relations", "xReact, oWant", "--beams", 3).stdout.splitlines()
    found = json.loads(line)
    assert (found["event"], list(found["inferences"])) == ("my dog died", ["xReact", "oWant"])
    scores = [score for _, score in found["inferences"]["xReact"]]
    assert 0 < len(scores) <= 3
    assert scores == sorted(scores, reverse=True)
    released = localemp(*words[:2], "I'm SAD.", *words[3:], "--variant", "released")
    assert json.loads(released.stdout)["event"] == "i am sad ."


def test_infer_says_what_was_cut(localemp, comet):
    long = "my dog died . " + "the cat " * 50
    (line,) = localemp("knowledge", "infer", long, "--comet", comet, "--json").stdout.splitlines()
    assert json.loads(line)["cut"] > len("my dog died . ")
    assert "characters did not fit the encoder" in localemp("knowledge", "infer", long, "--comet", comet).stdout


def test_build_then_generate_gives_the_prompts_of_inferring_on_the_fly(localemp, comet, data, script, tmp_path, cache):
    talks = data()
    built = localemp("knowledge", "build", "--data", talks, "--comet", comet, "--out", "K.jsonl")
    assert built.returncode == 0, built.stderr
    assert "6 dialogues: 30 queries answered now, 0 from the cache" in built.stdout
    header, entries = lines(tmp_path / "K.jsonl")
    assert (header["event"], header["beams"], len(header["comet_sha256"]), len(header["data_sha256"])) == (
        "context", 5, 64, 64,
    )  # fmt: skip
    assert [entry["id"] for entry in entries] == [f"d{i}" for i in range(6)]
    assert entries[0]["event"].startswith("hello . oh . i")
    words = ("generate", "--script", script, "--data", talks, "--strategy", "knowledge", "--select", "all")
    from_file = localemp(*words, "--knowledge", "K.jsonl", "--limit", 4, "--out", "file")
    assert from_file.returncode == 0, from_file.stderr
    cache.rename(cache.with_name("away.sqlite"))
    on_the_fly = localemp(*words, "--comet", comet, "--limit", 4, "--out", "fly")
    assert on_the_fly.returncode == 0, on_the_fly.stderr
    one, other = (
        {
            record["id"]: (record["inferences"], record["stages"][0]["messages"])
            for record in read_records(tmp_path / run)
        }
        for run in ("file", "fly")
    )
    assert one == other
    assert len(one) == 4
    settings = read_manifest(tmp_path / "fly")["settings"]
    assert (settings["comet_sha256"], settings["select"], settings["dtype"]) == (
        header["comet_sha256"],
        "all",
        "float32",
    )
    assert answers(cache) == 20
    again = localemp("knowledge", "build", "--data", talks, "--comet", comet, "--out", "again.jsonl")
    assert "10 queries answered now, 20 from the cache" in again.stdout
    assert lines(tmp_path / "again.jsonl") == (header, entries)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_stopped_in_the_middle_it_goes_on_and_nothing_is_inferred_twice(localemp, comet, data, tmp_path, cache, sent):
    words = ("knowledge", "build", "--data", data(480), "--comet", comet, "--out", "K.jsonl")
    process = localemp.start(*words)
    path = tmp_path / "K.jsonl"
    wait_until(lambda: path.exists() and path.read_bytes().count(b"\n") > 1, 120, process)
    process.send_signal(sent)
    _, error = process.communicate(timeout=patience(60))
    before, kept = path.read_bytes().count(b"\n") - 1, answers(cache)
    assert before == 256, "the cache keeps single batches, the file gets 256 dialogues at a time"
    assert kept >= 5 * before
    if sent == signal.SIGINT:
        assert process.returncode == 130
        assert f"stopped: {before} of 480 dialogues saved to K.jsonl" in error
        assert "run the same command again to resume" in error
        assert "Traceback" not in error
    path.write_bytes(path.read_bytes() + b'{"id": "d479", "ev')
    done = localemp(*words)
    assert done.returncode == 0, done.stderr
    assert f"resuming: {before} of 480 dialogues already in K.jsonl" in done.stderr
    assert f"480 dialogues: {2400 - kept:,} queries answered now, {kept - 5 * before:,} from the cache" in done.stdout
    assert [entry["id"] for entry in lines(path)[1]] == [f"d{i}" for i in range(480)]
    assert answers(cache) == 2400


def test_a_file_of_other_data_or_another_comet_is_refused(localemp, comet, data, script, tmp_path):
    localemp("knowledge", "build", "--data", data(3), "--comet", comet, "--out", "K.jsonl")
    words = ("generate", "--script", script, "--strategy", "knowledge", "--select", "all", "--knowledge", "K.jsonl")
    others = localemp(*words, "--data", data(3, "others.jsonl", start=5))
    assert others.returncode == 2
    assert "no commonsense inferences for dialogue 'd0': K.jsonl was made for other dialogues" in others.stderr
    assert "data_sha256" in others.stderr
    released = localemp(*words, "--data", "talks.jsonl", "--variant", "released")
    assert (released.returncode, 'event: "context" in the file, "last-utterance" now' in released.stderr) == (2, True)
    weights = save_tiny(tmp_path / "other", positions=48)
    another = localemp(*words, "--data", "talks.jsonl", "--comet", weights)
    assert (another.returncode, "comet_sha256: " in another.stderr) == (2, True)
    building = ("knowledge", "build", "--data", "talks.jsonl", "--out", "K.jsonl", "--comet")
    assert "comet_sha256: " in localemp(*building, weights).stderr
    fewer = localemp(*building, comet, "--beams", 3)
    assert (fewer.returncode, "beams: 5 in the file, 3 now" in fewer.stderr) == (2, True)
    other = localemp("knowledge", "build", "--data", "others.jsonl", "--out", "K.jsonl", "--comet", comet)
    assert (other.returncode, "data_sha256: " in other.stderr) == (2, True)


def test_a_damaged_store_is_set_aside_and_work_goes_on(localemp, comet, cache):
    cache.parent.mkdir(parents=True)
    cache.write_bytes(b"no database " * 1000)
    done = localemp("knowledge", "infer", "my dog died", "--comet", comet)
    assert done.returncode == 0, done.stderr
    assert "was damaged and is now inferences.damaged-1.sqlite" in done.stderr.replace("\n", "")
    assert answers(cache) == 5


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["infer", "  "], ["event 1 is empty"]),
        (["infer", "sad", "--relations", "xMood"], ["unknown relation 'xMood'", "xIntent, xNeed", "HinderedBy"]),
        (["infer", "sad", "--relations", ""], ["unknown relation ''"]),
        (["infer", "sad", "--relations", "oReact", "--comet", "five.toml"], ["not trained on the relation 'oReact'"]),
        (["infer", "sad", "--beams", "2", "--keep", "3"], ["keep is 3, but 2 beams"]),
        (["infer", "sad", "--comet", "no-bart"], ["cannot load a COMET checkpoint from"]),
        (["infer", "sad", "--comet", "empty"], ["config.json"]),
        (["infer", "sad", "--comet", "comet-maxi"], ["unknown model 'comet-maxi'", "comet-bart"]),
        (["infer", "sad", "--comet", "smollm2"], ["'chat', not 'commonsense'"]),
        (["build", "--data", "nowhere.jsonl", "--out", "K.jsonl"], ["nowhere.jsonl"]),
        (["build", "--data", "talks.jsonl", "--out", "K.jsonl.gz"], ["plain files only"]),
        (["build", "--data", "talks.jsonl", "--out", "talks.jsonl"], ["does not record how it was made"]),
        (["build", "--data", "talks.jsonl"], ["--out"]),
        (["build", "--data", "talks.jsonl", "--out", "K.jsonl", "--variant", "poem"], ["paper, released"]),
    ],
)
def test_bad_input_is_one_clear_error(localemp, comet, data, tmp_path, words, told):
    before = (tmp_path / data()).read_bytes()
    save_tiny(tmp_path / "no-bart")
    (tmp_path / "no-bart" / "config.json").write_text('{"model_type": "gpt2"}')
    (tmp_path / "empty").mkdir()
    (tmp_path / "five.toml").write_text(
        f'kind = "commonsense"\npath = {json.dumps(str(comet))}\nquery = "{{event}} {{relation}} [GEN]"\n'
        'relations = ["xReact"]\n'
    )
    given = [] if "--comet" in words else ["--comet", comet]
    done = localemp("knowledge", *words, *given)
    assert done.returncode in (1, 2)
    assert done.stderr.count("error:") + done.stderr.count("Error:") == 1
    for part in told:
        assert part in done.stderr
    assert (tmp_path / "talks.jsonl").read_bytes() == before

"""`localemp generate` and `runs`, with a scripted engine: the whole way from the command line to the run folder."""

import hashlib
import json
import signal
from pathlib import Path

import pytest
from patience import patience, wait_until
from tiny_encoder import save_tiny_encoder

from localemp.runs.run import default_folder, read_manifest, read_records

SAMPLES = Path(__file__).parents[1] / "samples.knowledge.jsonl"


@pytest.fixture
def script(tmp_path):
    """Writes a script for the scripted engine and returns its path."""

    def write(*entries, name="script.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), "utf-8")
        return path

    return write


@pytest.fixture
def data(tmp_path):
    """Twenty small dialogues."""
    path = tmp_path / "talks.jsonl"
    lines = [{"id": f"d{i}", "turns": [f"Story number {i}."], "emotion": "sad"} for i in range(20)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


def lines_of(run):
    return [json.loads(line)["id"] for line in (run / "responses.jsonl").read_text("utf-8").splitlines()]


def test_samples_are_answered_and_shown(localemp, script, tmp_path):
    done = localemp("generate", "--script", script({"reply": "I hear you."}), "--strategy", "knowledge", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert "I hear you." in done.stdout
    assert "12 replies, 0 failed" in done.stdout
    records = read_records(tmp_path / "run")
    assert [record["reply"] for record in records] == ["I hear you."] * 12
    assert all(record["inferences"] and record["inferences_dropped"] for record in records)
    assert "not chosen:" in localemp("runs", "show", "run", "--index", 0).stdout
    manifest = read_manifest(tmp_path / "run")
    assert manifest["settings"]["strategy"] == "knowledge"
    assert manifest["settings"]["select"] == "relevant"
    assert len(manifest["settings"]["select_encoder_sha256"]) == 64
    assert len(manifest["settings"]["select_feelings_sha256"]) == 64
    assert len(manifest["settings"]["data_sha256"]) == 64
    assert manifest["sessions"][0]["command"].startswith("localemp generate --script")


def test_the_same_command_again_does_nothing_twice(localemp, script, tmp_path):
    words = ("generate", "--script", script({"reply": "Oh."}), "--limit", 5)
    first, second = localemp(*words), localemp(*words)
    assert "resuming: 5 of 5 replies already in run" in second.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert len(lines_of(run)) == 5
    more = localemp(*words[:-1], 8)
    assert "8 replies" in more.stdout
    assert len(lines_of(run)) == 8
    assert first.returncode == second.returncode == more.returncode == 0


def test_dialogues_that_are_longer_than_the_encoder_sees_are_counted(localemp, script, tmp_path):
    save_tiny_encoder(tmp_path, tmp_path / "encoder")
    lines = [{"id": "a", "turns": ["cat " * 50, "oh", "my dog died"]}, {"id": "b", "turns": ["my dog died"]}]
    (tmp_path / "talks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    pool = {"id": "p", "turns": ["my dog died"], "reference": "I am sorry."}
    (tmp_path / "pool.jsonl").write_text(json.dumps(pool) + "\n")
    words = ("--data", "talks.jsonl", "--pool", "pool.jsonl", "--strategy", "similar", "--shots", 1, "--out", "run")
    done = localemp(
        "generate", "--script", script({"reply": "Oh."}), "--encoder", tmp_path / "encoder", *words,
        env={"LOCALEMP_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = "similar: 1 of 2 dialogues have more than the 16 tokens that the encoder sees"
    assert done.stderr.count(said) == 1
    assert read_manifest(tmp_path / "run")["sessions"][0]["notes"][0].startswith(said)
    scores = [record["exemplars"][0]["score"] for record in read_records(tmp_path / "run")]
    assert scores[1] == pytest.approx(1, abs=0.01)


def test_another_setting_is_refused_with_the_difference(localemp, script):
    words = ("generate", "--script", script({"reply": "Oh."}), "--out", "run", "--limit", 2)
    localemp(*words)
    done = localemp(*words, "--strategy", "two-stage", "--max-tokens", 7)
    assert done.returncode == 1
    assert 'strategy: "zero-shot" in the run, "two-stage" now' in done.stderr
    assert "sampling" in done.stderr
    assert "--out" in done.stderr


def test_a_failed_dialogue_is_a_line_and_can_be_retried(localemp, script, data, tmp_path):
    failing = script({"match": "number 3.", "error": "engine"}, {"reply": "Oh."})
    words = ("generate", "--script", failing, "--data", data, "--out", "run")
    done = localemp(*words)
    assert done.returncode == 1
    assert "19 replies, 1 failed" in done.stdout
    assert "d3" in localemp("runs", "show", "run", "--errors").stdout
    assert localemp(*words).returncode == 1, "without --retry-errors it is not asked again"
    script({"reply": "Better now."})
    done = localemp(*words, "--retry-errors")
    assert done.returncode == 0, done.stderr
    assert {record["id"]: record.get("reply") for record in read_records(tmp_path / "run")}["d3"] == "Better now."


def test_a_fatal_error_stops_and_keeps_what_was_finished(localemp, script, data, tmp_path):
    fatal = script({"match": "number 9.", "error": "fatal", "seconds": 0.5}, {"reply": "Oh."})
    done = localemp("generate", "--script", fatal, "--data", data, "--out", "run", "--concurrency", 4)
    assert done.returncode == 1
    assert done.stderr.count("error:") == 1
    assert "d0" in lines_of(tmp_path / "run")
    assert "d9" not in lines_of(tmp_path / "run")
    assert f"stopped: {len(lines_of(tmp_path / 'run'))} of 20 replies saved to run" in done.stderr


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_stopped_in_the_middle_it_goes_on(localemp, script, data, tmp_path, sent):
    slow = script({"match": "number 3.", "reply": "Oh.", "seconds": 600}, {"reply": "Oh."})
    words = (
        "generate",
        "--script",
        slow,
        "--data",
        data,
        "--out",
        "run",
        "--strategy",
        "two-stage",
        "--concurrency",
        2,
    )
    process = localemp.start(*words)
    run = tmp_path / "run" / "responses.jsonl"
    wait_until(lambda: run.exists() and run.stat().st_size, process=process)
    process.send_signal(sent)
    _, error = process.communicate(timeout=patience(60))
    before = lines_of(run.parent)
    assert 0 < len(before) < 20
    if sent == signal.SIGINT:
        assert process.returncode == 130
        assert f"stopped: {len(before)} of 20 replies" in error
        assert "run the same command again to resume" in error
        assert "Traceback" not in error
    script({"reply": "Oh."})
    done = localemp(*words)
    assert done.returncode == 0, done.stderr
    after = lines_of(run.parent)
    assert after[: len(before)] == before
    assert sorted(after) == sorted(f"d{i}" for i in range(20)), "nothing lost, nothing twice"


def test_runs_are_listed_and_shown_with_their_stages(localemp, script, data):
    localemp("generate", "--script", script({"reply": "Oh."}), "--data", data, "--limit", 2, "--strategy", "two-stage",
             "--given", "emotion", "--out", "runs/mine")  # fmt: skip
    listed = localemp("runs", "list")
    assert "runs/mine" in listed.stdout
    assert "two-stage" in listed.stdout
    shown = localemp("runs", "show", "runs/mine", "--index", 1)
    assert "Story number 1." in shown.stdout
    assert "Stage 1: feeling" in shown.stdout
    assert "emotion may be sad." in shown.stdout
    assert json.loads(localemp("runs", "show", "runs/mine", "--index", 0, "--json").stdout)["id"] == "d0"
    assert "Story number 1." in localemp("runs", "show", "runs/mine", "--id", "d1").stdout
    outside = localemp("runs", "show", "runs/mine", "--index", 2)
    assert (outside.returncode, "--index 2: runs/mine has 2 dialogues, 0 to 1" in outside.stderr) == (2, True)


def test_data_is_shown_as_it_is(localemp, script, tmp_path):
    line = {"id": "[/red]x[bold]", "turns": ["[/b] \x1b[2J hello " + "very " * 500], "emotion": "[/]"}
    (tmp_path / "odd.jsonl").write_text(json.dumps(line) + "\n")
    words = ("--script", script({"reply": "[/i] oh \x1b[31m"}), "--data", "odd.jsonl", "--out", "run[b]")
    done = localemp("generate", *words)
    assert done.returncode == 0, done.stderr
    shown = localemp("runs", "show", "run[b]", "--index", 0)
    listed = localemp("runs", "list", ".")
    assert "[/red]x[bold]" in done.stdout.replace("\n", "")
    assert "[/i] oh" in done.stdout
    assert "[/b]" in shown.stdout
    assert "run[b]" in listed.stdout
    assert "\x1b" not in done.stdout + shown.stdout


def test_a_damaged_run_does_not_hide_the_others(localemp, script, tmp_path):
    localemp("generate", "--script", script({"reply": "Oh."}), "--limit", 1, "--out", "runs/good")
    (tmp_path / "runs" / "bad").mkdir()
    (tmp_path / "runs" / "bad" / "manifest.json").write_text("{")
    listed = localemp("runs", "list")
    assert "runs/good" in listed.stdout
    assert "damaged" in listed.stdout
    assert "warning: runs/bad/manifest.json: the manifest is damaged: " in listed.stderr
    assert localemp("runs", "list", "nowhere").returncode == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--strategy", "telepathy"], ["unknown strategy 'telepathy'", "known: zero-shot, few-shot"]),
        (["--strategy", "similar+few-shot"], ["exclude each other"]),
        (["--variant", "nope"], ["unknown prompt variant 'nope'", "paper, released"]),
        (["--model", "gpt-9"], ["unknown model 'gpt-9'", "`localemp models list` lists all", "Hugging Face id"]),
        (["--data", "missing.jsonl"], ["missing.jsonl", "samples"]),
        (["--data", "ED", "--split", "dev2"], ["dev2", "train, valid, test"]),
        (["--split"], ["requires an argument"]),
        (["--colour", "red"], ["--colour"]),
        (["--layout", "poem"], ["chat", "transcript"]),
        (["--given", "mood", "--strategy", "two-stage"], ["emotion", "situation"]),
        (["--strategy", "few-shot", "--shot-indices", "1;2"], ["--shot-indices", "3,14,15"]),
        (["--strategy", "few-shot", "--shot-indices", "100000"], ["100000", "rows 0 to"]),
        (["--strategy", "few-shot", "--shots", "5000"], ["5000"]),
        (["--engine-arg", "tensor_parallel_size"], ["NAME=VALUE"]),
        (["--limit", "0"], ["--limit"]),
        (["--data", "bad.jsonl"], ["bad.jsonl, line 2"]),
        (["--data", "listener.jsonl"], ["listener.jsonl, line 1", "listener"]),
        (["--data", "turnless.jsonl"], ["turnless.jsonl: an unknown form", "localemp's own has turns"]),
        (["--data", "empty.jsonl"], ["empty.jsonl"]),
        (
            ["--data", "talks.jsonl", "--strategy", "knowledge", "--knowledge", SAMPLES, "--select", "all"],
            ["no commonsense inferences for dialogue 'd0'", "--comet", "--knowledge file"],
        ),
        (["--select", "all"], ["--select applies to knowledge"]),
        (["--strategy", "knowledge", "--select", "some"], ["relevant", "all"]),
        (["--data", "talks.jsonl", "--strategy", "two-stage", "--given", "situation"], ["'d0' has no situation"]),
        (["--comet", "nowhere", "--strategy", "knowledge"], ["nowhere"]),
        (["--script", "nothing.jsonl"], ["nothing.jsonl"]),
        (["--given", "emotion"], ["--given applies to two-stage"]),
        (["--knowledge", "talks.jsonl"], ["--knowledge applies to knowledge"]),
        (["--split", "testing"], ["unknown split 'testing'", "train, valid, test"]),
        (["--temperature", "nan"], ["--temperature nan"]),
        (["--variant", "mine.toml"], ["mine.toml: no such file"]),
        (["--show", "-1"], ["--show"]),
    ],
)
def test_bad_input_is_one_clear_error(localemp, script, data, tmp_path, words, told):
    (tmp_path / "ED").mkdir()
    (tmp_path / "ED" / "test.csv").write_text(
        "conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags\n"
        "c,1,sad,It rained.,0,It rained.,,\nc,2,sad,It rained.,1,Oh.,,\n"
    )
    (tmp_path / "bad.jsonl").write_text('{"turns": ["Hi."]}\n{"turns": \n')
    (tmp_path / "listener.jsonl").write_text('{"turns": ["Hi.", "Hello."]}\n')
    (tmp_path / "turnless.jsonl").write_text('{"id": "x"}\n')
    (tmp_path / "empty.jsonl").write_text("")
    scripted = () if "--model" in words or "--script" in words else ("--script", script({"reply": "Oh."}))
    done = localemp("generate", *scripted, *words)
    assert done.returncode == 2, done.stderr
    assert all(text in done.stderr for text in told), done.stderr
    assert not (tmp_path / "runs").exists(), "nothing is made before the settings are good"


def test_no_secret_reaches_a_file_or_what_is_shown_of_it(localemp, script, tmp_path):
    words = ("generate", "--script", script({"reply": "Oh."}), "--out", "run")
    url = "http://me:SECRET@127.0.0.1:1/v1"
    assert localemp(*words, "--limit", 2, "--engine-arg", "hf_token=SECRET", "--base-url", url).returncode == 0
    assert localemp(*words, "--limit", 3, "--engine-arg=api-key=SECRET").returncode == 0, "another key is no other run"
    shown = localemp("runs", "show", "run").stdout
    assert shown.count("--engine-arg") == 2
    assert localemp("score", "run", "--no-bertscore").returncode == 0
    assert localemp("report", "run", "--html", "report.html").returncode == 0
    assert "SECRET" not in shown
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"SECRET" in path.read_bytes()]


def test_a_default_folder_does_not_depend_on_secrets(tmp_path, monkeypatch):
    def settings(key):
        return {"model": "m", "strategy": "zero-shot", "engine_args": {"hf_token": key}}

    monkeypatch.chdir(tmp_path)
    folder = default_folder(settings("FIRST"))
    assert folder == default_folder(settings("SECOND"))
    # Older versions took the key for a setting like any other; what they began goes on.
    digest = hashlib.sha256(json.dumps(settings("FIRST"), sort_keys=True).encode()).hexdigest()[:8]
    old = Path("runs") / f"m-zero-shot-{digest}"
    old.mkdir(parents=True)
    assert default_folder(settings("FIRST")) == old != folder
    assert default_folder(settings("SECOND")) == folder


def test_the_share_of_truncated_replies_is_said_and_they_can_be_trimmed(localemp, script, data, tmp_path):
    told = {"reply": "I am sorry. What hap", "ends": "length"}
    words = ("generate", "--script", script({"match": "number 3.", "reply": "Oh."}, told), "--data", data)
    line = "truncated at --max-tokens 128: 19 of 20 replies (95 %)"
    done = localemp(*words, "--out", "cut")
    assert line in done.stdout
    assert "hint: raise --max-tokens, or cut such replies" in done.stderr
    assert f"{line}; raise --max-tokens" in localemp("runs", "show", "cut").stdout
    done = localemp(*words, "--out", "trimmed", "--trim-to-sentence")
    assert f"{line}, cut at their last whole sentence\n" in done.stdout
    replies = {record["id"]: (record["reply"], record["raw"]) for record in read_records(tmp_path / "trimmed")}
    assert replies["d0"] == ("I am sorry.", "I am sorry. What hap")
    assert replies["d3"] == ("Oh.", "Oh.")
    other = localemp(*words, "--out", "cut", "--trim-to-sentence")
    assert "trim_to_sentence: not set in the run, true now" in other.stderr
    scored = localemp("score", "cut", "trimmed", "--metric", "Length").stdout
    assert f"cut: {line}\n" in scored
    assert "note: truncated replies are scored as they stand; raise --max-tokens" in scored
    assert localemp("report", "cut", "trimmed", "--markdown", "tables.md").returncode == 0
    tables = (tmp_path / "tables.md").read_text()
    assert f"cut: {line}; scripted zero-shot: trimmed: {line}, cut at their last whole sentence. Truncated" in tables
    assert "| Truncated % |" in tables and "95.0 |" in tables
    asked = ("respond", "--script", script(told), "--max-tokens", 9, "Oh no")
    assert "the reply was truncated: raise --max-tokens, or cut it" in localemp(*asked).stderr
    assert localemp(*asked, "--trim-to-sentence").stdout == "I am sorry.\n"

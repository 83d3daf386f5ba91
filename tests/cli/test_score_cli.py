"""`localemp score`, on runs and files that are written here."""

import json

import pytest

from localemp.metrics.scoring import read_scores


@pytest.fixture
def run(tmp_path):
    def write(name, texts, feeling=None, dialogues=None):
        folder = tmp_path / name
        folder.mkdir()
        manifest = {"settings": {"model": name}, "sessions": [{"dialogues": dialogues or len(texts)}]}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        lines = []
        for number, text in enumerate(texts):
            stages = [{"name": "feeling", "text": feeling}] if feeling else []
            known = {"turns": ["My dog died."], "reference": "Oh no, I am so sorry.", "emotion": "sad"}
            lines.append(json.dumps({"id": f"d{number}", "reply": text, "stages": stages, **known}) + "\n")
        (folder / "responses.jsonl").write_text("".join(lines))
        return name

    return write


def test_a_table_and_scores_beside_the_run(localemp, run, tmp_path):
    done = localemp("score", run("two", ["Oh no, I am sorry.", "Oh."], "Sad, I think."), "--no-bertscore")
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in ("Dist-1", "Dist-2", "B-2", "B-4", "Acc", "two", "100.00"))
    assert "Macro-F1" not in done.stdout
    assert "BERT" not in done.stdout
    assert read_scores(tmp_path / "two" / "scores.json").score("Acc").value == 100


def test_verbose_has_second_columns_and_signatures(localemp, run):
    done = localemp("score", run("plain", ["Oh no."]), "--no-bertscore", "--verbose")
    assert "Macro-F1" in done.stdout
    assert "plain, B-2: b-2|order:2|tokens:nltk word_tokenize" in done.stdout
    assert "n/a: Acc, Acc variants, Macro-F1, No label: nothing names the emotion" in done.stdout


def test_only_the_named_metrics_are_computed_and_the_others_kept(localemp, run, tmp_path):
    name = run("mine", ["Oh no.", "I see."])
    assert localemp("score", name, "--no-bertscore").returncode == 0
    done = localemp("score", name, "--metric", "B-2 lower", "--metric", "Dist-1")
    assert "B-4" not in done.stdout
    assert "Dist-1" in done.stdout
    assert "Secondary metrics" in done.stdout
    assert read_scores(tmp_path / "mine" / "scores.json").score("Dist-2").value == 100
    wrong = localemp("score", name, "--metric", "Dist")
    assert wrong.returncode == 2
    assert "Dist-1" in wrong.stderr and "Traceback" not in wrong.stderr
    both = localemp("score", name, "--metric", "F_BERT", "--no-bertscore")
    assert "--metric asks for BERTScore, --no-bertscore refuses it" in both.stderr


def test_json_has_every_score_with_its_signature(localemp, run):
    done = localemp("score", run("a", ["Oh no."]), run("b", ["", ""], dialogues=9), "--no-bertscore", "--json")
    told = json.loads(done.stdout)
    assert [system["name"] for system in told["systems"]] == ["a", "b"]
    assert "not finished: 2 of 9 dialogues" in told["systems"][1]["notes"]
    empty = told["systems"][1]["scores"][0]
    assert (empty["name"], empty["value"]) == ("Dist-1", None)
    assert empty["reason"] == "the replies have too few words"
    assert empty["signature"]["order"] == 1
    assert "same dialogues" in told["notes"][0]


def test_other_items_are_said_and_common_ones_are_scored(localemp, run, tmp_path):
    long, short = run("long", ["Oh no.", "I see.", "Fine."]), run("short", ["Oh dear me.", "Yes."])
    apart = localemp("score", long, short, "--no-bertscore")
    assert "did not answer the same dialogues (long 3, short 2)" in apart.stdout
    assert "100.00*" in apart.stdout
    before = (tmp_path / "long" / "scores.json").read_bytes()
    together = localemp("score", long, short, "--no-bertscore", "--common")
    assert "*" not in together.stdout
    assert "scored on the 2 dialogues that all systems answered, of its 3" in together.stdout
    assert (tmp_path / "long" / "scores.json").read_bytes() == before


def test_bertscore_without_its_model_leaves_the_others(localemp, run):
    env = {"HF_HUB_OFFLINE": "1", "COLUMNS": "80"}
    done = localemp("score", run("a", ["Oh no."]), "--bertscore-model", "./no-such-folder", env=env)
    assert done.returncode == 2, "the model was named by the person"
    assert "error: --bertscore-model ./no-such-folder: " in done.stderr
    heads = ["System", "Replies", "Dist-1", "Dist-2", "P_BERT", "R_BERT", "F_BERT", "B-2", "B-4", "Acc"]
    assert done.stdout.splitlines()[1].split() == heads, "all fit into 80 columns"
    assert "n/a: P_BERT, R_BERT, F_BERT: " in done.stdout
    assert "100.00" in done.stdout


def test_files_made_elsewhere(localemp, tmp_path):
    lines = [{"id": str(n), "reply": text, "reference": "Oh no!"} for n, text in enumerate(["oh no !", "i see ."])]
    (tmp_path / "theirs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ("score", "--import", "jsonl", "theirs.jsonl", "--no-bertscore")
    done = localemp(*words)
    assert done.returncode == 0, done.stderr
    assert "B-2 lower" in done.stdout
    assert "replies in lower case" in done.stdout
    assert (tmp_path / "theirs.jsonl.scores.json").exists()
    localemp(*words, "--out", "here.json")
    assert read_scores(tmp_path / "here.json").source["format"] == "jsonl"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "nothing to score"),
        (("none",), "is not a run"),
        (("--import", "nonsense", "x"), "unknown format"),
        (("--import", "jsonl", "no.jsonl"), "no.jsonl"),
        (("a", "--data", "samples"), "--data does nothing without --import"),
        (("a", "b", "--out", "x.json"), "--out is for the scores of one system"),
        (("a", "--out", "no/x.json"), "cannot be written"),
    ],
)
def test_bad_input(localemp, run, words, said):
    run("a", ["Oh."])
    run("b", ["Oh."])
    done = localemp("score", *words, "--no-bertscore")
    assert done.returncode in (1, 2)
    assert said in done.stderr


def test_a_run_that_cannot_be_written_is_scored_all_the_same(localemp, run, tmp_path):
    (tmp_path / run("a", ["Oh no."]) / "scores.json").mkdir()
    done = localemp("score", "a", "--no-bertscore")
    assert done.returncode == 0, done.stderr
    assert "the scores of a are not kept" in done.stdout
    assert "100.00" in done.stdout


def test_an_aspect_without_a_name_is_refused(localemp, tmp_path):
    shown = localemp("score", tmp_path, "--judge", "smollm2", "--judge-aspect", "")
    assert shown.returncode == 2
    assert "--judge-aspect" in shown.stderr and "it is empty" in shown.stderr

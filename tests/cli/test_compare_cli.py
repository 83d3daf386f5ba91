"""`localemp compare` on small runs."""

import json
import sys

import pytest
from tiny_roberta import LAYER, save_tiny_roberta

from localemp.cli.display import Display
from localemp.dialogue import Dialogue, Message
from localemp.engines.base import Completion
from localemp.runs.run import Run, response_record
from localemp.strategies.base import Response, Stage
from localemp.utils.config_diff import compare_settings
from localemp.utils.progress import Progress

QUICK = ("--samples", 100)
# The paper's metrics but BERTScore: those of the other tables do not matter here.
PAPERS = tuple(word for name in ("Dist-1", "Dist-2", "B-2", "B-4", "Acc") for word in ("--metric", name))


@pytest.fixture
def made(tmp_path):
    """Writes a run in the folder where the command runs."""

    def write(name, replies, feelings=None, reference="What happened?", **settings):
        with Run.open(tmp_path / name, {"model": "scripted", "strategy": "zero-shot", **settings}) as run:
            for place, (item, reply) in enumerate(replies.items()):
                said = [("reply", reply)] if feelings is None else [("feeling", feelings[place]), ("reply", reply)]
                stages = tuple(
                    Stage(stage, (Message("user", "Hi."),), Completion(text, "stop", 3, 2, seconds=0.5))
                    for stage, text in said
                )
                turns = ("Hello.", "Oh.", f"My [bold]dog[/bold] is\x1b[31m ill, {item}.")
                dialogue = Dialogue(item, turns, emotion="sad", reference=reference)
                run.append(response_record(Response(dialogue, reply, reply, stages)))
        return name

    return write


@pytest.fixture
def two(made):
    ids = [f"d{number}" for number in range(40)]
    first = made("runs/one", dict.fromkeys(ids, "I am so sorry to hear that."))
    second = {item: f"What happened to number {item}?" for item in ids[4:]} | {"other": "Oh."}
    return first, made("runs/two", second, ["sad"] * 30 + ["proud"] * 7, strategy="two-stage", data_sha256="ab")


def test_two_runs_are_compared_on_what_both_answered(localemp, two):
    done = localemp("compare", *two, *PAPERS, "--show", 2, *QUICK)
    assert (done.returncode, done.stdout.count("│ Dist-")) == (0, 2), done.stderr
    for line in (
        "A: runs/one, 40 replies",
        "B: runs/two, 37 replies",
        '   strategy: "zero-shot" in A, "two-stage" in B',
        '   data_sha256: not set in A, "ab" in B',
        "note: on the 36 dialogues that are in both, of 40 and 37",
        "36 dialogues",
        "n/a: Acc: one: nothing names the emotion (a stage called feeling does, and some files)",
        "p: approximate randomisation, two-sided, 100 samples, seed 0; Holm: over 4 p-values",
        "intervals: paired bootstrap, the same samples; jackknife: Dist-1, Dist-2",
        "paired t-tests over the dialogues, B - A, two-sided, not corrected: none",
        "   B-2: n/a: the difference is the same for every dialogue",
        "   Dist-1, Dist-2, B-4: n/a: a single reply has no value",
        "Where they differ most by chrF (it puts dialogues in order, and judges none):",
    ):
        assert line in [shown.rstrip() for shown in done.stdout.splitlines()]
    assert "B-2 lower" not in done.stdout
    assert r"Speaker: My [bold]dog[/bold] is\x1b[31m ill, d" in done.stdout
    assert done.stdout.count("Person: What happened?") == 2
    assert "\x1b" not in done.stdout


def test_json_has_everything_and_the_same_seed_gives_the_same(localemp, two):
    command = ("compare", *two, "--metric", "B-2", "--metric", "Dist-2", "--json", *QUICK)
    told = json.loads(localemp(*command).stdout)
    assert (told["items"], told["samples"], told["seed"], told["confidence"]) == (36, 100, 0, 0.95)
    assert [one["name"] for one in told["comparisons"]] == ["B-2", "Dist-2"]
    bleu, distinct = told["comparisons"]
    assert bleu["difference"] == pytest.approx(bleu["b"] - bleu["a"])
    assert bleu["interval"][0] <= bleu["difference"] <= bleu["interval"][1]
    assert (bleu["interval_by"], distinct["interval_by"]) == ("bootstrap", "jackknife")
    assert (bleu["p"], bleu["p_holm"]) == (1 / 101, 2 / 101)
    assert distinct["signature"]["order"] == 2
    assert distinct["signature"]["items_sha256"] == told["items_sha256"]
    assert told["a"]["source"]["settings"]["strategy"] == "zero-shot"
    assert len(told["dialogues"]["differ_most"]) == 5
    assert json.loads(localemp(*command).stdout) == told
    assert json.loads(localemp(*command, "--seed", 3).stdout)["seed"] == 3


def test_a_t_test_is_told_with_what_it_is_of_and_where_it_is_in_doubt(localemp, made):
    """What B gains in words of the reference: 1 of 40 dialogues."""
    replies = {f"d{n}": "What is it?" for n in range(40)}
    runs = (made("one", replies), made("two", replies | {"d0": "What happened?"}))
    done = localemp("compare", *runs, *PAPERS, "--show", 0, *QUICK)
    shown = [line.rstrip() for line in done.stdout.splitlines()]
    # 39 differences are 0: whatever the last one is, t is 1.
    assert "paired t-tests over the dialogues, B - A, two-sided, not corrected: B-2 t 1.00, p 0.323" in shown
    assert "   B-2: of single replies, whose mean the value above is not" in shown
    assert "   B-2: in doubt: more than half of the differences are 0" in shown
    assert any(line.startswith("   B-2: in doubt: too few for differences as skewed as these") for line in shown)


def test_without_scipy_a_t_test_says_what_to_install(localemp, made, monkeypatch):
    runs = (made("one", {"a": "Oh.", "b": "What?"}), made("two", {"a": "What?", "b": "What happened?"}))
    monkeypatch.setitem(sys.modules, "scipy", None)  # not installed
    done = localemp("compare", *runs, *PAPERS, "--show", 0, *QUICK)
    assert done.returncode == 0, done.stderr
    assert "   B-2: n/a: a t-test needs scipy: pip install 'localemp[study]'" in done.stdout
    assert "B-4" in done.stdout


def test_verbose_shows_second_columns_and_signatures(localemp, two):
    shown = localemp("compare", *two, "--no-bertscore", "--show", 0, "-v", *QUICK).stdout
    assert "│ B-4 13a" in shown
    assert "B-2 lower: b-2 lower|order:2|" in shown
    assert "differ most" not in shown


def test_the_same_run_twice_is_said(localemp, two):
    done = localemp("compare", two[0], f"./{two[0]}", *PAPERS, *QUICK)
    assert "note: A and B are the same run" in done.stdout
    assert "note: both gave the same reply everywhere" in done.stdout
    assert "nowhere" in done.stdout
    assert done.stdout.count("1.000") == 8, "p and Holm's, four times"


def test_bertscore_by_a_model_that_is_at_hand(localemp, two, tmp_path):
    model = save_tiny_roberta(tmp_path / "tiny")
    command = ("compare", *two, "--bertscore-model", f"{model}:{LAYER}", "--metric", "F_BERT", "--json", *QUICK)
    told = json.loads(localemp(*command).stdout)
    (score,) = told["comparisons"]
    assert (score["name"], score["signature"]["layer"], told["dialogues"]["measure"]) == ("F_BERT", LAYER, "F_BERT")
    assert 0 < score["a"] < 1


def test_without_its_model_bertscore_has_none_and_says_why(localemp, two):
    words = [*PAPERS, *(word for name in ("P_BERT", "R_BERT", "F_BERT") for word in ("--metric", name))]
    done = localemp("compare", *two, *words, "--bertscore-model", "nobody/none", "--show", 0, *QUICK)
    assert done.returncode == 0
    assert "n/a: P_BERT, R_BERT, F_BERT: the weights of nobody/none are not on this machine" in done.stdout
    assert "│ B-4" in done.stdout
    assert "Holm: over 4 p-values" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ("runs/one", "runs/far"),
            2,
            "no dialogue is in both: one has 40 ids such as 'd0', 'd1'; far has 'line-1'",
        ),
        (("runs/one", "runs/none"), 1, "runs/none is not a run"),
        (("runs/one", "runs/empty"), 1, "runs/empty: no replies yet"),
        (("runs/one", "runs/two", "--metric", "Dist-9"), 2, "unknown metric 'Dist-9'"),
        (("runs/one", "runs/two", "--metric", "F_BERT", "--no-bertscore"), 2, "--no-bertscore refuses it"),
        (("runs/one", "runs/two", "--samples", 5), 2, "--samples"),
    ],
)
def test_what_cannot_be_compared_is_an_error(localemp, two, made, words, code, said):
    made("runs/far", {"line-1": "Oh.", "line-2": "No."})
    made("runs/empty", {})
    done = localemp("compare", *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr


def test_one_dialogue_without_reference(localemp, made):
    runs = (made("one", {"a": "Oh no."}, reference=None), made("two", {"a": ""}, reference=None))
    shown = localemp("compare", *runs, *PAPERS, *QUICK).stdout
    assert "n/a: Dist-1, Dist-2: two: the replies have too few words" in shown
    assert "n/a: B-2, B-4: no reference replies" in shown
    assert "note: fewer than 30 dialogues" in shown
    assert "no reference replies to put the dialogues in order by" in shown


def test_hashes_are_shortened_and_missing_settings_named():
    lines = compare_settings({"weights": "a" * 64}, {"weights": "b" * 64, "seed": 1}, "in A", "in B")
    assert lines == ["seed: not set in A, 1 in B", f"weights: {'a' * 12}… in A, {'b' * 12}… in B"]


def test_in_a_file_an_interrupted_bar_leaves_no_line(capfd):
    with Display() as display:
        display.on_progress(Progress("Comparing", 2, 8, "metrics"))
        display.on_progress(Progress("Reading for BERTScore", 4, 4, "texts"))
        display.on_progress(Progress("Comparing", 8, 8, "metrics"))
    said = capfd.readouterr().err
    assert (said.count("Comparing"), said.count("Reading for BERTScore")) == (1, 1)
    assert "\n\n" not in f"\n{said}"

"""`localemp study power`, with and without a pilot, and what `study create` says of the size that was chosen."""

import json
import subprocess
import sys

import numpy as np
import pytest
from simulated import Raters, as_votes, judged
from small_runs import make_run
from small_study import ASPECTS, small_study

from localemp.commands.study import power
from localemp.errors import OptionError, RunError, UnknownNameError
from localemp.studies.answers import AnswerStore
from localemp.studies.collected_votes import read_votes
from localemp.studies.create import create_study, replies_of_items
from localemp.studies.questionnaire import load_questionnaire
from localemp.studies.stats.matrix import RatingMatrix
from localemp.studies.stats.pilot import pilot_figures
from localemp.studies.stats.power import Design, dialogues_needed, smallest_effect, t_test_power
from localemp.studies.votes import Vote
from localemp.utils.extras import install_command


@pytest.fixture(scope="module")
def pilot(tmp_path_factory):
    """An A/B study of 40 dialogues that three people have answered, and a judge."""
    made = small_study(tmp_path_factory.mktemp("studies") / "pilot", items=40)
    draw = np.random.default_rng(2)
    answers = AnswerStore(made.folder / "answers.sqlite", made)
    for aspect in ASPECTS:
        values, ahead = Raters(tie=0.35, agree=0.7).votes(40, draw)
        answers.put_all(as_votes(made, values, aspect, ahead))
    answers.close()
    judged(made, "tiny", lambda item, aspect: 0.0)
    return made


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    """A rating study of 30 dialogues that three people have answered."""
    made = small_study(tmp_path_factory.mktemp("studies") / "rated", "rating", items=30)
    draw = np.random.default_rng(3)
    answers = AnswerStore(made.folder / "answers.sqlite", made)
    answers.put_all(
        [
            Vote(f"r{rater}", item.id, aspect, int(draw.integers(1, 6)), reply=reply.key)
            for item in made.items
            for reply in item.replies
            for aspect in ASPECTS
            for rater in range(3)
        ]
    )
    answers.close()
    return made


def test_the_command_says_size_test_and_assumptions(localemp):
    done = localemp("study", "power", "--effect", 0.1, "--raters", 3)
    assert (done.returncode, done.stderr) == (0, "")
    size = dialogues_needed(Design(raters=3), 0.1)
    lines = done.stdout.splitlines()
    told = f"{size} dialogues, 3 raters: a difference of 0.1 (45 : 35 : 20 ties) is found with a power of 80 %"
    assert lines[0] == told
    assert lines[1] == "test: paired t-test over dialogues, two-sided, p < 0.05, as in `study report`"
    assert lines[2].startswith("majorities: their exact binomial test has a power of ")
    assert "ties: 0.2 (default: the mean of the paper's Table 4)" in lines
    (row,) = (line.split() for line in lines if line.split()[:1] == ["3"])
    assert row == ["3", *(str(dialogues_needed(Design(raters=3), 0.1, wanted)) for wanted in (0.8, 0.9, 0.95))]


def test_json_has_everything_unrounded(localemp):
    done = localemp("study", "power", "--effect", 0.4, "--kind", "rating", "--tests", 12, "--alpha", 0.01, "--json")
    told = json.loads(done.stdout)
    design = Design("rating", alpha=0.01, tests=12)
    assert told["design"] == {
        "kind": "rating", "raters": 3, "agreement": 0.25, "sd": 1.0, "alpha": 0.01, "tests": 12
    }  # fmt: skip
    assert (told["solved"], told["dialogues"]) == ("dialogues", dialogues_needed(design, 0.4))
    assert told["power"] == t_test_power(design, 0.4, told["dialogues"])
    assert told["majorities"] is None and told["pilot"] is None
    assert len(told["trade_offs"]) == 4 * 3
    assert told["test"] == "paired t-test over dialogues, two-sided"


def test_a_fixed_size_has_a_smallest_difference_and_a_power(localemp):
    found = power(dialogues=100, raters=4, power=0.7)
    assert (found.solved, found.effect) == ("effect", smallest_effect(Design(raters=4), 100, 0.7))
    assert found.power == pytest.approx(0.7)
    assert {each.raters for each in found.trade_offs} == {1, 2, 3, 4, 5}
    assert {each.power for each in found.trade_offs} == {0.7, 0.8, 0.9, 0.95}
    both = power(0.1, dialogues=100)
    assert (both.solved, both.power) == ("power", t_test_power(Design(), 0.1, 100))
    done = localemp("study", "power", "--dialogues", 100, "--ties", 0)
    assert "Smallest difference that is found" in done.stdout
    # In a table of other designs, what needs more than can be planned is said, too.
    done = localemp("study", "power", "--effect", 0.0022)
    assert ">1,000,000" in done.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "neither --effect nor --dialogues"),
        (("--effect", 0), "--effect 0: impossible"),
        (("--effect", -0.1), "--effect -0.1: impossible"),
        (("--effect", "nan"), "--effect nan: impossible"),
        (("--effect", 0.8), "--effect 0.8: with 20% ties nobody would prefer the other system"),
        (("--effect", 1e-5), "needs more than 1,000,000 dialogues"),
        (("--effect", 0.1, "--agreement", 1), "--agreement 1: impossible"),
        (("--effect", 0.1, "--raters", 0), "--raters 0: impossible"),
        (("--effect", 0.1, "--power", 1), "--power 1: impossible"),
        (("--effect", 0.1, "--kind", "rating", "--sd", "1e-300"), "--sd 1e-300: impossible"),
        (("--effect", 0.1, "--kind", "rating", "--sd", "1e300"), "--sd 1e+300: impossible"),
        (("--effect", 0.1, "--power", 0.04), "--power 0.04: impossible"),
        (("--effect", 0.1, "--sd", 1), "--sd says nothing about a study of kind ab"),
        (("--effect", 0.1, "--kind", "rating", "--ties", 0.1), "--ties says nothing about a study of kind rating"),
        (("--effect", 0.1, "--drop-failed"), "--drop-failed is about the raters of a pilot"),
        (("--dialogues", 1), "--dialogues 1: too small"),
        (("--dialogues", 2), "--dialogues 2: too few to find any difference"),
        (("--dialogues", 10**9), "--dialogues 1000000000: too many"),
        (("--effect", 0.1, "--dialogues", 9, "--power", 2), "--power 2: impossible"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_what_is_impossible_is_named(localemp, words, told):
    done = localemp("study", "power", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr and "hint: " in done.stderr


def test_a_pilot_gives_the_assumptions(localemp, pilot):
    people = [vote for vote in read_votes(pilot) if vote.kind == "person"]
    figures = pilot_figures(RatingMatrix.of(pilot, people))
    found = power(0.2, like=pilot.folder)
    assert (found.design.ties, found.design.agreement) == (figures.ties, figures.agreement)
    assert set(found.sources) == {"ties", "agreement"}
    assert (found.pilot.dialogues, found.pilot.answers) == (40, 360)
    given = power(0.2, like=pilot.folder, ties=0.1)
    assert (given.design.ties, given.design.agreement) == (0.1, figures.agreement)
    assert given.sources["ties"] == "given"
    done = localemp("study", "power", "--effect", 0.2, "--like", pilot.folder)
    assert f"ties: {figures.ties:.3g} ({pilot.folder})" in done.stdout
    assert "note: a pilot of 40 dialogues (360 answers): its figures are estimates" in done.stderr


def test_a_pilot_of_ratings_gives_their_spread(rated):
    found = power(0.5, like=rated.folder)
    assert found.design.kind == "rating"
    assert found.design.sd == pytest.approx(2**0.5, abs=0.15)  # whole numbers from 1 to 5, all as probable
    assert found.design.agreement < 0.2
    assert found.pilot.paired


def test_a_pilot_that_says_nothing_leaves_the_defaults(tmp_path):
    made = small_study(tmp_path / "one", items=3, aspects=("Empathy",))
    with pytest.raises(RunError, match="no answers of people yet"):
        power(0.1, like=made.folder)
    answers = AnswerStore(made.folder / "answers.sqlite", made)
    answers.put_all(as_votes(made, np.array([[1, 0, -1]]), "Empathy"))
    answers.close()
    found = power(0.1, like=made.folder)
    assert found.design.ties == pytest.approx(1 / 3)
    assert found.design.agreement == Design().agreement
    assert found.notes[0].endswith("says nothing about agreement: too few answers, or all are the same")


def test_raters_of_a_pilot_who_failed_its_checks_are_named_and_left_out_where_asked(tmp_path):
    lines = [{"id": n, "turns": ["Hi."], "replies": {"x": "1", "y": "2"}} for n in range(5)]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    systems = replies_of_items(tmp_path / "items.jsonl")
    made, _ = create_study(tmp_path / "s", systems, "ab", load_questionnaire(), sample=4, checks=1)
    answers = AnswerStore(made.folder / "answers.sqlite", made)
    for item in made.items:
        right = made.key.checks.get(item.id, {}).get("Empathy", item.replies[0].key)
        answers.put_all([Vote("ann", item.id, "Empathy", right), Vote("bob", item.id, "Empathy", "tie")])
    answers.close()
    everyone, careful = power(0.2, like=made.folder), power(0.2, like=made.folder, drop_failed=True)
    assert (everyone.pilot.answers, everyone.pilot.ties) == (8, 0.5)
    assert (careful.pilot.answers, careful.pilot.ties) == (4, 0)
    told = "raters who missed half of the attention checks or more: bob"
    assert everyone.notes[-1] == f"{told} (--drop-failed leaves them out)"
    assert careful.notes[-1] == f"{told} (left out)"


def test_raters_who_never_differ_are_planned_with_a_little_less(tmp_path):
    made = small_study(tmp_path / "equal", items=3, aspects=("Empathy",))
    answers = AnswerStore(made.folder / "answers.sqlite", made)
    answers.put_all(as_votes(made, np.array([[1, 0, -1], [1, 0, -1]]), "Empathy"))
    answers.close()
    found = power(0.1, like=made.folder)
    assert (found.pilot.agreement, found.design.agreement) == (1, 0.99)
    assert "never differ" in found.notes[0]


def test_a_pilot_of_another_kind_and_no_study_are_refused(pilot, tmp_path):
    with pytest.raises(OptionError, match="a study of kind ab, not rating"):
        power(0.1, kind="rating", like=pilot.folder)
    with pytest.raises(RunError, match="no study here"):
        power(0.1, like=tmp_path)
    with pytest.raises(UnknownNameError):
        power(0.1, kind="abc")


def test_create_says_what_the_size_finds(localemp):
    ids = [f"d{number}" for number in range(60)]
    for name in ("one", "two", "three"):
        make_run(localemp.folder / name, {i: f"{name} {i}." for i in ids})
    done = localemp("study", "create", "one", "two", "--sample", 50, "--checks", 5, "--out", "ab")
    effect = smallest_effect(Design(), 50)
    assert f"50 dialogues, 3 raters: a difference of {effect:.3g} (" in done.stdout
    assert "is found with a power of 80 % (`localemp study power` explains)" in done.stdout
    done = localemp("study", "create", "one", "two", "three", "--kind", "rating", "--sample", 50, "--out", "rated")
    # Three pairs of systems and four aspects share Holm's correction.
    effect = smallest_effect(Design("rating", tests=12), 50)
    assert f"50 dialogues, 3 raters: a difference of {effect:.3g} points is found" in done.stdout
    for words in (("one", "--kind", "rating"), ("one", "two", "--sample", 2), ("one", "two", "--sample", 1)):
        done = localemp("study", "create", *words, "--out", "-".join(map(str, words)))
        assert done.returncode == 0 and "study power" not in done.stdout


def test_without_scipy_studies_are_made_and_power_says_what_to_install(tmp_path):
    for name in ("one", "two"):
        make_run(tmp_path / name, {f"d{number}": f"{name} {number}." for number in range(20)})
    program = "import sys; sys.modules['scipy'] = None; from localemp.cli.main import main; main()"  # not installed

    def run(*words):
        command = [sys.executable, "-c", program, "study", *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    done = run("create", "one", "two", "--out", "mine")
    assert (done.returncode, "is found with a power" in done.stdout) == (0, False), done.stderr
    done = run("power", "--effect", 0.1)
    assert (done.returncode, done.stderr) == (
        1,
        f"error: power needs scipy, not installed here\nhint: {install_command('study')}\n",
    )

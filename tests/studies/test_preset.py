"""The paper's own design of a study: its words, its numbers, its way of counting; and designs of one's own."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from ports import free_port
from repository import REPOSITORY
from simulated import sheet
from small_runs import make_run
from small_study import small_study

from localemp.errors import OptionError, PromptError, UnknownNameError
from localemp.metrics.replies import Replies, Reply
from localemp.sampling import Sampling
from localemp.studies.answers import AnswerStore
from localemp.studies.create import create_study
from localemp.studies.judging.judge import Judge, questions
from localemp.studies.judging.prompts import JudgePrompts
from localemp.studies.questionnaire import load_questionnaire
from localemp.studies.report.results import study_results
from localemp.studies.report.tables import study_tables
from localemp.studies.schema import scale_labels
from localemp.studies.stats.correlation import correlations
from localemp.studies.stats.coverage import Coverage, coverage
from localemp.studies.stats.intervals import Bootstrap
from localemp.studies.stats.matrix import RatingMatrix
from localemp.studies.stats.ratings import means
from localemp.studies.study import ANSWERS, STUDY, Study
from localemp.studies.votes import Vote
from localemp.utils.paths import resource

ASKED = load_questionnaire()
ASPECTS = {
    "Empathy": "Whether the response shows an understanding of the user's feelings and experiences, and expresses "
    "appropriately.",
    "Coherence": "Whether the response is coherent and relevant to the context.",
    "Informativity": "Whether the response contains more valuable information.",
    "Fluency": "Whether the response is readable.",
}


def systems(*names, count=120):
    items = {name: tuple(Reply(f"d{n}", f"{name} {n}", turns=(f"I failed test {n}.",)) for n in range(count))
             for name in names}  # fmt: skip
    return [Replies(name, said, {"run": name}) for name, said in items.items()]


def notes(table):
    return "\n".join(note.text for note in table.notes)


def answered(study, ratings):
    """A study with ratings by rater, item and system; every aspect has the same."""
    answers = AnswerStore(study.folder / ANSWERS, study)
    key = {(item.id, study.key.systems[reply.key]): reply.key for item in study.items for reply in item.replies}
    answers.put_all(
        [
            Vote(rater, item.id, aspect.name, value, key[item.id, system])
            for rater, by_system in ratings.items()
            for system, values in by_system.items()
            for item, value in zip(study.items, values, strict=True)
            if value
            for aspect in study.manifest.aspects
        ]
    )
    answers.close()


# The words


def test_what_is_said_to_be_the_papers_words_is_in_the_paper():
    path = REPOSITORY.parent / "shared" / "paper" / "paper.txt"
    if not path.exists():
        pytest.skip(f"the paper is not here: {path} (put its text there to compare with it)")
    printed = " ".join(path.read_text("utf-8").split())
    for aspect in ASKED.aspect:
        assert f"{aspect.name} ({aspect.name[:3]}): w{aspect.about[1:-1]}" in printed
    words = ", ".join(f"{rating}: {word}" for rating, word in scale_labels(ASKED.scale, ASKED.scale_words).items())
    assert f"a score from 1 to 5 ({words})" in printed
    assert ASKED.ab.split("? ")[1] in printed


def test_the_aspects_are_the_papers_and_fluency_is_rated_alone():
    assert {aspect.name: aspect.about for aspect in ASKED.aspects("rating")} == ASPECTS
    assert [aspect.name for aspect in ASKED.aspects("ab")] == ["Empathy", "Coherence", "Informativity"]


def test_a_judge_gets_the_same_definitions_and_words_of_the_scale(tmp_path):
    study, _ = create_study(tmp_path / "r", systems("a", "b"), "rating", ASKED, preset="paper")
    judge = Judge(study, JudgePrompts.read(), Sampling())
    asked = [judge.messages(question)[0].content for question in questions(study)[: len(ASPECTS)]]
    for prompt, (name, about) in zip(asked, ASPECTS.items(), strict=True):
        assert f"Judge by this aspect alone: {name}. {about}\n" in prompt
        assert "a whole number from 1 to 5 (1: not at all, 3: OK, 5: very good)." in prompt
    study, _ = create_study(tmp_path / "ab", systems("a", "b"), "ab", ASKED, preset="paper")
    judge = Judge(study, JudgePrompts.read(), Sampling())
    prompt = judge.messages(questions(study)[0])[0].content
    assert f"a tie is allowed. Judge by this aspect alone: Empathy. {ASPECTS['Empathy']}\n" in prompt


def test_prompts_of_ones_own_for_judges_may_name_the_ends_of_the_scale_as_before(tmp_path):
    text = resource("prompts", "judge.toml").read_text("utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("{low} to {high} ({words})", "{low} ({low_words}) to {high} ({high_words})"))
    study, _ = create_study(tmp_path / "s", systems("a"), "rating", ASKED)
    judge = Judge(study, JudgePrompts.read(path), Sampling())
    assert "from 1 (not at all) to 5 (very good)." in judge.messages(questions(study)[0])[0].content


@pytest.mark.parametrize(
    ("scale", "words", "found"),
    [
        ((1, 5), ("not at all", "OK", "very good"), {1: "not at all", 3: "OK", 5: "very good"}),
        ((1, 5), ("no", "yes"), {1: "no", 5: "yes"}),
        ((-2, 2), tuple("abcde"), {-2: "a", -1: "b", 0: "c", 1: "d", 2: "e"}),
        ((0, 100), ("no", "half", "all"), {0: "no", 50: "half", 100: "all"}),
        ((1, 4), ("no", "so", "yes"), None),
        ((1, 2), ("no", "so", "yes"), None),
    ],
)
def test_words_of_a_scale_are_equally_far_apart(scale, words, found):
    if found is not None:
        assert scale_labels(scale, words) == found
        return
    with pytest.raises(ValueError, match=f"3 words do not fall on whole numbers from {scale[0]} to {scale[1]}"):
        scale_labels(scale, words)


# Making one


def test_the_preset_draws_100_dialogues_and_keeps_its_design(tmp_path):
    study, told = create_study(tmp_path / "ab", systems("a", "b"), "ab", ASKED, preset="paper")
    made = study.manifest
    assert (len(study.items), made.preset, made.annotators, made.ratings_by) == (100, "paper", 3, "majority")
    assert (made.scale, [aspect.name for aspect in made.aspects], told) == (None, list(ASPECTS)[:3], [])
    firsts = {study.key.systems[item.replies[0].key] for item in study.items}
    assert firsts == {"a", "b"}, "replies in random order"
    study, _ = create_study(tmp_path / "r", systems("a", "b", "c"), "rating", ASKED, preset="paper", sample=30)
    assert (len(study.items), study.manifest.scale, study.manifest.words[3]) == (30, (1, 5), "OK")
    plain, _ = create_study(tmp_path / "plain", systems("a", "b"), "ab", ASKED)
    assert (plain.manifest.preset, plain.manifest.annotators, plain.manifest.ratings_by) == ("", None, "mean")


@pytest.mark.parametrize("sample", [None, 41])
def test_fewer_dialogues_than_the_preset_takes_are_no_study_of_it(tmp_path, sample):
    with pytest.raises(OptionError) as caught:
        create_study(tmp_path / "s", systems("a", "b", count=40), "ab", ASKED, preset="paper", sample=sample)
    assert caught.value.message == (
        f"of the {sample or 100} dialogues that preset paper takes, only 40 are in every run"
    )  # fmt: skip
    assert "--preset paper --sample 40" in caught.value.hint
    assert not (tmp_path / "s").exists()


def test_an_unknown_preset_lists_the_known_ones(tmp_path):
    for name in ("papers", "Paper", ""):
        with pytest.raises(UnknownNameError, match="unknown preset") as caught:
            create_study(tmp_path / "s", systems("a", "b"), "ab", ASKED, preset=name)
        assert "known: paper." in caught.value.hint


def test_the_command_says_what_the_preset_means_and_what_is_wrong(localemp):
    ids = [f"d{number}" for number in range(110)]
    for name, count in (("one", 110), ("two", 110), ("few", 12)):
        make_run(localemp.folder / name, {i: f"{name} {i}." for i in ids[:count]})
    done = localemp("study", "create", "one", "two", "--preset", "paper", "--out", "ab")
    assert done.stdout.splitlines()[:2] == [
        "100 items, 200 replies, seed 0; asked: Empathy, Coherence, Informativity",
        "preset paper: 3 annotators",
    ]
    rated = localemp("study", "create", "one", "two", "--preset", "paper", "--kind", "rating", "--out", "rated")
    assert "preset paper: 3 annotators, ratings by majority" in rated.stdout
    assert "is found with a power of 80 % if ratings are averaged (" in rated.stdout
    (localemp.folder / "asked.toml").write_text(
        (REPOSITORY / "prompts" / "study.toml").read_text().replace('kinds = ["ab", "rating"]', 'kinds = ["rating"]')
    )
    told = localemp("study", "create", "one", "two", "--preset", "paper", "--aspects", "asked.toml", "--out", "told")
    assert "is found with a power of 80 % if ratings are averaged (" in told.stdout, "no --kind: only ratings are asked"
    for words, told in (
        (("one", "few", "--preset", "paper"), "preset paper takes, only 12 are in every run"),
        (("one", "two", "--preset", "other"), "unknown preset 'other'"),
    ):
        wrong = localemp("study", "create", *words, "--out", "none")
        assert (wrong.returncode, wrong.stdout) == (2, "")
        assert told in wrong.stderr and len(wrong.stderr.splitlines()) == 2
    assert "known: paper." in wrong.stderr


def own(folder: Path, *change: str) -> Path:
    path = folder / "mine.toml"
    text = resource("prompts", "study.toml").read_text("utf-8")
    assert not change or change[0] in text
    path.write_text(text.replace(*change, 1) if change else text)
    return path


def test_designs_of_ones_own_are_data(tmp_path):
    path = own(tmp_path, "[preset.paper]", '[preset."pilot study"]')
    asked = load_questionnaire(path)
    study, _ = create_study(tmp_path / "s", systems("a", "b"), "rating", asked, preset="pilot study")
    assert study.manifest.preset == "pilot study"
    with pytest.raises(UnknownNameError, match="unknown preset 'paper'"):
        asked.design("paper")
    path.write_text(re.sub(r"\[preset.*", "", path.read_text(), flags=re.DOTALL))
    with pytest.raises(UnknownNameError) as caught:
        load_questionnaire(path).design("paper")
    assert "none exists yet" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("sample = 100", "sample = 0"), "preset.paper.sample"),
        (("sample = 100", 'sample = "all"'), "preset.paper.sample"),
        (("annotators = 3", "annotators = 0"), "preset.paper.annotators"),
        (("annotators = 3", "annotators = 5000"), "preset.paper.annotators"),
        (("annotators = 3", ""), "preset.paper.annotators: missing key"),
        (('ratings_by = "majority"', 'ratings_by = "vote"'), "preset.paper.ratings_by"),
        (("annotators = 3", "annotators = 3\nties = true"), "preset.paper.ties: unknown key"),
        (('"not at all", "OK", "very good"', '"no", "rather", "OK", "good"'), "4 words do not fall on whole numbers"),
        (('"not at all", "OK", "very good"', '"no"'), "scale_words"),
        (('"OK"', '""'), "scale_words[2]"),
    ],
)
def test_a_preset_file_that_breaks_a_rule_is_one_line_with_file_and_key(tmp_path, change, told):
    path = own(tmp_path, *change)
    with pytest.raises(PromptError) as caught:
        load_questionnaire(path)
    assert str(path) in caught.value.message and told in caught.value.message
    assert "\n" not in caught.value.message


def test_a_study_that_was_made_before_presets_is_read_as_ever(tmp_path):
    study = small_study(tmp_path / "s", "rating")
    path = study.folder / STUDY
    older = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("preset", "annotators", "ratings_by")}
    path.write_text(json.dumps(older))
    again = Study.read(study.folder)
    assert again.manifest == study.manifest
    assert again.fingerprint == study.fingerprint
    assert again.manifest.words == {1: "not at all", 5: "fully"}
    path.write_text(json.dumps(older | {"scale_words": None}))
    assert Study.read(study.folder).manifest.words == {}


# Counting by majority


@pytest.mark.parametrize(
    ("ratings", "majority"),
    [
        ([2, 2, 5], 2),
        ([5, 1, 5], 5),
        ([4, 4, 4], 4),
        ([1, 2, 5], 2),  # three values: the median
        ([5, 3, 4], 4),
        ([3], 3),
        ([2, 3], 2.5),  # two who differ: between them
        ([2, 2, 3, 5], 2.5),  # half is no majority
        ([2, 2, 2, 5], 2),
        ([1, 1, 3, 4, 5], 3),
        ([1, 1, 1, 4, 5], 1),
    ],
)
def test_a_reply_has_what_more_than_half_of_its_raters_gave_else_the_median(ratings, majority):
    values = np.array([[*ratings, np.nan]]).T
    told = RatingMatrix(**{**vars(sheet(values, ab=False)), "majority": True})
    assert told.combined().tolist() == [majority]
    assert np.isnan(RatingMatrix(**{**vars(told), "values": np.full((3, 1), np.nan)}).combined()).all()


def test_a_study_by_majority_counts_so_in_every_figure(tmp_path):
    study, _ = create_study(tmp_path / "s", systems("a", "b"), "rating", ASKED, preset="paper", sample=4)
    ratings = {
        "ann": {"a": [5, 1, 1, 4], "b": [2, 2, 2, 2]},
        "ben": {"a": [5, 1, 2, 4], "b": [2, 2, 2, 3]},
        "cleo": {"a": [1, 4, 5, 0], "b": [5, 5, 2, 4]},
    }
    answered(study, ratings)
    figures = study_results(study)
    (opinion,) = figures.opinions
    # a: 5, 1, the median 2, and 4 of two raters; b: 2, 2, 2, the median 3.
    assert [each.mean.value for each in opinion.means if each.aspect == "Empathy"] == [3, 2.25]
    first = opinion.differences[0]
    differences = np.array([3, -1, 0, 1])
    assert first.difference.value == 0.75
    assert first.t_test.t == pytest.approx(0.75 / (differences.std(ddof=1) / 2))
    ratings_table, _, *_ = study_tables(figures)
    assert [cell.text.split("\n")[0] for cell in ratings_table.rows[0].cells[:2]] == ["4", "3.00"]
    assert "A reply has the rating that more than half of its raters gave; where there is none, their median." in notes(
        ratings_table
    )
    assert "Preset paper asks for 3 people on each of the 4 items: 3 have them; an item has 2 to 3." in notes(
        ratings_table
    )
    told = figures.as_dict()
    assert (told["preset"], told["ratings_by"]) == ("paper", "majority")
    assert told["coverage"] == {"annotators": 3, "items": 4, "whole": 3, "fewest": 2, "most": 3}


def test_a_judge_is_compared_with_the_majority():
    judge = sheet([[1, 2, 3]], ab=False)
    people = RatingMatrix(**{**vars(sheet([[1, 5, 3], [1, 1, 3], [5, 1, 3]], ab=False)), "majority": True})
    (found,) = correlations(judge, people, ["Empathy"], ["a vs. b"], Bootstrap(200))
    assert found.spearman.value == pytest.approx(3**0.5 / 2)  # with the ranks 1.5, 1.5, 3
    (mean,) = means(people, ["Empathy"], ["a vs. b"], Bootstrap(200))
    assert mean.mean.value == pytest.approx(5 / 3)


def test_how_many_rated_an_item_is_that_of_its_question_that_fewest_answered(tmp_path):
    study = small_study(tmp_path / "s", items=3, aspects=("Empathy", "Fluency"))
    votes = [Vote(who, item, aspect, "tie") for who in ("ann", "ben", "cleo") for item in ("i0", "i1") for aspect in
             ("Empathy", "Fluency") if (who, item, aspect) != ("ben", "i1", "Fluency")]  # fmt: skip
    assert coverage(RatingMatrix.of(study, votes), 3) == Coverage(3, 3, 1, 0, 3)
    assert coverage(RatingMatrix.of(study, votes), 2) == Coverage(2, 3, 2, 0, 3)
    assert coverage(RatingMatrix.of(study, []), 1) == Coverage(1, 3, 0, 0, 0)


# Its raters


def greeting(localemp, *words):
    """What `study serve` prints until it is ready."""
    process = localemp.start("study", "serve", *words, "--port", free_port())
    lines = []
    try:
        for line in process.stdout:
            lines.append(line)
            if "ready" in line:
                break
    finally:
        process.kill()
        process.communicate()
    return "".join(lines)


def test_serving_makes_as_many_links_as_the_preset_has_annotators_once(localemp):
    pytest.importorskip("starlette", reason="the raters' page needs starlette: pip install 'localemp[serve]'")
    create_study(localemp.folder / "s", systems("a", "b"), "ab", ASKED, preset="paper")
    create_study(localemp.folder / "named", systems("a", "b"), "ab", ASKED, preset="paper")
    small_study(localemp.folder / "plain")
    three = ["annotator-1", "annotator-2", "annotator-3"]
    link = re.compile(r"^  ([\w-]+): http", re.MULTILINE)
    assert link.findall(greeting(localemp, "s")) == ["owner", *three]
    assert link.findall(greeting(localemp, "s")) == [], "they have theirs"
    assert link.findall(greeting(localemp, "named", "--raters", "ann")) == ["owner", "ann"]
    assert link.findall(greeting(localemp, "named")) == []
    assert link.findall(greeting(localemp, "plain")) == ["owner"]

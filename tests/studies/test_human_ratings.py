"""Real ratings of people (EmPO: 675 replies, three raters each, 0 to 100): figures equal those computed directly."""

import gzip
import json
from itertools import combinations

import krippendorff
import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr, ttest_rel
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

from localemp import study as studies
from localemp.studies.answers import AnswerStore
from localemp.studies.calibration_study import calibration_study
from localemp.studies.collected_votes import read_votes
from localemp.studies.importing import read_ratings
from localemp.studies.rated_items import read_rated_items
from localemp.studies.report.results import study_results
from localemp.studies.report.tables import study_tables
from localemp.studies.schema import Aspect, Item, Key, Reply
from localemp.studies.stats.agreement import agreement
from localemp.studies.stats.intervals import Bootstrap
from localemp.studies.stats.matrix import RatingMatrix
from localemp.studies.study import Study

# Our aspect -> the column of the file.
ASPECTS = {"Appropriate": "appropriate", "Emotion": "emotion", "Natural": "natural", "Continue": "continue"}


@pytest.fixture(scope="module")
def human_ratings(shared_data):
    folder = shared_data / "human_ratings"
    if not folder.is_dir():
        pytest.skip(f"no ratings: {folder} is not there (set LOCALEMP_TEST_DATA)")
    return folder


@pytest.fixture(scope="module")
def ratings(human_ratings):
    return pd.read_csv(human_ratings / "ratings_long.tsv", sep="\t")


@pytest.fixture(scope="module")
def study(human_ratings, tmp_path_factory):
    """The ratings, imported as a person would."""
    with gzip.open(human_ratings / "items.jsonl.gz", "rt", encoding="utf-8") as file:
        replies = [json.loads(line) for line in file]
    by_dialogue, systems, dialogues = {}, {}, {}
    for reply in replies:
        by_dialogue.setdefault(str(reply["ed_index"]), []).append(reply)
        systems[f"k{reply['item_id']}"] = reply["model"]
    items = []
    for number, (dialogue, told) in enumerate(by_dialogue.items()):
        shown = tuple(Reply(key=f"k{reply['item_id']}", text=reply["response"]) for reply in told)
        items.append(Item(id=f"i{number}", turns=(told[0]["dialogue"],), replies=shown))
        dialogues[f"i{number}"] = dialogue
    key = Key(systems=systems, dialogues=dialogues, sources={name: {} for name in dict.fromkeys(systems.values())})
    made = Study.write(
        tmp_path_factory.mktemp("empo"),
        items,
        key,
        kind="rating",
        title="EmPO",
        instructions="",
        question="How good is the reply?",
        aspects=tuple(Aspect(name=name, about=name) for name in ASPECTS),
        scale=(0, 100),
        seed=0,
        created="",
        versions={},
    )
    columns = {"rater": "annotator", "dialogue": "ed_index", "system": "model"} | ASPECTS
    answers = AnswerStore(made.folder / "answers.sqlite", made)
    answers.put_all(read_ratings(human_ratings / "ratings_long.tsv", made, columns))
    answers.close()
    return made


@pytest.fixture(scope="module")
def figures(study):
    return study_results(study, Bootstrap(200))


def test_agreement_equals_what_is_computed_directly(figures, ratings):
    spearmans = []
    for found, column in zip(figures.agreements, ASPECTS.values(), strict=False):
        grid = ratings.pivot(index="annotator", columns="item_id", values=column).to_numpy(float)
        assert found.alpha.value == pytest.approx(krippendorff.alpha(grid, level_of_measurement="ordinal"))
        low, high = found.alpha.interval
        assert low < found.alpha.value < high
        three = np.array(ratings.groupby("item_id")[column].apply(list).tolist())
        assert found.kappa.value == pytest.approx(fleiss_kappa(aggregate_raters(three)[0]))
        equal = np.mean([three[:, one] == three[:, other] for one, other in combinations(range(3), 2)])
        assert found.equal.value == pytest.approx(equal)
        assert (found.units, found.raters, found.kappa_units) == (675, (3, 3), 675)
        # Each reply has raters of its own: whoever is its first, second and third, in the order of the votes.
        order = list(dict.fromkeys(ratings.annotator))
        placed = ratings.assign(place=ratings.annotator.map(order.index)).sort_values(["item_id", "place"])
        first, second, third = np.array(placed.groupby("item_id")[column].apply(list).tolist()).T
        pairs = [spearmanr(*pair).statistic for pair in combinations((first, second, third), 2)]
        assert found.spearman.value == pytest.approx(np.mean(pairs))
        spearmans.append(np.mean(pairs))
    assert 0.09 < min(spearmans) < max(spearmans) < 0.17  # as the data's own notes have it: 0.10 to 0.16


def test_means_and_tests_equal_what_is_computed_directly(figures, ratings):
    (people,) = figures.opinions
    assert (people.raters, people.items) == (135, 135)
    means = ratings.groupby(["model", "item_id"])[list(ASPECTS.values())].mean().groupby("model").mean()
    for found in people.means:
        assert (found.mean.value, found.replies) == (pytest.approx(means.loc[found.system, ASPECTS[found.aspect]]), 135)
    of_dialogues = ratings.groupby(["ed_index", "model"])[list(ASPECTS.values())].mean()
    assert len(people.differences) == 40
    for found in people.differences:
        by_system = of_dialogues[ASPECTS[found.aspect]].unstack()
        test = ttest_rel(by_system[found.first], by_system[found.second])
        assert (found.t_test.t, found.t_test.p) == (pytest.approx(test.statistic), pytest.approx(test.pvalue))
        assert found.p_holm >= found.t_test.p


def test_many_raters_are_not_named_one_by_one(figures):
    tables = {table.key: table for table in study_tables(figures)}
    assert list(tables) == ["ratings-people", "differences-people", "agreement", "raters"]
    assert [row.name for row in tables["raters"].rows] == ["people"]
    assert "of whom 135 are not here" in " ".join(note.text for note in tables["raters"].notes)
    assert [row.name for row in tables["agreement"].rows][4:6] == ["All aspects", "All aspects, zephyr_base"]


def test_raters_who_answer_at_random_do_not_agree(study, ratings):
    draw = np.random.default_rng(0)
    units = RatingMatrix.of(study, []).units
    values = draw.integers(0, 101, (3, len(units))).astype(float)
    found = agreement(RatingMatrix(("a", "b", "c"), units, values, ab=False), None, None, Bootstrap(200))
    assert found.alpha.interval[0] < 0 < found.alpha.interval[1]


def test_preferences_are_those_of_mean_ratings(human_ratings, ratings, tmp_path):
    rated = read_rated_items(human_ratings)
    assert (len(rated.ratings), [len(system) for system in rated.systems]) == (4 * len(ratings), [135] * 5)
    study, notes = calibration_study(tmp_path / "ab", rated, "ab", sample=20)
    assert any("human_targets: in 135 items the dialogue ends with another reply" in note for note in notes)
    means = ratings.groupby(["ed_index", "model"])[list(ASPECTS.values())].mean()
    votes = read_votes(study)
    assert len(votes) == 20 * 10 * 4
    for vote in votes:
        dialogue = int(study.key.dialogues[vote.item])
        by_key = {
            reply.key: means.loc[(dialogue, study.key.systems[reply.key]), ASPECTS[vote.aspect]]
            for reply in study.by_id[vote.item].replies
        }
        best = [key for key, value in by_key.items() if value == max(by_key.values())]
        assert vote.value == (best[0] if len(best) == 1 else "tie")


def test_a_scripted_judges_known_bias_is_recovered_on_real_replies(human_ratings, tmp_path):
    entries = [{"match": "Reply A: I'm sorry", "choices": {"A": 0.9, "B": 0.1}},
               {"match": "Reply B: I'm sorry", "choices": {"A": 0.4, "B": 0.6}},
               {"choices": {"A": 0.65, "B": 0.35}}]  # fmt: skip
    script = tmp_path / "script.jsonl"
    script.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    found = studies.calibrate(judge="smollm2", ratings=human_ratings, aspect="Emotion", sample=40, resamples=200,
                              out=tmp_path / "ab", script=script)  # fmt: skip
    (judge,) = found.results.calibration.judges
    ((aspect, bias),) = judge.biases
    assert (aspect, bias.choices, bias.dialogues) == ("Emotion", 40 * 10 * 2, 40)
    low, high = bias.position.share.interval
    assert 0.6 < low <= bias.position.share.value <= high < 0.7
    assert bias.own.share.value is None, "SmolLM2 wrote none of these"
    rates = {each.system: each for each in judge.people}
    assert rates["zephyr_base"].won.value > 0.5, "people rate its longer replies higher"

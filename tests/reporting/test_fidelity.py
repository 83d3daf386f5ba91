"""docs/fidelity.md: every figure of the paper has a row and a verdict, and what is ours is what comes out."""

import json
import re

import pytest
from repository import REPOSITORY

from localemp.data.sources import data_hash, load_dialogues
from localemp.imports.reading import read_import
from localemp.metrics.scoring import on_common, score_all
from localemp.metrics.ttest import paired_t
from localemp.reporting.published import read_published
from localemp.studies.questionnaire import load_questionnaire
from localemp.utils.paths import cache_dir

VERDICTS = {"reproduced", "near", "not possible"}
PAPER = read_published()
METRICS = ("Dist-1", "Dist-2", "P_BERT", "R_BERT", "F_BERT", "B-2", "B-4")
BASELINES = PAPER.table_of(1).names[:10]
LLMS = PAPER.table_of(1).names[10:]


def page_rows():
    """Figure, theirs, ours, verdict and why of every row of a table that has verdicts."""
    rows, judged = [], False
    for line in (REPOSITORY / "docs" / "fidelity.md").read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if "verdict" in cells:
            judged = True
        elif not cells:
            judged = False
        elif judged and not set(line) <= set("|- "):
            rows.append(cells)
    return rows


ROWS = page_rows()


def ours_of(figure):
    return next(row[2] for row in ROWS if row[0].endswith(figure))


def value(table, row, column):
    return PAPER.table_of(table).value(row, column).value


def best(rows, column):
    return max(value(1, row, column) for row in rows)


def gain(column):
    """By how many percent the best LLM of Table 1 is above the best baseline."""
    return 100 * (best(LLMS, column) / best(BASELINES, column) - 1)


def test_no_row_is_without_a_verdict_and_a_reason():
    page = (REPOSITORY / "docs" / "fidelity.md").read_text("utf-8").partition("## Every figure of the paper")[2]
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert len(ROWS) == len(lines) - 2 * 3 > 60, "three tables, each with a head and a line below it"
    for row in ROWS:
        assert len(row) == 5 and row[3] in VERDICTS, row
        assert row[0] and row[1] and row[4], row
        assert bool(row[2]) == (row[3] != "not possible") or "EmpDG: Dist" in row[0], row


def test_every_figure_of_every_table_is_in_one_row_as_printed():
    covered = []
    for figure, theirs, *_ in ROWS:
        if found := re.fullmatch(r"Table (\d), ([^:]+?)(?:: (.+))?", figure):
            table = PAPER.table_of(int(found[1]))
            columns = found[3].split(", ") if found[3] else table.columns
            cells = {column: table.value(found[2], column) for column in columns}
            assert theirs == ", ".join(cell.text for cell in cells.values() if cell.value is not None), figure
            covered += [(table.number, found[2], column) for column in columns]
    every = [(table.number, name, column) for table in PAPER.table for name in table.names for column in table.columns]
    assert sorted(covered) == sorted(every)


def test_what_is_reproduced_of_the_tables_is_equal_and_what_is_near_is_not():
    for figure, theirs, ours, verdict, _ in ROWS:
        if figure.startswith("Table") and verdict != "not possible":
            assert (theirs == ours) == (verdict == "reproduced"), figure


@pytest.mark.parametrize(
    ("figure", "printed", "percent", "verdict"),
    [
        ("5.1: gain of the best LLM in Dist-1", 51.8, gain("Dist-1"), "reproduced"),
        ("5.1: gain in Dist-2", 92.7, gain("Dist-2"), "reproduced"),
        ("5.1: mean gain in BERTScore", 2.1, sum(map(gain, METRICS[2:5])) / 3, "reproduced"),
        ('5.1: mean gain in BLEU (printed "BERT")', 26.95, sum(map(gain, METRICS[5:])) / 2, "near"),
    ],
)
def test_the_gains_of_section_5_follow_from_table_1(figure, printed, percent, verdict):
    (row,) = (row for row in ROWS if row[0] == figure)
    assert row[1:4] == [f"{printed} %", f"{percent:.2f} %", verdict]
    digits = len(str(printed).split(".")[1])
    assert (round(percent, digits) == printed) == (verdict == "reproduced")


def test_the_parts_of_the_gains_are_those_of_the_page():
    why = {row[0]: row[4] for row in ROWS}
    bert, bleu = ([f"{gain(column):.2f} %" for column in columns] for columns in (METRICS[2:5], METRICS[5:]))
    assert why["5.1: mean gain in BERTScore"] == f"{bert[0]}, {bert[1]} and {bert[2]}"
    assert why['5.1: mean gain in BLEU (printed "BERT")'].startswith(f"{bleu[0]} and {bleu[1]};")
    assert (round(gain("B-2"), 1) + round(gain("B-4"), 1)) / 2 == pytest.approx(26.95), "the paper's own way"


def test_llms_lead_in_every_metric_but_not_every_one_of_them():
    assert all(gain(column) > 0 for column in METRICS)
    assert value(1, "ChatGPT (+ 5-shot)", "B-2") == 7.85 < value(1, "CASE", "B-2") == 7.90
    leads = [name for name in METRICS if value(1, "ChatGPT (+ 5-shot)", name) == best(PAPER.table_of(1).names, name)]
    assert leads == ["Dist-1", "Dist-2", "R_BERT", "F_BERT"]
    assert ours_of("ChatGPT (+ 5-shot) leads in most metrics") == f"{len(leads)} of {len(METRICS)}"


@pytest.mark.parametrize("model", ["GPT-3", "GPT-3.5", "ChatGPT"])
@pytest.mark.parametrize("column", ["Dist-1", "Dist-2"])
def test_more_exemplars_give_more_diversity(model, column):
    found = [value(1, f"{model} (+ {shots}-shot)", column) for shots in (0, 1, 5)]
    assert found == sorted(found) and len(set(found)) == 3


def test_people_prefer_chatgpt_in_over_70_percent_of_the_cases():
    table = PAPER.table_of(4)
    wins = [(value(4, row, column), row, column) for row in table.names[:5] for column in table.columns[::2]]
    assert len(wins) == 15
    assert min(wins) == (71.0, "ChatGPT vs. Blenderbot", "Informativity win")
    assert ours_of("people prefer ChatGPT in over 70 % of the cases") == "71.0 %"


def test_the_three_improvements_win_more_votes_than_they_lose():
    table = PAPER.table_of(4)
    margins = {
        (row, win): round(value(4, row, win) - value(4, row, lose), 1)
        for row in table.names[5:]
        for win, lose in zip(table.columns[::2], table.columns[1::2], strict=True)
    }
    assert min(margins.values()) == margins["+ SS ICL vs. ChatGPT", "Empathy win"] == 1.0
    assert max(margins.values()) == margins["+ Two-stage vs. ChatGPT", "Informativity win"] == 52.0


def test_similar_exemplars_are_best_in_table_3_and_random_ones_in_table_1():
    table = PAPER.table_of(3)
    assert all(value(3, "+ SS ICL", name) == max(value(3, row, name) for row in table.names) for name in METRICS)
    assert all(value(1, "ChatGPT (+ 5-shot)", name) > value(3, "+ SS ICL", name) for name in METRICS[2:])


def test_the_true_emotion_or_situation_raises_nine_of_ten_and_lowers_diversity():
    given = ["+ Two-stage (emo)", "+ Two-stage (situ)"]
    above = [
        (row, name) for row in given for name in METRICS[2:] if value(3, row, name) > value(3, "+ Two-stage", name)
    ]
    assert len(above) == 9 and ("+ Two-stage (emo)", "R_BERT") not in above
    assert value(3, "+ Two-stage (emo)", "R_BERT") == value(3, "+ Two-stage", "R_BERT") == 0.8772
    assert all(value(3, row, name) < value(3, "+ Two-stage", name) for row in given for name in METRICS[:2])


def test_gpt_4_is_closest_to_people_on_empathy_and_overall_is_no_mean():
    aspects = PAPER.table_of(6).names
    assert all(max(aspects, key=lambda row: value(6, row, name)) == "Empathy" for name in ("Spearman", "Kendall-Tau"))
    means = [sum(value(6, row, name) for row in aspects[:3]) / 3 for name in ("Spearman", "Kendall-Tau")]
    assert [round(mean, 3) for mean in means] == [0.45, 0.434]


def test_every_figure_of_table_4_is_a_number_of_300_votes():
    table = PAPER.table_of(4)
    for row in table.names:
        for column in table.columns:
            votes = round(value(4, row, column) * 3)
            assert f"{votes / 3:.1f}%" == table.value(row, column).text
        assert all(
            value(4, row, win) + value(4, row, lose) <= 100
            for win, lose in zip(table.columns[::2], table.columns[1::2], strict=True)
        )


def test_the_t_tests_of_table_4_hold_for_all_but_similar_exemplars():
    ps = {}
    for row in PAPER.table_of(4).names:
        for aspect in ("Empathy", "Coherence", "Informativity"):
            win, lose = (round(value(4, row, f"{aspect} {end}") * 3) for end in ("win", "lose"))
            ps[row, aspect] = paired_t([1] * win + [-1] * lose + [0] * (300 - win - lose)).p
    without = {key: p for key, p in ps.items() if p >= 0.01}
    assert {row for row, _ in without} == {"+ SS ICL vs. ChatGPT"}
    (row,) = (row for row in ROWS if row[0] == "t-tests of Table 4")
    assert row[1:4] == ["24 of 24 with p < 0.01", f"{24 - len(without)} of 24 with p < 0.01", "near"]
    told = "{:.2f}, {:.2f} and {:.2f}".format(*without.values())
    assert row[4].endswith(f"+ SS ICL has p {told}")
    studies = " ".join((REPOSITORY / "docs" / "studies.md").read_text("utf-8").split())
    assert f"p is {told} there" in studies and "holds for 21 of its 24" in studies


def test_the_design_of_the_human_evaluation_is_that_of_the_preset():
    asked = load_questionnaire()
    design = asked.design("paper")
    low, high = asked.scale
    (row,) = (row for row in ROWS if row[0].startswith("4.3: the design"))
    assert row[1] == row[2] == f"{design.sample} dialogues, {design.annotators} annotators, {low} to {high}"


def test_repeated_rows_of_the_paper_are_equal():
    assert all(value(3, "ChatGPT", name) == value(1, "ChatGPT (+ 0-shot)", name) for name in METRICS)
    assert all(value(1, "KEMP", name) == value(1, "CASE", name) for name in METRICS[:2])


@pytest.fixture(scope="module")
def released(shared_data):
    """The public outputs, on the published rows."""
    folder, data = shared_data / "baseline_outputs", str(shared_data / "empathetic_dialogues")
    files = {
        "MoEL": ("moel", folder / "MoEL" / "generation_result.txt.gz"),
        "EmpDG": ("empdg", folder / "EmpDG" / "EmpDG.txt.gz"),
        "CEM": ("cem", folder / "CEM_ComFact" / "CEM_link.txt.gz"),
    }
    return {name: read_import(form, path, data).replies for name, (form, path) in files.items()}


def shown(scored, *names):
    return ", ".join(f"{scored.score(name).value:.2f}" for name in names)


@pytest.mark.parametrize("system", ["MoEL", "EmpDG", "CEM"])
def test_what_is_said_to_be_measured_on_public_outputs_comes_out(released, system):
    scored = score_all(released[system])
    assert ours_of(f"{system}: Dist-1, Dist-2") == shown(scored, "Dist-1", "Dist-2")
    assert ours_of(f"{system}: B-2, B-4") == shown(scored, "B-2 lower", "B-4 lower")
    why = next(row[4] for row in ROWS if row[0].endswith(f"{system}: B-2, B-4"))
    assert f"{shown(scored, 'B-2', 'B-4')} with case kept" in why
    if system == "CEM":
        assert ours_of("CEM: Acc") == shown(scored, "Acc")


def test_dist_and_bleu_on_fewer_rows_are_as_said(released):
    moel = score_all(on_common([released["EmpDG"], released["MoEL"]])[1])
    why = {row[0]: row[4] for row in ROWS}
    assert f"MoEL has {shown(moel, 'Dist-1', 'Dist-2')} on these" in why["Table 1, EmpDG: Dist-1, Dist-2"]
    assert f"MoEL has {shown(moel, 'B-2 lower', 'B-4 lower')} on these" in why["Table 1, EmpDG: B-2, B-4"]


def test_the_setup_of_the_paper_is_that_of_the_published_rows(shared_data):
    rows = load_dialogues(str(shared_data / "empathetic_dialogues"), "test", "published")
    assert (len(rows), data_hash(rows)) == (PAPER.setup.replies, PAPER.setup.data_sha256)


def test_the_encoder_has_768_dimensions():
    config = cache_dir("models", "all-mpnet-base-v2", "config.json")
    if not config.exists():
        pytest.skip(f"the encoder is not here: {config}")
    assert json.loads(config.read_text("utf-8"))["hidden_size"] == 768

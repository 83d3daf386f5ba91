"""What tables say: values, why there are none, and what may not be compared."""

import csv
import io
import shutil
import subprocess
from dataclasses import replace

import pytest
from small_runs import four, make_run

from localemp.errors import DataError, OptionError, RunError
from localemp.metrics.replies import replies_of_run
from localemp.metrics.scoring import score_all, scores_path, write_scores
from localemp.reporting import writers
from localemp.reporting.published import read_published
from localemp.reporting.report import Report
from localemp.reporting.svg import scale
from localemp.reporting.systems import names_of, read_systems
from localemp.reporting.tables import Cell, Note, Row, Table, amount, listed, told_once
from localemp.runs.run import Run, read_manifest


def report_of(*folders, **options):
    return Report(tuple(read_systems(folders, **options)), read_published())


def cells(table, name):
    row = next(row for row in table.rows if row.name == name)
    return dict(zip(table.columns, row.cells, strict=True))


def notes(table):
    return "\n".join(f"{note.mark}: {note.text}" for note in table.notes)


def test_scores_are_computed_and_say_how_they_were_made(tmp_path):
    table = report_of(make_run(tmp_path / "z", {"a": "one two", "b": "one three four"})).tables[0]
    found = cells(table, "z")
    assert found["Replies"].value == 2
    assert (found["Dist-1"].text, found["Dist-1"].value) == ("80.00", 80.0)
    assert found["Dist-1"].about.startswith("dist-1|order:1|")
    assert any(signature.startswith("dist-1|") and names == "z" for signature, names in table.made)


def test_what_is_not_available_has_its_reason_in_cell_and_note(tmp_path):
    table = report_of(four(tmp_path / "z"), four(tmp_path / "t", "two-stage")).tables[0]
    assert (cells(table, "z")["Acc"].text, cells(table, "z")["Acc"].value) == ("n/a", None)
    assert "nothing names the emotion" in cells(table, "z")["Acc"].about
    assert "n/a in Acc (z): nothing names the emotion" in notes(table)
    assert "n/a in P_BERT, R_BERT and F_BERT (all): not scored" in notes(table)
    assert cells(table, "t")["Acc"].text == "50.00"


def test_runs_on_the_same_dialogues_in_another_order_are_compared_without_a_mark(tmp_path):
    one = make_run(tmp_path / "one", {"a": "yes", "b": "no"})
    other = make_run(tmp_path / "other", {"b": "no", "a": "yes"})
    table = report_of(one, other).tables[0]
    assert all(not cell.mark for row in table.rows for cell in row.cells)


def test_a_run_on_fewer_dialogues_is_marked_and_distinct_called_not_comparable(tmp_path):
    runs = four(tmp_path / "a1"), four(tmp_path / "a2"), make_run(tmp_path / "small", {"a": "Oh.", "b": "Ah."})
    table = report_of(*runs).tables[0]
    assert cells(table, "small")["Dist-1"].mark == cells(table, "small")["B-2"].mark == "a"
    assert not cells(table, "a1")["Dist-1"].mark
    assert "a: on 2 dialogues, where a1 has 4 (small: Dist-1, Dist-2, B-2 and B-4)" in notes(table)
    assert "Metrics of diversity change with the number of replies, so these are not comparable" in notes(table)


def test_common_scores_all_runs_on_the_dialogues_they_share(tmp_path):
    runs = four(tmp_path / "four"), make_run(tmp_path / "two", {"c": "Oh.", "b": "Ah."})
    table = report_of(*runs, common=True).tables[0]
    assert [cells(table, name)["Replies"].value for name in ("four", "two")] == [2, 2]
    assert not cells(table, "two")["Dist-1"].mark
    assert "four: scored on the 2 dialogues that all systems answered, of its 4" in notes(table)
    with pytest.raises(OptionError, match="no dialogue is"):
        report_of(runs[0], make_run(tmp_path / "else", {"x": "Oh."}), common=True)


def test_the_same_ids_of_other_data_are_not_taken_for_the_same_dialogues(tmp_path):
    one, other = four(tmp_path / "one"), four(tmp_path / "other")
    path = other / "responses.jsonl"
    path.write_text(path.read_text().replace("This is the story", "Here goes the tale"))
    table = report_of(one, other).tables[0]
    assert "on other dialogues than one" in notes(table)


def test_kept_scores_are_read_and_those_of_an_earlier_state_are_not(tmp_path):
    folder = make_run(tmp_path / "z", {"a": "one two"}, dialogues=2)
    scored = score_all(replies_of_run(folder))
    kept = tuple(
        score if score.name != "Dist-1" else type(score)("Dist-1", 12.5, score.signature) for score in scored.scores
    )
    write_scores(scores_path(folder), replace(scored, scores=kept))
    assert cells(report_of(folder).tables[0], "z")["Dist-1"].value == 12.5
    make_run(folder, {"b": "three four"}, dialogues=2)
    assert cells(report_of(folder).tables[0], "z")["Dist-1"].value == 100.0


def test_metrics_that_kept_scores_lack_are_computed(tmp_path):
    """As for a run that was scored before the metric existed."""
    folder = make_run(tmp_path / "z", {"a": "one two", "b": "three"}, dialogues=2)
    scored = score_all(replies_of_run(folder))
    write_scores(scores_path(folder), replace(scored, scores=tuple(s for s in scored.scores if s.name == "Dist-1")))
    values = {name: cell.value for table in report_of(folder).tables for name, cell in cells(table, "z").items()}
    assert (values["Dist-1"], values["Length"]) == (100.0, 1.5)


def test_scores_made_with_another_version_are_marked_with_what_differs(tmp_path):
    runs = [four(tmp_path / name) for name in ("new1", "new2", "old")]
    scored = score_all(replies_of_run(runs[2]))
    write_scores(scores_path(runs[2]), scored)
    path = scores_path(runs[2])
    path.write_text(path.read_text().replace('"sacrebleu": "2.6.0",\n', '"sacrebleu": "1.0",\n'))
    path.write_text(path.read_text().replace('"case": "kept"', '"case": "lower"'))
    table = report_of(*runs).tables[0]
    assert "case: lower, where new1 has kept" in notes(table)
    assert cells(table, "old")["Dist-1"].mark and not cells(table, "new1")["Dist-1"].mark


def test_a_run_that_was_given_the_emotion_has_no_accuracy(tmp_path):
    runs = four(tmp_path / "asked", "two-stage"), four(tmp_path / "given", "two-stage", given=["emotion"])
    report = report_of(*runs)
    assert cells(report.tables[0], "asked")["Acc"].value is not None
    assert "n/a in Acc (given): nothing names the emotion" in notes(report.tables[0])
    confusion = next(figure for figure in report.figures if figure.key == "confusion")
    assert len(confusion.charts) == 1


def test_an_unfinished_run_and_failed_dialogues_are_said(tmp_path):
    table = report_of(make_run(tmp_path / "z", {"a": "Oh.", "b": "Ah."}, dialogues=9, failed="c")).tables[0]
    assert table.rows[0].warning == "not finished"
    assert "z: not finished: 3 of 9 dialogues" in notes(table)
    assert "z: 1 of 3 dialogues failed" in notes(table)


def test_a_run_without_a_reply_is_an_error(tmp_path):
    with pytest.raises(RunError, match="no replies yet"):
        report_of(make_run(tmp_path / "z", {}, dialogues=9))


def test_empty_replies_and_a_single_dialogue_have_reasons_not_crashes(tmp_path):
    report = report_of(make_run(tmp_path / "z", {"a": ""}))
    assert cells(report.tables[0], "z")["Dist-1"].text == "n/a"
    assert report.figures


def test_runs_of_the_same_name_are_told_apart(tmp_path):
    folders = [tmp_path / "x" / "run", tmp_path / "y" / "run", tmp_path / "y" / "other"]
    assert names_of(folders) == ["x/run", "y/run", "other"]
    assert names_of([tmp_path / "x" / "m" / "r", tmp_path / "y" / "m" / "r"]) == ["x/m/r", "y/m/r"]
    first = four(tmp_path / "x" / "run")
    assert [system.name for system in read_systems([first, first])] == ["run"]


def test_a_file_of_scores_alone_is_a_row(tmp_path):
    run = four(tmp_path / "z")
    path = tmp_path / "moel.txt.scores.json"
    write_scores(path, score_all(replies_of_run(run)))
    report = report_of(run, path)
    assert cells(report.tables[0], "moel.txt")["Dist-1"].value == cells(report.tables[0], "z")["Dist-1"].value
    assert len(report.case_study()["systems"]) == 1
    with pytest.raises(OptionError, match="only scores are known"):
        report_of(run, path, common=True)
    path.write_text("{}")
    with pytest.raises(DataError, match="holds no scores"):
        report_of(path)


def test_seconds_and_tokens_are_summed_over_stages(tmp_path):
    report = report_of(four(tmp_path / "t", "two-stage"), four(tmp_path / "q", tokens=None))
    effort = next(table for table in report.tables if table.kind == "effort")
    found = cells(effort, "t")
    assert [found[name].value for name in ("Calls", "Seconds", "Prompt tokens", "Tokens written")] == [2, 0.75, 22, 10]
    assert cells(effort, "q")["Tokens written"].text == "n/a"
    assert "n/a in Tokens written (q): the engine did not report it" in notes(effort)


def test_what_differs_between_runs_is_apart_from_what_they_share(tmp_path):
    table, same = report_of(four(tmp_path / "z"), four(tmp_path / "t", "two-stage")).made()
    assert cells(table, "strategy")["t"].text == "two-stage"
    assert dict(same)["model"] == "scripted" and dict(same)["temperature (sampling)"] == "0"
    assert dict(same)["processor"] == "an old one"


NASTY = Table(
    "nasty", "people", "50% of A&B_C", "System", ("P_1", "Q|R"),
    (
        Row(r"a\b_{c}~^#$|*<i>", (Cell("1.0", 1.0, "made so", "a"), Cell("n/a", None, "why")), "x & y"),
        Row("old", (Cell("2", 2.0), Cell("–")), "the paper's Table 1", published=True),
    ),
    (Note("see `a_b` & c", "a"),), (("sig|n:1", "all"),),
)  # fmt: skip


def test_latex_escapes_everything_and_has_the_papers_rows_in_grey():
    text = writers.latex([NASTY])
    assert r"\caption{50\% of A\&B\_C}" in text
    name = r"a\textbackslash{}b\_\{c\}\textasciitilde{}\textasciicircum{}\#\$\textbar{}*\textless{}i\textgreater{}"
    assert rf"{name} & 1.0$^{{a}}$ & n/a \\" in text
    assert r"\textcolor{gray}{old} & \textcolor{gray}{2} & \textcolor{gray}{--} \\" in text
    assert r"$^{a}$ see \texttt{a\_b} \& c" in text
    assert text.count(r"\midrule") == 2, "below the heads, and above the paper's rows"
    assert r"\begin{tabular}{lrr}" in text


def test_latex_is_accepted_by_latex(tmp_path):
    if not (latex := shutil.which("pdflatex")):
        pytest.skip("tables are typeset by pdflatex: apt-get install texlive-latex-base")
    head = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs,xcolor}\begin{document}"
    (tmp_path / "t.tex").write_text(head + writers.latex([NASTY]) + r"\end{document}")
    subprocess.run([latex, "-interaction=nonstopmode", "-halt-on-error", "t.tex"], cwd=tmp_path, check=True)


def test_markdown_escapes_what_would_be_markup():
    text = writers.markdown([NASTY])
    assert r"| a\\b\_{c}~^#$\|\*\<i\> (x & y) | 1.0<sup>a</sup> | n/a |" in text
    assert "| *old* (the paper's Table 1) | *2* | *–* |" in text
    assert "- a: see `a_b` & c" in text and "- `sig|n:1`: all" in text
    assert all(line.replace(r"\|", "").count("|") == 4 for line in text.splitlines() if line.startswith("|"))


def test_csv_has_whole_numbers_signatures_and_reasons():
    wide = list(csv.reader(io.StringIO(writers.csv_wide(NASTY))))
    assert wide[0] == ["System", "About", "P_1", "Q|R"]
    assert wide[1][2:] == ["1.0", ""]
    rows = list(csv.DictReader(io.StringIO(writers.csv_long([NASTY]))))
    assert len(rows) == 4
    assert rows[0]["how_made_or_why_not"] == "made so" and rows[0]["mark"] == "a"
    assert (rows[1]["value"], rows[1]["shown"], rows[1]["how_made_or_why_not"]) == ("", "n/a", "why")
    assert rows[2]["published"] == "true"


def test_csv_lets_no_name_be_a_formula_and_keeps_numbers():
    cells = (Cell("-0.41", -0.41, interval=(-0.5, 1e-7)), Cell("+1"))
    table = Table("t", "people", "T", "=head", ("@column", "-x"), (Row("=cmd|' /C calc'!A0", cells, "\t=about"),))
    wide, long = writers.csv_wide(table), writers.csv_long([table])
    assert wide == (
        "'=head,About,'@column,'@column low,'@column high,'-x\n'=cmd|' /C calc'!A0,'\t=about,-0.41,-0.5,1e-07,'+1\n"
    )
    first, second = csv.DictReader(io.StringIO(long))
    assert [first[name] for name in ("row", "column", "value", "low", "shown")] == [
        "'=cmd|' /C calc'!A0", "'@column", "-0.41", "-0.5", "'-0.41",
    ]  # fmt: skip
    assert (second["value"], second["shown"]) == ("", "'+1")


def test_names_in_a_sentence():
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "a", "c"]) == "a, b and c"
    assert listed(["b", "a"], ["a", "b"]) == "all"
    assert listed(["a"], ["a"]) == "a"


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([], (0, 1)),
        ([4.3], (0, 4.3)),
        ([5.0, 5.0], (0, 5.0)),
        ([10.0, 40.0], (0, 40.0)),
        ([0.90, 0.94], (0.89, 0.95)),
        ([-1.0, 1.0], (-1.0, 1.0)),
        ([0.0, 0.0], (0, 0)),
    ],
)
def test_a_scale_begins_at_zero_unless_values_differ_little(values, shown):
    assert scale(values) == pytest.approx(shown)


def test_an_amount_above_zero_is_never_shown_as_zero():
    assert [amount(value, 2) for value in (0.0, 0.004, 0.005, 1234.5)] == ["0.00", "<0.01", "0.01", "1,234.50"]


def test_a_definition_is_told_by_the_first_of_several_tables():
    def table(title, *notes):
        return Table(title, "people", title, "System", (), (), notes)

    lasting, own = Note("Won: wins among wins and losses.", defines=True), Note("n/a in Won (all): no vote")
    first, second, third = told_once([table("A", lasting, own), table("B", lasting, own), table("C", own)])
    assert first.notes == (lasting, own)
    assert second.notes == (own, Note("See also the notes below “A”."))
    assert third.notes == (own,)


def test_replies_side_by_side_stand_in_the_order_of_the_data(tmp_path):
    for name, answers in (("sampled", "b"), ("whole", "acb")):
        made = make_run(tmp_path / name, {}, data_sha256="1")
        with Run.open(made, read_manifest(made)["settings"]) as run:
            run.positions = {"c": 0, "b": 5, "a": 7}
            for each in answers:
                run.append({"id": each, "reply": f"Oh, {each}.", "turns": [f"I am {each}."]})
    made = report_of(tmp_path / "sampled", tmp_path / "whole")
    cases = made.case_study()
    assert [each["id"] for each in cases["dialogues"]] == ["c", "b", "a"]
    assert [each["replies"][0] is None for each in cases["dialogues"]] == [True, False, True]
    first = replace(made, cases=1).case_study()
    assert ([each["id"] for each in first["dialogues"]], first["of"]) == (["c"], 3)

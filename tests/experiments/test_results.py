"""What stands at the end of an experiment: scores, comparisons, report, tables, a line for each reply, and studies."""

import csv
import json
import resource
from importlib.util import find_spec
from pathlib import Path

import pytest
from small_plans import IDS, plan_of, write_script
from small_runs import four, make_run
from tiny_roberta import LAYER, save_tiny_roberta
from wordnet_here import take_away_wordnet

import localemp
from localemp.commands.experiment_results import finish
from localemp.commands.score import score
from localemp.commands.tables import write_text
from localemp.errors import OptionError
from localemp.experiments.rows import ExperimentRow, RowResult
from localemp.experiments.steps import After
from localemp.metrics.scoring import read_scores
from localemp.pipeline.config import RunConfig
from localemp.reporting.reply_rows import COLUMNS, metric_columns
from localemp.runs.run import read_records
from localemp.studies.study import Study

NAMES = [f"d{number}" for number in range(12)]
PLAIN = {name: f"I hear you, {name}." for name in NAMES}
CLOSE = {name: f"Tell me more of {name}, I am here." for name in NAMES}
NO_BERT = {"no_bertscore": True}
FILES = ["report.html", "tables.tex", "tables.csv"]


def row(name, folder, answered=12, failed=0, dialogues=12, error="", model="m"):
    """A row of one model, or of several if its name begins with the model's."""
    config = ExperimentRow(name, name.removeprefix(f"{model} "), model, RunConfig())
    return RowResult(config, folder, dialogues, answered, failed, error=error)


def two(folder, **settings):
    """A base row and one that is closer to the references."""
    return [
        row("0-shot", make_run(folder / "rows" / "0-shot-1a", PLAIN, **settings)),
        row("two, stages", make_run(folder / "rows" / "stages-2b", CLOSE, "two-stage", **settings)),
    ]


def lines_of(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def cells_of(folder, table):
    with (folder / "tables.csv").open() as file:
        return {(each["row"], each["column"]): each for each in csv.DictReader(file) if each["table"] == table}


def test_an_experiment_ends_with_everything_in_its_folder(place):
    known = {"reference": "Tell me more of it.", "emotion": "sad", "situation": "A story."}
    after = {"score": NO_BERT, "compare": "0-shot", "study": {"sample": 3, "judge": {"model": "judge"}}}
    script = write_script(place, {"match": "number d1.", "reply": "What happened, and when?"})
    judge = write_script(place, {"reply": json.dumps({"choice": "A"})}, name="judge")
    after["study"]["judge"] = {"model": "smollm2", "name": "judge", "script": str(judge)}
    plan = plan_of(place, after=after)
    talks = Path(plan.data).read_text().splitlines()
    Path(plan.data).write_text("".join(json.dumps(json.loads(line) | known) + "\n" for line in talks))
    result = localemp.experiment(plan, script=script)
    assert result.failures == () and result.complete
    folder = result.folder
    study = folder / "study-staged"
    parquet = ["results.parquet"] if find_spec("pyarrow") else []
    files = [folder / name for name in ("comparisons.json", "results.jsonl", *parquet, *FILES)]
    assert list(result.written) == [study, *files]
    assert [(each["row"], each["id"]) for each in lines_of(folder)] == [
        (r, i) for r in ("0-shot", "staged") for i in IDS
    ]
    assert "win" in (folder / "tables.tex").read_text() and "(mine: smollm2)" in (folder / "tables.tex").read_text()
    page = (folder / "report.html").read_text()
    assert "<title>mine: smollm2</title>" in page and "Against 0-shot, 6 dialogues" in page
    assert page.count("rows/") < 40  # rows have their names, not their folders'
    key = (study / "key.json").read_bytes()
    votes = (study / "judges" / "judge" / "votes.jsonl").read_bytes()
    again = localemp.experiment(plan, script=script)
    assert again.complete and (study / "key.json").read_bytes() == key
    assert (study / "judges" / "judge" / "votes.jsonl").read_bytes() == votes


def test_the_tables_say_how_far_rows_are_from_the_base_row(place):
    rows = two(place)
    done = finish(place, rows, After(score=NO_BERT, compare="0-shot"), "mine")
    assert (done.failures, done.notes) == ((), ())
    compared = localemp.compare(rows[0].folder, rows[1].folder, metric="B-2")
    cell = cells_of(place, "differences")["two, stages", "B-2"]
    assert float(cell["value"]) == pytest.approx(compared.comparisons[0].difference)
    assert (float(cell["low"]), float(cell["high"])) == pytest.approx(compared.comparisons[0].interval)
    assert cell["shown"].startswith(f"'+{compared.comparisons[0].difference:.2f} * [")
    kept = json.loads((place / "comparisons.json").read_text())["rows"][0]
    assert (kept["row"], kept["base"], kept["items"]) == ("two, stages", "0-shot", 12)
    assert {one["name"]: one["p"] for one in kept["comparisons"]}["B-2"] == compared.comparisons[0].p
    assert ("0-shot", "B-2") not in cells_of(place, "differences")


def test_p_is_corrected_over_the_rows_of_a_column(place):
    rows = [*two(place), row("third", make_run(place / "third", PLAIN | {"d0": "Tell me more of d0."}))]
    finish(place, rows, After(score=NO_BERT, compare={"base": "0-shot", "samples": 200, "seed": 1}), "mine")
    kept = json.loads((place / "comparisons.json").read_text())["rows"]
    raw = [one["p"] for each in kept for one in each["comparisons"] if one["name"] == "B-2"]
    corrected = [one["p_holm"] for each in kept for one in each["comparisons"] if one["name"] == "B-2"]
    assert corrected == [pytest.approx(2 * raw[0]), pytest.approx(raw[1])] and raw[0] < raw[1]
    assert {(each["samples"], each["seed"]) for each in kept} == {(200, 1)}


def test_each_model_has_its_own_base_row(place):
    rows = [
        row(f"{model} {name}", make_run(place / f"{model}-{name}", replies, model="same"), model=model)
        for model in ("a", "b")
        for name, replies in (("0-shot", PLAIN), ("close", CLOSE))
    ]
    lonely = row("c close", make_run(place / "c", CLOSE), model="c")
    done = finish(place, [*rows, lonely], After(score=NO_BERT, compare="0-shot"), "mine")
    assert done.notes == ("no row of c is compared: its base row 0-shot has no reply",)
    kept = json.loads((place / "comparisons.json").read_text())["rows"]
    assert [(each["row"], each["base"]) for each in kept] == [("a close", "a 0-shot"), ("b close", "b 0-shot")]


def test_what_is_missing_is_said_and_stops_nothing(place):
    empty = make_run(place / "empty", {}, failed="d0")
    part = make_run(place / "part", {name: PLAIN[name] for name in NAMES[:9]}, dialogues=12, failed="d9")
    damaged = make_run(place / "damaged", PLAIN)
    lines = (damaged / "responses.jsonl").read_text().splitlines()
    (damaged / "responses.jsonl").write_text("\n".join([lines[0], "{", *lines[1:]]))
    rows = [
        *two(place),
        row("empty", empty, 0, 1),
        row("part", part, 9, 1),
        row("gone", None, 0, error="the model does not exist"),
        row("damaged", damaged),
    ]
    done = finish(place, rows, After(score=NO_BERT, compare="0-shot"), "mine")
    assert done.notes == (
        "row empty is missing: it has no reply",
        "row part is not complete: 9 of 12 replies, 1 failed",
        "row gone is missing: it has no reply (the model does not exist)",
        "row damaged is missing: its run cannot be read",
    )
    [failure] = done.failures
    assert failure.startswith("damaged: ") and "line 2" in failure and failure.endswith(f"localemp score {damaged}")
    assert {each["row"] for each in lines_of(place)} == {"0-shot", "two, stages", "part"}
    page = (place / "report.html").read_text()
    assert "Row gone is missing: it has no reply (the model does not exist)." in page
    assert cells_of(place, "differences")["part", "Dialogues"]["shown"] == "9"
    assert "Row gone is missing" in (place / "tables.tex").read_text()


def test_without_any_reply_there_is_nothing_to_report(place):
    done = finish(place, [row("gone", None, 0)], After(compare="0-shot"), "mine")
    assert done.written == done.failures == ()
    assert done.notes[-1] == "no row has a reply: there is nothing to report"


def test_a_step_that_fails_is_named_with_its_command_and_the_others_go_on(place):
    rows = two(place)
    (place / "tables.csv").mkdir()
    (place / "study-two-stages").write_text("a file in the study's place")
    after = After(score=NO_BERT, compare="0-shot", study={"sample": 2})
    done = finish(place, rows, after, "mine")
    assert [failure.partition(":")[0] for failure in done.failures] == ["study of two, stages", "tables.csv"]
    study, tables = done.failures  # with names that a shell needs quoted
    pair = f"'two, stages={rows[1].folder}' 0-shot={rows[0].folder}"
    assert f"localemp study create {pair} --kind ab --sample 2 --out {place / 'study-two-stages'}" in study
    assert f"'two, stages={rows[1].folder}' --against 0-shot --csv {place / 'tables.csv'}" in tables
    made = ["comparisons.json", "results.jsonl", *parquet_of(place), "report.html", "tables.tex"]
    assert [path.name for path in done.written] == made
    assert "Failed: study of two, stages: " in (place / "report.html").read_text()


def test_every_row_has_a_study_of_its_own_replies(place):
    base = row("base", make_run(place / "rows" / "base-1", PLAIN))
    names = ("a b", "a-b", "é" * 100)  # the first two are one name to a file system, and the last is too long for it
    others = [row(name, make_run(place / f"run{seed}", CLOSE, seed=seed)) for seed, name in enumerate(names)]
    after = After(score=NO_BERT, compare="base", study={"sample": 2})
    done = finish(place, [base, *others], after, "mine")
    assert done.failures == ()
    runs = {
        Study.read(path).key.sources[each.row.name]["run"]: path
        for each, path in zip(others, done.written[:3], strict=True)
    }
    assert list(runs) == [str(each.folder) for each in others] and len(set(runs.values())) == 3
    changed = row("a b", make_run(place / "changed", PLAIN | {"d0": "Oh."}, "two-stage", seed=9))
    again = finish(place, [base, changed, *others[1:]], after, "mine")
    assert again.failures == () and again.written[1:3] == done.written[1:3]
    assert again.written[0] not in runs.values()
    assert Study.read(again.written[0]).key.sources["a b"]["run"] == str(changed.folder)
    assert finish(place, [base, changed, *others[1:]], after, "mine").written[:3] == again.written[:3]
    assert finish(place, [base, *others], after, "mine").written[:3] == done.written[:3]


def test_a_full_disk_leaves_the_former_report_as_it_is(place):
    path, limits = place / "report.html", resource.getrlimit(resource.RLIMIT_FSIZE)
    path.symlink_to("elsewhere.html")
    write_text(path, "the former report", "--html")
    (place / "elsewhere.html").chmod(0o600)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # as a full disk: a file cannot grow
    try:
        with pytest.raises(OptionError, match=r"--html .*report\.html: cannot be written"):
            write_text(path, "x" * 1000, "--html")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "the former report"
    write_text(path, "a new report", "--html")
    assert path.is_symlink() and (place / "elsewhere.html").read_text() == "a new report"
    assert (place / "elsewhere.html").stat().st_mode & 0o777 == 0o600
    assert sorted(each.name for each in place.glob("*.html*")) == ["elsewhere.html", "report.html"]


def test_replies_beyond_a_lower_limit_count_and_are_told(place):
    rows = [row("0-shot", make_run(place / "a", PLAIN), answered=5, dialogues=5)]
    told = "runs with replies to more dialogues than asked for now count with all of them: 0-shot 12 instead of 5"
    assert finish(place, rows, After(score=NO_BERT), "mine").notes == (told,)
    assert told[1:] in (place / "report.html").read_text()


def parquet_of(folder):
    return [path.name for path in folder.glob("results.parquet")]


def test_the_named_command_does_the_step_alone(place, localemp):
    rows = two(place)
    localemp.folder = place
    names = [f"{each.row.name}={each.folder}" for each in rows]
    done = localemp("report", *names, "--against", "0-shot", "--csv", "alone.csv")
    assert done.returncode == 0, done.stderr
    finish(place, rows, After(score=NO_BERT, compare="0-shot"), "mine")
    with (place / "alone.csv").open() as file:
        alone = {(each["row"], each["column"]): each["shown"] for each in csv.DictReader(file)}
    assert alone["two, stages", "B-2"] == cells_of(place, "differences")["two, stages", "B-2"]["shown"]
    assert localemp("report", *names, "--against", "nobody").returncode == 2


def test_every_reply_is_a_line_with_all_columns(place):
    rows = [*two(place), row("failing", make_run(place / "f", {"d0": "Oh."}, failed="d1"), 1, 1)]
    finish(place, rows, After(score=NO_BERT), "mine")
    lines = lines_of(place)
    assert len(lines) == 26 and {tuple(line) for line in lines} == {(*COLUMNS, *metric_columns())}
    first = next(line for line in lines if line["row"] == "two, stages")
    assert (first["experiment"], first["strategy"], first["id"]) == ("mine", "two-stage", "d0")
    assert (first["context"], first["reference"]) == (["This is the story d0."], "Tell me more of d0.")
    assert (first["calls"], first["prompt_tokens"], first["completion_tokens"], first["seconds"]) == (2, 22, 10, 0.75)
    assert (first["feeling"], first["cost"], first["error"]) == ("Hard to say.", None, None)
    assert first["B-2"] > 50 and first["F_BERT"] is None
    failed = lines[-1]
    assert (failed["reply"], failed["error"], failed["calls"], failed["prompt_tokens"]) == (None, "too hot", 0, None)


def test_the_lines_are_pandas_and_parquet_s(place):
    parquet = pytest.importorskip("pyarrow.parquet", reason="results.parquet needs pyarrow")
    finish(place, two(place), After(score=NO_BERT), "mine")
    table = parquet.read_table(place / "results.parquet").to_pylist()
    assert table == lines_of(place)


def test_bertscore_is_kept_reply_by_reply_and_not_computed_again(place):
    rows = two(place)
    model = f"{save_tiny_roberta(place / 'tiny')}:{LAYER}"
    after = After(score={"bertscore_model": model}, compare="0-shot")
    assert finish(place, rows, after, "mine").failures == ()
    means = {
        name: [line["F_BERT"] for line in lines_of(place) if line["row"] == name] for name in ("0-shot", "two, stages")
    }
    first, second = (sum(each) / len(each) for each in means.values())
    assert float(cells_of(place, "differences")["two, stages", "F_BERT"]["value"]) == pytest.approx(second - first)
    assert float(cells_of(place, "automatic")["0-shot", "F_BERT"]["value"]) == pytest.approx(first)
    before = [(each.folder / "scores.json").stat().st_mtime_ns for each in rows]
    tasks = []
    (place / "tiny" / "model.safetensors").unlink()  # nothing may need the model again
    again = finish(place, rows, after, "mine", lambda progress: tasks.append(progress.task))
    assert again.failures == () and "Scoring" not in tasks
    assert before == [(each.folder / "scores.json").stat().st_mtime_ns for each in rows]
    other = finish(place, rows, After(score={"bertscore_model": "tiny"}), "mine")
    assert any(note.startswith("no BERTScore: ") for note in other.notes)


def test_a_rerun_does_not_wait_for_what_this_machine_cannot_compute(place, monkeypatch):
    rows, small = two(place), str(place / "cache" / "nltk")
    take_away_wordnet(place, monkeypatch)

    def scored():
        tasks = []
        assert finish(place, rows, After(score=NO_BERT), "mine", lambda each: tasks.append(each.task)).failures == ()
        told = [read_scores(each.folder / "scores.json").score("METEOR") for each in rows]
        return "Scoring" in tasks, {each.value is None for each in told}, told[0].reason

    assert scored()[:2] == (True, {True})
    again = scored()
    assert again[:2] == (False, {True})
    assert again[2].startswith("METEOR needs WordNet: cannot download the package")
    monkeypatch.setenv("NLTK_DATA", small)
    assert [scored()[:2] for _ in range(2)] == [(True, {False}), (False, {False})]


def test_scores_that_localemp_score_made_are_taken(place):
    rows = two(place)
    score([each.folder for each in rows], no_bertscore=True)
    tasks = []
    finish(place, rows, After(score=NO_BERT), "mine", lambda progress: tasks.append(progress.task))
    assert "Scoring" not in tasks
    with (rows[0].folder / "responses.jsonl").open("a") as file:
        file.write(json.dumps(read_records(rows[0].folder)[0] | {"id": "new"}) + "\n")
    finish(place, rows, After(score=NO_BERT), "mine", lambda progress: tasks.append(progress.task))
    assert "Scoring" in tasks


def test_shared_requests_are_said_and_counted(place):
    rows = two(place)
    path = rows[1].folder / "responses.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records[:5]:
        record["stages"][0]["asked_by"] = "0-shot: d0"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    finish(place, rows, After(score=NO_BERT), "mine")
    assert "5 calls (two, stages 5)" in (place / "report.html").read_text()
    assert sum(line["shared"] for line in lines_of(place)) == 5


def test_no_report_writes_no_page_but_the_comparison(place):
    done = finish(place, two(place), After(score=False, report=False, compare="0-shot"), "mine")
    assert [path.name for path in done.written] == ["comparisons.json"]
    done = finish(place, two(place / "more"), After(score=False, report=False), "mine")
    assert done.written == () == done.notes


def test_a_long_case_study_is_cut_and_says_so(place):
    many = {f"d{number}": f"Reply {number}." for number in range(205)}
    rows = [row("0-shot", make_run(place / "many", many), 205, dialogues=205)]
    finish(place, rows, After(score=NO_BERT), "mine")
    page = (place / "report.html").read_text()
    assert "Here are 200 of 205 dialogues." in page
    assert "Reply 199." in page and "Reply 204." not in page


def test_a_judge_that_fails_keeps_the_other_steps(place):
    judge = write_script(place, {"error": "fatal", "reply": "no more"}, name="judge")
    told = {"sample": 2, "judge": {"model": "smollm2", "script": str(judge)}}
    rows = [*two(place), row("third", four(place / "third"), 4, dialogues=4)]
    done = finish(place, [rows[0], rows[1]], After(score=NO_BERT, compare="0-shot", study=told), "mine")
    [failure] = done.failures
    assert "no more" in failure and "0 of 12 answers saved" in failure
    assert "localemp study judge" in failure and failure.endswith(str(judge))
    assert (place / "report.html").exists()
    write_script(place, {"reply": json.dumps({"choice": "B"})}, name="judge")
    assert finish(place, [rows[0], rows[1]], After(score=NO_BERT, compare="0-shot", study=told), "mine").failures == ()


def test_rows_of_the_same_settings_are_one_row(place):
    base, close = two(place)
    twin = row("base again", base.folder)
    done = finish(place, [base, twin, close], After(score=NO_BERT, compare="base again"), "mine")
    assert done.notes == ("row base again has the same settings as row 0-shot, whose replies it has",)
    assert done.failures == ()
    kept = json.loads((place / "comparisons.json").read_text())["rows"]
    assert [(each["row"], each["base"]) for each in kept] == [("two, stages", "0-shot")]


def test_several_studies_are_shown_at_a_glance(place):
    judge = write_script(place, {"match": "Reply A: Tell me", "reply": '{"choice": "A"}'}, name="judge")
    judge.write_text(judge.read_text().splitlines()[0] + '\n{"reply": "{\\"choice\\": \\"B\\"}"}\n')
    told = {"sample": 5, "judge": {"model": "smollm2", "name": "sure", "script": str(judge)}}
    rows = [*two(place), row("close", make_run(place / "close", CLOSE))]
    done = finish(place, rows, After(score=NO_BERT, compare="0-shot", study=told), "mine")
    assert done.failures == ()
    overview = cells_of(place, "preferences")
    assert {name for name, _ in overview} == {"two, stages vs. 0-shot, sure", "close vs. 0-shot, sure"}
    assert overview["close vs. 0-shot, sure", "Empathy"]["shown"].startswith("5–0–0 100.0 %")
    engines = list(place.glob("study-*/judges/sure/manifest.json"))
    assert len(engines) == 2 and {len(json.loads(path.read_text())["sessions"]) for path in engines} == {1}

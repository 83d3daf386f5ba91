"""Plans: what a file may say, and what is said of a wrong one before anything starts."""

import os
import re
from pathlib import Path

import pytest
from repository import REPOSITORY
from whole_flow import FLOW, write_flow

import localemp
from localemp.errors import LocalempError, PlanError, UnknownNameError
from localemp.experiments.expand import expand
from localemp.experiments.plan import PLANS, Plan, read_plan
from localemp.experiments.steps import CompareStep, Judge, ReportStep, ScoreStep
from localemp.reporting.published import read_published
from localemp.strategies.registry import all_strategies

ROW = '[[rows]]\nname = "z"\nstrategy = "zero-shot"\n'


@pytest.fixture
def plan_file(tmp_path):
    def write(text, name="mine.toml"):
        path = tmp_path / name
        path.write_text(text, "utf-8")
        return path

    return write


def test_steps_can_be_replaced_and_their_options_joined():
    after = {"score": {"no_bertscore": True}, "compare": {"base": "a", "samples": 500}, "study": {"sample": 9}}
    plan = Plan(rows=[{"name": "a"}, {"name": "b"}], after=after)
    assert plan.with_steps({}) is plan
    other = plan.with_steps({"compare": "b", "report": False, "study": {"judge": "llama"}}).after
    assert other.score == plan.after.score
    assert other.compare == CompareStep(base="b", samples=500)
    assert other.report is None
    assert (other.study.sample, other.study.judge) == (9, (Judge(model="llama"),))
    assert plan.with_steps({"score": True, "study": True}).after == plan.after
    assert read_plan("smoke").with_steps({"score": {"bertscore_model": "m"}}).source == "smoke"


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ({"scores": True}, "after: unknown key 'scores'"),
        ({"score": {"bertscore": True}}, "after.score: unknown key 'bertscore'"),
        ({"compare": {"samples": 500}}, "after.compare.base"),
        ({"study": True}, "there is no base row"),
        ({"report": 5}, "after.report"),
    ],
    ids=["step", "option", "base", "study", "type"],
)
def test_wrong_steps_are_named(steps, told):
    with pytest.raises(PlanError) as error:
        Plan(rows=[{"name": "a", "strategy": "zero-shot"}]).with_steps(steps)
    assert told in error.value.message


@pytest.mark.parametrize("name", PLANS)
def test_bundled_plans_can_be_read_expanded_and_written_again(name):
    plan = read_plan(name)
    assert plan.name == plan.source == name
    assert plan.about
    rows = expand(plan)
    assert plan.after.compare.base == rows[0].name
    again = Plan(**plan.model_dump(mode="json"))
    assert again.model_dump() == plan.model_dump()
    assert expand(again) == rows


def test_the_papers_plan_has_a_row_for_every_row_of_chatgpt_in_tables_1_and_3():
    known = [each for each in read_published().counterparts_of("automatic") if each.strategy]
    rows = expand(read_plan("paper"))
    placed = {}
    for row in rows:
        config = row.config
        made = {"strategy": config.strategy, "given": list(config.given)}
        if {"few-shot", "similar"} & set(config.strategy.split("+")):
            made["shots"] = config.shots
        placed[row.name] = [(each.table, each.row) for each in known if each.matches(made)]
    assert placed == {
        "0-shot": [(1, "ChatGPT (+ 0-shot)")],
        "1-shot": [(1, "ChatGPT (+ 1-shot)")],
        "5-shot": [(1, "ChatGPT (+ 5-shot)")],
        "similar": [(3, "+ SS ICL")],
        "two-stage": [(3, "+ Two-stage")],
        "given emotion": [(3, "+ Two-stage (emo)")],
        "given situation": [(3, "+ Two-stage (situ)")],
        "knowledge": [(3, "+ Knowledge")],
    }
    assert {(each.table, each.row) for each in known} == {pair for pairs in placed.values() for pair in pairs}
    assert {(row.config.data, row.config.instances) for row in rows} == {("empathetic-dialogues", "published")}


def test_the_plan_of_combinations_has_all_strategies():
    assert [row.config.strategy for row in expand(read_plan("combinations"))] == list(all_strategies())


def test_a_file_has_everything_that_a_plan_can_say(plan_file):
    path = plan_file("""
        name = "my plan"
        about = "what it is for"
        models = ["llama", { model = "qwen", name = "hot", temperature = 1, engine_args = { enforce_eager = true } }]
        data = "bundled"
        split = "valid"
        limit = 3
        [defaults]
        variant = "released"
        [[rows]]
        name = "base"
        strategy = "zero-shot"
        [[rows]]
        name = "other"
        strategy = "two-stage"
        given = ["emotion"]
        [after]
        score = { no_bertscore = true }
        compare = { base = "base", samples = 200, seed = 1 }
        report = { title = "Mine", cases = 2, common = true, published = "none" }
        [after.study]
        kind = "rating"
        preset = "paper"
        rows = ["other"]
        sample = 10
        judge = { model = "gpt-4", temperature = 0.5, votes = 3 }
        """)
    plan = read_plan(path)
    assert (plan.name, plan.source, plan.split, plan.limit) == ("my plan", str(path), "valid", 3)
    assert [model.name for model in plan.models] == [None, "hot"]
    assert plan.models[1].settings == {"temperature": 1, "engine_args": {"enforce_eager": True}}
    assert plan.after.score == ScoreStep(no_bertscore=True)
    assert plan.after.compare == CompareStep(base="base", samples=200, seed=1)
    assert plan.after.report == ReportStep(title="Mine", cases=2, common=True, published="none")
    assert plan.after.study.rows == ("other",)
    [judge] = plan.after.study.judge
    assert (judge.votes, judge.config.model, judge.config.temperature) == (3, "gpt-4", 0.5)
    assert len(expand(plan)) == 4
    assert Plan(**plan.model_dump(mode="json")).model_dump() == plan.model_dump()


def test_flows_are_files_beside_the_plan(plan_file, tmp_path, monkeypatch):
    (tmp_path / "plans").mkdir()
    write_flow(tmp_path / "plans")
    write_flow(tmp_path, "other")
    monkeypatch.chdir(tmp_path)
    text = 'limit = 2\n[[rows]]\nstrategy = ["zero-shot", "mine.toml", "./other.toml+similar"]\nshots = [0, 1]\n'
    rows = expand(read_plan(plan_file(text, "plans/p.toml")))
    assert [row.name for row in rows] == ["zero-shot", "mine", "other", "similar+other, shots=1"]
    assert rows[1].config.strategy == str(tmp_path / "plans" / "mine.toml")
    assert rows[3].config.strategy == "similar+./other.toml", "not beside the plan, so where the command is given"


def test_flows_of_one_name_need_names_of_their_own(plan_file, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_flow(tmp_path / folder)
    rows = '[[rows]]\nstrategy = "a/mine.toml"\n[[rows]]\nstrategy = "b/mine.toml"\n'
    with pytest.raises(PlanError, match="2 rows are called 'mine'"):
        expand(read_plan(plan_file(rows, "plan.toml")))


def test_a_broken_flow_is_named_with_row_and_file(plan_file, tmp_path):
    write_flow(tmp_path, "broken", FLOW.replace('name = "reply"', 'name = "end"'))
    path = plan_file('[[rows]]\nname = "b"\nstrategy = ["zero-shot", "broken.toml"]\n', "plan.toml")
    with pytest.raises(PlanError) as refused:
        expand(read_plan(path))
    told = refused.value.with_hint
    assert told.startswith(f"{path}: row 1 (b), strategy: {tmp_path / 'broken.toml'}:22: stage 'end', name: "), told


def test_without_after_rows_are_scored_and_reported():
    plan = localemp.Plan(rows=[{"strategy": "zero-shot"}])
    assert (plan.after.score, plan.after.report) == (ScoreStep(), ReportStep())
    assert plan.after.compare is plan.after.study is None
    off = Plan(rows=[{"strategy": "zero-shot"}], after={"score": False, "report": False})
    assert off.after.score is off.after.report is None


def test_options_of_metrics_belong_to_score():
    plan = Plan(rows=[{}], after={"score": {"bertscore_model": "roberta-large:17"}})
    assert plan.after.score.settings == {"bertscore_model": "roberta-large:17"}


@pytest.mark.parametrize("judge", ["gpt-4", {"model": "gpt-4"}, ["gpt-4"]], ids=["a name", "a table", "a list of one"])
def test_a_judge_is_a_name_or_a_table(judge):
    plan = Plan(rows=[{"name": "z"}], after={"compare": "z", "study": {"judge": judge}})
    assert plan.after.study.judge == (Judge(model="gpt-4"),)


def test_several_judges_are_a_list():
    judges = ["gpt-4", {"model": "gpt-4o", "votes": 3, "temperature": 0.5}]
    plan = Plan(rows=[{"name": "z"}], after={"compare": "z", "study": {"judge": judges}})
    assert [(judge.model, judge.votes) for judge in plan.after.study.judge] == [("gpt-4", 1), ("gpt-4o", 3)]
    assert plan.with_steps({"study": {"sample": 7}}).after.study.judge == plan.after.study.judge


def test_paths_in_a_file_are_relative_to_it(plan_file, tmp_path, monkeypatch):
    here = tmp_path / "plans"
    here.mkdir()
    for name in ("mine.jsonl", "facts.jsonl", "words.toml", "asked.toml", "own.toml"):
        (here / name).touch()
    (here / "samples").mkdir()
    monkeypatch.chdir(tmp_path)
    plan = read_plan(
        plan_file(
            """
            models = ["own.toml", "qwen", "org/name"]
            data = "mine.jsonl"
            [[rows]]
            name = "a"
            strategy = "few-shot+knowledge"
            knowledge = "facts.jsonl"
            variant = ["words.toml", "paper", "./words.toml"]
            pool = "samples"
            [after]
            compare = "a"
            study = { aspects = "asked.toml", judge = { model = "own.toml", prompts = "judge.toml" } }
            """,
            "plans/mine.toml",
        )
    )
    assert [model.model for model in plan.models] == [str(here / "own.toml"), "qwen", "org/name"]
    assert plan.data == str(here / "mine.jsonl")
    words = str(here / "words.toml")
    assert plan.rows[0].settings == {
        "strategy": "few-shot+knowledge",
        "knowledge": str(here / "facts.jsonl"),
        "variant": [words, "paper", words],
        "pool": "samples",
    }
    study = plan.after.study
    [judged] = study.judge
    assert (study.aspects, judged.model) == (str(here / "asked.toml"), str(here / "own.toml"))
    assert judged.prompts == str(here / "judge.toml")
    judge = '[after.study]\naspects = "epitome"\njudge = { model = "qwen", prompts = "epitome" }\n'
    named = plan_file(f'{ROW}[after]\ncompare = "a"\n{judge}', "plans/mine.toml")
    study = read_plan(named).after.study
    assert (study.aspects, study.judge[0].prompts) == ("epitome", "epitome"), "names of bundled files"
    # What does not lie there is taken as it is, and missed where it is used.
    assert read_plan(plan_file(f'data = "away.jsonl"\n{ROW}')).data == "away.jsonl"


WRONG = {
    "key": ('modles = ["a"]\n' + ROW, "unknown key 'modles'; did you mean 'models'?"),
    "no rows": ('about = "x"', "rows: missing key"),
    "empty rows": ("rows = []", "rows: there is none"),
    "rows of another kind": ("[rows]\nx = 1", "rows: must be a list"),
    "row of another kind": ("rows = [5]", r"rows\[1\]: must be a table"),
    "too many rows": ("\n".join(f'[[rows]]\nname = "{n}"' for n in range(1001)), "rows: 1,001 are more than 1,000"),
    "key of a row": (ROW + "shot = 5", r"row 1 \(z\): unknown key 'shot'; did you mean 'shots'\?"),
    "key unlike any": (
        ROW + "xyzzy = 5",
        r"row 1 \(z\): unknown key 'xyzzy'; known: adapter, strategy, variant, layout",
    ),
    "key of control characters": (ROW + '"\\u001b[31m" = 5', r"unknown key '\\x1b\[31m'"),
    "text for a number": ('[[rows]]\nstrategy = "few-shot"\nshots = "5"', "row 1, shots: Input should be a valid int"),
    "truth for a number": ('[[rows]]\nstrategy = "few-shot"\nshots = true', "row 1, shots: Input should be a valid"),
    "fraction": ('[[rows]]\nstrategy = "few-shot"\nshots = [1, 2.5]', "row 1, shots: Input should be a valid integer"),
    "huge number": (ROW + "seed = 99999999999999999999", r"row 1 \(z\), seed: the number is too large"),
    "negative": (ROW + "temperature = -1", r"row 1 \(z\), temperature: --temperature -1.0: too small"),
    "not a number": (ROW + "temperature = nan", "temperature: it is not a finite number"),
    "date": (ROW + "temperature = 2020-01-01", "temperature: a value of the type date is not possible here"),
    "table for a number": (ROW + "temperature = { a = 1 }", "temperature: Input should be a valid number"),
    "empty text": (ROW + 'variant = " "', "variant: it is empty"),
    "long text": (ROW + f'variant = "{"a" * 5000}"', "variant: it has more than 4,096 characters"),
    "null byte": (ROW + 'variant = "a\\u0000.toml"', "variant: it has a control character"),
    "strategy": (
        '[[rows]]\nstrategy = "zero-shots"',
        "row 1, strategy: unknown strategy 'zero-shots'; did you mean 'zero-shot'. known: zero",
    ),
    "strategies that exclude each other": ('[[rows]]\nstrategy = "few-shot+similar"', "its parts exclude each other"),
    "layout": (ROW + 'layout = "html"', "layout: Input should be 'chat' or 'transcript'"),
    "one of several": ('[[rows]]\nstrategy = "two-stage"\ngiven = "emotion"', r'several values; give .* \["emotion"\]'),
    "several": (
        '[[rows]]\nstrategy = "two-stage"\ngiven = ["mood"]',
        "given: Input should be 'emotion' or 'situation'",
    ),
    "empty list": ("[[rows]]\nstrategy = []", "row 1, strategy: the list is empty"),
    "row twice": (ROW + ROW, r"row 2 \(z\), name: 2 rows are called 'z'"),
    "empty name": ('[[rows]]\nname = ""', r"rows\[1\].name: it is empty"),
    "long name": (f'[[rows]]\nname = "{"a" * 500}"', r"rows\[1\].name: it has more than 100 characters"),
    "name of control characters": ('[[rows]]\nname = "a\\u001bb"', r"rows\[1\].name: it has a control character"),
    "name of two lines": ('[[rows]]\nname = "a\\nb"', r"rows\[1\].name: it has a control character"),
    "name with a slash": ('[[rows]]\nname = "a/b"', r"rows\[1\].name: a name cannot have a slash"),
    "name of dots": ('[[rows]]\nname = ".."', r"rows\[1\].name: a name needs a letter or a digit"),
    "name of another type": ("[[rows]]\nname = 5", r"rows\[1\].name: must be a text"),
    "model in a row": (ROW + 'model = "llama"', r"row 1 \(z\): model does not belong here; name models at the top"),
    "data in a row": (ROW + 'data = "samples"', "data does not belong here; all rows answer the same dialogues"),
    "engine in a row": (ROW + "concurrency = 3", "concurrency does not belong here; all rows of a model share one eng"),
    "models in defaults": (
        '[defaults]\nmodels = ["a"]\n' + ROW,
        "defaults: models does not belong here; name models at",
    ),
    "list in defaults": ("[defaults]\nseed = [1, 2]\n" + ROW, "defaults, seed: .* integer; only rows have lists"),
    "key of defaults": ("[defaults]\ntop = 0.1\n" + ROW, "defaults: unknown key 'top'; did you mean 'top_p'"),
    "defaults of another kind": ("defaults = 5\n" + ROW, "defaults: must be a table"),
    "defaults without a use": ('[defaults]\ngiven = ["emotion"]\n' + ROW, "defaults, given: no row's strategy has it"),
    "no models": ("models = []\n" + ROW, "models: the list is empty"),
    "one model": ('models = "llama"\n' + ROW, "models: must be a list"),
    "model of another type": ("models = [5]\n" + ROW, r"models\[1\]: must be a table"),
    "table without model": ("models = [{ seed = 1 }]\n" + ROW, r"models\[1\].model: missing key"),
    "key of a model": (
        'models = [{ model = "llama", sed = 1 }]\n' + ROW,
        r"models \(llama\): unknown key 'sed'; did you",
    ),
    "strategy of a model": (
        'models = [{ model = "llama", strategy = "similar" }]\n' + ROW,
        "strategies belong to rows",
    ),
    "model twice": ('models = ["llama", "llama"]\n' + ROW, "models: two models are called 'llama'"),
    "model that does not exist": (
        'models = ["nix"]\n' + ROW,
        r"models \(nix\): unknown model 'nix'; known: deepseek-r1",
    ),
    "prompts that do not exist": (ROW + 'variant = "papper"', "row 'z', variant: unknown prompt variant 'papper'"),
    "limit": ("limit = 0\n" + ROW, "limit: Input should be greater than or equal to 1"),
    "split": ('split = "tset"\n' + ROW, "unknown split 'tset'"),
    "key of after": (ROW + "[after]\nscroe = true", "after: unknown key 'scroe'; did you mean 'score'"),
    "base row": (ROW + '[after]\ncompare = "zz"', "after.compare: no row is called 'zz'; did you mean 'z'"),
    "key of score": (ROW + '[after.score]\nbert_model = "x"', "after.score: unknown key 'bert_model'; did you mean"),
    "model of score": (
        ROW + "[after.score]\nbertscore_model = 5",
        "after.score, bertscore_model: Input should be a val",
    ),
    "score of another kind": (ROW + '[after]\nscore = "yes"', "after.score: must be a table"),
    "samples": (ROW + '[after]\ncompare = { base = "z", samples = 5 }', "after.compare.samples: .* equal to 100"),
    "figures": (ROW + '[after]\nreport = { published = "x.toml" }', "after.report.published: x.toml: cannot be read"),
    "study without base": (ROW + "[after]\nstudy = true", "after.study: there is no base row to compare with"),
    "kind of study": (ROW + '[after]\ncompare = "z"\nstudy = { kind = "x" }', "after.study.kind: .* 'ab' or 'rating'"),
    "design": (
        ROW + '[after]\ncompare = "z"\nstudy = { preset = "x" }',
        "after.study.preset: unknown preset 'x'; known",
    ),
    "questionnaire": (
        ROW + '[after]\ncompare = "z"\nstudy = { aspects = "x.toml" }',
        "study.aspects: .*: no such file",
    ),
    "row of a study": (ROW + '[after]\ncompare = "z"\nstudy = { rows = ["x"] }', "study.rows: no row is called 'x'"),
    "base in a study": (ROW + '[after]\ncompare = "z"\nstudy = { rows = ["z"] }', "study.rows: 'z' is the base row"),
    "judge": (ROW + '[after]\ncompare = "z"\nstudy = { judge = "nix" }', "after.study.judge: unknown model 'nix'"),
    "key of a judge": (
        ROW + '[after]\ncompare = "z"\nstudy.judge = { model = "gpt-4", shots = 3 }',
        "after.study.judge: unknown key 'shots'; known: base_url",
    ),
    "judges of one name": (
        ROW + '[after]\ncompare = "z"\nstudy.judge = ["gpt-4", { model = "gpt-4", prompts = "mt-bench" }]',
        "after.study.judge: two judges have the name gpt-4",
    ),
    "judge's name": (
        ROW + '[after]\ncompare = "z"\nstudy.judge = { model = "gpt-4", name = "a b" }',
        "after.study.judge, name: 'a b' is not a valid folder name",
    ),
    "votes without temperature": (
        ROW + '[after]\ncompare = "z"\nstudy.judge = { model = "gpt-4", votes = 3 }',
        "after.study.judge: 3 votes at temperature 0 would all be the same",
    ),
    "secret": (
        'models = [{ model = "llama", engine_args = { hf_token = "hf_abcdefghijkl123456" } }]\n' + ROW,
        r"models \(llama\), engine_args: it holds a secret",
    ),
    "password in a URL": (
        'models = [{ model = "llama", base_url = "http://me:pw@host/v1" }]\n' + ROW,
        r"models \(llama\), base_url: it holds a secret",
    ),
    "code of others": (
        'models = [{ model = "a/b", engine_args = { trust_remote_code = true } }]\n' + ROW,
        r"models \(a/b\), engine_args: trust_remote_code can run code, which a plan may not ask for",
    ),
    "code of others, deeper": (
        '[defaults.engine_args]\na = 1\nkv = { kv_connector_module_path = "x.y" }\n' + ROW,
        "defaults, engine_args: kv_connector_module_path can run code",
    ),
    "a strategy that is code": (
        '[[rows]]\nstrategy = "zero-shot"\n[[rows]]\nstrategy = "./mine.py:Mine"\n',
        "row 2, strategy: ./mine.py:Mine is code, which only `--strategy` and Python may name",
    ),
    "a flow that is not there": (
        '[[rows]]\nstrategy = "similar+./no.toml"\n',
        r"row 1, strategy: no\.toml: no such file",
    ),
    "key of an API": ('models = [{ model = "llama", api_key = "sk-1" }]\n' + ROW, "unknown key 'api_key'"),
    "deep": ("a = " + "[" * 500 + "]" * 500, "nested more than"),
    "not TOML": ("rows = [", "not valid TOML"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_plan_is_refused_with_file_and_place(case, plan_file):
    text, message = WRONG[case]
    path = plan_file(text)
    with pytest.raises(PlanError) as refused:
        expand(read_plan(path))
    assert refused.value.exit_code == 2
    assert refused.value.message.startswith(f"{path}: ")
    assert re.search(message, refused.value.with_hint), refused.value.with_hint
    for secret in ("hf_abc", "me:pw", "sk-1"):
        assert secret not in refused.value.with_hint


def test_files_that_cannot_be_plans_are_refused(tmp_path):
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    (tmp_path / "huge.toml").write_bytes(b"#" * 2**21)
    (tmp_path / "folder.toml").mkdir()
    os.mkfifo(tmp_path / "pipe.toml")
    told = {
        "bytes": "not valid UTF-8",
        "huge": "more than 1 MiB",
        "folder": "cannot be read: Is a directory",
        "pipe": "cannot be read: Not a regular file",
        "nothing": "no such file",
        "null\0byte": "null byte",
        "a" * 300: "cannot be read: File name too long",
    }
    for name, message in told.items():
        with pytest.raises(PlanError, match=message):
            read_plan(tmp_path / f"{name}.toml")


def test_an_unknown_name_lists_the_bundled_plans(tmp_path):
    with pytest.raises(UnknownNameError) as unknown:
        read_plan("papper")
    assert unknown.value.known == PLANS
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UnknownNameError) as unknown:
        read_plan(tmp_path / "mine.txt")
    assert "must end in .toml" in unknown.value.hint


@pytest.mark.parametrize(
    "fields", [{}, {"rows": 5}, {"rows": [{"shot": 1}]}, {"rows": [{}], "after": 3}, {"rows": [{}], "split": "x"}]
)
def test_errors_of_a_plan_made_in_python_are_of_localemp(fields):
    with pytest.raises(LocalempError):
        Plan(**fields)


def test_code_of_others_runs_only_if_the_command_line_asks_for_it():
    plan = Plan(rows=[{}], defaults={"engine_args": {"trust_remote_code": False}})
    (row,) = expand(plan, settings={"engine_args": {"trust_remote_code": True}})
    assert row.config.engine_args == {"trust_remote_code": True}


def test_values_of_python_are_as_good_as_those_of_toml():
    plan = Plan(rows=[{"strategy": "knowledge", "knowledge": Path("facts.jsonl")}, {"shots": 0}], limit=2)
    assert [row.config.knowledge for row in expand(plan)] == [Path("facts.jsonl"), None]


def documented(start, end):
    """Return the first indented block of a part of the page."""
    page = (REPOSITORY / "docs" / "experiments.md").read_text("utf-8")
    lines = page.split(start)[1].split(end)[0].splitlines()
    return "\n".join(line.removeprefix("    ") for line in lines if line.startswith("    "))


def test_the_documented_plan_is_a_plan(plan_file):
    rows = expand(read_plan(plan_file(documented("## Plans", "| key"))))
    assert [row.name for row in rows][:3] == ["llama 0-shot", "llama few-shot, 1-shot", "llama few-shot, 2-shot"]


def test_the_documented_steps_are_steps(plan_file):
    text = documented("## Plans", "| key").split("[after]")[0]
    plan = read_plan(plan_file(text + documented("### Steps afterwards", "| step")))
    expand(plan)
    assert plan.after.study.judge[0].votes == 3


def test_the_documented_plan_in_python_is_a_plan():
    made = {}
    exec(documented("## From Python", "\n## ").split("\n)")[0] + "\n)", made)
    assert len(expand(made["plan"])) == 7


def test_the_folder_of_an_experiment_is_no_plan(tmp_path):
    (tmp_path / "experiment.json").write_text("{}")
    with pytest.raises(UnknownNameError) as unknown:
        read_plan(tmp_path)
    assert f"`localemp experiment show {tmp_path}` has the command" in unknown.value.hint

"""Strategies that are the user's own code, from a file or a module."""

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import pytest

from localemp.bench.strategy_spec import parse_specs
from localemp.dialogue import Dialogue
from localemp.engines.planner import Planner
from localemp.errors import LocalempError, OptionError, PlanError, UnknownNameError
from localemp.experiments.settings import check_settings, setting_types
from localemp.pipeline.config import RunConfig
from localemp.pipeline.generate import plan
from localemp.pipeline.pipeline import Pipeline
from localemp.prompting.render import Prompts
from localemp.prompting.template import load_template
from localemp.runs.run import read_records
from localemp.sampling import Sampling
from localemp.serving.names import ModelNames
from localemp.strategies.base import Draft
from localemp.strategies.code import load_code
from localemp.strategies.registry import canonical_name, find_part, parse_strategy
from localemp.strategies.strategy import Strategy

MINE = """
from dataclasses import dataclass, replace

from localemp.strategies.base import Enricher, Flow
from localemp.strategies.parts import Part
from neighbour import WORD


@dataclass
class Config:
    times: int = 2


class Shout(Flow):
    '''Asks twice.'''

    async def run(self, exchange):
        await exchange.ask("draft")
        await exchange.ask("reply", WORD)


class Weather(Enricher):
    '''Says what the weather is like.'''

    async def enrich(self, draft):
        return replace(draft, additions=(*draft.additions, "(It rains.)"))

    def describe(self):
        return {}


PART = Part(about="", place="flow", make=lambda _: Shout())
number = 3


class Silent(Flow):
    async def run(self, exchange):
        pass


class Counting(Flow):
    async def run(self, exchange):
        await exchange.ask("reply", f"In {int(await exchange.ask('number', 'How many words?'))} words.")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder."""
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "neighbour.py").write_text("WORD = 'Louder, please.'\n")
    (tmp_path / "script.jsonl").write_text('{"reply": "I see."}\n')
    return tmp_path


@pytest.fixture(autouse=True)
def imports(monkeypatch) -> None:
    """What is imported here is not left behind."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "neighbour", raising=False)


GENERATE = ("generate", "--script", "script.jsonl", "--limit", 2, "--out", "run", "--strategy")


@pytest.mark.parametrize("name", ["./mine.py:Shout", "mine:Shout"])
def test_code_from_a_file_and_from_a_module_here(localemp, folder, name):
    done = localemp(*GENERATE, f"{name}+few-shot", alone=True)
    assert done.returncode == 0, done.stderr
    settings = json.loads((folder / "run" / "manifest.json").read_text())["settings"]
    assert settings["strategy"] == "few-shot+Shout"
    assert list(settings["code_sha256"]) == ["Shout"] and len(settings["code_sha256"]["Shout"]) == 64
    for record in read_records(folder / "run"):
        assert [stage["name"] for stage in record["stages"]] == ["draft", "reply"]
        assert record["stages"][1]["messages"][-1]["content"].endswith("Louder, please.")


def test_a_run_with_changed_code_is_not_continued(localemp, folder):
    assert localemp(*GENERATE, "./mine.py:Shout", alone=True).returncode == 0
    again = localemp(*GENERATE, "./mine.py:Shout", alone=True)
    assert again.returncode == 0, again.stderr
    (folder / "mine.py").write_text(MINE + "# changed\n")
    done = localemp(*GENERATE, "./mine.py:Shout", alone=True)
    assert done.returncode != 0 and "code_sha256.Shout" in done.stderr


def test_a_flow_that_asks_nothing_is_an_error(localemp, folder):
    done = localemp(*GENERATE, "./mine.py:Silent", alone=True)
    assert done.returncode == 2 and "the strategy Silent made no call" in done.stderr


def test_code_that_reads_numbers_in_answers_needs_no_answer_beforehand(localemp, folder):
    (folder / "script.jsonl").write_text('{"match": "How many", "reply": ["2", "two"]}\n{"reply": "I see."}\n')
    done = localemp(*GENERATE, "./mine.py:Counting", alone=True)
    assert done.returncode == 1 and "1 reply, 1 failed" in done.stdout + done.stderr, done.stderr
    assert done.stderr.count("cannot go on without a model's answer: ValueError: invalid literal for int()") == 1
    errors = [record["error"]["type"] for record in read_records(folder / "run") if "error" in record]
    assert errors == ["ValueError"], "the model's own answer fails its dialogue"
    shown = localemp("runs", "show", "run", "--errors", alone=True)
    assert "1 replies, 1 failed, 2 calls" in shown.stdout
    preview = localemp("prompts", "show", "--model", "gpt-4o-mini", "--strategy", "./mine.py:Counting", alone=True)
    assert preview.returncode == 1 and "let its code take any text as an answer" in preview.stderr


def test_what_nobody_can_foresee_gets_all_of_the_context(folder):
    flow = load_code(f"{folder}/mine.py:Counting").part.make(None)
    strategy = Strategy("Counting", Prompts(load_template("paper")), Sampling(max_tokens=8), (), flow)
    planner = Planner(lambda messages: [message.content for message in messages], 5000)
    assert asyncio.run(plan(strategy, [Draft(Dialogue("a", ("I lost my job today.",)))], planner)) == 5000


def test_code_joins_other_parts_and_is_run_again_when_it_changes(folder):
    mine = f"{folder}/mine.py"
    assert parse_strategy(f"{mine}:Shout+{mine}:Weather+similar") == ("similar", f"{mine}:Weather", f"{mine}:Shout")
    assert canonical_name(f"{mine}:Shout+{mine}:Weather+similar") == "similar+Weather+Shout"
    assert find_part(f"{mine}:Shout").about == "Asks twice."
    assert find_part(f"{mine}:PART").place == "flow"
    with pytest.raises(OptionError, match="its parts exclude each other"):
        parse_strategy(f"{mine}:Shout+two-stage")
    (folder / "mine.py").write_text(MINE.replace("Asks twice", "Asks two times"))
    assert find_part(f"{mine}:Shout").about == "Asks two times."
    before = Pipeline(RunConfig(model="gpt-4o-mini", strategy=f"{mine}:PART")).settings([], "test")
    assert before["strategy"] == "PART" and list(before["code_sha256"]) == ["PART"]
    assert "code_sha256" not in Pipeline(RunConfig(model="gpt-4o-mini")).settings([], "test")


WRONG = {
    "mine.py": "which class of the file is the strategy",
    "gone.py:Shout": "there is no file .*gone.py",
    "mine.py:Shuot": "there is no 'Shuot' in it; did you mean 'Shout'\\? it has .*Weather",
    "mine.py:number": "it is an int; a strategy is a Part, or a subclass of Flow or Enricher",
    "mine.py:Config": "it is the class Config",
    "raises.py:Shout": "line 3: ValueError: no luck",
    "ends.py:Shout": "SystemExit: 2",
    "broken.py:Shout": "SyntaxError: .*broken.py, line 1",
    "needs.py:Shout": "line 1: ModuleNotFoundError: No module named 'not_here_at_all'",
    "given.py:Needs": "the class Needs cannot be called by localemp: missing a required argument: 'city'",
    "own.py:Option": "two options are called 'shots'",
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_code_is_said_in_plain_words(folder, name):
    (folder / "raises.py").write_text("def f():\n\n    raise ValueError('no luck')\n\nf()\n")
    (folder / "ends.py").write_text("raise SystemExit(2)\n")
    (folder / "broken.py").write_text("class :\n")
    (folder / "needs.py").write_text("import not_here_at_all\n")
    (folder / "given.py").write_text(f"{MINE}\nclass Needs(Shout):\n    def __init__(self, city): pass\n")
    (folder / "own.py").write_text(
        "from localemp.strategies.parts import Part\nfrom localemp.utils.option import Option as O\n"
        "Option = Part(about='', place='q', make=lambda _: None, options=(O(name='shots'),))\n"
    )
    with pytest.raises(LocalempError) as caught:
        parse_strategy(f"{folder}/{name}")
    assert re.search(WRONG[name], caught.value.with_hint), caught.value.with_hint


def test_a_module_that_is_not_there(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(OptionError, match="there is no module 'nothing_like_it', neither installed nor") as caught:
        parse_strategy("nothing_like_it.inner:Shout")
    assert caught.value.hint.endswith("./nothing_like_it/inner.py:Shout")
    (folder / "lacking.py").write_text("import not_here_at_all\n")
    with pytest.raises(OptionError, match="ModuleNotFoundError: No module named 'not_here_at_all'"):
        parse_strategy("lacking:Shout")
    (folder / "a_folder").mkdir()
    for name in ("a_folder:Shout", "sys:path"):
        with pytest.raises(OptionError, match="is a folder or a part of Python, not a module in a file"):
            parse_strategy(name)


def test_a_number_of_shots_is_not_code():
    with pytest.raises(UnknownNameError, match="unknown strategy 'few-shot:5'"):
        parse_strategy("few-shot:5")


def test_only_a_command_line_and_python_name_code(folder):
    evil = folder / "evil.py"
    evil.write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    served = ModelNames("tiny", (), ("zero-shot",))
    for name in (f"{evil}:Shout", f"zero-shot+{evil}:Shout", "antigravity:Shout", f"{folder}/mine.toml"):
        with pytest.raises(UnknownNameError, match="unknown strategy"):
            served.parse(f"tiny:{name}")
    with pytest.raises(PlanError, match="is code, which only `--strategy` and Python may name"):
        check_settings({"strategy": f"{evil}:Shout"}, setting_types(), "plan.toml: row 1")
    assert not (folder / "ran").exists()


def test_the_server_and_plans_refuse_code(localemp, folder):
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    served = localemp("serve", "--model", "gpt-4o-mini", "--strategies", "./evil.py:Shout")
    assert served.returncode == 2 and "./evil.py:Shout is code" in served.stderr
    (folder / "plan.toml").write_text('[[rows]]\nname = "a"\nstrategy = ["zero-shot", "./evil.py:Shout"]\n')
    planned = localemp("experiment", "plan.toml", "--model", "smollm2")
    assert planned.returncode == 2 and "./evil.py:Shout is code" in planned.stderr
    assert not (folder / "ran").exists()


def test_bench_measures_code_too(folder):
    specs = parse_specs(f"few-shot:2,{folder}/mine.py:Shout")
    assert [(spec.strategy.rpartition(os.sep)[2], spec.shots) for spec in specs] == [
        ("few-shot", 2),
        ("mine.py:Shout", None),
    ]

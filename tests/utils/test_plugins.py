"""Plug-ins that fail to load are named with their errors and stop nothing else."""

import json
import os
from pathlib import Path

import pytest

MODULES = {
    "gone.py": "import a_module_that_is_not_there\n",
    "ends.py": "import sys\n\nsys.exit(3)\n",
    "secretive.py": "raise RuntimeError('api_key=sk-1234567890abcdef \\x1b[31m' + 'x' * 9000)\n",
    "various.py": """
from localemp.data.readers import Reader
from localemp.dialogue import Dialogue
from localemp.engines.base import Engine
from localemp.metrics.base import Metric
from localemp.pipeline.config import RunConfig
from localemp.strategies.base import Enricher, Flow
from localemp.strategies.parts import Part
from localemp.utils.option import Option

RunConfig()  # asks a registry while a plug-in is loaded
number = 3


class Kind(Flow):
    '''A flow of its own.'''

    async def run(self, exchange):
        await exchange.ask("reply")


class Needs(Flow):
    def __init__(self, city):
        pass

    async def run(self, exchange):
        pass


class Unfinished(Enricher):
    pass


limit = Part(about="", place="x", make=lambda _: None, options=(Option(name="limit"),))
spelled = Part(about="", place="y", make=lambda _: None, options=(Option(name="spelled", flags="--limit"),))
typed = Part(about="", place="z", make=lambda _: None, options=(Option(name="typed_so", type=int, default="a"),))


class Other(Metric):
    name = "Others"

    def statistics(self, systems):
        raise NotImplementedError

    def settings(self):
        return {}


class Broken(Other):
    def __init__(self):
        raise ValueError("no dictionary")


class Csv(Reader):
    endings = (".csv",)

    def read(self, split, instances):
        return []
""",
    "running.py": """
from localemp.data.readers import Reader
from localemp.dialogue import Dialogue
from localemp.metrics.base import Metric
from localemp.strategies.base import Enricher, Flow
from localemp.strategies.parts import Part

number = Part(about="", place="flow", make=lambda _: 3)


class Raises(Flow):
    async def run(self, exchange):
        raise KeyError("no city")


class Forgets(Enricher):
    async def enrich(self, draft):
        pass

    def describe(self):
        return {}


class Raising(Metric):
    name = "Raising"

    def statistics(self, systems):
        raise ValueError("no words")

    def settings(self):
        return {}


class Unkept(Raising):
    name = "Unkept"

    def settings(self):
        return {"a set": {1}}


class Odd(Reader):
    endings = (".odd",)

    def read(self, split, instances):
        return {"none.odd": None, "three.odd": [3], "same.odd": [Dialogue("a", ("Oh.",))] * 2}[self.source]
""",
}
ENTRY_POINTS = """
[localemp.strategies]
kind = various:Kind
missing = gone:Flow
absent = various:Absent
ended = ends:Flow
secretive = secretive:Flow
wrong = various:number
needs = various:Needs
unfinished = various:Unfinished
two-stage = various:Kind
not valid! = various:Kind
limit-it = various:limit
spelled = various:spelled
typed = various:typed
makes-number = running:number
raises = running:Raises
forgets = running:Forgets

[localemp.metrics]
Raising = running:Raising
Unkept = running:Unkept
Wrong = various:Kind
Other = various:Other
Broken = various:Broken
Dist-1 = various:Other

[localemp.engines]
vllm = various:number
none = various:number

[localemp.data]
talks = gone:Reader
tables = various:Csv
odd = running:Odd
"""
ERRORS = {
    "missing": "ModuleNotFoundError: No module named 'a_module_that_is_not_there'",
    "absent": "AttributeError: module 'various' has no attribute 'Absent'",
    "ended": "SystemExit: 3",
    "wrong": "it is an int; a strategy is a Part, or a subclass of Flow or Enricher",
    "needs": "the class Needs cannot be called by localemp: missing a required argument: 'city'",
    "unfinished": "the class Unfinished does not define describe, enrich",
    "two-stage": "the part 'two-stage' already exists",
    "not valid!": "'not valid!' is not a valid name for a part; use letters, digits, hyphens and underscores",
    "limit-it": "its option 'limit' has to be called 'limit_it', or begin with 'limit_it_' (lower case)",
    "spelled": "its option 'spelled' has to be called 'spelled', or begin with 'spelled_' (lower case)",
    "typed": "--typed-so: Input should be a valid integer, unable to parse string as an integer",
    "Wrong": "it is the class Kind; a metric is a MetricEntry, or a subclass of Metric",
    "Other": "its metric has another name, 'Others'",
    "Broken": "ValueError: no dictionary",
    "Dist-1": "the metric 'Dist-1' already exists",
    "vllm": "it is an int; an engine is an EngineEntry, or a subclass of Engine",
    "none": "it is an int; an engine is an EngineEntry, or a subclass of Engine",
    "talks": "ModuleNotFoundError: No module named 'a_module_that_is_not_there'",
    "tables": "the reader empathetic-dialogues has '.csv' already",
}


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """A package of plug-ins, most of them broken; the environment that has it."""
    for name, text in MODULES.items():
        (tmp_path / name).write_text(text)
    info = tmp_path / "broken_pack-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-pack\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}


def test_doctor_names_each_plug_in_and_its_error(localemp, installed):
    done = localemp("doctor", "--json", env=installed)
    assert done.returncode == 0
    found = {plugin["name"]: plugin for plugin in json.loads(done.stdout)["Plug-ins"]}
    secretive = found.pop("secretive")["error"]
    assert secretive.startswith("RuntimeError: api_key=***") and len(secretive) <= 300
    assert {name: plugin["error"] for name, plugin in found.items() if plugin["error"]} == ERRORS
    assert found["kind"] == {
        "kind": "strategy",
        "name": "kind",
        "package": "broken-pack",
        "version": "2.0",
        "error": "",
        "module": "various",
    }
    told = localemp("doctor", env=installed).stdout
    assert "kind (strategy)" in told and "broken-pack 2.0, ok" in told and "failed: SystemExit: 3" in told
    assert "hint: repair broken-pack, or remove it: pip uninstall broken-pack" in told


def test_broken_plug_ins_are_told_once_and_stop_nothing(localemp, installed, tmp_path):
    script = tmp_path / "script.jsonl"
    script.write_text('{"reply": "I see."}\n')
    words = ("generate", "--script", script, "--limit", 2, "--strategy")
    done = localemp(*words, "kind", "--out", "run", env=installed)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the plug-in ended of broken-pack 2.0 failed to load: SystemExit: 3") == 1
    scored = localemp("score", "run", "--no-bertscore", "--json", env=installed)
    assert scored.returncode == 0, scored.stderr
    helped = localemp("generate", "--help", env=installed).stdout
    assert "A flow of its own." in helped and "--limit-it" not in helped


def test_an_error_about_a_missing_name_says_why(localemp, installed, tmp_path):
    script = tmp_path / "script.jsonl"
    script.write_text('{"reply": "I see."}\n')
    done = localemp("generate", "--script", script, "--strategy", "missing", env=installed)
    why = f"the plug-in missing of broken-pack 2.0 failed to load: {ERRORS['missing']}"
    assert (done.returncode, f"error: unknown strategy 'missing': {why}" in done.stderr) == (2, True)
    (tmp_path / "none.toml").write_text('kind = "chat"\nengine = "none"\n')
    done = localemp("generate", "--model", tmp_path / "none.toml", env=installed)
    assert "unknown engine 'none': the plug-in none of broken-pack 2.0 failed to load" in done.stderr
    done = localemp("data", "stats", "talks", env=installed)
    assert "talks: the plug-in talks of broken-pack 2.0 failed to load" in done.stderr
    for out in ("a", "b"):
        localemp("generate", "--script", script, "--limit", 2, "--out", out)
    done = localemp("compare", "a", "b", "--metric", "Broken", env=installed)
    why = f"the plug-in Broken of broken-pack 2.0 failed to load: {ERRORS['Broken']}"
    assert (done.returncode, f"error: unknown metric 'Broken': {why}" in done.stderr) == (2, True)


def test_help_of_the_command_line_reads_no_plug_ins(localemp, installed):
    done = localemp("--help", env=installed)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("strategy", "told"),
    [
        ("makes-number", "strategy makes-number: it makes an int, not a Flow or an Enricher"),
        ("raises", "the plug-in package broken-pack 2.0, running.py, line 13: KeyError: 'no city'"),
        ("forgets", "Forgets.enrich returned a NoneType, not a Draft"),
    ],
)
def test_a_strategy_that_goes_wrong_is_named(localemp, installed, tmp_path, strategy, told):
    script = tmp_path / "script.jsonl"
    script.write_text('{"reply": "I see."}\n')
    done = localemp("generate", "--script", script, "--limit", 2, "--strategy", strategy, "--out", "run", env=installed)
    assert done.returncode != 0 and f"error: {told}\n" in done.stderr
    assert "report it if this is a bug in localemp" not in done.stderr


def test_a_metric_that_goes_wrong_has_a_reason_and_the_others_are_scored(localemp, installed, tmp_path):
    script = tmp_path / "script.jsonl"
    script.write_text('{"reply": "I see."}\n')
    localemp("generate", "--script", script, "--limit", 2, "--out", "run")
    done = localemp("score", "run", "--no-bertscore", "--json", env=installed)
    assert done.returncode == 0, done.stderr
    scores = {each["name"]: each for each in json.loads(done.stdout)["systems"][0]["scores"]}
    assert scores["Raising"]["reason"] == "the plug-in Raising of broken-pack 2.0: ValueError: no words"
    assert scores["Unkept"]["value"] is None and scores["Dist-1"]["value"] is not None


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("none", "a NoneType, not a list of dialogues"),
        ("three", "an int in place of dialogue 1"),
        ("same", "two dialogues with the id 'a'"),
    ],
)
@pytest.mark.parametrize("command", [("data", "stats"), ("prompts", "show", "--data")], ids=["stats", "show"])
def test_a_reader_that_returns_something_odd_is_named(localemp, installed, tmp_path, command, name, told):
    (tmp_path / f"{name}.odd").touch()
    done = localemp(*command, f"{name}.odd", env=installed)
    assert (done.returncode, f"error: {name}.odd: the data reader running.Odd returned {told}" in done.stderr) == (
        2,
        True,
    )

"""Files that disks, editors and other programs have damaged: no command ends in a traceback, whatever they hold."""

import asyncio
import contextlib
import csv
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import small_runs
from repository import REPOSITORY
from utils.mutants import Kind, mutants

from localemp.bench.comparing import compare
from localemp.bench.dummy import dummy_config
from localemp.bench.page import render as bench_page
from localemp.bench.peers.report import read_report
from localemp.bench.peers.vllm_serve import values_of_vllm
from localemp.bench.result import Point, Recording, read_result
from localemp.bench.result_tables import named, tables_of
from localemp.bench.roofline.flops import read_shape, why_uncounted
from localemp.bench.tune import resume_trials
from localemp.cli.main import cli
from localemp.data.conversations import clean_instances, published_instances
from localemp.data.download import pull
from localemp.data.empathetic_dialogues import read_conversations
from localemp.data.sources import load_dialogues
from localemp.data.stats import Stats
from localemp.dialogue import Dialogue, Message
from localemp.engines.scripted import ScriptedEngine
from localemp.engines.tokens import context_length
from localemp.errors import LocalempError
from localemp.experiments.expand import expand
from localemp.experiments.plan import read_plan
from localemp.imports.reading import read_import
from localemp.metrics.replies import replies_of_run
from localemp.metrics.scoring import read_scores, score_all, write_scores
from localemp.models.profiles import load_profile
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.prompting.render import Asked, Prompts
from localemp.prompting.template import load_template
from localemp.reporting.page import render
from localemp.reporting.published import read_published
from localemp.reporting.report import Report
from localemp.reporting.systems import read_systems
from localemp.runs.run import MANIFEST, RESPONSES, Run, read_manifest
from localemp.sampling import Sampling

HEADER = "conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags"
PUBLISHED = read_published()


def command(*words: object) -> None:
    """A command as a person types it, in this process."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        cli.main(list(map(str, words)), standalone_mode=False)


def made(name: str, content: str | bytes) -> Callable[[Path], Path]:
    """Makes one file of this name."""

    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return make


def lines(*records: object) -> str:
    return "".join(f"{record if isinstance(record, str) else json.dumps(record)}\n" for record in records)


# Runs: a two-stage one with exemplars, a failure, and scores beside it.


def run_file(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        run = folder / "runs" / "a"
        small_runs.make_run(run, {"a": "Oh.", "b": "Ah — no."}, "similar+two-stage", failed="c", given=["situation"])
        write_scores(run / "scores.json", score_all(replies_of_run(run)))
        return run / name

    return make


def resume(path: Path) -> None:
    with Run.open(path.parent, read_manifest(path.parent)["settings"]) as run:
        run.add_session({"command": "localemp generate"})


def look_at_run(path: Path) -> None:
    command("runs", "list", path.parent.parent)
    for how in (["--index", 0], ["--errors"], ["--json"], []):
        command("runs", "show", path.parent, *how)


def report(path: Path) -> None:
    systems = tuple(read_systems([path.parent]))
    made = Report(systems, PUBLISHED)
    render(made, None)
    json.dumps(made.case_study(), allow_nan=False)


def scores(path: Path) -> None:
    scored = read_scores(path)
    write_scores(path.with_name("again.json"), scored)
    for score in scored.scores:
        str(score.signature)


# Results of benchmarks.


def result(folder: Path) -> Path:
    from bench.sample_results import engine

    path = folder / "result.json"
    path.write_text(engine(settings={"engine_args": {"max_num_seqs": 4}, "seed": 0}).model_dump_json(indent=1))
    return path


def look_at_result(path: Path) -> None:
    found = read_result(path)
    compare(found, found).as_dict()
    results = named([(path, found)])
    for each in results:
        tables_of(each)
    bench_page(results, None)


def tuning(folder: Path) -> Path:
    with Recording(folder / "tune.json", "tune", "x", {"seed": 0}, command=[]) as recording:
        recording.add(
            Point(part="trials", labels={"settings": "max_num_seqs=64"}, figures={"replies_per_s": (1.5, 2.0)})
        )
    return recording.path


def go_on_tuning(path: Path) -> None:
    resume_trials(Recording(path, "tune", "x", {"seed": 0}, command=[]))


# EmpatheticDialogues, as it is and as a CSV library writes it.

ROWS = [
    [
        f"hit:{number}_conv:{number}",
        str(index),
        "sad",
        f"I lost it, number {number}.",
        str(index % 2),
        text,
        "5|5|5_2",
        "",
    ]
    for number in range(4)
    for index, text in enumerate(("Hello, it's me.", 'Oh "no"!', "Yes.\nToday.", "I see."), 1)
]
OFFICIAL = lines(HEADER, *(",".join(cell.replace(",", "_comma_").replace("\n", " ") for cell in row) for row in ROWS))


def library_csv(quoting: int) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, quoting=quoting).writerows([HEADER.split(","), *ROWS])
    return buffer.getvalue()


def conversations(path: Path) -> None:
    found = read_conversations(path)
    instances = clean_instances(found)
    published_instances(found)
    Stats.of_conversations(found, instances)


def dialogues(path: Path) -> None:
    Stats.of_dialogues(load_dialogues(str(path)))


DIALOGUES = lines(
    {"id": "a", "turns": ["I lost my job.", "Oh no.", "Yes — today."], "emotion": "sad", "conversation": ["c"]},
    {"turns": ["My dog died."], "situation": "A dog.", "reference": "I am sorry.", "conversation": "c"},
)


def archive(folder: Path) -> Path:
    path = folder / "data.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name in ("train", "valid", "test"):
            member = tarfile.TarInfo(f"ed/{name}.csv")
            member.size = len(OFFICIAL)
            tar.addfile(member, io.BytesIO(OFFICIAL.encode()))
    return path


def unpack(path: Path) -> None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for csv_file in path.parent.glob("*.csv"):
        csv_file.unlink()
    pull(path.parent, url=f"http://localhost/{path.name}", sha256=digest)


# Outputs of other systems, each form that is read.


def imported(name: str) -> Kind:
    from imports.released_forms import FILES

    return Kind(made("out.txt", FILES[name]), lambda path: read_import(name, path), 100)


OURS = lines(
    {
        "id": "a",
        "reply": "Oh.",
        "reference": "Ah.",
        "emotion": "sad",
        "feeling": "Sad.",
        "turns": ["Hi.", "Oh.", "Yes."],
    },
    {"id": "b", "reply": ""},
)
EXCHANGE = [{"text": "I broke it.", "eval_labels": ["Why?"], "emotion": "guilty"}, {"text": "Oh no!"}]
PARLAI = lines({"dialog": [EXCHANGE, EXCHANGE]}, {"dialog": [EXCHANGE]})
LISTS = json.dumps({"moel": ["a ", "b"], "ref": ["c", "d"], "empDG": ["", "f"]})


# What people write themselves.


def profile(path: Path) -> None:
    command("models", "show", path)
    found = load_profile(str(path))
    if found.hosted:
        pipeline = Pipeline(RunConfig(model=str(path)))
        json.dumps([pipeline.model_settings(), pipeline.engine().describe()], allow_nan=False).encode()


def prompts(path: Path) -> None:
    template = load_template(str(path))
    dialogue = Dialogue("a", ("Hi.", "Oh.", "Yes."))
    for layout in ("chat", "transcript"):
        rendered = Prompts(template, layout)
        rendered.messages(dialogue, [dialogue], ["More."], Asked("I am sad."))
        rendered.knowledge({"xReact": ["sad"]})


def script(path: Path) -> None:
    engine = ScriptedEngine.from_file(path)
    for entry in engine._entries:
        if entry.seconds > 0.01:
            return
    asyncio.run(engine.chat([Message("user", "I lost my job.")], Sampling()))


SCRIPT = lines(
    {"match": "lost my job", "reply": ["I am so sorry.", "Oh."], "seconds": 0.0, "times": 2},
    {"match": "storm", "where": "last", "error": "engine"},
    {"reply": "Tell me more."},
)


def configuration(path: Path) -> None:
    for arguments in ({}, {"quantization": "awq"}):
        if shape := read_shape(path.parent, arguments):
            str(shape), f"{shape.parameters:,}", shape.weight_bytes, shape.kv_bytes_of(10), shape.bytes_per_step(4, 10)
        why_uncounted(path.parent, arguments)
    context_length(path.parent)


def shape(name: str) -> Callable[[Path], Path]:
    return made("config.json", (REPOSITORY / "models" / "shapes" / name).read_bytes())


VLLM = dict.fromkeys(["request_throughput", "output_throughput", "total_output_tokens", "completed", "failed"], 1.5)
VLLM |= {f"p{part}_{name}_ms": 2.5 for part in (50, 90, 99) for name in ("ttft", "tpot", "itl", "e2el")}
LOCAL, HOSTED = ((REPOSITORY / "models" / f"{name}.toml").read_bytes() for name in ("llama", "gpt-5"))

PLAN = 'models = ["llama", { model = "qwen", name = "hot", temperature = 0.7 }]\nlimit = 3\n'

KINDS = {
    "manifest, resumed": Kind(run_file(MANIFEST), resume),
    "manifest, shown": Kind(run_file(MANIFEST), look_at_run, 100),
    "manifest, reported": Kind(run_file(MANIFEST), report, 60),
    "responses, resumed": Kind(run_file(RESPONSES), resume),
    "responses, shown": Kind(run_file(RESPONSES), look_at_run, 100),
    "responses, scored": Kind(run_file(RESPONSES), lambda path: score_all(replies_of_run(path.parent)), 60),
    "responses, reported": Kind(run_file(RESPONSES), report, 60),
    "scores": Kind(run_file("scores.json"), scores),
    "scores, reported": Kind(run_file("scores.json"), report, 60),
    "bench result": Kind(result, look_at_result),
    "bench result, taken up": Kind(tuning, go_on_tuning),
    "vLLM's result": Kind(made("r.json", json.dumps(VLLM)), lambda path: values_of_vllm(read_report(path, "vLLM"))),
    "dialogues": Kind(made("d.jsonl", DIALOGUES), dialogues),
    "packed dialogues": Kind(made("d.jsonl.gz", gzip.compress(DIALOGUES.encode())), dialogues),
    "official CSV": Kind(made("test.csv", OFFICIAL), conversations),
    "packed CSV": Kind(made("test.csv", gzip.compress(OFFICIAL.encode())), conversations),
    "CSV of a library": Kind(made("test.csv", library_csv(csv.QUOTE_MINIMAL)), conversations),
    "CSV, all quoted": Kind(made("test.csv", library_csv(csv.QUOTE_ALL)), conversations),
    "archive": Kind(archive, unpack),
    "import jsonl": Kind(made("out.jsonl", OURS), lambda path: read_import("jsonl", path)),
    "import parlai": Kind(made("out.jsonl", PARLAI), lambda path: read_import("parlai", path)),
    "import empdg-json": Kind(made("out.json", LISTS), lambda path: read_import("empdg-json", path)),
    "import lines": Kind(made("out.txt", "Oh.\n\nYes.\n"), lambda path: read_import("lines", path), 100),
    "import paper": Kind(made("out.txt", "0 #*#*# Oh.\n1#*#*# A\nb\n"), lambda path: read_import("paper", path), 100),
    "import ec": Kind(made("out.txt", "x\nS-0\ta<SEP>b\nT-0\tc\nH-0\td\n"), lambda path: read_import("ec", path), 100),
    **{f"import {name}": imported(name) for name in ("moel", "mime", "empdg", "kemp", "cem", "seek", "emphi")},
    "profile": Kind(made("mine.toml", LOCAL), profile),
    "profile of a hosted model": Kind(made("mine.toml", HOSTED), profile),
    "prompts": Kind(made("mine.toml", (REPOSITORY / "prompts" / "paper.toml").read_bytes()), prompts),
    "plan": Kind(
        made("mine.toml", PLAN + (REPOSITORY / "localemp" / "experiments" / "plans" / "paper.toml").read_text("utf-8")),
        lambda path: expand(read_plan(path)),
    ),
    "published figures": Kind(
        made("mine.toml", 'paper = "P"\n[[table]]\nnumber = 1\nkind = "automatic"\ntitle = "T"\ncolumns = ["B-2"]\n'
             'source = "p. 6"\nrows = [["MoEL", 1.5]]\n'),
        read_published,
    ),
    "script": Kind(made("script.jsonl", SCRIPT), script),
    **{
        f"configuration of {path.stem}": Kind(shape(path.name), configuration, 100)
        for path in sorted((REPOSITORY / "models" / "shapes").glob("*.json"))
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_no_mutant_ends_in_a_traceback(kind, share, tmp_path):
    KINDS[kind].check(tmp_path, share)


def test_mutants_are_the_same_in_every_run_and_differ():
    good = b'{"a": [1, "x"], "b": {"c": null}}\nname,idx\nsome words,3\n'
    first = list(mutants(good, 200))
    assert first == list(mutants(good, 200))
    assert len(set(first)) > 150
    assert first != list(mutants(good, 200, seed=2))


@pytest.mark.parametrize("name", ["~nobody-of-this-name/x", "x" * 300, "a/" * 3_000])
def test_names_that_are_no_path(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for use in (
        lambda: load_profile(name),
        lambda: load_dialogues(name),
        lambda: load_template(name),
        lambda: load_template(f"{name}.toml"),
        lambda: load_profile(f"{name}.toml"),
        lambda: read_plan(name),
        lambda: read_plan(f"{name}.toml"),
        lambda: read_import("lines", Path(name)),
        lambda: read_systems([Path(name)]),
        lambda: read_manifest(Path(name)),
        lambda: ScriptedEngine.from_file(name),
        lambda: read_result(Path(name)),
        lambda: dummy_config(RunConfig(model=name), tmp_path),
    ):
        with pytest.raises(LocalempError):
            use()

"""benchmarks/gpu.py and its scripts: commands that exist with options that they have, adapters that fit, findings."""

import json
import sys
from pathlib import Path

import click
import pytest
from repository import REPOSITORY
from tiny_adapter import MODEL, write_model

sys.path.append(str(REPOSITORY / "benchmarks"))

import adapters
import determinism
import fixed_lengths
import generate_overhead
import gpu
import priority

from localemp.bench.result import Point, Recording
from localemp.cli.main import cli
from localemp.models.adapter_checks import check_adapter

SCRIPTS = {
    f"{module.__name__}.py": module.main
    for module in (adapters, determinism, fixed_lengths, generate_overhead, priority)
}
SIZES = {"large": gpu.LARGE, "small": gpu.SMALL}


@pytest.mark.parametrize("size", SIZES)
def test_every_step_is_a_command_that_exists(tmp_path, size):
    (tmp_path / "tiny.json").write_text("{}")
    parsed = []
    for step in gpu.steps("samples", tmp_path, SIZES[size]):
        words = list(step.command[1:])
        if words[:2] == ["-m", "localemp.cli.main"]:
            parse(cli, words[2:])
        elif (script := SCRIPTS.get(Path(words[0]).name)) is not None:
            parse(script, words[1:])
        else:
            assert Path(words[0]).is_file()
            continue
        parsed.append(step.name)
    assert {"fixed-lengths", "adapters", "determinism", "strategies-deterministic", "priority", "generate"} <= {*parsed}


def parse(command, words):
    """Parse a command line without running it."""
    words = list(words)
    while isinstance(command, click.Group):
        command = command.get_command(click.Context(command), words.pop(0))
    command.make_context("x", words).close()


def test_an_unknown_option_is_found():
    with pytest.raises(click.UsageError):
        parse(cli, ["bench", "engine", "--no-such-option"])


def test_the_first_steps_fit_into_the_time():
    planned = gpu.steps("samples", Path("out"), gpu.LARGE)
    assert len({step.name for step in planned}) == len(planned)
    names = [step.name for step in planned]
    assert names[0] == "fixed-lengths"
    assert {*names[names.index("shapes") :]} >= gpu.NEED_SHAPES
    spent, first = 0.0, []
    for step in planned:
        if spent + step.seconds <= gpu.LIMIT:
            first, spent = [*first, step.name], spent + step.seconds
    assert {"fixed-lengths", "generate", "adapters"} <= {*first}


def test_a_random_adapter_fits_its_model(tmp_path):
    model = write_model(tmp_path / "model")
    made = adapters.save_random_adapter(tmp_path / "a", MODEL, 4, seed=0)
    check_adapter(made, model)
    assert (made.name, made.rank, len(made.targets)) == ("a", 4, 7)
    other = adapters.save_random_adapter(tmp_path / "b", MODEL, 4, seed=1)
    assert other.sha256 != made.sha256


def write(path, kind, points):
    with Recording(path, kind, "llama", {}, dummy=True, command=[]) as recording:
        for part, labels, values in points:
            recording.add(Point(part=part, labels=labels, values={name: (value,) for name, value in values.items()}))


def test_findings_of_fixed_lengths(tmp_path):
    labels = {"engine": "localemp", "prompt tokens": 128, "reply tokens": 128}
    values = {"reply_tokens_per_s": 25_000.0, "of_published": 0.896, "run_mfu": 0.381, "run_mbu": 0.17}
    write(tmp_path / "fixed-lengths.json", "engine", [("fixed lengths", labels, values)])
    said = dict(gpu.findings("fixed-lengths", tmp_path, 100.0))
    of = "fixed lengths, engine localemp, prompt tokens 128, reply tokens 128: "
    assert said[f"{of}reply tokens, 1/s"] == "25,000"
    assert said[f"{of}localemp / published"] == "0.896"
    assert list(said.values())[2:] == ["38.1 %", "17.0 %"]


def test_findings_of_determinism(tmp_path):
    def rate(value):
        return [("strategies", {"strategy": "zero-shot"}, {"replies_per_s": value})]

    write(tmp_path / "strategies-deterministic.json", "strategies", rate(60.0))
    alone = dict(gpu.findings("strategies-deterministic", tmp_path, 1.0))
    write(tmp_path / "strategies-dummy.json", "strategies", rate(80.0))
    said = dict(gpu.findings("strategies-deterministic", tmp_path, 1.0))
    assert said == alone | {"strategy zero-shot: --deterministic / without, replies/s": "0.750"}
    sizes = [{"batch_size": 8, "in_flight": 8, "cold": True, "equal": 2, "different": 0, "failed": 0}]
    certificate = {
        "made": "2026-11-30", "seed": 0, "ids": ["a", "b"], "equal": 2, "different": 0, "failed": 0, "sizes": sizes,
        "replies": 2, "responses_bytes": 1, "responses_sha256": "x",
    }  # fmt: skip
    (tmp_path / "determinism.json").write_text(json.dumps({"deterministic": certificate}))
    [(what, told)] = gpu.findings("determinism", tmp_path, 1.0)
    assert what.startswith("deterministic run")
    assert told == "2 of 2 replies equal at batch size 8"


def test_findings_of_adapters_and_priority(tmp_path):
    engines = {
        "plain": {"seconds": {"none": [9.0, 9.0]}},
        "ours": {"seconds": {"none": [10.0, 10.0], "one": [12.5, 12.5], "two": [20.0, 20.0]}},
    }
    (tmp_path / "adapters.json").write_text(json.dumps({"engines": engines}))
    assert [value for _, value in gpu.findings("adapters", tmp_path, 1.0)] == ["0.900", "0.800", "0.500"]
    seconds = {"priority": [{"wall": 9.0, "median": 2.0}], "arrival": [{"wall": 10.0, "median": 4.0}]}
    (tmp_path / "priority.json").write_text(json.dumps({"seconds": seconds}))
    assert [value for _, value in gpu.findings("priority", tmp_path, 1.0)] == ["0.900", "0.500"]

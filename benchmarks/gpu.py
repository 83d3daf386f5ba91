"""Measure a machine with a CUDA GPU by one command, in under nine minutes.

    python benchmarks/gpu.py --data FOLDER --out results/
    python benchmarks/gpu.py --data FOLDER --out results/ --small          # the same steps on a CPU, with less work
    python benchmarks/gpu.py --data FOLDER --out results/ --only generate  # some of them, by name

Every step is a `localemp` command or a script beside this one, in a process of its own, so that one that fails takes
nothing with it. The most telling come first. None takes more than twice what it is expected to; one that the time no
longer holds is left out, and the last line is the `--only` that runs what was left out. Ctrl-C stops, and shows what
there is.

Two models: SmolLM2 with its weights, and the shape of Llama 3.1 8B with dummy weights, whose replies mean nothing and
whose speed is that of the real one; its weights are FP8 where lengths are fixed, else bfloat16. COMET has the size of
BART-large, and the encoder that of all-mpnet, both with random weights. `--small` takes a tiny shape in place of the
8B, and exemplars from the bundled dialogues. Needed beside localemp: SmolLM2, comet-mini and all-minilm-l6-v2 in its
cache (`LOCALEMP_CACHE`), and a vLLM that localemp knows.
"""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from adapters import ratios
from determinism import WAYS
from priority import WAYS as ORDERS
from rich.console import Console
from rich.table import Table
from rich.text import Text
from script import Script

from localemp.bench.quantities import QUANTITIES
from localemp.bench.result import Point, Result, read_result
from localemp.errors import LocalempError
from localemp.runs.run import MANIFEST, read_records
from localemp.runs.verified import Verification
from localemp.utils.machine import gpu, machine

LOCALEMP = (sys.executable, "-m", "localemp.cli.main")
HERE = Path(__file__).parent
LIMIT = 500.0  # seconds; 40 of nine minutes are for starting, stopping and the table
TEST_DIALOGUES = 5_259  # of EmpatheticDialogues, clean
GOAL = f"goal for {TEST_DIALOGUES:,}: 300 s"


@dataclass(frozen=True, slots=True)
class Step:
    """One measurement.

    Attributes:
        name: Of its row and its files.
        command: What is run; it writes NAME.json.
        seconds: What it is expected to take; it starts only where so much time is left.
    """

    name: str
    command: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Size:
    """The amount of work: on a GPU, and in the small mode.

    Attributes:
        dialogues, of_strategies, overhead: Dialogues of `bench engine`, of strategies and runs, and against bare vLLM.
        batch_sizes: Of `bench engine`.
        tokens: Of a reply, at most or exactly.
        shape: Of the model with dummy weights.
        queries: Utterances for COMET.
        repeats: Of every measurement.
        lengths, requests, fp8: Of `fixed_lengths.py`, and its quantisation.
        at_most: Requests in a batch where their order in the queue is measured.
    """

    dialogues: int
    of_strategies: int
    batch_sizes: str
    tokens: int
    shape: str
    overhead: int
    queries: int
    repeats: int
    lengths: str
    requests: str
    fp8: str
    at_most: int


LARGE = Size(1024, 256, "1,64,1024", 128, "llama", 1024, 100, 2, "128/128,2048/128", "4096,1024", "fp8", 256)
# The CPU build of vLLM has FP8 with a scale for each row only.
SMALL = Size(16, 8, "1,8", 16, "tiny", 16, 4, 1, "64/16,512/16", "16,8", "fp8_per_channel", 8)
STRATEGIES = "zero-shot,few-shot:5,two-stage,similar+knowledge"

NEED_SHAPES = {"comet", "retrieval", "strategies-dummy", "generate", "strategies-smollm2", "experiment-smollm2"}

# A shape that a CPU starts in seconds, to see that dummy weights work.
TINY = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 128, "intermediate_size": 256,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 49152,
    "max_position_embeddings": 8192, "rms_norm_eps": 1e-05, "hidden_act": "silu", "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}  # fmt: skip


def steps(data: str, out: Path, size: Size) -> list[Step]:
    """All steps, the most telling first."""
    small = size.shape == "tiny"
    common = ("--data", data, "--max-tokens", str(size.tokens), "--repeats", str(size.repeats))
    fixed = ("--reply-tokens", str(size.tokens))
    dummy = ("--model", str(out / "tiny.json") if small else size.shape, "--load-format", "dummy")
    looked_up: tuple[str, ...] = ("--comet", str(out / "bart-large"), "--encoder", str(out / "mpnet"))
    # Embedding the pool of a whole training split takes a GPU seconds, and a CPU ten minutes.
    looked_up += ("--pool", "bundled") if small else ()

    def bench(name: str, seconds: float, kind: str, *words: str) -> Step:
        return Step(name, (*LOCALEMP, "bench", kind, *words, "--out", str(out / f"{name}.json")), seconds)

    def script(name: str, seconds: float, file: str, *words: str) -> Step:
        command = (sys.executable, str(HERE / file), *words, "--data", data, "--out", str(out / f"{name}.json"))
        return Step(name, command, seconds)

    engine = ("--dialogues", str(size.dialogues), "--batch-sizes", size.batch_sizes, "--no-vllm", *common, *fixed)
    peer = ("--dialogues", str(size.overhead), "--repeats", str(size.repeats), "--one-at-a-time", "4")
    of_each = ("--dialogues", str(size.of_strategies))
    strategies = (*of_each, "--strategies", STRATEGIES, *looked_up, *common)
    rows = ("--limit", str(size.of_strategies)) if small else ()
    lengths = ("--lengths", size.lengths, "--requests", size.requests, "--engine-arg", f"quantization={size.fp8}")
    return [
        Step("fixed-lengths", (sys.executable, str(HERE / "fixed_lengths.py"), *dummy, *lengths,
                               "--out", str(out / "fixed-lengths.json")), 150),
        Step("shapes", (sys.executable, str(HERE / "shapes.py"), str(out)), 30),
        Step("generate", (*LOCALEMP, "generate", "--model", "smollm2", "--strategy", "similar+knowledge",
                          *looked_up, *rows, "--data", data, "--max-tokens", str(size.tokens),
                          "--out", str(out / "generate")), 120),
        script("adapters", 170, "adapters.py", *dummy, *of_each, "--reply-tokens", str(size.tokens),
               "--repeats", str(size.repeats)),
        script("determinism", 160, "determinism.py", *of_each, "--max-tokens", str(size.tokens)),
        script("priority", 90, "priority.py", "--dialogues", str(size.dialogues), "--max-tokens", str(size.tokens),
               "--repeats", str(size.repeats), "--engine-arg", f"max_num_seqs={size.at_most}"),
        script("overhead-smollm2", 70, "generate_overhead.py", *peer),
        bench("engine-dummy", 120, "engine", *dummy, *engine),
        bench("strategies-dummy", 120, "strategies", *dummy, *fixed, *strategies),
        bench("strategies-deterministic", 110, "strategies", *dummy, *fixed, *of_each, *common,
              "--strategies", "zero-shot,two-stage", "--deterministic"),
        script("comet", 30, "comet.py", "--bart-large", "--utterances", str(size.queries),
               "--released-queries", "2", "--exact-queries", "2", "--repeats", str(size.repeats)),
        bench("retrieval", 20, "retrieval", "--encoder", str(out / "mpnet"), "--data", data,
              "--dialogues", str(size.dialogues)),
        script("overhead-dummy", 120, "generate_overhead.py", *peer, *dummy),
        bench("engine-smollm2", 50, "engine", "--model", "smollm2", *engine),
        bench("strategies-smollm2", 60, "strategies", "--model", "smollm2", *strategies),
        # Ten starts of an engine beside one are too many for the time here: bare vLLM is the peer.
        script("experiment-smollm2", 100, "experiment.py", "--without", "commands",
               "--dialogues", str(size.of_strategies), "--max-tokens", str(size.tokens),
               "--encoder", str(out / "mpnet"), "--comet", str(out / "bart-large")),
    ]  # fmt: skip


@click.command(cls=Script)
@click.option("--data", required=True, help="A folder with EmpatheticDialogues.")
@click.option("--out", type=click.Path(path_type=Path), default="results", show_default=True, help="All results.")
@click.option("--small", is_flag=True, help="Little of everything, for a CPU.")
@click.option("--minutes", type=click.FloatRange(min=0.5), help="Time for all; under 9, or 40 with --small.")
@click.option("--only", help="Steps by name, between commas.")
def main(data: str, out: Path, small: bool, minutes: float | None, only: str | None) -> None:
    """Measure this machine."""
    if gpu() == "none" and not small:
        raise click.ClickException("no NVIDIA GPU is here; on a CPU use --small")
    # A shell's background ignores Ctrl-C, and so would the steps; a time limit from outside sends SIGTERM.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    usual = 2400 if small else LIMIT
    limit = 60 * minutes if minutes else usual
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "tiny.json").write_text(json.dumps(TINY), "utf-8")
    except OSError as error:
        raise click.ClickException(f"--out {out}: cannot be written: {error.strerror}") from error
    planned = steps(data, out.resolve(), SMALL if small else LARGE)
    chosen = only.split(",") if only else [step.name for step in planned]
    if not (out / "bart-large").exists() and set(chosen) & NEED_SHAPES:
        chosen.append("shapes")
    if unknown := set(chosen) - {step.name for step in planned}:
        raise click.ClickException(f"no step {unknown.pop()!r}; there are {', '.join(step.name for step in planned)}")
    console, rows = Console(width=None if sys.stdout.isatty() else 120), list[tuple[str, str, str]]()
    failed, stopped, left_out = False, "", list[str]()
    for step in planned:
        if step.name not in chosen:
            continue
        left = limit - (time.monotonic() - began)
        if left < step.seconds:
            left_out.append(step.name)
            rows.append((step.name, f"left out: {left:.0f} s were left, it needs about {step.seconds:.0f}", ""))
            continue
        started = time.monotonic()
        # What fails now must not be taken for what was measured before.
        (out / f"{step.name}.json").unlink(missing_ok=True)
        if (out / step.name / MANIFEST).exists():
            shutil.rmtree(out / step.name)
        try:
            reason = run(step, out, left if small else min(left, 2 * step.seconds))
        except KeyboardInterrupt:
            reason = stopped = "stopped by hand"
        seconds = time.monotonic() - started
        console.print(Text(f"{step.name}: {seconds:.0f} s{f', {reason}' if reason else ''}"), soft_wrap=True)
        rows += [(step.name, what, value) for what, value in findings(step.name, out, seconds)]
        if reason:
            failed = True
            rows.append((step.name, reason, ""))
        if stopped:
            break
    where = machine()
    device = where["processor"] if where["GPU"] == "none" else where["GPU"]
    table = Table(title=f"{device}, {time.strftime('%Y-%m-%d')}, {time.monotonic() - began:.0f} s in all")
    for column in ("step", "what", "value"):
        table.add_column(column, justify="right" if column == "value" else "left")
    for row in rows:
        table.add_row(*map(Text, row))  # what programs say may look like markup
    console.print(table)
    if left_out:
        console.print(Text(f"for the rest: --only {','.join(left_out)}"), soft_wrap=True)
    sys.exit(130 if stopped else int(failed))


def run(step: Step, out: Path, limit: float) -> str:
    """Run a step into NAME.log; return the reason why it did not finish, or nothing."""
    log = out / f"{step.name}.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            step.command, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL, start_new_session=True
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            return "the time was over"
        finally:
            stop(process)
    if code:
        said = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
        errors = [line for line in said if "rror" in line] or said
        return f"failed: {errors[-1] if errors else f'exit code {code}'}"
    return ""


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a step with all its processes: first so that `localemp bench` can write what it measured."""
    for sign in (signal.SIGINT, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)


def findings(name: str, out: Path, seconds: float) -> Iterator[tuple[str, str]]:
    """The most important values of a step, which took so many seconds."""
    path = out / f"{name}.json"
    if name == "generate" and (out / name).exists():
        replies = sum("error" not in record for record in read_records(out / name))
        yield f"{replies:,} replies by similar+knowledge, all included; {GOAL}", f"{seconds:.0f} s"
    if not path.exists():
        return
    if name.startswith(("engine", "strategies", "retrieval", "fixed-lengths")):
        try:
            yield from _of_result(read_result(path))
            usual = out / "strategies-dummy.json"
            if name == "strategies-deterministic" and usual.exists():
                yield from _of_determinism(read_result(path), read_result(usual))
        except LocalempError as error:
            yield error.message, ""
        return
    found = json.loads(path.read_text("utf-8"))
    if name.startswith("overhead"):
        yield "generate / LLM.chat, tokens/s (aim 0.97)", f"{found['one_stage_ratio']:.3f}"
        yield "two-stage / two passes of LLM.chat, time (aim 1.0)", f"{found['two_stage_ratio']:.3f}"
    if name.startswith("experiment"):
        ratio = statistics.median(found["ratios"]["bare"])
        yield "plan paper / LLM.chat row by row, answering time (aim 0.97)", f"{ratio:.3f}"
    if name == "comet":
        yield from _of_comet(found)
    if name == "adapters":
        yield from _of_adapters(found)
    if name == "determinism":
        for way in (way for way in WAYS if way in found):
            yield f"{way} run, asked again", Verification.model_validate(found[way]).summary
    if name == "priority":
        for what in ("wall", "median"):
            first, arrival = (statistics.median(each[what] for each in found["seconds"][way]) for way in ORDERS)
            yield f"two-stage, second stages first / in order of arrival, {what} time", f"{first / arrival:.3f}"


def _of_result(result: Result) -> Iterator[tuple[str, str]]:
    for point in result.points:
        known = [name for name in SHOWN.get(point.part, ()) if name in point.values]
        if known:
            for name in known:
                yield f"{point.part}, {point.label}: {QUANTITIES[name].head}", _shown(point, name)
        if point.part == "strategies" and point.labels.get("strategy") == "similar+knowledge":
            rate = point.median("replies_per_s")
            told = f"{TEST_DIALOGUES:,} test dialogues at this rate, without starting and embedding the pool"
            yield told, f"{TEST_DIALOGUES / rate:.0f} s" if rate else "–"


def _of_determinism(careful: Result, usual: Result) -> Iterator[tuple[str, str]]:
    """The cost of `--deterministic`: replies a second, as a ratio to those of the same strategies without it."""
    rates = {point.label: point.median("replies_per_s") for point in usual.parts.get("strategies", ())}
    for point in careful.parts.get("strategies", ()):
        rate, before = point.median("replies_per_s"), rates.get(point.label)
        if rate and before:
            yield f"{point.label}: --deterministic / without, replies/s", f"{rate / before:.3f}"


def _of_adapters(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    plain = statistics.median(found["engines"]["plain"]["seconds"]["none"])
    for name, engine in found["engines"].items():
        if name == "plain":
            continue
        able = plain / statistics.median(engine["seconds"]["none"])
        yield f"{name}: able to apply adapters, none asked for / not able, replies/s", f"{able:.3f}"
        for way in ("one", "two"):
            yield f"{name}: {way} in a batch / none, replies/s", f"{statistics.median(ratios(engine, way)):.3f}"


SHOWN: Mapping[str, Sequence[str]] = {
    "fixed lengths": ("reply_tokens_per_s", "of_published", "run_mfu", "run_mbu"),
    "hardware": ("copy_gb_per_s", "matrix_tflops"),
    "throughput": ("replies_per_s", "reply_tokens_per_s", "prefix_hits", "start_s"),
    "batch size": ("decode_tokens_per_s", "mbu", "prefill_tokens_per_s", "mfu"),
    "strategies": ("replies_per_s", "seconds_per_1000"),
    "embedding": ("texts_per_s",),
    "search": ("queries_per_s",),
}


def _shown(point: Point, name: str) -> str:
    value = point.median(name)
    assert value is not None
    return QUANTITIES[name].shown(value)


def _of_comet(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    speed = found["speed"]
    yield f"{found['comet']}: queries/s", f"{speed['queries'] / statistics.median(speed['seconds']['ours']):.1f}"
    for peer in ("plain", "released"):
        yield f"faster than {peer}", f"{statistics.median(speed[f'faster_than_{peer}']):.2f}"


if __name__ == "__main__":
    main()

"""Check our client against vLLM's own, `vllm bench serve`, with the same requests to the same server."""

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from os import environ
from pathlib import Path
from typing import Any

from localemp.bench.load.client import Client, api_url
from localemp.bench.load.schedule import Load
from localemp.bench.load.serve import PARTS, Plan, values_of
from localemp.bench.load.target import LoadTarget
from localemp.bench.peers.report import read_number, read_report
from localemp.bench.result import Point, Recording
from localemp.dialogue import Dialogue
from localemp.errors import EngineError
from localemp.utils.progress import OnProgress, Progress, silent
from localemp.utils.redaction import redact_text

PART = "self-check"
OURS, THEIRS = "localemp", "vllm bench serve"

# What `vllm bench serve` runs; the script `vllm` does not start in the CPU build.
_BENCH = """
from localemp.engines.vllm.names import FlexibleArgumentParser, serve_benchmark
parser = FlexibleArgumentParser()
serve_benchmark.add_cli_args(parser)
serve_benchmark.main(parser.parse_args())
"""
_START = 240  # seconds that its imports and its first request may take


def self_check(
    target: LoadTarget,
    tokenizer: Path,
    dialogues: Sequence[Dialogue],
    plan: Plan,
    recording: Recording,
    on_progress: OnProgress = silent,
) -> None:
    """Run one closed loop with our client and with vLLM's, twice each, in the order A, B, B, A; a point for each.

    vLLM's client sends single messages, so both send the last turn of each dialogue. A warm-up gives both the same
    prefix cache. If vLLM's client fails, its point says why.
    """
    texts = [dialogue.last_utterance for dialogue in dialogues[: plan.requests]]
    count = plan.concurrency[len(plan.concurrency) // 2] if plan.concurrency else 8
    turns: dict[str, list[dict[str, float]]] = {OURS: [], THEIRS: []}
    failure = ""
    asyncio.run(_our_turn(target, texts, count, plan))
    for client in (OURS, THEIRS, THEIRS, OURS):
        on_progress(Progress(f"checking against vLLM's client: {client}, concurrency {count}"))
        if client == OURS:
            turns[OURS].append(asyncio.run(_our_turn(target, texts, count, plan)))
        elif not failure:
            try:
                said = vllm_bench(
                    target.url, target.model, tokenizer, texts, count, tokens=plan.reply_tokens,
                    fixed_length=plan.fixed_length, key=target.key, time_limit=plan.time_limit,
                )  # fmt: skip
                turns[THEIRS].append(values_of_vllm(said))
            except EngineError as error:
                failure = error.message
    for client, some in turns.items():
        labels = {"model": target.label, "concurrency": count, "client": client}
        values = {name: tuple(one[name] for one in some) for name in (some[0] if some else ())}
        recording.add(Point(part=PART, labels=labels, values=values, note=failure if client == THEIRS else ""))


async def _our_turn(target: LoadTarget, texts: Sequence[str], count: int, plan: Plan) -> dict[str, float]:
    async with Client(target.url, target.key, 2 * plan.time_limit) as client:
        load = Load[str](lambda text: client.chat(target.body([text])), plan.time_limit)
        return values_of(await load.closed_loop(texts, count), {}, target.counts_unseen)


def vllm_bench(
    url: str,
    model: str,
    tokenizer: Path,
    texts: Sequence[str],
    count: int,
    *,
    tokens: int,
    fixed_length: bool,
    key: str = "",
    time_limit: float = 600,
) -> dict[str, Any]:
    """Run `vllm bench serve` in a process of its own, and return its result.

    Args:
        url: The server's URL.
        model: The model's name on the server.
        tokenizer: A folder with a tokenizer, which it requires although the server counts the tokens.
        texts: One request for each.
        count: The concurrency.
        tokens: The longest reply.
        fixed_length: Whether every reply must have exactly that length.
        key: The API key.
        time_limit: Seconds, without its start.

    Raises:
        EngineError: It failed, or took too long.
    """
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "prompts.jsonl"
        data.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts), "utf-8")
        command = [sys.executable, "-c", _BENCH, "--backend", "openai-chat", "--base-url", api_url(url)]
        command += ["--endpoint", "/chat/completions", "--model", model, "--tokenizer", str(tokenizer)]
        command += ["--dataset-name", "custom", "--dataset-path", str(data), "--skip-chat-template"]
        command += ["--disable-shuffle", "--custom-output-len", str(tokens), "--temperature", "0"]
        command += ["--num-prompts", str(len(texts)), "--max-concurrency", str(count)]
        command += ["--ignore-eos"] if fixed_length else []
        command += ["--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", ",".join(map(str, PARTS))]
        command += ["--disable-tqdm", "--save-result", "--result-dir", folder, "--result-filename", "result.json"]
        env = {**environ, **({"OPENAI_API_KEY": key} if key else {})}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env=env, timeout=time_limit + _START
            )
        except subprocess.TimeoutExpired as error:
            raise EngineError(f"vLLM's client took longer than {error.timeout:.0f} s") from error
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["it said nothing"]
            raise EngineError(f"vLLM's client failed: {redact_text(said[-1])[:300]}")
        return read_report(Path(folder) / "result.json", "vLLM's client")


def values_of_vllm(said: Mapping[str, Any]) -> dict[str, float]:
    """Return a result of `vllm bench serve` by the names of `localemp.bench.quantities`.

    Raises:
        EngineError: A value is missing, as in other versions.
    """
    values = {
        "requests_per_s": read_number(said, "request_throughput"),
        "reply_tokens_per_s": read_number(said, "output_throughput"),
        "tokens_per_reply": read_number(said, "total_output_tokens") / max(read_number(said, "completed"), 1),
        "errors": read_number(said, "failed"),
    }
    names = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2e": "e2el"}
    return values | {
        f"{ours}_p{part}_ms": read_number(said, f"p{part}_{theirs}_ms")
        for ours, theirs in names.items()
        for part in PARTS
    }

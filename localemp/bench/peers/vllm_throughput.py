"""Check `bench engine` against vLLM's own throughput benchmark on the same prompts.

It runs in a process of its own, with the same engine arguments. Its prompts are answered twice, once as a warm-up and
once timed, each time from an empty prefix cache. By default it keeps the cache and samples at temperature 1, which
costs a small model on a CPU two thirds of its speed; here it samples as localemp does.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localemp.bench.peers.report import read_number, read_report
from localemp.dialogue import Message
from localemp.engines.vllm.process import first_error, known_cause, new_log, stop_on_exit
from localemp.errors import EngineError
from localemp.sampling import Sampling
from localemp.utils.redirect import open_log

if TYPE_CHECKING:
    from localemp.engines.tokens import PromptTokenizer

# Its reader of ShareGPT files leaves out prompts that are longer.
LONGEST_PROMPT = 1024

# `vllm.benchmarks.throughput`, called as its command line calls it; the script `vllm` does not start in the CPU build.
# Engine arguments are set as they are, without a way through texts. What an older vLLM does not know is left out.
_PROGRAM = """
import json, sys
from localemp.engines.vllm.names import LLM, FlexibleArgumentParser, SamplingParams, throughput_benchmark, vllm

if __name__ == "__main__":
    asked, engine, drawn = json.loads(sys.argv[1])

    class SameWork(LLM):
        def generate(self, prompts, params, **options):
            self.reset_prefix_cache()
            same = [SamplingParams(max_tokens=each.max_tokens, ignore_eos=True, **drawn) for each in params]
            return super().generate(prompts, same, **options)

    vllm.LLM = SameWork
    parser = FlexibleArgumentParser()
    throughput_benchmark.add_cli_args(parser)
    args, _ = parser.parse_known_args(asked)
    vars(args).update(engine)
    throughput_benchmark.main(args)
"""


@dataclass(frozen=True, slots=True)
class PeerResult:
    """The report of vLLM's benchmark.

    Attributes:
        requests, tokens: Answered prompts; tokens of prompts and texts together.
        seconds: From the first prompt to the last text.
    """

    requests: int
    tokens: int
    seconds: float

    @property
    def tokens_per_s(self) -> float:
        """Tokens per second, of prompts and texts together."""
        return self.tokens / max(self.seconds, 1e-9)


def prompt_text(tokenizer: "PromptTokenizer", messages: Sequence[Message]) -> str:
    """Return the prompt as a text that vLLM tokenises into the tokens of `messages`.

    vLLM adds special tokens that a chat template has already written (Llama's begin-of-text); they are removed here.
    """
    text, tokens = tokenizer.render(messages), tokenizer.encode(messages)
    begin = tokenizer.tokenizer.bos_token
    if begin and text.startswith(begin) and tokenizer.tokenizer(text)["input_ids"] != tokens:
        return text.removeprefix(begin)
    return text


async def run_throughput(
    folder: Path,
    prompts: Sequence[str],
    tokens: int,
    *,
    engine_args: Mapping[str, Any],
    sampling: Sampling,
    limit: float,
) -> PeerResult:
    """Run vLLM's benchmark. No other engine may be in memory.

    Args:
        folder: The model.
        prompts: Each of at most `LONGEST_PROMPT` tokens.
        tokens: Of every text, exactly.
        engine_args: As `VLLMEngine.engine_args` has them.
        sampling: Its temperature and top_p are how texts are drawn.
        limit: Seconds that it may take, start included.

    Raises:
        EngineError: It failed or took longer; says why, and where its log is.
    """
    log = new_log("vllm-bench")
    with tempfile.TemporaryDirectory() as place:
        data, out = Path(place) / "prompts.json", Path(place) / "result.json"
        data.write_text(json.dumps([{"conversations": [{"value": text}, {"value": "-"}]} for text in prompts]), "utf-8")
        asked = ["--backend", "vllm", "--model", str(folder), "--dataset-name", "sharegpt", "--dataset-path", str(data)]
        asked += ["--num-prompts", str(len(prompts)), "--num-warmups", str(len(prompts)), "--no-oversample"]
        asked += ["--output-len", str(tokens), "--output-json", str(out)]
        drawn = {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": sampling.seed}
        with open_log(log) as stream:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", _PROGRAM, json.dumps([asked, dict(engine_args), drawn])),
                stdin=asyncio.subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True,
            )  # fmt: skip
        try:
            with _ended_at_last(process.pid):
                await asyncio.wait_for(process.wait(), limit)
        except TimeoutError as error:
            raise EngineError(f"vLLM's benchmark took longer than {limit:.0f} s", f"its log: {log}") from error
        finally:
            await process.wait()  # or it would stay as a zombie
        if process.returncode or not out.exists():
            said = log.read_text("utf-8", "replace")
            known = known_cause(said, lambda name: f"--engine-arg {name}")
            reason = known[0] if known else first_error(said) or f"exit code {process.returncode}"
            raise EngineError(f"vLLM's benchmark failed: {reason}", f"its log: {log}")
        found = read_report(out, "vLLM's benchmark")
    return PeerResult(
        int(read_number(found, "num_requests")),
        int(read_number(found, "total_num_tokens")),
        read_number(found, "elapsed_time"),
    )


@contextmanager
def _ended_at_last(group: int) -> Iterator[None]:
    """End a process group after this block, whatever happens to this process."""
    watch = stop_on_exit([-group])
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        watch.kill()
        watch.wait()

"""vLLM in this process (`AsyncLLM`): its continuous batching does the scheduling, here is only the door to it.

vLLM is imported when an engine starts, because its import takes seconds and prints; all that it says goes to a log.
"""

import asyncio
import gc
import logging
import multiprocessing
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localemp.dialogue import Message
from localemp.engines.base import Completion, Engine
from localemp.engines.tokens import PromptTokenizer
from localemp.engines.vllm_process import (
    cpu_defaults,
    first_error,
    known_reason,
    leave_room,
    new_log,
    reason,
    require_vllm,
    stop_with_us,
    vllm_version,
)
from localemp.engines.vllm_thinking import ThoughtParser
from localemp.errors import EngineError, FatalEngineError, OptionError, PromptTooLongError, UnknownNameError
from localemp.sampling import Sampling
from localemp.utils.redirect import output_to

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from vllm import SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM

_PATIENCE = 10  # seconds that its processes have to end
# What decides the speed, by the part of vLLM's configuration that has it.
_CONFIGURED = {
    "model_config": ("dtype", "quantization", "enforce_eager"),
    "cache_config": ("block_size", "cache_dtype", "enable_prefix_caching", "num_gpu_blocks", "gpu_memory_utilization"),
    "scheduler_config": ("max_num_seqs", "max_num_batched_tokens", "enable_chunked_prefill", "async_scheduling"),
    "parallel_config": ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"),
    "compilation_config": ("mode", "cudagraph_mode"),
}


class VLLMEngine(Engine):
    """A model served by vLLM inside this process.

    Args:
        tokenizer: The model's tokenizer; its folder holds the weights.
        max_model_len: Tokens that prompt and reply may have together; small values let small GPUs serve.
        options: vLLM's engine arguments by name, passed through (tensor_parallel_size, quantization, ...).
        seed: Of sampling at temperatures above 0.
        concurrency: Dialogues in flight at once; where None, twice what the started engine computes at once, so that
            it never waits for the next.
        log: Where vLLM's own messages go; a new file in localemp's cache where None.

    Attributes:
        fixed_length: For measurements: every text has exactly so many tokens, wherever it would end.
    """

    name = "vllm"
    concurrency = 512

    def __init__(
        self,
        tokenizer: PromptTokenizer,
        max_model_len: int,
        options: Mapping[str, Any] | None = None,
        seed: int = 0,
        concurrency: int | None = None,
        log: Path | None = None,
    ) -> None:
        self.tokenizer, self._asked_concurrency = tokenizer, concurrency
        self.concurrency = concurrency or VLLMEngine.concurrency
        self.options: dict[str, Any] = {"max_model_len": max_model_len, "seed": seed, **(options or {})}
        self.max_model_len = int(self.options["max_model_len"])
        self.log = log or new_log()
        self.fixed_length: int | None = None
        self._llm: AsyncLLM | None = None
        self._thoughts: ThoughtParser | None = None
        self._log_start = 0
        self._platform = ""
        self._processes: set[BaseProcess] = set()
        self._watch: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Load the weights and start vLLM's engine process, off the event loop.

        Raises:
            FatalEngineError: vLLM is not installed or cannot start; says why in one line, and where the whole log is.
            UnknownNameError: An engine argument, or a reasoning parser, that vLLM does not have.
            OptionError: An engine argument's value that vLLM refuses.
        """
        await asyncio.to_thread(self._start)

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """Answer one list of messages; requests in flight at once share vLLM's batches. See `Engine.chat`."""
        if self._llm is None or self._thoughts is None:
            raise FatalEngineError("the engine is not started", "use `async with engine:` or `await engine.start()`")
        started = time.perf_counter()
        prompt = self.tokenizer.render(messages)
        ids = self.tokenizer.ids(prompt)
        max_tokens = self.fixed_length or sampling.max_tokens
        if len(ids) + max_tokens > self.max_model_len:
            raise PromptTooLongError(len(ids), max_tokens, self.max_model_len)
        final = None
        try:
            params = self._params(sampling, max_tokens, self._thoughts.keep_marks)
            async for output in self._llm.generate({"prompt_token_ids": ids}, params, uuid.uuid4().hex):
                final = output
        except Exception as error:  # vLLM has a dozen kinds for a request, and few have a base in common
            from vllm.v1.engine.exceptions import EngineDeadError

            if self._llm.errored or isinstance(error, EngineDeadError):
                raise FatalEngineError(
                    f"vLLM's engine died: {first_error(self._said())}", f"its log: {self.log}"
                ) from error
            raise EngineError(f"vLLM refused the request: {reason(error)}") from error
        if final is None:
            raise EngineError("vLLM ended the request without an answer", f"its log: {self.log}")
        answer = final.outputs[0]
        if answer.finish_reason in ("error", "abort"):
            raise EngineError(f"vLLM ended the request by {answer.finish_reason}", f"its log: {self.log}")
        said, thinking = self._thoughts.split(answer.text, prompt)
        return Completion(
            text=said,
            finish_reason=answer.finish_reason or "unknown",
            prompt_tokens=len(ids),
            completion_tokens=len(answer.token_ids),
            cached_tokens=final.num_cached_tokens,
            seconds=time.perf_counter() - started,
            thinking=thinking,
        )

    def _params(self, sampling: Sampling, max_tokens: int, keep_marks: bool) -> "SamplingParams":
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        fixed = self.fixed_length is not None
        return SamplingParams(
            max_tokens=max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed,
            stop=[] if fixed else list(sampling.stop),
            ignore_eos=fixed,
            structured_outputs=StructuredOutputsParams(json=sampling.schema) if sampling.schema and not fixed else None,
            output_kind=RequestOutputKind.FINAL_ONLY,
            skip_special_tokens=not keep_marks,
        )

    async def close(self) -> None:
        """Stop vLLM's engine process."""
        if self._llm is not None:
            await asyncio.to_thread(self._stop)
            self._llm = None
            await asyncio.sleep(0.05)  # its last task ends; only then can it be collected
            gc.collect()  # its finaliser complains when it runs as late as at the interpreter's end

    async def forget_prefixes(self) -> None:
        """Empty the prefix cache, so that a measurement does not profit from the one before."""
        if self._llm is not None:
            await self._llm.reset_prefix_cache()

    @property
    def max_num_seqs(self) -> int:
        """How many requests the started engine computes at once at most; more wait in its queue."""
        return 0 if self._llm is None else int(self._llm.vllm_config.scheduler_config.max_num_seqs)

    def configured(self) -> dict[str, Any]:
        """What the started engine made of its arguments, those that were not given included."""
        if self._llm is None:
            return {}
        config = self._llm.vllm_config
        return {
            name: value if isinstance(value, int | float) else str(value)
            for part, names in _CONFIGURED.items()
            for name in names
            if (value := getattr(getattr(config, part), name, None)) is not None
        }

    def describe(self) -> dict[str, Any]:
        """Versions of vLLM and torch, the platform (once it started), and every engine argument that was set."""
        return {
            "engine": self.name,
            "vllm": vllm_version(),
            "torch": version("torch"),
            "platform": self._platform,
            "engine_args": self.options,
        }

    def _start(self) -> None:
        require_vllm()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        with output_to(self.log):
            try:
                self._load()
            except UnknownNameError:
                raise
            except (ValueError, TypeError) as error:  # pydantic's validation errors are ValueErrors
                raise OptionError(f"vLLM refuses these settings: {reason(error)}", f"its log: {self.log}") from error
            except Exception as error:  # whatever stops vLLM from starting ends here
                raise self._cannot_start(error) from error

    def _load(self) -> None:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM

        known = {field.name for field in fields(AsyncEngineArgs)}
        for name in self.options:
            if name not in known:
                raise UnknownNameError("engine argument", name, sorted(known))
        self._thoughts = ThoughtParser(self.tokenizer, self.options)
        self._platform = current_platform.device_name
        if current_platform.is_cpu():
            self.options = cpu_defaults() | self.options
        else:
            self.options = leave_room() | self.options
        quiet = {"disable_log_stats": True, "use_tqdm_on_load": False, "enable_log_requests": False}
        # Kept in no local variable: vLLM holds on to this frame, and what lives until the interpreter's end complains.
        before = set(multiprocessing.active_children())
        arguments = AsyncEngineArgs(model=str(self.tokenizer.folder), **(quiet | self.options))
        # As the offline `LLM` has it: batches of a size for throughput, where a server's would be for latency.
        self._llm = AsyncLLM.from_engine_args(arguments, usage_context=UsageContext.LLM_CLASS)
        self._processes = set(multiprocessing.active_children()) - before
        if self._asked_concurrency is None:
            self.concurrency = max(self.concurrency, 2 * self.max_num_seqs)
        self._watch = stop_with_us([process.pid for process in self._processes if process.pid])
        logging.getLogger("vllm").handlers[:] = [logging.FileHandler(self.log, encoding="utf-8")]

    def _stop(self) -> None:
        with output_to(self.log):
            if self._watch is not None:
                self._watch.kill()
                self._watch.wait()
            if self._llm is not None:
                self._llm.shutdown()
                for process in self._processes:  # vLLM ends them without waiting for it
                    process.join(_PATIENCE)

    def _said(self) -> str:
        """What vLLM wrote into the log since this start; an earlier session's errors explain nothing."""
        return self.log.read_bytes()[self._log_start :].decode("utf-8", "replace")

    def _cannot_start(self, error: Exception) -> FatalEngineError:
        said = self._said()
        if known := known_reason(f"{said}\n{error}", lambda name: f"--engine-arg {name}"):
            return FatalEngineError(*known)
        return FatalEngineError(f"vLLM could not start: {first_error(said) or reason(error)}", f"its log: {self.log}")

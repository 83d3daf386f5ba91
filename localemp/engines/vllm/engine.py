"""Runs vLLM in this process (`AsyncLLM`); its continuous batching schedules the requests.

vLLM is imported when an engine starts, because the import takes seconds and prints. Its output goes to a log file.
"""

import asyncio
import gc
import logging
import math
import multiprocessing
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localemp.dialogue import Message
from localemp.engines.adapted import AdaptableEngine
from localemp.engines.base import ON_TEXT, TURN, Completion, TextScore
from localemp.engines.choices import Tokens, choice_masses, normalised
from localemp.engines.labels import labels_of
from localemp.engines.vllm.arguments import unknown_argument
from localemp.engines.vllm.determinism import ONE_AT_A_TIME, Determinism, determinism
from localemp.engines.vllm.lora import lora_args, lora_request
from localemp.engines.vllm.process import (
    CPU_SEEDS,
    cpu_defaults,
    first_error,
    free_gpu_share,
    known_cause,
    new_log,
    reason,
    stop_on_exit,
)
from localemp.engines.vllm.thinking import ThoughtParser
from localemp.engines.vllm.versions import require_vllm, vllm_version
from localemp.errors import EngineError, FatalEngineError, OptionError, PromptTooLongError, UnknownNameError
from localemp.models.adapters import Adapter
from localemp.protocol.thinking import OPENING_MARKS, ThinkingSplitter, opens_thinking
from localemp.sampling import Sampling
from localemp.utils.kernels import usual_kernels
from localemp.utils.redirect import output_to

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from localemp.engines.tokens import PromptTokenizer
    from localemp.engines.vllm.names import AsyncLLM, LoRARequest, RequestOutput, SamplingParams

_log = logging.getLogger(__name__)
_RAW = "raw_logprobs"  # vLLM's default: the model's own log probabilities
_NOT_STARTED = ("the engine is not started", "use `async with engine:` or `await engine.start()`")
_NO_SCHEMA = "schema dropped: without a reasoning_parser it would hold the thinking instead of the answer"
_NO_FORM = "without a reasoning_parser it would hold the thinking instead of the reply"
_SHUTDOWN_TIMEOUT = 10.0  # seconds
# Settings that affect speed, by the part of vLLM's configuration that holds them.
_SPEED_SETTINGS = {
    "model_config": ("dtype", "quantization", "enforce_eager"),
    "cache_config": ("block_size", "cache_dtype", "enable_prefix_caching", "num_gpu_blocks", "gpu_memory_utilization"),
    "scheduler_config": ("max_num_seqs", "max_num_batched_tokens", "enable_chunked_prefill", "async_scheduling"),
    "parallel_config": ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"),
    "compilation_config": ("mode", "cudagraph_mode"),
}


class VLLMEngine(AdaptableEngine):
    """A model served by vLLM inside this process.

    Args:
        tokenizer: The model's tokenizer; its folder holds the weights.
        max_model_len: Longest prompt and reply together, in tokens; small values fit small GPUs.
        engine_args: vLLM's engine arguments by name, passed through (tensor_parallel_size, quantization, ...).
        seed: Seed of sampling at temperatures above 0.
        concurrency: Dialogues in flight at once; None for twice the size of the engine's batch, so that it never idles.
        log: File for vLLM's output; None for a new file in localemp's cache.
        lookups_follow: Whether encoder and COMET, if they are on the same GPU, keep the memory that they work with.
        deterministic: Whether replies must not depend on what else is computed; see `determinism.py`.
        adapters: LoRA adapters that requests can have (`adapted`).

    Attributes:
        fixed_length: For benchmarks: the exact length of every completion, in tokens; None for normal use.
    """

    name = "vllm"
    concurrency = 512

    def __init__(
        self,
        tokenizer: "PromptTokenizer",
        max_model_len: int,
        engine_args: Mapping[str, Any] | None = None,
        *,
        seed: int = 0,
        concurrency: int | None = None,
        log: Path | None = None,
        lookups_follow: bool = False,
        deterministic: bool = False,
        adapters: Sequence[Adapter] = (),
    ) -> None:
        super().__init__(adapters)
        self.tokenizer, self._requested_concurrency = tokenizer, concurrency
        self.concurrency = concurrency or VLLMEngine.concurrency
        self.engine_args: dict[str, Any] = {"max_model_len": max_model_len, "seed": seed, **(engine_args or {})}
        self.max_model_len = int(self.engine_args["max_model_len"])
        self.log = log or new_log()
        self.fixed_length: int | None = None
        self._lookups_follow, self._deterministic = lookups_follow, deterministic
        self._determinism: Determinism | None = None
        self._llm: AsyncLLM | None = None
        self._thoughts: ThoughtParser | None = None
        self._log_start = 0
        self._platform = ""
        self._processes: set[BaseProcess] = set()
        self._watch: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Load the weights and start vLLM's engine process, off the event loop.

        Raises:
            FatalEngineError: vLLM is not installed, of a version that we cannot use, or does not start; says why.
            UnknownNameError: vLLM does not have an engine argument, or the reasoning parser.
            OptionError: vLLM rejects the value of an engine argument, or one contradicts `deterministic`.
        """
        await asyncio.to_thread(self._start)
        if self._determinism is not None:
            _log.info("%s", self._determinism.note)

    async def chat(self, messages: Sequence[Message], sampling: Sampling, adapter: Adapter | None = None) -> Completion:
        """Answer one list of messages; concurrent requests share vLLM's batches. See `Engine.chat`."""
        if self._llm is None or self._thoughts is None:
            raise FatalEngineError(*_NOT_STARTED)
        started = time.perf_counter()
        prompt = self.tokenizer.render(messages)
        ids = self.tokenizer.ids(prompt)
        max_tokens = self.fixed_length or sampling.most_tokens
        if len(ids) + max_tokens > self.max_model_len:
            raise PromptTooLongError(len(ids), max_tokens, self.max_model_len)
        if sampling.choices and (measured := await self._choose(prompt, ids, sampling.choices, adapter, started)):
            return measured
        notes: tuple[str, ...] = ()
        if sampling.form and not self._thoughts.ends_before_answer(prompt):
            raise FatalEngineError(
                f"{next(iter(sampling.form))}: {_NO_FORM}", "name its parser in [thinking] of a profile"
            )
        if sampling.schema and not self._thoughts.ends_before_answer(prompt):
            sampling, notes = replace(sampling, schema=None), (_NO_SCHEMA,)
        params = self._params(sampling, max_tokens, self._thoughts.keep_marks)
        final = await self._generate(ids, params, adapter, _telling(self._thoughts.splitter(prompt)))
        answer = final.outputs[0]
        split, why = self._thoughts.split(answer.text, prompt), answer.finish_reason
        thought = self._thoughts.count(answer.token_ids, split)
        if sampling.thinking_budget and thought is not None and len(answer.token_ids) - thought > sampling.max_tokens:
            # A reply gets nothing of what its thinking left over.
            split, why = self._thoughts.split_ids(answer.token_ids[: thought + sampling.max_tokens], prompt), "length"
        return Completion(
            text=split.text,
            finish_reason=why or "unknown",
            prompt_tokens=len(ids),
            completion_tokens=len(answer.token_ids),
            cached_tokens=final.num_cached_tokens,
            seconds=time.perf_counter() - started,
            notes=notes,
            thinking=split.thinking,
            thinking_tokens=thought,
        )

    async def score(self, messages: Sequence[Message], text: str, adapter: Adapter | None = None) -> TextScore:
        """Return how probable the model finds a text as its answer; see `Engine.score`.

        Messages and text are one prompt, whose log probabilities vLLM returns. It computes such a prompt anew, whatever
        its prefix cache holds.
        """
        if self._llm is None:
            raise FatalEngineError(*_NOT_STARTED)
        if (mode := self.engine_args.get("logprobs_mode", _RAW)) not in (_RAW, "processed_logprobs"):
            raise FatalEngineError(f"with logprobs_mode={mode}, vLLM does not give log probabilities", "omit it")
        prompt = self.tokenizer.render(messages)
        if opens_thinking(prompt):
            raise EngineError(
                "the prompt ends where the model begins to think, so that an answer cannot follow it",
                "turn it off in the model's profile, with chat_template_kwargs",
            )
        before, answer = self.tokenizer.ids(prompt), self.tokenizer.answer_ids(prompt, text)
        if not answer:
            raise EngineError("there is no text to score")
        if len(before) + len(answer) + 1 > self.max_model_len:
            raise PromptTooLongError(len(before), len(answer) + 1, self.max_model_len)
        final = await self._generate([*before, *answer], self._scoring_params(), adapter)
        found = (final.prompt_logprobs or [])[len(before) :]
        values = [of[token].logprob for of, token in zip(found, answer, strict=False) if of is not None]
        logprob = math.fsum(values)
        if len(values) != len(answer) or not math.isfinite(logprob):
            raise EngineError(
                f"vLLM returned {len(values)} log probabilities for {len(answer)} tokens, their sum {logprob}",
                f"see the log: {self.log}",
            )
        return TextScore(logprob, len(answer))

    async def _generate(
        self,
        ids: list[int],
        params: "SamplingParams",
        adapter: Adapter | None,
        tell: Callable[[str], None] | None = None,
    ) -> "RequestOutput":
        """Have vLLM continue a prompt, and `tell` its text so far; raises what `Engine.chat` raises."""
        from localemp.engines.vllm.names import RequestOutputKind

        assert self._llm is not None
        final = None
        if tell is not None:
            params.output_kind = RequestOutputKind.CUMULATIVE
        try:
            request = {"prompt_token_ids": ids}, params, uuid.uuid4().hex
            async for output in self._llm.generate(*request, lora_request=self._lora(adapter), priority=TURN.get()):
                final = output
                if tell is not None:
                    tell(output.outputs[0].text)
        except Exception as error:  # vLLM raises a dozen types without a common base
            from localemp.engines.vllm.names import EngineDeadError

            if self._llm.errored or isinstance(error, EngineDeadError):
                raise FatalEngineError(
                    f"vLLM's engine died: {first_error(self._log_text())}", f"see the log: {self.log}"
                ) from error
            raise EngineError(f"vLLM rejected the request: {reason(error)}") from error
        if final is None:
            raise EngineError("vLLM ended the request without an answer", f"see the log: {self.log}")
        if (ended := final.outputs[0].finish_reason) in ("error", "abort"):
            raise EngineError(f"vLLM ended the request with the finish reason {ended!r}", f"see the log: {self.log}")
        return final

    async def _choose(
        self, prompt: str, ids: list[int], choices: Sequence[str], adapter: Adapter | None, started: float
    ) -> Completion | None:
        """Return the likeliest choice with the probability of each; None if the model thinks before it answers.

        Nothing is generated: each request is for the probabilities of the next token, before anything is masked.
        """
        from localemp.engines.vllm.names import RequestOutputKind, SamplingParams

        if opens_thinking(prompt):
            return None
        if (mode := self.engine_args.get("logprobs_mode", _RAW)) != _RAW:
            raise FatalEngineError(f"with logprobs_mode={mode}, vLLM does not give probabilities of choices", "omit it")
        thought = self.tokenizer.single_tokens(OPENING_MARKS)
        thinks, cached, asked = 0.0, 0, 0

        async def next_token(beginning: Tokens, tokens: Sequence[int]) -> dict[int, float]:
            nonlocal thinks, cached, asked
            wanted = [*tokens, *(token for token in thought if token not in tokens)] if not beginning else list(tokens)
            params = SamplingParams(
                max_tokens=1, temperature=0.0, logprob_token_ids=wanted, output_kind=RequestOutputKind.FINAL_ONLY
            )
            final = await self._generate([*ids, *beginning], params, adapter)
            [position] = final.outputs[0].logprobs or [{}]
            found = {token: math.exp(position[token].logprob) for token in wanted}
            asked += 1
            if not beginning:
                cached = final.num_cached_tokens or 0
                thinks = sum(found[token] for token in thought)
            return found

        masses = await choice_masses(self.tokenizer.spellings(prompt, choices), next_token)
        probabilities, mass = normalised(masses)
        if probabilities is None or thinks > mass:
            return None
        return Completion(
            text=max(masses, key=masses.__getitem__),
            finish_reason="stop",
            prompt_tokens=len(ids),
            completion_tokens=asked,
            cached_tokens=cached,
            seconds=time.perf_counter() - started,
            choices=probabilities,
            choice_mass=mass,
        )

    def _lora(self, adapter: Adapter | None) -> "LoRARequest | None":
        if adapter is None:
            return None
        return lora_request(self.adapters[adapter.sha256], 1 + list(self.adapters).index(adapter.sha256))

    def _params(self, sampling: Sampling, max_tokens: int, keep_marks: bool) -> "SamplingParams":
        from localemp.engines.vllm.names import RequestOutputKind, SamplingParams, StructuredOutputsParams

        fixed = self.fixed_length is not None
        try:
            held, further = None, sampling.further
            form = {name: further.pop(name) for name in sampling.form}
            if labels := labels_of(sampling.schema):
                form["choice"] = list(labels)
            elif sampling.schema:
                form["json"] = sampling.schema
            if form:
                held = StructuredOutputsParams(**form)
            if sampling.logit_bias:
                further["logit_bias"] = dict(sampling.logit_bias)  # texts for keys are for JSON
            if fixed:
                further |= {"ignore_eos": True, "min_tokens": 0, "stop_token_ids": []}
            return SamplingParams(
                **further,
                max_tokens=max_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                seed=sampling.seed,
                stop=[] if fixed else list(sampling.stop),
                structured_outputs=None if fixed else held,
                output_kind=RequestOutputKind.FINAL_ONLY,
                skip_special_tokens=not keep_marks,
                thinking_token_budget=None if fixed or not self._bounds_thinking else sampling.thinking_budget,
            )
        except Exception as error:  # as above
            raise EngineError(f"vLLM rejected the request: {reason(error)}") from error

    @staticmethod
    def _scoring_params() -> "SamplingParams":
        from localemp.engines.vllm.names import RequestOutputKind, SamplingParams

        # 0: of each token of the prompt alone, and not of others that would have been likelier. A token must be made.
        kind = RequestOutputKind.FINAL_ONLY
        return SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False, output_kind=kind)

    async def close(self) -> None:
        """Stop vLLM's engine process."""
        if self._llm is not None:
            await asyncio.to_thread(self._stop)
            self._llm = None
            await asyncio.sleep(0.05)  # lets its last task end, so that it can be collected
            gc.collect()  # its finalizer complains if it runs at interpreter exit

    async def reset_prefix_cache(self) -> bool:
        """Empty the prefix cache. See `Engine.reset_prefix_cache`."""
        return self._llm is not None and bool(await self._llm.reset_prefix_cache())

    @property
    def _bounds_thinking(self) -> bool:
        """Whether vLLM knows the marks of the model's thinking, and can end it."""
        config = None if self._llm is None else self._llm.vllm_config.reasoning_config
        return config is not None and bool(config.enabled)

    @property
    def max_num_seqs(self) -> int:
        """Most requests in one batch of the started engine; further ones wait in its queue."""
        return 0 if self._llm is None else int(self._llm.vllm_config.scheduler_config.max_num_seqs)

    def effective_settings(self) -> dict[str, Any]:
        """Return the started engine's settings that affect speed, defaults included."""
        if self._llm is None:
            return {}
        config = self._llm.vllm_config
        return {
            name: value if isinstance(value, int | float) else str(value)
            for part, names in _SPEED_SETTINGS.items()
            for name in names
            if (value := getattr(getattr(config, part), name, None)) is not None
        }

    def describe(self) -> dict[str, Any]:
        """Return versions of vLLM and torch, the platform (once started), and the engine arguments that were set.

        `deterministic` says how, once started, and is there only if that was asked for.
        """
        how = {} if self._determinism is None else {"deterministic": self._determinism.how}
        return how | {
            "engine": self.name,
            "vllm": vllm_version(),
            "torch": version("torch"),
            "platform": self._platform,
            "engine_args": self.engine_args,
        }

    def _start(self) -> None:
        require_vllm()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        with output_to(self.log):
            try:
                self._load()
            except (UnknownNameError, OptionError, FatalEngineError):
                raise
            except (ValueError, TypeError) as error:  # includes pydantic's validation errors
                raise OptionError(
                    f"vLLM rejects these settings: {reason(error)}", f"see the log: {self.log}"
                ) from error
            except Exception as error:  # anything can stop vLLM from starting
                raise self._cannot_start(error) from error

    def _load(self) -> None:
        from localemp.engines.vllm.names import (
            AsyncEngineArgs,
            AsyncLLM,
            ReasoningConfig,
            UsageContext,
            current_platform,
        )

        known = {field.name for field in fields(AsyncEngineArgs)}
        for name in self.engine_args:
            if name not in known:
                raise unknown_argument(name, known)
        self._thoughts = ThoughtParser(self.tokenizer, self.engine_args)
        self._platform = current_platform.device_name
        if self._deterministic:
            self._determinism = determinism()
            self._determinism.check(self.engine_args)
            self.engine_args |= self._determinism.engine_args
        if current_platform.is_cpu():
            self.engine_args = cpu_defaults() | self.engine_args
        else:
            self.engine_args = free_gpu_share(self._lookups_follow) | self.engine_args
        self.engine_args |= lora_args(self.adapters.values(), self.engine_args, on_cpu=current_platform.is_cpu())
        if current_platform.is_cpu():
            self.engine_args.setdefault("worker_extension_cls", CPU_SEEDS)
        defaults: dict[str, Any] = {"disable_log_stats": True, "use_tqdm_on_load": False, "enable_log_requests": False}
        # A dialogue's second stage does not wait behind first stages of others; its prefix is still in the cache then.
        defaults["scheduling_policy"] = "priority"
        # The engine is not a local variable: vLLM keeps this frame alive, and engines complain at interpreter exit.
        before = set(multiprocessing.active_children())
        given = defaults | self.engine_args
        if isinstance(marks := given.get("reasoning_config"), Mapping):
            given["reasoning_config"] = ReasoningConfig(**marks)
        arguments = AsyncEngineArgs(model=str(self.tokenizer.folder), **given)
        # The offline `LLM`'s context: batch sizes for throughput, not for a server's latency.
        with usual_kernels(), self._determinism.in_environment() if self._determinism else nullcontext():
            self._llm = AsyncLLM.from_engine_args(arguments, usage_context=UsageContext.LLM_CLASS)
        self._processes = set(multiprocessing.active_children()) - before
        if self._requested_concurrency is None:
            alone = self._determinism is not None and self._determinism.how == ONE_AT_A_TIME
            self.concurrency = 1 if alone else max(self.concurrency, 2 * self.max_num_seqs)
        self._watch = stop_on_exit([process.pid for process in self._processes if process.pid])
        logging.getLogger("vllm").handlers[:] = [logging.FileHandler(self.log, encoding="utf-8")]

    def _stop(self) -> None:
        with output_to(self.log):
            if self._watch is not None:
                self._watch.kill()
                self._watch.wait()
            if self._llm is not None:
                self._llm.shutdown()
                for process in self._processes:  # vLLM does not wait for them
                    process.join(_SHUTDOWN_TIMEOUT)

    def _log_text(self) -> str:
        """Return what vLLM has logged since this start; errors of earlier sessions explain nothing."""
        return self.log.read_bytes()[self._log_start :].decode("utf-8", "replace")

    def _cannot_start(self, error: Exception) -> FatalEngineError:
        logged = self._log_text()
        if known := known_cause(f"{logged}\n{error}", lambda name: f"--engine-arg {name}"):
            return FatalEngineError(*known)
        return FatalEngineError(
            f"vLLM could not start: {first_error(logged) or reason(error)}", f"see the log: {self.log}"
        )


def _telling(splitter: ThinkingSplitter | None) -> Callable[[str], None] | None:
    """Return what tells the current task's listener the answer in a text that grows; None if nobody listens."""
    listener, told = ON_TEXT.get(), 0
    if listener is None or splitter is None:
        return None

    def tell(text: str) -> None:
        nonlocal told
        if piece := splitter.feed(text[told:]).text:
            listener(piece)
        told = len(text)

    return tell

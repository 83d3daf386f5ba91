"""How probable a run's model finds people's replies, for the metric PPL: `score_references`.

The model is asked about the reference of every dialogue that has a reply, as the answer to the prompt that led to the
reply. That prompt is read from the run: after other stages it holds what the model itself said in these.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from localemp.dialogue import Message
from localemp.engines.planner import MARGIN
from localemp.engines.registry import engines
from localemp.errors import RunError
from localemp.pipeline.config import RunConfig
from localemp.pipeline.generate import failed_alone, for_all
from localemp.pipeline.pipeline import Pipeline
from localemp.pipeline.recorded import recorded_config
from localemp.runs.journal import outcomes
from localemp.runs.reference_logprobs import (
    FOLDER,
    LOGPROBS,
    ReferenceLogprobs,
    prompt_sha256,
    read_logprobs,
    text_sha256,
)
from localemp.runs.run import read_manifest, read_records
from localemp.utils.asynchronous import run_here
from localemp.utils.config_diff import compare_settings, renamed_model
from localemp.utils.formatting import share
from localemp.utils.interrupts import noting
from localemp.utils.machine import machine, versions
from localemp.utils.progress import OnProgress, Progress, silent
from localemp.utils.redaction import shown_command

# What a manifest says of a model besides what it computes: names and places, and how requests were scheduled.
_NOT_COMPARED = {"model", "adapter", "weights_origin", "weights_revision", "deterministic"}
# vLLM computes all logits of a step's tokens at once, in float32, and its measurement of memory does not know of it.
_TOKENS_A_STEP = 2048


@dataclass(frozen=True, slots=True)
class _Question:
    """A reference to score, and the prompt that it answers."""

    id: str
    messages: tuple[Message, ...]
    reference: str
    prompt_sha256: str


@dataclass(slots=True)
class _Task:
    """One run, its model, and what is left to ask."""

    run: Path
    pipeline: Pipeline
    settings: Mapping[str, Any]
    questions: Sequence[_Question]
    pending: list[_Question] = field(default_factory=list)
    journal: ReferenceLogprobs | None = None

    def saved(self) -> str:
        """How many references have a log probability in the file."""
        done = sum(outcomes(self.run / FOLDER / LOGPROBS).values())
        return f"log probabilities of {share(done, len(self.questions), 'reference')} saved to {self.run / FOLDER}"


def score_references(
    runs: Sequence[Path],
    *,
    model: str | None = None,
    adapter: str | None = None,
    engine_args: Mapping[str, Any] | None = None,
    on_progress: OnProgress = silent,
) -> dict[Path, str]:
    """Compute the log probabilities that runs lack, and keep each in its run as soon as it is there.

    Runs of one model share an engine. The same call goes on where one was stopped.

    Args:
        runs: Their folders.
        model: The runs' model, where its name in the manifest does not find it: a profile or a folder of weights.
        adapter: The runs' adapter, where it is not at its place in the manifest.
        engine_args: vLLM's engine arguments, such as the number of GPUs.
        on_progress: Called with weights that are fetched or verified, and with references scored.

    Returns:
        For each run whose references cannot be scored, the reason.

    Raises:
        RunError: A run cannot be read or written, or its weights, adapter or template are others now; says what.
        LocalempError: The model cannot be found, or the engine failed for good; what was computed is kept.
        KeyboardInterrupt: Ctrl-C; the note says how much is kept.
    """
    refused: dict[Path, str] = {}
    tasks: list[_Task] = []
    for run in runs:
        manifest = read_manifest(run)
        questions, reason = _questions(manifest["settings"], read_records(run))
        if reason:
            refused[run] = reason
            continue
        config = _config(manifest, model, adapter, engine_args or {})
        pipeline = tasks[0].pipeline.sharing(config) if tasks else Pipeline(config, on_progress)
        tasks.append(_Task(run, pipeline, _settings(run, manifest["settings"], pipeline), questions))
    groups: dict[str, list[_Task]] = {}
    for task in tasks:
        groups.setdefault(task.pipeline.engine_key, []).append(task)
    for group in groups.values():
        _answer(group, on_progress)
    return refused


def _questions(settings: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> tuple[list[_Question], str]:
    """Return what to ask of a run, or why it cannot be asked."""
    engine = str(settings.get("engine", ""))
    entry = engines().get(engine)
    if entry is None or not entry.scores:
        why = ": a server returns probabilities of its own replies only" if engine == "openai" else ""
        return [], f"its engine {engine!r} cannot score a given text{why}"
    found = []
    for record in records:
        if "reply" not in record or not (record["reference"] or "").strip():
            continue
        stage = record["stages"][-1] if record["stages"] else {}
        if not stage.get("messages"):
            return [], "it has no prompts: it was made by an early version"
        if (stage.get("thinking") or "").strip():
            return [], "its model thinks before it replies, and a reference has no thinking in front of it"
        messages = tuple(Message(each["role"], each["content"]) for each in stage["messages"])
        found.append(_Question(record["id"], messages, record["reference"], prompt_sha256(stage["messages"])))
    return found, "" if found else "its dialogues have no reference reply"


def _config(
    manifest: Mapping[str, Any], model: str | None, adapter: str | None, engine_args: Mapping[str, Any]
) -> RunConfig:
    """Return the model, adapter and engine of a run as a configuration; nothing else of it matters here."""
    config = recorded_config(manifest, model=model, adapter=adapter, engine_args=engine_args)
    args = dict(config.engine_args)
    if manifest["settings"]["engine"] == "vllm":
        args = {**args, "max_num_batched_tokens": _TOKENS_A_STEP, **engine_args}
    return replace(config, engine_args=args, deterministic=False)


def _settings(run: Path, recorded: Mapping[str, Any], pipeline: Pipeline) -> dict[str, Any]:
    """Return everything that a log probability depends on; the model has to be the run's.

    Raises:
        RunError: It is another one.
    """
    here = pipeline.model_settings()
    now = {name: value for name, value in here.items() if name not in _NOT_COMPARED}
    names = {*now, *(name for name in recorded if name.startswith(("adapter_", "weights_")))} - _NOT_COMPARED
    if difference := compare_settings({name: recorded.get(name) for name in names}, now):
        shown = "\n".join(f"  {line}" for line in difference)
        renamed = renamed_model(recorded, here)
        raise RunError(
            f"{run}: PPL needs the model that made the run, and this is another one:\n{shown}",
            f"the run's model is called {renamed} now: give --model {renamed}"
            if renamed
            else "give the run's own with --model, --adapter and --engine-arg",
        )
    told = pipeline.tokenizer.describe() if pipeline.runs_here else {}
    return {"model": recorded["model"], "scored": "references", "end_of_turn": "left out", **now, **told}


def _answer(tasks: Sequence[_Task], on_progress: OnProgress) -> None:
    """Score what is left of runs that share an engine."""
    with ExitStack() as stack:
        for task in tasks:
            task.journal = stack.enter_context(ReferenceLogprobs.open(task.run / FOLDER, task.settings))
            _, known = read_logprobs(task.run)
            kept = {name: (one.prompt_sha256, one.reference_sha256) for name, one in known.items()}
            task.pending = [
                each
                for each in task.questions
                if kept.get(each.id) != (each.prompt_sha256, text_sha256(each.reference))
            ]
        unfinished = [task for task in tasks if task.pending]
        if not unfinished:
            return
        for task in unfinished:
            stack.enter_context(noting(task.saved))
        run_here(_ask(unfinished, on_progress), "call it from a script, or in a thread of its own")


async def _ask(tasks: Sequence[_Task], on_progress: OnProgress) -> None:
    pipeline = tasks[0].pipeline
    asked = [(task, question) for task in tasks for question in task.pending]
    adapters = [task.pipeline.adapter for task in tasks]
    context = await asyncio.to_thread(_context, pipeline, [question for _, question in asked])
    engine = pipeline.engine(context, tasks[0].run / FOLDER / "engine.log", adapters=adapters)
    on_progress(Progress(f"Starting {engine.name} ({pipeline.profile.name})"))
    await engine.start()
    try:
        engines = {}
        for task in tasks:
            assert task.journal is not None
            engines[task.run] = engine.adapted(task.pipeline.adapter)
            session = {"command": shown_command(), "dialogues": len(task.questions), "versions": versions()}
            task.journal.add_session({**session, "machine": machine(), **engines[task.run].describe()})
        done = 0

        async def ask(item: tuple[_Task, _Question]) -> None:
            nonlocal done
            task, question = item
            assert task.journal is not None
            try:
                found = await engines[task.run].score(question.messages, question.reference.strip())
                hashes = {"prompt_sha256": question.prompt_sha256, "reference_sha256": text_sha256(question.reference)}
                line = {"id": question.id, "logprob": found.logprob, "tokens": found.tokens, **hashes}
            except Exception as error:
                line = failed_alone(question.id, error)
            task.journal.append(line)
            done += 1
            on_progress(Progress("Scoring references", done, len(asked), "references"))

        await for_all(asked, ask, engine.concurrency)
    finally:
        await engine.close()


def _context(pipeline: Pipeline, questions: Sequence[_Question]) -> int | None:
    """Return the context for the longest prompt and reference, in tokens; None if only the engine can count them."""
    if not pipeline.runs_here:
        return None
    tokenizer, longest = pipeline.tokenizer, 0
    for question in questions:
        answer = tokenizer.lengths([question.reference])[0]
        longest = max(longest, len(tokenizer.encode(question.messages)) + answer)
    return min(longest + MARGIN, pipeline.context_length)

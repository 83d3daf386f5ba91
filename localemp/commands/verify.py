"""`runs verify`: ask for a sample of a run's replies again, in other batches and with an empty prefix cache.

What is found is added to the run's folder as a certificate; see `localemp.runs.verified`.
"""

import asyncio
import logging
import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from localemp.errors import EngineError, OptionError, RunError
from localemp.pipeline.asking_again import AskedAgain, RecordedCall, ask_again, recorded_calls
from localemp.pipeline.pipeline import Pipeline
from localemp.pipeline.recorded import differences_to, recorded_config, recorded_sampling
from localemp.runs.journal import now
from localemp.runs.run import read_manifest, read_records
from localemp.runs.verified import Verification, add_verification, fingerprint, read_verifications, worst
from localemp.sampling import Sampling
from localemp.utils.asynchronous import run_here
from localemp.utils.config_diff import renamed_model
from localemp.utils.formatting import count
from localemp.utils.machine import machine, versions
from localemp.utils.option import check_at_least
from localemp.utils.paths import StrPath
from localemp.utils.progress import OnProgress, Progress, silent
from localemp.utils.redaction import shown_command

_log = logging.getLogger(__name__)

BATCH_SIZES = (1, 8, 64)
SAMPLE = 50
_LARGEST_BATCH = 4096


def verify(
    run: StrPath,
    *,
    sample: int = SAMPLE,
    seed: int = 0,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    anyway: bool = False,
    model: str | None = None,
    adapter: str | None = None,
    base_url: str | None = None,
    engine_args: Mapping[str, Any] | None = None,
    script: Path | None = None,
    on_progress: OnProgress = silent,
) -> Verification:
    """Ask for a sample of a run's replies again, and compare.

    Every stage is asked with its recorded prompt, at each batch size once, with an empty prefix cache. The result is
    added to `verified.json` in the run's folder, which keeps earlier ones.

        found = verify("runs/a", sample=50)
        print(found.summary)

    Args:
        run: The run's folder.
        sample: How many replies, chosen by the seed; all if the run has fewer.
        seed: Of the sample, and of the order of requests at each batch size.
        batch_sizes: How many requests are in flight.
        anyway: Whether to go on if weights, versions or hardware are not those of the run.
        model: The model, if it is not found by the name that the run has recorded: a path, for example.
        adapter: The adapter, if it is not found where the run had it.
        base_url: The server; never taken from a run, because it is sent your key.
        engine_args: Engine arguments besides those recorded, such as the share of a GPU's memory.
        script: File for the scripted engine, for tests.
        on_progress: Called with requests answered.

    Raises:
        RunError: The folder is no run, has no reply to ask for again, was made with something else than what is here
            (says what), or cannot be written.
        OptionError: An argument is invalid, or something that the run does not record must be given.
        EngineError: The engine cannot start, or no further request can succeed; nothing is written.
    """
    folder, sizes = Path(run), _checked_sizes(batch_sizes)
    check_at_least(1, sample=sample)
    manifest = read_manifest(folder)
    if not os.access(folder, os.W_OK):
        raise RunError(f"{folder}: the certificate cannot be written there", "make the run's folder writable")
    read_verifications(folder)  # a damaged one is reported before the engine starts
    size, digest = fingerprint(folder)
    replies = [record for record in read_records(folder) if "reply" in record]
    sampling = recorded_sampling(manifest["settings"], folder)
    calls = _sample(_calls(replies, sampling, folder), sample, seed, folder)
    config = recorded_config(
        manifest,
        concurrency=sizes[-1],
        model=model,
        adapter=adapter,
        base_url=base_url,
        engine_args=engine_args or {},
        script=script,
    )
    pipeline = Pipeline(config, on_progress)
    differences = differences_to(manifest, pipeline)
    if differences and not anyway:
        shown = "\n".join(f"  {line}" for line in differences)
        renamed = renamed_model(manifest["settings"], pipeline.model_settings())
        hint = f"the run's model is called {renamed} now: give --model {renamed}; or " if renamed else ""
        raise RunError(
            f"{folder} was not made with what is here:\n{shown}",
            f"{hint}--anyway asks again all the same, and the certificate says so",
        )
    _say_cost(pipeline, calls, sizes)
    asking = _ask_all(pipeline, calls, sizes, seed, on_progress)
    asked, engine = run_here(asking, "await asyncio.to_thread(localemp.verify, ...) there")
    outcomes: dict[str, set[str]] = {}
    for each in asked:
        for name, kinds in each.outcomes.items():
            outcomes.setdefault(name, set()).update(kinds)
    equal, different, failed = worst(outcomes)
    verification = Verification(
        made=now(),
        command=shown_command(),
        seed=seed,
        ids=list(outcomes),
        equal=equal,
        different=different,
        failed=failed,
        sizes=[each.result for each in asked],
        partings=[parting for each in asked for parting in each.partings],
        failures=[failure for each in asked for failure in each.failures],
        deterministic=engine.get("deterministic"),
        claimed=bool(manifest["settings"].get("deterministic")),
        temperature=max(call.sampling.temperature for call in calls),
        anyway=differences,
        replies=len(replies),
        responses_bytes=size,
        responses_sha256=digest,
        engine=engine,
        versions=versions(),
        machine=machine(),
    )
    add_verification(folder, verification)
    return verification


def _checked_sizes(batch_sizes: Sequence[int]) -> tuple[int, ...]:
    sizes = tuple(sorted(set(batch_sizes)))
    if not sizes or sizes[0] < 1 or sizes[-1] > _LARGEST_BATCH:
        raise OptionError(
            f"batch sizes {', '.join(map(str, batch_sizes)) or 'none'}: at least one is needed, "
            f"each from 1 to {_LARGEST_BATCH:,}"
        )
    return sizes


def _calls(replies: Sequence[Mapping[str, Any]], sampling: Sampling, folder: Path) -> Iterator[list[RecordedCall]]:
    for record in replies:
        try:
            yield recorded_calls(record, sampling)
        except ValueError as error:
            raise RunError(f"{folder}: {record['id']!r}: a stage's sampling parameters are damaged") from error


def _sample(replies: Iterable[list[RecordedCall]], sample: int, seed: int, folder: Path) -> list[RecordedCall]:
    """Return the calls of a sample of replies, in the order of the run."""
    told = list(replies)
    usable = [calls for calls in told if calls]
    if not usable:
        what = "its replies have no prompts recorded" if told else "no replies yet"
        raise RunError(f"{folder}: {what}", "" if told else "rerun the command that made the run to resume it")
    chosen = sorted(random.Random(seed).sample(range(len(usable)), min(sample, len(usable))))
    return [call for number in chosen for call in usable[number]]


def _say_cost(pipeline: Pipeline, calls: Sequence[RecordedCall], sizes: Sequence[int]) -> None:
    """Say what asking a hosted model will cost."""
    if pipeline.profile.engine != "openai":
        return
    costs = [call.cost for call in calls if call.cost is not None]
    price = f", about {len(sizes) * sum(costs):.4f} US dollars" if len(costs) == len(calls) else ""
    asked = count(len(calls) * len(sizes), "request")
    _log.info("note: this sends %s to a server%s; its prefix cache cannot be emptied", asked, price)


async def _ask_all(
    pipeline: Pipeline,
    calls: Sequence[RecordedCall],
    sizes: Sequence[int],
    seed: int,
    on_progress: OnProgress,
) -> tuple[list[AskedAgain], dict[str, Any]]:
    """Ask at every batch size on one engine; return what came of it, and the engine's description."""
    context, tokenize = None, None
    if pipeline.runs_here:
        planner, tokenize = pipeline.planner(""), pipeline.tokenizer.plain_ids
        for call in calls:
            with suppress(EngineError):  # it fails again where it is asked
                await planner.chat(call.messages, call.sampling)
            await asyncio.sleep(0)  # lets Ctrl-C in
        context = planner.context_needed
    engine = pipeline.engine(context)
    on_progress(Progress(f"Starting {engine.name} ({pipeline.profile.name})"))
    async with engine:
        asked = [await ask_again(engine, calls, size, seed, tokenize, on_progress) for size in sizes]
        described = engine.describe()
        if pipeline.runs_here:
            on_progress(Progress(f"Stopping {engine.name} ({pipeline.profile.name})"))
    return asked, described

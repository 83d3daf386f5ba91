"""`localemp bench serve`: latency and throughput of an OpenAI-compatible server under load."""

import asyncio
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from localemp.cli.bench.options import default_out, measured, number_list, out_option, repeats_option
from localemp.cli.command import Command
from localemp.cli.completion import complete_models
from localemp.cli.options import adapter_option, data_options, dialogues_of
from localemp.cli.types import NAME
from localemp.serving.api_key import KEY_VARIABLE
from localemp.utils.progress import Progress

if TYPE_CHECKING:
    from localemp.bench.load.serve import Plan
    from localemp.bench.load.target import LoadTarget
    from localemp.bench.result import Recording
    from localemp.cli.display import Display
    from localemp.dialogue import Dialogue
    from localemp.pipeline.pipeline import Pipeline
    from localemp.serving.vllm.launch import Server

# Where neither is given.
RATES, CONCURRENCY = (1.0, 2.0, 4.0, math.inf), (1, 8, 32)


@click.command(cls=Command)
@click.option(
    "--url", help="The server, such as http://127.0.0.1:8000; by default one is started here. The key is read from "
    "LOCALEMP_API_KEY or OPENAI_API_KEY; for OpenAI only from the latter.",
)  # fmt: skip
@click.option(
    "--model", "-m", type=NAME, default="smollm2", show_default=True, shell_complete=complete_models,
    help="With --url the server's name of a model; otherwise any model of `localemp serve`.",
)  # fmt: skip
@adapter_option
@click.option(
    "--strategy", "-s", "strategies", metavar="A,B",
    help="Strategies of the model, such as zero-shot,two-stage; by default the model as it is.",
)  # fmt: skip
@click.option("--beside-bare", is_flag=True, help="Also measure the plain model, by localemp and by bare vLLM.")
@click.option(
    "--rates", metavar="A,B", callback=number_list(float), help="Requests a second, arriving at random; inf sends "
    f"all at once. {','.join(f'{rate:g}' for rate in RATES)} if neither this nor --concurrency is given.",
)  # fmt: skip
@click.option(
    "--concurrency", metavar="A,B", callback=number_list(int), help="Requests in flight: each answer makes room for "
    f"the next. {','.join(map(str, CONCURRENCY))} if neither this nor --rates is given.",
)  # fmt: skip
@click.option("--requests", type=click.IntRange(min=1), default=100, show_default=True, help="Requests of each load.")
@click.option("--reply-tokens", type=click.IntRange(min=2), default=64, show_default=True, help="The longest reply.")
@click.option(
    "--fixed-length", is_flag=True,
    help="Give every reply exactly that length; needs a vLLM server (ignore_eos).",
)  # fmt: skip
@click.option(
    "--limit", "limits", multiple=True, metavar="NAME=MS",
    help="Latency limit of a good answer, for goodput: ttft=500, tpot=50, e2e=5000; may be repeated.",
)  # fmt: skip
@click.option(
    "--time-limit", type=click.FloatRange(min=0, max=86400, min_open=True), default=300.0, show_default=True,
    help="Seconds for a load; requests without an answer by then are errors.",
)  # fmt: skip
@data_options
@click.option("--seed", default=0, show_default=True, help="Seed of arrivals and of the order of the dialogues.")
@repeats_option
@click.option("--check", is_flag=True, help="Finally, compare one load with vLLM's own client.")
@out_option
@click.argument("engine_options", nargs=-1, type=click.UNPROCESSED, metavar="[-- VLLM OPTIONS]")
def serve(
    url: str | None,
    model: str,
    adapter: str | None,
    strategies: str | None,
    beside_bare: bool,
    rates: tuple[float, ...] | None,
    concurrency: tuple[int, ...] | None,
    limits: tuple[str, ...],
    data: str,
    columns: dict[str, str],
    split: str,
    instances: Any,
    check: bool,
    out: Path | None,
    engine_options: tuple[str, ...],
    **options: Any,
) -> None:
    """Measure latency and throughput of a server under load.

    Without --url `localemp serve` is started; options after -- go to vLLM. To measure a server with other settings,
    start it and pass --url.
    """
    from localemp.bench.result import Recording
    from localemp.cli.display import Display
    from localemp.data.sources import data_hash
    from localemp.engines.openai.target import shown_url
    from localemp.errors import OptionError
    from localemp.pipeline.config import RunConfig
    from localemp.pipeline.pipeline import Pipeline

    _require_aiohttp()
    from localemp.bench.load.serve import Plan

    if options["time_limit"] != options["time_limit"]:  # nan, which click lets pass
        raise OptionError("--time-limit nan is not a number of seconds", "for example --time-limit 300")
    neither = rates is None and concurrency is None
    plan = Plan(
        rates=RATES if neither else rates or (),
        concurrency=CONCURRENCY if neither else concurrency or (),
        limits=parse_limits(limits),
        **options,
    )
    if url and (beside_bare or engine_options):
        given = "--beside-bare" if beside_bare else " ".join(engine_options)
        raise OptionError(f"{given} is for a server that is started here, and --url names one", "leave one of them out")
    if url and adapter:
        raise OptionError(
            f"--adapter {adapter} is for a server that is started here, and --url names one",
            f"name the adapted model as the server does, such as --model {model}@NAME",
        )
    asked, flows = _strategies(strategies, beside_bare)
    dialogues = dialogues_of(data, columns, split, instances)
    where = shown_url(url) if url else "localemp serve"
    settings = {
        **options, "url": where, "model": model, "strategies": asked, "beside_bare": beside_bare,
        "rates": [str(rate) for rate in plan.rates], "concurrency": plan.concurrency, "limits_ms": plan.limits,
        "data": data, **({"columns": columns} if columns else {}),
        "split": split, "instances": instances, "data_sha256": data_hash(dialogues), "temperature": 0,
        "engine_options": engine_options,
    }  # fmt: skip
    recording = Recording(out or default_out("serve"), "serve", f"{model}, {where}", settings)
    if url:
        recording.result.notes.append("Machine and versions are those of the client, not of the server.")
    requests = (len(plan.rates) + len(plan.concurrency)) * len(asked) * plan.repeats * plan.requests
    if requests > len(dialogues):
        recording.result.notes.append(
            f"{requests:,} requests with {len(dialogues):,} dialogues: a prefix cache knows those that come again"
        )
    with Display() as display:
        if url:
            targets = asyncio.run(_targets(url, *key_for(url), [_named(model, name) for name in asked], plan))
            tokenizer = _tokenizer_for_check(display) if check else None
            with measured(recording):
                _measure(targets, dialogues, plan, recording, tokenizer, display)
        else:
            config = RunConfig(model=model, adapter=adapter, seed=plan.seed, data=data)
            pipeline = Pipeline(config, on_progress=display.on_progress)
            servers = _servers_here(pipeline, asked, flows, beside_bare, engine_options)
            if pipeline.adapter is not None:
                recording.result.title = f"{model}@{pipeline.adapter.name}, {where}"
                recording.result.settings |= pipeline.adapter.settings()
            with measured(recording):
                for server, names, suffix in servers:
                    with server:
                        _wait(server, f"Starting {pipeline.model_name}{suffix}", display)
                        targets = asyncio.run(_targets(server.url, "", KEY_VARIABLE, names, plan, suffix))
                        tokenizer = pipeline.weights.folder if check else None
                        _measure(targets, dialogues, plan, recording, tokenizer, display)


def _servers_here(
    pipeline: "Pipeline", asked: Sequence[str], flows: Mapping[str, str], beside_bare: bool, options: Sequence[str]
) -> "list[tuple[Server, list[str], str]]":
    """Yield servers to start one after the other: the requests for each, and the label of its models."""
    from localemp.bench.servers import vllm_server
    from localemp.engines.vllm.versions import require_vllm
    from localemp.errors import OptionError
    from localemp.serving.settings import ServeSettings
    from localemp.serving.vllm.command import check_environment, check_options, prepare

    if pipeline.profile.hosted:
        raise OptionError(f"{pipeline.profile.name} runs on a server elsewhere", "name the server with --url")
    require_vllm()
    named = [spec] if (spec := pipeline.config.adapter) else []
    check_environment(os.environ, named)
    check_options(options)
    offered = [name for name in asked if name]
    adapters = prepare(pipeline, offered, named)
    settings = ServeSettings.of(
        pipeline.profile.name, pipeline.config, strategies=offered, flows=flows, adapters=adapters, ui=False
    )
    served = settings.names.of(adapters[0].name if adapters else "")
    servers = [
        (vllm_server(pipeline, settings, options, adapters=adapters), [_named(served, name) for name in asked], "")
    ]
    if beside_bare:
        servers.append((vllm_server(pipeline, None, options, adapters=adapters), [served], ", bare vLLM"))
    return servers


def _wait(server: "Server", what: str, display: "Display") -> None:
    with display.clock(what) as tell:
        server.wait_until_ready(lambda progress: tell(Progress(f"{what}: {progress.task}")))


async def _targets(
    url: str, key: str, variable: str, names: Sequence[str], plan: "Plan", suffix: str = ""
) -> "list[LoadTarget]":
    from localemp.bench.load.target import find_target

    return [
        await find_target(
            url, key, name, name + suffix, variable=variable,
            reply_tokens=plan.reply_tokens, fixed_length=plan.fixed_length, patience=min(plan.time_limit, 60),
        )
        for name in names
    ]  # fmt: skip


def _measure(
    targets: "Sequence[LoadTarget]",
    dialogues: "Sequence[Dialogue]",
    plan: "Plan",
    recording: "Recording",
    tokenizer: Path | None,
    display: "Display",
) -> None:
    """Measure all loads of one server, and with a tokenizer the check by vLLM's client."""
    from localemp.bench.load.serve import measure, shuffled_dialogues
    from localemp.bench.peers.vllm_serve import self_check

    with display.clock("Warming up") as tell:
        asyncio.run(measure(targets, shuffled_dialogues(dialogues, plan.seed), plan, recording, tell))
        if tokenizer is not None:
            self_check(targets[0], tokenizer, dialogues, plan, recording, tell)


def _strategies(text: str | None, bare_too: bool) -> tuple[list[str], dict[str, str]]:
    """Return canonical names, that of the model without a strategy empty, and the texts of flows that are files."""
    from localemp.serving.flows import offered_strategies

    named, flows = offered_strategies(text, ()) if text else ((), {})
    return list(dict.fromkeys(["", *named] if bare_too or not named else named)), flows


def _named(model: str, strategy: str) -> str:
    return f"{model}:{strategy}" if strategy else model


def parse_limits(texts: Sequence[str]) -> dict[str, float]:
    """Parse texts of the form `NAME=MS`.

    Raises:
        OptionError: A name that has no limit, or no number above 0.
    """
    from localemp.bench.load.serve import LIMITED
    from localemp.errors import OptionError

    limits = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            limits[name] = float(number)
        except ValueError:
            limits[name] = 0
        if name not in LIMITED or not limits[name] > 0:
            raise OptionError(f"--limit {text!r} is not NAME=MS", f"names: {', '.join(LIMITED)}; such as ttft=500")
    return limits


def key_for(url: str) -> tuple[str, str]:
    """Return the key for a server, and its environment variable. No service is ever sent localemp's own key."""
    from localemp.engines.openai.target import Target

    target = Target.resolve("", url, None)
    ours = os.environ.get(KEY_VARIABLE, "").partition(",")[0].strip()
    if target.server.needs_key or (target.key and not ours):
        return target.key, target.key_variable
    return ours, KEY_VARIABLE


def _tokenizer_for_check(display: "Display") -> Path:
    """Return a small tokenizer: vLLM's client wants one, but the server does the counting."""
    from localemp.engines.vllm.versions import require_vllm
    from localemp.models.profiles import load_profile
    from localemp.models.weights import resolve

    require_vllm()
    return resolve(load_profile("smollm2"), display.on_progress).folder


def _require_aiohttp() -> None:
    from localemp.utils.extras import require

    require("serve", "`localemp bench serve`", "aiohttp")

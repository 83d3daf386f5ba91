"""`localemp bench engine`: the speed of the engine against the roofline."""

import asyncio
from pathlib import Path
from typing import Any

import click

from localemp.cli.bench.options import (
    default_out,
    dialogues_option,
    load_format_option,
    measured,
    model_to_measure,
    number_list,
    out_option,
    repeats_option,
    settings_of,
)
from localemp.cli.options import data_options, local_model_options, strategy_options
from localemp.cli.registered import StrategyCommand

# vLLM's names of the types whose peak can be measured; bfloat16 for all others.
_DTYPES = {"float16": "float16", "half": "float16", "float32": "float32", "float": "float32"}


@click.command(cls=StrategyCommand)
@local_model_options
@strategy_options
@data_options
@dialogues_option
@repeats_option
@click.option(
    "--batch-sizes",
    callback=number_list(int),
    metavar="N,N",
    help="Prompts in a batch.  [default: 1,4,16,64 as far as there are dialogues]",
)
@click.option(
    "--reply-tokens",
    type=click.IntRange(min=2),
    default=64,
    show_default=True,
    help="Exact length of texts in batches and against vLLM's benchmark; with dummy weights everywhere.",
)
@load_format_option
@click.option("--no-vllm", is_flag=True, help="Skip vLLM's own benchmark on the same prompts.")
@out_option
def engine(
    dialogues: int,
    repeats: int,
    batch_sizes: tuple[int, ...] | None,
    reply_tokens: int,
    load_format: str,
    no_vllm: bool,
    out: Path | None,
    split: str,
    **options: Any,
) -> None:
    """Measure replies and tokens a second, by batch size, against the roofline.

    The dialogues are answered as `generate` does, then in batches of several sizes, then by vLLM's own benchmark.
    Prefill is given as a share of the device's matrix rate (MFU), decode as a share of its memory bandwidth (MBU); both
    rates are measured first.
    """  # fmt: skip
    from localemp.cli.display import Display
    from localemp.errors import OptionError

    if batch_sizes and batch_sizes[-1] > dialogues:
        raise OptionError(
            f"--batch-sizes {batch_sizes[-1]}: a batch needs as many dialogues, and --dialogues is {dialogues}",
            "take more --dialogues, or smaller batches",
        )

    with Display() as display, model_to_measure(options, load_format, display) as pipeline:
        from localemp.bench.dummy import dummy_notes
        from localemp.bench.engine import measure_engine
        from localemp.bench.offline import dialogues_for
        from localemp.bench.result import Recording
        from localemp.bench.roofline.hardware import measure_hardware

        chosen = dialogues_for(pipeline, split, dialogues)
        settings = settings_of(pipeline, chosen, split) | {
            "dialogues": len(chosen),
            "repeats": repeats,
            "reply_tokens": reply_tokens,
        }
        title = f"{pipeline.model_name}, {pipeline.strategy.name}"
        recording = Recording(out or default_out("engine"), "engine", title, settings, dummy=load_format == "dummy")
        recording.result.notes += dummy_notes(pipeline.config)
        dtype = _DTYPES.get(str(pipeline.config.engine_args.get("dtype")), "bfloat16")
        with measured(recording), display.clock("looking up") as on_progress:
            asyncio.run(
                measure_engine(
                    pipeline,
                    chosen,
                    recording,
                    batch_sizes=batch_sizes,
                    repeats=repeats,
                    tokens=reply_tokens,
                    hardware=lambda: measure_hardware(dtype),
                    peer=not no_vllm,
                    on_progress=on_progress,
                )
            )

"""`localemp tune`: the engine settings that are fastest for your own prompts."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from localemp.cli.bench.options import (
    can_be_written,
    dialogues_option,
    load_format_option,
    measured,
    model_to_measure,
    settings_of,
)
from localemp.cli.options import data_options, local_model_options, strategy_options
from localemp.cli.registered import StrategyCommand
from localemp.cli.types import FilePath
from localemp.utils.formatting import count

if TYPE_CHECKING:
    from localemp.bench.result import Recording, Result
    from localemp.bench.tune import Setting, Trial
    from localemp.cli.display import Display

# What options are called in other commands.
_ELSEWHERE = {"strategy": "strategies"}


@click.command(cls=StrategyCommand)
@local_model_options
@strategy_options
@data_options
@dialogues_option
@click.option("--budget", default="10m", show_default=True, help="Time to spend: 90s, 10m, 2h.")
@click.option("--only", help="Settings to try, such as max_num_seqs,kv_cache_dtype; all by default.")
@click.option("--keep-replies", is_flag=True, help="Try nothing that computes other replies (KV dtype, quantisation).")
@click.option("--reply-tokens", type=click.IntRange(min=1), help="Length of every text; the mean of the model's own.")
@click.option(
    "--repeats", type=click.IntRange(min=1), default=2, show_default=True, help="Batches of a trial, after a warm-up."
)
@load_format_option
@click.option(
    "--out", type=FilePath(dir_okay=False), callback=can_be_written,
    help="Keep trials here (JSON); by default a name from the settings, so that the same command resumes.",
)  # fmt: skip
def tune(
    budget: str,
    only: str | None,
    keep_replies: bool,
    reply_tokens: int | None,
    repeats: int,
    dialogues: int,
    split: str,
    load_format: str,
    out: Path | None,
    **options: Any,
) -> None:
    """Find the engine settings that are fastest for your model, strategy and data.

    Each trial is an engine of its own that answers the same dialogues. Trials are kept: after Ctrl-C, rerun the same
    command to resume. The best command line is printed at the end.
    """
    from localemp.bench.tune import check_budget, resume_trials

    seconds, settings = check_budget(budget), _settings(only, keep_replies, dialogues)
    if load_format == "dummy" and reply_tokens is None:
        raise click.UsageError("dummy weights end no reply by themselves: give --reply-tokens, such as 64")

    from localemp.cli.display import Display

    with Display() as display, model_to_measure(options, load_format, display) as pipeline:
        from localemp.bench.dummy import dummy_notes
        from localemp.bench.offline import dialogues_for, look_up
        from localemp.bench.result import Recording
        from localemp.bench.tune import Trial

        asked = dialogues_for(pipeline, split, dialogues)
        made = settings_of(pipeline, asked, split) | {"dialogues": len(asked)}
        made |= {"load_format": load_format, "repeats": repeats, "reply_tokens": reply_tokens}
        title = f"{pipeline.model_name}, {pipeline.strategy.name}"
        recording = Recording(out or _default_out(made), "tune", title, made, dummy=load_format == "dummy")
        recording.result.notes += dummy_notes(pipeline.config)
        if resume_trials(recording):
            display.say(f"{count(len(recording.result.points), 'trial')} of an earlier session: {recording.path}")
        display.say(f"looking up what {pipeline.config.strategy} needs for {count(len(asked), 'dialogue')}")
        with measured(recording):
            workload = asyncio.run(look_up(pipeline, asked))
            trial = Trial(workload, repeats, reply_tokens or recording.result.settings.get("tokens"))
            best = asyncio.run(_search(trial, recording, settings, seconds, display))
    _advise(recording.result, pipeline.config.engine_args, best)


async def _search(
    trial: "Trial", recording: "Recording", settings: "list[Setting]", seconds: float, display: "Display"
) -> dict[str, Any]:
    from localemp.bench.tune import Tuning

    async def measure(options: Mapping[str, Any]) -> "dict[str, tuple[float, ...]]":
        values = await trial(options)
        recording.result.settings["tokens"] = trial.tokens  # a session that goes on needs them
        return values

    return await Tuning(measure, recording, settings, seconds, display.clock, display.say).search()


def _default_out(settings: dict[str, Any]) -> Path:
    from localemp.runs.run import default_folder
    from localemp.utils.config_diff import former_settings
    from localemp.utils.files import is_file

    files = [Path("bench") / f"tune-{default_folder(each).name}.json" for each in (settings, former_settings(settings))]
    return next(filter(is_file, files), files[0])


def _settings(only: str | None, keep_replies: bool, dialogues: int) -> "list[Setting]":
    from localemp.bench.tune import SETTINGS
    from localemp.errors import OptionError, UnknownNameError

    names = [setting.name for setting in SETTINGS] if only is None else [name.strip() for name in only.split(",")]
    known = {setting.name: setting for setting in SETTINGS}
    for name in names:
        if name not in known:
            raise UnknownNameError("setting", name, known)
    settings = [known[name] for name in names if not (keep_replies and known[name].changes_replies)]
    if not settings:
        raise OptionError(f"--keep-replies leaves nothing of --only {only} to try", "leave one of them out")
    # A batch size beyond the number of dialogues changes nothing.
    settings = [
        replace(each, values=tuple(value for value in each.values if value < dialogues))
        if each.name == "max_num_seqs"
        else each
        for each in settings
    ]
    if not any(each.values for each in settings):
        fewest = min(known["max_num_seqs"].values)
        raise OptionError(
            f"max_num_seqs: nothing below {dialogues} dialogues to try", f"take more than {fewest} --dialogues"
        )
    return settings


def _advise(result: "Result", engine_args: Mapping[str, Any], best: dict[str, Any]) -> None:
    from localemp.bench.tune import CHANGING, CONFIRMED, PART, command_lines, is_faster

    if not best and len(result.parts[PART]) == 1:
        click.echo(
            "nothing was tried but the settings it began with: a setting and its confirmation are four starts", err=True
        )
        click.echo("hint: the same command with a longer --budget", err=True)
        raise click.exceptions.Exit(1)
    if not best:
        click.echo("nothing was faster beyond the spread than the settings it began with")
        return
    confirmed = result.parts.get(CONFIRMED)
    if confirmed and not is_faster(confirmed[1], confirmed[0]):
        click.echo("measured again, the fastest is not faster beyond the spread: keep the initial settings")
        return
    gain = confirmed[1].median("gain") if confirmed else None
    click.echo(f"best: {gain:+.1%} replies/s, measured again next to the baseline" if gain is not None else "best:")
    for line in command_lines({**engine_args, **best}, _given("generate"), _given("serve")):
        click.echo(f"  {line}")
    if changed := [name for name in best if name in CHANGING]:
        click.echo(f"{' and '.join(changed)}: other replies; score them before you use it (`localemp compare`)")


def _given(command: str) -> list[str]:
    """Return the options of this call that another command shares; engine arguments are added separately."""
    from localemp.cli.main import cli

    here = click.get_current_context()
    other = cli.get_command(here, command)
    there = {parameter.name: parameter for parameter in other.get_params(here)} if other else {}
    words = []
    for name, value in here.params.items():
        typed = here.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        parameter = there.get(name) or there.get(_ELSEWHERE.get(name, ""))
        if not typed or parameter is None or name in ("engine_args", "out"):
            continue
        if isinstance(value, bool):
            words.append((parameter.opts if value else parameter.secondary_opts)[0])
        elif parameter.multiple:
            words += [word for each in value for word in (parameter.opts[0], str(each))]
        else:
            words += [parameter.opts[0], ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    return words

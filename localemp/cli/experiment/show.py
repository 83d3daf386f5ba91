"""`localemp experiment show`: where each row of an experiment stands, or the rows of a plan."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from localemp.cli.command import Command
from localemp.cli.completion import complete_models
from localemp.cli.experiment.summary import failures
from localemp.cli.tables import show_table
from localemp.cli.types import NAME
from localemp.utils.formatting import count, share
from localemp.utils.text import for_terminal, json_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localemp.experiments.plan import Plan
    from localemp.experiments.rows import ExperimentRow
    from localemp.experiments.states import ExperimentState


@click.command(cls=Command)
@click.argument("what", type=NAME, metavar="FOLDER|PLAN")
@click.option("--model", "-m", "models", type=NAME, multiple=True, shell_complete=complete_models,
              help="Of a plan: the model, instead of the plan's; may be repeated.")  # fmt: skip
@click.option("--toml", "as_toml", is_flag=True, help="Of a plan: print its file, to start a plan of your own from it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(what: str, models: tuple[str, ...], as_toml: bool, as_json: bool) -> None:
    """Show where each row of an experiment stands, or the rows of a plan as they would run.

    An experiment is given by its folder; a plan by its name, or its .toml file. Nothing is run.
    """
    from localemp.errors import OptionError, UnknownNameError
    from localemp.experiments.plan import PLANS, plan_file, read_plan
    from localemp.utils.files import is_folder

    if as_toml and (models or as_json):
        raise OptionError("--toml prints the file as it is", f"leave out {'--json' if as_json else '--model'}")
    if what in PLANS or what.endswith(".toml"):
        plan, file = read_plan(what), plan_file(what)
        if as_toml:
            click.echo(for_terminal(file.read_text("utf-8")), nl=False)
        else:
            _show_plan(plan, file, models, as_json)
        return
    if models or as_toml:
        option = "--model" if models else "--toml"
        raise OptionError(f"{option} is for a plan, and an experiment's is in its experiment.json", "leave it out")
    if not is_folder(Path(what)):
        hint = "A .toml file of your own, or the folder of an experiment, works too"
        raise UnknownNameError("plan or experiment", what, PLANS, hint)
    _show_experiment(Path(what), as_json)


def _show_plan(plan: "Plan", file: Path, models: tuple[str, ...], as_json: bool) -> None:
    from localemp.experiments.expand import expand

    rows = expand(plan, models)
    if as_json:
        told = {
            "name": plan.name,
            "about": plan.about,
            "file": str(file),
            "rows": list(map(_as_json, rows, _settings(rows))),
            "after": plan.after.model_dump(mode="json"),
        }
        click.echo(json_text(told, indent=2))
        return
    from rich.table import Column, Table

    from localemp.cli.replies import plain

    settings = _settings(rows)
    common = {name: value for name, value in settings[0].items() if all(each.get(name) == value for each in settings)}
    click.echo(for_terminal(f"{plan.name}: {plan.about}" if plan.about else plan.name))
    click.echo(for_terminal(f"all rows: {_told({'data': rows[0].config.data, **common, **_chosen(rows[0])})}"))
    table = Table(Column("Row", overflow="fold"), *(["Model"] if len({row.model for row in rows}) > 1 else []),
                  Column("Strategy", overflow="fold"), Column("Settings", overflow="fold"))  # fmt: skip
    for row, each in zip(rows, settings, strict=True):
        own = {name: value for name, value in each.items() if name not in common and value not in ([], None, row.model)}
        model = [row.model] if len(table.columns) == 4 else []
        table.add_row(*map(plain, (row.name, *model, row.config.strategy, _told(own))))
    show_table(table)
    steps = [name for name in type(plan.after).model_fields if getattr(plan.after, name) is not None]
    click.echo(f"{count(len(rows), 'row')}; afterwards: {', '.join(steps) or 'nothing'}")
    click.echo(for_terminal(f"plan: {file}"))


def _settings(rows: "Sequence[ExperimentRow]") -> list[dict[str, Any]]:
    """The settings of each row besides strategy and data, secrets masked: those that are no defaults, or that vary."""
    from localemp.experiments.settings import foreign_options
    from localemp.utils.redaction import redact_settings

    names = rows[0].config.options
    varied = {name for name in names if any(row.config.options[name] != names[name] for row in rows)}
    settings = []
    for row in rows:
        heeded = varied - foreign_options(row.config.strategy).keys()
        own = {"model": row.config.model, **row.config.changed(), **{name: row.config.options[name] for name in heeded}}
        told = {name: _jsonable(value) for name, value in sorted(own.items()) if name not in ("strategy", "data")}
        settings.append(redact_settings(told))
    return settings


def _chosen(row: "ExperimentRow") -> dict[str, Any]:
    """The dialogues that a row answers, of the data."""
    return {"split": row.split, **row.subset.describe()}


def _told(settings: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value if isinstance(value, str) else json_text(value)}" for name, value in settings.items()
    )


def _as_json(row: "ExperimentRow", settings: dict[str, Any]) -> dict[str, Any]:
    chosen = {"strategy": row.config.strategy, "data": row.config.data, **settings}
    named = {"name": row.name, "row": row.row, "model": row.model}
    return {**named, "split": row.split, "limit": None, **row.subset.describe(), "settings": chosen}


def _show_experiment(folder: Path, as_json: bool) -> None:
    from localemp.cli.estimates import print_comparison
    from localemp.estimates.recorded import read_compared
    from localemp.experiments.states import show as state_of

    state = state_of(folder)
    if as_json:
        from dataclasses import asdict

        click.echo(json_text(asdict(state, dict_factory=_as_texts), indent=2))
        return
    _print_rows(state)
    planned = [row for row in state.rows if row.planned]
    finished = sum(row.state == "finished" for row in planned)
    answered, dialogues = sum(row.answered for row in planned), sum(row.dialogues for row in planned)
    running = "; running now" if state.running else ""
    told = f"{share(finished, len(planned), 'row')} finished, {share(answered, dialogues, 'reply', 'replies')}{running}"
    click.echo(told)
    compared = [read_compared(row.estimate, row.truth) for row in state.rows]
    print_comparison([each for each in compared if each is not None])
    for line in failures((row.name, row.error, row.hint) for row in state.rows if row.error and row.planned):
        click.echo(line)
    if state.command and not state.running:
        click.echo(for_terminal(f"last command: {state.command}"))


def _print_rows(state: "ExperimentState") -> None:
    from rich.table import Column, Table

    from localemp.cli.replies import plain

    name, folder = Column("Row", overflow="fold"), Column("Folder", overflow="fold")
    table = Table(name, "State", Column("Replies", justify="right"), Column("Failed", justify="right"), folder,
                  title=plain(f"{state.name}, begun {state.created[:10]}"))  # fmt: skip
    for row in state.rows:
        told = row.state if row.planned else f"{row.state}, no longer planned"
        replies = f"{row.answered} of {row.dialogues}"
        table.add_row(*map(plain, (row.name, told, replies, str(row.failed or ""), str(row.folder))))
    show_table(table)


def _as_texts(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: _jsonable(value) for name, value in fields}


def _jsonable(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value

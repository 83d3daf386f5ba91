"""`study.create`: draw dialogues that all runs answered, and blind their replies."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from localemp.commands.study.planning import PowerResult, smallest_effect_of
from localemp.errors import OptionError, UnknownNameError
from localemp.metrics.replies import replies_of_run
from localemp.metrics.usable import read_usable
from localemp.studies.schema import Kind
from localemp.studies.study import Study
from localemp.utils.option import check_at_least
from localemp.utils.paths import Named, StrPath, named_paths


@dataclass(frozen=True, slots=True)
class CreateResult:
    """A study that was created.

    Attributes:
        study: The study.
        notes: What its owner has to know.
        finds: The smallest difference that it finds with the defaults of `study.power`; None if scipy is missing, or
            there is none.
        left_out: Runs that it is not of, and why.
    """

    study: Study
    notes: tuple[str, ...] = ()
    finds: PowerResult | None = None
    left_out: tuple[str, ...] = ()


def create(
    runs: Named = (),
    *,
    out: StrPath,
    items: StrPath | None = None,
    kind: Kind | None = None,
    preset: str | None = None,
    sample: int | None = None,
    seed: int = 0,
    checks: int = 0,
    aspects: StrPath | None = None,
    title: str | None = None,
) -> CreateResult:
    """Create a study: dialogues that all runs answered, replies blinded, orders shuffled.

    Args:
        runs: Folders of runs; with the systems' names as a mapping, or as "NAME=PATH". Those that are damaged, without
            a reply, or no run are left out and named.
        out: The study's folder.
        items: A file of JSON lines in place of runs: id, turns, replies (system: text).
        kind: "ab", choose the better of two replies; "rating", give each reply a number. By default "ab", or "rating"
            where no aspect is for A/B tests.
        preset: A design; "paper" is that of the paper's own studies.
        sample: Dialogues to draw; by default what the design has, else 100.
        seed: Of the sample. The same seed draws the same dialogues; the blinding is always new.
        checks: Attention checks to add.
        aspects: What raters are asked: a name ("epitome"), or a file in the form of prompts/study.toml.
        title: What raters read at the top; must tell no system.

    Raises:
        OptionError: Neither runs nor items, too few systems, or no dialogue in all of them.
        UnknownNameError: There is no such kind or preset.
        DataError: A file cannot be read, or breaks a rule.
        RunError: No folder holds a run with a reply, or `out` cannot be written.
    """
    from localemp.studies.create import create_study, replies_of_items
    from localemp.studies.questionnaire import load_questionnaire

    if kind is not None and kind not in get_args(Kind):
        raise UnknownNameError("kind of study", kind, get_args(Kind))
    check_at_least(1, sample=sample)
    check_at_least(0, checks=checks)
    folders = named_paths(runs)
    if bool(folders) == (items is not None):
        raise OptionError(
            "name runs or --items FILE, one of them", "localemp study create runs/a runs/b --out studies/mine"
        )
    systems = [] if items is None else replies_of_items(Path(items))
    usable, left_out = read_usable([folder for _, folder in folders], replies_of_run)
    systems += [
        replace(usable[folder], name=name or usable[folder].name) for name, folder in folders if folder in usable
    ]
    asked = load_questionnaire(aspects, kind)
    kind = kind or ("ab" if asked.aspects("ab") else "rating")
    study, notes = create_study(
        Path(out), systems, kind, asked, preset=preset, sample=sample, seed=seed, checks=checks, title=title
    )
    return CreateResult(study, tuple(notes), smallest_effect_of(study), left_out)

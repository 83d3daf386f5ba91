"""Make a study: draw dialogues that every system answered, blind and shuffle the replies, add attention checks.

The seed draws dialogues and nothing else. Keys, ids and places come from the operating system's random numbers: no
seed repeats them, so that nobody who knows the runs and `study.json` can tell which system wrote what.
"""

import itertools
import json
import random
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from localemp.data.textfile import read_lines
from localemp.errors import DataError, OptionError
from localemp.metrics.pairing import same_dialogue, sample_ids
from localemp.metrics.replies import Replies
from localemp.metrics.replies import Reply as SystemReply
from localemp.studies.questionnaire import Questionnaire
from localemp.studies.schema import TIES, Item, Key, Kind, Reply
from localemp.studies.study import Study
from localemp.studies.votes import quoted
from localemp.utils.json_reader import JSONError, parse_json
from localemp.utils.text import one_line, well_formed
from localemp.utils.validation import format_validation_error

_ITEMS_FORM = 'each line is {"id": "d1", "turns": ["I lost my job."], "replies": {"system": "text", ...}}'
SAMPLE = 100  # dialogues, as in section 4.3

_BLIND = secrets.SystemRandom()


@dataclass(slots=True)
class _StudyDraft:
    """The items of a new study, and what unblinds them."""

    items: list[Item] = field(default_factory=list)
    systems: dict[str, str] = field(default_factory=dict)
    dialogues: dict[str, str] = field(default_factory=dict)
    checks: dict[str, dict[str, str | list[int]]] = field(default_factory=dict)

    def reply(self, text: str, system: str) -> Reply:
        """Return a blinded reply; `system` is empty for an attention check."""
        key = _name("r")
        if system:
            self.systems[key] = system
        return Reply(key=key, text=text)

    def add(self, said: SystemReply, replies: list[Reply]) -> Item:
        """Add an item with these replies in random order."""
        _BLIND.shuffle(replies)
        item = Item(id=_name("i"), turns=said.turns, replies=tuple(replies))
        self.items.append(item)
        self.dialogues[item.id] = said.id
        return item


def create_study(
    folder: Path,
    systems: Sequence[Replies],
    kind: Kind,
    asked: Questionnaire,
    *,
    preset: str | None = None,
    sample: int | None = None,
    seed: int = 0,
    checks: int = 0,
    title: str | None = None,
) -> tuple[Study, list[str]]:
    """Make a study from the replies of several systems.

    A study of kind "ab" has an item for every dialogue and every pair of systems; one of kind "rating" has an item for
    every dialogue with the replies of all systems (section 4.3: 100 dialogues).

    Args:
        folder: Must not hold a study.
        systems: What is compared.
        kind: What raters do.
        asked: What they are asked.
        preset: A design of `asked`. With one, a study has as many dialogues as are wanted, or there is none.
        sample: How many dialogues, drawn from those that every system answered; None is the design's number, else 100.
        seed: Of the dialogues that are drawn.
        checks: Attention checks to add, on dialogues outside the sample where there are any left.
        title: For raters; must tell no system. None is one that fits the kind.

    Returns:
        The study, and what its owner has to know.

    Raises:
        OptionError: Too few systems, two of one name, no dialogue in all of them, fewer than a design takes, or replies
            without dialogues.
        UnknownNameError: There is no such design.
        RunError: The folder cannot be written, or holds a study.
    """
    check_systems(systems, kind)
    if not asked.aspects(kind):
        raise OptionError(f"no aspect is asked in a study of kind {kind}", "take other aspects")
    design = None if preset is None else asked.design(preset)
    sample = sample or (design.sample if design else SAMPLE)
    common = _common(systems)
    if design and len(common) < sample:
        raise OptionError(
            f"of the {sample:,} dialogues that preset {preset} takes, only {len(common):,} are in every run",
            f"generate replies to more of them, or take what is there: --preset {preset} --sample {len(common)}",
        )
    draw = random.Random(json.dumps([seed, "study"]))
    drawn = draw.sample(common, len(common))
    chosen, rest = drawn[:sample], drawn[sample:] or drawn
    said = {system.name: {item.id: item for item in system.items} for system in systems}
    groups = [*itertools.combinations(said, 2)] if kind == "ab" else [tuple(said)]
    draft = _StudyDraft()
    for name in chosen:
        for group in groups:
            replies = [draft.reply(said[system][name].text, system) for system in group]
            draft.add(said[group[0]][name], replies)
    for number in range(checks):
        # Any system's: always the same one's would show raters whose style is whose.
        _add_check(draft, said[_BLIND.choice(systems).name][rest[number % len(rest)]], kind, asked)
    _BLIND.shuffle(draft.items)
    study = Study.write(
        folder,
        draft.items,
        Key(
            systems=draft.systems,
            dialogues=draft.dialogues,
            sources={system.name: dict(system.source) for system in systems},
            checks=draft.checks,
            secret=secrets.token_hex(16),
        ),
        kind=kind,
        title=well_formed(title or _title(kind, systems)),
        instructions=asked.instructions,
        question=asked.question(kind),
        aspects=asked.aspects(kind),
        scale=None if kind == "ab" else asked.scale,
        scale_words=None if kind == "ab" else asked.scale_words,
        preset=preset or "",
        annotators=design.annotators if design else None,
        ratings_by=design.ratings_by if design else "mean",
        seed=seed,
        created=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        versions={"localemp": version("localemp")},
    )
    notes = _notes(systems, study, common, sample)
    if checks > (spare := max(0, len(common) - sample)):
        again = "conversations are seen again in checks, which gives these away"
        notes.append(f"{checks:,} checks, and {spare:,} dialogues outside the sample: {again}; take fewer checks")
    return study, notes


def replies_of_items(path: Path) -> list[Replies]:
    """Read the systems of an items file: JSON lines with an id, the turns, and each system's reply by name.

    Raises:
        DataError: It cannot be read, or a line has another form; file and line are named.
    """
    said: dict[str, list[SystemReply]] = {}
    seen: set[str] = set()
    for number, text in enumerate(read_lines(path), 1):
        if not text.strip():
            continue
        try:
            line = _Line.model_validate(parse_json(text))
        except (JSONError, ValidationError) as error:
            what = format_validation_error(error) if isinstance(error, ValidationError) else str(error)
            raise DataError(path, one_line(what), _ITEMS_FORM, number) from error
        if line.id in seen:
            raise DataError(path, f"id {quoted(line.id)} is there twice", "give every line its own id", number)
        seen.add(line.id)
        for system, reply in line.replies.items():
            said.setdefault(system, []).append(SystemReply(line.id, reply, turns=line.turns))
    if not said:
        raise DataError(path, "no item in it", _ITEMS_FORM)
    return [Replies(system, tuple(items), {"file": path.name}) for system, items in said.items()]


# Other programs write halves of characters into JSON, which no file and no page can hold.
_Said = Annotated[str, AfterValidator(well_formed)]
_Named = Annotated[_Said, Field(min_length=1)]


class _Line(BaseModel):
    """A line of an items file; unknown keys are ignored."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    id: _Named
    turns: Annotated[tuple[_Named, ...], Field(min_length=1)]
    replies: Annotated[dict[_Named, _Said], Field(min_length=1)]


def check_systems(systems: Sequence[Replies], kind: Kind) -> None:
    """Check that a study of this kind can be made of these systems.

    Raises:
        OptionError: Too few systems, two of one name, one called like a tie, or replies without their dialogues.
    """
    names = [system.name for system in systems]
    if tie := next((name for name in names if name.casefold() in TIES), None):
        raise OptionError(f"a system called {tie!r} could not be told from a tie", "rename it")
    if len(names) < (2 if kind == "ab" else 1):
        raise OptionError(f"one system ({names[0]}): an A/B test compares two or more", "name a second one")
    if twice := [name for name in names if names.count(name) > 1]:
        raise OptionError(f"two systems are called {twice[0]}", "rename a run's folder")
    if bare := [system.name for system in systems if not all(item.turns for item in system.items)]:
        raise OptionError(f"{bare[0]} has replies without their dialogues, which raters have to see", "give a run")


def _common(systems: Sequence[Replies]) -> list[str]:
    """Return the sorted ids of the dialogues that all systems share."""
    first, *others = ({item.id: item for item in system.items} for system in systems)
    common = [
        name
        for name in sorted(first)
        if all(name in other and same_dialogue(first[name], other[name]) for other in others)
    ]
    if not common:
        seen = "; ".join(f"{system.name} has {sample_ids(system.ids)}" for system in systems)
        raise OptionError(f"no dialogue is in every run: {seen}", "use runs of the same data, split and instances")
    return common


def _add_check(draft: _StudyDraft, said: SystemReply, kind: Kind, asked: Questionnaire) -> None:
    names = [aspect.name for aspect in asked.aspects(kind)]
    if kind == "ab":
        check = draft.reply(asked.check_ab, "")
        item = draft.add(said, [check, draft.reply(said.text, "")])
        draft.checks[item.id] = dict.fromkeys(names, check.key)
    else:
        item = draft.add(said, [draft.reply(asked.check_rating, "")])
        draft.checks[item.id] = {name: [asked.scale[0]] for name in names}


def _notes(systems: Sequence[Replies], study: Study, common: Sequence[str], sample: int) -> list[str]:
    notes = [f"{system.name}: {note}" for system in systems for note in system.notes]
    if len(common) < sample:
        notes.append(f"only {len(common):,} of the {sample:,} dialogues wanted are in every run: the study has these")
    rated = [item for item in study.items if item.id not in study.key.checks]
    if empty := sum(not reply.text.strip() for item in rated for reply in item.replies):
        notes.append(f"{empty:,} {'reply is' if empty == 1 else 'replies are'} empty; raters see that")
    if len(systems) > 1 and (same := sum(len({reply.text for reply in item.replies}) == 1 for item in rated)):
        notes.append(f"in {same:,} of {len(rated):,} items all replies are the same")
    title = study.manifest.title
    if told := [name for name in study.systems if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", title, re.IGNORECASE)]:
        notes.append(f"raters read the title {title!r}, which names {' and '.join(told)}")
    return notes


def _name(letter: str) -> str:
    """Return a random name; it begins with a letter, since spreadsheets read some others as numbers."""
    return f"{letter}{_BLIND.getrandbits(40):010x}"


def _title(kind: Kind, systems: Sequence[Replies]) -> str:
    if kind == "ab":
        return "Which reply would you rather have?"
    return "How good is this reply?" if len(systems) == 1 else "How good are these replies?"

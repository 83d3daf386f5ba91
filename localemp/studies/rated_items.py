"""Replies that people rated elsewhere, read from files, for measuring judges on them.

Two forms are known, told by their content:

- localemp's own: a file of ratings as `importing.py` has it (columns rater, dialogue, system, and aspect and value or a
  column for each aspect), and the replies as JSON lines, as `study create --items` takes them;
- EmPO's: see `empo.py`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from localemp.data.spreadsheet import read_rows, spelt
from localemp.errors import DataError, OptionError, UnknownNameError
from localemp.metrics.replies import Replies
from localemp.studies import empo
from localemp.studies.create import check_systems, replies_of_items
from localemp.studies.importing import read_ratings
from localemp.studies.questionnaire import Questionnaire, QuestionnaireAspect, load_questionnaire
from localemp.studies.schema import Item, Key, Reply
from localemp.studies.study import Study
from localemp.utils.files import is_folder
from localemp.utils.paths import StrPath

_ITEMS = 'add --items FILE, JSON lines: {"id": "d1", "turns": ["I lost my job."], "replies": {"system": "text", ...}}'


@dataclass(frozen=True, slots=True)
class Rating:
    """One person's rating of one reply by one aspect.

    Attributes:
        rater: Who gave it.
        dialogue, system: Of the reply.
        aspect: The aspect's name.
        value: On the scale of the questionnaire.
    """

    rater: str
    dialogue: str
    system: str
    aspect: str
    value: int


@dataclass(frozen=True)
class RatedItems:
    """Replies and people's ratings of them.

    Attributes:
        systems: The replies, by system.
        ratings: People's ratings.
        asked: What people were asked, as far as it is known: the scale, and the aspects that are used.
        sha256: Hash of all of these.
        notes: What a reader needs to know.
    """

    systems: tuple[Replies, ...]
    ratings: tuple[Rating, ...]
    asked: Questionnaire
    sha256: str
    notes: tuple[str, ...] = ()


def read_rated_items(
    ratings: Path,
    items: Path | None = None,
    *,
    aspects: StrPath | None = None,
    chosen: Sequence[str] = (),
    renamed: Mapping[str, str] | None = None,
) -> RatedItems:
    """Read replies and people's ratings of them.

    Args:
        ratings: The file of ratings, or a folder with EmPO's two files.
        items: The replies; EmPO's may also lie beside the ratings.
        aspects: What people were asked, and their scale: a questionnaire's name or file; by default that of the form.
        chosen: Names of the aspects that are used; all that were rated if empty.
        renamed: Our name of a column or aspect -> the name in the file of ratings.

    Raises:
        DataError: A file cannot be read or breaks a rule; file and line are named.
        OptionError: A file that is needed is not named.
        PromptError: `aspects` breaks a rule.
        UnknownNameError: There is no such aspect, or nobody rated it.
    """
    table = empo.ratings_in(ratings) if is_folder(ratings) else ratings
    heads = next((fields for _, fields in read_rows(table, empo.COLUMNS)), [])
    if not heads:
        raise DataError(table, "the file is empty", "its first line names the columns")
    notes: list[str] = []
    renamed = dict(renamed or {})
    if {*spelt(heads, empo.COLUMNS)} >= empo.COLUMNS:
        asked = load_questionnaire(aspects or empo.QUESTIONNAIRE)
        systems, notes = empo.read_items(items or empo.items_beside(table))
        renamed = empo.columns(asked, heads) | renamed
    elif items is None:
        raise OptionError(f"{table}: which replies were rated is not known", _ITEMS)
    else:
        asked = load_questionnaire(aspects)
        systems = replies_of_items(items)
    check_systems(systems, "rating")
    found = _ratings(table, systems, asked, renamed)
    rated = [aspect for aspect in asked.aspect if any(rating.aspect == aspect.name for rating in found)]
    used = _used(rated, chosen)
    kept = tuple(rating for rating in found if rating.aspect in {aspect.name for aspect in used})
    asked = asked.model_copy(update={"aspect": used})
    told = [[system.name, system.sha256] for system in systems], [repr(rating) for rating in kept], asked.sha256
    return RatedItems(tuple(systems), kept, asked, hashlib.sha256(json.dumps(told).encode()).hexdigest(), tuple(notes))


def _used(rated: Sequence[QuestionnaireAspect], chosen: Sequence[str]) -> tuple[QuestionnaireAspect, ...]:
    """Return the aspects that are used; both kinds of studies ask them, since preferences follow from ratings."""
    names = {aspect.name.casefold(): aspect.name for aspect in rated}
    for name in chosen:
        if name.casefold() not in names:
            raise UnknownNameError("aspect", name, names.values(), "These were rated")
    wanted = {name.casefold() for name in chosen} or set(names)
    return tuple(
        aspect.model_copy(update={"kinds": ("ab", "rating")}) for aspect in rated if aspect.name.casefold() in wanted
    )


def _ratings(path: Path, systems: Sequence[Replies], asked: Questionnaire, renamed: Mapping[str, str]) -> list[Rating]:
    """Read ratings as they are imported into a study of all these replies."""
    said: dict[str, list[Reply]] = {}
    for system in systems:
        for reply in system.items:
            # Nothing is blinded here: a system's name is the key of its replies, so that errors name systems.
            said.setdefault(reply.id, []).append(Reply(key=system.name, text=reply.text))
    key = Key(
        systems={system.name: system.name for system in systems},
        dialogues={dialogue: dialogue for dialogue in said},
        sources={system.name: {} for system in systems},
    )
    with TemporaryDirectory() as folder:
        rated = Study.write(
            Path(folder) / "rated",
            [Item(id=dialogue, turns=(), replies=tuple(replies)) for dialogue, replies in said.items()],
            key,
            kind="rating",
            title="Rated elsewhere",
            instructions="",
            question=asked.rating,
            aspects=asked.aspect,
            scale=asked.scale,
            seed=0,
            created="",
            versions={},
        )
        votes = read_ratings(path, rated, renamed)
    return [Rating(vote.rater, vote.item, vote.reply, vote.aspect, int(vote.value)) for vote in votes]

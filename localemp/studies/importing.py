"""Ratings made elsewhere, in a spreadsheet or on a crowd platform, from a file of separated values.

One line a rating, or one line for all aspects of an item; the first line names the columns:

    rater,item,aspect,value                    item and reply as in the study's items.jsonl; A/B: value is the better
    rater,item,reply,aspect,value              reply's key, its system's name, or "tie"
    rater,dialogue,system,Empathy,Coherence    the owner knows dialogues and systems; a column for each aspect
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from localemp.data.textfile import read_lines
from localemp.errors import DataError, OptionError, UnknownNameError
from localemp.studies.answers import Answers
from localemp.studies.raters import clean_name
from localemp.studies.study import TIE, TIES, Item, Study
from localemp.studies.votes import COLUMNS, Vote, check_vote

_FORM = "docs/studies.md has the form; --column ours=theirs renames one"


def read_ratings(path: Path, study: Study, renamed: Mapping[str, str] | None = None) -> list[Vote]:
    """The votes of a file, every one of which can belong to the study.

    Args:
        path: Separated by commas, semicolons or tabs, whatever its first line has most of; may be gzipped.
        study: What was rated.
        renamed: Our name of a column or aspect -> the name in the file.

    Raises:
        DataError: The file cannot be read, a column is missing, a line names an unknown item or is a judge's, or a
            rating is out of range or given twice; file and line are named. Nothing is taken from such a file.
    """
    lines = _lines(path)
    if not lines[0].strip():
        raise DataError(path, "no line of column names", _FORM, 1)
    rows = csv.DictReader(lines, delimiter=max("\t;,", key=lines[0].count))
    known = [*COLUMNS, *(aspect.name for aspect in study.manifest.aspects)]
    if strange := [name for name in renamed or () if name not in known]:
        raise UnknownNameError("column", strange[0], known, "--column is OURS=THEIRS")
    ours = {theirs: name for name, theirs in (renamed or {}).items()}
    named = _named(path, rows)
    heads = [ours.get(head, head) for head in named]
    if lacking := [theirs for theirs, name in ours.items() if name not in heads]:
        raise DataError(path, f"no column {lacking[0]!r}; there are {', '.join(named)}", _FORM, 1)
    if twice := [name for name in heads if name and heads.count(name) > 1]:
        raise DataError(path, f"two columns are called {twice[0]!r}", _FORM, 1)
    rows.fieldnames = heads
    aspects = _aspects(path, study, heads)
    places = _Places(study)
    votes, seen = [], dict[tuple[str, str, str, str], int]()
    for number, row in _numbered(path, rows):
        try:
            told = _told(row)
            item = places.item(told)
            for vote in _votes(told, item, aspects, places):
                check_vote(study, vote)
                answered = (vote.rater, vote.item, vote.aspect, vote.reply)
                if answered in seen:
                    raise OptionError(f"{vote.rater} rated {vote.item}, {vote.aspect} in line {seen[answered]} already")
                seen[answered] = number
                votes.append(vote)
        except OptionError as error:
            raise DataError(path, error.message, error.hint, number) from error
    if not votes:
        raise DataError(path, "no rating in it", _FORM)
    return votes


def keep_ratings(answers: Answers, votes: Sequence[Vote]) -> int:
    """Keep imported votes, all of them or none.

    Returns:
        How many of them replace another answer of an earlier import.

    Raises:
        OptionError: A rater has the name of somebody who rates on the page.
        RunError: They cannot be kept, or the study was changed after rating began.
    """
    people = {name.casefold() for name in answers.progress()}
    if taken := next((vote.rater for vote in votes if vote.rater.casefold() in people), None):
        raise OptionError(
            f"{taken} rates on the page; imported answers of that name would count as a second person's",
            f"leave these lines out, or change the name in the file, for example to '{taken} on paper'",
        )
    before: dict[tuple[str, str, str, str], str | int] = {}
    replaced = 0
    for vote in (*answers.votes(), *votes):
        if vote.kind == "import":
            answered = (vote.rater, vote.item, vote.aspect, vote.reply)
            replaced += before.get(answered, vote.value) != vote.value
            before[answered] = vote.value
    answers.put_all(votes)
    return replaced


class _Places:
    """Finds items and replies by what a file calls them."""

    def __init__(self, study: Study) -> None:
        self.study, self.key = study, study.key
        self.items_of: dict[str, list[str]] = {}
        for item, dialogue in self.key.dialogues.items():
            if item not in self.key.checks:
                self.items_of.setdefault(dialogue, []).append(item)

    def item(self, row: Mapping[str, str]) -> Item:
        """The item of a line."""
        dialogue = row.get("dialogue", "")
        if name := row.get("item"):
            if name not in self.study.by_id:
                raise OptionError(f"unknown item {name!r}", "items.jsonl has the items")
            if dialogue and dialogue != (shows := self.key.dialogues.get(name, "")):
                raise OptionError(f"item {name} shows the dialogue {shows!r}, not {dialogue!r}")
            return self.study.by_id[name]
        found = self.items_of.get(dialogue, [])
        if not found:
            raise OptionError(f"no item of the dialogue {dialogue!r} is in the study")
        if len(found) > 1:
            raise OptionError(f"the dialogue {dialogue!r} has {len(found)} items", 'name one in a column "item"')
        return self.study.by_id[found[0]]

    def rated(self, item: Item, row: Mapping[str, str]) -> str:
        """The key of the reply that a line rates."""
        reply, system = row.get("reply", ""), row.get("system", "")
        if reply and system and self.reply(item, reply) != self.reply(item, system):
            raise OptionError(f"item {item.id}: the reply {reply!r} is not of {system!r}")
        alone = item.replies[0].key if len(item.replies) == 1 else ""
        return self.reply(item, reply or system or alone)

    def reply(self, item: Item, named: str) -> str:
        """The key of a reply that is named by its key or by its system; what is neither stays as it is."""
        systems = {self.key.systems[reply.key]: reply.key for reply in item.replies if reply.key in self.key.systems}
        return systems.get(named, named)


def _aspects(path: Path, study: Study, heads: Sequence[str]) -> list[str]:
    """The aspects that have a column each; none where lines name their aspect."""
    if "rater" not in heads or not {"item", "dialogue"} & set(heads):
        raise DataError(path, f"needs columns rater, and item or dialogue; there are {', '.join(heads)}", _FORM, 1)
    found = [aspect.name for aspect in study.manifest.aspects if aspect.name in heads]
    if {"aspect", "value"} <= set(heads):
        if found:
            raise DataError(path, f"has columns aspect and value, and one for {found[0]}: which counts?", _FORM, 1)
        return []
    if not found:
        names = ", ".join(aspect.name for aspect in study.manifest.aspects)
        raise DataError(path, f"needs columns aspect and value, or some of {names}", _FORM, 1)
    return found


def _lines(path: Path) -> list[str]:
    try:
        return read_lines(path)
    except DataError as error:
        if error.message.endswith("the file is empty"):
            raise DataError(path, "the file is empty", _FORM) from error
        raise


def _named(path: Path, rows: "csv.DictReader[str]") -> list[str]:
    """What line 1 calls the columns."""
    try:
        return [head.strip() for head in rows.fieldnames or ()]
    except csv.Error as error:
        raise DataError(path, f"cannot be read as columns ({error})", _FORM, 1) from error


def _numbered(path: Path, rows: "csv.DictReader[str]") -> Iterator[tuple[int, dict[str, str | None]]]:
    """The rows, each with the number of its last line."""
    try:
        for row in rows:
            yield rows.line_num, row
    except csv.Error as error:
        raise DataError(path, f"cannot be read as columns ({error})", _FORM, rows.line_num) from error


def _told(row: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a row by their columns; it has a rater who may be imported."""
    beyond: Any = row.get(None)  # type: ignore[call-overload]  # DictReader's key of fields without a column
    if beyond and any(beyond):
        raise OptionError("more fields than line 1 names columns", "a field that holds the separator goes in quotes")
    told = {name: (value or "").strip() for name, value in row.items() if isinstance(name, str)}
    if told.get("kind", "").casefold() == "judge":
        raise OptionError(
            "a judge's answer, which would be counted as a person's", "leave these lines out; a study has judges/"
        )
    if not told["rater"]:
        raise OptionError("no rater")
    return told | {"rater": clean_name(told["rater"])}


def _votes(told: Mapping[str, str], item: Item, aspects: Sequence[str], places: _Places) -> Iterator[Vote]:
    rating = places.study.manifest.scale is not None
    reply = places.rated(item, told) if rating else ""
    compared = places.key.named(*(each.key for each in item.replies))
    if not rating and told.get("system", compared) not in ("", compared):
        raise OptionError(f"item {item.id} compares {compared!r}, not {told['system']!r}")
    first = places.reply(item, told.get("first", ""))
    if first and first not in [each.key for each in item.replies]:
        raise OptionError(f"item {item.id}: unknown reply {first!r} in the column first")
    for aspect in aspects or [told["aspect"]]:
        text = told[aspect] if aspects else told["value"]
        if aspects and not text:
            continue  # not every rater has to say something of every aspect
        value = _number(text) if rating else TIE if text.casefold() in TIES else places.reply(item, text)
        yield Vote(told["rater"], item.id, aspect, value, reply, first, "import")


def _number(text: str) -> str | int:
    """A whole number; anything else stays text, which no scale has."""
    try:
        value = float(text)
    except ValueError:
        return text
    return int(value) if value.is_integer() else text

"""Ratings made elsewhere, in a spreadsheet or on a crowd platform, from a file of comma- or tab-separated values.

One line a rating, or one line for all aspects of an item; the first line names the columns:

    rater,item,aspect,value                    item and reply as in the study's items.jsonl; A/B: value is the better
    rater,item,reply,aspect,value              reply's key, its system's name, or "tie"
    rater,dialogue,system,Empathy,Coherence    the owner knows dialogues and systems; a column for each aspect
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from localemp.data.textfile import read_lines
from localemp.errors import DataError, OptionError
from localemp.studies.study import TIE, Item, Study
from localemp.studies.votes import Vote, check_vote

COLUMNS = ("rater", "item", "dialogue", "reply", "system", "aspect", "value")
_TIES = {"tie", "equal", "same", "draw", "both", "neither"}
_FORM = "docs/studies.md has the form; --column ours=theirs renames one"


def read_ratings(path: Path, study: Study, renamed: Mapping[str, str] | None = None) -> list[Vote]:
    """The votes of a file, every one of which can belong to the study.

    Args:
        path: Comma-separated, or tab-separated where its name ends in .tsv or its first line has tabs; may be gzipped.
        study: What was rated.
        renamed: Our name of a column or aspect -> the name in the file.

    Raises:
        DataError: The file cannot be read, a column is missing, a line names an unknown item, or a rating is out of
            range or given twice; file and line are named. Nothing is taken from such a file.
    """
    lines = list(read_lines(path))
    if not lines or not lines[0].strip():
        raise DataError(path, "no line of column names", _FORM, 1)
    rows = csv.DictReader(lines, delimiter="\t" if "\t" in lines[0] else ",")
    ours = {theirs: name for name, theirs in (renamed or {}).items()}
    heads = [ours.get(head.strip(), head.strip()) for head in rows.fieldnames or ()]
    if lacking := [theirs for theirs, name in ours.items() if name not in heads]:
        raise DataError(path, f"no column {lacking[0]!r}; there are {', '.join(rows.fieldnames or ())}", _FORM, 1)
    rows.fieldnames = heads
    aspects = _aspects(path, study, heads)
    places = _Places(study)
    votes, seen = [], dict[tuple[str, str, str, str], int]()
    for row in rows:
        number = rows.line_num
        try:
            for vote in _votes(row, aspects, places):
                check_vote(study, vote)
                told = (vote.rater, vote.item, vote.aspect, vote.reply)
                if told in seen:
                    raise OptionError(f"{vote.rater} rated {vote.item}, {vote.aspect} in line {seen[told]} already")
                seen[told] = number
                votes.append(vote)
        except OptionError as error:
            raise DataError(path, error.message, error.hint, number) from error
    if not votes:
        raise DataError(path, "no rating in it", _FORM)
    return votes


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
        if name := row.get("item"):
            if name not in self.study.by_id:
                raise OptionError(f"unknown item {name!r}", "items.jsonl has the items")
            return self.study.by_id[name]
        found = self.items_of.get(dialogue := row.get("dialogue", ""), [])
        if not found:
            raise OptionError(f"no item of the dialogue {dialogue!r} is in the study")
        if len(found) > 1:
            raise OptionError(f"the dialogue {dialogue!r} has {len(found)} items", 'name one in a column "item"')
        return self.study.by_id[found[0]]

    def reply(self, item: Item, named: str) -> str:
        """The key of a reply that is named by its key or by its system; what is neither stays as it is."""
        systems = {self.key.systems.get(reply.key, ""): reply.key for reply in item.replies}
        return systems.get(named, named)


def _aspects(path: Path, study: Study, heads: Sequence[str]) -> list[str]:
    """The aspects that have a column each; none where lines name their aspect."""
    if "rater" not in heads or not {"item", "dialogue"} & set(heads):
        raise DataError(path, f"needs columns rater, and item or dialogue; there are {', '.join(heads)}", _FORM, 1)
    if {"aspect", "value"} <= set(heads):
        return []
    found = [aspect.name for aspect in study.manifest.aspects if aspect.name in heads]
    if not found:
        names = ", ".join(aspect.name for aspect in study.manifest.aspects)
        raise DataError(path, f"needs columns aspect and value, or some of {names}", _FORM, 1)
    return found


def _votes(row: Mapping[str, str | None], aspects: Sequence[str], places: _Places) -> Iterator[Vote]:
    told = {name: (value or "").strip() for name, value in row.items() if isinstance(name, str)}
    if not told["rater"]:
        raise OptionError("no rater")
    item, rating = places.item(told), places.study.manifest.scale is not None
    reply = ""
    if rating:
        named = told.get("reply") or told.get("system") or ("" if len(item.replies) > 1 else item.replies[0].key)
        reply = places.reply(item, named)
    for aspect in aspects or [told["aspect"]]:
        text = told[aspect] if aspects else told["value"]
        if aspects and not text:
            continue  # not every rater has to say something of every aspect
        value = _number(text) if rating else TIE if text.casefold() in _TIES else places.reply(item, text)
        yield Vote(told["rater"], item.id, aspect, value, reply, kind="import")


def _number(text: str) -> str | int:
    """A whole number; anything else stays text, which no scale has."""
    try:
        value = float(text)
    except ValueError:
        return text
    return int(value) if value.is_integer() else text

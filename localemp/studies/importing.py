"""Read ratings made elsewhere, in a spreadsheet or on a crowd platform, from a file of separated values.

One line a rating, or one line for all aspects of an item; the first line names the columns:

    rater,item,aspect,value                    item and reply as in the study's items.jsonl; A/B: value is the better
    rater,item,reply,aspect,value              reply's key, its system's name, or "tie"
    rater,dialogue,system,Empathy,Coherence    the owner knows dialogues and systems; a column for each aspect
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from localemp.data.spreadsheet import read_rows, spelt
from localemp.errors import DataError, OptionError, UnknownNameError
from localemp.studies.answers import AnswerStore
from localemp.studies.raters import clean_name
from localemp.studies.schema import TIE, TIES, Item
from localemp.studies.study import Study
from localemp.studies.votes import COLUMNS, Vote, check_vote, quoted
from localemp.utils.text import one_line

_FORM = "docs/studies.md has the form; --column ours=theirs renames one"
# A comma before three digits could also be one that groups them.
_NUMBER = re.compile(r"[-+]?\d{1,9}(?:\.\d{1,9}|,\d{1,2})?")


def read_ratings(path: Path, study: Study, renamed: Mapping[str, str] | None = None) -> list[Vote]:
    """Read the votes of a file; each is checked against the study.

    Args:
        path: Separated by commas, semicolons or tabs; see `spreadsheet.read_rows`.
        study: What was rated.
        renamed: Our name of a column or aspect -> the name in the file.

    Raises:
        DataError: The file cannot be read, a column is missing, a line names an unknown item or is a judge's, or a
            rating is out of range or given twice; file and line are named. Nothing is taken from such a file.
    """
    known = [*COLUMNS, *(aspect.name for aspect in study.manifest.aspects)]
    asked = dict(zip(spelt(list(renamed or ()), known), (renamed or {}).values(), strict=True))
    if strange := [name for name in asked if name not in known]:
        raise UnknownNameError("column", strange[0], known, "--column is OURS=THEIRS")
    ours = {theirs: name for name, theirs in asked.items()}
    rows = read_rows(path, {*known, *ours})
    first, named = next(rows, (0, list[str]()))
    if not named:
        raise DataError(path, "the file is empty", _FORM)
    heads = _heads(path, first, [head.strip() for head in named], ours, known)
    aspects = _aspects(path, first, study, heads)
    places = _Lookup(study)
    votes, seen = [], dict[tuple[str, str, str, str], int]()
    for number, fields in rows:
        try:
            told = _told(heads, fields)
            item = places.item(told)
            for vote in _votes(told, item, aspects, places):
                check_vote(study, vote)
                answered = (vote.rater, vote.item, vote.aspect, vote.reply)
                if answered in seen:
                    what = f"{vote.rater} rated {vote.item}, {vote.aspect} in line {seen[answered]} already"
                    raise OptionError(what, "leave one of the lines out")
                seen[answered] = number
                votes.append(vote)
        except OptionError as error:
            raise DataError(path, error.message, error.hint, number) from error
    if not votes:
        raise DataError(path, "no rating in it", _FORM)
    return votes


def keep_ratings(answers: AnswerStore, votes: Sequence[Vote]) -> int:
    """Store imported votes, all of them or none.

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
    before: dict[tuple[str, str, str, str], str | float] = {}
    replaced = 0
    for vote in (*answers.votes(), *votes):
        if vote.kind == "import":
            answered = (vote.rater, vote.item, vote.aspect, vote.reply)
            replaced += before.get(answered, vote.value) != vote.value
            before[answered] = vote.value
    answers.put_all(votes)
    return replaced


class _Lookup:
    """Look up items and replies by the names in a file."""

    def __init__(self, study: Study) -> None:
        self.study, self.key = study, study.key
        self.items_of: dict[str, list[str]] = {}
        for item, dialogue in self.key.dialogues.items():
            if item not in self.key.checks:
                self.items_of.setdefault(dialogue.strip(), []).append(item)

    def item(self, row: Mapping[str, str]) -> Item:
        """Return the item of a line."""
        dialogue = row.get("dialogue", "")
        if name := row.get("item"):
            if name not in self.study.by_id:
                raise OptionError(f"unknown item {quoted(name)}", "items.jsonl has the items")
            if dialogue and dialogue != (shows := self.key.dialogues.get(name, "").strip()):
                raise OptionError(f"item {name} shows the dialogue {quoted(shows)}, not {quoted(dialogue)}")
            return self.study.by_id[name]
        found = self.items_of.get(dialogue, [])
        if not found:
            hint = "its dialogues are named as in the replies; leave out lines about others"
            raise OptionError(f"no item of the dialogue {quoted(dialogue)} is in the study", hint)
        if len(found) > 1:
            raise OptionError(f"the dialogue {quoted(dialogue)} has {len(found)} items", 'name one in a column "item"')
        return self.study.by_id[found[0]]

    def rated(self, item: Item, row: Mapping[str, str]) -> str:
        """Return the key of the reply that a line rates."""
        reply, system = row.get("reply", ""), row.get("system", "")
        if reply and system and self.reply(item, reply) != self.reply(item, system):
            raise OptionError(f"item {item.id}: the reply {quoted(reply)} is not of {quoted(system)}")
        alone = item.replies[0].key if len(item.replies) == 1 else ""
        return self.reply(item, reply or system or alone)

    def reply(self, item: Item, named: str) -> str:
        """Return the key of a reply named by its key or its system; any other name is returned unchanged."""
        systems = {
            each.key: self.key.systems[each.key].strip() for each in item.replies if each.key in self.key.systems
        }
        return next((key for key, system in systems.items() if system == named), named)


def _heads(path: Path, line: int, named: Sequence[str], ours: Mapping[str, str], known: Sequence[str]) -> list[str]:
    """Map a file's column names, in whatever case, to ours."""
    renamed = [ours.get(head, head) for head in spelt(named, ours)]
    heads = [head if head in ours.values() else spelt([head], known)[0] for head in renamed]
    if lacking := [theirs for theirs, name in ours.items() if name not in heads]:
        raise DataError(path, f"no column {lacking[0]!r}; there are {_listed(named)}", _FORM, line)
    if twice := [name for name, times in Counter(heads).items() if name and times > 1]:
        raise DataError(path, f"two columns are called {quoted(twice[0])}", _FORM, line)
    return heads


def _aspects(path: Path, line: int, study: Study, heads: Sequence[str]) -> list[str]:
    """Return the aspects with a column of their own; none if lines name their aspect."""
    if "rater" not in heads or not {"item", "dialogue"} & set(heads):
        raise DataError(path, f"needs columns rater, and item or dialogue; there are {_listed(heads)}", _FORM, line)
    found = [aspect.name for aspect in study.manifest.aspects if aspect.name in heads]
    if {"aspect", "value"} <= set(heads):
        if found:
            raise DataError(path, f"has columns aspect and value, and one for {found[0]}: which counts?", _FORM, line)
        return []
    if not found:
        names = ", ".join(aspect.name for aspect in study.manifest.aspects)
        raise DataError(path, f"needs columns aspect and value, or some of {names}", _FORM, line)
    return found


def _listed(names: Sequence[str]) -> str:
    return one_line(", ".join(names))


def _told(heads: Sequence[str], fields: Sequence[str]) -> dict[str, str]:
    """Return the fields of a row by column; checks that the rater may be imported."""
    if any(field.strip() for field in fields[len(heads) :]):
        raise OptionError("more fields than there are columns", "a field that holds the separator goes in quotes")
    told = dict.fromkeys(heads, "") | {name: field.strip() for name, field in zip(heads, fields, strict=False)}
    if told.get("kind", "").casefold() == "judge":
        raise OptionError(
            "a judge's answer, which would be counted as a person's", "leave these lines out; a study has judges/"
        )
    if not told["rater"]:
        raise OptionError("no rater")
    return told | {"rater": clean_name(told["rater"])}


def _votes(told: Mapping[str, str], item: Item, aspects: Sequence[str], places: _Lookup) -> Iterator[Vote]:
    rating = places.study.manifest.scale is not None
    reply = places.rated(item, told) if rating else ""
    compared = places.key.named(*(each.key for each in item.replies)).strip()
    if not rating and told.get("system", compared) not in ("", compared):
        raise OptionError(f"item {item.id} compares {quoted(compared)}, not {quoted(told['system'])}")
    first = places.reply(item, told.get("first", ""))
    if first and first not in [each.key for each in item.replies]:
        raise OptionError(f"item {item.id}: unknown reply {quoted(first)} in the column first")
    spelt = {each.casefold(): each for each in (one.name for one in places.study.manifest.aspects)}
    for aspect in aspects or [spelt.get(told["aspect"].casefold(), told["aspect"])]:
        text = told[aspect] if aspects else told["value"]
        if aspects and not text:
            continue  # not every rater has to say something of every aspect
        value = _number(text) if rating else _choice(text, item, places)
        yield Vote(told["rater"], item.id, aspect, value, reply, first, "import")


def _choice(text: str, item: Item, places: _Lookup) -> str:
    """The key of the better reply, or a tie."""
    return TIE if text.casefold() in TIES else places.reply(item, text)


def _number(text: str) -> str | int:
    """Return a whole number, also with a decimal comma; anything else stays text, which is on no scale."""
    written = text.replace("\u2212", "-")
    value = float(written.replace(",", ".")) if _NUMBER.fullmatch(written) else 0.5
    return int(value) if value.is_integer() else text

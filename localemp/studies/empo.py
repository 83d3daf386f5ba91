"""Read the human ratings of EmPO (Sotolar et al. 2024): a folder with `items.jsonl` and `ratings_long.tsv`.

    items.jsonl        {"item_id", "ed_index", "model", "emotion", "dialogue", "response", "target"}, one reply a line
    ratings_long.tsv   item_id, ed_index, model, annotator, and a column for each question

A dialogue is the rows of one `ed_index`; its text ends with the reply, "Listener (Response): ...". The questions are
those of prompts/questionnaires/empo.toml.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from localemp.data.textfile import read_lines
from localemp.errors import DataError
from localemp.metrics.replies import Replies, Reply
from localemp.studies.questionnaire import Questionnaire
from localemp.studies.votes import quoted
from localemp.utils.files import is_file
from localemp.utils.formatting import count
from localemp.utils.json_reader import JSONError, parse_json
from localemp.utils.text import one_line, well_formed
from localemp.utils.validation import format_validation_error

COLUMNS = frozenset({"item_id", "ed_index", "model", "annotator"})
"""The columns that tell a file of ratings of this form."""
QUESTIONNAIRE = "empo"
"""The bundled questionnaire with its scale and aspects."""
_OURS = {"rater": "annotator", "dialogue": "ed_index", "system": "model"}
_RATINGS = ("ratings_long.tsv", "ratings_long.tsv.gz")
_ITEMS = ("items.jsonl", "items.jsonl.gz")
_FORM = 'each line is {"ed_index": 343, "model": "name", "dialogue": "Speaker: ...", "response": "..."}'
_TURN = re.compile(r"(Speaker|Listener|Listener \(Response\)): ?")
_RESPONSE = "Listener (Response)"

_Text = Annotated[str, AfterValidator(well_formed)]


class _Line(BaseModel):
    """A line of the items; unknown keys are ignored."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    ed_index: Annotated[_Text, Field(min_length=1)]
    model: Annotated[_Text, Field(min_length=1)]
    dialogue: Annotated[_Text, Field(min_length=1)]
    response: _Text
    target: _Text | None = None


def ratings_in(folder: Path) -> Path:
    """Return the file of ratings in a folder.

    Raises:
        DataError: There is none.
    """
    return _file_of(folder, _RATINGS, "name the file of ratings itself")


def items_beside(ratings: Path) -> Path:
    """Return the file of items beside that of the ratings.

    Raises:
        DataError: There is none.
    """
    return _file_of(ratings.parent, _ITEMS, "name it with --items")


def columns(asked: Questionnaire, heads: Sequence[str]) -> dict[str, str]:
    """Return our names of columns and aspects, each with that in the file; aspects are matched without their case."""
    theirs = {head.strip().casefold(): head.strip() for head in heads}
    aspects = [aspect.name for aspect in asked.aspect if aspect.name.casefold() in theirs]
    return _OURS | {name: theirs[name.casefold()] for name in aspects}


def read_items(path: Path) -> tuple[list[Replies], list[str]]:
    """Read the replies of each system, and what a reader needs to know of them.

    Raises:
        DataError: The file cannot be read, a line has another form, or a reply is there twice; file and line are named.
    """
    said: dict[str, dict[str, Reply]] = {}
    lines: dict[tuple[str, str], int] = {}
    unlike: dict[str, int] = {}
    for number, text in enumerate(read_lines(path), 1):
        if not text.strip():
            continue
        try:
            line = _Line.model_validate(parse_json(text))
            turns, shown = _turns(line.dialogue)
        except (JSONError, ValidationError, ValueError) as error:
            what = format_validation_error(error) if isinstance(error, ValidationError) else str(error)
            raise DataError(path, one_line(what), _FORM, number) from error
        dialogue, system = line.ed_index.strip(), line.model.strip()
        if before := lines.get((dialogue, system)):
            what = f"the reply of {quoted(system)} to dialogue {quoted(dialogue)} is in line {before} already"
            raise DataError(path, what, "leave one of them out", number)
        lines[dialogue, system] = number
        if shown is not None and shown.split() != line.response.split():
            unlike[system] = unlike.get(system, 0) + 1
        said.setdefault(system, {})[dialogue] = Reply(dialogue, line.response, line.target, turns=turns)
    notes = [
        f"{system}: in {count(number, 'item')} the dialogue ends with another reply than `response`, and the "
        "files do not say which of them people saw; `response` is taken"
        for system, number in unlike.items()
    ]
    return [Replies(system, tuple(items.values()), {"file": path.name}) for system, items in said.items()], notes


def _turns(dialogue: str) -> tuple[tuple[str, ...], str | None]:
    """Return the turns before the reply, and the reply that stands after them, if any.

    Raises:
        ValueError: It does not begin and end with the speaker, or has two turns of one person in a row.
    """
    turns: list[tuple[str, str]] = []
    for line in dialogue.split("\n"):
        if found := _TURN.match(line):
            turns.append((found[1], line[found.end() :]))
        elif turns:
            turns[-1] = turns[-1][0], f"{turns[-1][1]}\n{line}"
        else:
            raise ValueError('dialogue: its first line does not begin with "Speaker:"')
    reply = turns.pop()[1].strip() if turns[-1][0] == _RESPONSE else None
    who = [person for person, _ in turns]
    if len(who) % 2 == 0 or who != ["Speaker", "Listener"] * (len(who) // 2) + ["Speaker"]:
        raise ValueError("dialogue: speaker and listener do not take turns, the speaker first and last")
    if not all(text.strip() for _, text in turns):
        raise ValueError("dialogue: a turn is empty")
    return tuple(text.strip() for _, text in turns), reply


def _file_of(folder: Path, names: Sequence[str], hint: str) -> Path:
    for name in names:
        if is_file(path := folder / name):
            return path
    raise DataError(folder, f"no {names[0]} in it", hint)

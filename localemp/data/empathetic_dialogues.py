"""EmpatheticDialogues (Rashkin et al. 2019): reads its files.

The official files are CSV; the hub has the same columns, with the same `_comma_`, as Parquet. A row is one utterance.
`csv_rows.py` parses the rows of a CSV file, `turn_taking.py` determines who speaks, `conversations.py` builds
instances. Anomalies of a file are logged as warnings, with line or row numbers.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from localemp.data.conversations import Conversation, Instances, build_instances
from localemp.data.csv_rows import NEEDED, columns_of, rows_of
from localemp.data.forms import UTTERANCES, form_of
from localemp.data.notes import Notes
from localemp.data.reader import Reader, is_file_of
from localemp.data.records import ENDINGS, Record, error_at, read_records
from localemp.data.splits import SPLITS, Split, split_file, split_files
from localemp.data.stats import Stats
from localemp.data.textfile import read_lines
from localemp.data.turn_taking import TurnTaking, Utterance
from localemp.dialogue import Dialogue
from localemp.errors import DataError
from localemp.utils.files import is_folder
from localemp.utils.json_reader import kind_of
from localemp.utils.paths import at_home, cache_dir
from localemp.utils.text import one_line

_log = logging.getLogger(__name__)


class EmpatheticDialogues(Reader):
    """Reads EmpatheticDialogues: fetched by `localemp data pull`, a folder with its splits, or one of its files."""

    names = ("empathetic-dialogues",)
    endings = (".csv",)

    @classmethod
    def matches(cls, source: str) -> bool:
        """Return whether the source is the data set's name, one of its files, or a folder."""
        path = at_home(source)
        if super().matches(source) or is_folder(path):
            return True
        return is_file_of(path, ENDINGS) and form_of(path) == UTTERANCES

    @property
    def path(self) -> Path:
        """The folder or file."""
        if self.source not in self.names:
            return at_home(self.source)
        folder = cache_dir("data", "empathetic_dialogues")
        if not is_folder(folder):
            raise DataError(folder, "EmpatheticDialogues is not on this machine", "run `localemp data pull`")
        return folder

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits in the folder."""
        path = self.path
        return tuple(split for split in SPLITS if _files(path, split)) if is_folder(path) else ()

    @property
    def is_whole(self) -> bool:
        """Whether it is one file."""
        return not is_folder(self.path)

    @property
    def pool(self) -> str:
        """The data set's training split; for a single file, that of its folder."""
        path = self.path
        if is_folder(path):
            return self.source
        # The hub has the pieces of a split in a folder of their own.
        return str(next((each for each in list(path.parents)[:2] if _files(each, "train")), path.parent))

    def read(self, split: Split, instances: Instances) -> list[Dialogue]:
        """Return the instances of a split: one for every listener turn, or exactly those that the paper used.

        Raises:
            DataError: The folder does not have the split, a file cannot be read, or it has no dialogue.
        """
        files = self.files(split)
        dialogues = build_instances(read_conversations(*files), instances)
        if not dialogues:
            dropped = " (published drops the last two conversations)" if instances == "published" else ""
            message = f"no conversation has a listener turn{dropped}"
            raise DataError(files[0], message, "give a file with listener turns")
        return dialogues

    def files(self, split: Split) -> list[Path]:
        """Return the files of a split: a CSV file, or one or more tables; a single file serves as every split.

        Raises:
            DataError: The folder does not have the split.
        """
        path = self.path
        if not is_folder(path):
            return [path]
        if not (files := _files(path, split)):
            splits = self.splits
            here = f"it has {', '.join(splits)}" if splits else "it has no split of a data set"
            remedy = "give a folder with train, valid and test, or a file; `localemp data pull` fetches one"
            raise DataError(path, f"no file of the split {split}; {here}", remedy)
        return files

    def count(self, splits: Sequence[Split], instances: Instances) -> dict[str, Stats]:
        """Return the statistics of the splits of a folder, or of a single file under its name."""
        path = self.path
        chosen = tuple(splits) or self.splits or SPLITS
        files = {str(split): self.files(split) for split in chosen} if is_folder(path) else {path.name: [path]}
        counted = {}
        for name, each in files.items():
            conversations = read_conversations(*each)
            counted[name] = Stats.of_conversations(conversations, build_instances(conversations, instances))
        return counted


def _files(folder: Path, split: Split) -> list[Path]:
    file = split_file(folder, split)
    return split_files(folder, split, ENDINGS) if file is None else [file]


def read_conversations(*files: Path) -> list[Conversation]:
    """Read the conversations of a file, or of the pieces of one, in file order; turns are ordered by `utterance_idx`.

    Args:
        *files: A CSV file, plain or gzipped, or files of records with the columns of the data set.

    Raises:
        DataError: A file cannot be read, has no header or no rows, or a row is not in the official format.
    """
    about: dict[str, tuple[str, str]] = {}
    said: dict[str, dict[int, Utterance]] = {}
    notes = Notes()
    for path in files:
        for row in _record_rows(path) if is_file_of(path, ENDINGS) else _csv_rows(path):
            notes.unit = row.unit
            try:
                turn = int(row.position)
            except ValueError as error:
                message = f"utterance_idx {one_line(row.position)!r} is not a whole number"
                raise error_at(path, row.unit, row.number, message) from error
            conversation = said.setdefault(row.conversation, {})
            if turn in conversation:
                message = f"utterance {turn} of {one_line(row.conversation)} occurs twice"
                raise error_at(path, row.unit, row.number, message)
            conversation[turn] = Utterance(row.number, turn, row.who.strip(), _with_commas(row.utterance))
            about.setdefault(row.conversation, (_with_commas(row.emotion).strip(), _with_commas(row.situation)))
    if not said:
        message = "the file has a header but no rows"
        raise DataError(files[0], message, "give a file with at least one conversation")
    taking = TurnTaking({key: [turns[turn] for turn in sorted(turns)] for key, turns in said.items()}, notes)
    conversations = [Conversation(key, *about[key], taking.turns(key)) for key in said]
    for note in notes:
        _log.warning("%s: %s", files[0], note)
    return conversations


class _Row(NamedTuple):
    """One utterance, its fields as in the file; `number` counts lines or rows, as `unit` says."""

    unit: str
    number: int
    conversation: str
    position: str
    emotion: str
    situation: str
    who: str
    utterance: str


def _csv_rows(path: Path) -> Iterator[_Row]:
    lines = read_lines(path)
    at = columns_of(path, lines[0])
    key, position, emotion, situation, utterance = (at[name] for name in NEEDED)
    who = at.get("speaker_idx")
    for number, fields in rows_of(path, lines, at):
        # The last columns of a row may be missing.
        speaker = "" if who is None or who >= len(fields) else fields[who]
        told = fields[emotion], fields[situation], speaker, fields[utterance]
        yield _Row("line", number, fields[key], fields[position], *told)


def _record_rows(path: Path) -> Iterator[_Row]:
    for record in read_records(path, (*NEEDED, "speaker_idx")):
        fields = [_field(record, name) for name in (*NEEDED[:-1], "speaker_idx", NEEDED[-1])]
        yield _Row(record.unit, record.number, *fields)


def _field(record: Record, name: str) -> str:
    """Return a field as a CSV file has it: "" for null, and whole numbers without a point."""
    value: Any = record.value.get(name)
    if value is None:
        if name in NEEDED and name not in record.value:
            raise record.error(f"no {name}", f"a row of EmpatheticDialogues has {', '.join(NEEDED)}")
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise record.error(f"{name} must be a text or a number, found {kind_of(value)}")
    return str(value)


def _with_commas(text: str) -> str:
    return text.replace("_comma_", ",")

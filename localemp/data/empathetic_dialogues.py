"""EmpatheticDialogues (Rashkin et al. 2019): reads its files.

`csv_rows.py` parses the rows of a file, `turn_taking.py` determines who speaks, `conversations.py` builds instances.
Anomalies of a file are logged as warnings, with line numbers.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from localemp.data.conversations import Conversation, Instances, build_instances
from localemp.data.csv_rows import columns_of, rows_of
from localemp.data.reader import Reader
from localemp.data.splits import SPLITS, Split, split_file
from localemp.data.stats import Stats
from localemp.data.textfile import read_lines
from localemp.data.turn_taking import TurnTaking, Utterance
from localemp.dialogue import Dialogue
from localemp.errors import DataError
from localemp.utils.files import is_folder
from localemp.utils.paths import at_home, cache_dir
from localemp.utils.text import one_line

_log = logging.getLogger(__name__)


class EmpatheticDialogues(Reader):
    """Reads EmpatheticDialogues: fetched by `localemp data pull`, a folder with its splits, or one of its CSV files."""

    names = ("empathetic-dialogues",)
    endings = (".csv",)

    @classmethod
    def matches(cls, source: str) -> bool:
        """Return whether the source is the data set's name, one of its files, or a folder."""
        return super().matches(source) or is_folder(at_home(source))

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
        return tuple(split for split in SPLITS if is_folder(path) and split_file(path, split))

    @property
    def pool(self) -> str:
        """The data set's training split; for a single file, that of its folder."""
        return self.source if is_folder(self.path) else str(self.path.parent)

    def read(self, split: Split, instances: Instances) -> list[Dialogue]:
        """Return the instances of a split: one for every listener turn, or exactly those that the paper used.

        Raises:
            DataError: The folder does not have the split, the file cannot be read, or it has no dialogue.
        """
        file = self.file(split)
        dialogues = build_instances(read_conversations(file), instances)
        if not dialogues:
            dropped = " (published drops the last two conversations)" if instances == "published" else ""
            raise DataError(file, f"no conversation has a listener turn{dropped}", "give a file with listener turns")
        return dialogues

    def file(self, split: Split) -> Path:
        """Return the file of a split; a single file serves as every split.

        Raises:
            DataError: The folder does not have the split.
        """
        path = self.path
        if not is_folder(path):
            return path
        file = split_file(path, split)
        if file is None:
            splits = self.splits
            here = f"it has {', '.join(splits)}" if splits else "it has no split of EmpatheticDialogues"
            remedy = "fetch the data set with `localemp data pull`, or give a folder with train, valid and test"
            raise DataError(path, f"no {split}.csv or {split}.csv.gz; {here}", remedy)
        return file

    def count(self, splits: Sequence[Split], instances: Instances) -> dict[str, Stats]:
        """Return the statistics of the splits of a folder, or of a single file under its name."""
        path = self.path
        chosen = tuple(splits) or self.splits or SPLITS
        files = {str(split): self.file(split) for split in chosen} if is_folder(path) else {path.name: path}
        counted = {}
        for name, file in files.items():
            conversations = read_conversations(file)
            counted[name] = Stats.of_conversations(conversations, build_instances(conversations, instances))
        return counted


def read_conversations(path: Path) -> list[Conversation]:
    """Read the conversations of a CSV file, plain or gzipped, in file order; turns are ordered by `utterance_idx`.

    Raises:
        DataError: The file cannot be read, has no header or no rows, or a row is not in the official format.
    """
    lines = read_lines(path)
    at = columns_of(path, lines[0])
    about: dict[str, tuple[str, str]] = {}
    said: dict[str, dict[int, Utterance]] = {}

    def text(fields: list[str], column: str) -> str:
        return fields[at[column]].replace("_comma_", ",")

    for number, fields in rows_of(path, lines, at):
        index, key = fields[at["utterance_idx"]], fields[at["conv_id"]]
        try:
            turn = int(index)
        except ValueError as error:
            raise DataError(path, f"utterance_idx {one_line(index)!r} is not a whole number", line=number) from error
        conversation = said.setdefault(key, {})
        if turn in conversation:
            raise DataError(path, f"utterance {turn} of {one_line(key)} occurs twice", line=number)
        who = "".join(fields[at["speaker_idx"] : at["speaker_idx"] + 1]).strip() if "speaker_idx" in at else ""
        conversation[turn] = Utterance(number, turn, who, text(fields, "utterance"))
        about.setdefault(key, (text(fields, "context").strip(), text(fields, "prompt")))
    if not said:
        raise DataError(path, "the file has a header but no rows", "give a file with at least one conversation")
    taking = TurnTaking({key: [turns[turn] for turn in sorted(turns)] for key, turns in said.items()})
    conversations = [Conversation(key, *about[key], taking.turns(key)) for key in said]
    for note in taking.notes():
        _log.warning("%s: %s", path, note)
    return conversations

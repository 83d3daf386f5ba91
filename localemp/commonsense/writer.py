"""Writes a file of inferences; it can be interrupted at any moment and resumed."""

import json
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, Self

from localemp.commonsense.store import Entry, header_of, line_of
from localemp.errors import DataError
from localemp.utils.append_log import AppendLog, whole_lines
from localemp.utils.config_diff import compare_settings
from localemp.utils.files import MAKE_ROOM, write_errors
from localemp.utils.json_reader import JSONError, parse_json
from localemp.utils.lines import LongLineError
from localemp.utils.locks import LockedError

# Another version of localemp may go on where one stopped: what decides the inferences is in the other settings.
_NO_DIFFERENCE = {"localemp"}

_BEGINNING = b'{"knowledge": {'
_NOT_OURS = "the file does not record how it was made"
_TAKE_OUT = "delete the line, or choose another --out"


class KnowledgeWriter(AppendLog):
    """A file of inferences that is open for appending. Make one with `open`; use it in a `with` block.

    Attributes:
        path: The file.
        done: Ids of the dialogues that are in it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.done: set[str] = set()

    @classmethod
    def open(cls, path: Path, header: Mapping[str, Any]) -> Self:
        """Create a file, or resume one with the same settings; a truncated last line is removed.

        Args:
            path: A plain file; its folder is made where it does not exist.
            header: Everything that decides the inferences, and what they are of; JSON.

        Raises:
            DataError: The file was made with other settings (they are listed) or by something else, is named as a gzip
                file, is being written by another process, or cannot be written.
        """
        if path.suffix == ".gz":
            raise DataError(path, "inferences are written to plain files only", "omit .gz, and compress the file later")
        try:
            with _write_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                writer = cls(path)
        except LockedError as error:
            raise DataError(path, "another localemp writes to it", "wait for it, or choose another --out") from error
        try:
            writer._take_up(json.loads(json.dumps(header)))
        except BaseException:
            writer.close()
            raise
        return writer

    def add(self, entries: Iterable[Entry]) -> None:
        """Append entries; they have been handed to the operating system when this returns.

        Raises:
            DataError: The file cannot be written; what was written before stays.
        """
        new = list(entries)
        self._append(b"".join(map(line_of, new)))
        self.done |= {entry.id for entry in new if entry.id is not None}

    def written(self) -> set[str]:
        """Read the ids of the dialogues from the file; after an interrupt, `done` may lack some.

        Raises:
            DataError: The file cannot be read.
        """
        try:
            return {self._id(line, number) for number, _, line in whole_lines(self.path) if number > 1}
        except OSError as error:
            raise DataError(self.path, error.strerror or str(error), "check its permissions") from error

    def _take_up(self, header: dict[str, Any]) -> None:
        whole = 0
        try:
            # Line by line: the file may be large, and only ids are needed of it.
            for number, whole, line in whole_lines(self.path):  # noqa: B007  the last end is wanted
                if number == 1:
                    self._compare(line, header)
                else:
                    self.done.add(self._id(line, number))
        except LongLineError as error:
            raise DataError(self.path, str(error), _TAKE_OUT, error.line) from error
        if not whole:
            self._check_beginning()
        # The file is known to be localemp's only now; a crash may have cut its end.
        with _write_errors(self.path):
            self.truncate(whole)
        if not whole:
            self._append((json.dumps({"knowledge": header}, ensure_ascii=False) + "\n").encode())

    def _check_beginning(self) -> None:
        """Raise DataError if a file without a complete line is not the beginning of a file of inferences."""
        with self.path.open("rb") as file:
            found = file.read(len(_BEGINNING))
        if found and found != _BEGINNING:
            raise DataError(self.path, _NOT_OURS, "choose another --out")

    def _compare(self, line: bytes, header: dict[str, Any]) -> None:
        try:
            old = header_of(parse_json(line))
        except ValueError:
            old = None
        if old is None:
            raise DataError(self.path, _NOT_OURS, "choose another --out")
        made, asked = ({name: one[name] for name in one.keys() - _NO_DIFFERENCE} for one in (old, header))
        if difference := compare_settings(made, asked, "in the file"):
            shown = "\n".join(f"  {one}" for one in difference)
            raise DataError(
                self.path,
                f"these inferences were made with other settings:\n{shown}",
                "choose another --out, or use the settings of the file",
            )

    def _id(self, line: bytes, number: int) -> str:
        try:
            record = parse_json(line)
        except JSONError as error:
            raise DataError(self.path, str(error), _TAKE_OUT, number) from error
        name = record.get("id") if isinstance(record, dict) else None
        if not isinstance(name, str):
            raise DataError(self.path, "it holds no inferences of a dialogue", _TAKE_OUT, number)
        return name

    def _append(self, content: bytes) -> None:
        with _write_errors(self.path):
            self.write(content)


def _write_errors(path: Path) -> AbstractContextManager[None]:
    return write_errors(partial(DataError, path), "choose another --out", if_full=MAKE_ROOM)

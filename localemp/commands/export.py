"""`runs export`: the replies of one or more runs as a table, a row for each dialogue, in the order of the data."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from localemp.commands.tables import make_folder
from localemp.errors import OptionError
from localemp.reporting.joined_replies import JoinedReplies
from localemp.reporting.systems import names_of
from localemp.utils.extras import require
from localemp.utils.files import is_file, is_folder, write_errors
from localemp.utils.paths import Named, StrPath, named_paths
from localemp.utils.progress import OnProgress, Progress, silent
from localemp.utils.row_files import FileKind, write_rows


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What `export` wrote.

    Attributes:
        written: The files.
        columns: The columns.
        rows: Number of rows: dialogues.
        notes: What a reader needs to know: dialogues that a run lacks, data that differs.
    """

    written: tuple[Path, ...]
    columns: tuple[str, ...]
    rows: int
    notes: tuple[str, ...]


def export(
    runs: Named,
    *,
    csv: StrPath | None = None,
    parquet: StrPath | None = None,
    jsonl: StrPath | None = None,
    common: bool = False,
    overwrite: bool = False,
    on_progress: OnProgress = silent,
) -> ExportResult:
    """Write the replies of one or more runs as a table: a row for each dialogue, in the order of the data.

        export(["runs/a", "runs/b"], csv="replies.csv", parquet="replies.parquet")

    Replies of several runs are joined by the ids of their dialogues. Cells of what a run lacks are empty.

    Args:
        runs: Folders of runs; with their names in columns as a mapping, or as "NAME=PATH".
        csv: A file of comma-separated values. Texts that a spreadsheet would run as a formula begin with an apostrophe.
        parquet: A Parquet file.
        jsonl: A file of JSON lines.
        common: Only the dialogues that every run has a reply to.
        overwrite: Replace files that exist.
        on_progress: Called with runs read.

    Raises:
        OptionError: No run or no file is given, a file exists or cannot be written, or runs have different dialogues.
        RunError: A folder holds no run, a line is damaged, or no run has a reply yet.
    """
    if not (given := named_paths(runs)):
        raise OptionError("nothing to export", "give runs (`localemp runs list` shows them)")
    files = _checked({"csv": csv, "parquet": parquet, "jsonl": jsonl}, overwrite)
    names = [name or path for (name, _), path in zip(given, names_of([path for _, path in given]), strict=True)]
    if twice := [name for name in names if names.count(name) > 1]:
        raise OptionError(f"two runs are called {twice[0]}", "give each its own name: NAME=RUN")
    table = JoinedReplies(len(given) > 1)
    for number, (name, (_, path)) in enumerate(zip(names, given, strict=True)):
        on_progress(Progress("Reading", number, len(given), "runs", name))
        table.add(name, path)
    table.check()
    columns, rows = table.columns, table.rows(common)
    with write_errors(lambda message, hint: OptionError(message, hint), "name another file"):
        for path in files.values():
            make_folder(path.parent)
        written = write_rows(files, columns, ({name: row.get(name) for name in columns} for row in rows))
    return ExportResult(tuple(written), tuple(columns), len(rows), tuple(table.notes(common)))


def _checked(named: Mapping[FileKind, StrPath | None], overwrite: bool) -> dict[FileKind, Path]:
    """Return the files to write.

    Raises:
        OptionError: There is none, one is there already, or two are the same.
        MissingPackageError: Parquet cannot be written.
    """
    files: dict[FileKind, Path] = {kind: Path(path) for kind, path in named.items() if path is not None}
    if not files:
        raise OptionError("no file is named", "give --csv FILE, --parquet FILE or --jsonl FILE")
    if len({path.resolve() for path in files.values()}) < len(files):
        raise OptionError("two formats cannot be written to one file", "give each its own")
    for kind, path in files.items():
        if is_folder(path):
            raise OptionError(f"--{kind} {path}: it is a folder", "name a file in it")
        if os.path.lexists(path) and not (overwrite and is_file(path)):
            raise OptionError(f"--{kind} {path}: it is there already", "name another file, or replace it: --overwrite")
    if "parquet" in files:
        require("parquet", "--parquet")
    return files

"""Tables and pages written into the files that were asked for: what `report` and `study.report` share."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from localemp.errors import OptionError
from localemp.reporting import writers
from localemp.reporting.published import Published, read_published
from localemp.reporting.tables import Table
from localemp.utils.files import write_atomically, write_errors
from localemp.utils.paths import StrPath

_log = logging.getLogger(__name__)


def published_of(published: StrPath | None) -> Published:
    """The paper's figures: all, none of its rows ("none"), or those of a file.

    Raises:
        DataError: The file cannot be read, or breaks a rule.
    """
    if published == "none":
        return read_published().without_rows()
    return read_published(None if published is None else Path(published))


def write_tables(
    tables: Sequence[Table], markdown: StrPath | None, latex: StrPath | None, csv: StrPath | None
) -> list[Path]:
    """Write tables into files.

    Args:
        tables: The tables.
        markdown: A file.
        latex: A file.
        csv: A folder, for a file of each table; a name that ends in .csv, for one file with all cells.

    Returns:
        The files that were written.

    Raises:
        OptionError: One cannot be written.
    """
    return list(_written(tables, markdown, latex, csv))


def _written(
    tables: Sequence[Table], markdown: StrPath | None, latex: StrPath | None, csv: StrPath | None
) -> Iterator[Path]:
    if markdown is not None:
        yield write_text(Path(markdown), writers.markdown(tables), "--markdown")
    if latex is not None:
        yield write_text(Path(latex), writers.latex(tables), "--latex")
    if csv is None:
        return
    if Path(csv).suffix == ".csv":
        yield write_text(Path(csv), writers.csv_long(tables), "--csv")
    else:
        for table in tables:
            yield write_text(Path(csv) / f"{table.key}.csv", writers.csv_wide(table), "--csv")


def write_text(path: Path, text: str, option: str) -> Path:
    """Write a file that an option named; a folder that is created for it is logged.

    A file that is there stays whole if the disk is full. A device or a pipe is written to as it is.

    Raises:
        OptionError: It cannot be written.
    """
    with write_errors(lambda message, hint: OptionError(f"{option} {path}: {message}", hint), "name another"):
        make_folder(path.parent)
        if path.exists() and not path.is_file():
            path.write_text(text, "utf-8", errors="replace")
        else:
            mode = path.stat().st_mode & 0o777 if path.exists() else 0o666
            write_atomically(path.resolve(), text.encode("utf-8", "replace"), mode)
    return path


def make_folder(folder: Path) -> None:
    """Create a folder where there is none, and log that.

    Raises:
        OSError: It cannot be created.
    """
    if not folder.exists():
        folder.mkdir(parents=True)
        _log.info("created folder: %s", folder)

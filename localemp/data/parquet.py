"""Reads tables in Parquet files, row by row and within limits; pyarrow does the decoding.

Only the columns that matter are read, a few rows at a time. What a file says of its size is checked first, and what it
comes to while it is read: a dictionary, which has each text once, makes a small file of endless texts.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from localemp.data.textfile import ALWAYS_UNPACKED, LARGEST_TEXT, MOST_LINES, MOST_UNPACKED
from localemp.errors import DataError
from localemp.utils.extras import install_command
from localemp.utils.files import open_regular
from localemp.utils.text import one_line

if TYPE_CHECKING:
    from pyarrow import Array, DataType
    from pyarrow.parquet import ParquetFile

_MAGIC, _POINTER = b"PAR1", b"version https://git-lfs"
_MOST_CHUNKS, _MOST_COLUMNS, _DEEPEST = 1_000_000, 10_000, 10
_BATCH = 1_000
_AGAIN = "fetch or copy the file again"


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table, with the columns of these names that it has.

    Raises:
        DataError: pyarrow is not installed, the file cannot be read, is damaged or too large, it has none of the
            columns, or a column has values other than texts, numbers, and lists and objects of them.
    """
    with _opened(path) as (table, file):
        names = table.schema_arrow.names
        wanted = [name for name in columns if names.count(name) == 1]
        if not wanted:
            raise DataError(path, f"no column {' or '.join(columns)}", f"it has {one_line(', '.join(names))}")
        for name in wanted:
            if not _is_plain(kind := table.schema_arrow.field(name).type):
                raise DataError(path, f"the column {name!r} has values of the type {one_line(str(kind))}")
        largest = min(LARGEST_TEXT, max(ALWAYS_UNPACKED, MOST_UNPACKED * file.seek(0, 2)))
        _check_size(path, table, largest)
        # Each text once, and numbers in its places: what they come to is known before they are written out.
        coded = type(table)(file, metadata=table.metadata, read_dictionary=_texts(table, wanted), pre_buffer=False)
        total = 0
        for batch in coded.iter_batches(_BATCH, columns=wanted, use_threads=False):
            total += sum(map(_size, batch.columns))
            if total > largest:
                raise _too_large(path, largest)
            yield from batch.to_pylist()


def first_row(path: Path) -> dict[str, str]:
    """Return the names of a table's columns, each with its first value if that is a text, else "".

    Raises:
        DataError: As `read_rows`.
    """
    with _opened(path) as (table, _):
        names = table.schema_arrow.names
    texts = next(read_rows(path, ["text"]), {}) if names.count("text") == 1 else {}
    return {name: value if isinstance(value := texts.get(name), str) else "" for name in names}


@contextmanager
def _opened(path: Path) -> Iterator[tuple["ParquetFile", BinaryIO]]:
    """Open a table; yields it and its file. Errors of pyarrow in the block become DataErrors."""
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise DataError(path, "Parquet files need pyarrow", install_command("parquet")) from error
    try:
        with open_regular(path) as file:
            _check_beginning(path, file)
            limits = {"thrift_string_size_limit": 2**26, "thrift_container_size_limit": _MOST_CHUNKS}
            with ParquetFile(file, pre_buffer=False, **limits) as table:
                if table.metadata.num_columns > _MOST_COLUMNS:
                    raise DataError(path, f"more than {_MOST_COLUMNS:,} columns", "is this the right file?")
                yield table, file
    except (pyarrow.ArrowException, ValueError, MemoryError, OverflowError, KeyError, TypeError) as error:
        reason = one_line(str(error)) or type(error).__name__
        raise DataError(path, f"damaged, or not a Parquet file ({reason})", _AGAIN) from error
    except OSError as error:  # pyarrow raises it for damaged pages, too, without a number
        if error.errno is None:
            raise DataError(path, f"damaged Parquet file ({one_line(str(error))})", _AGAIN) from error
        raise DataError(path, error.strerror or str(error), "check the path and its permissions") from error


def _check_beginning(path: Path, file: BinaryIO) -> None:
    begins = file.read(len(_POINTER))
    if begins == _POINTER:
        raise DataError(path, "it is a pointer of Git LFS, not the table itself", "fetch it with `git lfs pull`")
    if not begins.startswith(_MAGIC):
        raise DataError(path, "it is empty" if not begins else "not a Parquet file", _AGAIN)
    file.seek(0)


def _check_size(path: Path, table: "ParquetFile", largest: int) -> None:
    """Check what a table says of its size."""
    metadata = table.metadata
    if metadata.num_rows > MOST_LINES:
        raise DataError(path, f"it has more than {MOST_LINES:,} rows", "is this the right file?")
    if metadata.num_row_groups * metadata.num_columns > _MOST_CHUNKS:
        raise DataError(path, f"it has more than {_MOST_CHUNKS:,} pieces", "is this the right file?")
    # Not column by column: pyarrow ends the process where the statistics of one are damaged.
    if sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups)) > largest:
        raise _too_large(path, largest)


def _texts(table: "ParquetFile", wanted: Sequence[str]) -> list[str]:
    """Return the names of the columns of texts, those inside other columns included."""
    columns = [table.schema.column(number) for number in range(len(table.schema))]
    return [
        column.path
        for column in columns
        if column.path.partition(".")[0] in wanted and column.physical_type == "BYTE_ARRAY"
    ]


def _size(array: "Array") -> int:
    """Return the bytes of an array once its texts are written out."""
    from pyarrow import compute, types

    if types.is_dictionary(array.type):
        lengths = compute.binary_length(array.dictionary)
        return int(array.nbytes + (compute.sum(lengths.take(array.indices)).as_py() or 0))
    if types.is_struct(array.type) or types.is_list(array.type) or types.is_large_list(array.type):
        inner = array.flatten()
        return sum(map(_size, inner if isinstance(inner, list) else [inner]))
    return int(array.nbytes)


def _too_large(path: Path, largest: int) -> DataError:
    return DataError(path, f"it has more than {largest / 2**20:,.0f} MiB when unpacked", "is this the right file?")


def _is_plain(kind: "DataType", deep: int = 0) -> bool:
    """Return whether values of a type are texts, numbers or null, or lists and objects of them."""
    from pyarrow import types

    if types.is_dictionary(kind) and deep == 0:
        kind = kind.value_type
    if types.is_struct(kind):
        return deep < _DEEPEST and all(_is_plain(kind.field(at).type, deep + 1) for at in range(kind.num_fields))
    if types.is_list(kind) or types.is_large_list(kind):
        return deep < _DEEPEST and _is_plain(kind.value_type, deep + 1)
    simple = (types.is_string, types.is_large_string, types.is_integer, types.is_floating, types.is_boolean)
    return types.is_null(kind) or any(is_simple(kind) for is_simple in simple)

"""Loads dialogues from a named source, or from the path of a data set."""

import hashlib
import json
from collections.abc import Iterable, Mapping

from localemp.data.columns import Table, check_columns, source_of
from localemp.data.conversations import INSTANCES, Instances
from localemp.data.reader import Reader, Source, is_file_of, is_there
from localemp.data.readers import readers
from localemp.data.splits import canonical_split
from localemp.data.subset import Subset
from localemp.data.tables import TableReader
from localemp.dialogue import Dialogue
from localemp.errors import DataError, OptionError, UnknownNameError, nearest
from localemp.utils.files import is_folder
from localemp.utils.paths import at_home
from localemp.utils.plugins import why_missing


def find_source(source: Source) -> Reader:
    """Return the reader for a name ("samples", "bundled", "empathetic-dialogues") or for the path of a file or folder.

    Raises:
        DataError: The path does not exist, is a file of another kind, or cannot be read.
        OptionError: Columns are named of what is no table.
    """
    known = list(readers().values())[::-1]
    if isinstance(source, Table):
        return _find_table(source, [name for reader in known for name in reader.names])
    named = (reader for reader in known if source in reader.names)
    if (reader := next(named, None)) or (reader := next((each for each in known if each.matches(source)), None)):
        return reader(source)
    names = [name for reader in known for name in reader.names]
    endings = dict.fromkeys(ending for reader in reversed(known) for ending in reader.endings)
    hint = f"give a path or one of: {', '.join(names)}"
    if near := nearest(source, names):
        hint = f"did you mean {near!r}? {hint}"
    if not is_there(at_home(source)):
        why = why_missing("data reader", source)
        raise DataError(source, why or "no such readable file, folder or named source", hint)
    raise DataError(
        at_home(source), f"the name must end in one of {', '.join(endings)}, or in one of them and .gz", hint
    )


def _find_table(table: Table, names: list[str]) -> Reader:
    path = at_home(table.path)
    if table.path in names:
        raise OptionError(f"--columns: {table.path} has columns of its own", "leave --columns out")
    if not is_there(path):
        raise DataError(table.path, "no such readable file or folder", "give the path of the table")
    if not is_folder(path) and not is_file_of(path, TableReader.endings):
        endings = ", ".join(TableReader.endings)
        raise DataError(path, f"the name must end in one of {endings}, or in one of them and .gz")
    return TableReader(table)


def load_dialogues(
    source: Source,
    split: str = "test",
    instances: Instances = "clean",
    limit: int | None = None,
    sample: int | None = None,
    seed: int = 0,
    columns: Mapping[str, str] | None = None,
) -> list[Dialogue]:
    """Return the dialogues of a source, in order.

    Args:
        source: See `find_source`.
        split: The split of a folder; ignored for a single file (`check_split`).
        instances: How instances are built from EmpatheticDialogues: one for every listener turn ("clean"), or exactly
            those that the paper used ("published"). Ignored for other data.
        limit: Most dialogues to return, from the start.
        sample: Most dialogues to return, chosen at random; see `Subset`.
        seed: Of the sample.
        columns: What the columns of a table of the user's are, such as {"context": "history", "response": "reply"}; see
            `localemp.data.columns.ROLES`.

    Raises:
        DataError: The source does not exist, cannot be read, or has no dialogue.
        OptionError: Limit or sample is below 1, or both are given.
        UnknownNameError: The split or the kind of instances does not exist.
    """
    subset = Subset(limit, sample, seed)
    if instances not in INSTANCES:
        raise UnknownNameError("kind of instances", instances, INSTANCES)
    wanted = canonical_split(split)
    if columns:
        source = source_of(str(source), check_columns(columns))
    return subset.of(find_source(source).read_checked(wanted, instances))


def check_split(source: Source, split: str) -> None:
    """Check that a split that was asked for means something for a source.

    Raises:
        DataError: The source does not exist.
        UnknownNameError: The split does not exist.
        OptionError: The source is one file, which has no splits.
    """
    if canonical_split(split) != "test" and find_source(source).is_whole:
        raise OptionError(f"--split {split}: {source} is one file, which is read whole", "leave --split out")


def pool_source(source: Source) -> Source:
    """Return the default source of exemplars; read it with `split="train"`.

    It is the training split of a folder (for a single file of EmpatheticDialogues, that of its folder); for all other
    sources it is "bundled".

    Raises:
        DataError: The source does not exist.
    """
    return find_source(source).pool


def data_hash(dialogues: Iterable[Dialogue]) -> str:
    """Return the SHA-256 of all fields of the dialogues, in order; the same on every machine.

    Support strategies count only where there are some, so that data without them keeps its hash.
    """
    digest = hashlib.sha256()
    for dialogue in dialogues:
        known = [
            dialogue.id,
            dialogue.turns,
            dialogue.emotion,
            dialogue.situation,
            dialogue.reference,
            dialogue.conversations,
        ]
        if dialogue.support_strategies:
            known.append(dialogue.support_strategies)
        digest.update(json.dumps(known, ensure_ascii=True, separators=(",", ":")).encode() + b"\n")
    return digest.hexdigest()

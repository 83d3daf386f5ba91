"""`--index` and `--id`: one dialogue, by its place in the data or by its id."""

from collections.abc import Sequence

import click

from localemp.errors import OptionError, nearest
from localemp.utils.formatting import count

index_option = click.option("--index", type=int, metavar="N", help="Show this dialogue of the data, from 0.")
id_option = click.option("--id", "name", metavar="ID", help="Show the dialogue with this id.")
_SHOWN = 5


def find_place(
    ids: Sequence[str], numbers: Sequence[int], index: int | None, name: str | None, where: str
) -> int | None:
    """Return the place of the dialogue that is wanted; None if none is named.

    Args:
        ids: Ids of what is there.
        numbers: Their places in the data, ascending.
        index: The value of `--index`.
        name: The value of `--id`.
        where: What is searched, for messages.

    Raises:
        OptionError: Both are given, or there is no such dialogue.
    """
    if index is not None and name is not None:
        raise OptionError("--index and --id both choose a dialogue", "give one of them")
    if name is not None:
        if name not in ids:
            near = nearest(name, ids) or next(iter(ids), "")
            raise OptionError(f"--id {name!r}: {where} has no such dialogue", f"it has {near!r}, for example")
        return ids.index(name)
    if index is None:
        return None
    if index not in numbers:
        raise OptionError(f"--index {index}: {where} has {_have(numbers)}", "give one of these, or --id ID")
    return numbers.index(index)


def _have(numbers: Sequence[int]) -> str:
    """Return which places are there, in a few words."""
    if not numbers:
        return "no dialogue"
    dialogues = count(len(numbers), "dialogue")
    if numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{dialogues}, {numbers[0]} to {numbers[-1]}"
    shown = ", ".join(map(str, numbers[:_SHOWN]))
    return f"{dialogues} of the data: {shown}" + (", ..." if len(numbers) > _SHOWN else "")

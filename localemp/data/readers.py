"""Readers of dialogues by name; each reads named sources or one kind of file.

A new reader is one file with a subclass of `Reader`, and one call of `register_reader`.
"""

from localemp.data.empathetic_dialogues import EmpatheticDialogues
from localemp.data.esconv import ESConv
from localemp.data.jsonl import JsonLines
from localemp.data.messages import Messages
from localemp.data.reader import Reader
from localemp.errors import OptionError

__all__ = ["READERS", "Reader", "register_reader"]

READERS: dict[str, type[Reader]] = {}


def register_reader(name: str, reader: type[Reader]) -> None:
    """Register a reader of sources for `--data` and `--pool`. It takes precedence over readers registered before.

    Args:
        name: Name for error messages.
        reader: The class.

    Raises:
        OptionError: The name is taken.
    """
    if name in READERS:
        raise OptionError(f"the reader {name!r} already exists")
    READERS[name] = reader


register_reader("empathetic-dialogues", EmpatheticDialogues)
register_reader("json-lines", JsonLines)
register_reader("esconv", ESConv)
register_reader("messages", Messages)

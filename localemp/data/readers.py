"""Readers of dialogues by name; each reads named sources or one kind of file.

A new reader is one file with a subclass of `Reader`, and one call of `register_reader`.
"""

from collections.abc import Mapping

from localemp.data.empathetic_dialogues import EmpatheticDialogues
from localemp.data.esconv import ESConv
from localemp.data.jsonl import JsonLines
from localemp.data.messages import Messages
from localemp.data.reader import Reader
from localemp.errors import OptionError
from localemp.utils.plugins import check_made_from, described, load_plugins

__all__ = ["READERS", "Reader", "readers", "register_reader"]

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


def readers() -> Mapping[str, type[Reader]]:
    """Return the readers by name, those of plug-ins included; later ones take precedence."""
    load_plugins("data reader", _add_plugin)
    return READERS


def _add_plugin(name: str, value: object) -> None:
    """Register a reader of a plug-in; the sources and endings of others are not its."""
    if not (isinstance(value, type) and issubclass(value, Reader)):
        raise OptionError(f"it is {described(value)}; a data reader is a subclass of Reader")
    check_made_from(value, "source")
    if not all(isinstance(each, tuple) for each in (value.names, value.endings)):
        raise OptionError(f"names and endings of {value.__name__} are tuples of texts")
    for other, reader in READERS.items():
        shared = {*value.names, *value.endings} & {*reader.names, *reader.endings}
        if shared:
            raise OptionError(f"the reader {other} has {sorted(shared)[0]!r} already")
    register_reader(name, value)


register_reader("empathetic-dialogues", EmpatheticDialogues)
register_reader("json-lines", JsonLines)
register_reader("esconv", ESConv)
register_reader("messages", Messages)

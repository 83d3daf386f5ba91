"""What the columns of a table of the user's are: `--columns context=history,response=reply`. `tables.py` reads it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from localemp.errors import OptionError, UnknownNameError

ROLES: Mapping[str, str] = {
    "context": "what the person says: one text, or all turns so far",
    "separator": "the text between two turns of a context",
    "response": "the human reply",
    "emotion": "the person's emotion",
    "situation": "the situation",
    "id": "a name of the row",
    "conversation": "the conversation that the row is from",
}
"""What columns can be named as, and what each holds. The separator is no column but a text."""

_EXAMPLE = "use the form context=history,response=reply"
# How other data sets call their columns.
_USUAL: Mapping[str, tuple[str, ...]] = {
    "context": ("context", "history", "dialogue", "dialog", "utterance", "input", "text", "prompt", "post", "question"),
    "response": ("response", "reply", "output", "target", "answer", "reference", "completion"),
    "emotion": ("emotion", "emotion_label", "label", "sentiment"),
    "situation": ("situation",),
    "id": ("id", "dialogue_id"),
}


@dataclass(frozen=True, slots=True)
class Table:
    """A data set of the user's, and what its columns are.

    Attributes:
        path: The file or folder.
        columns: Pairs of a role (`ROLES`) and the name of its column, in the order of roles.
    """

    path: str
    columns: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return self.path


def parse_columns(text: str) -> dict[str, str]:
    r"""Read the value of `--columns`: "context=history,response=reply,separator=\n".

    Raises:
        OptionError: It has another form.
        UnknownNameError: There is no such role.
    """
    found: dict[str, str] = {}
    for piece in text.split(","):
        role, equals, name = piece.partition("=")
        role = role.strip()
        if not equals:
            raise OptionError(f"--columns: {piece.strip()!r} is not NAME=COLUMN", _EXAMPLE)
        if role in found:
            raise OptionError(f"--columns: {role} is given twice", "give each once")
        found[role] = name if role == "separator" else name.strip()
    return check_columns(found)


def check_columns(columns: Mapping[str, str]) -> dict[str, str]:
    """Return the columns in the order of `ROLES`; empty if there are none.

    Raises:
        OptionError: There is no context, or a name is empty.
        UnknownNameError: There is no such role.
    """
    for role, name in columns.items():
        if role not in ROLES:
            raise UnknownNameError("name in --columns", role, ROLES, _EXAMPLE.capitalize())
        if not isinstance(name, str) or not name:
            raise OptionError(f"--columns: {role} names no column", _EXAMPLE)
    if columns and "context" not in columns:
        raise OptionError("--columns: which column is the context?", _EXAMPLE)
    return {role: columns[role] for role in ROLES if role in columns}


def source_of(data: str, columns: Mapping[str, str]) -> "str | Table":
    """Return the source of dialogues of `--data` and `--columns`, as `load_dialogues` takes it."""
    return Table(data, tuple(columns.items())) if columns else data


def example_of(names: Sequence[str]) -> str:
    """Return the option that would read a file with these columns, guessed from their names."""
    plain = {name.strip().casefold(): name.strip() for name in reversed(names)}
    firsts = {role: next((plain[each] for each in usual if each in plain), "") for role, usual in _USUAL.items()}
    guessed = {role: name for role, name in firsts.items() if name}
    if "context" not in guessed:
        left = [name.strip() for name in names if name.strip() and name.strip() not in guessed.values()]
        guessed = {"context": left[0] if left else "COLUMN", **guessed}
    told = ",".join(f"{role}={guessed[role]}" for role in ROLES if role in guessed)
    return f"--columns {told}" if told.isascii() and " " not in told else f"--columns '{told}'"

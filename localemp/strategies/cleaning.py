"""Removes from a reply a leading "Listener:", and an invented next turn of the speaker with all that follows.

If that is wanted, a truncated reply also ends with its last whole sentence (`trimming.py`).
"""

from localemp.engines.base import TRUNCATED
from localemp.strategies.trimming import Trimmer

_LEADING = ("listener", "assistant")
_NEXT = ("speaker", "user")


def clean_reply(text: str, reason: str | None = None, *, trims: bool = False) -> str:
    """Return a whole reply, cleaned.

    Args:
        text: The reply, without thinking.
        reason: Its finish reason.
        trims: Whether a truncated reply is cut at its last whole sentence.
    """
    cleaner = Cleaner(trims=trims)
    return cleaner.feed(text) + cleaner.end(reason)


class Cleaner:
    r"""Cleans a streamed reply in linear time.

    A possible beginning of a role ("Listen", "\nSpea") is held back until the next piece decides; with `trims` also
    what follows the last whole sentence.

    Args:
        trims: Whether a truncated reply is cut at its last whole sentence.
    """

    def __init__(self, *, trims: bool = False) -> None:
        self._trimmer = Trimmer() if trims else None
        self._parts: list[str] = []
        # A possible role; None in the middle of a line.
        self._role: _Role | None = _Role(_LEADING)
        # White space, which is passed on only with following text.
        self._space: list[str] = []
        self._begun = self._over = False

    @property
    def raw(self) -> str:
        """The whole reply before cleaning."""
        return "".join(self._parts)

    def feed(self, text: str) -> str:
        """Take a piece of text, and return what is certain now."""
        self._parts.append(text)
        given: list[str] = []
        self._take(text, given)
        cleaned = "".join(given)
        return cleaned if self._trimmer is None else self._trimmer.feed(cleaned)

    def end(self, reason: str | None = None) -> str:
        """Return what was held back, at the end of the reply; the finish reason says whether it was truncated."""
        given: list[str] = []
        if self._role is not None and not self._over:
            self._pass_on("".join(self._role.held), given)
        cleaned = "".join(given)
        if self._trimmer is None:
            return cleaned
        # Before an invented next turn the reply is whole, whatever ended that.
        return self._trimmer.feed(cleaned) + self._trimmer.end(truncated=reason == TRUNCATED and not self._over)

    def _take(self, text: str, given: list[str]) -> None:
        at = 0
        while at < len(text) and not self._over:
            if self._role is None:
                end = text.find("\n", at) + 1 or len(text)
                self._pass_on(text[at:end], given)
                at = end
            else:
                self._decide(self._role, text[at], given)
                at += 1

    def _decide(self, role: "_Role", character: str, given: list[str]) -> None:
        """Process one more character of a possible role."""
        if character.isspace() and not role.held and not self._begun:
            return
        if (found := role.take(character)) is None:
            return
        if role.names is _LEADING:
            self._role = _Role(_NEXT)
            if not found:  # it may still be the speaker's turn
                self._take("".join(role.held), given)
        elif found:
            self._over = True
        else:
            self._pass_on("".join(role.held), given)

    def _pass_on(self, text: str, given: list[str]) -> None:
        """Pass on text that is not a role: a line up to its end, or a part of one."""
        self._role = _Role(_NEXT) if text.endswith("\n") else None
        clean = text.rstrip()
        if clean:
            given += [*self._space, clean]
            self._begun, self._space = True, []
        self._space.append(text[len(clean) :])


class _Role:
    """Decides, character by character, whether a text is the name of a role and a colon.

    White space may surround the name; the name of a next turn is on the same line as its colon.

    Attributes:
        names: Names of the roles.
        held: The characters so far.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.held: list[str] = []
        self._name, self._whole = "", False

    def take(self, character: str) -> bool | None:
        """Take a character; return whether the text is a role, or None if that is still open."""
        self.held.append(character)
        if character == ":":
            return self._name in self.names
        if character in " \t" or (character.isspace() and self.names is _LEADING):
            self._whole = self._whole or bool(self._name)
            return None
        self._name += character.lower()
        return None if not self._whole and any(name.startswith(self._name) for name in self.names) else False

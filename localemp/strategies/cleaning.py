"""Takes from a reply what is none: a leading "Listener:", and a made-up next turn of the speaker and what follows."""

import re
from collections.abc import Sequence

_LEADING_ROLE = re.compile(r"\A\s*(?:listener|assistant)\s*:\s*", re.IGNORECASE)
_NEXT_TURN = re.compile(r"[ \t]*(?:speaker|user)[ \t]*:", re.IGNORECASE)
_LEADING = ("listener", "assistant")
_NEXT = ("speaker", "user")


def clean_reply(text: str) -> str:
    """A whole reply, cleaned."""
    cleaner = Cleaner()
    return cleaner.feed(text) + cleaner.end()


class Cleaner:
    r"""Cleans a reply that comes bit by bit.

    What may be the beginning of a role ("Listen", "\nSpea") is held back until the next bit decides.
    """

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._pending = self._space = ""
        self._begun = self._over = False
        self._new_line = True

    @property
    def raw(self) -> str:
        """All of it, as the model sent it."""
        return "".join(self._parts)

    def feed(self, text: str) -> str:
        """What can be sent on now."""
        self._parts.append(text)
        self._pending += text
        return self._next(last=False)

    def end(self) -> str:
        """What was held back, when nothing more comes."""
        return self._next(last=True)

    def _next(self, last: bool) -> str:
        if not self._begun:
            if not last and _may_become(_LEADING, self._pending):
                return ""
            self._pending, self._begun = _LEADING_ROLE.sub("", self._pending, count=1).lstrip(), True
        taken = []
        while self._pending and not self._over:
            line, newline, rest = self._pending.partition("\n")
            if self._new_line:
                if _NEXT_TURN.match(line):
                    self._over = True
                    break
                if not newline and not last and _may_become(_NEXT, line):
                    break
            taken.append(line + newline)
            self._pending, self._new_line = rest, bool(newline)
        # White space goes on only with what follows it.
        found = self._space + "".join(taken)
        clean = found.rstrip()
        self._space = found[len(clean) :]
        return clean


def _may_become(roles: Sequence[str], text: str) -> bool:
    """Whether more text may make one of these of it; white space around is no matter."""
    said = text.strip().lower()
    return any(role.startswith(said.removesuffix(":").rstrip()) for role in roles)

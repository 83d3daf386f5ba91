"""Separates a model's thinking from its answer when the server leaves both in the text.

Models write it between marks ("<think>", "[THINK]") or in channels (gpt-oss's harmony format). The opening mark may be
missing because the chat template ends with it; the closing one because the token limit was reached.
"""

import re
from typing import NamedTuple

# Opening and closing marks that models are known to write.
_MARKS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
)
_OPENING = {opening.lower(): closing.lower() for opening, closing in _MARKS}
_CLOSING = frozenset(_OPENING.values())
_CHANNEL, _MESSAGE, _START = "<|channel|>", "<|message|>", "<|start|>"
_ENDS = ("<|end|>", "<|return|>", "<|call|>")
_THOUGHT_CHANNELS = ("analysis", "commentary")
# Some servers remove harmony's marks and leave its words.
_BARE_HARMONY, _BARE_FINAL = "analysis", "assistantfinal"

OPENING_MARKS = (*(opening for opening, _ in _MARKS), _CHANNEL)
"""All marks that begin thinking, as models write them."""

MARKS = frozenset((*_OPENING, *_CLOSING, _CHANNEL))
"""All marks that begin or end thinking, in lower case."""

_ALL = (*_OPENING, *_CLOSING, _CHANNEL, _MESSAGE, _START, *_ENDS)
_MARK = re.compile("|".join(map(re.escape, sorted(_ALL, key=len, reverse=True))), re.IGNORECASE)
_LONGEST = max(map(len, _ALL))
_FIRST = frozenset(mark[0] for mark in _ALL)


class Split(NamedTuple):
    """A text, split in two.

    Attributes:
        text: The answer.
        thinking: The thinking, without marks.
    """

    text: str
    thinking: str


def split_thinking(text: str, opened: bool = False) -> Split:
    """Separate thinking from the answer.

    Args:
        text: The model's whole output.
        opened: Whether the prompt ended with an opening mark, so that the text begins with thinking.
    """
    if not opened and not any(first in text for first in _FIRST):
        return _split_bare_harmony(text)
    splitter = ThinkingSplitter(opened)
    splitter.feed(text)
    splitter.end()
    if not splitter.marked:
        return _split_bare_harmony(text)
    return Split(splitter.text, splitter.thinking)


def opens_thinking(prompt: str) -> bool:
    """Return whether a prompt ends with an opening mark."""
    return prompt.rstrip().lower().endswith(tuple(_OPENING))


class ThinkingSplitter:
    """Separates thinking in a streamed text.

    A possible beginning of a mark is held back until the next piece decides. A closing mark without an opening one
    means that everything before it was thinking, although the stream's reader has already seen it as the answer:
    `unopened` reports this, and the next stream of the same model should start with `opened`.

    Args:
        opened: Whether the text begins with thinking.

    Attributes:
        marked: Whether any mark has come.
        closed: Whether thinking was closed.
        unopened: Whether a closing mark came without an opening one.
    """

    def __init__(self, opened: bool = False) -> None:
        self.marked = opened
        self.closed = self.unopened = False
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._pending = ""
        self._thinking = opened
        self._closing = ""  # the mark that ends the thinking; "" for any
        self._channel: list[str] | None = None  # its name, while it is being read
        self._begun = False

    @property
    def text(self) -> str:
        """The answer so far."""
        text = "".join(self._texts)
        return text.lstrip() if self.marked else text

    @property
    def thinking(self) -> str:
        """The thinking so far."""
        return "".join(self._thoughts).strip()

    def feed(self, text: str) -> Split:
        """Take a piece of text; return the answer and thinking that are certain now."""
        return self._next(text, last=False)

    def end(self) -> Split:
        """Return what was held back, at the end of the text."""
        return self._next("", last=True)

    def _next(self, new: str, last: bool) -> Split:
        said, thought = [], []

        def put(text: str) -> None:
            if self._channel is not None:
                self._channel.append(text)
            elif self._thinking:
                thought.append(text)
                self._thoughts.append(text)
            else:
                # White space between thinking and answer belongs to neither.
                text = text if self._begun or not self.marked else text.lstrip()
                self._begun = self._begun or bool(text)
                said.append(text)
                self._texts.append(text)

        whole, start = self._pending + new, 0
        for found in _MARK.finditer(whole):
            put(whole[start : found.start()])
            start = found.end()
            if not self._apply(found[0].lower()):
                put(found[0])
        keep = 0 if last else _held_back(whole, start)
        put(whole[start : len(whole) - keep])
        self._pending = whole[len(whole) - keep :]
        return Split("".join(said), "".join(thought))

    def _apply(self, mark: str) -> bool:
        """Apply a mark; return False if it is only text."""
        if self._thinking and self._closing and mark not in (self._closing, *_ENDS, _CHANNEL, _START):
            return False
        if mark in _OPENING:
            self._thinking, self._closing = True, _OPENING[mark]
            self._break()
        elif mark in _CLOSING:
            if not self._thinking and self.marked:
                return False  # thinking can be opened only once without a mark
            self._close()
        elif mark == _CHANNEL:
            self._channel = []
        elif mark == _MESSAGE:
            if self._channel is None:
                return self.marked
            self._thinking, self._closing = "".join(self._channel).strip().lower().startswith(_THOUGHT_CHANNELS), ""
            self._channel = None
            self._break()
        elif mark == _START:
            self._channel = []  # the name of a role, up to the next mark
        elif self._channel is None and not self.marked:
            return False
        self.marked = True
        return True

    def _close(self) -> None:
        if not self._thinking:
            self.unopened = True
            self._thoughts += self._texts
            self._texts.clear()
        self._thinking, self._closing, self._begun, self.closed = False, "", False, True

    def _break(self) -> None:
        """Separate two pieces of thinking."""
        if self._thoughts:
            self._thoughts.append("\n")


def _held_back(text: str, start: int) -> int:
    """Return how many characters at the end may be the beginning of a mark."""
    tail = text[max(start, len(text) - _LONGEST + 1) :].lower()
    for at, character in enumerate(tail):
        if character in _FIRST and any(mark.startswith(tail[at:]) for mark in _ALL):
            return len(tail) - at
    return 0


def _split_bare_harmony(text: str) -> Split:
    if not text.lstrip().startswith(_BARE_HARMONY):
        return Split(text, "")
    thought, final, answer = text.partition(_BARE_FINAL)
    if not final:
        return Split(text, "")
    return Split(answer.strip(), thought.lstrip().removeprefix(_BARE_HARMONY).strip())

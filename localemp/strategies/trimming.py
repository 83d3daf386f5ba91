"""Cuts a reply that was truncated at its last whole sentence, as it streams, in linear time."""

import re

# A full stop in Japanese and Chinese needs no space behind it.
_CJK_ENDS = "。！？｡"
_ENDS = ".!?…‼⁇⁈⁉؟۔।॥։።။។" + _CJK_ENDS
# What may stand between the end of a sentence and the space behind it.
_CLOSING = "\"'”’»」』)]）】》*_`~"
# Quotation marks, and what closes each: a sentence inside an open quotation is not whole.
_QUOTES = {'"': '"', "“": "”", "„": "“”", "«": "»", "「": "」", "『": "』"}

# With these, a full stop is part of the word. Left out: those that are also words ("no.", "ok.", "sat.").
_ABBREVIATIONS = frozenset([
    "dr", "mr", "mrs", "ms", "mx", "messrs", "jr", "sr", "st", "prof", "gen", "col", "lt", "maj", "sgt", "capt", "rev",
    "gov", "sen", "vs", "etc", "cf", "approx", "dept", "est", "vol", "pp", "inc", "ltd", "corp", "ave", "blvd", "ph.d",
    "jan", "feb", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec", "tue", "tues", "wed", "thu", "thurs",
])  # fmt: skip
_BETWEEN_WORDS = re.compile(r"[^\w.]")
_INITIALS = re.compile(r"[^\W\d_](?:\.[^\W\d_])*")  # "J", "e.g", "p.m", "U.S"
_ITEM = re.compile(r"(?:\n[ \t*_>#-]{0,8}|[:;.!?][ \t]{1,8})\d{1,3}$")  # "1" of a list
_BEFORE = 24  # characters before a full stop that decide what it is

_EMOJI = "\u200d\ufe0f\u2600-\u27bf\u2b05-\u2b55\U0001f000-\U0001faff\U000e0020-\U000e007f"
_IS_EMOJI = re.compile(f"[{_EMOJI}]").fullmatch
_IS_CJK = re.compile("[\u3040-\u9fff\U00020000-\U0003ffff]").fullmatch
_SPECIAL = re.compile(f"[\n{_ENDS}{_EMOJI}{''.join(_QUOTES)}{''.join(_QUOTES.values())}]")


def whole_sentences(text: str) -> str:
    """Return a truncated text up to the end of its last whole sentence; all of it if it has none."""
    trimmer = Trimmer()
    return trimmer.feed(text) + trimmer.end(truncated=True)


def ends_whole(text: str) -> bool:
    """Return whether a text ends with a whole sentence, if another one followed."""
    trimmer = Trimmer()
    trimmer.feed(f"{text} A")
    return text != "" and len(text) in trimmer.ends


class Trimmer:
    """Holds a streamed reply back behind its last whole sentence, until it is known whether it was truncated.

    A sentence ends with a full stop, a question or exclamation mark, an ellipsis or an emoji, and with what closes a
    quotation, a bracket or an emphasis behind it. It does not end within a quotation, after an abbreviation ("Dr.",
    "e.g."), the number of a list's item, or an ellipsis that goes on in lower case.
    """

    def __init__(self) -> None:
        self._held: list[str] = []
        self._passed = self._at = 0  # characters
        self._end = self._end_in_quotation = 0  # of the last sentence, in characters
        self._candidate: _Candidate | None = None
        self._before = "\n"
        self._quotation = ""  # the mark that opened it

    def feed(self, text: str) -> str:
        """Take a piece of text, and return the sentences that are whole now."""
        self._held.append(text)
        at = 0
        while at < len(text):
            if self._candidate is None and (skipped := _before_special(text, at)) > at:
                self._before = (self._before + text[max(at, skipped - _BEFORE) : skipped])[-_BEFORE:]
                self._at += skipped - at
                at = skipped
                continue
            self._take(text[at])
            self._at += 1
            at += 1
        return self._up_to(self._end)

    def end(self, *, truncated: bool) -> str:
        """Return the rest: all that was held back, or of a truncated reply only what belongs to whole sentences."""
        if not truncated:
            return "".join(self._held)
        if self._candidate is not None and self._candidate.ends_text():
            self._keep(self._candidate)
        if self._end:
            return self._up_to(self._end)
        # Without an end outside of quotations, one inside will do: some models quote the whole reply.
        return self._up_to(self._end_in_quotation) or "".join(self._held)

    @property
    def ends(self) -> tuple[int, int]:
        """Where the last sentences end, outside and inside of quotations, in characters; 0 without one."""
        return self._end, self._end_in_quotation

    def _up_to(self, end: int) -> str:
        if end <= self._passed:
            return ""
        held = "".join(self._held)
        cut = end - self._passed
        self._held, self._passed = [held[cut:]], end
        return held[:cut]

    def _take(self, character: str) -> None:
        """Process one more character."""
        candidate = self._candidate
        if candidate is not None:
            is_end = candidate.take(character, closes=self._closes(character))
            if is_end is None:
                self._turn(character)
                return
            if is_end:
                self._keep(candidate)
            self._candidate = None
        if character in _ENDS or _IS_EMOJI(character):
            self._candidate = _Candidate(character, self._at, self._before)
        self._turn(character)

    def _closes(self, character: str) -> bool:
        """Whether a character right behind a sentence's end belongs to it."""
        return character in _CLOSING or character in _QUOTES.get(self._quotation, "")

    def _turn(self, character: str) -> None:
        """Note what stands before the next character, and the quotation that it is in."""
        if self._quotation and (character in _QUOTES[self._quotation] or character == "\n"):
            self._quotation = ""
        elif not self._quotation and character in _QUOTES and not (character == '"' and self._before[-1].isdigit()):
            self._quotation = character
        self._before = (self._before + character)[-_BEFORE:]
        if self._candidate is not None:
            self._candidate.in_quotation = bool(self._quotation)

    def _keep(self, candidate: "_Candidate") -> None:
        """Take the end of a sentence for the last one so far."""
        if candidate.in_quotation:
            self._end_in_quotation = candidate.end
        else:
            self._end = candidate.end


class _Candidate:
    """What may be the end of a sentence; the character behind it decides.

    Args:
        mark: The mark that begins it.
        at: The number of characters before it.
        before: The last of them.

    Attributes:
        end: The number of characters up to its end.
        in_quotation: Whether a quotation is still open there.
    """

    def __init__(self, mark: str, at: int, before: str) -> None:
        self.end = at + 1
        self.in_quotation = False
        self._before, self._at = before, at
        self._marks, self._closed, self._spaced = mark, False, False
        self._emoji = _IS_EMOJI(mark) is not None

    def take(self, character: str, *, closes: bool) -> bool | None:
        """Take the next character; return whether a sentence ends, or None if that is still open."""
        if _IS_EMOJI(character):
            self.end, self._emoji, self._spaced = self._seen(), True, False
            return None
        if character.isspace():
            self._seen()
            self._spaced = True
            return None
        if not self._spaced and (character in _ENDS or closes):
            self.end = self._seen()
            self._closed = self._closed or closes
            if not closes and len(self._marks) < 4:
                self._marks += character
            return None
        return self._is_end(character)

    def ends_text(self) -> bool:
        """Whether a sentence ends if nothing follows."""
        cut_number = self._marks == "." and self._before[-1].isdigit()  # "It costs 3." may go on
        return self._emoji or self._closed or not (cut_number or self._is_part_of_word())

    def _seen(self) -> int:
        self._at += 1
        return self._at + 1

    def _is_end(self, character: str) -> bool:
        if self._marks[0] in _CJK_ENDS or (self._emoji and self._marks[0] in _ENDS):
            return True
        if not self._spaced:
            return self._marks[0] in "!?" and _IS_CJK(character) is not None
        is_ellipsis = self._marks[0] == "…" or self._marks.startswith("..")
        if character.islower() and (is_ellipsis or self._closed or self._emoji):
            return False
        return not self._is_part_of_word()

    def _is_part_of_word(self) -> bool:
        """Whether the mark is the full stop of an abbreviation or of a list's number."""
        if self._marks != ".":
            return False
        if _ITEM.search(self._before):
            return True
        word = _BETWEEN_WORDS.split(self._before)[-1].strip("._")
        return word != "I" and (word.lower() in _ABBREVIATIONS or _INITIALS.fullmatch(word) is not None)


def _before_special(text: str, at: int) -> int:
    """Return where the next character is that is more than a part of a word; the end if there is none."""
    found = _SPECIAL.search(text, at)
    return len(text) if found is None else found.start()

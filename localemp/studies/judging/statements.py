"""Find the statements of an answer in a judge's plain text, and the words that cast doubt on them.

Three ways of stating one: a line that is nothing else ("A", "4/5", "4 - good"), an answer that is marked as one
("[[A]]", "Rating: 4"), and a sentence that says nothing else ("I choose B.", "Reply A is better than reply B.").
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from localemp.studies.judging.prose import FLAGS

Choice = Literal["A", "B", "tie"]
Value = Choice | int
Read = Callable[[re.Match[str]], Value | None]
"""The value of a match; None if it is not an answer, such as a number off the scale."""


def _any(words: str) -> str:
    return f"(?:{'|'.join(words.split())})"


_AB = r"(?-i:[AB])\b"  # within a text "a" is an article
_NOUN = r"(?:the )?(?:reply|response|answer|option|candidate) "
_OPEN, _CLOSE = r"[(\[{]{0,2}", r"[)\]}]{0,2}"
_CHOICE = rf"(?:{_OPEN}(?:an? )?(?P<tie>tie|draw|equal)\b|(?P<noun>{_NOUN})?{_OPEN}(?P<letter>{_AB})){_CLOSE}"
_UNIT = r"(?: ?(?:stars?|points?)\b)?"
_SCALE = r"on (?:an?|the) (?:scale )?(?:(?:of|from) )?-?\d{1,9}(?: to |-| - )"
_OF = rf"(?: ?\(?(?:/|(?:out )?of\b|{_SCALE}) ?(?P<of>\d{{1,9}}(?:\.0)?)(?![\w%])(?: scale)?\)?)?"
_RATING = rf"{_OPEN}(?P<number>-?\d{{1,9}}(?:[.,]\d{{1,9}})?)(?![\w%]){_UNIT}{_OF}{_UNIT}{_CLOSE}"

# What may follow an answer: the end of the sentence, a reason, or the next key of a JSON object that is cut short.
_UNSURE = r"(?:or|no|not|but|maybe|perhaps|possibly|could|almost|nearly|was|if|now)\b"
_END = re.compile(
    rf"(?: (?:over|to|than) (?:{_NOUN})?{_AB})?(?: (?:for|in)(?: (?!{_UNSURE})(?-i:[A-Z]?[a-z]{{2,20}})){{1,2}})?"
    rf"(?=$|[;!<}})\]]|\.(?!\d)|,? (?:because|since|as)\b| - (?!{_UNSURE})(?:[a-z]{{2}}|(?-i:a) )"
    rf"|,? \((?!{_UNSURE})[^()\n\d]{{2,100}}(?:\)|$)|, ?[}}\]]|, ?\w{{1,30}}:)",
    FLAGS,
)
_REASON = re.compile(r",? (?:because|since)\b", FLAGS)
_IS = (
    r"(?: ?[:=]| is:?| (?:should|must) be| goes to| is for| [-=]>| -(?= ))\s?"
    r"(?:(?:clearly|definitely|therefore|thus|still|(?-i:an?)) )?"
)
_ABOUT = r"(?: ?\([^()\n]{0,40}\))?(?: (?:for|of|on)(?: \w{1,20}){1,3}?)?"
_DENIED = re.compile(
    rf"(?:\b{_any('not never no cannot if whether unless doubt hardly close near almost short shy')}\b|n't\b)"
    r"[^,.;:!?\n]*\Z",
    FLAGS,
)

_SENTENCE = r"(?:^|(?<=[.!?] ))"
# Words that may stand before an answer in a sentence that says nothing else. Some of them make it an answer, some none.
_DECIDING = (
    r"(?:say|call|go|going|choose|chose|pick|prefer|select|take|vote|rate|give|score|assign|award|deserves?|gets?|so|thus"
    r"|hence|therefore|overall|conclusion|summary|final|finally|clearly|definitely|(?-i:an?))"
)
_DECISIVE = re.compile(rf"\b{_DECIDING}\b", FLAGS)
_FILLING = (
    r"(?:i|i'd|i'll|i'm|my|it|it's|(?:this|the)(?: reply| response)?|that|then|ok|okay|well|yes|with|for|rating|is|be"
    r"|am|to|would|will|should|must|have|let's|make|as|of|one|in|fact|rather|instead|sorry|oops|hmm|still|now|better|think"
    r"|believe|only|just|more|actually)"
)
_HEDGING = _any("or maybe perhaps probably possibly might could almost nearly about around but if however fair")
_LAST = (
    r"(?:,? (?:after all|instead|rather|then|now|actually|i think|i guess|it is|(?:is|seems) (?:better|fairer|right)))?"
)

_OPENING = (
    r"(?:(?:overall|in (?:summary|conclusion|my (?:opinion|view))|to (?:conclude|me)|all in all|on balance"
    r"|on the whole|therefore|thus|so|hence|clearly|finally|yes|i (?:think|believe|find|would say)(?: that)?|i'd say"
    r"|(?:based on|in terms of|considering|regarding)(?: (?!but|not)\w{1,20}){1,5}),? ){0,3}"
)
_ALIKE = r"(?:tied|the same|equal|equally (?:good|bad|strong|weak|well|empathetic|fitting))"
_BOTH = (
    r"(?:(?:both|they|these|(?:both|the|the two) (?:replies|responses)|(?:reply )?(?-i:A) and (?:reply )?(?-i:B))"
    rf" (?:are|seem) (?:about |roughly )?{_ALIKE}|neither(?: one| reply| response)? is (?:clearly )?better)"
)
_MUCH = _any("much slightly clearly far somewhat significantly considerably definitely the")
_BEST = r"(?:better|best|preferable|superior|winner)(?: (?:one|reply|response|choice))?"
_COMPARED = re.compile(
    rf"{_SENTENCE}{_OPENING}"
    rf"(?:{_CHOICE} (?:is (?:{_MUCH} ){{0,2}}{_BEST}|wins)(?: than (?:{_NOUN})?{_AB})?|{_BOTH})"
    r"(?:,? (?:because|since|as)\b(?P<reason>[^.!?\n]*))?(?=[.!]|$)",
    FLAGS,
)
_TURN = re.compile(rf"\b{_any('but however although though yet while whereas unless if')}\b", FLAGS)
# Words that cast doubt on such a comparison.
_WEIGHED = re.compile(
    r"\b(?:but|however|unless|instead|actually|other hand|tie|draw|equal(?:ly)?)\b"
    rf"|\b{_AB} (?:is|was|seems|feels|would be) (?:\w{{1,20}}er|more|preferable)\b",
    FLAGS,
)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement of an answer in a text.

    Attributes:
        start, end: Of it in the text.
        value: None if it is not clear.
        compares: Whether it says which is better, or why, in no form: "Reply A is better.", "A - warmer".
    """

    start: int
    end: int
    value: Value | None
    compares: bool = False


class Form:
    """The patterns of one kind of answer.

    Args:
        key: Of the JSON object that judges are asked for.
        value: Pattern of an answer.
        lead: What it is called before a colon.
        held: Part of a sentence that speaks for a value.
        compared: Whether sentences that compare replies are answers.
    """

    def __init__(self, key: str, value: str, lead: str, held: str, compared: bool) -> None:
        self.key, self._compared = key, compared
        self._value = re.compile(value, FLAGS)
        self._whole = re.compile(rf"{value.replace('(?-i:', '(?:')}[.!]?", FLAGS)
        self._marked = re.compile(rf"(?:\[\[|\\boxed\{{|<{lead}> ?|\b(?P<lead>{lead}){_ABOUT}{_IS}){value}", FLAGS)
        self._said = re.compile(rf"{_SENTENCE}(?P<words>(?:(?:{_DECIDING}|{_FILLING}),? ){{1,8}}){value}", FLAGS)
        words = rf"(?P<words>(?:(?:{_DECIDING}|{_FILLING}|{_HEDGING}),? ){{0,8}})"
        ends = r"[.!?)]|$|,? (?:because|since)\b| - | \("
        self._clause = re.compile(rf"(?:^|[.!?;:,(>}}]| -| /| (?:but|or)(?= )) ?{words}{value}{_LAST}(?={ends})", FLAGS)
        self._held = re.compile(rf"\b{held}(?=[.!]|$)", FLAGS)

    def statements(self, text: str, read: Read) -> list[Statement]:
        """Return all statements of a plain text, in order."""
        if whole := self._whole.fullmatch(text):
            return [Statement(0, len(text), read(whole))]
        found = [*self._lines(text, read), *self._marks(text, read), *self._sentences(text, read)]
        return sorted(found, key=lambda each: each.start)

    def doubts(self, last: Statement, text: str, read: Read) -> bool:
        """Return whether the text after the last statement favours another value."""
        after = text[last.end :]
        if last.compares and _WEIGHED.search(after):
            return True
        others = [read(found) for found in self._held.finditer(after) if not _denied(after, found)]
        for found in self._clause.finditer(after):
            # "Reply A" above other lines is a heading; "1. It asks" and "(1)" are parts of lists.
            start, end = found.start("words"), found.end()
            is_heading = found.groupdict().get("noun") and after.startswith("\n", end)
            is_listed = after[start - 1 : start] in ("", "\n", "(") and after.startswith((". ", ")"), end)
            if found["words"] or not (is_heading or is_listed):
                others.append(read(found))
        return any(other not in (None, last.value) for other in others)

    def _lines(self, text: str, read: Read) -> Iterator[Statement]:
        """Find lines that contain only an answer; the first and the last may continue with a reason."""
        lines, start = text.split("\n"), 0
        for number, line in enumerate(lines):
            found = self._value.match(line)
            # "Reply A" above other lines is a heading, and "1." begins a list.
            if found and (not (parts := found.groupdict()).get("noun") or _REASON.match(line, found.end())):
                rest, is_outer = line[found.end() :], number in (0, len(lines) - 1)
                reasoned = is_outer and rest[:1] in (" ", ",") and _END.match(line, found.end())
                if not rest or reasoned or (rest == "." and parts.get("of")):
                    compares = self._compared and bool(rest)
                    yield Statement(start, start + found.end(), read(found), compares)
            start += len(line) + 1

    def _marks(self, text: str, read: Read) -> Iterator[Statement]:
        for found in self._marked.finditer(text):
            if found["lead"] is None or not _denied(text, found):
                end = _END.match(text, found.end())
                yield Statement(found.start(), end.end() if end else found.end(), read(found) if end else None)

    def _sentences(self, text: str, read: Read) -> Iterator[Statement]:
        for found in self._said.finditer(text):
            if _DECISIVE.search(found["words"]) and (end := _END.match(text, found.end())):
                yield Statement(found.start(), end.end(), read(found))
        for found in _COMPARED.finditer(text) if self._compared else ():
            # "A is better because ..., but B ..." is not a verdict.
            unsure = _TURN.search(found["reason"] or "")
            yield Statement(found.start(), found.end(), None if unsure else read(found), compares=True)


def _denied(text: str, found: re.Match[str]) -> bool:
    """Return whether the clause before a match negates it."""
    return _DENIED.search(text[max(0, found.start() - 80) : found.start()]) is not None


CHOICES = Form(
    "choice",
    _CHOICE,
    r"(?:choice|answer|verdict|winner|preference|decision|conclusion|judge?ment|pick|vote"
    r"|(?:better|best|preferred) (?:reply|response|one|option|answer))",
    rf"{_CHOICE} is (?:\w{{1,20}} )?{_BEST}",
    compared=True,
)
RATINGS = Form(
    "rating",
    _RATING,
    r"(?:rating|score|grade|verdict|answer|evaluation|judge?ment)",
    rf"(?:deserves?|merits?|(?:rate|give) (?:it|this)|is|be|get|to|at|say) (?:only |more |really )?(?:an? )?{_RATING}",
    compared=False,
)

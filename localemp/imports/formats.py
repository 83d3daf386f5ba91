"""The import formats by name. A new format is one entry in `FORMATS`; one made of blocks is data alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from localemp.errors import UnknownNameError
from localemp.imports.blocks import Blocks
from localemp.imports.items import Item
from localemp.imports.lines import is_log, is_paper, read_log, read_paper, read_plain
from localemp.imports.records import is_jsonl, is_lists, is_parlai, read_jsonl, read_lists, read_parlai


@dataclass(frozen=True, slots=True)
class Format:
    """A format of replies.

    Attributes:
        about: One line for `--help`.
        read: Reads the items from path and lines.
        fits: Rates from the first lines how likely a file has this format; 0 for no.
        default: The preferred hypotheses if a file has several, best first.
        caution: What a reader of the scores needs to know about this format.
    """

    about: str
    read: Callable[[Path, Sequence[str]], list[Item]]
    fits: Callable[[Sequence[str]], int]
    default: tuple[str, ...] = ()
    caution: str = ""


def format_of(name: str) -> Format:
    """Return a format by name.

    Raises:
        UnknownNameError: There is no such format.
    """
    if name not in FORMATS:
        raise UnknownNameError("format", name, FORMATS)
    return FORMATS[name]


def looks_like(lines: Sequence[str]) -> str | None:
    """Return the most likely format of a file; None if it could be anything."""
    surest = max(FORMATS, key=lambda name: FORMATS[name].fits(lines))
    return surest if FORMATS[surest].fits(lines) else None


def _blocks(about: str, blocks: Blocks, *default: str, caution: str = "") -> Format:
    return Format(about, blocks.read, blocks.fits, default, caution)


_MOEL = Blocks("Emotion:", "Context:", "ref:", ("trs:", "trs+multitask:", "MOE:", "MOE+oracle:"))
_MIME = Blocks(
    "emotion:",
    "Context:",
    "Ref:",
    ("Topk:", "Beam:", "Greedy:"),
    feeling="predicted_emotion:",
    ignored=("vader-score:",),
)
_EMPDG = Blocks("emotion:", "Context:", "Ref:", ("Pred:", "Greedy:"), ignored=("Emotion_context:", "Feedback:"))
_KEMP = Blocks("Emotion:", "Context:", "Ref:", ("Pred:",), ignored=("Concept:",))
_CEM = Blocks(
    "Emotion:",
    "Context:",
    "Ref:",
    ("Beam:", "Greedy:"),
    feeling="Pred Emotions:",
    optional=("Beam:",),
    ignored=("x_",),
)
_EMPHI = Blocks("Emotion:", "Context:", "Reference:", ("Generated:",))

FORMATS: dict[str, Format] = {
    "jsonl": Format("JSON lines with reply, and id, reference, emotion, feeling, turns as known", read_jsonl, is_jsonl),
    "lines": Format("one reply a line, in the order of the data", read_plain, lambda _: 0),
    "paper": Format("`12 #*#*# text` a reply, as the paper's released scripts write", read_paper, is_paper),
    "moel": _blocks("MoEL's generation_result.txt", _MOEL, "MOE"),
    "mime": _blocks("MIME's output.txt", _MIME, "Greedy"),
    "empdg": _blocks("EmpDG's predictions of one system", _EMPDG, "Pred", "Greedy"),
    "empdg-json": Format(
        "EmpDG's models_result.json, replies of several systems",
        read_lists,
        is_lists,
        ("empDG", "Know_EDG"),
        "models_result.json was made by stripping the characters of a prefix, so that some replies begin one or a few "
        "letters late; the file of the one system is exact",
    ),
    "kemp": _blocks("KEMP's output.txt", _KEMP, "Pred"),
    "cem": _blocks("CEM's results.txt, and what is built on CEM", _CEM, "Greedy"),
    "case": _blocks("CASE's results.txt (CEM's form)", _CEM, "Greedy"),
    "seek": _blocks("SEEK's results.txt (CEM's form)", _CEM, "Greedy"),
    "emphi": _blocks("EmpHi's output file", _EMPHI, "Generated"),
    "ec": Format("the log of EC's test (S-0, T-0, H-0)", read_log, is_log),
    "parlai": Format("ParlAI's saved world logs, such as BlenderBot's", read_parlai, is_parlai),
}

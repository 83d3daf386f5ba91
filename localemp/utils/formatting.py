"""Numbers as text: with their noun, as a share, in MB or GB; and values of settings."""

from collections.abc import Mapping, Sequence


def count(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun: "1 reply", "1,200 replies"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def share(part: int, number: int, one: str, many: str | None = None) -> str:
    """Return a part of a number with its noun: "5 of 20 replies", "0 of 1 reply"."""
    return f"{part:,} of {count(number, one, many)}"


def percent(part: int, number: int) -> str:
    """Return a part of a number in percent: "75 %"; "under 1 %" and "over 99 %" if it is neither none nor all."""
    value = 100 * part / number
    if 0 < value < 1:
        return "under 1 %"
    return "over 99 %" if 99 < value < 100 else f"{value:.0f} %"


def size(number: int) -> str:
    """Return a number of bytes as text: "35 MB", "1.2 GB"."""
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def known(number: float | None, decimals: int = 0) -> str:
    """Return a number as text; "unknown" for None."""
    return "unknown" if number is None else f"{number:.{decimals}f}"


def duration(seconds: float) -> str:
    """Return a time in words: "40 s", "3 min", "2 h 10 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def dollars(amount: float) -> str:
    """Return US dollars as text: with four decimals, less than a cent with six."""
    return f"{amount:.6f}" if 0 < amount < 0.01 else f"{amount:.4f}"


def of_which_thinking(tokens: int | None) -> str:
    """Return the end of a sentence about reply tokens; empty for a model that did not think."""
    if tokens is None:
        return ", of which thinking is unknown"
    return f", of which thinking {tokens:,}" if tokens else ""


def plain(value: object) -> str:
    """Return a value of settings as people write it: "yes", "a, b", "temperature 0.7, top_p 0.9"."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {plain(each)}" for name, each in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(plain(each) for each in value)
    return "" if value is None else str(value)

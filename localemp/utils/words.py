"""Words around numbers, for everything that a person reads."""


def count(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun: "1 reply", "1,200 replies"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def share(part: int, number: int, one: str, many: str | None = None) -> str:
    """A part of a number with its noun: "5 of 20 replies", "0 of 1 reply"."""
    return f"{part:,} of {count(number, one, many)}"


def size(number: int) -> str:
    """A number of bytes: "35 MB", "1.2 GB"."""
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def known(number: float | None, decimals: int = 0) -> str:
    """A number, or that nobody knows it."""
    return "unknown" if number is None else f"{number:.{decimals}f}"

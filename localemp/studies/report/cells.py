"""Results of a study as table cells: a number with its interval below."""

from dataclasses import replace

from localemp.metrics.significance import Interval
from localemp.reporting.tables import NOT_AVAILABLE, NOT_GIVEN, Cell, number
from localemp.studies.stats.correlation import Ceiling
from localemp.studies.stats.intervals import Estimate
from localemp.studies.stats.preferences import Preference, wilson
from localemp.studies.stats.rater_bias import RaterBias


def count(value: int, about: str = "") -> Cell:
    """Return a cell with a whole number."""
    return Cell(f"{value:,}", value, about)


def figure(value: float | None, decimals: int, reason: str) -> Cell:
    """Return a cell with a number without an interval, or the reason why it is missing."""
    return Cell(NOT_AVAILABLE, about=reason) if value is None else Cell(number(value, decimals), value)


def probability(value: float | None, reason: str) -> Cell:
    """Return a cell with a p-value, or the reason why it is missing."""
    found = figure(value, 3, reason)
    return Cell("<0.001", value) if value is not None and value < 0.001 else found


def estimate(found: Estimate, decimals: int = 2, sign: str = "", unit: str = "", times: float = 1) -> Cell:
    """Return a cell with a number and its interval, if any, or the reason why it is missing."""
    if found.value is None:
        return Cell(NOT_AVAILABLE, about=found.reason)
    shown = f"{found.value * times:{sign},.{decimals}f}{unit}"
    if found.interval is None:
        if not found.reason:
            return Cell(shown, found.value * times)
        return Cell(f"{shown}\n{NOT_AVAILABLE}", found.value * times, f"no interval: {found.reason}")
    interval = _scaled(found.interval, times)
    return Cell(f"{shown}\n{_shown(interval, decimals, sign)}", found.value * times, interval=interval)


def percent(found: Estimate) -> Cell:
    """Return a cell with a share in percent and its interval, if any."""
    return estimate(found, 1, unit=" %", times=100)


def share(part: int, whole: int) -> Cell:
    """Return a cell with a share in percent and Wilson's interval."""
    if not whole:
        return Cell(NOT_AVAILABLE, about="no answer that it could be counted in")
    return percent(Estimate(part / whole, wilson(part, whole)))


def mean_share(value: float | None) -> Cell:
    """Return a cell with a mean probability in percent, for judges whose probabilities are known."""
    return percent(Estimate(value, reason="" if value is not None else "its answers are written ones"))


def part_of(part: int, whole: int, what: str) -> Cell:
    """Return a cell with a share in percent above its counts, "141/300"; Wilson's interval is in the data only."""
    found = share(part, whole)
    return found if found.value is None else Cell(
        f"{found.value:.1f} %\n{part}/{whole}", found.value, f"{part} of {whole} {what}", interval=found.interval
    )  # fmt: skip


def outcome(found: Preference) -> Cell:
    """Return a cell with wins, losses and ties, and below the share of wins among wins and losses."""
    won = percent(found.share)
    return replace(won, text=f"{found.win}–{found.lose}–{found.tie}\n{won.text}")


def interval_in_percent(found: Estimate) -> Cell:
    """Return a cell with the interval of a share alone."""
    if found.interval is None:
        return Cell(NOT_AVAILABLE, about=found.reason)
    interval = _scaled(found.interval, 100)
    return Cell(_shown(interval, 1), interval=interval)


def span(low: int, high: int) -> Cell:
    """Return one number, or the lowest and the highest, as text."""
    return count(low) if low == high else Cell(f"{low}–{high}")


def ceiling(found: Ceiling) -> Cell:
    """Return a cell with the human ceiling: the mean over raters, with the lowest and highest."""
    if found.value is None or found.lowest is None or found.highest is None:
        return Cell(NOT_AVAILABLE, about="no two people have common answers that differ")
    ends = f"\n{found.lowest:.2f} to {found.highest:.2f}" if found.raters > 1 else ""
    return Cell(f"{found.value:.2f}{ends}", found.value, f"mean over raters: {found.raters}")


def ties(bias: RaterBias) -> Cell:
    """Return a cell with a rater's share of ties."""
    return percent(Estimate(bias.ties / bias.answers) if bias.answers else Estimate(None, reason="no answer"))


def checks(bias: RaterBias) -> Cell:
    """Return a cell with a rater's result on the attention checks."""
    if bias.checked is None:
        return Cell(NOT_GIVEN, about="answered none")
    return Cell(f"{bias.checked.missed} of {bias.checked.of}", bias.checked.missed)


def _shown(interval: Interval, decimals: int, sign: str = "") -> str:
    return f"[{', '.join(f'{end:{sign},.{decimals}f}' for end in interval)}]"


def _scaled(interval: Interval, times: float) -> Interval:
    return interval[0] * times, interval[1] * times

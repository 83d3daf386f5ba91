"""How long an answer is waited for: several times as long as others took, so that a hung request is given up early."""

from collections import deque

from localemp.engines.openai.rate_limits import Cost

_KNOWN = 20  # answers after which it is known how long one takes at most
_FAR = 5.0  # times the longest of them after which no answer is expected
_LEAST, _SLOWEST = 10.0, 20.0  # seconds that every request is given, and tokens a second on top
_LATE, _LATEST = 0.2, 50  # share of late answers among the latest attempts from which on the server is slow


class Patience:
    """What is known of how long a server takes for an answer."""

    def __init__(self) -> None:
        self._took: deque[float] = deque(maxlen=200)
        self._ended: deque[tuple[int, bool]] = deque(maxlen=200)  # number of the attempt, and whether it was late
        self._slow = False

    def answered(self, attempt: int, seconds: float) -> None:
        """Take in an answer.

        Args:
            attempt: The number of its attempt.
            seconds: How long it took.
        """
        self._took.append(seconds)
        self._end(attempt, late=False)

    def failed(self, attempt: int, *, late: bool) -> None:
        """Take in an attempt that failed, or that was given up as it was late."""
        self._end(attempt, late=late)

    def seconds(self, cost: Cost, most: float, lates: int) -> float:
        """Return the seconds after which an answer is no longer expected.

        Args:
            cost: What is asked for.
            most: The longest.
            lates: Attempts of the same request that were late; each doubles the time.
        """
        if len(self._took) < _KNOWN or self._slow:
            return most
        given = max(_LEAST + cost.completion / _SLOWEST, _FAR * max(self._took))
        return min(most, given * 2.0**lates)

    def _end(self, attempt: int, *, late: bool) -> None:
        """Note an attempt. Late ones are noted after others that were sent later, so that numbers tell the latest."""
        self._ended.append((attempt, late))
        if late or self._slow:
            latest = sorted(self._ended)[-_LATEST:]
            self._slow = sum(each for _, each in latest) > _LATE * len(latest)

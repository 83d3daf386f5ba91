"""What refusals tell of limits that no header names: a rate, lowered by many refusals, raised while there are few."""

import math

_ROUND = 32  # answers and refusals after which the rate is looked at, or as many as there are requests in flight
_MANY, _FEW = 0.35, 0.2  # shares of refusals in a round: not by chance, and by chance
_CUT, _MOST_CUT = 0.8, 0.5  # after many refusals, of the rate that was accepted; at least of the rate so far
_GROWTH = 1.25  # after a round with few
_SLOWEST = 1 / 60  # requests a second


class AcceptedRate:
    """The rate that a server accepts, as far as its refusals tell; unlimited until many requests are refused.

    Attributes:
        rate: Requests a second.
    """

    def __init__(self) -> None:
        self.rate = math.inf
        self._due = -math.inf
        self._since = 0.0
        self._sent = self._accepted = self._refused = 0

    def __bool__(self) -> bool:
        """Return whether the rate is limited."""
        return self.rate < math.inf

    def wait(self, now: float) -> float:
        """Return the seconds until a request may start."""
        return max(0.0, self._due - now)

    def start(self, now: float) -> None:
        """Count a request that is sent now."""
        if not self._sent:
            self._since = now
        self._sent += 1
        self._due = max(self._due, now) + 1 / self.rate

    def answered(self, started: float, in_flight: int) -> None:
        """Count an answer; arguments as for `refused`."""
        if started >= self._since:
            self._accepted += 1
            self._end_round(in_flight)

    def refused(self, started: float, in_flight: int) -> bool:
        """Count a refusal; return whether there are many.

        Args:
            started: When the request was sent; those from before this round do not count.
            in_flight: Requests in flight. Refusals come back before answers, so that the first of them tell nothing.
        """
        if started < self._since:
            return False
        self._refused += 1
        if self._refused >= _MANY * max(_ROUND, in_flight):
            return True
        self._end_round(in_flight)
        return False

    def slow_down(self, now: float) -> None:
        """Lower the rate to a part of what was accepted in this round, and begin the next one."""
        seconds = max(1.0, now - self._since)
        rate = min(self.rate, self._sent / seconds)
        self.rate = max(_SLOWEST, _MOST_CUT * rate, _CUT * min(rate, self._accepted / seconds))
        self.begin_round()

    def begin_round(self) -> None:
        """Forget what came so far, as the pace is another from now on."""
        self._sent = self._accepted = self._refused = 0
        self._since = math.inf  # until the next request is sent

    def _end_round(self, in_flight: int) -> None:
        if (number := self._accepted + self._refused) >= max(_ROUND, in_flight):
            share = self._refused / number
            self.rate *= _GROWTH if share < _FEW else 1 - share
            self.begin_round()

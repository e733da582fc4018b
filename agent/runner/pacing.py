"""How much may pass in a time: escalations by a token bucket, requests by their spacing. Pure."""

from dataclasses import dataclass


@dataclass(slots=True)
class TokenBucket:
    """At most `rate_per_s` on average, and a burst of one second's worth (at least one)."""

    rate_per_s: float | None = None
    tokens: float = 0.0
    at_s: float = 0.0

    def reset(self, rate_per_s: float | None, now_s: float) -> None:
        """Take another rate (None: no limit); the bucket is full again only if the rate changed."""
        if rate_per_s != self.rate_per_s:
            self.rate_per_s, self.at_s = rate_per_s, now_s
            self.tokens = self._burst()

    def take(self, wanted: int, now_s: float) -> int:
        """Return how many of the wanted ones may pass now."""
        if self.rate_per_s is None:
            return wanted
        earned = max(0.0, now_s - self.at_s) * self.rate_per_s
        self.tokens = min(self._burst(), self.tokens + earned)
        self.at_s = now_s
        granted = min(wanted, int(self.tokens))
        self.tokens -= granted
        return granted

    def _burst(self) -> float:
        if not self.rate_per_s:
            return 0.0
        return max(1.0, self.rate_per_s)


@dataclass(slots=True)
class Spacing:
    """Requests that start at least an interval apart; each one is told how long to wait."""

    next_s: float = 0.0

    def wait_s(self, interval_s: float, now_s: float, at_most_s: float) -> float | None:
        """Return the wait of the next request and book its turn; None: longer than `at_most_s`."""
        start_s = max(self.next_s, now_s)
        if start_s - now_s > at_most_s:
            return None
        self.next_s = start_s + interval_s
        return start_s - now_s

    def ease(self, interval_s: float, now_s: float, waiting: int) -> None:
        """Go by a shorter interval: the next one's turn is after those who wait already."""
        self.next_s = min(self.next_s, now_s + interval_s * (waiting + 1))

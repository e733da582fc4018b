"""Things that are done again and again by the one loop that decides."""


class Timer:
    """Due every `interval_s` of a monotonic clock, from the first look on; late ones are skipped.

    Args:
        interval_s: None: never due.
        now_s: when to begin.
    """

    def __init__(self, interval_s: float | None, now_s: float) -> None:
        self._interval_s = interval_s
        self.at_s = now_s if interval_s is not None else float("inf")

    def is_due(self, now_s: float) -> bool:
        """Whether it is time; if so, the next time is set."""
        if self._interval_s is None or now_s < self.at_s:
            return False
        self.at_s = max(self.at_s + self._interval_s, now_s)
        return True

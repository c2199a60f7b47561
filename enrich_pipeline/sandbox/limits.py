"""Rate limits: in no second, and in no minute, more than a provider allows; rolling windows."""

from collections import deque
from dataclasses import dataclass, field

from .config import RateLimit


@dataclass(slots=True)
class _Window:
    limit: float
    seconds: float
    taken: float = 0.0
    _admitted: deque[tuple[float, float]] = field(default_factory=deque)

    def forget(self, now: float) -> None:
        """What was admitted before the window does not count any more."""
        while self._admitted and self._admitted[0][0] <= now - self.seconds:
            self.taken -= self._admitted.popleft()[1]

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` fits; 0 if it does now."""
        missing = min(amount, self.limit) - (self.limit - self.taken)
        for admitted_at, tokens in self._admitted:
            if missing <= 0:
                break
            missing -= tokens
            if missing <= 0:
                return max(admitted_at + self.seconds - now, 0.001)
        return 0.0

    def take(self, amount: float, now: float) -> None:
        self.taken += amount
        self._admitted.append((now, amount))


class Limiter:
    """Admits requests of one provider; times are monotonic seconds."""

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self._second = self._window(limit.per_second, 1.0)
        self._minute = self._window(limit.per_minute, 60.0)
        self.refused = 0

    def admit(self, now: float, records: int) -> float:
        """0 and the tokens taken, or the seconds to wait and nothing taken."""
        amount = float(max(1, records)) if self.limit.per_record else 1.0
        windows = [w for w in (self._second, self._minute) if w is not None]
        for window in windows:
            window.forget(now)
        wait = max((window.wait(amount, now) for window in windows), default=0.0)
        if wait > 0:
            self.refused += 1
            return wait
        for window in windows:
            window.take(amount, now)
        return 0.0

    @property
    def minute_left(self) -> int | None:
        minute = self._minute
        return None if minute is None else max(0, int(minute.limit - minute.taken))

    @staticmethod
    def _window(limit: float | None, seconds: float) -> _Window | None:
        return None if limit is None else _Window(limit, seconds)

"""Rate limits: one bucket a second and one a minute per provider.

A bucket holds what its window allows and refills evenly, so that a caller who keeps exactly to the
allowed rate is never refused for a late or early packet.
"""

from dataclasses import dataclass

from .config import RateLimit


@dataclass(slots=True)
class _Bucket:
    size: float
    seconds: float
    tokens: float
    filled_at: float

    def refill(self, now: float) -> None:
        gained = (now - self.filled_at) * self.size / self.seconds
        self.tokens = min(self.size, self.tokens + gained)
        self.filled_at = now

    def wait(self, amount: float) -> float:
        """Seconds until `amount` fits; 0 if it does now."""
        missing = min(amount, self.size) - self.tokens
        return max(0.0, missing * self.seconds / self.size)


class Limiter:
    """Admits requests of one provider; times are monotonic seconds."""

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self._second = self._bucket(limit.per_second, 1.0)
        self._minute = self._bucket(limit.per_minute, 60.0)
        self.refused = 0

    def admit(self, now: float, records: int) -> float:
        """0 and the tokens taken, or the seconds to wait and nothing taken."""
        amount = float(max(1, records)) if self.limit.per_record else 1.0
        buckets = [b for b in (self._second, self._minute) if b is not None]
        for bucket in buckets:
            bucket.refill(now)
        wait = max((bucket.wait(amount) for bucket in buckets), default=0.0)
        if wait > 0:
            self.refused += 1
            return wait
        for bucket in buckets:
            bucket.tokens -= amount
        return 0.0

    @property
    def minute_left(self) -> int | None:
        return None if self._minute is None else max(0, int(self._minute.tokens))

    @staticmethod
    def _bucket(size: float | None, seconds: float) -> _Bucket | None:
        return None if size is None else _Bucket(size, seconds, size, 0.0)

"""Moments as ISO 8601 writes them, to aware UTC."""

import re
from datetime import UTC, date, datetime
from typing import Final

from enrich_pipeline.domain.normalize.result import Normalized
from enrich_pipeline.domain.normalize.text import clean, is_null_word

_ABSENT: Final[Normalized[datetime]] = Normalized(None)
_NULL_WORD: Final[Normalized[datetime]] = Normalized(None, "null_word")
_INVALID: Final[Normalized[datetime]] = Normalized(None, "invalid_timestamp")
_FUTURE: Final[Normalized[datetime]] = Normalized(None, "timestamp_in_future")

_ISO: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?)"
    r"\s*(Z|UTC|[+-]\d{2}(?::?\d{2})?)?)?",
    re.I,
)
_EARLIEST: Final = datetime(1970, 1, 2, tzinfo=UTC)


def timestamp(raw: object, now: datetime) -> Normalized[datetime]:
    """Return the moment in UTC. What has no zone is read as UTC, a bare date as its midnight.

    Only ISO 8601 is read: `05/03/2024` has two readings and a bare number has no unit.

    Problems: `invalid_timestamp`, `timestamp_in_future` (later than `now`), `null_word`.
    """
    if raw is None or raw == "":
        return _ABSENT
    if isinstance(raw, datetime):
        return _checked(raw, now)
    if isinstance(raw, date):
        return _checked(datetime(raw.year, raw.month, raw.day, tzinfo=UTC), now)
    if not isinstance(raw, str) or len(raw) > 100:
        return _INVALID
    if len(raw) == 20 and raw[-1] == "Z" and raw.isascii():
        try:
            return _checked(datetime.fromisoformat(raw), now)
        except ValueError:
            return _INVALID
    return _written(clean(raw), now)


def _written(written: str, now: datetime) -> Normalized[datetime]:
    if not written:
        return _ABSENT
    if is_null_word(written):
        return _NULL_WORD
    parts = _ISO.fullmatch(written)
    if parts is None or not written.isascii():
        return _INVALID
    day, clock, zone = parts.groups()
    text = day
    if clock is not None:
        text += f"T{clock.replace(',', '.')}"
        text += "+00:00" if zone is None or zone.upper() in ("Z", "UTC") else zone
    try:
        return _checked(datetime.fromisoformat(text), now)
    except ValueError:
        return _INVALID


def _checked(moment: datetime, now: datetime) -> Normalized[datetime]:
    try:
        aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (OverflowError, ValueError):
        return _INVALID
    if aware != aware:  # pandas' "not a time" is a datetime that equals nothing
        return _ABSENT
    if aware < _EARLIEST:
        # 0001-01-01 and the epoch itself are how systems write "never".
        return _INVALID
    return _FUTURE if aware > now else Normalized(aware)

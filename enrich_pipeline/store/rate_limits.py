"""Rate windows, shared by every process through PostgreSQL.

A window of `seconds` is cut into slices; a token counts from the moment it is taken until its slice
has left the window. Tokens are handed out by lease, several requests at a time, so that a process
does not ask the database before each of them; a request that left late is counted anew. The margin
beyond the window is for the way to the provider: what arrives within it never adds up to more than
the limit in any `seconds`. A network that delays one for longer may have it refused, at no cost.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from enrich_pipeline.domain.policy import RateWindow
from enrich_pipeline.providers.protocol import Quota
from enrich_pipeline.store.rows import as_json
from enrich_pipeline.store.statement import text

_SLICES = 200
_SHORTEST_MARGIN_SECONDS = 0.01
"""By how much one request's way to the provider may be longer than another's; of a window of a
second every hundredth that this is larger costs 1 % of the allowance."""
_UNLIMITED_SECONDS = 1.0
"""How long a lease without any window holds: so soon a provider's own pause is noticed."""

_Key = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Lease:
    """Leave to send `requests` within `seconds`; with none, `wait` says when to ask again.

    `taken` is what `lease` needs to take back those that were not used: tokens per request, and
    the slice that they count in, by window.
    """

    requests: int
    seconds: float
    wait: float
    taken: Mapping[_Key, tuple[int, int]]


@dataclass(slots=True)
class _Ring:
    """The slices of one window; `newest` is the number of the latest one since the epoch."""

    window: RateWindow
    newest: int
    counts: list[int]

    @property
    def length(self) -> float:
        return self.window.seconds / _SLICES

    def slice_at(self, epoch: float) -> int:
        return math.floor(epoch / self.length)

    def turn_to(self, epoch: float) -> None:
        """Forgets what has left the window."""
        now = self.slice_at(epoch)
        for number in range(self.newest + 1, min(now, self.newest + len(self.counts)) + 1):
            self.counts[number % len(self.counts)] = 0
        self.newest = max(self.newest, now)

    def need(self, records: int) -> int:
        """Tokens of one request; one that is larger than the window takes all of it."""
        return min(records if self.window.per == "record" else 1, self.window.limit)

    @property
    def free(self) -> int:
        return self.window.limit - sum(self.counts)

    def wait(self, need: int, epoch: float) -> float:
        """Seconds until `need` tokens are free."""
        free = self.free
        for number in range(self.newest - len(self.counts) + 1, self.newest + 1):
            if free >= need:
                break
            free += self.counts[number % len(self.counts)]
            freed_at = (number + len(self.counts)) * self.length
        else:
            freed_at = (self.newest + len(self.counts)) * self.length
        return max(freed_at - epoch, self.length / 10) if self.free < need else 0.0


def _margin_slices(window: RateWindow) -> int:
    return max(1, math.ceil(_SHORTEST_MARGIN_SECONDS * _SLICES / window.seconds))


def _validity(windows: Sequence[RateWindow]) -> float:
    """Half of the shortest margin; the other half is for the way to the provider."""
    margins = [_margin_slices(w) * w.seconds / _SLICES for w in windows]
    return min(margins) / 2 if margins else _UNLIMITED_SECONDS


def lease(
    conn: Connection,
    provider: str,
    windows: Sequence[RateWindow],
    records: int,
    wanted: int,
    unused: Sequence[Lease] = (),
) -> Lease:
    """Takes the tokens of up to `wanted` requests of `records` each; gives back `unused` ones.

    Run it in a transaction of its own: the row locks order all processes. Of an unused lease,
    `requests` counts what was not sent.
    """
    rings, epoch, paused = _load(conn, provider, windows)
    for earlier in unused:
        _take_back(rings, earlier)
    fitting = min([wanted, *(r.free // r.need(records) for r in rings.values())])
    granted = 0 if paused > 0 else max(0, fitting)
    taken: dict[_Key, tuple[int, int]] = {}
    for key, ring in rings.items():
        ring.counts[ring.newest % len(ring.counts)] += granted * ring.need(records)
        taken[key] = (ring.need(records), ring.newest)
    if granted or unused:
        _save(conn, provider, rings)
    waits = [paused, *(r.wait(r.need(records), epoch) for r in rings.values())]
    return Lease(granted, _validity(windows), 0.0 if granted else max(waits), taken)


def count_anew(
    conn: Connection, provider: str, windows: Sequence[RateWindow], lease: Lease, ago: float
) -> Lease:
    """Has the requests of a lease, which took their time, count from `ago` seconds before now."""
    rings, epoch, _ = _load(conn, provider, windows)
    _take_back(rings, lease)
    taken: dict[_Key, tuple[int, int]] = {}
    for key, (tokens, _) in lease.taken.items():
        if key in rings:
            ring = rings[key]
            number = max(ring.slice_at(epoch - ago), ring.newest - len(ring.counts) + 1)
            ring.counts[number % len(ring.counts)] += tokens * lease.requests
            taken[key] = (tokens, number)
    _save(conn, provider, rings)
    return replace(lease, taken=taken)


def note_quotas(
    conn: Connection, provider: str, windows: Sequence[RateWindow], quotas: Sequence[Quota]
) -> None:
    """Lowers what is free to what the provider says is left, until that leaves the window.

    Only what is about to run out is noted. What is used up in a window that is not configured is a
    pause until it resets.
    """
    counted = {w.seconds: w for w in windows if w.per == "request"}
    scarce = {
        q.seconds: q.left
        for q in quotas
        if q.seconds in counted and q.left * 4 < counted[q.seconds].limit
    }
    if scarce:
        rings, _, _ = _load(conn, provider, windows)
        for (seconds, per), ring in rings.items():
            if per == "request" and seconds in scarce:
                lacking = ring.free - scarce[seconds]
                ring.counts[ring.newest % len(ring.counts)] += max(0, lacking)
        _save(conn, provider, rings)
    for quota in quotas:
        if quota.seconds not in counted and quota.left <= 0:
            block(conn, provider, quota.resets_in or quota.seconds)


def block(conn: Connection, provider: str, seconds: float) -> None:
    """Nobody asks `provider` for that long: it said that we were too fast."""
    conn.execute(
        text("""
            INSERT INTO enrichment.rate_pauses AS p (provider, paused_until)
            VALUES (:provider, clock_timestamp() + make_interval(secs => :seconds))
            ON CONFLICT (provider) DO UPDATE
                SET paused_until = greatest(p.paused_until, excluded.paused_until)
        """),
        {"provider": provider, "seconds": seconds},
    )


def _take_back(rings: Mapping[_Key, _Ring], lease: Lease) -> None:
    for key, (tokens, number) in lease.taken.items():
        ring = rings.get(key)
        if ring is not None and ring.newest - number < len(ring.counts):
            place = number % len(ring.counts)
            ring.counts[place] = max(0, ring.counts[place] - tokens * lease.requests)


def _load(
    conn: Connection, provider: str, windows: Sequence[RateWindow]
) -> tuple[dict[_Key, _Ring], float, float]:
    """(rings, locked and turned to now; seconds since the epoch; seconds of pause left).

    The transaction's commit does not wait for the disk: a token counts from before it, and what is
    sent after it would be late by as much. A server that breaks down may forget the tokens of its
    last second; a provider then refuses a request, at no cost.
    """
    rows: dict[_Key, Any] = {}
    if windows:
        rows = _rows(conn, provider)
        if any((w.seconds, w.per) not in rows for w in windows):
            _create(conn, provider, windows)
            rows = _rows(conn, provider)
    # Asked for when the rows are locked: waiting for them takes time.
    clock = conn.execute(
        text("""
            SELECT set_config('synchronous_commit', 'off', true),
                   extract(epoch FROM clock_timestamp()) AS epoch, (
                SELECT extract(epoch FROM paused_until - clock_timestamp())
                FROM enrichment.rate_pauses WHERE provider = :provider) AS paused
        """),
        {"provider": provider},
    ).one()
    epoch = float(clock.epoch)
    rings: dict[_Key, _Ring] = {}
    for window in windows:
        key = (window.seconds, window.per)
        rings[key] = _Ring(window, int(rows[key].newest), list(rows[key].counts))
        rings[key].turn_to(epoch)
    return rings, epoch, max(0.0, float(clock.paused or 0.0))


def _rows(conn: Connection, provider: str) -> dict[_Key, Any]:
    rows = conn.execute(
        text("""
            SELECT seconds, per, newest, counts FROM enrichment.rate_windows
            WHERE provider = :provider
            ORDER BY seconds, per FOR NO KEY UPDATE
        """),
        {"provider": provider},
    )
    return {(int(r.seconds), str(r.per)): r for r in rows}


def _create(conn: Connection, provider: str, windows: Sequence[RateWindow]) -> None:
    conn.execute(
        text("""
            INSERT INTO enrichment.rate_windows (provider, seconds, per, newest, counts)
            SELECT :provider, w.seconds, w.per, 0, array_fill(0, ARRAY[w.length])
            FROM unnest(cast(:seconds AS int[]), cast(:pers AS text[]), cast(:lengths AS int[]))
                AS w(seconds, per, length)
            ON CONFLICT DO NOTHING
        """),
        {
            "provider": provider,
            "seconds": [w.seconds for w in windows],
            "pers": [w.per for w in windows],
            "lengths": [_SLICES + _margin_slices(w) + 1 for w in windows],
        },
    )


def _save(conn: Connection, provider: str, rings: Mapping[_Key, _Ring]) -> None:
    if not rings:
        return
    conn.execute(
        text("""
            UPDATE enrichment.rate_windows AS w SET newest = r.newest, counts = r.counts
            FROM jsonb_to_recordset(cast(:rows AS jsonb))
                AS r(seconds integer, per text, newest bigint, counts integer[])
            WHERE (w.provider, w.seconds, w.per) = (:provider, r.seconds, r.per)
        """),
        {
            "provider": provider,
            "rows": as_json(
                {"seconds": seconds, "per": per, "newest": ring.newest, "counts": ring.counts}
                for (seconds, per), ring in rings.items()
            ),
        },
    )

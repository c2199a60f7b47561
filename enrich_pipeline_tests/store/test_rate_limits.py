"""Rate windows: never more than the limit in any window, nearly all of it used, shared fairly."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import Connection, Engine, text

from enrich_pipeline.domain.policy import RateWindow
from enrich_pipeline.providers.protocol import Quota
from enrich_pipeline.store import locks, migrate, rate_limits, slots


def window(seconds: int, limit: int, per: str = "request") -> RateWindow:
    return RateWindow.model_validate({"seconds": seconds, "limit": limit, "per": per})


def take(
    engine: Engine,
    *windows: RateWindow,
    records: int = 1,
    wanted: int = 1,
    unused: tuple[rate_limits.Lease, ...] = (),
) -> rate_limits.Lease:
    with engine.begin() as conn:
        return rate_limits.lease(conn, "prospeo", windows, records, wanted, unused)


def pass_by(engine: Engine, seconds: float) -> None:
    """Moves everything that was taken into the past."""
    with engine.begin() as conn:
        conn.execute(
            text(
                "update enrichment.rate_windows "
                "set newest = newest - ceil(:s * 200 / seconds), counts = ("
                "  select array_agg(counts[1 + (i + cast(ceil(:s * 200 / seconds) as int)) "
                "                            % cardinality(counts)] order by i) "
                "  from generate_series(0, cardinality(counts) - 1) as i)"
            ),
            {"s": seconds},
        )


def most_in_any(seconds: float, times: list[float]) -> int:
    times = sorted(times)
    return max(sum(1 for t in times if start <= t < start + seconds) for start in times)


def test_no_more_than_the_limit_is_handed_out_at_once(engine: Engine) -> None:
    lease = take(engine, window(60, 7), wanted=10)
    assert lease.requests == 7
    empty = take(engine, window(60, 7), wanted=10)
    assert empty.requests == 0
    assert 59 < empty.wait < 62


def test_the_strictest_window_decides(engine: Engine) -> None:
    windows = (window(60, 100), window(3600, 5))
    assert take(engine, *windows, wanted=10).requests == 5
    assert take(engine, *windows, wanted=10).wait > 3000


def test_a_window_of_records_counts_records(engine: Engine) -> None:
    windows = (window(60, 100, "record"),)
    assert take(engine, *windows, records=40, wanted=10).requests == 2
    assert take(engine, *windows, records=40, wanted=10).requests == 0
    assert take(engine, *windows, records=20).requests == 1


def test_a_request_larger_than_its_window_takes_all_of_it(engine: Engine) -> None:
    windows = (window(60, 30, "record"),)
    assert take(engine, *windows, records=50, wanted=3).requests == 1
    assert take(engine, *windows, records=1).requests == 0


def test_what_was_not_used_is_given_back(engine: Engine) -> None:
    lease = take(engine, window(60, 7), wanted=7)
    assert take(engine, window(60, 7), wanted=7, unused=(lease,)).requests == 7


def test_another_limit_counts_from_the_next_request_on(engine: Engine) -> None:
    take(engine, window(60, 7), wanted=7)
    assert take(engine, window(60, 10), wanted=7).requests == 3


def test_tokens_come_back_when_their_window_is_over(engine: Engine) -> None:
    take(engine, window(3600, 5), wanted=5)
    pass_by(engine, 3600)
    assert take(engine, window(3600, 5), wanted=5).requests == 0, "the margin"
    pass_by(engine, 100)
    assert take(engine, window(3600, 5), wanted=5).requests == 5


@pytest.mark.parametrize("ago", [0, 1000])
def test_a_request_that_left_late_counts_from_when_it_left(engine: Engine, ago: int) -> None:
    lease = take(engine, window(3600, 5), wanted=5)
    pass_by(engine, 1800)
    with engine.begin() as conn:
        late = replace(
            lease, requests=2, taken={k: (n, at - 100) for k, (n, at) in lease.taken.items()}
        )
        counted = rate_limits.count_anew(conn, "prospeo", (window(3600, 5),), late, ago)
        assert counted.requests == 2
    assert take(engine, window(3600, 5)).requests == 0, "still 5 in all"
    pass_by(engine, 1900)
    assert take(engine, window(3600, 5), wanted=5).requests == 3
    pass_by(engine, 1800 - ago)
    assert take(engine, window(3600, 5), wanted=5).requests == 2


@pytest.mark.parametrize("seconds", [1, 60, 86400])
def test_what_was_taken_stays_taken_when_windows_are_cut_finer(
    engine: Engine, seconds: int
) -> None:
    windows = (window(seconds, 5),)
    take(engine, *windows, wanted=3)
    fresh = count_of_slices(engine)
    with engine.begin() as conn:
        conn.execute(text("update enrichment.alembic_version set version_num = '0009'"))
        conn.execute(
            text(
                "update enrichment.rate_windows set newest = newest / 2, "
                "counts = array_fill(0, array[101]) || array[2, 1]"
            )
        )
    migrate.upgrade(engine)
    assert count_of_slices(engine) == fresh
    if seconds > 1:
        assert take(engine, *windows, wanted=5).requests == 2


def count_of_slices(engine: Engine) -> int:
    with engine.connect() as conn:
        count = conn.execute(text("select cardinality(counts) from enrichment.rate_windows"))
        return int(count.scalar_one())


def test_a_provider_that_was_asked_too_fast_is_left_alone(engine: Engine) -> None:
    with engine.begin() as conn:
        rate_limits.block(conn, "prospeo", 30)
        rate_limits.block(conn, "prospeo", 10)
    for windows in ((), (window(60, 7),)):
        lease = take(engine, *windows)
        assert lease.requests == 0
        assert 25 < lease.wait <= 30


@pytest.mark.parametrize(("left", "granted"), [(0, 0), (3, 3), (90, 100)])
def test_what_the_provider_says_is_left_counts_when_it_is_little(
    engine: Engine, left: int, granted: int
) -> None:
    take(engine, window(60, 100), wanted=0)
    with engine.begin() as conn:
        rate_limits.note_quotas(conn, "prospeo", (window(60, 100),), (Quota(60, left),))
    assert take(engine, window(60, 100), wanted=200).requests == granted


def test_a_window_that_nobody_configured_pauses_until_it_resets(engine: Engine) -> None:
    with engine.begin() as conn:
        rate_limits.note_quotas(
            conn, "prospeo", (window(60, 100),), (Quota(86400, 0, 500.0), Quota(3600, 1))
        )
    assert 490 < take(engine, window(60, 100)).wait <= 500


def test_many_threads_use_nearly_all_of_a_window_and_never_more(engine: Engine) -> None:
    """Each sends the first request of a lease at once, as the engine does, others while it holds.

    What a busy machine sends later than the margin allows is not held against the limit.
    """
    allowed, seconds = 50, 4.0
    sent: list[tuple[int, float, bool]] = []
    until = time.monotonic() + seconds

    def work(name: int) -> None:
        unused: tuple[rate_limits.Lease, ...] = ()
        while time.monotonic() < until:
            asked = time.monotonic()
            lease = take(engine, window(1, allowed), wanted=2, unused=unused)
            left = lease.requests
            while left and (left == lease.requests or time.monotonic() < asked + lease.seconds):
                moment = time.monotonic()
                sent.append((name, moment, moment < asked + 2 * lease.seconds))
                left -= 1
            unused = (replace(lease, requests=left),) if left else ()
            if not lease.requests:
                time.sleep(min(lease.wait, 0.02))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most_in_any(1.0, [moment for _, moment, in_time in sent if in_time]) <= allowed
    assert len(sent) >= 0.8 * allowed * seconds
    assert min(Counter(name for name, _, _ in sent).values()) >= len(sent) / 4 / 4


class Runs:
    """Living runs by name: each holds its advisory lock until it dies."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._alive: dict[str, Connection] = {}

    def share(self, name: str, wanted: int, limit: int) -> int:
        if name not in self._alive:
            self._alive[name] = self._engine.connect()
            self._alive[name].execute(
                text("select pg_advisory_lock(:class, :key)"),
                {"class": locks.DRAIN, "key": self.key(name)},
            )
        with self._engine.begin() as conn:
            return slots.share(conn, "pronto", self.key(name), wanted, limit)

    def die(self, name: str) -> None:
        """Returns when the server has noticed, which it does later than the client hangs up."""
        run = self._alive.pop(name)
        pid = run.execute(text("select pg_backend_pid()")).scalar_one()
        with self._engine.begin() as conn:
            ended = "select pg_terminate_backend(:pid, 10000)"
            assert conn.execute(text(ended), {"pid": pid}).scalar_one()
        run.invalidate()
        run.close()

    @staticmethod
    def key(name: str) -> int:
        """Negative ones too, as those of real runs are."""
        return ord(name) - ord("c")


@pytest.fixture
def runs(engine: Engine) -> Iterator[Runs]:
    opened = Runs(engine)
    yield opened
    for name in list(opened._alive):
        opened.die(name)


def test_runs_share_the_slots_of_a_provider(runs: Runs) -> None:
    assert runs.share("a", 5, 5) == 5
    assert runs.share("b", 5, 5) == 0, "all are taken"
    assert runs.share("a", 5, 5) == 2, "half of them, now that another run wants some"
    assert runs.share("b", 5, 5) == 3
    assert runs.share("a", 5, 5) == 2
    assert runs.share("b", 1, 5) == 1
    assert runs.share("a", 5, 5) == 4


def test_the_slots_of_a_run_that_ended_died_or_sleeps_are_free(engine: Engine, runs: Runs) -> None:
    runs.share("a", 5, 5)
    with engine.begin() as conn:
        slots.give_up(conn, "pronto", runs.key("a"))
    assert runs.share("b", 5, 5) == 5
    runs.die("b")
    assert runs.share("a", 5, 5) == 5
    with engine.begin() as conn:
        conn.execute(
            text("update enrichment.provider_slots set lease_until = now() - interval '1 s'")
        )
    assert runs.share("c", 5, 5) == 5


def test_more_runs_than_slots_never_have_more_than_the_limit(runs: Runs) -> None:
    for _ in range(5):
        held = {run: runs.share(run, 3, 3) for run in "abcdefg"}
    assert sum(held.values()) <= 3
    assert max(held.values()) == 1

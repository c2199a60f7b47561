"""Sweeping: bringing home what a dead process, a deadline or a late answer left behind.

Safe to run at any time and by anybody: every step takes the call's row lock and looks again.
A process is dead when its lock is free; one that only sleeps keeps its lock until its leases end.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, text

from enrich_pipeline.store import calls, replies
from enrich_pipeline.store.locks import DRAIN
from enrich_pipeline.waterfall import collect, send
from enrich_pipeline.waterfall.context import Context, run_key
from enrich_pipeline.waterfall.fault_points import reached
from enrich_pipeline.waterfall.unanswered import doubt, release, write_off


@dataclass(slots=True)
class SweepSummary:
    """What a sweep changed, in calls."""

    released: int = 0
    doubted: int = 0
    settled: int = 0
    written_off: int = 0
    read_again: int = 0


def sweep(ctx: Context, sleep: Callable[[float], object]) -> SweepSummary:
    """One pass over everything that is due."""
    summary = SweepSummary()
    for call_id in _abandoned(ctx):
        _recover(ctx, call_id, summary)
    _apply_kept(ctx, None, summary)
    summary.settled += len(collect.deliveries(ctx))
    _deadlines(ctx, summary)
    _reread(ctx, sleep, summary)
    return summary


def recover_own(ctx: Context) -> SweepSummary:
    """Recovers what an earlier process of this very run left: before a reply, or not applied.

    For who holds the run's lock and has claimed nothing yet: nobody else of the run is alive then.
    """
    summary = SweepSummary()
    with ctx.engine.connect() as conn:
        left = calls.calls_of_run(conn, ctx.run_id)
    for call_id in left:
        _recover(ctx, call_id, summary)
    _apply_kept(ctx, ctx.run_id, summary)
    return summary


def _abandoned(ctx: Context) -> list[int]:
    """Calls before their reply whose lease is over or whose process is gone."""
    with ctx.engine.begin() as conn:
        found = set(calls.due(conn, "reserved", clock="lease_until"))
        found |= set(calls.due(conn, "sending", clock="lease_until"))
        for run_id in calls.live_runs(conn):
            if run_id != ctx.run_id and _is_dead(conn, run_id):
                found |= set(calls.calls_of_run(conn, run_id))
    return sorted(found)


def _is_dead(conn: Connection, run_id: str) -> bool:
    return bool(
        conn.execute(
            text("SELECT pg_try_advisory_xact_lock(:class, :key)"),
            {"class": DRAIN, "key": run_key(run_id)},
        ).scalar_one()
    )


def _recover(ctx: Context, call_id: int, summary: SweepSummary) -> None:
    with ctx.engine.begin() as conn:
        stored = calls.load(conn, call_id, lock=True)
        if stored.provider not in ctx.providers:
            return
        if stored.state == "reserved":
            release(conn, stored, "sweep", "abandoned")
            summary.released += 1
        elif stored.state == "sending":
            if any(x.state.value == "held" for x in calls.lines_of(conn, [call_id])):
                doubt(conn, ctx, stored, "sweep", "process_gone")
                summary.doubted += 1
            else:
                calls.close_or_keep(conn, [calls.Closing(call_id, "in_doubt")])
                summary.settled += 1
        reached("sweeping")
    reached("swept")


def _apply_kept(ctx: Context, run_id: str | None, summary: SweepSummary) -> None:
    """Applies replies that somebody kept and did not live to apply; of one run, or of all."""
    with ctx.engine.connect() as conn:
        unread = replies.calls_with_unread(conn, run_id)
    for call_id in unread:
        with ctx.engine.connect() as conn:
            stored = calls.load(conn, call_id, lock=False)
        if stored.provider in ctx.providers:
            send.settle_stored(ctx, None, call_id)
            summary.settled += 1


def _deadlines(ctx: Context, summary: SweepSummary) -> None:
    with ctx.engine.connect() as conn:
        silent = calls.due(conn, "accepted", clock="deadline_at")
        hopeless = calls.due(conn, "in_doubt", clock="write_off_at")
    for call_id in silent:
        collect.poll(ctx, [call_id])
        with ctx.engine.begin() as conn:
            stored = calls.load(conn, call_id, lock=True)
            if stored.state == "accepted" and stored.provider in ctx.providers:
                doubt(conn, ctx, stored, "deadline", "no_answer_by_deadline")
                summary.doubted += 1
            reached("deadline_passing")
    for call_id in hopeless:
        with ctx.engine.begin() as conn:
            stored = calls.load(conn, call_id, lock=True)
            if stored.state == "in_doubt" and stored.provider in ctx.providers:
                write_off(conn, stored, "horizon", "no_evidence_by_horizon")
                summary.written_off += 1
            reached("writing_off")


def _reread(ctx: Context, sleep: Callable[[float], object], summary: SweepSummary) -> None:
    """Asks again, free of charge, once the first request can no longer be running."""
    for name, api in ctx.providers.items():
        if not api.in_doubt.allows_repetition or name not in ctx.clients:
            continue
        with ctx.engine.connect() as conn:
            waiting = calls.due(conn, "in_doubt", provider=name, clock="lease_until")
        for call_id in waiting:
            with ctx.engine.connect() as conn:
                stored = calls.load(conn, call_id, lock=False)
            if not stored.items or stored.state != "in_doubt" or ctx.stopping.is_set():
                continue
            send.read_again(ctx, call_id, sleep)
            summary.read_again += 1

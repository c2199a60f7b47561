"""How old each field of every contact is: `enrichment.freshness`, which triggers keep.

What is stale follows from the configuration of the moment, so the table holds no verdict.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

REASONS = ("missing", "job_change", "unknown_age", "old")
"""Why a field is stale, by its urgency: 0 comes first."""


def stale(fields: Mapping[str, int], bought: Collection[str] = (), sample: str = "") -> str:
    """Return the contacts that existed then, as a subquery `f`, and what of them is stale.

    It has the columns of `enrichment.freshness` and, of the type integer, for each of `fields` its
    `<field>_urgency`, for each of those `bought` its `<field>_wanted` too: the same, but null where
    the value is locked, the person not known, or the consent missing that the field needs. Its
    parameters are those of `moments`. `sample` is a clause by which not all are read.
    """
    verdicts = [f"{_urgency(field)} as {field}_urgency" for field in fields]
    verdicts += [
        f"case when {_may_be_bought(field)} then {_urgency(field)} end as {field}_wanted"
        for field in bought
    ]
    return f"""(
        select {", ".join(["f.*", *verdicts])}
        from enrichment.freshness as f {sample}
        left join (
            select contact_id, array_agg(field) as locked
            from enrichment.value_locks group by contact_id
        ) as l on l.contact_id = f.contact_id
        where f.created_at is null or f.created_at <= :as_of
    ) as f"""  # noqa: S608  (fragments of our own)


def moments(fields: Mapping[str, int], as_of: datetime) -> dict[str, datetime]:
    """Return the parameters for `fields`, given with their `stale_after_days`."""
    return {f"{f}_before": as_of - timedelta(days=days) for f, days in fields.items()} | {
        "as_of": as_of
    }


def _urgency(field: str) -> str:
    outdated = " when f.is_work_email_outdated then 1" * (field == "work_email")
    return (
        f"case when f.{field} is null then 0{outdated} when f.{field}_at is null then 2"
        f" when f.{field}_at <= cast(:{field}_before as timestamptz) then 3 end"
    )


def _may_be_bought(field: str) -> str:
    consent = " and f.personal_email_consent" * (field == "personal_email")
    return f"f.person_id is not null{consent} and (l.locked is null or '{field}' <> all(l.locked))"


def read_in_parallel(conn: Connection) -> None:
    """Let a second process help to read through all contacts, until the transaction ends.

    Without hash tables in common: containers often have little memory to share. And without sorts
    that build on a partial order: for one of weights, which are mostly absent, all rows would pass
    through the first process.
    """
    conn.execute(
        text("""
            select set_config('max_parallel_workers_per_gather', greatest(1,
                       cast(current_setting('max_parallel_workers_per_gather') as integer)) || '',
                       true),
                   set_config('enable_parallel_hash', 'off', true),
                   set_config('enable_incremental_sort', 'off', true),
                   set_config('work_mem', '256MB', true)
        """)
    )

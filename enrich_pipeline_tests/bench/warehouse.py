"""A warehouse of any size after 90 nights, filled by set-based SQL: what a BI tool would find.

Contact n belongs to person n; every 33rd contact to the person before, which the person of its own
number was merged into. Each person was asked for in one night of a cycle of 90 days, at four
providers: a match of five values, a phone number, a record of four or five values that mostly lose,
and a miss. Every cell follows from the number of its row, so that two fills are equal.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime

from sqlalchemy import Connection, Engine, text

from enrich_pipeline.domain.enrichment import Field
from enrich_pipeline.store import coverage, marts

TODAY = date(2026, 6, 1)
NOW = datetime(2026, 6, 1, 6, tzinfo=UTC)
PER_CYCLE = 10 + 1 / 3
"""Values that one cycle of questions brings of a person, on average."""

_LINES = """(values
    (0, 'prospeo', 'match', 1000000, 10000),
    (1, 'lance', 'mobile', 1000000, 80000),
    (2, 'agntdata', 'record', 3000000, 30000),
    (3, 'pronto', 'work_email', 0, 0)
) as line (number, provider, product, micro, usd_micro)"""

_SLOTS = """(values
    (0, 0, 'prospeo', 'work_email', 'verified', null),
    (1, 0, 'prospeo', 'job_title', 'unknown', null),
    (2, 0, 'prospeo', 'company_name', 'unknown', null),
    (3, 0, 'prospeo', 'company_domain', 'unknown', null),
    (4, 0, 'prospeo', 'linkedin_url', 'unknown', null),
    (5, 1, 'lance', 'phone', 'verified', null),
    (6, 2, 'agntdata', 'work_email', 'catch_all', 'less_verified'),
    (7, 2, 'agntdata', 'job_title', 'unknown', 'older'),
    (8, 2, 'agntdata', 'company_name', 'unknown', 'same_value'),
    (9, 2, 'agntdata', 'location', 'unknown', null),
    (10, 2, 'agntdata', 'company_domain', 'unknown', 'same_value')
) as slot (number, line, provider, attribute, status, reason)"""

_ATTEMPTS = """(values
    (0, 0, 0, 'work_email', 'prospeo', 1, 'found', true, 1000000, 10000),
    (1, 0, 2, 'profile', 'prospeo', 1, 'found', false, 0, 0),
    (2, 1, 1, 'phone', 'lance', 2, 'found', true, 1000000, 80000),
    (3, 2, 0, 'work_email', 'agntdata', 2, 'found', false, 3000000, 30000),
    (4, 3, 0, 'work_email', 'pronto', 3, 'not_found', false, 0, 0)
) as try (number, line, of, field, provider, position, outcome, is_verified, micro, usd_micro)"""

_NIGHT = "(cast(:today as date) - n % 90 - 90 * cycle)"
_CALL = "(1 + ((n / 4500) * 90 + n % 90) * 8 + cycle * 4 + line.number)"
_VALUE = """case slot.attribute
    when 'work_email' then 'p' || n || case line when 2 then '-' else '@' end
        || 'company' || n / 20 || '.example'
    when 'job_title' then 'Head of ' || n % 97
    when 'company_name' then 'Company ' || n / 20
    when 'company_domain' then 'company' || n / 20 || '.example'
    when 'linkedin_url' then 'https://www.linkedin.com/in/p' || n
    when 'phone' then '+49' || 1000000000 + n
    else 'City ' || n % 300 end"""

_TABLES: dict[str, str] = {
    "persons": """
        insert into enrichment.persons (person_id, merged_into, created_at)
        select n, case when n % 33 = 0 then n - 1 end, cast(:today as date) - 400
        from generate_series(1, :persons) as n""",
    "contacts": """
        insert into enrichment.contacts (contact_id, person_id, full_name, segment, company_name,
            company_domain, name_at_company, source_key, source_hash, created_at)
        select 'c' || n, n - (n % 33 = 0)::integer, 'Ada Roe ' || n,
            (array['enterprise', 'mid market', 'smb', 'public'])[1 + n % 4],
            'Company ' || n / 20, 'company' || n / 20 || '.example', '', 'c' || n, '',
            cast(:today as date) - 400
        from generate_series(1, :persons) as n""",
    "person_inputs": """
        insert into enrichment.person_inputs (person_id) select n
        from generate_series(1, :persons) as n where n % 33 <> 0""",
    "plan_nights": """
        insert into enrichment.plan_nights (partition_date, as_of, contacts_cap, batches,
            contacts_stale, coverage_before, coverage_after)
        select cast(:today as date) - n, cast(:today as date) - n, 1000000, 4, :persons / 90, c, c
        from generate_series(0, 90 * :cycles - 1) as n
        cross join (select jsonb_object_agg(field, '{"filled": 7, "contacts": 10}'::jsonb) as c
            from unnest(array['work_email', 'phone', 'personal_email', 'profile']) as field)
            as c""",
    "plan_rows": """
        insert into enrichment.plan_rows (partition_date, contact_id, person_id, field, reason,
            rank, batch, state, result, planned_at, closed_at)
        select <night>, 'c' || n, n - (n % 33 = 0)::integer, field, 'old', n, n % 4, 'done',
            'found', <night>, <night> + interval '3 hours'
        from generate_series(1, :persons) as n
        cross join unnest(array['work_email', 'phone', 'profile']) as field
        cross join (values (0)) as c (cycle)""",
    "enrichments": """
        insert into enrichment.enrichments (enrichment_id, person_id, field, cycle, state, result,
            waterfall, partition_date, batch, opened_at, closed_at)
        overriding system value
        select n * 8 + cycle * 4 + of, n, field, 2 - cycle, 'finished', 'found', '{prospeo}',
            <night>, n % 4, <night>, <night> + interval '2 hours'
        from generate_series(1, :persons) as n
        cross join generate_series(0, :cycles - 1) as cycle
        cross join (values (0, 'work_email'), (1, 'phone'), (2, 'profile')) as f (of, field)
        order by n % 90 + 90 * cycle desc""",
    "calls": """
        insert into enrichment.calls (call_id, provider, call_group, state, partition_date, batch,
            spend_date, run_id, persons, hold_micro, prices, usd_micro_per_credit, lease_until)
        overriding system value
        select <call>, line.provider, '', 'settled', <night>, (n / 4500) % 4, <night>, 'run', 50, 0,
            '{}', 10000, <night>
        from generate_series(0, :persons / 4500) as block
        cross join generate_series(0, 89) as night
        cross join lateral (select block * 4500 + night as n) as first
        cross join generate_series(0, :cycles - 1) as cycle
        cross join <lines>""",
    "charge_lines": """
        insert into enrichment.charge_lines (line_id, call_id, item_key, person_id, provider,
            product, fields, state, hold_micro, hold_usd_micro, cost_micro, cost_usd_micro,
            cost_source, verdict, reason, answered_at, settled_at)
        overriding system value
        select n * 8 + cycle * 4 + line.number, <call>, n, n, line.provider, line.product, '{}',
            'posted', line.micro, line.usd_micro, line.micro, line.usd_micro, 'reported',
            case when line.number = 2 and n % 100 = 7 then 'other_person' else 'found' end,
            case when line.number = 2 and n % 100 = 7 then 'name' end,
            <night> + interval '1 hour', <night> + interval '1 hour'
        from generate_series(1, :persons) as n
        cross join generate_series(0, :cycles - 1) as cycle
        cross join <lines>
        where n % 33 <> 0
        order by n % 90 + 90 * cycle desc""",
    "attempts": """
        insert into enrichment.attempts (attempt_id, enrichment_id, person_id, field, provider, try,
            position, call_id, line_id, outcome, is_verified, requested_at, responded_at,
            cost_micro, cost_usd_micro, partition_date, batch, run_id)
        overriding system value
        select n * 16 + cycle * 8 + line.number, n * 8 + cycle * 4 + of, n, field, provider, 1,
            position, case when n % 33 <> 0 then
                (1 + ((n / 4500) * 90 + n % 90) * 8 + cycle * 4 + line.line) end,
            case when n % 33 <> 0 then n * 8 + cycle * 4 + line.line end,
            case when n % 33 = 0 then 'reused'
                 when line.line = 2 and n % 100 = 7 then 'other_person' else outcome end,
            is_verified, <night>, <night> + interval '1 hour',
            case when n % 33 <> 0 then micro else 0 end,
            case when n % 33 <> 0 then usd_micro else 0 end, <night>, n % 4, 'run'
        from generate_series(1, :persons) as n
        cross join generate_series(0, :cycles - 1) as cycle
        cross join <attempts>
        where n % 33 <> 0 or line.number = 0
        order by n % 90 + 90 * cycle desc""",
    "observations": """
        insert into enrichment.observations (person_id, attribute, value, status, provider, call_id,
            line_id, attempt_id, observed_at, recorded_at, is_winner, rejected_reason, won_at)
        select n, attribute, <value>, status, provider,
            (1 + ((n / 4500) * 90 + n % 90) * 8 + cycle * 4 + line), n * 8 + cycle * 4 + line,
            n * 16 + cycle * 8 + case line when 1 then 2 when 2 then 3 else 0 end,
            <night> + interval '1 hour', <night> + interval '1 hour', lost.reason is null,
            lost.reason, case when lost.reason is null then <night> + interval '3 hours' end
        from generate_series(90 * :cycles - 1, 0, -1) as night
        cross join generate_series(night % 90, :persons, 90) as n
        cross join (select * from generate_series(0, :cycles - 1)) as c (cycle)
        cross join lateral (
            select *, case when line = 2 and n % 100 = 7 then 'other_person'
                           when cycle > 0 then coalesce(slot.reason, 'older')
                           else slot.reason end as reason
            from <slots>) as lost (number, line, provider, attribute, status, usual, reason)
        where n > 0 and n % 33 <> 0 and night / 90 = cycle and (number < 10 or n % 3 = 0)""",
    "accounts": """
        insert into enrichment.accounts (provider, kind)
        select provider, kind
        from unnest(array['prospeo', 'lance', 'agntdata', 'pronto']) as provider
        cross join unnest(array['available', 'held', 'in_doubt', 'spent', 'written_off',
            'overage_due']) as kind""",
    "ledger_entries": """
        insert into enrichment.ledger_entries (entry_key, entry_type, provider, debit_account,
            credit_account, amount_micro, amount_usd_micro, cost_source, call_id, occurred_at,
            partition_date, batch)
        select c.call_id || '-' || e.kind, e.kind, c.provider, d.account_id, k.account_id,
            sum(l.cost_micro), sum(l.cost_usd_micro), 'reported', c.call_id,
            c.partition_date + interval '1 hour', c.partition_date, c.batch
        from enrichment.calls as c
        join enrichment.charge_lines as l on l.call_id = c.call_id
        cross join (values ('hold', 'held', 'available'), ('post', 'spent', 'held'))
            as e (kind, debit, credit)
        join enrichment.accounts as d on d.provider = c.provider and d.kind = e.debit
        join enrichment.accounts as k on k.provider = c.provider and k.kind = e.credit
        where c.provider <> 'pronto'
        group by c.call_id, e.kind, d.account_id, k.account_id
        order by c.partition_date""",
    "skips": """
        insert into enrichment.skips (partition_date, person_id, field, provider, reason)
        select <night>, n, 'personal_email', '*', 'no_consent'
        from generate_series(1, :persons) as n cross join (values (0)) as c (cycle)
        where n % 33 <> 0
        order by n % 90 + 90 * cycle desc""",
}

_DIM = """
    insert into analytics.dim_contacts (contact_id, person_id, full_name, segment, work_email,
        work_email_status, work_email_source, work_email_observed_at, phone, phone_status,
        phone_source, phone_observed_at, job_title, company_name, company_domain, linkedin_url,
        location, profile_status, profile_source, profile_observed_at, last_refreshed_at,
        next_refresh_at)
    select 'c' || i, n, 'Ada Roe ' || i,
        (array['enterprise', 'mid market', 'smb', 'public'])[1 + i % 4],
        'p' || n || '@company' || n / 20 || '.example', 'verified', 'prospeo', at,
        '+49' || 1000000000 + n, 'verified', 'lance', at, 'Head of ' || n % 97,
        'Company ' || n / 20, 'company' || n / 20 || '.example',
        'https://www.linkedin.com/in/p' || n, case when n % 100 <> 7 then 'City ' || n % 300 end,
        'unknown', 'prospeo', at, at, at + interval '88 days'
    from generate_series(1, :persons) as i
    cross join lateral (select i - (i % 33 = 0)::integer as n) as who
    cross join lateral (
        select cast(:today as date) - n % 90 + interval '1 hour' as at) as asked
"""
_HISTORY = """
    insert into analytics.dim_contact_history (contact_id, person_id, full_name, segment,
        work_email, work_email_status, work_email_source, work_email_observed_at,
        is_work_email_outdated, phone, phone_status, phone_source, phone_observed_at, job_title,
        company_name, company_domain, linkedin_url, location, profile_status, profile_source,
        profile_observed_at, is_suppressed, changed_fields, is_job_change, valid_from, valid_to)
    select contact_id, person_id, full_name, segment,
        case when v > 1 then work_email end, case when v > 1 then work_email_status end,
        case when v > 1 then work_email_source end,
        case when v > 1 then work_email_observed_at - (3 - v) * interval '90 days' end, false,
        case when v > 1 then phone end, case when v > 1 then phone_status end,
        case when v > 1 then phone_source end, case when v > 1 then phone_observed_at end,
        job_title, case when v < 3 and moves then 'Former ' || company_name else company_name end,
        case when v < 3 and moves then 'former-' || company_domain else company_domain end,
        linkedin_url, location, profile_status, case when v > 1 then profile_source else 'crm' end,
        case when v > 1 then profile_observed_at end, false,
        case v when 1 then '{full_name,company_name,company_domain}'
               when 2 then '{work_email,phone,job_title,linkedin_url}'
               else '{work_email_observed_at,company_name,company_domain}' end::text[],
        v = 3 and moves,
        case v when 1 then cast(:today as date) - 400.0 * interval '1 day'
               when 2 then last_refreshed_at - interval '90 days'
               else last_refreshed_at + interval '2 hours' end as valid_from,
        case v when 1 then last_refreshed_at - interval '90 days'
               when 2 then last_refreshed_at + interval '2 hours' end
    from generate_series(1, 3) as v
    cross join (
        select *, substr(contact_id, 2)::integer % 50 = 1 as moves from analytics.dim_contacts
    ) as d
    order by valid_from
"""
_CHANGES = """
    insert into analytics.fct_contact_changes (contact_version_id, field, contact_id, kind,
        old_value, new_value, status, source, observation_id, changed_at, partition_date)
    select h.contact_version_id, f.field, h.contact_id, f.kind, f.old_value, f.new_value,
        'verified', 'prospeo', h.contact_version_id, h.valid_from,
        (h.valid_from - interval '2 hours')::date
    from analytics.dim_contact_history as h
    cross join lateral (values
        (2, 'work_email', 'filled', null, h.work_email),
        (2, 'phone', 'filled', null, h.phone),
        (2, 'job_title', 'filled', null, h.job_title),
        (2, 'linkedin_url', 'filled', null, h.linkedin_url),
        (3, 'work_email', 'confirmed', h.work_email, h.work_email),
        (3, 'company_name', case when h.is_job_change then 'job_change' else 'confirmed' end,
         'Former ' || h.company_name, h.company_name),
        (3, 'company_domain', case when h.is_job_change then 'job_change' else 'confirmed' end,
         'former-' || h.company_domain, h.company_domain)
    ) as f (version, field, kind, old_value, new_value)
    where f.version = case when h.profile_source = 'crm' then 1
                           when h.is_current then 3 else 2 end
    order by h.valid_from
"""


def fill(engine: Engine, contacts: int, observations: int) -> None:
    """Fill a migrated, empty database; 1,000,000 contacts take some ten minutes and 12 GB."""
    survivors = contacts - contacts // 33
    sizes = {
        "persons": contacts,
        "cycles": max(1, round(observations / (survivors * PER_CYCLE))),
        "today": TODAY,
    }
    statements = {**_TABLES, "dim_contacts": _DIM, "dim_contact_history": _HISTORY}
    statements["fct_contact_changes"] = _CHANGES
    with without_indexes(engine):
        for name, statement in statements.items():
            with engine.begin() as conn:
                # Rows that follow from one another need no lookups of foreign keys.
                conn.execute(text("set local session_replication_role = replica"))
                conn.execute(text("set local synchronous_commit = off"))
                run(conn, name, _written_out(statement), sizes)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        run(conn, "vacuum", "vacuum (analyze)", {})
    started = time.monotonic()
    with engine.begin() as conn:
        nights = conn.execute(text("select partition_date from enrichment.plan_nights")).scalars()
        days = sorted(nights)
        marts.refresh(conn, days)
        coverage.freeze(conn, {str(field): 90 for field in Field}, NOW, days)
    say("marts", len(days), started)


def constrain(engine: Engine) -> None:
    """Forbid overlapping versions, as the schema does: it takes longest, and no query needs it."""
    with engine.begin() as conn:
        run(conn, "no overlaps", _NO_OVERLAP, {})


_NO_OVERLAP = """
    alter table analytics.dim_contact_history add constraint dim_contact_history_no_overlap
    exclude using gist (
        analytics.contact_key(contact_id) with &&, tstzrange(valid_from, valid_to) with &&)
"""


def run(conn: Connection, name: str, statement: str, parameters: dict[str, object]) -> None:
    """Execute a statement and say how long it took."""
    started = time.monotonic()
    used = {k: v for k, v in parameters.items() if f":{k}" in statement}
    result = conn.execute(text(statement.replace("::", r"\:\:")), used)
    say(name, result.rowcount, started)


def say(name: str, rows: int, started: float) -> None:
    seconds = time.monotonic() - started
    print(f"{name}: {rows:,} rows, {seconds:.1f} s", file=sys.stderr, flush=True)


def _written_out(statement: str) -> str:
    for name, fragment in {
        "<night>": _NIGHT,
        "<call>": _CALL,
        "<lines>": _LINES,
        "<slots>": _SLOTS,
        "<attempts>": _ATTEMPTS.replace("as try", "as line"),
        "<value>": _VALUE.replace("slot.", ""),
    }.items():
        statement = statement.replace(name, fragment)
    return statement


@contextmanager
def without_indexes(engine: Engine) -> Iterator[None]:
    """Take away all indexes but primary keys while rows come in; built afterwards, in one go each.

    That is several times as fast; a name that comes back twice is unique by its schema.
    """
    with engine.begin() as conn:
        made_again = list(conn.execute(_DROPPABLE).all())
        for each in made_again:
            conn.execute(text(each.drop))
    yield
    for each in made_again:
        if each.is_exclusion:
            continue
        with engine.begin() as conn:
            conn.execute(text("set local maintenance_work_mem = '1GB'"))
            run(conn, each.name, each.make, {})


_DROPPABLE = text(r"""
    select c.relname as name, coalesce(k.contype = 'x', false) as is_exclusion,
        case when k.conname is null then 'drop index ' || c.oid\:\:regclass
             else 'alter table ' || i.indrelid\:\:regclass || ' drop constraint ' || k.conname
        end as drop,
        case when k.conname is null then pg_get_indexdef(c.oid)
             else 'alter table ' || i.indrelid\:\:regclass || ' add constraint ' || k.conname || ' '
                  || pg_get_constraintdef(k.oid)
        end as make
    from pg_index as i
    join pg_class as c on c.oid = i.indexrelid
    join pg_namespace as n on n.oid = c.relnamespace
    left join pg_constraint as k on k.conindid = c.oid and k.contype in ('u', 'x')
    where n.nspname in ('enrichment', 'analytics') and not i.indisprimary
    order by c.relname
""")

"""Who may do what in the database, and that every command gets by with what its role may."""

from datetime import UTC, datetime

import httpx
import pytest
from sqlalchemy import Connection, Engine, exc, text

from enrich_pipeline.cli import main
from enrich_pipeline.store import connection, invariants, publish
from enrich_pipeline.webhooks import server

from ..support.lab import Bench, contacts
from ..support.sandbox import PROVIDERS
from .conftest import Login

ROLES = ("enrich_owner", "enrich_pipeline", "enrich_receiver", "bi_reader", "bi_masked")
SCHEMAS = ["crm", "enrichment", "analytics", "analytics_masked"]
READERS = {("bi_reader", "analytics"), ("bi_masked", "analytics_masked")}
DEEDS = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "TRIGGER", "REFERENCES")
READ = {"SELECT"}
WRITE = {"SELECT", "INSERT", "UPDATE", "DELETE"}
NOTHING: set[str] = set()
EXCEPTIONS = {
    ("enrich_pipeline", "enrichment.ledger_entries"): {"SELECT", "INSERT"},
    ("enrich_pipeline", "enrichment.alembic_version"): READ,
    ("enrich_pipeline", "enrichment.secrets"): READ,
    ("enrich_receiver", "enrichment.alembic_version"): READ,
}
COLUMNS = {
    ("calls", "SELECT"): {"call_id", "provider", "token_hash"},
    ("inbox", "SELECT"): {
        "delivery_id", "provider", "token_hash", "body_sha256", "reason", "deliveries"
    },
    ("inbox", "INSERT"): {
        "provider", "token_hash", "body", "body_sha256", "state", "reason", "applied_at"
    },
    ("inbox", "UPDATE"): {"deliveries"},
    ("receiver_probes", "SELECT"): {"nonce", "received_at"},
    ("receiver_probes", "UPDATE"): {"received_at"},
}  # fmt: skip
"""What enrich_receiver may do to single columns; to whole tables next to nothing."""


def expected(role: str, relation: str) -> set[str]:
    if (role, relation) in EXCEPTIONS:
        return EXCEPTIONS[role, relation]
    schema = relation.split(".")[0]
    if role == "enrich_pipeline" and schema != "analytics_masked":
        return WRITE
    return READ if (role, schema) in READERS else NOTHING


def test_the_grant_matrix(engine: Engine) -> None:
    with engine.connect() as conn:
        relations = conn.execute(
            text("""
                select n.nspname || '.' || c.relname from pg_class as c
                join pg_namespace as n on n.oid = c.relnamespace
                where n.nspname = any(:schemas) and c.relkind in ('r', 'p', 'v', 'm')
            """),
            {"schemas": SCHEMAS},
        ).scalars()
        for relation in list(relations):
            for role in ROLES[1:]:
                query = text(
                    "select deed from unnest(cast(:deeds as text[])) as deed "
                    "where has_table_privilege(:role, :relation, deed)"
                )
                may = conn.execute(
                    query, {"deeds": list(DEEDS), "role": role, "relation": relation}
                ).scalars()
                assert set(may) == expected(role, relation), f"{role} on {relation}"


def test_the_receiver_may_touch_these_columns_and_no_other(engine: Engine) -> None:
    with engine.connect() as conn:
        rows = conn.execute(
            text("""
                select c.table_schema, c.table_name, deed, array_agg(c.column_name::text)
                from information_schema.columns as c,
                    unnest(array['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) as deed
                where c.table_schema = any(:schemas)
                  and has_column_privilege(
                      'enrich_receiver', format('%I.%I', c.table_schema, c.table_name),
                      c.column_name, deed)
                  and c.table_name <> 'alembic_version'
                group by 1, 2, 3
            """),
            {"schemas": [*SCHEMAS, "dagster"]},
        ).all()
    assert {(table, deed): set(columns) for _, table, deed, columns in rows} == COLUMNS


def test_everything_belongs_to_the_owner(engine: Engine) -> None:
    with engine.connect() as conn:
        owners = conn.execute(
            text("""
                select pg_get_userbyid(c.relowner) from pg_class as c
                join pg_namespace as n on n.oid = c.relnamespace
                where n.nspname = any(:schemas) and c.relkind <> 'c'
                union select pg_get_userbyid(nspowner) from pg_namespace
                where nspname = any(:schemas)
                union select pg_get_userbyid(p.proowner) from pg_proc as p
                join pg_namespace as n on n.oid = p.pronamespace
                where n.nspname = any(:schemas)
            """),
            {"schemas": SCHEMAS},
        ).scalars()
        assert set(owners) == {"enrich_owner"}
        roles = conn.execute(
            text("""
                select count(*) from pg_roles where rolname = any(:roles)
                  and not (rolcanlogin or rolsuper or rolbypassrls or rolcreaterole or rolcreatedb)
            """),
            {"roles": list(ROLES)},
        ).scalar_one()
        assert roles == len(ROLES)


def refused(conn: Connection, statement: str) -> None:
    with pytest.raises(exc.ProgrammingError, match="(permission denied|must be owner)"):
        conn.execute(text(statement))
    conn.rollback()


@pytest.mark.parametrize(
    "statement",
    [
        "update enrichment.ledger_entries set amount_micro = 1",
        "delete from enrichment.ledger_entries",
        "truncate enrichment.ledger_entries",
        "alter table enrichment.ledger_entries disable trigger all",
        "drop trigger ledger_entries_append_only on enrichment.ledger_entries",
        "drop table enrichment.ledger_entries",
        "create or replace function enrichment.refuse_change() returns trigger "
        "language plpgsql as $$ begin return null; end $$",
        "truncate enrichment.charge_lines",
        "update enrichment.secrets set value = ''",
        "set role enrich_owner",
        "create table enrichment.mine (x integer)",
    ],
)
def test_who_runs_the_nights_cannot_rewrite_the_ledger(login: Login, statement: str) -> None:
    engine = connection.create_engine(login("enrich_pipeline"))
    with engine.connect() as conn:
        refused(conn, statement)
    engine.dispose()


@pytest.mark.parametrize(
    "statement",
    [
        "select body from enrichment.inbox",
        "select * from enrichment.inbox",
        "update enrichment.inbox set body = ''",
        "delete from enrichment.inbox",
        "select email from enrichment.contacts",
        "select value from enrichment.secrets",
        "select request_body from enrichment.calls",
        "select amount_micro from enrichment.ledger_entries",
        "select enrichment.identity_hash('email', 'a@b.example')",
        "insert into enrichment.receiver_probes (nonce) values ('x')",
        "select * from analytics.dim_contacts",
        "select * from crm.contacts",
    ],
)
def test_a_taken_over_receiver_learns_and_changes_nothing(login: Login, statement: str) -> None:
    engine = connection.create_engine(login("enrich_receiver"))
    with engine.connect() as conn:
        refused(conn, statement)
    engine.dispose()


@pytest.mark.parametrize("schema", ["crm", "enrichment", "dagster"])
def test_bi_reads_analytics_only(login: Login, schema: str) -> None:
    engine = connection.create_engine(login("bi_reader"))
    with engine.connect() as conn:
        conn.execute(text("select * from analytics.fct_credit_ledger"))
        conn.execute(text("select * from analytics.dim_contacts"))
        refused(conn, f"create table {schema}.mine (x integer)")
        refused(conn, "create table analytics.mine (x integer)")
        refused(conn, "select * from enrichment.calls")
        refused(conn, "select * from crm.contacts")
    engine.dispose()


def test_a_night_runs_under_the_roles_that_are_meant_for_it(bench: Bench, login: Login) -> None:
    """Loaded, planned, drained, published and read as the pipeline; received as the receiver."""
    now = datetime.now(UTC)
    receiving = login("enrich_receiver")
    with (
        server.serving(receiving, PROVIDERS, "127.0.0.1", 0) as port,
        bench.lab(
            login("enrich_pipeline"),
            environment={"ENRICH_WEBHOOK_PUBLIC_URL": f"http://127.0.0.1:{port}"},
        ) as lab,
    ):
        lab.night(contacts(range(12), personal_email_consent="true"))
        lab.sandbox.wait_for_deliveries()
        lab.drain()
        publish.publish(lab.engine, lab.settings.policy, lab.today, 0, now)
        with lab.engine.connect() as conn:
            assert invariants.violations(conn) == []
        assert lab.one("select count(*) from enrichment.inbox where state = 'applied'") > 0
        assert lab.one("select count(*) from analytics.dim_contacts") == 12
        assert {row.provider for row in lab.reconcile().values()} >= {"pronto", "apollo"}
        lab.assert_books()
        # A repetition is counted by the receiver too.
        health = httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False)
        assert health.status_code == 200


@pytest.mark.parametrize(
    "command", [["status"], ["in-doubt", "list"], ["invariants"], ["refresh", "--dry-run"]]
)
def test_commands_run_as_the_pipeline(
    login: Login,
    command: list[str],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("commands"))
    url = login("enrich_pipeline").render_as_string(hide_password=False)
    monkeypatch.setenv("ENRICH_DATABASE_URL", url)
    assert main.run(command) == 0

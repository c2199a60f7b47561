"""Rules of the accounts that every claim looks up."""

from sqlalchemy import Engine, text

from enrich_pipeline.domain.posting import Account
from enrich_pipeline.store import ledger


def test_accounts_are_made_once_and_looking_for_them_uses_up_no_number(engine: Engine) -> None:
    numbers = text("select last_value from enrichment.accounts_account_id_seq")
    with engine.begin() as conn:
        ledger.open_accounts(conn, "prospeo")
        used = conn.execute(numbers).scalar_one()
        for _ in range(3):
            ledger.open_accounts(conn, "prospeo")
        assert conn.execute(numbers).scalar_one() == used == len(Account)
        ledger.open_accounts(conn, "lance")
        made = "select count(*) from enrichment.accounts where provider = 'lance'"
        assert conn.execute(text(made)).scalar_one() == len(Account)


def test_no_other_table_counts_in_small_numbers(engine: Engine) -> None:
    small = text("""
        select c.relname from pg_sequence as s join pg_class as c on c.oid = s.seqrelid
        join pg_namespace as n on n.oid = c.relnamespace
        where n.nspname in ('crm', 'enrichment', 'analytics') and s.seqmax < 2 ^ 62
    """)
    with engine.connect() as conn:
        assert list(conn.execute(small).scalars()) == ["accounts_account_id_seq"]

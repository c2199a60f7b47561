"""What holds of the tables of schema `analytics` beyond what the database itself knows of them.

Comments, types, keys of tables and what may be null are the database's: `store/catalog.py`. A view
has neither key nor references there, and no column says which words it may hold: that is declared
here, once, for dbt's tests and for the page of the tables alike (`reports/table_docs.py`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from enrich_pipeline.domain.enrichment import Attribute, Field, Outcome, ValueStatus
from enrich_pipeline.domain.posting import EntryType
from enrich_pipeline.store import merge

SCHEMA: Final = "analytics"


@dataclass(frozen=True, slots=True)
class Reference:
    """Every value of a column is one of `table.column`; only rows with `where` are meant."""

    table: str
    column: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class Declared:
    """What is said here of one table.

    `key` and `never_null` are for views, `unique` are columns that no two rows share beside it.
    `words` are the only ones that a column holds where it is not null. `loaded_at` is an SQL
    expression that tells when the last night wrote.
    """

    key: tuple[str, ...] = ()
    never_null: tuple[str, ...] = ()
    unique: tuple[str, ...] = ()
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    refers: Mapping[str, Reference] = field(default_factory=dict)
    loaded_at: str = ""


def _words(words: Iterable[str], *more: str) -> tuple[str, ...]:
    return (*(str(word) for word in words), *more)


_FIELDS: Final = _words(Field)
_FOUND: Final = _words(status for status in ValueStatus if status != ValueStatus.INVALID)
_KNOWN: Final = {f"{of}_status": _FOUND for of in _FIELDS}
_NIGHT: Final = "(date::timestamp at time zone 'UTC')"

DECLARED: Final[Mapping[str, Declared]] = {
    "dim_contacts": Declared(words=_KNOWN, loaded_at="last_refreshed_at"),
    "dim_contact_history": Declared(
        words=_KNOWN,
        # A contact that left the source keeps its history.
        refers={"contact_id": Reference("dim_contacts", "contact_id", where="is_current")},
    ),
    "fct_contact_changes": Declared(
        words={
            "field": _words(
                Attribute, "first_name", "last_name", "full_name", "country_code", "segment"
            ),
            "kind": ("filled", "corrected", "confirmed", "lost", "job_change"),
            "status": _FOUND,
        },
        refers={
            "contact_version_id": Reference("dim_contact_history", "contact_version_id"),
            "observation_id": Reference("fct_field_observations", "observation_id"),
        },
    ),
    "fct_job_changes": Declared(
        key=("contact_version_id",),
        never_null=("contact_id", "changed_at"),
        refers={"contact_version_id": Reference("dim_contact_history", "contact_version_id")},
    ),
    "fct_rejected_answers": Declared(
        key=("answer_id",),
        never_null=("person_id", "contact_ids", "provider", "product", "call_id"),
    ),
    "fct_field_observations": Declared(
        key=("observation_id",),
        never_null=("person_id", "field", "status", "provider", "observed_at", "is_winner"),
        words={
            "field": _words(Attribute),
            "status": _words(ValueStatus),
            "rejected_reason": (*merge.REASONS, "other_person"),
        },
        refers={"attempt_id": Reference("fct_enrichment_attempts", "attempt_id")},
    ),
    "fct_enrichment_attempts": Declared(
        key=("attempt_id",),
        never_null=(
            "person_id", "field", "provider", "waterfall_position", "outcome",
            "cost_micro_credits", "cost_usd", "partition_date", "batch", "dagster_run_id",
        ),
        words={"field": _FIELDS, "outcome": _words(Outcome)},
        loaded_at="requested_at",
    ),
    "fct_credit_ledger": Declared(
        key=("entry_id",),
        never_null=(
            "entry_key", "entry_type", "provider", "debit_account", "credit_account",
            "amount_micro_credits", "amount_usd", "call_id", "occurred_at", "partition_date",
            "batch",
        ),
        unique=("entry_key",),
        words={
            "entry_type": _words(EntryType),
            "cost_source": ("reported", "tariff", "operator"),
        },
        loaded_at="occurred_at",
    ),
    "fct_skips": Declared(
        key=("partition_date", "person_id", "field", "provider"),
        never_null=("reason", "recorded_at"),
        words={"field": _FIELDS},
    ),
    "mart_provider_daily": Declared(
        words={"field": (*_FIELDS, "unassigned")}, loaded_at=_NIGHT
    ),
    "mart_provider_scorecard": Declared(
        key=("date", "provider", "field", "segment"),
        never_null=(
            "asked", "found", "verified", "won", "found_alone", "spend_micro_credits", "spend_usd",
            "spend_usd_never_won",
        ),
        words={"field": _FIELDS},
        loaded_at=_NIGHT,
    ),
    "mart_refresh_daily": Declared(loaded_at=_NIGHT),
    # Comes when the last answer of a night has come, which may take days: of no use as freshness.
    "mart_coverage": Declared(words={"field": _FIELDS}),
}  # fmt: skip

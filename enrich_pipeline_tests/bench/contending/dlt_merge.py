"""A dlt pipeline: four parallelized resources, each a share of the contacts, merged at the end.

Within a resource one request follows another; dlt runs the resources in threads.
"""

from collections.abc import Callable, Iterator
from typing import Any

import dlt  # type: ignore[import-not-found]
import httpx
import psycopg2
from psycopg2.extras import RealDictCursor

from .asking import Night, Waterfall
from .blocking import Mailbox, ask

SHARES = 4
"""As many as the pipeline has batches."""
LOOK_EVERY_SECONDS = 0.05
DATASET, TABLE = "dlt_enriched", "contacts"


def refresh(night: Night) -> None:
    """All shares at once into one table."""
    with (
        psycopg2.connect(night.database, cursor_factory=RealDictCursor) as conn,
        conn.cursor() as cursor,
    ):
        cursor.execute(night.query)
        contacts = [dict(row) for row in cursor]
    pipeline = dlt.pipeline(
        "enrich",
        pipelines_dir="dlt",
        destination=dlt.destinations.postgres(_credentials(night)),
        dataset_name=DATASET,
    )
    with Mailbox(night.receiver_port) as mailbox:
        resources = [
            dlt.resource(
                _share(night, mailbox, number, contacts[number::SHARES]),
                name=f"share_{number}",
                table_name=TABLE,
                write_disposition="merge",
                primary_key="contact_id",
                parallelized=True,
            )
            for number in range(SHARES)
        ]
        pipeline.run(resources).raise_on_failed_jobs()


def _share(
    night: Night, mailbox: Mailbox, number: int, contacts: list[dict[str, Any]]
) -> Callable[[], Iterator[list[dict[str, str | None]]]]:
    def rows() -> Iterator[list[dict[str, str | None]]]:
        waterfall = Waterfall(contacts, night.waterfalls)
        with httpx.Client(timeout=60, trust_env=False) as http:
            for provider in night.chain:
                for call in waterfall.calls(provider):
                    name = f"{number}-{call.number}"
                    answers = ask(night, http, mailbox, call, name, LOOK_EVERY_SECONDS)
                    waterfall.answered(call, answers)
        yield waterfall.rows()

    return rows


def _credentials(night: Night) -> dict[str, Any]:
    """The parts of the address; dlt wants a password and a host in any case."""
    parts = psycopg2.extensions.parse_dsn(night.database)
    return {
        "drivername": "postgresql",
        "database": parts["dbname"],
        "username": parts["user"],
        "password": "none",
        # A folder of sockets is written into an address like this.
        "host": parts["host"].replace("/", "%2F"),
        "port": int(parts["port"]),
    }


if __name__ == "__main__":
    refresh(Night.here())

"""The Dagster job that most people write first: one asset, pandas, one request after another.

Results that come later are looked for once a second, and the table is written when all is done.
"""

import dagster as dg
import httpx
import pandas as pd
import sqlalchemy

from .asking import Night, Waterfall
from .blocking import Mailbox, ask

LOOK_EVERY_SECONDS = 1.0
TABLE = "naive_contacts"


@dg.asset
def naive_contacts(context: dg.AssetExecutionContext) -> None:
    """Contacts with what the providers know of them."""
    night = Night.here()
    engine = sqlalchemy.create_engine(night.database.replace("postgresql:", "postgresql+psycopg:"))
    contacts = pd.read_sql(night.query, engine)
    records = contacts.to_dict("records")
    waterfall = Waterfall(records, night.waterfalls)  # type: ignore[arg-type]
    with (
        Mailbox(night.receiver_port) as mailbox,
        httpx.Client(timeout=60, trust_env=False) as http,
    ):
        for provider in night.chain:
            for call in waterfall.calls(provider):
                name = str(call.number)
                answers = ask(night, http, mailbox, call, name, LOOK_EVERY_SECONDS)
                waterfall.answered(call, answers)
                context.log.info("%s: %d contacts", provider, len(call.contacts))
    pd.DataFrame(waterfall.rows()).to_sql(TABLE, engine, if_exists="replace", index=False)


if __name__ == "__main__":
    job = dg.define_asset_job("naive_refresh", [naive_contacts])
    definitions = dg.Definitions(assets=[naive_contacts], jobs=[job])
    definitions.resolve_job_def("naive_refresh").execute_in_process()

"""This pipeline without Dagster: plan, a process for each batch, publishing, marts of the day.

It makes the same tables as `enrich refresh`; the receiver of webhooks runs along, as it does there.
"""

import multiprocessing
import os
import sys
import time
from datetime import UTC, date, datetime

from enrich_pipeline.domain.chain import op_chain
from enrich_pipeline.domain.enrichment import Field
from enrich_pipeline.providers import registry
from enrich_pipeline.settings import Settings
from enrich_pipeline.settings import load as load_settings
from enrich_pipeline.store import connection, marts, nights, publish
from enrich_pipeline.waterfall.engine import Partition, Waterfall
from enrich_pipeline.waterfall.planning import plan_night
from enrich_pipeline.webhooks import embedded


def refresh() -> int:
    """Tonight, all of its batches at once; the exit code as `enrich refresh` has it."""
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload([__name__])
    settings = load_settings()
    day = datetime.now(UTC).date()
    receiver = embedded.receiving(
        settings.database_url, list(settings.providers), settings.webhook_public_url
    )
    engine = connection.create_engine(settings.database_url)
    with receiver:
        plan_night(engine, settings.policy, settings.providers, day, None, datetime.now(UTC))
        batches = range(settings.policy.refresh.batches)
        runs = [forkserver.Process(target=drain, args=(day, batch)) for batch in batches]
        for run in runs:
            run.start()
        for run in runs:
            run.join()
    with engine.begin() as conn:
        marts.refresh(conn, [day])
        is_open = nights.progress(conn, day, list(batches)).waiting
    engine.dispose()
    if any(run.exitcode for run in runs):
        return 1
    return 3 if is_open else 0


def drain(day: date, batch: int) -> None:
    """What the run of one batch does."""
    drain_with(load_settings(), day, batch)


def drain_with(settings: Settings, day: date, batch: int) -> None:
    """One batch through the chain and published, in this process."""
    senders = max(terms.concurrency for terms in settings.policy.providers.values())
    engine = connection.create_engine(settings.database_url, pool_size=senders + 3)
    waterfalls = {field.value: settings.policy.waterfall(field) for field in Field}
    partition, chain = Partition(day, batch), op_chain(waterfalls, registry.DEFAULT_ORDER)
    with Waterfall(
        engine,
        settings.policy,
        settings.providers,
        settings.access,
        settings.webhook_public_url,
        f"bench-{os.getpid()}",
        sleep=time.sleep,
    ) as waterfall:
        waterfall.sweep()
        waterfall.reuse(partition)
        for place, provider in enumerate(chain, start=1):
            waterfall.attempt(partition, provider, later=chain[place:])
    publish.publish(engine, settings.policy, day, batch, datetime.now(UTC))
    engine.dispose()


if __name__ == "__main__":
    # Under its own name, which the processes of the batches know it by.
    from enrich_pipeline_tests.bench.contending import engine

    sys.exit(engine.refresh())

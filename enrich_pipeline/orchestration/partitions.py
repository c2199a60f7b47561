"""The two dimensions of a partition: the as-of date and the batch of persons."""

from datetime import date
from typing import cast

import dagster as dg

from enrich_pipeline.domain.policy import RefreshPolicy

DATE = "date"
BATCH = "batch"
TAG = "dagster/partition"
"""Tag of a run: the key of the partition that it is for."""


def by_date(refresh: RefreshPolicy) -> dg.DailyPartitionsDefinition:
    """One partition per UTC day; the end offset makes today one of them."""
    return dg.DailyPartitionsDefinition(refresh.start_date.isoformat(), end_offset=1)


def by_date_and_batch(refresh: RefreshPolicy) -> dg.MultiPartitionsDefinition:
    """Date x batch. Dagster sorts dimensions by name, so keys read `00|2026-11-21`."""
    batches = dg.StaticPartitionsDefinition([batch_key(n) for n in range(refresh.batches)])
    return dg.MultiPartitionsDefinition({DATE: by_date(refresh), BATCH: batches})


def batch_key(batch: int) -> str:
    return f"{batch:02d}"


def key(day: date, batch: int) -> dg.MultiPartitionKey:
    """The key of one partition; never put together by hand."""
    return dg.MultiPartitionKey({DATE: day.isoformat(), BATCH: batch_key(batch)})


def parse(partition_key: str) -> tuple[date, int]:
    """Day and batch of the partition that a run is for."""
    parts = cast(dg.MultiPartitionKey, partition_key).keys_by_dimension
    return date.fromisoformat(parts[DATE]), int(parts[BATCH])


def parse_day(partition_key: str) -> date:
    """Day of the partition of a daily asset."""
    return date.fromisoformat(partition_key)

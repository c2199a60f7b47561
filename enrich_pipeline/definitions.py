"""What Dagster loads: the definitions for the configuration of this environment."""

from enrich_pipeline import settings
from enrich_pipeline.orchestration import build

defs = build.definitions(settings.load().policy)

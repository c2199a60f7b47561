"""What Dagster loads in tests: the definitions, with sensors that look every second."""

from enrich_pipeline.definitions import defs

__all__ = ["defs"]

for _sensor in defs.sensors or ():
    _sensor._min_interval = 1

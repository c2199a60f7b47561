"""Dagster: schedules, shows and scales the work. What was paid is never its business to know."""

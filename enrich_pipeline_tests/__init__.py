"""Tests of enrich_pipeline; the folders mirror the package."""

-- Nothing was ever put off until a moment: what waits has its reason, and pauses are the provider's.
ALTER TABLE enrichment.enrichments DROP COLUMN not_before;

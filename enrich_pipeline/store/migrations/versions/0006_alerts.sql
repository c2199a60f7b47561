CREATE TABLE enrichment.alerts (
    key         text PRIMARY KEY,
    level       text NOT NULL CHECK (level IN ('warning', 'critical')),
    title       text NOT NULL,
    first_seen  timestamptz NOT NULL,
    last_sent   timestamptz,
    sent_level  text CHECK (sent_level IN ('warning', 'critical')),
    resolved_at timestamptz,
    CHECK ((last_sent IS NULL) = (sent_level IS NULL))
);
COMMENT ON TABLE enrichment.alerts IS 'One row per condition that once needed a person: ids and figures, no values of persons';
COMMENT ON COLUMN enrichment.alerts.first_seen IS 'When it was first seen since it was last over';
COMMENT ON COLUMN enrichment.alerts.last_sent IS 'When a message about it last went out; null: none did since it began';
COMMENT ON COLUMN enrichment.alerts.sent_level IS 'The level of that message: one that rises is said at once';
COMMENT ON COLUMN enrichment.alerts.resolved_at IS 'When it was found to be over and that was said; null while it holds';

-- Balances are compared over the last day.
CREATE INDEX balance_readings_recent ON enrichment.balance_readings (provider, taken_at);
COMMENT ON COLUMN enrichment.balance_readings.spent_micro IS 'What the ledger had posted just before the provider was asked';
COMMENT ON COLUMN enrichment.balance_readings.in_flight_micro IS 'What the provider may have charged beyond that by the time it answered: posted meanwhile, held, in doubt, written off';

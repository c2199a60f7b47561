-- What erasing a person leaves behind, and what keeps the person out afterwards.
ALTER TABLE enrichment.persons ADD COLUMN erased_at timestamptz;
COMMENT ON COLUMN enrichment.persons.erased_at IS 'When everything about the person was erased: the id stays, so that the ledger''s lines keep their owner';

ALTER TABLE enrichment.calls ADD COLUMN erased_at timestamptz;
COMMENT ON COLUMN enrichment.calls.erased_at IS 'When somebody in it was erased: never sent again, and what still comes is kept only until it is applied';

ALTER TABLE enrichment.suppressions ADD COLUMN is_erased boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN enrichment.suppressions.is_erased IS 'True: a row that carries this is not even loaded';

CREATE TABLE enrichment.erasures (
    erasure_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_hash  text NOT NULL,
    erased_at     timestamptz NOT NULL,
    persons       integer NOT NULL,
    contacts      integer NOT NULL,
    rows_changed  jsonb NOT NULL,
    open_calls    integer NOT NULL,
    files_done_at timestamptz
);
COMMENT ON TABLE enrichment.erasures IS 'Receipts: one row per erasure, counts only';
COMMENT ON COLUMN enrichment.erasures.request_hash IS 'identity_hash() of what the person was named by';
COMMENT ON COLUMN enrichment.erasures.rows_changed IS 'Rows deleted or emptied, by table';
COMMENT ON COLUMN enrichment.erasures.open_calls IS 'Calls with the person that were under way, in doubt or written off: they keep the provider''s own id of the person until they close';
COMMENT ON COLUMN enrichment.erasures.files_done_at IS 'When the files were cleaned as well; null: that was cut off and is made up for by the next erasure';

CREATE TABLE enrichment.rejects_files (
    path       text PRIMARY KEY,
    rejects    bigint NOT NULL,
    written_at timestamptz NOT NULL
);
COMMENT ON TABLE enrichment.rejects_files IS 'Files with rejected rows that loads have left: cleaned by erasures, removed when they are old';

-- What retention looks for.
CREATE INDEX replies_kept ON enrichment.replies (received_at) WHERE responses IS NOT NULL;
CREATE INDEX inbox_kept ON enrichment.inbox (received_at) WHERE body IS NOT NULL;
CREATE INDEX calls_written_off ON enrichment.calls (closed_at) WHERE state = 'written_off' AND items IS NOT NULL;

-- What an erasure looks for: whose an identifier is, and what was said of somebody. By hash, which
-- takes values of any length and keeps none.
CREATE INDEX contacts_email ON enrichment.contacts USING hash (email);
CREATE INDEX contacts_personal_email ON enrichment.contacts USING hash (personal_email);
CREATE INDEX contacts_linkedin_slug ON enrichment.contacts USING hash (linkedin_slug);
CREATE INDEX contacts_phone ON enrichment.contacts USING hash (phone);
CREATE INDEX observations_identifier ON enrichment.observations USING hash (value)
    WHERE attribute IN ('work_email', 'personal_email', 'phone', 'linkedin_url');
CREATE INDEX contact_persons_person ON enrichment.contact_persons (person_id);
CREATE INDEX dim_contact_history_person ON analytics.dim_contact_history (person_id);

-- The planner keeps samples of columns. Of these it needs none, and what comes late for somebody who
-- was erased must not stay in one.
ALTER TABLE enrichment.calls ALTER COLUMN items SET STATISTICS 0, ALTER COLUMN request_body SET STATISTICS 0;
ALTER TABLE enrichment.charge_lines ALTER COLUMN external_id SET STATISTICS 0;
ALTER TABLE enrichment.replies ALTER COLUMN responses SET STATISTICS 0;
ALTER TABLE enrichment.inbox ALTER COLUMN body SET STATISTICS 0;

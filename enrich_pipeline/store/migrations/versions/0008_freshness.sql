-- What a night's selection reads of every contact, a sixth as wide as the two tables that it comes
-- from, and joined already: ten million contacts are counted and ranked in seconds. Holds no verdict:
-- what is stale follows from the configuration of the moment.
CREATE TABLE enrichment.freshness (
    contact_id             text PRIMARY KEY,
    person_id              bigint,
    created_at             timestamptz,
    work_email_at          timestamptz,
    phone_at               timestamptz,
    personal_email_at      timestamptz,
    profile_at             timestamptz,
    work_email             boolean,
    phone                  boolean,
    personal_email         boolean,
    profile                boolean,
    is_work_email_outdated boolean NOT NULL,
    personal_email_consent boolean NOT NULL,
    weight                 numeric
-- No index names a column that changes: an update stays on its page, where there is room.
) WITH (fillfactor = 85);
COMMENT ON TABLE enrichment.freshness IS 'One row per contact of analytics.dim_contacts: which fields are filled and how old they are, and what ranks the contact. Kept by triggers';
COMMENT ON COLUMN enrichment.freshness.work_email IS 'Whether the value is verified; null when there is none';
COMMENT ON COLUMN enrichment.freshness.phone IS 'As work_email';
COMMENT ON COLUMN enrichment.freshness.personal_email IS 'As work_email';
COMMENT ON COLUMN enrichment.freshness.profile IS 'As work_email; there is one when title and employer are known';

CREATE VIEW enrichment.freshness_now AS
SELECT d.contact_id, c.person_id, c.created_at,
    d.work_email_observed_at AS work_email_at,
    d.phone_observed_at AS phone_at,
    d.personal_email_observed_at AS personal_email_at,
    d.profile_observed_at AS profile_at,
    CASE WHEN d.work_email IS NOT NULL THEN coalesce(d.work_email_status = 'verified', false) END AS work_email,
    CASE WHEN d.phone IS NOT NULL THEN coalesce(d.phone_status = 'verified', false) END AS phone,
    CASE WHEN d.personal_email IS NOT NULL THEN coalesce(d.personal_email_status = 'verified', false) END AS personal_email,
    CASE WHEN d.job_title IS NOT NULL AND d.company_name IS NOT NULL THEN coalesce(d.profile_status = 'verified', false) END AS profile,
    d.is_work_email_outdated, c.personal_email_consent, c.weight
FROM analytics.dim_contacts AS d JOIN enrichment.contacts AS c USING (contact_id);
COMMENT ON VIEW enrichment.freshness_now IS 'What enrichment.freshness has to hold';

INSERT INTO enrichment.freshness SELECT * FROM enrichment.freshness_now;

-- Whoever writes a row of dim_contacts has locked its contact before, and so has who changes that: of
-- two at once the second one sees what the first one did.
--
-- Rows are looked up one by one: what was planned for a statement about millions must not be used
-- for the next one, about ten, and read everything.
CREATE FUNCTION enrichment.note_freshness() RETURNS trigger
LANGUAGE plpgsql SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
BEGIN
    INSERT INTO enrichment.freshness AS f
    SELECT v.* FROM written AS w JOIN enrichment.freshness_now AS v USING (contact_id) ORDER BY contact_id
    ON CONFLICT (contact_id) DO UPDATE
    SET (person_id, created_at, work_email_at, phone_at, personal_email_at, profile_at, work_email, phone,
         personal_email, profile, is_work_email_outdated, personal_email_consent, weight)
      = (excluded.person_id, excluded.created_at, excluded.work_email_at, excluded.phone_at,
         excluded.personal_email_at, excluded.profile_at, excluded.work_email, excluded.phone,
         excluded.personal_email, excluded.profile, excluded.is_work_email_outdated,
         excluded.personal_email_consent, excluded.weight)
    WHERE f IS DISTINCT FROM excluded;
    RETURN NULL;
END $$;

CREATE FUNCTION enrichment.forget_freshness() RETURNS trigger
LANGUAGE plpgsql SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
BEGIN
    DELETE FROM enrichment.freshness AS f USING removed AS r WHERE f.contact_id = r.contact_id;
    RETURN NULL;
END $$;

CREATE TRIGGER freshness_of_inserted AFTER INSERT ON analytics.dim_contacts
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION enrichment.note_freshness();
CREATE TRIGGER freshness_of_updated AFTER UPDATE ON analytics.dim_contacts
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION enrichment.note_freshness();
CREATE TRIGGER freshness_of_deleted AFTER DELETE ON analytics.dim_contacts
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION enrichment.forget_freshness();
CREATE TRIGGER freshness_of_inserted AFTER INSERT ON enrichment.contacts
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION enrichment.note_freshness();
CREATE TRIGGER freshness_of_updated AFTER UPDATE ON enrichment.contacts
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION enrichment.note_freshness();
CREATE TRIGGER freshness_of_deleted AFTER DELETE ON enrichment.contacts
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION enrichment.forget_freshness();

COMMENT ON VIEW analytics.fct_skips IS 'One row per night, person, field and provider that was not asked, or may not be bought. Of a night with more contacts than its cap only who ranked high enough to be looked at';

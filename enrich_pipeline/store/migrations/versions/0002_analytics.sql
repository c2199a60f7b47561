CREATE SCHEMA IF NOT EXISTS analytics;
COMMENT ON SCHEMA analytics IS 'What BI reads: contacts as now known and as known before, where every value came from, what every credit bought. Times are UTC, credits are integer micro-credits of the provider''s own unit (1 credit = 1,000,000; agntdata''s unit is one US cent), USD is exact numeric';

-- ---------------------------------------------------------------------------------------------
-- contacts
-- ---------------------------------------------------------------------------------------------
CREATE TABLE analytics.dim_contacts (
    contact_id                 text PRIMARY KEY,
    person_id                  bigint,
    first_name                 text,
    last_name                  text,
    full_name                  text,
    work_email                 text,
    work_email_status          text,
    work_email_source          text,
    work_email_observed_at     timestamptz,
    is_work_email_outdated     boolean NOT NULL DEFAULT false,
    phone                      text,
    phone_status               text,
    phone_source               text,
    phone_observed_at          timestamptz,
    personal_email             text,
    personal_email_status      text,
    personal_email_source      text,
    personal_email_observed_at timestamptz,
    job_title                  text,
    company_name               text,
    company_domain             text,
    linkedin_url               text,
    location                   text,
    country_code               text,
    segment                    text,
    profile_status             text,
    profile_source             text,
    profile_observed_at        timestamptz,
    last_refreshed_at          timestamptz,
    next_refresh_at            timestamptz,
    is_suppressed              boolean NOT NULL DEFAULT false
);
CREATE INDEX dim_contacts_person ON analytics.dim_contacts (person_id);
CREATE INDEX dim_contacts_work_email ON analytics.dim_contacts (work_email);
CREATE INDEX dim_contacts_company_domain ON analytics.dim_contacts (company_domain);
CREATE INDEX dim_contacts_next_refresh ON analytics.dim_contacts (next_refresh_at);

COMMENT ON TABLE analytics.dim_contacts IS 'One row per contact of the source: the best value now known of each field, whoever reported it';
COMMENT ON COLUMN analytics.dim_contacts.contact_id IS 'Id of the contact in the source';
COMMENT ON COLUMN analytics.dim_contacts.person_id IS 'The human behind the contact: contacts of one person share everything that was bought';
COMMENT ON COLUMN analytics.dim_contacts.first_name IS 'First name as the source has it, cleaned';
COMMENT ON COLUMN analytics.dim_contacts.last_name IS 'Last name as the source has it, cleaned';
COMMENT ON COLUMN analytics.dim_contacts.full_name IS 'Full name as the source has it, cleaned';
COMMENT ON COLUMN analytics.dim_contacts.work_email IS 'Best known work e-mail address';
COMMENT ON COLUMN analytics.dim_contacts.work_email_status IS 'How far its source vouches for it: verified, catch_all, unverified, unknown';
COMMENT ON COLUMN analytics.dim_contacts.work_email_source IS 'Provider that reported it, or crm';
COMMENT ON COLUMN analytics.dim_contacts.work_email_observed_at IS 'When the source established it; null where the source does not say';
COMMENT ON COLUMN analytics.dim_contacts.is_work_email_outdated IS 'True when the work e-mail belongs to an employer that the person has left';
COMMENT ON COLUMN analytics.dim_contacts.phone IS 'Best known phone number, E.164';
COMMENT ON COLUMN analytics.dim_contacts.phone_status IS 'How far its source vouches for it: verified, catch_all, unverified, unknown';
COMMENT ON COLUMN analytics.dim_contacts.phone_source IS 'Provider that reported it, or crm';
COMMENT ON COLUMN analytics.dim_contacts.phone_observed_at IS 'When the source established it; null where the source does not say';
COMMENT ON COLUMN analytics.dim_contacts.personal_email IS 'Best known private e-mail address; bought values appear only on contacts with consent';
COMMENT ON COLUMN analytics.dim_contacts.personal_email_status IS 'How far its source vouches for it: verified, catch_all, unverified, unknown';
COMMENT ON COLUMN analytics.dim_contacts.personal_email_source IS 'Provider that reported it, or crm';
COMMENT ON COLUMN analytics.dim_contacts.personal_email_observed_at IS 'When the source established it; null where the source does not say';
COMMENT ON COLUMN analytics.dim_contacts.job_title IS 'Job title at company_name';
COMMENT ON COLUMN analytics.dim_contacts.company_name IS 'Current employer';
COMMENT ON COLUMN analytics.dim_contacts.company_domain IS 'Registrable domain of the current employer';
COMMENT ON COLUMN analytics.dim_contacts.linkedin_url IS 'Address of the person''s LinkedIn profile; the source''s own is kept where it has one';
COMMENT ON COLUMN analytics.dim_contacts.location IS 'Where the person works, as reported';
COMMENT ON COLUMN analytics.dim_contacts.country_code IS 'Country of the contact in the source, ISO 3166 alpha-2';
COMMENT ON COLUMN analytics.dim_contacts.segment IS 'Segment of the contact in the source';
COMMENT ON COLUMN analytics.dim_contacts.profile_status IS 'How far its source vouches for title and employer: verified, catch_all, unverified, unknown';
COMMENT ON COLUMN analytics.dim_contacts.profile_source IS 'Provider that reported title and employer, or crm';
COMMENT ON COLUMN analytics.dim_contacts.profile_observed_at IS 'When title and employer were established; null where the source does not say';
COMMENT ON COLUMN analytics.dim_contacts.last_refreshed_at IS 'When a provider last answered about this person; null when none ever did';
COMMENT ON COLUMN analytics.dim_contacts.next_refresh_at IS 'When the first field may be bought anew: it becomes stale, or a known miss expires; past when that is due now, null when nothing will be bought';
COMMENT ON COLUMN analytics.dim_contacts.is_suppressed IS 'True when the person must not be enriched';

-- The key of the constraint below. Without the extension btree_gist, which not every server has,
-- only ranges can stand in an exclusion constraint. Halved so that the upper bound fits.
CREATE FUNCTION analytics.contact_key(contact_id text) RETURNS int8range
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT int8range(hashtextextended(contact_id, 0) >> 1, hashtextextended(contact_id, 0) >> 1, '[]')
$$;
COMMENT ON FUNCTION analytics.contact_key(text) IS 'A contact as a one-number range of its 63-bit hash, for the constraint against overlapping versions';

CREATE TABLE analytics.dim_contact_history (
    contact_version_id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    contact_id                 text NOT NULL,
    person_id                  bigint,
    first_name                 text,
    last_name                  text,
    full_name                  text,
    work_email                 text,
    work_email_status          text,
    work_email_source          text,
    work_email_observed_at     timestamptz,
    is_work_email_outdated     boolean NOT NULL,
    phone                      text,
    phone_status               text,
    phone_source               text,
    phone_observed_at          timestamptz,
    personal_email             text,
    personal_email_status      text,
    personal_email_source      text,
    personal_email_observed_at timestamptz,
    job_title                  text,
    company_name               text,
    company_domain             text,
    linkedin_url               text,
    location                   text,
    country_code               text,
    segment                    text,
    profile_status             text,
    profile_source             text,
    profile_observed_at        timestamptz,
    is_suppressed              boolean NOT NULL,
    changed_fields             text[] NOT NULL,
    valid_from                 timestamptz NOT NULL,
    valid_to                   timestamptz,
    is_current                 boolean GENERATED ALWAYS AS (valid_to IS NULL) STORED,
    is_job_change              boolean NOT NULL DEFAULT false,
    CHECK (valid_from < valid_to),
    CONSTRAINT dim_contact_history_no_overlap EXCLUDE USING gist (
        analytics.contact_key(contact_id) WITH &&, tstzrange(valid_from, valid_to) WITH &&)
);
CREATE INDEX dim_contact_history_contact ON analytics.dim_contact_history (contact_id, valid_from);
CREATE UNIQUE INDEX dim_contact_history_one_current ON analytics.dim_contact_history (contact_id) WHERE valid_to IS NULL;
CREATE INDEX dim_contact_history_company_domain ON analytics.dim_contact_history (company_domain);
CREATE INDEX dim_contact_history_job_changes ON analytics.dim_contact_history (valid_from) WHERE is_job_change;
-- Versions come in the order of time, which a block range index needs and hardly costs anything.
CREATE INDEX dim_contact_history_valid_from ON analytics.dim_contact_history USING brin (valid_from) WITH (autosummarize = on);

COMMENT ON TABLE analytics.dim_contact_history IS 'One row per contact and version (SCD2): what was known from valid_from until just before valid_to. Versions of a contact never overlap';
COMMENT ON COLUMN analytics.dim_contact_history.contact_version_id IS 'Id of the version';
COMMENT ON COLUMN analytics.dim_contact_history.changed_fields IS 'Columns of this table that differ from the version before; of a first version, those that have a value. Who changed each value is in fct_contact_changes';
COMMENT ON COLUMN analytics.dim_contact_history.valid_from IS 'From this moment on (included) this was known';
COMMENT ON COLUMN analytics.dim_contact_history.valid_to IS 'Until this moment (excluded); null: still';
COMMENT ON COLUMN analytics.dim_contact_history.is_current IS 'True for the one open version of a contact';
COMMENT ON COLUMN analytics.dim_contact_history.is_job_change IS 'True when this version shows another employer than the version before, by a later sighting';
-- The values mean what they mean in dim_contacts.
DO $$
DECLARE shared record;
BEGIN
    FOR shared IN
        SELECT history.attname AS name, col_description(dim.attrelid, dim.attnum) AS comment
        FROM pg_attribute AS history
        JOIN pg_attribute AS dim ON dim.attrelid = 'analytics.dim_contacts'::regclass AND dim.attname = history.attname
        WHERE history.attrelid = 'analytics.dim_contact_history'::regclass AND history.attnum > 0
    LOOP
        EXECUTE format('COMMENT ON COLUMN analytics.dim_contact_history.%I IS %L', shared.name, shared.comment);
    END LOOP;
END $$;

CREATE FUNCTION analytics.contacts_as_of(moment timestamptz) RETURNS SETOF analytics.dim_contact_history
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT h.* FROM analytics.dim_contact_history AS h
    WHERE h.valid_from <= moment AND (h.valid_to > moment OR h.valid_to IS NULL)
$$;
COMMENT ON FUNCTION analytics.contacts_as_of(timestamptz) IS 'What was known at that moment: the version of each contact that was valid then, one row per contact that existed. Filters on contact_id and company_domain use indexes';

CREATE TABLE analytics.fct_contact_changes (
    contact_version_id bigint NOT NULL,
    field              text NOT NULL,
    contact_id         text NOT NULL,
    kind               text NOT NULL CHECK (kind IN ('filled', 'corrected', 'confirmed', 'lost', 'job_change')),
    old_value          text,
    new_value          text,
    status             text,
    source             text,
    observation_id     bigint,
    changed_at         timestamptz NOT NULL,
    partition_date     date,
    PRIMARY KEY (contact_version_id, field)
);
CREATE INDEX fct_contact_changes_contact ON analytics.fct_contact_changes (contact_id, changed_at);
CREATE INDEX fct_contact_changes_night ON analytics.fct_contact_changes (partition_date, kind, field);
-- Rows come in the order of time.
CREATE INDEX fct_contact_changes_changed_at ON analytics.fct_contact_changes USING brin (changed_at) WITH (autosummarize = on);
COMMENT ON TABLE analytics.fct_contact_changes IS 'One row per version of a contact and field whose value changed or was confirmed in it. Of a first version only what providers brought: what the source came with is no change';
COMMENT ON COLUMN analytics.fct_contact_changes.contact_version_id IS 'The version that began with the change, in dim_contact_history';
COMMENT ON COLUMN analytics.fct_contact_changes.field IS 'What changed: work_email, phone, personal_email, job_title, company_name, company_domain, linkedin_url, location, first_name, last_name, full_name, country_code or segment';
COMMENT ON COLUMN analytics.fct_contact_changes.contact_id IS 'Whose value';
COMMENT ON COLUMN analytics.fct_contact_changes.kind IS 'filled: there was none before. corrected: another value. confirmed: a provider established the same value anew, later or better verified. lost: nobody vouches for one any more. job_change: part of a move to another employer';
COMMENT ON COLUMN analytics.fct_contact_changes.old_value IS 'Value of the version before; null where it had none';
COMMENT ON COLUMN analytics.fct_contact_changes.new_value IS 'Value of this version; null where it has none';
COMMENT ON COLUMN analytics.fct_contact_changes.status IS 'How far the source vouches for the new value: verified, catch_all, unverified, unknown; null where it says nothing';
COMMENT ON COLUMN analytics.fct_contact_changes.source IS 'Provider that reported the new value, or crm; null where there is no new value';
COMMENT ON COLUMN analytics.fct_contact_changes.observation_id IS 'The observation that made the change, in fct_field_observations; null where the source of the contacts made it or the value is gone';
COMMENT ON COLUMN analytics.fct_contact_changes.changed_at IS 'When it became known: valid_from of the version';
COMMENT ON COLUMN analytics.fct_contact_changes.partition_date IS 'The night whose call brought the observation; null without one';

CREATE VIEW analytics.fct_job_changes AS
SELECT
    h.contact_version_id,
    h.contact_id,
    h.person_id,
    h.full_name,
    h.valid_from AS changed_at,
    h.profile_source AS source,
    h.profile_observed_at AS observed_at,
    before.job_title AS old_job_title,
    before.company_name AS old_company_name,
    before.company_domain AS old_company_domain,
    before.work_email AS old_work_email,
    h.job_title,
    h.company_name,
    h.company_domain,
    CASE WHEN NOT d.is_work_email_outdated THEN d.work_email END AS work_email,
    h.segment
FROM analytics.dim_contact_history AS h
JOIN analytics.dim_contact_history AS before ON before.contact_id = h.contact_id AND before.valid_to = h.valid_from
LEFT JOIN analytics.dim_contacts AS d ON d.contact_id = h.contact_id
WHERE h.is_job_change;
COMMENT ON VIEW analytics.fct_job_changes IS 'One row per contact and move to another employer: a person to congratulate, a seat that became free. The old work e-mail is outdated from then on and a new one is looked for in the next night';
COMMENT ON COLUMN analytics.fct_job_changes.contact_version_id IS 'The version that first shows the new employer, in dim_contact_history';
COMMENT ON COLUMN analytics.fct_job_changes.contact_id IS 'Who moved';
COMMENT ON COLUMN analytics.fct_job_changes.person_id IS 'The human behind the contact: several contacts of one person move together';
COMMENT ON COLUMN analytics.fct_job_changes.full_name IS 'Full name as the source had it then';
COMMENT ON COLUMN analytics.fct_job_changes.changed_at IS 'When it became known here';
COMMENT ON COLUMN analytics.fct_job_changes.source IS 'Provider that reported the new employer, or crm';
COMMENT ON COLUMN analytics.fct_job_changes.observed_at IS 'When the source established the new employer';
COMMENT ON COLUMN analytics.fct_job_changes.old_job_title IS 'Job title at the employer before';
COMMENT ON COLUMN analytics.fct_job_changes.old_company_name IS 'The employer before';
COMMENT ON COLUMN analytics.fct_job_changes.old_company_domain IS 'Registrable domain of the employer before';
COMMENT ON COLUMN analytics.fct_job_changes.old_work_email IS 'Work e-mail that was known before the move';
COMMENT ON COLUMN analytics.fct_job_changes.job_title IS 'Job title at the new employer';
COMMENT ON COLUMN analytics.fct_job_changes.company_name IS 'The new employer';
COMMENT ON COLUMN analytics.fct_job_changes.company_domain IS 'Registrable domain of the new employer';
COMMENT ON COLUMN analytics.fct_job_changes.work_email IS 'Work e-mail known today; null while the only known one belongs to an employer that the person has left';
COMMENT ON COLUMN analytics.fct_job_changes.segment IS 'Segment of the contact then';

-- ---------------------------------------------------------------------------------------------
-- facts: views over the operations. A person that was merged into another shows as the survivor:
-- observations follow a merge at once; what may stay behind is added person by person below, so that
-- a filter on person_id reaches an index.
-- ---------------------------------------------------------------------------------------------
CREATE VIEW analytics.fct_field_observations AS
SELECT
    o.observation_id,
    o.person_id,
    o.attribute AS field,
    o.value,
    o.status,
    o.confidence,
    o.provider,
    o.attempt_id,
    o.observed_at,
    o.is_winner,
    o.rejected_reason,
    o.recorded_at,
    o.won_at
FROM enrichment.observations AS o;
COMMENT ON VIEW analytics.fct_field_observations IS 'One row per value that a provider reported, winners and losers';
COMMENT ON COLUMN analytics.fct_field_observations.observation_id IS 'Id of the observation';
COMMENT ON COLUMN analytics.fct_field_observations.person_id IS 'Whom it is about';
COMMENT ON COLUMN analytics.fct_field_observations.field IS 'What was reported: work_email, phone, personal_email, job_title, company_name, company_domain, linkedin_url, location';
COMMENT ON COLUMN analytics.fct_field_observations.value IS 'The value, normalized; null once erased';
COMMENT ON COLUMN analytics.fct_field_observations.status IS 'How far the provider vouches for it: verified, catch_all, unverified, unknown, invalid';
COMMENT ON COLUMN analytics.fct_field_observations.confidence IS 'The provider''s own word or number for its confidence';
COMMENT ON COLUMN analytics.fct_field_observations.provider IS 'Who reported it';
COMMENT ON COLUMN analytics.fct_field_observations.attempt_id IS 'The attempt that it answered; null where nobody had asked for this field';
COMMENT ON COLUMN analytics.fct_field_observations.observed_at IS 'When the provider established the value, never later than its reply';
COMMENT ON COLUMN analytics.fct_field_observations.is_winner IS 'True when it is the value of at least one contact in dim_contacts';
COMMENT ON COLUMN analytics.fct_field_observations.rejected_reason IS 'Why it is not: older, less_verified, former_employer, same_value, incomplete, source_order, crm_kept, locked, no_consent, no_contact, invalid, other_person; null for winners, erased values and what was not published yet';
COMMENT ON COLUMN analytics.fct_field_observations.recorded_at IS 'When it was stored here';
COMMENT ON COLUMN analytics.fct_field_observations.won_at IS 'When it first became the value of a contact; kept when a better one follows; null when it never did';

CREATE VIEW analytics.fct_enrichment_attempts AS
SELECT
    a.attempt_id,
    a.call_id,
    a.shown_person_id AS person_id,
    a.field,
    a.provider,
    a.position AS waterfall_position,
    a.outcome,
    a.requested_at,
    a.responded_at,
    a.cost_micro AS cost_micro_credits,
    (a.cost_usd_micro / 1000000.0)::numeric(18, 6) AS cost_usd,
    a.partition_date,
    lpad(a.batch::text, 2, '0') AS batch,
    a.run_id AS dagster_run_id
FROM (
    SELECT t.*, t.person_id AS shown_person_id
    FROM enrichment.attempts AS t
    WHERE NOT EXISTS (
        SELECT FROM enrichment.persons AS p WHERE p.person_id = t.person_id AND p.merged_into IS NOT NULL)
    UNION ALL
    SELECT t.*, p.merged_into
    FROM enrichment.persons AS p
    JOIN enrichment.attempts AS t ON t.person_id = p.person_id
    WHERE p.merged_into IS NOT NULL
) AS a;
COMMENT ON VIEW analytics.fct_enrichment_attempts IS 'One row per attempt: one provider asked once for one field of one person, or one planned field answered by reuse';
COMMENT ON COLUMN analytics.fct_enrichment_attempts.attempt_id IS 'Id of the attempt';
COMMENT ON COLUMN analytics.fct_enrichment_attempts.call_id IS 'The HTTP request that asked; null for reused';
COMMENT ON COLUMN analytics.fct_enrichment_attempts.person_id IS 'Whom it was about';
COMMENT ON COLUMN analytics.fct_enrichment_attempts.field IS 'What was asked for: work_email, phone, personal_email, profile';
COMMENT ON COLUMN analytics.fct_enrichment_attempts.provider IS 'Who was asked; for reused, whose answer was used again';
COMMENT ON COLUMN analytics.fct_enrichment_attempts.waterfall_position IS 'Place of the provider in the waterfall of the field, from 1';
COMMENT ON COLUMN analytics.fct_enrichment_attempts.outcome IS 'found, not_found, other_person, invalid_input, error, in_doubt, written_off, pending or reused';
COMMENT ON COLUMN analytics.fct_enrichment_attempts.requested_at IS 'When the request was sent; null for reused';
COMMENT ON COLUMN analytics.fct_enrichment_attempts.responded_at IS 'When the answer came';
COMMENT ON COLUMN analytics.fct_enrichment_attempts.cost_micro_credits IS 'What it cost, in micro-credits of the provider''s unit; a product that answers several fields is booked on one of them';
COMMENT ON COLUMN analytics.fct_enrichment_attempts.cost_usd IS 'The same in US dollars at the rate frozen on the call';
COMMENT ON COLUMN analytics.fct_enrichment_attempts.partition_date IS 'The night that asked';
COMMENT ON COLUMN analytics.fct_enrichment_attempts.batch IS 'The batch that asked, as the two-digit partition key';
COMMENT ON COLUMN analytics.fct_enrichment_attempts.dagster_run_id IS 'The Dagster run that asked';

CREATE VIEW analytics.fct_credit_ledger AS
SELECT
    l.entry_id,
    l.entry_key,
    l.entry_type,
    l.provider,
    debit.provider || ':' || debit.kind AS debit_account,
    credit.provider || ':' || credit.kind AS credit_account,
    l.amount_micro AS amount_micro_credits,
    (l.amount_usd_micro / 1000000.0)::numeric(18, 6) AS amount_usd,
    l.cost_source,
    l.call_id,
    l.occurred_at,
    l.partition_date,
    lpad(l.batch::text, 2, '0') AS batch
FROM enrichment.ledger_entries AS l
JOIN enrichment.accounts AS debit ON debit.account_id = l.debit_account
JOIN enrichment.accounts AS credit ON credit.account_id = l.credit_account;
COMMENT ON VIEW analytics.fct_credit_ledger IS 'One row per ledger entry, append-only: amount moves from credit_account to debit_account. Spent = post + doubt_post + recover + overage - recover_release';
COMMENT ON COLUMN analytics.fct_credit_ledger.entry_id IS 'Id of the entry';
COMMENT ON COLUMN analytics.fct_credit_ledger.entry_key IS 'What makes the entry unique: call, settlement, kind';
COMMENT ON COLUMN analytics.fct_credit_ledger.entry_type IS 'hold, post, release, doubt, doubt_post, doubt_release, write_off, recover, recover_release, overage';
COMMENT ON COLUMN analytics.fct_credit_ledger.provider IS 'Whose credits';
COMMENT ON COLUMN analytics.fct_credit_ledger.debit_account IS 'Account that receives: provider:kind, kinds available, held, in_doubt, spent, written_off, overage_due';
COMMENT ON COLUMN analytics.fct_credit_ledger.credit_account IS 'Account that gives, named the same way';
COMMENT ON COLUMN analytics.fct_credit_ledger.amount_micro_credits IS 'Micro-credits of the provider''s unit, above 0';
COMMENT ON COLUMN analytics.fct_credit_ledger.amount_usd IS 'The same in US dollars at the rate frozen on the call';
COMMENT ON COLUMN analytics.fct_credit_ledger.cost_source IS 'Who says so: reported by the provider, our tariff, an operator; null for holds and what undoes them';
COMMENT ON COLUMN analytics.fct_credit_ledger.call_id IS 'The HTTP request that it is about';
COMMENT ON COLUMN analytics.fct_credit_ledger.occurred_at IS 'When it was booked';
COMMENT ON COLUMN analytics.fct_credit_ledger.partition_date IS 'The night that the call belongs to';
COMMENT ON COLUMN analytics.fct_credit_ledger.batch IS 'The batch that the call belongs to, as the two-digit partition key';

CREATE VIEW analytics.fct_skips AS
SELECT
    s.partition_date,
    s.shown_person_id AS person_id,
    s.field,
    s.provider,
    s.reason,
    s.recorded_at
FROM (
    SELECT k.*, k.person_id AS shown_person_id
    FROM enrichment.skips AS k
    WHERE NOT EXISTS (
        SELECT FROM enrichment.persons AS p WHERE p.person_id = k.person_id AND p.merged_into IS NOT NULL)
    UNION ALL
    -- Of one night, persons that became one may have been skipped alike: shown once.
    (SELECT DISTINCT ON (k.partition_date, p.merged_into, k.field, k.provider) k.*, p.merged_into
    FROM enrichment.persons AS p
    JOIN enrichment.skips AS k ON k.person_id = p.person_id
    WHERE p.merged_into IS NOT NULL AND NOT EXISTS (
        SELECT FROM enrichment.skips AS own
        WHERE (own.partition_date, own.person_id, own.field, own.provider)
            = (k.partition_date, p.merged_into, k.field, k.provider))
    ORDER BY k.partition_date, p.merged_into, k.field, k.provider, k.recorded_at)
) AS s;
COMMENT ON VIEW analytics.fct_skips IS 'One row per night, person, field and provider that was not asked, or may not be bought';
COMMENT ON COLUMN analytics.fct_skips.partition_date IS 'The night';
COMMENT ON COLUMN analytics.fct_skips.person_id IS 'Who';
COMMENT ON COLUMN analytics.fct_skips.field IS 'What would have been asked for';
COMMENT ON COLUMN analytics.fct_skips.provider IS 'Who was not asked; * where the whole field is blocked';
COMMENT ON COLUMN analytics.fct_skips.reason IS 'Why: not eligible, no consent, suppressed, budget, unavailable, known miss, dearer than the cap and others, as snake_case words';
COMMENT ON COLUMN analytics.fct_skips.recorded_at IS 'When it was decided';

CREATE VIEW analytics.fct_rejected_answers AS
SELECT
    l.line_id AS answer_id,
    coalesce(p.merged_into, l.person_id) AS person_id,
    ARRAY(
        SELECT c.contact_id FROM enrichment.contacts AS c
        WHERE c.person_id = coalesce(p.merged_into, l.person_id) AND c.removed_at IS NULL
        ORDER BY c.contact_id
    ) AS contact_ids,
    l.provider,
    l.product,
    l.reason,
    l.external_id AS reported_person_id,
    said.work_email AS reported_work_email,
    said.phone AS reported_phone,
    said.linkedin_url AS reported_linkedin_url,
    said.job_title AS reported_job_title,
    said.company_name AS reported_company_name,
    said.observations,
    l.cost_micro AS cost_micro_credits,
    (l.cost_usd_micro / 1000000.0)::numeric(18, 6) AS cost_usd,
    l.answered_at,
    c.partition_date,
    l.call_id
FROM enrichment.charge_lines AS l
JOIN enrichment.calls AS c ON c.call_id = l.call_id
LEFT JOIN enrichment.persons AS p ON p.person_id = l.person_id AND p.merged_into IS NOT NULL
CROSS JOIN LATERAL (
    SELECT
        min(o.value) FILTER (WHERE o.attribute = 'work_email') AS work_email,
        min(o.value) FILTER (WHERE o.attribute = 'phone') AS phone,
        min(o.value) FILTER (WHERE o.attribute = 'linkedin_url') AS linkedin_url,
        min(o.value) FILTER (WHERE o.attribute = 'job_title') AS job_title,
        min(o.value) FILTER (WHERE o.attribute = 'company_name') AS company_name,
        count(*) AS observations
    FROM enrichment.observations AS o
    WHERE o.line_id = l.line_id
) AS said
WHERE l.verdict = 'other_person';
COMMENT ON VIEW analytics.fct_rejected_answers IS 'One row per paid answer that was about somebody else than was asked for: never merged, listed for a person to judge';
COMMENT ON COLUMN analytics.fct_rejected_answers.answer_id IS 'Id of the answer: one person and product of one call';
COMMENT ON COLUMN analytics.fct_rejected_answers.person_id IS 'Who was asked for';
COMMENT ON COLUMN analytics.fct_rejected_answers.contact_ids IS 'Contacts of that person in the source today';
COMMENT ON COLUMN analytics.fct_rejected_answers.provider IS 'Who answered';
COMMENT ON COLUMN analytics.fct_rejected_answers.product IS 'What was bought';
COMMENT ON COLUMN analytics.fct_rejected_answers.reason IS 'What contradicts what was sent: name, linkedin or provider_id; match_was_other_person where an earlier answer of the same request did';
COMMENT ON COLUMN analytics.fct_rejected_answers.reported_person_id IS 'By which id the provider speaks of whom it found';
COMMENT ON COLUMN analytics.fct_rejected_answers.reported_work_email IS 'Work e-mail that it reported; null once erased';
COMMENT ON COLUMN analytics.fct_rejected_answers.reported_phone IS 'Phone number that it reported; null once erased';
COMMENT ON COLUMN analytics.fct_rejected_answers.reported_linkedin_url IS 'LinkedIn profile that it reported; null once erased';
COMMENT ON COLUMN analytics.fct_rejected_answers.reported_job_title IS 'Job title that it reported; null once erased';
COMMENT ON COLUMN analytics.fct_rejected_answers.reported_company_name IS 'Employer that it reported; null once erased';
COMMENT ON COLUMN analytics.fct_rejected_answers.observations IS 'Values that it reported, those of other fields included; in fct_field_observations with rejected_reason other_person';
COMMENT ON COLUMN analytics.fct_rejected_answers.cost_micro_credits IS 'What it cost, in micro-credits of the provider''s unit';
COMMENT ON COLUMN analytics.fct_rejected_answers.cost_usd IS 'The same in US dollars at the rate frozen on the call';
COMMENT ON COLUMN analytics.fct_rejected_answers.answered_at IS 'When the answer came';
COMMENT ON COLUMN analytics.fct_rejected_answers.partition_date IS 'The night that asked';
COMMENT ON COLUMN analytics.fct_rejected_answers.call_id IS 'The HTTP request that asked';

-- ---------------------------------------------------------------------------------------------
-- marts
-- ---------------------------------------------------------------------------------------------
CREATE TABLE analytics.mart_provider_daily (
    date                date NOT NULL,
    provider            text NOT NULL,
    field               text NOT NULL,
    attempts            bigint NOT NULL,
    found               bigint NOT NULL,
    not_found           bigint NOT NULL,
    verified            bigint NOT NULL,
    reused              bigint NOT NULL,
    spend_micro_credits bigint NOT NULL,
    spend_usd           numeric(18, 6) NOT NULL,
    usd_per_found       numeric(18, 6),
    PRIMARY KEY (date, provider, field)
);
COMMENT ON TABLE analytics.mart_provider_daily IS 'One row per night, provider and field. spend adds up to what the ledger posted for that night and provider; field unassigned holds cost that no field explains';
COMMENT ON COLUMN analytics.mart_provider_daily.date IS 'Partition date of the night';
COMMENT ON COLUMN analytics.mart_provider_daily.provider IS 'Who was asked';
COMMENT ON COLUMN analytics.mart_provider_daily.field IS 'work_email, phone, personal_email, profile, or unassigned';
COMMENT ON COLUMN analytics.mart_provider_daily.attempts IS 'Attempts, reused ones not counted';
COMMENT ON COLUMN analytics.mart_provider_daily.found IS 'Attempts that brought a value of the right person';
COMMENT ON COLUMN analytics.mart_provider_daily.not_found IS 'Attempts that brought none, answers about another person included';
COMMENT ON COLUMN analytics.mart_provider_daily.verified IS 'Attempts that brought a verified value';
COMMENT ON COLUMN analytics.mart_provider_daily.reused IS 'Planned (person, field) answered by an earlier answer of this provider, at no cost';
COMMENT ON COLUMN analytics.mart_provider_daily.spend_micro_credits IS 'Posted, in micro-credits of the provider''s unit; do not sum over providers';
COMMENT ON COLUMN analytics.mart_provider_daily.spend_usd IS 'The same in US dollars at the rates frozen on the calls';
COMMENT ON COLUMN analytics.mart_provider_daily.usd_per_found IS 'spend_usd / found; null when nothing was found';

CREATE VIEW analytics.mart_provider_scorecard AS
SELECT
    partition_date AS date,
    provider,
    field,
    segment,
    sum(asked)::bigint AS asked,
    sum(found)::bigint AS found,
    sum(verified)::bigint AS verified,
    sum(won)::bigint AS won,
    sum(found_alone)::bigint AS found_alone,
    sum(micro)::bigint AS spend_micro_credits,
    (sum(usd_micro) / 1000000)::numeric(18, 6) AS spend_usd,
    (sum(usd_micro) / 1000000 / nullif(sum(verified), 0))::numeric(18, 6) AS usd_per_verified,
    (sum(idle_usd_micro) / 1000000)::numeric(18, 6) AS spend_usd_never_won
FROM enrichment.scorecard_parts
GROUP BY partition_date, provider, field, segment;
COMMENT ON VIEW analytics.mart_provider_scorecard IS 'One row per night, provider, field and segment: what asking this provider was good for. Over segments it adds up to mart_provider_daily, but for cost that no attempt explains';
COMMENT ON COLUMN analytics.mart_provider_scorecard.date IS 'Partition date of the night';
COMMENT ON COLUMN analytics.mart_provider_scorecard.provider IS 'Who was asked';
COMMENT ON COLUMN analytics.mart_provider_scorecard.field IS 'work_email, phone, personal_email or profile';
COMMENT ON COLUMN analytics.mart_provider_scorecard.segment IS 'Segment of the person: that of the first of its contacts, by contact_id, that has one; (none) where none has. As it was when the night was last refreshed';
COMMENT ON COLUMN analytics.mart_provider_scorecard.asked IS 'Attempts, reused ones not counted';
COMMENT ON COLUMN analytics.mart_provider_scorecard.found IS 'Attempts that brought a value of the right person';
COMMENT ON COLUMN analytics.mart_provider_scorecard.verified IS 'Attempts that brought a verified value';
COMMENT ON COLUMN analytics.mart_provider_scorecard.won IS 'Attempts of which a value of this field became the value of a contact, for however long';
COMMENT ON COLUMN analytics.mart_provider_scorecard.found_alone IS 'Found attempts of persons for whom no other provider had reported a usable value of this field up to and with this night: what would be missing without this provider';
COMMENT ON COLUMN analytics.mart_provider_scorecard.spend_micro_credits IS 'Cost of the attempts, in micro-credits of the provider''s unit; do not sum over providers. A product that answers several fields is booked on one of them';
COMMENT ON COLUMN analytics.mart_provider_scorecard.spend_usd IS 'The same in US dollars at the rates frozen on the calls';
COMMENT ON COLUMN analytics.mart_provider_scorecard.usd_per_verified IS 'spend_usd / verified; null when nothing was verified';
COMMENT ON COLUMN analytics.mart_provider_scorecard.spend_usd_never_won IS 'The part of spend_usd that bought nothing that ever became the value of a contact, in any field; charged misses included';

CREATE TABLE analytics.mart_refresh_daily (
    date                           date PRIMARY KEY,
    contacts_stale                 bigint NOT NULL,
    contacts_refreshed             bigint NOT NULL,
    fields_filled                  bigint NOT NULL,
    reused                         bigint NOT NULL,
    work_email_coverage_before     numeric(7, 6),
    work_email_coverage_after      numeric(7, 6),
    phone_coverage_before          numeric(7, 6),
    phone_coverage_after           numeric(7, 6),
    personal_email_coverage_before numeric(7, 6),
    personal_email_coverage_after  numeric(7, 6),
    profile_coverage_before        numeric(7, 6),
    profile_coverage_after         numeric(7, 6),
    spend_usd                      numeric(18, 6) NOT NULL,
    pending                        bigint NOT NULL,
    in_doubt                       bigint NOT NULL
);
COMMENT ON TABLE analytics.mart_refresh_daily IS 'One row per night. Coverage is the share of all contacts, 0 to 1; after is null while the night has open work';
COMMENT ON COLUMN analytics.mart_refresh_daily.date IS 'Partition date of the night';
COMMENT ON COLUMN analytics.mart_refresh_daily.contacts_stale IS 'Contacts with a field worth refreshing when the night was planned, those beyond the cap included';
COMMENT ON COLUMN analytics.mart_refresh_daily.contacts_refreshed IS 'Planned contacts of which at least one field was answered, a miss included';
COMMENT ON COLUMN analytics.mart_refresh_daily.fields_filled IS 'Planned (contact, field) for which a value was found or reused';
COMMENT ON COLUMN analytics.mart_refresh_daily.reused IS 'Planned (person, field) answered by earlier answers, at no cost';
COMMENT ON COLUMN analytics.mart_refresh_daily.work_email_coverage_before IS 'Share of contacts with a work e-mail when the night was planned';
COMMENT ON COLUMN analytics.mart_refresh_daily.work_email_coverage_after IS 'The same when the night''s last open work was closed';
COMMENT ON COLUMN analytics.mart_refresh_daily.phone_coverage_before IS 'Share of contacts with a phone number when the night was planned';
COMMENT ON COLUMN analytics.mart_refresh_daily.phone_coverage_after IS 'The same when the night''s last open work was closed';
COMMENT ON COLUMN analytics.mart_refresh_daily.personal_email_coverage_before IS 'Share of contacts with a private e-mail when the night was planned';
COMMENT ON COLUMN analytics.mart_refresh_daily.personal_email_coverage_after IS 'The same when the night''s last open work was closed';
COMMENT ON COLUMN analytics.mart_refresh_daily.profile_coverage_before IS 'Share of contacts with job title and company when the night was planned';
COMMENT ON COLUMN analytics.mart_refresh_daily.profile_coverage_after IS 'The same when the night''s last open work was closed';
COMMENT ON COLUMN analytics.mart_refresh_daily.spend_usd IS 'Posted over all providers, in US dollars';
COMMENT ON COLUMN analytics.mart_refresh_daily.pending IS '(person, field) of this night that a provider accepted and has not answered';
COMMENT ON COLUMN analytics.mart_refresh_daily.in_doubt IS '(person, field) of this night of which nobody knows whether they were charged';

CREATE TABLE analytics.mart_coverage (
    date     date NOT NULL,
    segment  text NOT NULL,
    field    text NOT NULL,
    contacts bigint NOT NULL,
    filled   bigint NOT NULL,
    verified bigint NOT NULL,
    stale    bigint NOT NULL,
    PRIMARY KEY (date, segment, field)
);
COMMENT ON TABLE analytics.mart_coverage IS 'One row per night, segment of the contacts and field: how many have a value. Counted when the night''s last open work was closed; do not sum over nights';
COMMENT ON COLUMN analytics.mart_coverage.date IS 'Partition date of the night';
COMMENT ON COLUMN analytics.mart_coverage.segment IS 'Segment of the contact then; (none) where it had none';
COMMENT ON COLUMN analytics.mart_coverage.field IS 'work_email, phone, personal_email, or profile: job title and company';
COMMENT ON COLUMN analytics.mart_coverage.contacts IS 'Contacts of the segment';
COMMENT ON COLUMN analytics.mart_coverage.filled IS 'Of them, those with a value';
COMMENT ON COLUMN analytics.mart_coverage.verified IS 'Of them, those with a value that its source verified';
COMMENT ON COLUMN analytics.mart_coverage.stale IS 'Of them, those whose value is missing, outdated, or older than it may be';

-- ---------------------------------------------------------------------------------------------
-- who may read
-- ---------------------------------------------------------------------------------------------
DO $$
BEGIN
    BEGIN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'bi_reader') THEN
            CREATE ROLE bi_reader NOLOGIN;
        END IF;
    EXCEPTION
        -- Roles belong to the server: another database's migration may have been faster.
        WHEN duplicate_object OR unique_violation THEN NULL;
    END;
    GRANT USAGE ON SCHEMA analytics TO bi_reader;
    GRANT SELECT ON ALL TABLES IN SCHEMA analytics TO bi_reader;
    ALTER DEFAULT PRIVILEGES IN SCHEMA analytics GRANT SELECT ON TABLES TO bi_reader;
EXCEPTION
    WHEN insufficient_privilege OR undefined_object THEN
        RAISE WARNING 'role bi_reader could not be created by %', current_user
            USING HINT = 'As an administrator: CREATE ROLE bi_reader NOLOGIN; GRANT USAGE ON SCHEMA analytics TO bi_reader; '
                'GRANT SELECT ON ALL TABLES IN SCHEMA analytics TO bi_reader;';
END $$;

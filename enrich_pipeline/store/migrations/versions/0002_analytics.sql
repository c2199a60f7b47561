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
    profile_status             text,
    profile_source             text,
    profile_observed_at        timestamptz,
    is_suppressed              boolean NOT NULL,
    changed_fields             text[] NOT NULL,
    valid_from                 timestamptz NOT NULL,
    valid_to                   timestamptz,
    is_current                 boolean GENERATED ALWAYS AS (valid_to IS NULL) STORED,
    CHECK (valid_from < valid_to),
    CONSTRAINT dim_contact_history_no_overlap EXCLUDE USING gist (
        analytics.contact_key(contact_id) WITH &&, tstzrange(valid_from, valid_to) WITH &&)
);
CREATE INDEX dim_contact_history_contact ON analytics.dim_contact_history (contact_id, valid_from);
-- Versions come in the order of time, which a block range index needs and hardly costs anything.
CREATE INDEX dim_contact_history_valid_from ON analytics.dim_contact_history USING brin (valid_from);

COMMENT ON TABLE analytics.dim_contact_history IS 'One row per contact and version (SCD2): what was known from valid_from until just before valid_to. Versions of a contact never overlap';
COMMENT ON COLUMN analytics.dim_contact_history.contact_version_id IS 'Id of the version';
COMMENT ON COLUMN analytics.dim_contact_history.changed_fields IS 'Columns of this table that differ from the version before; of a first version, those that have a value';
COMMENT ON COLUMN analytics.dim_contact_history.valid_from IS 'From this moment on (included) this was known';
COMMENT ON COLUMN analytics.dim_contact_history.valid_to IS 'Until this moment (excluded); null: still';
COMMENT ON COLUMN analytics.dim_contact_history.is_current IS 'True for the one open version of a contact';
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

-- ---------------------------------------------------------------------------------------------
-- facts: views over the operations. A person that was merged into another shows as the survivor.
-- ---------------------------------------------------------------------------------------------
CREATE VIEW analytics.fct_field_observations AS
SELECT
    o.observation_id,
    coalesce(p.merged_into, o.person_id) AS person_id,
    o.attribute AS field,
    o.value,
    o.status,
    o.confidence,
    o.provider,
    o.attempt_id,
    o.observed_at,
    o.is_winner,
    o.rejected_reason
FROM enrichment.observations AS o
JOIN enrichment.persons AS p ON p.person_id = o.person_id;
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
COMMENT ON COLUMN analytics.fct_field_observations.rejected_reason IS 'Why it is not: older, less_verified, former_employer, same_value, incomplete, source_order, crm_kept, locked, no_consent, invalid, other_person';

CREATE VIEW analytics.fct_enrichment_attempts AS
SELECT
    a.attempt_id,
    a.call_id,
    coalesce(p.merged_into, a.person_id) AS person_id,
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
FROM enrichment.attempts AS a
JOIN enrichment.persons AS p ON p.person_id = a.person_id;
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
    coalesce(p.merged_into, s.person_id) AS person_id,
    s.field,
    s.provider,
    s.reason,
    s.recorded_at
FROM enrichment.skips AS s
LEFT JOIN enrichment.persons AS p ON p.person_id = s.person_id;
COMMENT ON VIEW analytics.fct_skips IS 'One row per night, person, field and provider that was not asked, or may not be bought';
COMMENT ON COLUMN analytics.fct_skips.partition_date IS 'The night';
COMMENT ON COLUMN analytics.fct_skips.person_id IS 'Who';
COMMENT ON COLUMN analytics.fct_skips.field IS 'What would have been asked for';
COMMENT ON COLUMN analytics.fct_skips.provider IS 'Who was not asked; * where the whole field is blocked';
COMMENT ON COLUMN analytics.fct_skips.reason IS 'Why: not eligible, no consent, suppressed, budget, unavailable, known miss, dearer than the cap and others, as snake_case words';
COMMENT ON COLUMN analytics.fct_skips.recorded_at IS 'When it was decided';

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

-- The grant matrix. Repeatable: call it again after roles or tables were added.
--
-- enrich_owner     owns everything; the triggers of the ledger are therefore nobody else's to drop
-- enrich_pipeline  reads and writes, but only adds to the ledger; keeps Dagster's tables
-- enrich_receiver  adds deliveries and answers probes; reads no body, no person, no amount
-- bi_reader        reads schema analytics
-- bi_masked        reads schema analytics_masked
CREATE SCHEMA IF NOT EXISTS analytics_masked;

CREATE FUNCTION enrichment.grant_rights() RETURNS void
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog AS $$
DECLARE
    thing record;
BEGIN
    GRANT USAGE ON SCHEMA crm, enrichment, analytics TO enrich_pipeline;
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA crm, enrichment, analytics
        TO enrich_pipeline;
    GRANT USAGE ON ALL SEQUENCES IN SCHEMA enrichment TO enrich_pipeline;
    REVOKE UPDATE, DELETE ON enrichment.ledger_entries FROM enrich_pipeline;
    REVOKE INSERT, UPDATE, DELETE ON enrichment.alembic_version, enrichment.secrets
        FROM enrich_pipeline;
    GRANT USAGE, CREATE ON SCHEMA dagster TO enrich_pipeline;
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA dagster TO enrich_pipeline;
    GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA dagster TO enrich_pipeline;
    ALTER DEFAULT PRIVILEGES IN SCHEMA dagster
        GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO enrich_pipeline;
    ALTER DEFAULT PRIVILEGES IN SCHEMA dagster
        GRANT USAGE, SELECT, UPDATE ON SEQUENCES TO enrich_pipeline;
    IF current_setting('server_version_num')::integer >= 170000 THEN
        EXECUTE 'GRANT MAINTAIN ON enrichment.contacts, enrichment.contact_identifiers, enrichment.plan_rows, enrichment.enrichments TO enrich_pipeline';
    END IF;

    GRANT USAGE ON SCHEMA enrichment TO enrich_receiver;
    GRANT SELECT ON enrichment.alembic_version TO enrich_receiver;
    GRANT SELECT (call_id, provider, token_hash) ON enrichment.calls TO enrich_receiver;
    GRANT INSERT (provider, token_hash, body, body_sha256, state, reason, applied_at)
        ON enrichment.inbox TO enrich_receiver;
    GRANT SELECT (delivery_id, provider, token_hash, body_sha256, reason, deliveries)
        ON enrichment.inbox TO enrich_receiver;
    GRANT UPDATE (deliveries) ON enrichment.inbox TO enrich_receiver;
    GRANT SELECT (nonce, received_at), UPDATE (received_at)
        ON enrichment.receiver_probes TO enrich_receiver;

    GRANT USAGE ON SCHEMA analytics TO bi_reader;
    GRANT SELECT ON ALL TABLES IN SCHEMA analytics TO bi_reader;
    GRANT USAGE ON SCHEMA analytics_masked TO bi_masked;
    GRANT SELECT ON ALL TABLES IN SCHEMA analytics_masked TO bi_masked;

    -- Tables before schemas: their owner must be able to create in the schema while they change hands.
    FOR thing IN
        SELECT CASE WHEN c.relkind = 'v' THEN 'VIEW' ELSE 'TABLE' END AS kind, c.oid::regclass AS name
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('crm', 'enrichment', 'analytics', 'analytics_masked') AND c.relkind IN ('r', 'p', 'v')
          AND pg_get_userbyid(c.relowner) <> 'enrich_owner'
    LOOP
        GRANT CREATE, USAGE ON SCHEMA crm, enrichment, analytics, analytics_masked TO enrich_owner;
        EXECUTE format('ALTER %s %s OWNER TO enrich_owner', thing.kind, thing.name);
    END LOOP;
    FOR thing IN
        SELECT p.oid::regprocedure AS name FROM pg_proc AS p
        JOIN pg_namespace AS n ON n.oid = p.pronamespace
        WHERE n.nspname IN ('crm', 'enrichment', 'analytics', 'analytics_masked')
          AND pg_get_userbyid(p.proowner) <> 'enrich_owner'
    LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO enrich_owner', thing.name);
    END LOOP;
    FOR thing IN
        SELECT n.nspname AS name FROM pg_namespace AS n
        WHERE n.nspname IN ('crm', 'enrichment', 'analytics', 'analytics_masked')
          AND pg_get_userbyid(n.nspowner) <> 'enrich_owner'
    LOOP
        EXECUTE format('ALTER SCHEMA %I OWNER TO enrich_owner', thing.name);
    END LOOP;
END $$;
COMMENT ON FUNCTION enrichment.grant_rights() IS 'Gives the roles of the pipeline their rights and enrich_owner everything else; repeatable';

-- Called at the end of every migration, when all tables are there.
CREATE FUNCTION enrichment.set_up_roles() RETURNS void
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog AS $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['enrich_owner', 'enrich_pipeline', 'enrich_receiver', 'bi_reader', 'bi_masked'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            END IF;
        EXCEPTION
            -- Roles belong to the server: another database's migration may have been faster.
            WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END LOOP;
    -- Whoever migrates must stay able to: a superuser is, others become members of the owner.
    IF NOT pg_has_role(current_user, 'enrich_owner', 'MEMBER') THEN
        EXECUTE format('GRANT enrich_owner TO %I', current_user);
    END IF;
    PERFORM enrichment.grant_rights();
EXCEPTION
    WHEN insufficient_privilege OR undefined_object THEN
        RAISE WARNING 'the roles of the pipeline could not be set up by %: everything works as before, under one role',
            current_user
            USING HINT = 'As an administrator: CREATE ROLE enrich_owner NOLOGIN; CREATE ROLE enrich_pipeline NOLOGIN; '
                'CREATE ROLE enrich_receiver NOLOGIN; CREATE ROLE bi_reader NOLOGIN; CREATE ROLE bi_masked NOLOGIN; '
                'SELECT enrichment.grant_rights();';
END $$;
COMMENT ON FUNCTION enrichment.set_up_roles() IS 'Makes the roles that are missing and gives all of them their rights; where that is not permitted it warns. Repeatable';

COMMENT ON SCHEMA analytics_masked IS 'Schema analytics with the values of persons masked: the same tables, columns and keys. What is left is pseudonymous, not anonymous: title, employer and times of one row may still single somebody out';

-- Every column of analytics that can hold text, and what bi_masked sees of it. Numbers, times and
-- booleans are shown as they are; the ids among them are made here and mean nothing elsewhere.
CREATE FUNCTION enrichment.masks() RETURNS TABLE (column_name text, mask text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    VALUES
        -- The id in the source is known to whoever works with the CRM, and may be an address itself.
        ('contact_id', 'key'), ('contact_ids', 'keys'), ('reported_person_id', 'hidden'),
        ('first_name', 'initial'), ('last_name', 'initial'), ('full_name', 'initial'),
        ('work_email', 'email'), ('old_work_email', 'email'), ('reported_work_email', 'email'),
        ('personal_email', 'email'), ('phone', 'phone'), ('reported_phone', 'phone'),
        ('linkedin_url', 'hidden'), ('reported_linkedin_url', 'hidden'), ('location', 'place'),
        ('value', 'by_field'), ('old_value', 'by_field'), ('new_value', 'by_field'),
        -- The position, which people segment by, rather than the person.
        ('job_title', 'plain'), ('old_job_title', 'plain'), ('reported_job_title', 'plain'),
        ('company_name', 'plain'), ('old_company_name', 'plain'), ('reported_company_name', 'plain'),
        ('company_domain', 'plain'), ('old_company_domain', 'plain'),
        ('country_code', 'plain'), ('segment', 'plain'),
        ('work_email_status', 'plain'), ('work_email_source', 'plain'),
        ('phone_status', 'plain'), ('phone_source', 'plain'),
        ('personal_email_status', 'plain'), ('personal_email_source', 'plain'),
        ('profile_status', 'plain'), ('profile_source', 'plain'), ('changed_fields', 'plain'),
        ('field', 'plain'), ('kind', 'plain'), ('provider', 'plain'), ('product', 'plain'),
        ('source', 'plain'), ('status', 'plain'), ('confidence', 'plain'), ('outcome', 'plain'),
        ('rejected_reason', 'plain'), ('reason', 'plain'),
        ('batch', 'plain'), ('dagster_run_id', 'plain'),
        ('entry_key', 'plain'), ('entry_type', 'plain'), ('cost_source', 'plain'),
        ('debit_account', 'plain'), ('credit_account', 'plain')
$$;
COMMENT ON FUNCTION enrichment.masks() IS 'What bi_masked sees of each column of analytics that can hold text';

-- Bodies that are read when they are made: who reads the views needs no right on the schema.
CREATE FUNCTION enrichment.masked_email(address text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN address LIKE '%@%' THEN split_part(address, '@', -1)
    WHEN address IS NOT NULL THEN '***'
END;

-- No calling code is the beginning of another one; what is not listed here has three digits. In two
-- steps, because of alternatives PostgreSQL takes the longest and not the first.
CREATE FUNCTION enrichment.masked_phone(number text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN number IS NOT NULL THEN coalesce(
    substring(number FROM '^\+(?:1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58])'),
    substring(number FROM '^\+[0-9]{3}'),
    '***'
) END;

CREATE FUNCTION enrichment.masked_place(place text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN place LIKE '%,%' THEN btrim(split_part(place, ',', -1))
    WHEN place IS NOT NULL THEN '***'
END;

CREATE FUNCTION enrichment.masked_value(field text, value text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN field IN ('work_email', 'personal_email') THEN enrichment.masked_email(value)
    WHEN field = 'phone' THEN enrichment.masked_phone(value)
    WHEN field = 'location' THEN enrichment.masked_place(value)
    WHEN field IN ('first_name', 'last_name', 'full_name') THEN left(value, 1)
    WHEN field IN ('job_title', 'company_name', 'company_domain', 'country_code', 'segment') THEN value
    WHEN value IS NOT NULL THEN '***'
END;

-- Makes the views anew. Their owner reads analytics, bi_masked reads only them; the key of contact
-- ids is read inside the view and not by a function, so that nobody can hash ids to try them out.
CREATE FUNCTION enrichment.mask_analytics() RETURNS void
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog AS $$
DECLARE
    view record;
    function record;
    key CONSTANT text := 'left(encode(sha256((SELECT s.value FROM enrichment.secrets AS s WHERE s.name = ''identity'')'
        ' || convert_to(''masked:'' || %s, ''UTF8'')), ''hex''), 32)';
BEGIN
    FOR function IN
        SELECT oid::regprocedure AS name FROM pg_proc WHERE pronamespace = to_regnamespace('analytics_masked')
    LOOP
        EXECUTE format('DROP FUNCTION %s', function.name);
    END LOOP;
    FOR view IN
        WITH kinds (mask, expression, note) AS (VALUES
            ('plain', '%1$I', ''),
            ('key', format(key, '%1$I'), 'a keyed hash, the same in every table'),
            ('keys', format('ARRAY(SELECT %s FROM unnest(%%1$I) AS each)', format(key, 'each')),
                'keyed hashes, the same as contact_id'),
            ('initial', 'left(%1$I, 1)', 'first letter only'),
            ('email', 'enrichment.masked_email(%1$I)', 'domain only'),
            ('phone', 'enrichment.masked_phone(%1$I)', 'calling code of the country only'),
            ('place', 'enrichment.masked_place(%1$I)', 'what follows the last comma, *** where there is none'),
            ('hidden', 'CASE WHEN %1$I IS NOT NULL THEN ''***'' END', '*** where there is a value'),
            ('by_field', 'enrichment.masked_value(field, %1$I)', 'as the column of that name in dim_contacts'),
            ('undeclared', 'NULL::%2$s', 'null, because nobody declared what may be seen of it')
        ), columns AS (
            SELECT c.relname AS name, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod) AS type,
                coalesce(m.mask, CASE WHEN t.typcategory IN ('B', 'D', 'N') THEN 'plain' END, 'undeclared') AS mask,
                obj_description(c.oid, 'pg_class') AS about, col_description(c.oid, a.attnum) AS comment
            FROM pg_class AS c
            JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            JOIN pg_type AS t ON t.oid = a.atttypid
            LEFT JOIN enrichment.masks() AS m ON m.column_name = a.attname
            WHERE c.relnamespace = to_regnamespace('analytics') AND c.relkind IN ('r', 'p', 'v', 'm')
        )
        SELECT name,
            string_agg(format(expression || ' AS %1$I', attname, type), ', ' ORDER BY attnum) AS expressions,
            format('COMMENT ON VIEW analytics_masked.%I IS %L;', name, about || '. Values of persons are masked')
            || string_agg(format('COMMENT ON COLUMN analytics_masked.%I.%I IS %L;', name, attname,
                comment || CASE WHEN note = '' THEN '' ELSE '. Masked: ' || note END), '' ORDER BY attnum) AS comments
        FROM columns JOIN kinds USING (mask)
        GROUP BY name, about
    LOOP
        EXECUTE format('DROP VIEW IF EXISTS analytics_masked.%I', view.name);
        EXECUTE format('CREATE VIEW analytics_masked.%1$I WITH (security_invoker = off) '
            'AS SELECT %2$s FROM analytics.%1$I', view.name, view.expressions);
        EXECUTE view.comments;
    END LOOP;
    -- A function that gives rows of a table is SQL over tables of its schema: the same over the views.
    FOR function IN
        SELECT replace(pg_get_functiondef(p.oid), 'analytics.', 'analytics_masked.') AS definition,
            format('COMMENT ON FUNCTION analytics_masked.%I(%s) IS %L', p.proname,
                pg_get_function_identity_arguments(p.oid), obj_description(p.oid, 'pg_proc')) AS comment
        FROM pg_proc AS p
        JOIN pg_class AS c ON c.reltype = p.prorettype AND c.relnamespace = p.pronamespace
        WHERE p.pronamespace = to_regnamespace('analytics')
    LOOP
        EXECUTE function.definition;
        EXECUTE function.comment;
    END LOOP;
END $$;
COMMENT ON FUNCTION enrichment.mask_analytics() IS 'Makes the views and functions of schema analytics_masked from the tables of schema analytics; repeatable';

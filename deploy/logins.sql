-- One login for each job, as a member of the role that the migrations made for it. Repeatable: run it again to change
-- a password. psql reads the passwords from its environment, so that they stand in no command line.
\set ON_ERROR_STOP on
\getenv nightly NIGHTLY_PASSWORD
\getenv receiver RECEIVER_PASSWORD
\getenv bi BI_PASSWORD
SELECT format('CREATE ROLE %I LOGIN IN ROLE %I', login, role)
FROM (VALUES ('enrich_nightly', 'enrich_pipeline'), ('enrich_hooks', 'enrich_receiver'), ('enrich_bi', 'bi_reader')) AS wanted (login, role)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = login) \gexec
ALTER ROLE enrich_nightly PASSWORD :'nightly';
ALTER ROLE enrich_hooks PASSWORD :'receiver';
ALTER ROLE enrich_bi PASSWORD :'bi';

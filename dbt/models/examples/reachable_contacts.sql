-- Whom sales can write to or call today: one row per contact.
select
    contact_id,
    full_name,
    job_title,
    company_name,
    work_email,
    phone,
    greatest(work_email_observed_at, phone_observed_at) as confirmed_at
from {{ source('enrich', 'dim_contacts') }}
where not is_suppressed
  and (work_email_status = 'verified' and not is_work_email_outdated or phone is not null)

-- What a provider cost and brought, one row per week, provider and field. Dollars add up over
-- providers, credits do not: each provider has its own unit.
select
    date_trunc('week', date)::date as week,
    provider,
    field,
    sum(attempts) as attempts,
    sum(found) as found,
    sum(verified) as verified,
    sum(spend_usd) as spend_usd,
    sum(spend_usd) / nullif(sum(verified), 0) as usd_per_verified
from {{ source('enrich', 'mart_provider_daily') }}
group by 1, 2, 3

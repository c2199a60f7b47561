"""The five providers, simulated, with a charge meter of their own. A program by itself.

It imports nothing from the rest of the package, so that what it says about spending is independent
evidence. Started by `enrich sandbox` or `python -m enrich_pipeline.sandbox`; the base URL of a
provider is `http://127.0.0.1:8799/<provider>`. Paths below the base URLs:

    agntdata  POST /people/bulk-enrich                   header Authorization: Bearer KEY
              GET  /credits
    pronto    POST /contacts/bulk_enrich                 header X-API-KEY
              POST /contacts/single_enrich
              GET  /contacts/{enrichment_id}
              GET  /credits
    prospeo   POST /bulk-enrich-person                   header X-KEY
              GET  /account-information
    lance     POST /operations/enrichment/batch          header Authorization: Bearer KEY
              POST /operations/enrichment/batch/query
              GET  /entities/persons/{personId}
              GET  /operations/credits/balance
    apollo    POST /people/bulk_match?...                header x-api-key
              GET  /webhook_result/{request_id}
              POST /usage_stats/credit_usage_stats

A request item is resolved to one human: by the directory file if there is one (a contacts export,
see `SandboxConfig.directory`), else by its strongest identifier in the order LinkedIn profile,
e-mail, name at a domain or company, vendor id. Role mailboxes and identifiers that several humans
carry name nobody. Answers depend on (human, provider, product, epoch, seed) alone. Without a
directory a human is known only by what a request says, so that providers that are told less may
invent another employer; with one, all of them agree.

The admin pages are below /_sandbox: health, meter, double-charges, violations, requests, webhooks,
faults, epoch, latency, balance, account, reset.

Vendors deliver webhooks to https addresses only. Here plain http is accepted for loopback hosts and
those named by --webhook-host, unless --require-https says otherwise.
"""

from .app import create_app, run
from .config import PROVIDERS, RateLimit, SandboxConfig

__all__ = ["PROVIDERS", "RateLimit", "SandboxConfig", "create_app", "run"]

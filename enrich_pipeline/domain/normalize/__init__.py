"""Messy values of contacts to clean ones, never guessed, and the reason where none is left.

Pure functions, one module per kind of value. What a whole row means is `domain/contact.py`.
"""

from enrich_pipeline.domain.normalize.country import country
from enrich_pipeline.domain.normalize.email import email, is_role_mailbox, mailbox
from enrich_pipeline.domain.normalize.flags import UNREADABLE, Unreadable, flag
from enrich_pipeline.domain.normalize.ids import (
    apollo_person_id,
    lance_person_id,
    prospeo_person_id,
)
from enrich_pipeline.domain.normalize.person_names import NameParts, person_name
from enrich_pipeline.domain.normalize.phone import phone
from enrich_pipeline.domain.normalize.result import Normalized
from enrich_pipeline.domain.normalize.text import company_name, text
from enrich_pipeline.domain.normalize.timestamps import timestamp
from enrich_pipeline.domain.normalize.web import (
    company_linkedin_url,
    domain,
    linkedin_slug,
    linkedin_slug_kind,
    linkedin_url,
)

__all__ = [
    "UNREADABLE",
    "NameParts",
    "Normalized",
    "Unreadable",
    "apollo_person_id",
    "company_linkedin_url",
    "company_name",
    "country",
    "domain",
    "email",
    "flag",
    "is_role_mailbox",
    "lance_person_id",
    "linkedin_slug",
    "linkedin_slug_kind",
    "linkedin_url",
    "mailbox",
    "person_name",
    "phone",
    "prospeo_person_id",
    "text",
    "timestamp",
]

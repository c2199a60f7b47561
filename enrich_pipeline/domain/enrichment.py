"""What is bought and what can be said about it: fields, attributes, statuses, outcomes.

Only vocabulary lives here. The order of providers is in `domain/chain.py`, what follows for the
money in `domain/posting.py`, which value wins in `domain/merge.py`.
"""

from enum import StrEnum


class Field(StrEnum):
    """What is bought for a person."""

    WORK_EMAIL = "work_email"
    PHONE = "phone"
    PERSONAL_EMAIL = "personal_email"
    PROFILE = "profile"


class Attribute(StrEnum):
    """One column of knowledge. The attributes of a profile are bought together."""

    WORK_EMAIL = "work_email"
    PHONE = "phone"
    PERSONAL_EMAIL = "personal_email"
    JOB_TITLE = "job_title"
    COMPANY_NAME = "company_name"
    COMPANY_DOMAIN = "company_domain"
    LINKEDIN_URL = "linkedin_url"
    LOCATION = "location"


ATTRIBUTES: dict[Field, tuple[Attribute, ...]] = {
    Field.WORK_EMAIL: (Attribute.WORK_EMAIL,),
    Field.PHONE: (Attribute.PHONE,),
    Field.PERSONAL_EMAIL: (Attribute.PERSONAL_EMAIL,),
    Field.PROFILE: (
        Attribute.JOB_TITLE,
        Attribute.COMPANY_NAME,
        Attribute.COMPANY_DOMAIN,
        Attribute.LINKEDIN_URL,
        Attribute.LOCATION,
    ),
}
FIELD_OF: dict[Attribute, Field] = {
    a: f for f, attributes in ATTRIBUTES.items() for a in attributes
}


class ValueStatus(StrEnum):
    """How far a provider vouches for a value; `unknown` where it states nothing."""

    VERIFIED = "verified"
    CATCH_ALL = "catch_all"
    UNVERIFIED = "unverified"
    UNKNOWN = "unknown"
    INVALID = "invalid"


class Outcome(StrEnum):
    """How one attempt ended, or where it stands."""

    FOUND = "found"
    NOT_FOUND = "not_found"
    OTHER_PERSON = "other_person"
    INVALID_INPUT = "invalid_input"
    ERROR = "error"
    IN_DOUBT = "in_doubt"
    WRITTEN_OFF = "written_off"
    PENDING = "pending"
    REUSED = "reused"

"""Which value of a contact wins: the specification of the merge, for one contact at a time.

Every value is a candidate, the CRM's own too. `store/merge_statement.py` says the same as set-based
SQL for thousands of contacts; a property test holds the two together. Nothing here reads a clock:
of two verified values the newer one is the fresher, so "freshly verified before lapsed" is an order
by age within `VERIFIED`, and merging the same candidates a year later gives the same contact.

The order, most important first:

1. a locked value of the CRM;
2. standing: verified, then catch-all, then unverified or unknown, then any work e-mail at an
   employer that the person has left;
3. the newer `observed_at` (an unknown age is the oldest);
4. the source: providers in the waterfall order of the field, then other providers, then the CRM;
5. the later reply, within a reply the value that it names first.

Empty and invalid values are no candidates. Title, company, domain and location are won as one unit
from one reply, and a unit that would leave title or company empty never replaces one that has both.
Only a unit that shows no other employer may lend the winner what it lacks; another spelling or
legal form is no other employer, nor a second domain of the same one. For a profile, `unknown`
ranks with `verified`: no provider states a status for a job, so the newest sighting is the truth.
The CRM's LinkedIn address stays wherever there is one. A private e-mail address that was bought is
a candidate only for contacts with consent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from itertools import accumulate
from typing import Final
from unicodedata import category

from enrich_pipeline.domain.enrichment import Attribute, Field, ValueStatus

CRM: Final = "crm"
CRM_RANK: Final = 2_000
OTHER_PROVIDER_RANK: Final = 1_000
UNIT: Final = (
    Attribute.JOB_TITLE,
    Attribute.COMPANY_NAME,
    Attribute.COMPANY_DOMAIN,
    Attribute.LOCATION,
)
"""The attributes that are won together."""


class Standing(IntEnum):
    """How good a candidate is before its age is looked at; lower is better."""

    VERIFIED = 0
    CATCH_ALL = 1
    UNSURE = 2
    FORMER_EMPLOYER = 3


@dataclass(frozen=True, slots=True)
class Report:
    """One value that a provider reported. `line_id` is shared by what came in one reply."""

    observation_id: int
    line_id: int
    attribute: Attribute
    value: str
    status: ValueStatus
    provider: str
    observed_at: datetime


@dataclass(frozen=True, slots=True)
class Own:
    """What the CRM itself says of a contact. A value without `..._verified_at` is unverified.

    `linkedin_url` is the canonical address; `locks` are the fields whose CRM value must stay.
    """

    email: str | None = None
    email_verified_at: datetime | None = None
    phone: str | None = None
    phone_verified_at: datetime | None = None
    personal_email: str | None = None
    personal_email_verified_at: datetime | None = None
    personal_email_consent: bool = False
    job_title: str | None = None
    company_name: str | None = None
    company_domain: str | None = None
    profile_verified_at: datetime | None = None
    linkedin_url: str | None = None
    locks: frozenset[Field] = frozenset()


@dataclass(frozen=True, slots=True)
class Value:
    """A winning value. `observation_id` is None for the CRM's own."""

    value: str
    status: ValueStatus
    source: str
    observed_at: datetime | None
    observation_id: int | None


@dataclass(frozen=True, slots=True)
class Unit:
    """Title, company, domain and location as one source saw them together."""

    values: Mapping[Attribute, str]
    status: ValueStatus
    source: str
    observed_at: datetime | None
    standing: Standing
    source_rank: int
    line_id: int
    is_locked: bool = False

    @property
    def fullness(self) -> int:
        """3: title and company name; 2: a company; 1: a title; 0: only a location."""
        has = self.values.keys()
        if Attribute.JOB_TITLE in has and Attribute.COMPANY_NAME in has:
            return 3
        if Attribute.COMPANY_NAME in has or Attribute.COMPANY_DOMAIN in has:
            return 2
        return 1 if Attribute.JOB_TITLE in has else 0


@dataclass(frozen=True, slots=True)
class Merged:
    """The values of one contact; an absent attribute is not known."""

    values: Mapping[Attribute, Value]
    profile: Mapping[Attribute, str]
    profile_status: ValueStatus | None
    profile_source: str | None
    profile_observed_at: datetime | None
    is_work_email_outdated: bool


def merge(own: Own, reports: Sequence[Report], waterfalls: Mapping[Field, Sequence[str]]) -> Merged:
    """Return the contact that `own` and the reports about its person make together.

    The order of `reports` does not matter.
    """
    usable = [r for r in reports if r.status is not ValueStatus.INVALID and r.value.strip()]
    units = _units(own, usable, waterfalls.get(Field.PROFILE, ()))
    winner = units[0] if units else None
    profile = _filled(units)
    former = _former_domains(units)
    present = _present_domains(units, profile)

    values: dict[Attribute, Value] = {}
    for attribute, field, own_value, verified_at in (
        (Attribute.WORK_EMAIL, Field.WORK_EMAIL, own.email, own.email_verified_at),
        (Attribute.PHONE, Field.PHONE, own.phone, own.phone_verified_at),
        (
            Attribute.PERSONAL_EMAIL,
            Field.PERSONAL_EMAIL,
            own.personal_email,
            own.personal_email_verified_at,
        ),
        (Attribute.LINKEDIN_URL, Field.PROFILE, own.linkedin_url, own.profile_verified_at),
    ):
        candidates = []
        if attribute is not Attribute.PERSONAL_EMAIL or own.personal_email_consent:
            order = waterfalls.get(field, ())
            candidates += [
                (_key(r, _email_standing(r, former, present), order), _reported(r))
                for r in usable
                if r.attribute is attribute
            ]
        if own_value is not None:
            status = ValueStatus.UNVERIFIED if verified_at is None else ValueStatus.VERIFIED
            stays = field in own.locks or attribute is Attribute.LINKEDIN_URL
            standing = _standing(status)
            if attribute is Attribute.WORK_EMAIL and _is_former(own_value, former, present):
                standing = Standing.FORMER_EMPLOYER
            key = (not stays, standing, _age(verified_at), CRM_RANK, 0, 0)
            candidates.append((key, Value(own_value, status, CRM, verified_at, None)))
        if candidates:
            values[attribute] = min(candidates, key=lambda c: c[0])[1]

    email = values.get(Attribute.WORK_EMAIL)
    return Merged(
        values=values,
        profile=profile,
        profile_status=winner.status if winner else None,
        profile_source=winner.source if winner else None,
        profile_observed_at=winner.observed_at if winner else None,
        is_work_email_outdated=email is not None and _is_former(email.value, former, present),
    )


def source_rank(provider: str, waterfall: Sequence[str]) -> int:
    """Return the place of a provider in a waterfall; behind all of them where it is not in it."""
    return waterfall.index(provider) + 1 if provider in waterfall else OTHER_PROVIDER_RANK


def is_same_employer(
    name: str | None, domain: str | None, other_name: str | None, other_domain: str | None
) -> bool | None:
    """Tell whether two sightings name one company; None where they state nothing to compare.

    It is one where the domains are equal, or one name is how the other begins: another spelling or
    legal form. "Delta" and "Delta Dental" pass for one as well: a job change that is seen late
    costs less than a good address that is bought anew.
    """
    if domain and other_domain and domain.lower() == other_domain.lower():
        return True
    if name and other_name:
        return _are_alike(name, other_name)
    return False if domain and other_domain else None


def _are_alike(name: str, other: str) -> bool:
    if name.lower() == other.lower():
        return True
    words, others = _words(name), _words(other)
    return _begins(words, others) or _begins(others, words)


def _begins(long: Sequence[str], short: Sequence[str]) -> bool:
    """Whether a name begins with all of another one, wherever the spaces between the words are."""
    return "".join(short) in accumulate(long)


def _words(name: str) -> list[str]:
    # The categories of marks and symbols; hyphens and full stops part words as spaces do.
    return "".join(" " if category(c)[0] in "PS" else c for c in name.lower()).split()


def _standing(status: ValueStatus) -> Standing:
    if status is ValueStatus.VERIFIED:
        return Standing.VERIFIED
    return Standing.CATCH_ALL if status is ValueStatus.CATCH_ALL else Standing.UNSURE


def _profile_standing(status: ValueStatus) -> Standing:
    is_seen = status in (ValueStatus.VERIFIED, ValueStatus.UNKNOWN)
    return Standing.VERIFIED if is_seen else Standing.UNSURE


def _email_standing(report: Report, former: frozenset[str], present: frozenset[str]) -> Standing:
    if report.attribute is Attribute.WORK_EMAIL and _is_former(report.value, former, present):
        return Standing.FORMER_EMPLOYER
    return _standing(report.status)


def _age(observed_at: datetime | None) -> tuple[bool, timedelta]:
    """A key that sorts newer before older before unknown."""
    if observed_at is None:
        return True, timedelta(0)
    return False, datetime.fromtimestamp(0, tz=observed_at.tzinfo) - observed_at


_Key = tuple[bool, Standing, tuple[bool, timedelta], int, int, int]


def _key(report: Report, standing: Standing, order: Sequence[str]) -> _Key:
    age, rank = _age(report.observed_at), source_rank(report.provider, order)
    return True, standing, age, rank, -report.line_id, report.observation_id


def _reported(report: Report) -> Value:
    return Value(
        report.value, report.status, report.provider, report.observed_at, report.observation_id
    )


def _units(own: Own, reports: Sequence[Report], order: Sequence[str]) -> list[Unit]:
    """Return the units, the winner first."""
    lines: dict[int, list[Report]] = {}
    for report in reports:
        if report.attribute in UNIT:
            lines.setdefault(report.line_id, []).append(report)
    units = []
    for line_id, parts in lines.items():
        # Worst first, so that the best of an attribute is what stays in the mapping.
        parts.sort(key=lambda r: _key(r, _profile_standing(r.status), order), reverse=True)
        best = {r.attribute: r for r in parts}
        first = min(best.values(), key=lambda r: (_profile_standing(r.status), r.observation_id))
        units.append(
            Unit(
                values={attribute: r.value for attribute, r in best.items()},
                status=first.status,
                source=first.provider,
                observed_at=max(r.observed_at for r in best.values()),
                standing=_profile_standing(first.status),
                source_rank=source_rank(first.provider, order),
                line_id=line_id,
            )
        )
    own_values = {
        Attribute.JOB_TITLE: own.job_title,
        Attribute.COMPANY_NAME: own.company_name,
        Attribute.COMPANY_DOMAIN: own.company_domain,
    }
    if any(own_values.values()):
        status = ValueStatus.UNVERIFIED if own.profile_verified_at is None else ValueStatus.VERIFIED
        units.append(
            Unit(
                values={attribute: v for attribute, v in own_values.items() if v},
                status=status,
                source=CRM,
                observed_at=own.profile_verified_at,
                standing=_profile_standing(status),
                source_rank=CRM_RANK,
                line_id=0,
                is_locked=Field.PROFILE in own.locks,
            )
        )
    return sorted(
        units,
        key=lambda u: (
            not u.is_locked,
            -u.fullness,
            u.standing,
            _age(u.observed_at),
            u.source_rank,
            -u.line_id,
        ),
    )


def _at_employer_of(winner: Unit, unit: Unit) -> bool | None:
    return is_same_employer(
        unit.values.get(Attribute.COMPANY_NAME),
        unit.values.get(Attribute.COMPANY_DOMAIN),
        winner.values.get(Attribute.COMPANY_NAME),
        winner.values.get(Attribute.COMPANY_DOMAIN),
    )


def _filled(units: Sequence[Unit]) -> dict[Attribute, str]:
    """The winner's values, and what it lacks from the best unit that shows no other employer."""
    profile: dict[Attribute, str] = {}
    for unit in units:
        if _at_employer_of(units[0], unit) is not False:
            profile = {**unit.values, **profile}
    return profile


def _former_domains(units: Sequence[Unit]) -> frozenset[str]:
    """Domains of other employers that were seen before the winning unit was."""
    if not units or units[0].observed_at is None:
        return frozenset()
    seen_at = units[0].observed_at
    return frozenset(
        unit.values[Attribute.COMPANY_DOMAIN].lower()
        for unit in units
        if Attribute.COMPANY_DOMAIN in unit.values
        and _at_employer_of(units[0], unit) is False
        and (unit.observed_at is None or unit.observed_at < seen_at)
    )


def _present_domains(units: Sequence[Unit], profile: Mapping[Attribute, str]) -> frozenset[str]:
    """All domains of the employer: of the profile, and of each unit that names that employer."""
    named = [u.values for u in units if _at_employer_of(units[0], u)]
    return frozenset(
        values[Attribute.COMPANY_DOMAIN].lower()
        for values in (profile, *named)
        if Attribute.COMPANY_DOMAIN in values
    )


def _is_former(email: str, former: frozenset[str], present: frozenset[str]) -> bool:
    host = email.lower().partition("@")[2]
    if any(_is_within(host, domain) for domain in present):
        return False
    return any(_is_within(host, domain) for domain in former)


def _is_within(host: str, domain: str) -> bool:
    """Company domains are registrable ones: every host of the company ends in its domain."""
    return host == domain or host.endswith(f".{domain}")

"""What should be known of a contact at every moment, replayed in plain Python from what happened.

Written from the rules of the merge and not from its code: it shares with the product the names of
columns and nothing else. One value per reply and attribute is assumed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

UNIT = ("job_title", "company_name", "company_domain", "location")
SINGLE = ("work_email", "phone", "personal_email", "linkedin_url")
NAMES = ("full_name", "country_code", "segment")
NOTHING_KNOWN = dict.fromkeys(
    (
        *NAMES, *UNIT, "linkedin_url", "email", "phone", "personal_email",
        "email_verified_at", "phone_verified_at", "personal_email_verified_at",
        "profile_verified_at", "personal_email_consent",
    )
)  # fmt: skip
"""The row of the CRM of a contact of whom it knows nothing."""


@dataclass(frozen=True, slots=True)
class Said:
    """One value of a reply."""

    observation_id: int
    line_id: int
    attribute: str
    value: str
    status: str
    provider: str
    rank: int
    at: datetime
    night: date


@dataclass(frozen=True, slots=True)
class Winner:
    value: str
    status: str
    source: str
    at: datetime | None
    observation_id: int | None
    night: date | None


@dataclass(frozen=True, slots=True)
class State:
    """The columns of a version, and who gave each value; `own` are those of the winning reply."""

    columns: Mapping[str, Any]
    winners: Mapping[str, Winner]
    own: frozenset[str]


@dataclass(slots=True)
class Version:
    state: State
    changed: list[str]
    begins: datetime
    ends: datetime | None = None
    changes: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    is_job_change: bool = False


def state(contact: Mapping[str, Any], said: Sequence[Said]) -> State:
    """Decide what a contact is when its row in the CRM and these reports are all that is known."""
    usable = [s for s in said if s.status != "invalid" and s.value.strip()]
    units = sorted(_units(contact, usable), key=lambda u: u["key"])
    best = units[0] if units else None
    near = [u for u in units if best and _same_employer(u["values"], best["values"]) is not False]
    winners = {
        attribute: next(u["values"][attribute] for u in near if attribute in u["values"])
        for attribute in UNIT
        if any(attribute in u["values"] for u in near)
    }
    here = {
        u["values"]["company_domain"].value.lower()
        for u in units
        if best and _same_employer(u["values"], best["values"]) and "company_domain" in u["values"]
    }
    if "company_domain" in winners:
        here.add(winners["company_domain"].value.lower())
    left = {
        u["values"]["company_domain"].value.lower()
        for u in units
        if best and best["at"] and u not in near and "company_domain" in u["values"]
        and (u["at"] is None or u["at"] < best["at"])
    }  # fmt: skip

    def is_left(mail: str) -> bool:
        host = "." + mail.lower().split("@")[1]
        if any(host.endswith("." + domain) for domain in here):
            return False
        return any(host.endswith("." + domain) for domain in left)

    for attribute in SINGLE:
        offers = []
        for s in usable:
            if s.attribute == attribute and (
                attribute != "personal_email" or contact["personal_email_consent"]
            ):
                standing = {"verified": 0, "catch_all": 1}.get(s.status, 2)
                if attribute == "work_email" and is_left(s.value):
                    standing = 3
                won = Winner(s.value, s.status, s.provider, s.at, s.observation_id, s.night)
                offers.append(((1, standing, _age(s.at), s.rank, -s.line_id), won))
        if own := _own(contact, attribute):
            standing = 0 if own.at else 2
            if attribute == "work_email" and is_left(own.value):
                standing = 3
            kept = 0 if attribute == "linkedin_url" else 1
            offers.append(((kept, standing, _age(own.at), 2000, 0), own))
        if offers:
            winners[attribute] = min(offers, key=lambda o: o[0])[1]

    columns: dict[str, Any] = {"person_id": 1, "is_suppressed": False}
    columns |= {name: contact[name] for name in NAMES}
    columns |= {a: winners[a].value if a in winners else None for a in (*UNIT, *SINGLE)}
    for attribute in SINGLE[:3]:
        best_of = winners.get(attribute)
        columns[f"{attribute}_status"] = best_of and best_of.status
        columns[f"{attribute}_source"] = best_of and best_of.source
        columns[f"{attribute}_observed_at"] = best_of and best_of.at
    columns["profile_status"] = best and best["status"]
    columns["profile_source"] = best and best["source"]
    columns["profile_observed_at"] = best and best["at"]
    mail = columns["work_email"]
    columns["is_work_email_outdated"] = mail is not None and is_left(mail)
    return State(columns, winners, frozenset(best["values"] if best else ()))


def _age(at: datetime | None) -> float:
    return -at.timestamp() if at else 0.0


def _own(contact: Mapping[str, Any], attribute: str) -> Winner | None:
    column = "email" if attribute == "work_email" else attribute
    kind = "profile" if attribute == "linkedin_url" else column
    value, at = contact[column], contact[f"{kind}_verified_at"]
    return value and Winner(value, "verified" if at else "unverified", "crm", at, None, None)


def _units(contact: Mapping[str, Any], usable: Sequence[Said]) -> Iterator[dict[str, Any]]:
    lines: dict[int, list[Said]] = {}
    for s in usable:
        if s.attribute in UNIT:
            lines.setdefault(s.line_id, []).append(s)
    for line_id, parts in lines.items():
        first = min(parts, key=lambda s: (_seen(s.status), s.observation_id))
        values = {
            s.attribute: Winner(s.value, s.status, s.provider, s.at, s.observation_id, s.night)
            for s in parts
        }
        at = max(s.at for s in parts)
        yield _unit(values, first.status, first.provider, at, first.rank, line_id)
    at = contact["profile_verified_at"]
    status = "verified" if at else "unverified"
    values = {a: Winner(contact[a], status, "crm", at, None, None) for a in UNIT[:3] if contact[a]}
    if values:
        yield _unit(values, status, "crm", at, 2000, 0)


def _seen(status: str) -> int:
    return 0 if status in ("verified", "unknown") else 2


def _unit(
    values: dict[str, Winner], status: str, source: str, at: datetime | None, rank: int, line: int
) -> dict[str, Any]:
    if {"job_title", "company_name"} <= values.keys():
        fullness = 3
    elif {"company_name", "company_domain"} & values.keys():
        fullness = 2
    else:
        fullness = 1 if "job_title" in values else 0
    key = (-fullness, _seen(status), _age(at), rank, -line)
    return {"values": values, "status": status, "source": source, "at": at, "key": key}


def _same_employer(one: Mapping[str, Winner], other: Mapping[str, Winner]) -> bool | None:
    """None: nothing that both state."""
    found = None
    if "company_domain" in one and "company_domain" in other:
        found = one["company_domain"].value.lower() == other["company_domain"].value.lower()
    if "company_name" in one and "company_name" in other:
        found = found or _alike(one["company_name"].value, other["company_name"].value)
    return found


def _alike(one: str, other: str) -> bool:
    names = [name.lower().replace(",", "").replace(".", " ").split() for name in (one, other)]
    return any(
        "".join(shorter) in ("".join(longer[: n + 1]) for n in range(len(longer)))
        for longer, shorter in (names, names[::-1])
    )


def versions(moments: Sequence[tuple[datetime, State | None]]) -> list[Version]:
    """The history that these states make, oldest first; None: the source has no such contact."""
    found: list[Version] = []
    for at, now in moments:
        before = found[-1] if found and found[-1].ends is None else None
        old = before.state.columns if before else {}
        if now is None:
            if before:
                before.ends = at
            continue
        changed = [c for c, value in now.columns.items() if value != old.get(c, _nothing(c))]
        if before and not changed:
            # The same values, perhaps by other observations.
            before.state = now
            continue
        new = Version(now, sorted(changed), at)
        if before:
            before.ends = at
            new.is_job_change = _moved(old, now.columns)
        new.changes = dict(_changes(before.state if before else None, new))
        found.append(new)
    return found


def _nothing(column: str) -> object:
    return False if column.startswith("is_") else None


def _moved(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    seen, seen_before = new["profile_observed_at"], old["profile_observed_at"]
    if seen is None or (seen_before is not None and seen <= seen_before):
        return False
    if old["company_name"] and new["company_name"]:
        if _alike(old["company_name"], new["company_name"]):
            return False
        if not (old["company_domain"] and new["company_domain"]):
            return True
    if old["company_domain"] and new["company_domain"]:
        return bool(old["company_domain"].lower() != new["company_domain"].lower())
    return False


def _changes(before: State | None, version: Version) -> Iterator[tuple[str, tuple[Any, ...]]]:
    now = version.state
    for name in (*UNIT, *SINGLE, *NAMES):
        won = now.winners.get(name)
        new = now.columns[name]
        old = before.columns[name] if before else None
        kind = None
        if before is None:
            kind = "filled" if won and won.observation_id else None
        elif new == old:
            kind = "confirmed" if won and _is_confirmed(name, before, now, won) else None
        elif version.is_job_change and name in UNIT:
            kind = "job_change"
        else:
            kind = "filled" if old is None else "lost" if new is None else "corrected"
        if kind:
            source = won.source if won else "crm" if new else None
            status = won and won.status
            observation_id, night = (won.observation_id, won.night) if won else (None, None)
            yield name, (kind, old, new, status, source, observation_id, night)


def _is_confirmed(name: str, before: State, now: State, won: Winner) -> bool:
    if won.observation_id is None or name == "linkedin_url":
        return False
    if name in UNIT and name not in now.own:
        return False
    of = "profile" if name in UNIT else name
    old_at, at = before.columns[f"{of}_observed_at"], now.columns[f"{of}_observed_at"]
    old_status, status = before.columns[f"{of}_status"], now.columns[f"{of}_status"]
    return old_at is None or at > old_at or (status == "verified" and old_status != "verified")

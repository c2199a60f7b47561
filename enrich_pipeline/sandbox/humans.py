"""Who a request is about, and what is true of that human at an epoch.

Resolution and truth only; what a provider happens to know of the truth is in `answers`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import TypeVar

from . import identifiers as ids
from . import pools

SPAN = 1 << 16
_T = TypeVar("_T")


class Dice:
    """Sixteen reproducible throws for one question about one human."""

    __slots__ = ("_bytes",)

    def __init__(self, key: bytes, number: int, topic: str) -> None:
        self._bytes = blake2b(b"%d|" % number + topic.encode(), digest_size=32, key=key).digest()

    def throw(self, index: int) -> int:
        """A number below 65,536."""
        return (self._bytes[index * 2] << 8) | self._bytes[index * 2 + 1]

    def chance(self, index: int, share: float) -> bool:
        return self.throw(index) < share * SPAN

    def pick(self, index: int, choices: Sequence[_T]) -> _T:
        return choices[self.throw(index) % len(choices)]

    def digits(self, index: int, count: int) -> str:
        """`count` digits, the first never 0 or 1: such numbers are invalid in many countries."""
        value = int.from_bytes(self._bytes[index * 2 : index * 2 + 8])
        text = f"{value % 10 ** (count - 1):0{count - 1}d}"
        return f"{2 + (value >> 50) % 8}{text}"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a human from the directory or from the request itself; "" is unknown."""

    first: str = ""
    last: str = ""
    company: str = ""
    domain: str = ""
    email: str = ""
    personal_email: str = ""
    phone: str = ""
    country: str = ""
    title: str = ""
    slug: str = ""
    prospeo_id: str = ""
    apollo_id: str = ""


@dataclass(frozen=True, slots=True)
class Human:
    """One real human: the number is what providers charge and answer by."""

    number: int
    label: str
    facts: Facts


@dataclass(frozen=True, slots=True)
class Asked:
    """The identifiers of one request item, read but not judged; None or "" is absent."""

    slug: str | None = None
    email: str | None = None
    first: str = ""
    last: str = ""
    company: str = ""
    domain: str | None = None
    prospeo_id: str | None = None
    apollo_id: str | None = None
    lance_id: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    company: str
    domain: str
    title: str
    email: str


@dataclass(frozen=True, slots=True)
class Truth:
    """What holds at one epoch. Empty strings: the human has no such thing."""

    first: str
    last: str
    is_name_known: bool
    job: Job
    former: Job | None
    personal_email: str
    mobile: str
    country_code: str
    country: str
    city: str
    time_zone: str
    slug: str
    prospeo_id: str
    apollo_id: str

    @property
    def full_name(self) -> str:
        return f"{self.first} {self.last}".strip()

    @property
    def linkedin_url(self) -> str:
        return f"https://www.linkedin.com/in/{self.slug}"

    @property
    def location(self) -> str:
        return f"{self.city}, {self.country}"


class Directory:
    """Humans known beforehand, found by any identifier that only one of them carries."""

    def __init__(self) -> None:
        self.humans: dict[int, Human] = {}
        self._index: dict[tuple[str, str], Human | None] = {}

    def __len__(self) -> int:
        return len(self.humans)

    def add(self, human: Human, keys: set[tuple[str, str]]) -> None:
        self.humans[human.number] = human
        for key in keys:
            known = self._index.setdefault(key, human)
            if known is not None and known.number != human.number:
                # Carried by several humans (a role mailbox, namesakes): it names nobody.
                self._index[key] = None

    def is_free(self, key: tuple[str, str]) -> bool:
        return key not in self._index

    def find(self, key: tuple[str, str]) -> Human | None | bool:
        """The human, None if several carry the identifier, False if nobody does."""
        return self._index.get(key, False)


def fingerprint(asked: Asked) -> int:
    """Three hashes of 32 bits in one number: vendor id, profile, address; 0 is absent."""
    vendor_id = asked.lance_id or asked.prospeo_id or asked.apollo_id
    number = 0
    for value in (vendor_id, asked.slug, asked.email):
        part = blake2b(value.encode(), digest_size=4).digest() if value else b""
        number = number << 32 | int.from_bytes(part)
    return number


def keys_of(asked: Asked) -> list[tuple[str, str]]:
    """Every key of the item, strongest first: vendor ids, LinkedIn, e-mail, name and company."""
    keys: list[tuple[str, str]] = []
    if asked.lance_id:
        keys.append(("lance", asked.lance_id))
    if asked.prospeo_id:
        keys.append(("prospeo", asked.prospeo_id))
    if asked.apollo_id:
        keys.append(("apollo", asked.apollo_id))
    if asked.slug:
        keys.append(("slug", asked.slug))
    if asked.email and not ids.is_role(asked.email):
        keys.append(("email", asked.email))
    if asked.first and asked.last:
        letters = ids.fold(asked.first + asked.last)
        if asked.domain:
            keys.append(("at", f"{letters}@{asked.domain}"))
        if asked.company:
            keys.append(("company", f"{letters}@{ids.fold(asked.company)}"))
    elif asked.email and not ids.is_role(asked.email):
        local, _, domain = asked.email.partition("@")
        keys.append(("at", ids.at_key(local, domain)))
    return keys


class Resolver:
    """Turns a request item into one human, the same for every provider."""

    def __init__(self, directory: Directory, seed: int) -> None:
        self._directory = directory
        self._key = b"human%d" % seed

    def resolve(self, asked: Asked) -> Human | None:
        """The directory's human, else the one that the strongest identifier stands for.

        None: the item names nobody, or only identifiers that several humans carry.
        """
        keys = keys_of(asked)
        blocked: set[tuple[str, str]] = set()
        if len(self._directory):
            for key in keys:
                found = self._directory.find(key)
                if isinstance(found, Human):
                    return found
                if found is None:
                    blocked.add(key)
        number = self._minted(asked)
        if number is not None and number in self._directory.humans:
            return self._directory.humans[number]
        if number is None:
            number = self._stand_in(asked, blocked)
        if number is None:
            return None
        return Human(number, f"~{number:016x}", _facts_of(asked))

    def number_of(self, name: str) -> int:
        return int.from_bytes(blake2b(name.encode(), digest_size=8, key=self._key).digest())

    @staticmethod
    def _minted(asked: Asked) -> int | None:
        for vendor_id in (asked.prospeo_id, asked.apollo_id):
            if vendor_id:
                number = ids.decode_hex(vendor_id)
                if number is not None:
                    return number
        return ids.minted_number(asked.slug, asked.email, asked.domain)

    def _stand_in(self, asked: Asked, blocked: set[tuple[str, str]]) -> int | None:
        if asked.slug and ("slug", asked.slug) not in blocked:
            return self.number_of(f"slug:{asked.slug}")
        email = asked.email
        if email and not ids.is_role(email) and ("email", email) not in blocked:
            local, _, domain = email.partition("@")
            return self.number_of(f"at:{ids.at_key(local, domain)}")
        if asked.first and asked.last:
            domain = asked.domain or ""
            if not domain and asked.company:
                domain = domain_of_company(asked.company)
            if domain:
                key = ids.at_key(asked.first + asked.last, domain)
                if ("at", key) not in blocked:
                    return self.number_of(f"at:{key}")
        for kind, vendor_id in (
            ("prospeo", asked.prospeo_id),
            ("apollo", asked.apollo_id),
            ("lance", asked.lance_id),
        ):
            if vendor_id and (kind, vendor_id) not in blocked:
                return self.number_of(f"{kind}:{vendor_id}")
        return None


def _facts_of(asked: Asked) -> Facts:
    first, last = asked.first, asked.last
    if not (first or last):
        first, last = _name_in(asked.slug, asked.email)
    email, personal_email, domain = "", "", asked.domain or ""
    if asked.email:
        host = asked.email.partition("@")[2]
        if host in ids.FREE_MAIL:
            personal_email = asked.email
        else:
            email = asked.email
            domain = host
    company = asked.company
    if domain and not company:
        company = domain.partition(".")[0].replace("-", " ").title()
    if company and not domain:
        domain = domain_of_company(company)
    return Facts(
        first=first,
        last=last,
        company=company,
        domain=domain,
        email=email,
        personal_email=personal_email,
        slug=asked.slug or "",
        prospeo_id=asked.prospeo_id or "",
        apollo_id=asked.apollo_id or "",
    )


def _name_in(slug: str | None, email: str | None) -> tuple[str, str]:
    """The name that a slug or an address spells out, ("", "") where it does not."""
    words: list[str] = []
    if slug:
        words = [w for w in slug.split("-") if w.isalpha()]
    if len(words) < 2 and email:
        local = email.partition("@")[0].replace("_", ".").replace("-", ".")
        words = [w for w in local.split(".") if w.isalpha() and len(w) > 1]
    if len(words) < 2:
        return "", ""
    return words[0].title(), " ".join(words[1:]).title()


@lru_cache(maxsize=4096)
def domain_of_company(company: str) -> str:
    """The domain that the sandbox gives to a company known by name only."""
    letters = "".join(c for c in ids.fold(company) if c.isascii())
    tail = blake2b(company.encode(), digest_size=3).hexdigest()
    return f"{letters[:30] or 'company'}-{tail}.com"


def work_address(first: str, last: str, domain: str, number: int) -> str:
    """The usual address at a domain; names without Latin letters get a code that names them."""
    left, right = ids.fold(first), ids.fold(last)
    if left and right and left.isascii() and right.isascii():
        return f"{left}.{right}@{domain}"
    return f"p.{ids.encode(number)}@{domain}"


class Truths:
    """What is true of a human at an epoch: a pure function of both, the seed and the rates."""

    def __init__(self, seed: int, rates: dict[str, float]) -> None:
        self._key = b"truth%d" % seed
        self._rates = rates

    def of(self, human: Human, epoch: int) -> Truth:
        facts = human.facts
        number = human.number
        dice = Dice(self._key, number, "self")
        place = self._place(facts, dice)
        first = facts.first or dice.pick(1, place.first_names)
        last = facts.last or dice.pick(2, place.last_names)
        job, former = self._jobs(human, first, last, dice, epoch)
        country_code = facts.country or place.code
        code = ids.encode(number)
        personal_email = facts.personal_email
        if not personal_email and dice.chance(3, self._rates["truth.personal_email"]):
            left = "".join(c for c in ids.fold(first) if c.isascii()) or "me"
            personal_email = f"{left}.{code}@{dice.pick(4, pools.PERSONAL_HOSTS)}"
        mobile = facts.phone
        if not mobile and dice.chance(5, self._rates["truth.mobile"]):
            choices = pools.OTHER_MOBILES.get(country_code, place.mobile)
            prefix, count = dice.pick(6, choices)
            mobile = prefix + dice.digits(7, count)
        slug = facts.slug
        if not slug:
            letters = "".join(c for c in ids.fold(last) if c.isascii())
            slug = f"{letters or 'member'}-{code}"
        return Truth(
            first=first,
            last=last,
            is_name_known=bool(facts.first and facts.last),
            job=job,
            former=former,
            personal_email=personal_email,
            mobile=mobile,
            country_code=country_code,
            country=place.country if place.code == country_code else country_code,
            city=dice.pick(11, place.cities),
            time_zone=place.time_zone,
            slug=slug,
            prospeo_id=facts.prospeo_id or ids.encode_hex(number, 21),
            apollo_id=facts.apollo_id or ids.encode_hex(number, 24),
        )

    @staticmethod
    def _place(facts: Facts, dice: Dice) -> pools.Place:
        if facts.country:
            known = pools.PLACE_BY_CODE.get(facts.country)
            return known or pools.PLACES[0]
        suffix = facts.domain.rpartition(".")[2].upper()
        by_domain = pools.PLACE_BY_CODE.get({"UK": "GB"}.get(suffix, suffix))
        return by_domain or dice.pick(12, pools.PLACES)

    def _jobs(
        self, human: Human, first: str, last: str, dice: Dice, epoch: int
    ) -> tuple[Job, Job | None]:
        facts = human.facts
        number = human.number
        if facts.domain:
            email = facts.email
            if email.partition("@")[2] != facts.domain:
                email = work_address(first, last, facts.domain, number)
            title = facts.title or dice.pick(13, pools.TITLES)
            job = Job(facts.company or facts.domain, facts.domain, title, email)
        else:
            job = self._invented_job(number, first, last, "first", facts.company)
        former: Job | None = None
        changes = ["before"] if dice.chance(14, self._rates["truth.moved"]) else []
        share = self._rates["truth.job_change"]
        for passed in range(1, epoch + 1):
            if Dice(self._key, number, f"move{passed}").chance(0, share):
                changes.append(str(passed))
        for change in changes:
            former, job = job, self._invented_job(number, first, last, change, "")
        return job, former

    def _invented_job(self, number: int, first: str, last: str, when: str, company: str) -> Job:
        dice = Dice(self._key, number, f"job:{when}")
        words = (
            dice.pick(0, pools.COMPANY_FIRST),
            dice.pick(1, pools.COMPANY_SECOND),
            dice.pick(2, pools.COMPANY_TRADE),
        )
        # The domain carries the human's code, so that an address there leads back to them.
        label = f"{words[0]}{words[1]}".lower()
        domain = f"{label}-{ids.encode(number)}.{dice.pick(3, pools.COMPANY_TLD)}"
        email = work_address(first, last, domain, number)
        return Job(company or " ".join(words), domain, dice.pick(4, pools.TITLES), email)

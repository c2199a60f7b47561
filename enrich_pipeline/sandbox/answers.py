"""What a provider knows of a human: its coverage, its mistakes, its spelling.

Every answer is a pure function of (human, provider, epoch, seed). How a provider words it in JSON
is in the provider's own module.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from . import identifiers as ids
from . import pools
from .humans import Dice, Facts, Human, Job, Truth, Truths

Quality = Literal["verified", "catch_all", "unverified"]

# Throws 0 to 9 of a view's dice are the provider's, the rest are used here.
_LAGGING, _RESPELLED, _OTHER, _VERIFIED, _KIND_OF_DOUBT = 10, 11, 12, 13, 14


@dataclass(frozen=True, slots=True)
class View:
    """One provider's picture of one human.

    `is_other_person`: the provider confuses them with somebody else, and everything here is that
    somebody's. `job` may be the former one: the provider has not noticed the change.
    """

    truth: Truth
    dice: Dice
    first: str
    last: str
    job: Job
    is_lagging: bool
    is_other_person: bool

    @property
    def full_name(self) -> str:
        return f"{self.first} {self.last}".strip()

    def knows(self, throw: int, share: float, among: float = 1.0) -> bool:
        """Whether the provider has a thing that it has of `share` of all people.

        `among` is the share of people for whom the question comes up at all.
        """
        return among > 0 and self.dice.chance(throw, min(1.0, share / among))

    def email(self, verified_share: float) -> tuple[str, Quality]:
        """The work address that the provider would give, and how good it thinks it is."""
        if self.is_lagging:
            return self.job.email, "unverified"
        if self.dice.chance(_VERIFIED, verified_share):
            return self.job.email, "verified"
        if self.dice.chance(_KIND_OF_DOUBT, 0.5):
            return self.job.email, "catch_all"
        return _guessed(self.job.email), "unverified"


class Answers:
    """The providers' pictures of people; `epoch` moves for all of them at once."""

    def __init__(self, seed: int, rates: dict[str, float], epoch: int) -> None:
        self.rates = rates
        self.epoch = epoch
        self.truths = Truths(seed, rates)
        self._key = b"answer%d" % seed

    def view(
        self, human: Human, provider: str, epoch: int | None = None, can_confuse: bool = True
    ) -> View:
        """The provider's picture; never of somebody else where the caller could not notice."""
        at = self.epoch if epoch is None else epoch
        dice = Dice(self._key, human.number, f"{provider}@{at}")
        is_other = can_confuse and dice.chance(_OTHER, self.rates["answer.other_person"])
        if is_other:
            human = _somebody_else(human)
        truth = self.truths.of(human, at)
        is_lagging = truth.former is not None and dice.chance(
            _LAGGING, self.rates["answer.lagging"]
        )
        first, last = truth.first, truth.last
        if dice.chance(_RESPELLED, self.rates["answer.respelled"]):
            first, last = _respelled(first, last)
        job = truth.former if is_lagging and truth.former is not None else truth.job
        return View(truth, dice, first, last, job, is_lagging, is_other)


def mobile_share(rates: Mapping[str, float]) -> float:
    return rates["truth.mobile"]


def is_permitted(mobile: str, countries: Sequence[str]) -> bool:
    """Whether a mobile belongs to one of the countries; no countries permit every number."""
    return not countries or any(
        mobile.startswith(_DIALLING[code]) for code in countries if code in _DIALLING
    )


_DIALLING = {
    "US": "+1", "CA": "+1", "GB": "+44", "DE": "+49", "FR": "+33", "ES": "+34", "NL": "+31",
    "PL": "+48", "SE": "+46", "IN": "+91", "BR": "+55", "IE": "+353", "IT": "+39", "CH": "+41",
    "AT": "+43", "BE": "+32", "PT": "+351", "DK": "+45", "NO": "+47", "AU": "+61",
}  # fmt: skip


def _somebody_else(human: Human) -> Human:
    digest = blake2b(b"somebody else than %d" % human.number, digest_size=8).digest()
    facts = human.facts
    colleague = Facts(company=facts.company, domain=facts.domain, country=facts.country)
    return Human(int.from_bytes(digest), "", colleague)


def _guessed(address: str) -> str:
    local, _, domain = address.partition("@")
    swapped = local.replace(".", "_") if "." in local else f"{local}1"
    return f"{swapped}@{domain}"


def _respelled(first: str, last: str) -> tuple[str, str]:
    folded = ids.fold(last)
    if folded in pools.RESPELLED_LAST and pools.RESPELLED_LAST[folded] != last:
        return first, pools.RESPELLED_LAST[folded]
    if folded.isascii() and " " not in last and last.isalpha():
        # A provider without accents: the plain letters in title case.
        plain = "".join(ids.fold(c).upper() if c.isupper() else ids.fold(c) for c in last)
        return first, plain.title()
    return first, last

"""What a planned night would cost, from what each provider could be asked: no call, no writing.

Pure arithmetic over counted patterns: persons who stand alike before every provider count as one.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import Final

from enrich_pipeline.domain.batching import call_sizes
from enrich_pipeline.domain.credit import usd_micro
from enrich_pipeline.domain.policy import Policy, micro
from enrich_pipeline.providers.protocol import Datapoint, Offer, Provider

UNTRIED: Final = Fraction(1, 2)
"""The share of persons taken to be found by a provider that has not been asked often enough."""

# What the answers of a night can add to a person, which may make further providers eligible.
_LEARNABLE: Final = frozenset(
    {Datapoint.EMAIL, Datapoint.LINKEDIN, Datapoint.COMPANY_NAME, Datapoint.COMPANY_DOMAIN}
)
# Reasons against a provider that something learned in the night can remove.
_REMOVABLE: Final = frozenset(
    {"not_eligible", "known_miss", "filtered", "invalid_input", "other_person"}
)


@dataclass(frozen=True, slots=True)
class Step:
    """One provider of a field's waterfall; `reason` says why it cannot be asked, None: it can."""

    field: str
    provider: str
    product: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Pattern:
    """`persons` who stand alike: same batch, consent, datapoints and steps (by field, in order)."""

    batch: int
    consented: bool
    present: frozenset[str]
    steps: tuple[Step, ...]
    persons: int


@dataclass(frozen=True, slots=True)
class Range:
    """Three readings of one figure.

    `least`: every field is answered by the first provider asked; of credits 0, since nothing may be
    found and misses are free. `most`: every person walks the whole waterfall, whatever is learned
    on the way, and every hold is spent. `expected`: providers find what they found lately and are
    paid for that. Budgets are not counted in: they only make it less.
    """

    least: int
    expected: int
    most: int


@dataclass(frozen=True, slots=True)
class ProviderPrice:
    """What a night asks of one provider; amounts in micro-credits of its unit and micro-USD."""

    provider: str
    persons: Range
    calls: Range
    credits_micro: Range
    usd_micro: Range


@dataclass(slots=True)
class _Sum:
    persons: Fraction = Fraction(0)
    credits_micro: Fraction = Fraction(0)


class _Walk:
    """One reading of the night: who is asked by which provider, in which kind of call."""

    def __init__(self) -> None:
        self.sums: dict[str, _Sum] = defaultdict(_Sum)
        self.groups: dict[tuple[str, int, str], Fraction] = defaultdict(Fraction)

    def add(
        self,
        pattern: Pattern,
        provider: Provider,
        shares: Mapping[str, Fraction],
        amounts: Mapping[str, Fraction],
    ) -> None:
        """Add persons: `shares` of them are asked for each product, at `amounts` per asked."""
        offers = [o for o in provider.offers(consented=pattern.consented) if shares.get(o.product)]
        if not offers:
            return
        total = self.sums[provider.name]
        total.persons += pattern.persons * max(shares[o.product] for o in offers)
        for offer in offers:
            total.credits_micro += (
                pattern.persons * shares[offer.product] * amounts.get(offer.product, Fraction(0))
            )
        for group, members in provider.groups(offers):
            share = max(shares[o.product] for o in members)
            self.groups[provider.name, pattern.batch, group] += pattern.persons * share

    def calls(self, provider: Provider, maximum: int) -> int:
        limits = provider.limits
        return sum(
            len(call_sizes(round(persons), limits.minimum, maximum, single=limits.single))
            for (name, _, _), persons in self.groups.items()
            if name == provider.name
        )


def price(
    patterns: Sequence[Pattern],
    policy: Policy,
    providers: Mapping[str, Provider],
    found_rates: Mapping[tuple[str, str], Fraction],
    day: date,
) -> tuple[ProviderPrice, ...]:
    """Price the night for every provider that some person may come to, in the providers' order.

    `found_rates` maps (provider, field) to the share of persons found; `day` chooses the tariff.
    """
    least, expected, most = _Walk(), _Walk(), _Walk()
    for pattern in patterns:
        _add_least(least, pattern, providers)
        _add_expected(expected, pattern, policy, providers, found_rates, day)
        _add_most(most, pattern, policy, providers, day)
    prices = []
    for name, provider in providers.items():
        if name not in most.sums:
            continue
        terms = policy.providers[name]
        maximum = min(terms.batch_size or provider.limits.maximum, provider.limits.maximum)
        rate = micro(terms.tariff(day).usd_per_credit)
        walks = (least, expected, most)
        credits = [round(walk.sums[name].credits_micro) for walk in walks]
        prices.append(
            ProviderPrice(
                provider=name,
                persons=Range(*(round(walk.sums[name].persons) for walk in walks)),
                calls=Range(*(walk.calls(provider, maximum) for walk in walks)),
                credits_micro=Range(*credits),
                usd_micro=Range(*(usd_micro(amount, rate) for amount in credits)),
            )
        )
    return tuple(prices)


def _add_least(walk: _Walk, pattern: Pattern, providers: Mapping[str, Provider]) -> None:
    firsts: dict[str, dict[str, Fraction]] = defaultdict(dict)
    for steps in _by_field(pattern.steps):
        first = next((s for s in steps if s.reason is None), None)
        if first is not None:
            firsts[first.provider][first.product] = Fraction(1)
    for name, shares in firsts.items():
        walk.add(pattern, providers[name], shares, {})


def _add_expected(
    walk: _Walk,
    pattern: Pattern,
    policy: Policy,
    providers: Mapping[str, Provider],
    found_rates: Mapping[tuple[str, str], Fraction],
    day: date,
) -> None:
    shares: dict[str, dict[str, Fraction]] = defaultdict(dict)
    rates: dict[tuple[str, str], Fraction] = {}
    for steps in _by_field(pattern.steps):
        reach = Fraction(1)
        for step in steps:
            if step.reason is not None:
                continue
            rate = found_rates.get((step.provider, step.field), UNTRIED)
            asked = shares[step.provider]
            asked[step.product] = max(asked.get(step.product, Fraction(0)), reach)
            key = (step.provider, step.product)
            rates[key] = max(rates.get(key, Fraction(0)), rate)
            reach *= 1 - rate
    for name, asked in shares.items():
        provider = providers[name]
        _bring(asked, provider.offers(consented=pattern.consented))
        tariff = policy.providers[name].tariff(day)
        amounts = {
            product: micro(tariff.prices[product]) * rates.get((name, product), UNTRIED)
            for product in asked
        }
        walk.add(pattern, provider, asked, amounts)


def _add_most(
    walk: _Walk,
    pattern: Pattern,
    policy: Policy,
    providers: Mapping[str, Provider],
    day: date,
) -> None:
    shares: dict[str, dict[str, Fraction]] = defaultdict(dict)
    attainable = pattern.present | _LEARNABLE
    for step in pattern.steps:
        provider = providers[step.provider]
        offer = next(
            (o for o in provider.offers(consented=pattern.consented) if o.product == step.product),
            None,
        )
        if offer is None or (step.reason is not None and step.reason not in _REMOVABLE):
            continue
        if any(needed <= attainable for needed in offer.requires):
            shares[step.provider][step.product] = Fraction(1)
    for name, asked in shares.items():
        provider = providers[name]
        _bring(asked, provider.offers(consented=pattern.consented))
        tariff = policy.providers[name].tariff(day)
        amounts = {
            product: Fraction(max(micro(tariff.prices[product]), provider.cap_micro(product) or 0))
            for product in asked
        }
        walk.add(pattern, provider, asked, amounts)


def _bring(asked: dict[str, Fraction], offers: Sequence[Offer]) -> None:
    for offer in offers:
        if offer.product in asked:
            for product in offer.brings:
                asked[product] = max(asked.get(product, Fraction(0)), asked[offer.product])


def _by_field(steps: Iterable[Step]) -> Iterable[list[Step]]:
    fields: dict[str, list[Step]] = defaultdict(list)
    for step in steps:
        fields[step.field].append(step)
    return fields.values()

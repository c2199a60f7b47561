"""The order of ops for several waterfalls: one chain in which every field finds its providers.

The chain is only a schedule: where a field stands is written in its enrichment, and a field is
served at the first op of its next provider.
"""

from collections.abc import Mapping, Sequence
from functools import cache


def op_chain(waterfalls: Mapping[str, Sequence[str]], preferred: Sequence[str]) -> tuple[str, ...]:
    """The shortest sequence that contains every waterfall in its order; providers may repeat.

    Of equally short chains the first in the order of `preferred` wins, so that the same
    configuration always gives the same ops.
    """
    orders = tuple(tuple(order) for order in waterfalls.values() if order)
    ranking = list(preferred) + sorted({p for order in orders for p in order} - set(preferred))

    def advance(at: tuple[int, ...], provider: str) -> tuple[int, ...]:
        return tuple(
            i + 1 if i < len(order) and order[i] == provider else i
            for i, order in zip(at, orders, strict=True)
        )

    @cache
    def length(at: tuple[int, ...]) -> int:
        steps = [advance(at, provider) for provider in ranking]
        return min((1 + length(to) for to in steps if to != at), default=0)

    at = tuple(0 for _ in orders)
    chain: list[str] = []
    while length(at):
        provider = next(
            p for p in ranking if (to := advance(at, p)) != at and length(to) == length(at) - 1
        )
        chain.append(provider)
        at = advance(at, provider)
    return tuple(chain)


def op_names(chain: Sequence[str]) -> tuple[str, ...]:
    """`try_<provider>`, and `try_<provider>_2` and so on where a provider comes again."""
    names: list[str] = []
    for index, provider in enumerate(chain):
        turn = chain[: index + 1].count(provider)
        names.append(f"try_{provider}" if turn == 1 else f"try_{provider}_{turn}")
    return tuple(names)

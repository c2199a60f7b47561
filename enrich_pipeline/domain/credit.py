"""Arithmetic of credits: integers of a millionth, nothing lost and nothing made by rounding."""

from collections.abc import Sequence

MICRO = 1_000_000


def usd_micro(amount_micro: int, usd_micro_per_credit: int) -> int:
    """Micro-credits to micro-USD at a frozen rate, rounded half up."""
    return (amount_micro * usd_micro_per_credit + MICRO // 2) // MICRO


def divide(total: int, weights: Sequence[int]) -> list[int]:
    """Splits `total` in proportion to `weights` by largest remainder; the parts sum to `total`.

    Equal remainders go to the earlier part. Without any weight everything is 0.
    """
    whole = sum(weights)
    if whole <= 0:
        return [0] * len(weights)
    parts = [total * weight // whole for weight in weights]
    remainders = [(-(total * weight % whole), index) for index, weight in enumerate(weights)]
    for _, index in sorted(remainders)[: total - sum(parts)]:
        parts[index] += 1
    return parts

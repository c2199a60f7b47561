"""The result type that every normalizer of this package returns. No rules live here."""

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Normalized(Generic[T]):
    """A clean value, or none and the reason code of what made it absent.

    `problem` is None when a value is there and when the raw value was empty: an empty cell is not a
    problem, only a value that could not be kept is one. The code never holds the raw value.
    """

    value: T | None
    problem: str | None = None

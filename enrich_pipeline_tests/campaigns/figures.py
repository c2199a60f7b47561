"""What a campaign reports: how large it is run, what it counted, what it found broken."""

import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

Value = int | float | str
BROKEN = "BROKEN  "
"""Begins the line that says a violation as soon as it is found."""


class CannotRun(Exception):
    """This machine does not allow what a campaign needs; the message says what that is."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of a campaign is run: the short form of the test suite, or a share of the full one.

    `share` is None for the short form, 1 for the full one.
    """

    share: float | None

    @classmethod
    def parse(cls, words: str) -> "Scale":
        """`short`, `full`, or a share of the full form such as `0.1`.

        Raises:
            ValueError: anything else.
        """
        if words == "short":
            return SHORT
        if words == "full":
            return FULL
        share = float(words)
        if not 0 < share <= 1:
            raise ValueError("a share of the full form lies above 0 and is at most 1")
        return cls(share)

    def of(self, *, short: int, full: int) -> int:
        """The size of one dimension of a campaign."""
        return short if self.share is None else max(1, round(full * self.share))

    def __str__(self) -> str:
        return "short" if self.share is None else "full" if self.share == 1 else str(self.share)


SHORT = Scale(None)
FULL = Scale(1.0)


@dataclass(slots=True)
class Figures:
    """Counts in the order in which they were first mentioned, and every violation in words.

    May be shared by threads.
    """

    values: dict[str, Value] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    _turn: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, name: str, amount: int = 1) -> None:
        """Counts."""
        with self._turn:
            self.values[name] = int(self.values.get(name, 0)) + amount

    def at_most(self, name: str, amount: float) -> None:
        """Keeps the largest value seen."""
        with self._turn:
            self.values[name] = max(float(self.values.get(name, amount)), amount)

    def note(self, name: str, value: Value) -> None:
        """Sets a figure that is not a count."""
        self.values[name] = value

    def blame(self, where: str, violations: Iterable[str]) -> None:
        """Keeps violations, each with where it happened (a schedule's seed, say), and says so."""
        for violation in violations:
            self.violations.append(f"{where}: {violation}")
            print(f"{BROKEN}{self.violations[-1]}", file=sys.stderr, flush=True)


class Ticker:
    """Prints how far a campaign is, every few seconds and never more often."""

    def __init__(self, figures: Figures, total: int, what: str, every_seconds: float = 5.0) -> None:
        self._figures, self._total, self._what = figures, total, what
        self._every = every_seconds
        self._started = self._last = time.monotonic()

    def tick(self, done: int) -> None:
        now = time.monotonic()
        if now - self._last < self._every:
            return
        self._last = now
        broken = len(self._figures.violations)
        print(
            f"{done}/{self._total} {self._what}, {now - self._started:.0f} s, {broken} violations",
            file=sys.stderr,
            flush=True,
        )

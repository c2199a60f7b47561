"""The in-memory model: persons, the searches for their fields, calls and what they are charged.

Amounts are micro-credits; a credit is a dollar, so that they are micro-dollars as well.
"""

from dataclasses import dataclass, field

from .model_said import Place, Said

UNSETTLED = ("held", "in_doubt", "written_off")
LIVE = ("held", "in_doubt")


class Divergence(AssertionError):
    """The tables say one thing, the model another."""


@dataclass(slots=True, eq=False)
class Person:
    """One human as far as contacts are joined. `known`: kinds of identifiers to ask by."""

    person_id: int
    known: set[str]
    consents: bool
    is_blocked: bool = False
    merged_into: "Person | None" = None
    ids: dict[str, str] = field(default_factory=dict)
    """By which ids providers know the person."""

    @property
    def now(self) -> "Person":
        """Whom this person is part of."""
        return self if self.merged_into is None else self.merged_into


@dataclass(slots=True, eq=False)
class Quest:
    """The search for one field of one person: an enrichment."""

    person: Person
    field: str
    waterfall: tuple[str, ...]
    day: int
    opened_at: int
    position: int = 0
    state: str = "open"
    result: str | None = None
    has_candidate: bool = False
    has_error: bool = False
    waits_for: "Line | None" = None
    told_by: "Line | None" = None
    """What served it, or was asked last of all that found something for it."""
    is_served: bool = False
    closed_at: int = 0
    closed_known: frozenset[str] = frozenset()

    @property
    def next_provider(self) -> str | None:
        return self.waterfall[self.position] if self.position < len(self.waterfall) else None

    @property
    def is_live(self) -> bool:
        return self.state in ("open", "pending", "in_doubt")


@dataclass(slots=True, eq=False)
class Line:
    """One product for one person in one call."""

    call_id: int
    key: str
    person: Person
    provider: str
    product: str
    options: str
    fields: tuple[str, ...]
    hold: int
    sent: set[str]
    asked: dict[str, Quest]
    state: str = "held"
    cost: int = 0
    verdict: str | None = None
    subject: str | None = None
    """By which id the provider speaks of this person in this call."""
    heard: set[str] = field(default_factory=set)
    """Fields of which values were stored, rejected ones included."""
    outcomes: dict[str, str] = field(default_factory=dict)
    kept: dict[str, bool] = field(default_factory=dict)
    """Values that were kept: field -> whether they are good enough."""


@dataclass(slots=True, eq=False)
class Call:
    call_id: int
    provider: str
    group: str
    run_id: str
    lines: list[Line]
    has_token: bool
    state: str = "reserved"
    is_lease_over: bool = False
    deadline: str | None = None
    horizon: str | None = None
    sends: int = 0
    has_job: bool = False
    unread: list[tuple[str, Said]] = field(default_factory=list)
    unassigned: int = 0
    overage: int = 0

    @property
    def keys(self) -> list[str]:
        return list(dict.fromkeys(line.key for line in self.lines))

    def place(self, place: Place) -> Line | None:
        return next((x for x in self.lines if (x.key, x.product) == place), None)

    @property
    def is_closed(self) -> bool:
        return self.state in ("settled", "released", "written_off")

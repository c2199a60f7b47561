"""Double entry: which ledger entries follow from charge lines changing state.

Per call and at every moment: hold = posted + released + doubted + still held. Entries are summed
over the lines of one settlement, so that their number does not depend on the number of persons.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from enrich_pipeline.domain.credit import usd_micro


class LineState(StrEnum):
    """Life of one charge line."""

    HELD = "held"
    POSTED = "posted"
    RELEASED = "released"
    IN_DOUBT = "in_doubt"
    WRITTEN_OFF = "written_off"


class Account(StrEnum):
    """Per provider; balance = debits - credits, all balances sum to 0."""

    AVAILABLE = "available"
    HELD = "held"
    IN_DOUBT = "in_doubt"
    SPENT = "spent"
    WRITTEN_OFF = "written_off"
    OVERAGE_DUE = "overage_due"


class EntryType(StrEnum):
    """What an entry says happened; `debit` and `credit` accounts follow from it."""

    HOLD = "hold"
    POST = "post"
    RELEASE = "release"
    DOUBT = "doubt"
    DOUBT_POST = "doubt_post"
    DOUBT_RELEASE = "doubt_release"
    WRITE_OFF = "write_off"
    RECOVER = "recover"
    RECOVER_RELEASE = "recover_release"
    OVERAGE = "overage"


SIDES: dict[EntryType, tuple[Account, Account]] = {
    EntryType.HOLD: (Account.HELD, Account.AVAILABLE),
    EntryType.POST: (Account.SPENT, Account.HELD),
    EntryType.RELEASE: (Account.AVAILABLE, Account.HELD),
    EntryType.DOUBT: (Account.IN_DOUBT, Account.HELD),
    EntryType.DOUBT_POST: (Account.SPENT, Account.IN_DOUBT),
    EntryType.DOUBT_RELEASE: (Account.AVAILABLE, Account.IN_DOUBT),
    EntryType.WRITE_OFF: (Account.WRITTEN_OFF, Account.IN_DOUBT),
    EntryType.RECOVER: (Account.SPENT, Account.WRITTEN_OFF),
    EntryType.RECOVER_RELEASE: (Account.AVAILABLE, Account.WRITTEN_OFF),
    EntryType.OVERAGE: (Account.SPENT, Account.OVERAGE_DUE),
}
"""Entry type -> (debited account, credited account)."""

_CHARGE = {
    LineState.HELD: (EntryType.POST, EntryType.RELEASE),
    LineState.IN_DOUBT: (EntryType.DOUBT_POST, EntryType.DOUBT_RELEASE),
    LineState.WRITTEN_OFF: (EntryType.RECOVER, EntryType.RECOVER_RELEASE),
}


@dataclass(frozen=True, slots=True)
class LineChange:
    """One charge line going from one state to another; amounts in micro-units, USD in micro-USD."""

    line_id: int
    person_id: int
    before: LineState
    after: LineState
    hold_micro: int
    hold_usd_micro: int
    cost_micro: int = 0
    cost_usd_micro: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One ledger entry of a settlement, before it has a key."""

    entry_type: EntryType
    amount_micro: int
    amount_usd_micro: int


@dataclass(frozen=True, slots=True)
class BudgetMove:
    """What a settlement does to the budgets, in micro-units and micro-USD."""

    held: int = 0
    in_doubt: int = 0
    spent: int = 0
    overage: int = 0


def entries(
    changes: Sequence[LineChange], unassigned_micro: int, usd_micro_per_credit: int
) -> tuple[Entry, ...]:
    """The ledger entries of one settlement.

    `unassigned_micro` is a reported cost that no line explains: it is taken from the holds that
    end here as far as they reach; what is beyond them is an overage, recorded and never refused.
    """
    result: list[Entry] = []
    unassigned = unassigned_micro
    for before in (LineState.HELD, LineState.IN_DOUBT, LineState.WRITTEN_OFF):
        mine = [c for c in changes if c.before is before]
        charged = [c for c in mine if c.after in (LineState.POSTED, LineState.RELEASED)]
        hold = (sum(c.hold_micro for c in charged), sum(c.hold_usd_micro for c in charged))
        cost = sum(c.cost_micro for c in charged)
        if charged:
            cost, unassigned = cost + unassigned, 0
        paid = min(cost, hold[0])
        # Converted once per settlement: the sum of many rounded dollars is not the rounded sum.
        paid_usd = min(usd_micro(paid, usd_micro_per_credit), hold[1])
        if paid == hold[0]:
            # No release is left that could give back what rounding up each line held too much.
            paid_usd = hold[1]
        post, release = _CHARGE[before]
        result.append(Entry(post, paid, paid_usd))
        result.append(Entry(release, hold[0] - paid, hold[1] - paid_usd))
        over = cost - paid
        result.append(Entry(EntryType.OVERAGE, over, usd_micro(over, usd_micro_per_credit)))
        for after, kind in (
            (LineState.IN_DOUBT, EntryType.DOUBT),
            (LineState.WRITTEN_OFF, EntryType.WRITE_OFF),
        ):
            moved = [c for c in mine if c.after is after]
            result.append(
                Entry(kind, sum(c.hold_micro for c in moved), sum(c.hold_usd_micro for c in moved))
            )
    if unassigned:
        dollars = usd_micro(unassigned, usd_micro_per_credit)
        result.append(Entry(EntryType.OVERAGE, unassigned, dollars))
    return _summed(result)


def _summed(parts: Iterable[Entry]) -> tuple[Entry, ...]:
    amounts: dict[EntryType, tuple[int, int]] = {}
    for part in parts:
        micro, usd = amounts.get(part.entry_type, (0, 0))
        amounts[part.entry_type] = (micro + part.amount_micro, usd + part.amount_usd_micro)
    return tuple(Entry(kind, micro, usd) for kind, (micro, usd) in amounts.items() if micro > 0)


def budget_move(parts: Sequence[Entry], *, usd: bool) -> BudgetMove:
    """What those entries do to a budget row; what is written off counts as spent."""
    held = in_doubt = spent = overage = 0
    for part in parts:
        amount = part.amount_usd_micro if usd else part.amount_micro
        match part.entry_type:
            case EntryType.HOLD:
                held += amount
            case EntryType.POST:
                held -= amount
                spent += amount
            case EntryType.RELEASE:
                held -= amount
            case EntryType.DOUBT:
                held -= amount
                in_doubt += amount
            case EntryType.DOUBT_POST | EntryType.WRITE_OFF:
                in_doubt -= amount
                spent += amount
            case EntryType.DOUBT_RELEASE:
                in_doubt -= amount
            case EntryType.RECOVER:
                pass
            case EntryType.RECOVER_RELEASE:
                spent -= amount
            case EntryType.OVERAGE:
                overage += amount
    return BudgetMove(held, in_doubt, spent, overage)

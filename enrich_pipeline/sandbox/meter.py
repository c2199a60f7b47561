"""Who was charged for what: the sandbox's own truth about money.

Kept per human in flat columns, because a rehearsal of a million contacts makes millions of charges.
Nothing here knows how a provider answers.
"""

import sqlite3
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

_BITS = 32
_PART = (1 << _BITS) - 1


@dataclass(frozen=True, slots=True)
class Charge:
    """One amount charged, in micro-units of the provider's unit, for one human and product.

    `options` are what the caller chose with the product; `identifiers` is a fingerprint of what was
    sent (see `humans.fingerprint`).
    """

    human: int
    provider: str
    product: str
    options: str
    amount: int
    call: int
    epoch: int
    at: float
    identifiers: int


class Meter:
    """Every charge since the start or the last reset; optionally durable in one SQLite file."""

    def __init__(self, state: Path | None = None) -> None:
        self._names: list[tuple[str, str, str]] = []
        self._codes: dict[tuple[str, str, str], int] = {}
        self._file = _open(state) if state is not None else None
        self._unsaved: list[tuple[object, ...]] = []
        self.reset_memory()
        if self._file is not None:
            for row in self._file.execute(
                "SELECT human, provider, product, options, amount, call, epoch, at, identifiers"
                " FROM charges ORDER BY rowid"
            ):
                self._append(_charge_of(row))

    def reset_memory(self) -> None:
        self._human, self._vendor_id, self._named = array("Q"), array("L"), array("Q")
        self._code, self._amount, self._call = array("H"), array("q"), array("Q")
        self._epoch, self._at = array("L"), array("d")
        self.charged: dict[str, int] = {}

    def reset(self) -> None:
        self.reset_memory()
        self._unsaved.clear()
        if self._file is not None:
            self._file.execute("DELETE FROM charges")
            self._file.commit()

    def __len__(self) -> int:
        return len(self._human)

    @property
    def last_call(self) -> int:
        return max(self._call, default=0)

    def add(self, charge: Charge) -> None:
        self._append(charge)
        if self._file is not None:
            self._unsaved.append(
                (
                    f"{charge.human:016x}", charge.provider, charge.product, charge.options,
                    charge.amount, charge.call, charge.epoch, charge.at,
                    f"{charge.identifiers:024x}",
                )
            )  # fmt: skip

    def save(self) -> None:
        """Writes what was charged since the last save; called before a reply leaves."""
        if self._file is not None and self._unsaved:
            self._file.executemany("INSERT INTO charges VALUES (?,?,?,?,?,?,?,?,?)", self._unsaved)
            self._file.commit()
            self._unsaved.clear()

    def close(self) -> None:
        if self._file is not None:
            self.save()
            self._file.close()

    def __iter__(self) -> Iterator[Charge]:
        for position in range(len(self._human)):
            yield self._at_position(position)

    def double_charges(self, label: Callable[[int], str]) -> list[dict[str, object]]:
        """(human, provider, product) charged more than once within one epoch.

        `shares_identifier`: two of the charges were asked for with the same profile, address or
        vendor id. Where it is false the caller asked for one human in different words, and may
        have been unable to know.
        """
        seen: dict[tuple[int, int, int], int | list[int]] = {}
        several: dict[tuple[int, int, int], list[int]] = {}
        names = self._names
        products = {names[code][:2]: code for code in reversed(range(len(names)))}
        merged = [products[name[:2]] for name in names]
        for position, (human, code, epoch) in enumerate(
            zip(self._human, self._code, self._epoch, strict=True)
        ):
            key = (human, merged[code], epoch)
            first = seen.setdefault(key, position)
            if first != position:
                several.setdefault(key, [int(str(first))]).append(position)
        rows: list[dict[str, object]] = []
        for (human, code, epoch), positions in several.items():
            prints = [self._fingerprint(p) for p in positions]
            rows.append(
                {
                    "human": label(human),
                    "provider": names[code][0],
                    "product": names[code][1],
                    "epoch": epoch,
                    "times": len(positions),
                    "calls": [self._call[p] for p in positions],
                    "options": [names[self._code[p]][2] for p in positions],
                    "amounts_micro": [self._amount[p] for p in positions],
                    "shares_identifier": any(
                        shares_part(one, other) for one, other in combinations(prints, 2)
                    ),
                }
            )
        return rows

    def _append(self, charge: Charge) -> None:
        name = (charge.provider, charge.product, charge.options)
        code = self._codes.get(name)
        if code is None:
            code = self._codes[name] = len(self._names)
            self._names.append(name)
        self._human.append(charge.human)
        self._code.append(code)
        self._amount.append(charge.amount)
        self._call.append(charge.call)
        self._epoch.append(charge.epoch)
        self._at.append(charge.at)
        self._vendor_id.append(charge.identifiers >> 2 * _BITS)
        self._named.append(charge.identifiers & (1 << 2 * _BITS) - 1)
        self.charged[charge.provider] = self.charged.get(charge.provider, 0) + charge.amount

    def _fingerprint(self, position: int) -> int:
        return self._vendor_id[position] << 2 * _BITS | self._named[position]

    def _at_position(self, position: int) -> Charge:
        provider, product, options = self._names[self._code[position]]
        return Charge(
            self._human[position], provider, product, options, self._amount[position],
            self._call[position], self._epoch[position], self._at[position],
            self._fingerprint(position),
        )  # fmt: skip


def shares_part(one: int, other: int) -> bool:
    """Whether two fingerprints have one of their three parts in common."""
    return any(
        (one >> shift) & _PART == (other >> shift) & _PART != 0 for shift in (0, _BITS, 2 * _BITS)
    )


def _charge_of(row: tuple[Any, ...]) -> Charge:
    return Charge(
        human=int(row[0], 16),
        provider=row[1],
        product=row[2],
        options=row[3],
        amount=row[4],
        call=row[5],
        epoch=row[6],
        at=row[7],
        identifiers=int(row[8], 16),
    )


def _open(path: Path) -> sqlite3.Connection:
    file = sqlite3.connect(path, check_same_thread=False)
    file.execute("PRAGMA journal_mode=WAL")
    file.execute("PRAGMA synchronous=NORMAL")
    file.execute(
        "CREATE TABLE IF NOT EXISTS charges (human TEXT, provider TEXT, product TEXT,"
        " options TEXT, amount INTEGER, call INTEGER, epoch INTEGER, at REAL, identifiers TEXT)"
    )
    file.commit()
    return file

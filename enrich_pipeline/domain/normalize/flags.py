"""Yes or no as people and systems spell it, and what is neither."""

from enum import Enum
from typing import Final

from enrich_pipeline.domain.normalize.text import clean, word_set


class Unreadable(Enum):
    """The type of `UNREADABLE`: a cell that says neither yes nor no."""

    UNREADABLE = "unreadable"


UNREADABLE: Final = Unreadable.UNREADABLE

_YES: Final = word_set("true t yes y 1 1.0 on x ja j si sí sim oui checked")
_NO: Final = word_set("false f no n 0 0.0 off nein nee nej não nao non unchecked")


def flag(raw: object) -> bool | Unreadable:
    """Return yes, no (an empty cell is a no), or `UNREADABLE`; who asks decides what that means."""
    if raw is None or raw == "":
        return False
    if isinstance(raw, bool):
        return raw
    word = clean(raw).casefold()
    if word in _NO or not word:
        return False
    return True if word in _YES else UNREADABLE

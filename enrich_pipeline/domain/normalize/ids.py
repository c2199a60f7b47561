"""Ids that providers gave to persons, and the source's own id of a contact."""

import re
from typing import Final
from uuid import UUID

from enrich_pipeline.domain.normalize.result import Normalized
from enrich_pipeline.domain.normalize.text import clean, is_null_word

MAX_CONTACT_ID: Final = 200

_ABSENT: Final[Normalized[str]] = Normalized(None)
_NULL_WORD: Final[Normalized[str]] = Normalized(None, "null_word")
_PLACEHOLDER: Final[Normalized[str]] = Normalized(None, "placeholder_id")

_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_UUID4: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_HEX: Final = re.compile(r"[0-9a-fA-F]+")
_OBJECT_ID: Final = re.compile(r"[0-9a-f]{24}")
_OPAQUE: Final = re.compile(r"[0-9A-Za-z]{6,64}")
_LABEL: Final = re.compile(r"^id\s*[:=]\s*", re.I)
_COUNTING: Final = "0123456789abcdef" * 5


def lance_person_id(raw: object) -> Normalized[str]:
    """Return a UUID version 4 in lower case. Problems: `invalid_lance_id`, `placeholder_id`, ..."""
    written, problem = _written(raw)
    if written is None:
        return problem
    lowered = written.lower().strip("{}")
    if not _UUID.fullmatch(lowered):
        return Normalized(None, "invalid_lance_id")
    if _is_placeholder(lowered.replace("-", "")):
        return _PLACEHOLDER
    if not _UUID4.fullmatch(lowered):
        return Normalized(None, "invalid_lance_id")
    return Normalized(str(UUID(lowered)))


def prospeo_person_id(raw: object) -> Normalized[str]:
    """Return a Prospeo id: letters and digits only, in lower case where it is hexadecimal."""
    written, problem = _written(raw)
    if written is None:
        return problem
    if _is_placeholder(written.replace("-", "")):
        return _PLACEHOLDER
    if not _OPAQUE.fullmatch(written) or not any(map(str.isdigit, written)):
        return Normalized(None, "invalid_prospeo_id")
    return Normalized(written.lower() if _HEX.fullmatch(written) else written)


def apollo_person_id(raw: object) -> Normalized[str]:
    """Return an Apollo id: 24 hexadecimal digits in lower case; a shorter one was cut off."""
    written, problem = _written(raw)
    if written is None:
        return problem
    if _is_placeholder(written.replace("-", "")):
        return _PLACEHOLDER
    lowered = written.lower()
    if not _OBJECT_ID.fullmatch(lowered):
        return Normalized(None, "invalid_apollo_id")
    return Normalized(lowered)


def _written(raw: object) -> tuple[str | None, Normalized[str]]:
    """Return the clean id, or None and the answer that there is none."""
    if raw is None or raw == "":
        return None, _ABSENT
    if isinstance(raw, str) and len(raw) > 500:
        return None, Normalized(None, "too_long")
    written = _LABEL.sub("", clean(raw))
    if not written:
        return None, _ABSENT
    if is_null_word(written):
        return None, _NULL_WORD
    return written, _ABSENT


def _is_placeholder(digits: str) -> bool:
    """Whether an id is one repeated sign (the nil UUID among them) or plain counting."""
    lowered = digits.lower()
    return len(set(lowered)) <= 1 or (len(lowered) >= 6 and lowered in _COUNTING)

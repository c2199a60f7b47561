"""Telephone numbers to E.164, by the metadata of the phonenumbers package.

Whether a number rings is not judged here, only whether its numbering plan has it.
"""

import re
from typing import Final

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumber, PhoneNumberFormat

from enrich_pipeline.domain.normalize.result import Normalized
from enrich_pipeline.domain.normalize.text import clean, is_null_word

_ABSENT: Final[Normalized[str]] = Normalized(None)
_NULL_WORD: Final[Normalized[str]] = Normalized(None, "null_word")
_INVALID: Final[Normalized[str]] = Normalized(None, "invalid_phone")
_PLACEHOLDER: Final[Normalized[str]] = Normalized(None, "placeholder_phone")
_NO_COUNTRY: Final[Normalized[str]] = Normalized(None, "phone_without_country")

_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}")
_LETTERS: Final = re.compile(r"[^\W\d_]")
_EXTENSION: Final = re.compile(
    r"(?:;ext=|[;,\s]*(?:ext(?:ension|n)?|x|durchwahl|dw|poste|#)\.?\s*:?\s*)\d{1,7}\s*$", re.I
)
# Data frames write a column of whole numbers with gaps as floats: the zero would read as a digit.
_FLOAT: Final = re.compile(r"(\+?\d{6,15})\.0+")
_CALLING_CODES: Final = frozenset(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)


def phone(raw: object, country: str | None) -> Normalized[str]:
    """Return the number as E.164; an extension is dropped, E.164 has no place for it.

    Args:
        raw: As people write it: `tel:`, brackets, dashes, a leading 00, an extension.
        country: ISO alpha-2 of the contact, for numbers in national form; None when unknown.

    Problems: `invalid_phone`, `placeholder_phone` (one digit repeated, counting up),
    `phone_without_country` (national form and no country to read it by), `null_word`, `too_long`.
    """
    if raw is None or raw == "":
        return _ABSENT
    if isinstance(raw, str):
        if _E164.fullmatch(raw) and (number := _direct(raw)) is not None:
            return number
        if len(raw) > 200:
            return Normalized(None, "too_long")
    written = clean(raw)
    if not written:
        return _ABSENT
    if (whole := _FLOAT.fullmatch(written)) is not None:
        written = whole[1]
    if is_null_word(written):
        return _NULL_WORD
    if written[:4].lower() == "tel:":
        written = written[4:].strip()
    written = _EXTENSION.sub("", written)
    if _LETTERS.search(written):
        # Vanity numbers and notes ("call me"): reading letters as keys would be guessing.
        return _INVALID
    if _is_placeholder(written):
        return _PLACEHOLDER
    return _parsed(written, country)


def _direct(e164: str) -> Normalized[str] | None:
    """The fast path for what already is E.164: valid as it stands, or left to the full parser."""
    for length in (1, 2, 3):
        code = int(e164[1 : 1 + length])
        if code in _CALLING_CODES:
            national = e164[1 + length :]
            if national and national[0] != "0":
                number = PhoneNumber(country_code=code, national_number=int(national))
                if phonenumbers.is_valid_number(number):
                    return Normalized(e164)
            return None
    return None


def _parsed(written: str, country: str | None) -> Normalized[str]:
    # 00 is the international prefix that the ITU recommends and no national number begins with it.
    international = "+" + written[2:] if written.startswith("00") else written
    digits = re.sub(r"\D", "", written)
    if (number := _valid(international, country)) is not None:
        return number
    if international[0] == "+" or len(digits) < 7:
        return _INVALID
    if country is None:
        return _NO_COUNTRY
    # "447409515903": the plus is lost. The contact's own numbering plan has just excluded the
    # national reading, and shorter numbers would fit some country by chance.
    if len(digits) >= 11 and digits[0] != "0":
        return _valid("+" + digits, None) or _INVALID
    return _INVALID


def _valid(written: str, country: str | None) -> Normalized[str] | None:
    try:
        number = phonenumbers.parse(written, country)
    except NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):
        return None
    return Normalized(phonenumbers.format_number(number, PhoneNumberFormat.E164))


def _is_placeholder(written: str) -> bool:
    digits = re.sub(r"\D", "", written)
    return len(set(digits)) <= 1 or digits in "01234567890123456789" or digits in "9876543210"

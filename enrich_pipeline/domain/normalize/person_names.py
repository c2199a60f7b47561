"""The name of a person out of the three columns that may hold it.

Whether two names can be one human's is `domain/names.py`.
"""

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Final

from enrich_pipeline.domain.normalize.text import UNAMBIGUOUS_NULLS, clean, is_null_word, word_set

MAX_NAME: Final = 150
"""Longest name kept, in characters."""


@dataclass(frozen=True, slots=True)
class NameParts:
    """A person's name. `full` is in reading order (given name first where the source says which).

    `problems` are (column, code) pairs of the columns whose value was made absent.
    """

    first: str | None = None
    last: str | None = None
    full: str | None = None
    problems: tuple[tuple[str, str], ...] = field(default=(), compare=False)


# Titles that stand before a name. Those that are family or given names too count only with a dot.
_TITLES: Final = word_set("""
    mr mrs ms miss mx dr prof professor sir dame madam mme mlle monsieur madame herr frau hr. fr.
    m. sr. sra sra. srta srta. señor señora dott dott. dottssa sig. sig.ra ing. dipl.-ing dipl.-ing.
    drs drs. ir. mag. rev rev. hon. capt. col. lt. sgt. maj. gen. dhr mevr mgr pan. pani. engr.
    mr. mrs. ms. mx. dr. prof. mme. mlle. dott.ssa doc.
""")
# Titles that are given names or initials too: "Dame Diouf", "M. Dupont".
_ALSO_NAMES: Final = frozenset({"dame", "m.", "professor", "rev", "sir"})
# What follows a name and is no part of it. Jr., Sr., II, III are: they tell a father from a son.
_DEGREES: Final = word_set("""
    phd ph.d ph.d. mba m.b.a. m.b.a md m.d. m.d cpa cfa pmp esq esq. dds rn cissp msc m.sc. bsc
    b.sc. dphil llm ll.m. llb cisa cism shrm-cp shrm-scp fcca acca
""")
_GENERATIONS: Final = word_set("jr jr. sr sr. ii iii iv jnr snr junior senior")
PARTICLES: Final = word_set("""
    de del della dello dei degli di da das do dos du des la le las los lo van von vom zu zum zur den
    der het 't ter ten te op al el bin ibn ben abu st st. san santa y e af av
""")
# Particles that are given names too: "Al Pacino", "Ben Baker".
_ALSO_GIVEN: Final = frozenset({"al", "ben", "san", "santa"})
# Scripts whose names are usually written family name first: two words there say not which is which.
_FAMILY_FIRST: Final = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "IDEOGRAPHIC")
_NOT_IN_NAMES: Final = re.compile(r"[<>{}\[\]=;|\\/@#$%^*_~!?:\d+\"“”„]")
_NICKNAME: Final = re.compile(r"""\s*[(\[][^()\[\]]*[)\]]\s*|\s+["“„][^"“”„]*["”“](?=\s|$)""")


def person_name(first: object, last: object, full: object) -> NameParts:
    """Return the cleaned name of a contact.

    Removed are invisible signs, emoji, titles, academic degrees and nicknames in brackets. "Last,
    First" is put in order. A full name is split only where one reading is possible: a comma, two
    words, or a given name followed by particles and a family name ("Maarten de Boer").

    Problems (with their column): `null_word`, `too_long`, `not_a_name` (no letters, markup, code),
    `title_only` (the first name).
    """
    problems: list[tuple[str, str]] = []
    first_name = _column("first_name", first, problems)
    last_name = _column("last_name", last, problems)
    full_name = _column("full_name", full, problems)
    if first_name is not None:
        first_name = _without_titles(first_name)
        if _is_title(first_name, last_name, full_name):
            first_name = None
            problems.append(("first_name", "title_only"))
    if last_name is not None:
        last_name = _without_degrees(last_name)
    if full_name is not None:
        family, given, full_name = _ordered(full_name)
        if first_name is None and last_name is None:
            first_name, last_name = (given, family) if family else _split(full_name)
        elif first_name is None or last_name is None:
            first_name, last_name = _completed(first_name, last_name, given, family, full_name)
    elif first_name is not None and last_name is not None:
        full_name = f"{first_name} {last_name}"
    return NameParts(first_name, last_name, full_name, tuple(problems))


def _column(column: str, raw: object, problems: list[tuple[str, str]]) -> str | None:
    value, problem = _cleaned(raw)
    if problem is not None:
        problems.append((column, problem))
    return value


def _cleaned(raw: object) -> tuple[str | None, str | None]:
    """Return the clean name or the problem that leaves none."""
    if raw is None or raw == "":
        return None, None
    if isinstance(raw, str):
        if raw.isascii() and raw.isalpha() and len(raw) <= MAX_NAME:
            return (None, "null_word") if is_null_word(raw, UNAMBIGUOUS_NULLS) else (raw, None)
        if len(raw) > 4 * MAX_NAME:
            return None, "too_long"
    name = clean(raw)
    if not name:
        return None, None
    if is_null_word(name, UNAMBIGUOUS_NULLS):
        return None, "null_word"
    if not name.isascii():
        name = clean("".join(char for char in name if not _is_decoration(char)))
    name = clean(_NICKNAME.sub(" ", name)).strip(" ,;-") if _NICKNAME.search(name) else name
    name = (
        _without_empty_words(name.replace(" ,", ","))
        .strip(" ,;")
        .replace("’", "'")
        .replace("`", "'")
    )
    if len(name) > MAX_NAME:
        return None, "too_long"
    if _NOT_IN_NAMES.search(name) or not any(map(str.isalpha, name)):
        return None, "not_a_name"
    if is_null_word(name, UNAMBIGUOUS_NULLS):
        return None, "null_word"
    return name, None


def _is_decoration(char: str) -> bool:
    """Emoji, their modifiers and joiners, trademark signs: never part of a name."""
    category = unicodedata.category(char)
    return category in ("So", "Sk", "Sm") and char not in "`´" or "\ufe00" <= char <= "\ufe0f"


def _without_titles(name: str) -> str:
    words = name.split(" ")
    start = 0
    while start < len(words) - 1 and words[start].lower() in _TITLES:
        start += 1
    return _without_degrees(" ".join(words[start:]).lstrip(" ,") if start else name)


def _is_title(first: str, last: str | None, full: str | None) -> bool:
    """Whether a first name is a title; one that may be a name must stand beside another one."""
    word = first.lower()
    if word not in _ALSO_NAMES:
        return word in _TITLES
    words = [] if full is None else full.lower().replace(",", " ").split()
    family = (last or "").lower().replace(",", " ").split()
    no_given = _TITLES | _GENERATIONS | _DEGREES | PARTICLES | set(family)
    # Of "Dame Judi Dench" two words are left, one where the last name is known.
    return word in words and len(set(words) - no_given) > (not family)


def _without_degrees(name: str) -> str:
    words = name.split(" ")
    end = len(words)
    while end > 1 and words[end - 1].strip(",").lower() in _DEGREES:
        end -= 1
    return " ".join(words[:end]).rstrip(" ,") if end < len(words) else name


def _without_empty_words(name: str) -> str:
    """Drop what has no letters, and `null` as in `Ada null`, where a system joined two columns."""
    words = name.split(" ")
    kept = [
        word
        for word in words
        if any(map(str.isalpha, word)) and not is_null_word(word.strip(",;"), UNAMBIGUOUS_NULLS)
    ]
    return " ".join(kept) if len(kept) < len(words) else name


def _ordered(full: str) -> tuple[str | None, str | None, str]:
    """Return (family, given, name in reading order); the first two only where a comma tells."""
    full = _without_titles(full)
    head, comma, tail = full.partition(",")
    head, tail = (part.strip() if any(map(str.isalpha, part)) else "" for part in (head, tail))
    if comma and bool(head) != bool(tail):
        return None, None, (head or tail).replace(",", " ").strip()
    if not comma or not head:
        return None, None, full.replace(",", " ").strip() if comma else full
    if tail.lower() in _GENERATIONS:
        return None, None, f"{head} {tail}"
    if "," in tail:
        # "Smith, John, PhD" lost its degree above; what still has two commas has no one reading.
        return None, None, clean(full.replace(",", " "))
    given = _without_titles(tail)
    if given.lower() in _TITLES - _ALSO_NAMES:
        return None, None, head
    return head, given, f"{given} {head}"


def _split(full: str) -> tuple[str | None, str | None]:
    words = full.split(" ")
    if _is_family_first(full):
        return None, None
    tail = [words.pop()] if len(words) > 2 and words[-1].lower() in _GENERATIONS else []
    if len(words) < 2:
        return None, None
    if words[0].lower() in PARTICLES - _ALSO_GIVEN:
        return None, None
    middle = words[1:-1]
    if all(word.lower() in PARTICLES for word in middle):
        return words[0], " ".join(words[1:] + tail)
    if len(middle) == 1 and len(middle[0].rstrip(".")) == 1:
        return f"{words[0]} {middle[0]}", " ".join(words[2:] + tail)
    return None, None


def _completed(
    first: str | None, last: str | None, given: str | None, family: str | None, full: str
) -> tuple[str | None, str | None]:
    """Fill in a missing half of the name from the full name, where only one reading fits."""
    if family is not None and given is not None:
        if first is not None and first.casefold() == given.casefold():
            return first, family
        if last is not None and last.casefold() == family.casefold():
            return given, last
        return first, last
    split_first, split_last = _split(full)
    if first is not None and full.casefold().startswith(first.casefold() + " "):
        rest = full[len(first) + 1 :]
        alone = " " not in rest or (
            split_first is not None and split_first.casefold() == first.casefold()
        )
        return (first, rest) if alone else (first, None)
    if last is not None and full.casefold().endswith(" " + last.casefold()):
        return full[: -len(last) - 1], last
    return first, last


def _is_family_first(full: str) -> bool:
    return not full.isascii() and any(
        unicodedata.name(char, "").startswith(_FAMILY_FIRST) for char in full
    )

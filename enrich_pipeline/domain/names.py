"""Whether two names can be the name of one human.

Used where a wrong "yes" gives one person's data to another: when contacts are joined, and when a
provider's reply is held against what was sent. The test is a veto, never a proof: two names that do
not contradict may still be two humans. Cleaning of raw names is `domain/normalize/person_names.py`.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from enrich_pipeline.domain.nicknames import full_names, may_be_one_given_name
from enrich_pipeline.domain.normalize.person_names import PARTICLES, NameParts

# Letters that do not decompose into a base letter and a mark.
_LETTERS: Final = str.maketrans(
    {
        "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ß": "ss", "æ": "ae", "œ": "oe",
        "ı": "i", "ħ": "h", "ŋ": "n", "ŧ": "t", "ə": "e", "ɣ": "g", "ĸ": "k",
        "ة": "ه", "ى": "ي", "ـ": "",
        "ё": "е", "й": "и",
    }
)  # fmt: skip
# How the same letters are spelled out where a system knows no diacritics: Mueller, Soerensen, Aasa.
_SPELLED: Final = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"})
_APOSTROPHES: Final = re.compile(r"['’`´ʼʻ]")
_GENERATIONS: Final = {
    "jr": 1, "jnr": 1, "junior": 1, "sr": 0, "snr": 0, "senior": 0, "ii": 2, "iii": 3, "iv": 4,
}  # fmt: skip
_MIN_TYPO_GIVEN: Final = 7
_MIN_TYPO_FAMILY: Final = 6


@dataclass(frozen=True, slots=True)
class _Word:
    """One word of a name: its folded spellings and its script."""

    spellings: frozenset[str]
    plain: str
    script: str


@dataclass(frozen=True, slots=True)
class _Folded:
    """A name as words. `given` and `family` are empty where the name says not which is which."""

    given: tuple[_Word, ...]
    family: tuple[_Word, ...]
    words: tuple[_Word, ...]
    generation: int | None


def names_contradict(one: NameParts, other: NameParts) -> bool:
    """Return True only where two names cannot be one human's.

    Case, diacritics and their spelled-out forms, particles, middle names, initials, short forms,
    swapped order, joined or missing halves of a double name and one slip of the pen in a long name
    do not contradict. Different scripts cannot contradict. Different family names do, even with
    equal given names: a marriage is not assumed.
    """
    if one == other:
        return False
    a, b = _fold(one), _fold(other)
    if not a.words or not b.words:
        return False
    if a.generation is not None and b.generation is not None and a.generation != b.generation:
        return True
    if a.given and a.family and b.given and b.family:
        return not (_fit(a.given, a.family, b) or _fit(a.family, a.given, b))
    halves = {_half(a), _half(b)}
    if halves == {"given", "family"}:
        return False
    if halves == {"given"}:
        return not _given_fit(a.given, b.given)
    if halves == {"family"}:
        return not _family_fit(a.family, b.family)
    return not _subset_fit(a.words, b.words)


def names_agree(one: NameParts, other: NameParts) -> bool:
    """Return True where two names positively name the same human.

    Stronger than not to contradict: two words must fit, and an initial, a missing half or another
    script confirms nothing.
    """
    a, b = _fold(one), _fold(other)
    if not a.words or not b.words or names_contradict(one, other):
        return False
    return min(_confirmed(a.words, b.words), _confirmed(b.words, a.words)) >= 2


def name_key(name: NameParts) -> str | None:
    """Return a key under which namesakes meet, or None without given and family name."""
    folded = _fold(name)
    if not folded.given or not folded.family:
        return None
    return " ".join(word.plain for word in (*folded.given[:1], *folded.family))


def fold(text: str) -> str:
    """Return text without case, diacritics and punctuation, for comparison only."""
    decomposed = unicodedata.normalize("NFKD", text.casefold().translate(_LETTERS))
    return "".join(
        char for char in decomposed if not unicodedata.combining(char) and char.isalnum()
    )


@lru_cache(maxsize=32_768)
def _fold(name: NameParts) -> _Folded:
    given, full = _words(name.first), _words(name.full)
    family, generation = _without_generation(_words(name.last))
    words = given + family
    if full and not (given and family):
        words, generation = _without_generation(full)
    if generation is None:
        generation = _generation_within(given, family, full)
    return _Folded(given, family, words, generation)


def _generation_within(
    given: tuple[_Word, ...], family: tuple[_Word, ...], full: tuple[_Word, ...]
) -> int | None:
    """The one generation that a name states off its end: `Smith, John III` is `John III Smith`.

    What stands first is a given name (`Junior Silva`) or a title (`Sr García`), and a family may be
    called Senior.
    """
    names = {word.plain for word in (*given[:1], *family)}
    found = {
        _GENERATIONS[word.plain]
        for word in (*given[1:], *full[1:])
        if word.plain in _GENERATIONS and word.plain not in names
    }
    return found.pop() if len(found) == 1 else None


def _words(part: str | None) -> tuple[_Word, ...]:
    if part is None:
        return ()
    bare = _APOSTROPHES.sub("", part)
    return tuple(
        word for piece in re.split(r"[\s\-–.,/]+", bare) if (word := _word(piece)) is not None
    )


@lru_cache(maxsize=65_536)
def _word(piece: str) -> _Word | None:
    plain = fold(piece)
    if not plain:
        return None
    spelled = fold(unicodedata.normalize("NFC", piece.casefold()).translate(_SPELLED))
    return _Word(frozenset((plain, spelled)), plain, _script(plain))


def _script(plain: str) -> str:
    letter = next((char for char in plain if char.isalpha()), "")
    if not letter or letter.isascii():
        return "LATIN"
    word = unicodedata.name(letter, "UNKNOWN").split(" ", 1)[0]
    return "CJK" if word in ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "IDEOGRAPHIC") else word


def _without_generation(words: tuple[_Word, ...]) -> tuple[tuple[_Word, ...], int | None]:
    if len(words) > 1 and words[-1].plain in _GENERATIONS:
        return words[:-1], _GENERATIONS[words[-1].plain]
    return words, None


def _confirmed(words: tuple[_Word, ...], by: tuple[_Word, ...]) -> int:
    """Count the different words, initials aside, that another name repeats."""
    return len(
        {w.plain for w in words if len(w.plain) > 1 and any(_surely_same(w, far) for far in by)}
    )


def _half(name: _Folded) -> str | None:
    """Which half of a name is all that is known of it, or None where more is known."""
    if name.words == name.given:
        return "given"
    return "family" if name.words == name.family else None


def _fit(given: tuple[_Word, ...], family: tuple[_Word, ...], other: _Folded) -> bool:
    if not _given_fit(given, other.given) or not _family_fit(family, other.family):
        return False
    # One slip of the pen is forgiven in one half of a name, not in both.
    return _exact(given, other.given) or _exact(family, other.family)


def _exact(ones: tuple[_Word, ...], others: tuple[_Word, ...]) -> bool:
    """Whether the halves fit without forgiving a slip of the pen."""
    if _incomparable(ones, others) or _joined_fit(ones, others):
        return True
    return _within(_bare(ones), _bare(others), _same_given)


def _given_fit(ones: tuple[_Word, ...], others: tuple[_Word, ...]) -> bool:
    if _incomparable(ones, others) or _joined_fit(ones, others) or _initials_fit(ones, others):
        return True
    return _within(ones, others, lambda a, b: _same_given(a, b) or _one_slip(a, b, _MIN_TYPO_GIVEN))


def _family_fit(ones: tuple[_Word, ...], others: tuple[_Word, ...]) -> bool:
    if _incomparable(ones, others) or _joined_fit(ones, others):
        return True
    return _within(
        _bare(ones),
        _bare(others),
        lambda a, b: _same_family(a, b) or _one_slip(a, b, _MIN_TYPO_FAMILY),
    )


def _subset_fit(ones: tuple[_Word, ...], others: tuple[_Word, ...]) -> bool:
    """Whether names without known roles fit."""
    if _incomparable(ones, others) or _joined_fit(ones, others):
        return True
    return _within(
        _bare(ones), _bare(others), lambda a, b: _same_given(a, b) or a.script != b.script
    )


def _within(
    ones: tuple[_Word, ...], others: tuple[_Word, ...], same: Callable[[_Word, _Word], bool]
) -> bool:
    """Whether every word of the shorter name is in the longer one; both ways where equally long."""

    def covered(words: tuple[_Word, ...], by: tuple[_Word, ...]) -> bool:
        return all(any(same(word, far) for far in by) for word in words)

    if len(ones) == len(others):
        return covered(ones, others) and covered(others, ones)
    return covered(ones, others) if len(ones) < len(others) else covered(others, ones)


def _incomparable(ones: tuple[_Word, ...], others: tuple[_Word, ...]) -> bool:
    common = {word.script for word in ones} & {word.script for word in others}
    if common == {"CJK"}:
        # Written without spaces and with old and new forms of a sign: one common sign is enough.
        return not _signs(ones).isdisjoint(_signs(others))
    return not common


def _signs(words: tuple[_Word, ...]) -> set[str]:
    return {sign for word in words if word.script == "CJK" for sign in word.plain}


def _joined_fit(ones: tuple[_Word, ...], others: tuple[_Word, ...]) -> bool:
    """`van den Berg` and `Vandenberg`, `Jean-Luc` and `Jeanluc`, `de Luca` and `Luca`."""
    joined = {"".join(word.plain for word in ones), "".join(word.plain for word in _bare(ones))}
    return not joined.isdisjoint(
        ("".join(word.plain for word in others), "".join(word.plain for word in _bare(others)))
    )


def _initials_fit(ones: tuple[_Word, ...], others: tuple[_Word, ...]) -> bool:
    """`JL` and `Jean-Luc`."""
    for short, long in ((ones, others), (others, ones)):
        if len(short) == 1 and len(long) > 1 and len(short[0].plain) == len(long):
            initials = "".join(word.plain[0] for word in long)
            if short[0].plain == initials:
                return True
    return False


def _bare(words: tuple[_Word, ...]) -> tuple[_Word, ...]:
    return tuple(word for word in words if word.plain not in PARTICLES) or words


def _surely_same(one: _Word, other: _Word) -> bool:
    return not one.spellings.isdisjoint(other.spellings) or may_be_one_given_name(
        one.plain, other.plain
    )


def _same_given(one: _Word, other: _Word) -> bool:
    return _surely_same(one, other) or _initial(one, other) or _initial_of_full(one, other)


def _same_family(one: _Word, other: _Word) -> bool:
    return not one.spellings.isdisjoint(other.spellings) or _initial(one, other)


def _initial(one: _Word, other: _Word) -> bool:
    return 1 in (len(one.plain), len(other.plain)) and one.plain[0] == other.plain[0]


def _initial_of_full(one: _Word, other: _Word) -> bool:
    """`R.` and `Bob`, who is a Robert."""
    initial, name = sorted((one.plain, other.plain), key=len)
    return len(initial) == 1 and any(full[0] == initial for full in full_names(name))


def _one_slip(one: _Word, other: _Word, shortest: int) -> bool:
    """One letter more, less, other or two swapped, in words of `shortest` letters and more.

    A different last letter is no slip: it tells Daniela from Daniel and Francesco from Francesca.
    """
    a, b = sorted((one.plain, other.plain), key=len)
    if len(a) < shortest or len(b) - len(a) > 1 or a[0] != b[0] or a[-1] != b[-1]:
        return False
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))
    if len(a) != len(b):
        return a[start:] == b[start + 1 :]
    swapped = a[start : start + 2] == b[start : start + 2][::-1]
    return a[start + 1 :] == b[start + 1 :] or (swapped and a[start + 2 :] == b[start + 2 :])

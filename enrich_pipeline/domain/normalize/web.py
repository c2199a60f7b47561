"""Domains and LinkedIn addresses, in all the forms that exports hold them.

Nothing here opens a connection: the public suffix list is the one bundled with tldextract.
"""

import re
from functools import lru_cache
from ipaddress import ip_address
from typing import Final
from urllib.parse import quote, unquote

import idna
from tldextract import TLDExtract

from enrich_pipeline.domain.normalize.result import Normalized
from enrich_pipeline.domain.normalize.text import clean, is_null_word, word_set

_ABSENT: Final[Normalized[str]] = Normalized(None)
_NULL_WORD: Final[Normalized[str]] = Normalized(None, "null_word")
_TOO_LONG: Final[Normalized[str]] = Normalized(None, "too_long")
_INVALID_DOMAIN: Final[Normalized[str]] = Normalized(None, "invalid_domain")
_INVALID_LINKEDIN: Final[Normalized[str]] = Normalized(None, "invalid_linkedin")

_SUFFIXES: Final = TLDExtract(suffix_list_urls=(), cache_dir=None, include_psl_private_domains=True)
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?")
_NOT_PUBLIC: Final = word_set(
    "arpa corp home internal invalid lan local localdomain localhost onion test"
)


def domain(raw: object) -> Normalized[str]:
    """Return the registrable domain in lower-case ASCII: `http://www.Acme.co.uk/x`, `acme.co.uk`.

    Subdomains go, because companies are known by the domain they registered; what a public host
    lends (`acme.github.io`) stays whole. An e-mail address is not a domain.

    Problems: `invalid_domain`, `null_word`, `too_long`.
    """
    if raw is None or raw == "":
        return _ABSENT
    if isinstance(raw, str) and len(raw) > 2_000:
        return _TOO_LONG
    written = clean(raw)
    if not written:
        return _ABSENT
    if is_null_word(written):
        return _NULL_WORD
    host = _host(written)
    registrable = None if host is None else _registrable(host)
    return _INVALID_DOMAIN if registrable is None else Normalized(registrable)


def _host(written: str) -> str | None:
    """Cut the host out of an address, or None for what cannot be one."""
    rest = re.sub(r"^[a-z][a-z0-9+.-]*:/*", "", written, flags=re.I) if "/" in written else written
    rest = re.split(r"[/?#\\]", rest.lstrip("/"), maxsplit=1)[0]
    if "@" in rest or " " in rest:
        return None
    host = re.sub(r":\d{1,5}$", "", rest).strip(".").lower()
    return host if 0 < len(host) <= 253 else None


@lru_cache(maxsize=65_536)
def _registrable(host: str) -> str | None:
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            return None
    labels = host.split(".")
    if len(labels) < 2 or not all(map(_LABEL.fullmatch, labels)) or labels[-1] in _NOT_PUBLIC:
        return None
    try:
        ip_address(host)
    except ValueError:
        pass
    else:
        return None
    parts = _SUFFIXES.extract_str(host)
    if parts.suffix:
        return f"{parts.domain}.{parts.suffix}" if parts.domain else None
    # A top-level domain that is younger than the bundled list: the list's own rule for what it does
    # not know is that the last label is the suffix.
    return ".".join(labels[-2:]) if re.fullmatch(r"[a-z]{2,}|xn--[a-z0-9-]+", labels[-1]) else None


_PROFILE: Final = re.compile(r"https?://(?:www\.)?linkedin\.com/in/([a-z0-9][a-z0-9-]*)/?")
_LINKEDIN: Final = re.compile(
    r"(?:https?:/{1,2})?(?:[a-z]{2,3}\.|www\.|m\.|touch\.|mobile\.)*linkedin\.(?:com|cn)"
    r"(?::\d+)?(?:/(.*))?",
    re.I | re.S,
)
_MEMBER_ID: Final = re.compile(r"(AC[a-zA-Z])AA[A-Za-z0-9_-]{20,}")
_SLUG_FORBIDDEN: Final = re.compile(r"[\s/?#&=%<>\"'\\|;:,(){}\[\]@!*$^`~+]")
_BARE_SLUG: Final = re.compile(r"(?:[^\W_]+-){2,}(?=[0-9a-z]*[0-9])[0-9a-z]{2,12}")
_PLACEHOLDER_SLUGS: Final = word_set("""
    none null undefined unknown nan me profile username yourname your-name name slug linkedin test
    example in na n-a edit feed home login signup search unavailable private company
    linkedin-member xxx
""")


def linkedin_slug(raw: object) -> Normalized[str]:
    """Return the public name of a person's LinkedIn profile: what follows `/in/`, decoded.

    Accepted: any scheme or none, country and mobile hosts, trailing language, query and fragment,
    percent-encoded names in any script, and a bare name when it ends in the digits that LinkedIn
    itself appends (`ada-lovelace-1a2b3c4d`). Names come in lower case; opaque member ids keep their
    case, which is part of them.

    Problems: `linkedin_company` (and school, showcase pages), `linkedin_sales_navigator`,
    `linkedin_recruiter`, `linkedin_old_profile` (`/pub/`), `linkedin_without_profile`,
    `not_linkedin`, `invalid_linkedin`, `null_word`, `too_long`.
    """
    if raw is None or raw == "":
        return _ABSENT
    if isinstance(raw, str):
        plain = _PROFILE.fullmatch(raw)
        if plain is not None and len(raw) < 200:
            return _slug(plain[1])
        if len(raw) > 2_000:
            return _TOO_LONG
    written = clean(raw)
    if not written:
        return _ABSENT
    if is_null_word(written):
        return _NULL_WORD
    url = _LINKEDIN.fullmatch(written)
    if url is None:
        if _BARE_SLUG.fullmatch(written):
            return _slug(written)
        looks_like_address = "." in written and " " not in written
        return Normalized(None, "not_linkedin") if looks_like_address else _INVALID_LINKEDIN
    return _slug_of_path(url[1] or "")


_OTHER_PAGES: Final = {
    "company": "linkedin_company",
    "school": "linkedin_company",
    "showcase": "linkedin_company",
    "organization": "linkedin_company",
    "sales": "linkedin_sales_navigator",
    "talent": "linkedin_recruiter",
    "recruiter": "linkedin_recruiter",
    "pub": "linkedin_old_profile",
    "": "linkedin_without_profile",
}


def _slug_of_path(path: str) -> Normalized[str]:
    parts = [part for part in re.split(r"[?#]", path, maxsplit=1)[0].split("/") if part.strip()]
    page = parts[0].strip().lower() if parts else ""
    if page == "mwlite" and len(parts) > 1:
        parts = parts[1:]
        page = parts[0].lower()
    if page != "in":
        return Normalized(None, _OTHER_PAGES.get(page, "linkedin_without_profile"))
    if len(parts) < 2:
        return Normalized(None, "linkedin_without_profile")
    return _slug(parts[1])


def _slug(written: str) -> Normalized[str]:
    slug = written
    if "%" in slug:
        for _ in range(2):  # exports encode twice at times
            slug = unquote(slug, errors="strict") if _decodes(slug) else slug
    slug = clean(slug).rstrip(".,")
    if not _MEMBER_ID.fullmatch(slug):
        slug = clean(slug.lower())
    if not 2 <= len(slug) <= 150 or _SLUG_FORBIDDEN.search(slug) or not any(map(str.isalnum, slug)):
        return _INVALID_LINKEDIN
    if slug in _PLACEHOLDER_SLUGS:
        return _INVALID_LINKEDIN
    return Normalized(slug)


def linkedin_slug_kind(slug: str) -> str:
    """Return the kind of a slug: only two of one kind can tell whether they are one profile's.

    A profile has a public name and an opaque member id for each of LinkedIn's products (`ACo`,
    `ACw`), and none of them follows from another.
    """
    member_id = _MEMBER_ID.fullmatch(slug)
    return "name" if member_id is None else member_id[1]


def _decodes(encoded: str) -> bool:
    try:
        unquote(encoded, errors="strict")
    except UnicodeDecodeError:
        return False
    return True


def linkedin_url(slug: str) -> str:
    """Return the address that is sent to providers and shown to people for a slug: plain ASCII."""
    return f"https://www.linkedin.com/in/{quote(slug, safe='')}"


def company_linkedin_url(raw: object) -> Normalized[str]:
    """Return `https://www.linkedin.com/company/<name>` for a company page in any of its forms.

    Problems: `linkedin_not_a_company`, `not_linkedin`, `invalid_linkedin`, `null_word`, `too_long`.
    """
    if raw is None or raw == "":
        return _ABSENT
    if isinstance(raw, str) and len(raw) > 2_000:
        return _TOO_LONG
    written = clean(raw)
    if not written:
        return _ABSENT
    if is_null_word(written):
        return _NULL_WORD
    url = _LINKEDIN.fullmatch(written)
    if url is None:
        return Normalized(None, "not_linkedin")
    parts = [part for part in re.split(r"[?#]", url[1] or "", maxsplit=1)[0].split("/") if part]
    kind = parts[0].lower() if parts else ""
    if kind == "sales" and len(parts) > 2 and parts[1].lower() == "company" and parts[2].isdigit():
        # Sales Navigator names a company by the same number as the public page.
        parts, kind = parts[1:], "company"
    if kind not in ("company", "school", "showcase") or len(parts) < 2:
        return Normalized(None, "linkedin_not_a_company")
    slug = _slug(parts[1])
    if slug.value is None:
        return slug
    return Normalized(f"https://www.linkedin.com/{kind}/{quote(slug.value, safe='')}")

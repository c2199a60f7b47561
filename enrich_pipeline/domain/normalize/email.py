"""E-mail addresses: syntax and canonical form, and what kind of mailbox an address names.

No DNS and no judgement of deliverability: that is what providers are paid for.
"""

import re
from functools import lru_cache
from typing import Final

from email_validator import EmailNotValidError, validate_email

from enrich_pipeline.domain.normalize.result import Normalized
from enrich_pipeline.domain.normalize.text import clean, is_null_word, word_set

MAX_EMAIL: Final = 254
"""Longest address that SMTP can carry, in characters (RFC 5321, path limit)."""

_ABSENT: Final[Normalized[str]] = Normalized(None)
_NULL_WORD: Final[Normalized[str]] = Normalized(None, "null_word")
_INVALID: Final[Normalized[str]] = Normalized(None, "invalid_email")
_PLACEHOLDER: Final[Normalized[str]] = Normalized(None, "placeholder_email")
_SEVERAL: Final[Normalized[str]] = Normalized(None, "several_emails")
_TOO_LONG: Final[Normalized[str]] = Normalized(None, "too_long")

_PLAIN: Final = re.compile(r"([a-z0-9_+'=-]+(?:\.[a-z0-9_+'=-]+)*)@([a-z0-9.-]+\.[a-z0-9-]+)")
_BRACKETED: Final = re.compile(r"[^<>]*<\s*([^<>]+?)\s*>\s*")
_SEPARATED: Final = re.compile(r"\s*[,;|]\s*|\s+/\s+|\s+(?:and|or|und|et)\s+")

# Local parts that people type where a form insists on an address.
_PLACEHOLDER_LOCALS: Final = word_set("""
    none null nil undefined unknown noemail no-email no_email no.email nomail no-mail noaddress
    notprovided not-provided not.provided noone n-a n.a asdf asdfasdf qwerty xxx xxxx aaa test
    tester fake dummy placeholder notavailable not-available youremail your-email your.email
""")

# Mailboxes that belong to a function and not to a human, in the languages of Europe and the
# Americas. Compared with the address's local part without its +tag, dots, dashes, digits.
_ROLE_LOCALS: Final = word_set("""
    abuse accounting accounts accountspayable accountsreceivable admin administracao administracion
    administrateur administratie administration administrator admissions advertising all anfrage
    anfragen apply assistance atencioncliente atendimento bestellung bestellungen bewerbung
    bewerbungen billing biuro board boletin booking bookings buchhaltung bureau business career
    careers catering ceo cfo cio client clientes clients cmo comercial comercio commercial
    communication communications community compliance compras comptabilite comunicacion conta
    contabilidad contabilidade contabilita contact contacte contacto contacts contactus contato
    contatti coo corporate crew cto customercare customers customerservice customersuccess
    customersupport data datenschutz datos demo departamento design desk dev developer developers
    devops direccion directeur direction direktion dns donotreply dpo ecommerce editor editorial
    einkauf email empfang empleo emprego engineering enquiries enquiry events everyone export
    facturacion facturas facturation facturen factuur faktura fakturor faturamento fax feedback
    finance financeiro finances finanzas finanzen firma founders franchise ftp fundraising gdpr
    generalenquiries geschaeftsfuehrung geschaeftsleitung hallo hei hej hello help helpdesk
    helpdeskit hi hola home hostmaster hotel hq hr humanresources import info infodesk informacion
    informacje informatik information informatique informazioni infos inkoop inquiries inquiry
    intern international invest investor investorrelations investors invoice invoices invoicing ir
    it itsupport job jobb jobs kadry kariera karriere kassa kassan klantenservice kontakt kontakty
    kontor kundendienst kundenservice kundservice kundtjanst lager legal list logistics logistik
    mail mailbox mailerdaemon mailinglist mailto main management manager mantenimiento marketing
    media member members membership mkt moderator news newsletter newsletters noc noreply noresponse
    notification notifications office office365 offices oficina online operations ops order orders
    partner partners partnership partnerships payments payroll people personal personalabteilung
    personale poczta podpora policy post postmaster prensa presales press presse privacidad privacy
    procurement production produktion projects promo property public publicity publicrelations
    purchase purchasing quality questions receipts receivables recepcao recepcion reception rechnung
    rechnungen rechnungswesen recruit recruiting recruitment recrutement redaction redaktion
    registrar registration rekrutacja remove rentals reply request requests reservas reservation
    reservations reservierung returns rh root rrhh sac safety sale sales salesteam salg secretaire
    secretaria secretariat secretary security segreteria sekretariat sekretariatet service
    serviceclient servicedesk services servicio servicios serwis shipping shop social soporte
    sprzedaz staff store studio supervisor suporte support sysadmin system talent team teams tech
    technical technik techsupport tecnico tesoreria ticket tickets tienda toimisto trade training
    travel treasury unsubscribe user users vendas vendite ventas vente ventes verkauf verkoop
    vertrieb verwaltung web webadmin webmaster website welcome werkstatt wholesale winkel workshop
    www zakupy zamowienia zentrale
""")
# Words that make the local part of two words a function's as the second one: "berlin-office". None
# of them is a family name ("ada.jobs", "ada.press").
_ROLE_ENDINGS: Final = word_set("""
    accounting accounts backoffice bookings buchhaltung careers comptabilite contacto contabilidad
    customerservice einkauf enquiries facturacion frontdesk helpdesk info infos information invoices
    invoicing kontakt kundenservice logistics marketing newsletter noreply office payroll purchasing
    rechnung reception recruiting recruitment redaktion reservations sekretariat service services
    servicedesk support team verkauf vertrieb verwaltung
""")
# Some families are called Sales: it is the department only beside a region.
_REGIONS: Final = word_set(
    "anz apac benelux dach emea eu europe global international latam mena nordics uk us usa"
)
_ROLE_NOISE: Final = re.compile(r"[.\-_0-9]+")


def email(raw: object) -> Normalized[str]:
    """Return the address in lower case, its domain in ASCII (IDNA).

    Accepted around the address: white space, `mailto:`, angle brackets with a display name, a
    trailing comma or semicolon. Role mailboxes are values like any other.

    Problems: `invalid_email`, `several_emails`, `placeholder_email`, `null_word`, `too_long`.
    """
    if raw is None or raw == "":
        return _ABSENT
    if isinstance(raw, str) and len(raw) <= MAX_EMAIL:
        plain = _PLAIN.fullmatch(raw)
        if plain is not None:
            return _plain(raw, plain[1], plain[2])
    return _untidy(raw)


def _plain(address: str, local: str, domain: str) -> Normalized[str]:
    if len(local) > 64 or not _is_mail_domain(domain):
        return _INVALID
    if is_placeholder_local(local):
        return _PLACEHOLDER
    return Normalized(address)


def _untidy(raw: object) -> Normalized[str]:
    if isinstance(raw, str) and len(raw) > 2_000:
        return _TOO_LONG
    address = clean(raw)
    if not address:
        return _ABSENT
    if is_null_word(address):
        return _NULL_WORD
    bracketed = _BRACKETED.fullmatch(address)
    if bracketed is not None:
        address = bracketed[1]
    if address[:7].lower() == "mailto:":
        address = address[7:].partition("?")[0]
    address = address.strip(" ,;<>\"'")
    if address.count("@") > 1 and _is_list(address):
        return _SEVERAL
    address = address.lower()
    plain = _PLAIN.fullmatch(address)
    if plain is not None and len(address) <= MAX_EMAIL:
        return _plain(address, plain[1], plain[2])
    try:
        checked = validate_email(
            address, check_deliverability=False, allow_quoted_local=False, strict=True
        )
    except (EmailNotValidError, UnicodeError, ValueError):
        return _INVALID
    local = checked.local_part.lower()
    if is_placeholder_local(local):
        return _PLACEHOLDER
    return Normalized(f"{local}@{checked.ascii_domain.lower()}")


def _is_list(address: str) -> bool:
    parts = [part for part in _SEPARATED.split(address) if part]
    return len(parts) > 1 and all(part.count("@") == 1 for part in parts)


@lru_cache(maxsize=65_536)
def _is_mail_domain(domain: str) -> bool:
    try:
        checked = validate_email(f"a@{domain}", check_deliverability=False)
    except (EmailNotValidError, UnicodeError, ValueError):
        return False
    return checked.ascii_domain == domain


def is_placeholder_local(local: str) -> bool:
    """Whether a local part says that there is no address ("none", "no-email")."""
    return local in _PLACEHOLDER_LOCALS


def is_role_mailbox(address: str) -> bool:
    """Whether a normalized address belongs to a function (info@, buchhaltung@), not to a human."""
    local = address.partition("@")[0].partition("+")[0]
    if local in _ROLE_LOCALS:
        return True
    bare = _ROLE_NOISE.sub("", local)
    if len(bare) >= 4 and bare in _ROLE_LOCALS:
        # Four letters and more: "i.r" are initials, "in.fo" is nobody's.
        return True
    words = [word for word in _ROLE_NOISE.split(local) if word]
    if len(words) == 2 and (
        words[1] in _ROLE_ENDINGS or (words[1] == "sales" and words[0] in _REGIONS)
    ):
        return True
    first = re.split(r"[.\-_]", local, maxsplit=1)[0]
    # "sales-emea" and "info.de" are functions too, "it.peters" is a human with an odd prefix: only
    # words of four letters and more count as a prefix.
    return len(first) >= 4 and first != local and first in _ROLE_LOCALS


def mailbox(address: str) -> str:
    """Return a normalized address without its +tag: one mailbox has one key."""
    local, _, domain = address.partition("@")
    return f"{local.partition('+')[0] or local}@{domain}"

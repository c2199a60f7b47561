"""Imaginary material: names, companies, titles, places, numbers. No choice is made here."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """A country as the sandbox needs it.

    `mobile` is the E.164 beginning of a mobile number and how many digits follow.
    """

    code: str
    country: str
    cities: tuple[str, ...]
    mobile: tuple[tuple[str, int], ...]
    first_names: tuple[str, ...]
    last_names: tuple[str, ...]
    time_zone: str
    is_gdpr: bool


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_ENGLISH_FIRST = _words(
    "Amelia Benjamin Caroline Daniel Eleanor Frederick Georgia Harriet Isaac Jasper Katherine "
    "Lucas Margaret Nathan Olivia Philip Rosalind Samuel Theodore Victoria William Abigail"
)
_ENGLISH_LAST = _words(
    "Ashdown Barlow Carrow Dunmore Ellery Fairholt Garrick Hallam Inskip Jessop Kelham Larkin "
    "Mowbray Northcott Oakes Penhale Quill Rackham Selwyn Thorne Underhill Wexford O'Malley "
    "Smith-Barlow"
)
_GERMAN_FIRST = _words(
    "Anneliese Björn Dieter Elke Friedrich Gerda Heinrich Ingrid Jürgen Käthe Lothar Mathilde "
    "Rüdiger Sönke Ulrike Volker"
)
_GERMAN_LAST = _words(
    "Achterberg Brückner Dörfler Eichstädt Förster Großmann Hülsmann Kröger Lüdtke Mühlbauer "
    "Nägele Österle Pfäffle Rößler Schäffler Weißbach"
)
_FRENCH_FIRST = _words(
    "Agnès Bénédicte Céline Didier Étienne François Gaëlle Hélène Jean-Luc Léa Noémie Rémi "
    "Solène Thérèse Zoé Marie-Claire"
)
_FRENCH_LAST = _words(
    "Arnoult Bérard Chevreuil Delâtre Évrard Fougère Génin Hébrard Lemaître Maréchal Pérouse "
    "Séverin Thévenet Vaillancourt"
)

PLACES: tuple[Place, ...] = (
    Place(
        "US",
        "United States",
        ("Austin", "Boise", "Denver", "Portland", "Raleigh"),
        (("+1512", 7), ("+1208", 7), ("+1303", 7), ("+1919", 7)),
        _ENGLISH_FIRST,
        _ENGLISH_LAST,
        "America/Chicago",
        False,
    ),
    Place(
        "GB",
        "United Kingdom",
        ("Bristol", "Leeds", "London", "Norwich"),
        (("+4474", 8), ("+4475", 8), ("+4478", 8)),
        _ENGLISH_FIRST,
        _ENGLISH_LAST,
        "Europe/London",
        True,
    ),
    Place(
        "DE",
        "Germany",
        ("Bremen", "Köln", "Leipzig", "München"),
        (("+49151", 8), ("+49176", 8)),
        _GERMAN_FIRST,
        _GERMAN_LAST,
        "Europe/Berlin",
        True,
    ),
    Place(
        "FR",
        "France",
        ("Angers", "Lyon", "Nantes", "Paris"),
        (("+3361", 7), ("+3362", 7)),
        _FRENCH_FIRST,
        _FRENCH_LAST,
        "Europe/Paris",
        True,
    ),
    Place(
        "ES",
        "Spain",
        ("Bilbao", "Málaga", "Sevilla", "Valencia"),
        (("+346", 8),),
        _words("Begoña Íñigo Joaquín Lucía Martín Nuria Óscar Pilar Raúl Sofía"),
        _words("Aranzábal Beltrán Calderón Echeverría Gálvez Ibáñez Muñoz Núñez Peñalver Zúñiga"),
        "Europe/Madrid",
        True,
    ),
    Place(
        "NL",
        "Netherlands",
        ("Delft", "Groningen", "Utrecht"),
        (("+3161", 7), ("+3162", 7)),
        _words("Anouk Daan Femke Joost Lotte Maarten Noor Pieter Sanne Thijs"),
        ("van den Broek", "de Haan", "Hoekstra", "van der Linden", "Mulder", "ter Horst", "Vos"),
        "Europe/Amsterdam",
        True,
    ),
    Place(
        "PL",
        "Poland",
        ("Gdańsk", "Kraków", "Łódź"),
        (("+4850", 7), ("+4860", 7)),
        _words("Agnieszka Bartłomiej Elżbieta Grzegorz Łukasz Małgorzata Paweł Zofia"),
        _words("Bąk Cieślak Dąbrowa Gołębiewska Jabłoński Krzyżanowska Łęcki Śliwa Żurek"),
        "Europe/Warsaw",
        True,
    ),
    Place(
        "SE",
        "Sweden",
        ("Göteborg", "Malmö", "Umeå"),
        (("+4670", 7), ("+4673", 7)),
        _words("Åsa Björn Göran Kerstin Mårten Sigrid Torbjörn Ylva"),
        _words("Åkerblom Bergström Dahlqvist Engström Hägglund Lindqvist Nygård Sjöberg"),
        "Europe/Stockholm",
        True,
    ),
    Place(
        "IN",
        "India",
        ("Bengaluru", "Kochi", "Pune"),
        (("+9198", 8), ("+9190", 8)),
        _words("Aditi Arjun Deepika Kavya Nikhil Priya Rohan Sunita Vikram"),
        _words("Bhandari Chaudhary Deshmukh Iyer Joshi Kulkarni Menon Nambiar Raghavan"),
        "Asia/Kolkata",
        False,
    ),
    Place(
        "BR",
        "Brazil",
        ("Curitiba", "Recife", "São Paulo"),
        (("+55119", 8), ("+55419", 8)),
        _words("Antônio Débora Fábio Joaquim Letícia Márcio Tainá Vinícius"),
        _words("Assunção Brandão Conceição Fagundes Guimarães Magalhães Simões"),
        "America/Sao_Paulo",
        False,
    ),
)
PLACE_BY_CODE = {place.code: place for place in PLACES}
OTHER_MOBILES: dict[str, tuple[tuple[str, int], ...]] = {
    "CA": (("+1416", 7),),
    "IE": (("+35385", 7), ("+35387", 7)),
    "IT": (("+39347", 7),),
    "CH": (("+4179", 7),),
    "AT": (("+43664", 7),),
    "BE": (("+3247", 7),),
    "PT": (("+35191", 7),),
    "DK": (("+4520", 6),),
    "NO": (("+4790", 6),),
    "AU": (("+6141", 7),),
}
GDPR_COUNTRIES = frozenset(
    _words(
        "AT BE BG CY CZ DE DK EE ES FI FR GB GR HR HU IE IS IT LI LT LU LV MT NL NO PL PT RO SE "
        "SI SK"
    )
)

OTHER_SCRIPTS: tuple[tuple[str, str, str], ...] = (
    ("فاطمة", "الزهراني", "AE"),
    ("ياسر", "القحطاني", "SA"),
    ("明", "佐藤原", "JP"),
    ("さくら", "高峰", "JP"),
    ("伟", "欧阳林", "CN"),
    ("지우", "선우", "KR"),
    ("Ольга", "Заречная", "UA"),
    ("Δημήτρης", "Καραβάς", "GR"),
    ("נועם", "בן־חיים", "IL"),
    ("ปรีชา", "ศรีสว่าง", "TH"),
)

COMPANY_FIRST = _words(
    "Amber Birchwood Copper Driftwood Ember Foxglove Granite Heather Indigo Juniper Kestrel "
    "Lantern Marble Nettle Opal Pinecone Quarry Rowan Saffron Thistle Umber Velvet Willow Yarrow"
)
COMPANY_SECOND = _words(
    "Anchor Bridge Canyon Dale Estuary Fjord Glade Hollow Island Jetty Knoll Lagoon Meadow "
    "Narrows Orchard Prairie Ravine Summit Terrace Vale"
)
COMPANY_TRADE = _words(
    "Analytics Biotech Capital Dairy Electric Foods Glassworks Hydraulics Instruments Labs "
    "Logistics Mills Networks Optics Packaging Robotics Software Textiles"
)
COMPANY_TLD = ("com", "com", "com", "io", "eu", "co.uk", "de", "dev")

TITLES = (
    "Account Executive",
    "Chief Financial Officer",
    "Customer Success Manager",
    "Data Engineer",
    "Head of Marketing",
    "Head of Procurement",
    "HR Business Partner",
    "IT Director",
    "Logistics Coordinator",
    "Marketing Manager",
    "Operations Manager",
    "Product Manager",
    "Sales Director",
    "Software Engineer",
    "Supply Chain Analyst",
    "VP Engineering",
)
PERSONAL_HOSTS = ("gmail.com", "outlook.com", "yahoo.com", "proton.me", "icloud.com")

RESPELLED_LAST: dict[str, str] = {
    "muller": "Müller",
    "schafer": "Schäfer",
    "kruger": "Krüger",
    "jager": "Jäger",
    "weiss": "Weiß",
    "gross": "Groß",
    "kohler": "Köhler",
    "garcia": "García",
    "perez": "Pérez",
    "nunez": "Núñez",
    "munoz": "Muñoz",
    "lefevre": "Lefèvre",
    "lemaitre": "Lemaître",
    "wisniewski": "Wiśniewski",
    "lindstrom": "Lindström",
    "simoes": "Simões",
}
"""Spellings that a provider corrects: folded last name to the corrected one."""

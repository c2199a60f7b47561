"""The page as a reader finds it: tables by id, text, and whether the markup is sound."""

from html.parser import HTMLParser

_VOID = frozenset({"meta", "br", "img", "input", "link", "hr"})


class Page(HTMLParser):
    """What is on a page; `problems` says what is wrong with its markup."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tables: dict[str, list[dict[str, str]]] = {}
        self.texts: dict[str, str] = {}
        self.pictures: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.problems: list[str] = []
        self._open: list[tuple[str, str | None]] = []
        self._header: list[str] = []
        self._cells: list[str] = []
        self._table = ""
        self.feed(content)
        self.close()
        self.problems += [f"never closed: {tag}" for tag, _ in self._open]
        ids = [attributes["id"] for _, attributes in self.tags if attributes.get("id")]
        self.problems += [f"id used twice: {each}" for each in ids if ids.count(each) > 1]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag in _VOID:
            return
        self._open.append((tag, attributes.get("id")))
        if tag == "table":
            self._table = attributes.get("id") or ""
            self.tables[self._table] = []
        elif tag == "tr":
            self._cells = []
        elif tag in ("th", "td"):
            self._cells.append("")
        elif tag == "svg":
            self.pictures.append(attributes.get("aria-label") or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1][0] != tag:
            self.problems.append(f"</{tag}> closes {self._open[-1:] or 'nothing'}")
            return
        self._open.pop()
        if tag == "thead":
            self._header = [cell.strip() for cell in self._cells]
        elif tag == "tr" and any(name == "tbody" for name, _ in self._open):
            cells = [" ".join(cell.split()) for cell in self._cells]
            if len(cells) != len(self._header):
                self.problems.append(f"{self._table}: {len(cells)} cells, {self._header}")
            # Names of columns may come twice, the second time for more days.
            named = {}
            for name, cell in zip(self._header, cells, strict=False):
                named[f"{name} 2" if name in named else name] = cell
            self.tables[self._table].append(named)

    def handle_data(self, data: str) -> None:
        if any(tag in ("th", "td") for tag, _ in self._open):
            self._cells[-1] += data
        for _, identity in self._open:
            if identity:
                self.texts[identity] = self.texts.get(identity, "") + data

    def text(self, identity: str) -> str:
        """The text of the element with that id, on one line."""
        return " ".join(self.texts[identity].split())

    @property
    def headings(self) -> list[int]:
        return [int(tag[1]) for tag, _ in self.tags if len(tag) == 2 and tag[1].isdigit()]

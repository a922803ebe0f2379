"""Reads a page strictly: tags close where they open, ids are given once, nothing that a page must not hold."""

from html.parser import HTMLParser

VOID = {"meta", "link", "input", "br", "hr", "img", "source", "wbr", "col"}
NOT_INSIDE = {
    "p": {"div", "p", "ul", "ol", "dl", "table", "section", "form", "h1", "h2", "h3", "pre", "figure"},
    "a": {"a", "button"},
    "button": {"a", "button", "input", "select", "textarea"},
    "form": {"form"},
    "label": {"label"},
}
"""What must not stand inside an element, as far as templates are likely to get it wrong."""


class Page(HTMLParser):
    """The page as a list of elements with their text; problems are gathered, not raised."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.problems: list[str] = []
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.headings: list[int] = []
        self.words: list[str] = []
        self.links: list[str] = []
        self.inputs_without_name: list[str] = []
        self.feed(html)
        self.close()
        if self.open:
            self.problems.append(f"never closed: {self.open}")

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        for outer, forbidden in NOT_INSIDE.items():
            if outer in self.open and tag in forbidden:
                self.problems.append(f"<{tag}> inside <{outer}> at line {self.getpos()[0]}")
        if (id := attributes.get("id")) is not None:
            if id in self.ids:
                self.problems.append(f"id '{id}' twice")
            self.ids.add(id)
        for name, value in attributes.items():
            if name.startswith("on"):
                self.problems.append(f"inline handler {name} on <{tag}>")
            if name in ("href", "src", "action", "hx-get") and value and value.startswith(("http:", "https:", "//")):
                self.problems.append(f"another host: {value}")
        if tag == "script" and "src" not in attributes:
            self.problems.append("inline script")
        if tag == "style":
            self.problems.append("inline style element")
        if tag == "a" and attributes.get("href"):
            self.links.append(str(attributes["href"]))
        if tag in ("h1", "h2", "h3", "h4"):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open[-1] != tag:
            self.problems.append(f"</{tag}> closes {self.open[-1:]} at line {self.getpos()[0]}")
            if tag in self.open:
                while self.open.pop() != tag:
                    pass
            return
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

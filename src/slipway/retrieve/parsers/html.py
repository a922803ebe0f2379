"""Reads the main text of a web page, with headings, lists, tables and code kept apart."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from slipway.retrieve.parsers.base import Parsed, Unparsable, parsers

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

LEFT_OUT = (
    "script, style, noscript, template, svg, iframe, nav, footer, aside, form, button, [hidden], [aria-hidden=true]"
)
MAIN = "main, article, [role=main], #content"
BLOCK_TAGS = (
    "address article blockquote body center dd details div dl dt fieldset figcaption figure header hr html main p "
    "section summary table tbody tfoot thead ul ol"
)
BLOCKS = frozenset(BLOCK_TAGS.split())
HEADINGS = {f"h{level}": "#" * level for level in range(1, 7)}
SPACES = re.compile(r"[ \t\r\n\f\v\u00a0]+")
BLANK_LINES = re.compile(r"\n{3,}")
DEEPEST = 400


@parsers.register("html")
@dataclass(frozen=True)
class Html:
    """Reads the main text of a web page as light Markdown; menus, footers, scripts and hidden parts are left out."""

    suffixes: ClassVar[tuple[str, ...]] = (".html", ".htm", ".xhtml")
    confined: ClassVar[bool] = True

    def parse(self, content: bytes) -> Parsed:
        from selectolax.lexbor import LexborHTMLParser

        if b"\x00" in content[:65536] and not content.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise Unparsable("it is not text")
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            content = content.decode("utf-16", errors="replace").encode()
        page = LexborHTMLParser(content)
        named = page.css_first("title")
        title = SPACES.sub(" ", named.text()).strip() if named else ""
        language = page.root.attributes.get("lang") or "" if page.root else ""
        for node in page.css(LEFT_OUT):
            node.decompose()
        main = page.css(MAIN)
        # The main part is taken only where it holds most of the words; some pages mark one teaser of many as article.
        body = page.body or page.root
        if body is None:
            raise Unparsable("it holds no page")
        root = max(main, key=lambda node: len(node.text()), default=body)
        if len(root.text()) < 0.5 * len(body.text()):
            root = body
        pieces: list[str] = []
        _write(root, pieces, depth=0)
        text = BLANK_LINES.sub("\n\n", "\n".join(line.rstrip() for line in "".join(pieces).split("\n"))).strip() + "\n"
        heading = page.css_first("h1")
        title = title or (SPACES.sub(" ", heading.text()).strip() if heading else "")
        return Parsed(text=text, title=title, format="html", metadata={"language": language} if language else {})


def _write(node: "LexborNode", pieces: list[str], *, depth: int) -> None:
    if depth > DEEPEST:
        return
    for child in node.iter(include_text=True):
        tag = child.tag or ""
        if tag == "-text":
            _add_words(child.text(deep=False), pieces)
        elif tag == "br":
            pieces.append("\n")
        elif tag in HEADINGS:
            pieces.append(f"\n\n{HEADINGS[tag]} {_one_line(child)}\n\n")
        elif tag == "pre":
            pieces.append(f"\n\n```\n{child.text().strip(chr(10))}\n```\n\n")
        elif tag == "li":
            pieces.append("\n- ")
            _write(child, pieces, depth=depth + 1)
        elif tag == "tr":
            cells = [_one_line(cell) for cell in child.iter() if cell.tag in {"td", "th"}]
            pieces.append(f"\n| {' | '.join(cells)} |")
        elif tag in {"code", "kbd", "samp"}:
            pieces.append(f"`{_one_line(child)}`")
        elif tag in BLOCKS:
            pieces.append("\n\n")
            _write(child, pieces, depth=depth + 1)
            pieces.append("\n\n")
        elif not tag.startswith("-") and tag not in {"head", "title"}:
            _write(child, pieces, depth=depth + 1)


def _add_words(text: str, pieces: list[str]) -> None:
    words = SPACES.sub(" ", text)
    at_start = not pieces or pieces[-1].endswith(("\n", " "))
    pieces.append(words.lstrip() if at_start else words)


def _one_line(node: "LexborNode") -> str:
    return SPACES.sub(" ", node.text()).strip()

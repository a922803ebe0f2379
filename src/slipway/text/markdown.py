"""Blocks of a Markdown text by offsets: headings, paragraphs, list items, table rows, code; plain text passes too."""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from slipway.text.sentences import Span, split_sentences

BlockKind = Literal["front", "heading", "paragraph", "item", "row", "code", "rule"]


class Block(NamedTuple):
    """Characters [start, end) that belong together. `level` is a heading's depth, 1 to 6.

    Start and end leave out the marks around the content: `# `, `- `, `| … |`, and the fences of code.
    """

    kind: BlockKind
    start: int
    end: int
    level: int = 0


class Heading(NamedTuple):
    """A heading line [start, end) with its text."""

    start: int
    end: int
    level: int
    text: str


LINE = re.compile(r"[^\n]*\n?")
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+")
ITEM = re.compile(r"[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+(?:\[[ xX]\][ \t]+)?(?=\S)")
ROW = re.compile(r"[ \t]*\|(?P<cells>.*)\|[ \t]*$")
RULE = re.compile(r"[ \t]*+(?:(?:\|[ \t]*+)?:?---[ \t|:-]*+|[=*_]{3,}+[ \t]*+)$")
QUOTE = re.compile(r"(?:[ \t]*>[ \t]?)+")
FRONT_MATTER = re.compile(r"---[ \t]*\n(?P<body>.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|$)", re.S)
INLINE_MARKS = re.compile(
    r"!?\[([^\]\[]*)\]\([^()\s]*(?:\([^()]*\)[^()\s]*)*(?:\s+\"[^\"]*\")?\)|\*\*|__|`+|^[ \t]*>", re.M
)


def front_matter(text: str) -> dict[str, str]:
    """The `key: value` lines between `---` at the top of a text; nested values are left out."""
    found = FRONT_MATTER.match(text)
    if not found:
        return {}
    lines = (line.partition(":") for line in found["body"].split("\n") if line[:1].strip() and ":" in line)
    return {key.strip().lower(): value.strip().strip("\"'") for key, _, value in lines}


def body_start(text: str) -> int:
    """Where the text begins after its front matter."""
    found = FRONT_MATTER.match(text)
    return found.end() if found else 0


def find_headings(text: str) -> list[Heading]:
    """Heading lines (`## Title`) in order; lines inside code fences are none."""
    headings: list[Heading] = []
    fence = ""
    position = body_start(text)
    # Only lines that may matter are looked at: a heading or a fence starts with one of these signs.
    for line in re.compile(r"^ {0,3}(?:#|```|~~~)[^\n]*", re.M).finditer(text, position):
        if opened := FENCE.match(line[0]):
            if not fence:
                fence = opened[1]
            elif opened[1].startswith(fence) and not line[0].strip().strip(fence[0]):
                fence = ""
        elif not fence and (found := _heading_in(line[0])) and found.text:
            headings.append(Heading(line.start(), line.end(), found.level, found.text))
    return headings


def find_blocks(text: str) -> list[Block]:
    """Every block in reading order. Consecutive lines of prose make one paragraph."""
    blocks: list[Block] = []
    position = body_start(text)
    if position:
        blocks.append(Block("front", 0, position))
    fence = ""
    open_start = open_end = -1
    open_kind: BlockKind = "paragraph"

    def close() -> None:
        nonlocal open_start
        if open_start >= 0:
            blocks.append(Block(open_kind, open_start, open_end))
            open_start = -1

    for start, line in _lines(text, position):
        end = start + len(line.rstrip())
        if opened := FENCE.match(line):
            close()
            if not fence:
                fence = opened[1]
            elif opened[1].startswith(fence):
                fence = ""
            continue
        if fence:
            if line.strip():
                blocks.append(Block("code", start + len(line) - len(line.lstrip()), end))
            continue
        quote = QUOTE.match(line)
        offset = quote.end() if quote else 0
        rest = line[offset:]
        if not rest.strip():
            close()
        elif heading := _heading_in(rest):
            close()
            blocks.append(Block("heading", start + offset + heading.start, start + offset + heading.end, heading.level))
        elif RULE.match(rest):
            close()
            blocks.append(Block("rule", start, end))
        elif row := ROW.match(rest):
            close()
            cells = row["cells"]
            left = start + offset + row.start("cells") + len(cells) - len(cells.lstrip())
            blocks.append(Block("row", left, max(left, start + offset + row.start("cells") + len(cells.rstrip()))))
        elif item := ITEM.match(rest):
            close()
            open_kind, open_start, open_end = "item", start + offset + item.end(), end
        else:
            if open_start < 0:
                open_kind, open_start = "paragraph", start + len(line) - len(rest.lstrip())
            open_end = end
    close()
    return [block for block in blocks if block.end > block.start]


def split_units(text: str) -> list[tuple[Span, BlockKind]]:
    """The smallest stretches that can answer a question: sentences, list items, table rows, lines of code, headings.

    A list item of several sentences gives each of them.
    """
    units: list[tuple[Span, BlockKind]] = []
    for block in find_blocks(text):
        if block.kind in {"front", "rule"}:
            continue
        if block.kind in {"paragraph", "item"}:
            units += [
                (Span(block.start + span.start, block.start + span.end), block.kind)
                for span in split_sentences(text[block.start : block.end])
            ]
        else:
            units.append((Span(block.start, block.end), block.kind))
    return units


def plain_text(text: str) -> str:
    """The text without Markdown's marks and link targets, for embedding; offsets are lost."""
    return INLINE_MARKS.sub(lambda mark: mark[1] or "", text)


def _heading_in(line: str) -> Heading | None:
    """The text of a heading line, without the signs that may close it, and where it stands in the line."""
    found = HEADING.match(line)
    if found is None:
        return None
    text = line[found.end() :].rstrip(" \t").rstrip("#").rstrip(" \t")
    return Heading(found.end(), found.end() + len(text), len(found[1]), text)


def _lines(text: str, position: int) -> Iterator[tuple[int, str]]:
    while position < len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        yield position, text[position:end]
        position = end + 1

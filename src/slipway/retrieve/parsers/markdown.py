"""Reads Markdown as it stands, with the title and the facts of its front matter."""

from dataclasses import dataclass
from typing import ClassVar

from slipway.retrieve.parsers.base import Parsed, decode_text, parsers
from slipway.text.markdown import find_headings, front_matter


@parsers.register("markdown")
@dataclass(frozen=True)
class Markdown:
    """Reads Markdown as it stands, so that offsets are those of the file; front matter gives title and metadata."""

    suffixes: ClassVar[tuple[str, ...]] = (".md", ".markdown", ".mdx")
    confined: ClassVar[bool] = False

    def parse(self, content: bytes) -> Parsed:
        text = decode_text(content)
        facts = front_matter(text.removeprefix("\ufeff"))
        headings = find_headings(text)
        title = facts.pop("title", "") or next((heading.text for heading in headings if heading.level == 1), "")
        return Parsed(text=text, title=title, format="markdown", metadata=facts)

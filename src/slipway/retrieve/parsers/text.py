"""Reads plain text as it stands."""

from dataclasses import dataclass
from typing import ClassVar

from slipway.retrieve.parsers.base import Parsed, decode_text, parsers


@parsers.register("text")
@dataclass(frozen=True)
class Text:
    """Reads plain text as it stands, so that offsets are those of the file."""

    suffixes: ClassVar[tuple[str, ...]] = (".txt", ".text", ".log", ".rst", ".org", ".adoc")
    confined: ClassVar[bool] = False

    def parse(self, content: bytes) -> Parsed:
        return Parsed(text=decode_text(content))

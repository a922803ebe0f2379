"""Reads the text of a Word document (.docx) with its headings, lists and tables."""

import io
import zipfile
import zlib
from dataclasses import dataclass
from typing import ClassVar
from xml.etree import ElementTree

from slipway.retrieve.parsers.base import Parsed, Unparsable, parsers

WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
TITLE = "{http://purl.org/dc/elements/1.1/}title"


@parsers.register("docx")
@dataclass(frozen=True)
class Docx:
    """Reads the text of a Word document as light Markdown; one that unpacks to more than `unpacked_mb` is refused."""

    suffixes: ClassVar[tuple[str, ...]] = (".docx",)
    confined: ClassVar[bool] = True
    unpacked_mb: int = 200

    def parse(self, content: bytes) -> Parsed:
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                body = self._read(archive, "word/document.xml")
                properties = (
                    self._read(archive, "docProps/core.xml") if "docProps/core.xml" in archive.namelist() else b""
                )
        except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, OSError, RuntimeError, ValueError) as wrong:
            # What zipfile lets out of an archive that is damaged.
            raise Unparsable("it is no valid Word document") from wrong
        root = _parse_xml(body).find(f"{WORD}body")
        if root is None:
            raise Unparsable("it is no valid Word document")
        blocks = [block for node in root if (block := _block(node))]
        title = ""
        if properties:
            named = _parse_xml(properties).find(TITLE)
            title = (named.text or "").strip() if named is not None else ""
        return Parsed(text="\n\n".join(blocks) + "\n", title=title, format="docx")

    def _read(self, archive: zipfile.ZipFile, name: str) -> bytes:
        limit = self.unpacked_mb * 1_000_000
        with archive.open(name) as part:
            content = part.read(limit + 1)
        if len(content) > limit:
            raise Unparsable(f"it unpacks to more than {self.unpacked_mb} MB")
        return content


def _parse_xml(content: bytes) -> ElementTree.Element:
    # A document type can define entities that grow without bound; Word never writes one.
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise Unparsable("its XML declares entities, which Word never does")
    try:
        return ElementTree.fromstring(content)
    except ElementTree.ParseError as wrong:
        raise Unparsable("its XML is broken") from wrong


def _block(node: ElementTree.Element) -> str:
    if node.tag == f"{WORD}tbl":
        rows = [[_words(cell) for cell in row.iter(f"{WORD}tc")] for row in node.iter(f"{WORD}tr")]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows if any(row))
    if node.tag != f"{WORD}p":
        return "\n\n".join(block for child in node if (block := _block(child)))
    text = _words(node)
    style = node.find(f"{WORD}pPr/{WORD}pStyle")
    name = (style.get(f"{WORD}val") or "") if style is not None else ""
    if text and name.lower().startswith("heading") and name[-1:].isdecimal():
        return f"{'#' * min(int(name[-1]) or 1, 6)} {text}"
    if text and name.lower() == "title":
        return f"# {text}"
    if text and node.find(f"{WORD}pPr/{WORD}numPr") is not None:
        return f"- {text}"
    return text


def _words(node: ElementTree.Element) -> str:
    pieces = []
    for part in node.iter():
        if part.tag == f"{WORD}t":
            pieces.append(part.text or "")
        elif part.tag in {f"{WORD}tab", f"{WORD}br", f"{WORD}cr"}:
            pieces.append(" ")
    return " ".join("".join(pieces).split())

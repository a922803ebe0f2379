"""Reads the text of a PDF, page by page."""

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from slipway.retrieve.parsers.base import Parsed, Unparsable, parsers

HYPHEN_AT_LINE_END = re.compile(r"(?<=[^\W\d_])[\u00ad\ufffe\u2010]\n?")
STRANGE = re.compile(r"[\x00-\x08\x0b-\x1f\ufffe\uffff]")
WORD_BREAK = re.compile(r"(?<=[a-z])-\n(?=[a-z])")


@parsers.register("pdf")
@dataclass(frozen=True)
class Pdf:
    """Reads the text of a PDF page by page; an encrypted or scanned one is named as unreadable."""

    suffixes: ClassVar[tuple[str, ...]] = (".pdf",)
    confined: ClassVar[bool] = True
    pages: int = 5000

    def parse(self, content: bytes) -> Parsed:
        import pypdfium2  # type: ignore[import-untyped]

        try:
            pdf = pypdfium2.PdfDocument(content)
        except pypdfium2.PdfiumError as wrong:
            locked = "password" in str(wrong).lower()
            raise Unparsable("it is encrypted with a password" if locked else "it is no valid PDF") from wrong
        try:
            if len(pdf) > self.pages:
                raise Unparsable(f"it has {len(pdf)} pages; at most {self.pages} are read")
            texts = [_page_text(pdf, number) for number in range(len(pdf))]
            title = (pdf.get_metadata_value("Title") or "").strip()
        finally:
            pdf.close()
        if not any(text.strip() for text in texts):
            raise Unparsable("it holds no text; a scan needs text recognition first")
        starts: list[int] = []
        length = 0
        for text in texts:
            starts.append(length)
            length += len(text) + 2
        pages = " ".join(map(str, starts))
        return Parsed(text="\n\n".join(texts), title=title, format="pdf", metadata={"page_starts": pages})


def _page_text(pdf: Any, number: int) -> str:
    page = pdf[number]
    words = page.get_textpage()
    text = words.get_text_bounded().replace("\r\n", "\n").replace("\r", "\n")
    words.close()
    page.close()
    text = WORD_BREAK.sub("", HYPHEN_AT_LINE_END.sub("", text))
    return STRANGE.sub("", text).strip()

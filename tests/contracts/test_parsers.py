"""What every parser promises: clean text for its kind of file, and a reason for what it cannot read."""

from __future__ import annotations

import io
import zipfile
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slipway.retrieve.parsers.base import Parsed, Unparsable, parser_names, parsers

WORDS = "The warranty of a lamp is five years."
PAGE = f"""<!doctype html><html lang="en"><head><title>Lamp &amp; shade</title><style>p {{}}</style></head>
<body><nav>Home | Imprint</nav><main><h1>Warranty</h1><p>{WORDS}</p>
<ul><li>Bulbs are not covered.</li><li>Cables are.</li></ul>
<table><tr><th>Kind</th><th>Years</th></tr><tr><td>Lamp</td><td>5</td></tr></table>
<pre>slipway up
  --fast</pre><script>alert("no")</script><p hidden>secret</p></main><footer>(c)</footer></body></html>"""


def make_pdf(words: str, *, encrypted: bool = False) -> bytes:
    """The smallest PDF with one line of text, written by hand."""
    stream = f"BT /F1 12 Tf 72 720 Td ({words}) Tj ET".encode() if words else b""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Title (Lamps) >>",
    ]
    if encrypted:
        objects.append(b"<< /Filter /Standard /V 1 /R 2 /Length 40 /P -4 /O <%s> /U <%s> >>" % (b"a1" * 32, b"b2" * 32))
    out = bytearray(b"%PDF-1.4\n")
    places = []
    for number, content in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    locked = b" /Encrypt 7 0 R /ID [<00> <00>]" if encrypted else b""
    out += b"trailer << /Size %d /Root 1 0 R /Info 6 0 R%s >>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1,
        locked,
        start,
    )
    return bytes(out)


def make_docx(body: str) -> bytes:
    space = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", f"<w:document {space}><w:body>{body}</w:body></w:document>")
    return file.getvalue()


def paragraph(text: str, style: str = "") -> str:
    look = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{look}<w:r><w:t>{text}</w:t></w:r></w:p>"


TABLE = "<w:tbl><w:tr><w:tc><w:p><w:r><w:t>Lamp</w:t></w:r></w:p></w:tc><w:tc><w:p/></w:tc></w:tr></w:tbl>"
READABLE: dict[str, bytes] = {
    "text": WORDS.encode(),
    "markdown": f"---\ntitle: Lamps\n---\n# Warranty\n\n{WORDS}\n".encode(),
    "csv": f"kind,note\nlamp,{WORDS}\n".encode(),
    "html": PAGE.encode(),
    "pdf": make_pdf(WORDS),
    "docx": make_docx(paragraph("Warranty", "Heading1") + paragraph(WORDS) + TABLE),
}
BROKEN: dict[str, bytes] = {
    "text": b"\x00\x01\x02" * 50,
    "markdown": b"\x89PNG\r\n\x1a\n\x00\x00",
    "csv": b"\x00" * 30,
    "html": b"\x00\x01" * 30,
    "pdf": b"%PDF-1.4\nbroken",
    "docx": b"PK\x03\x04 broken",
}


@pytest.fixture(params=parsers.names())
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def parse(kind: str, content: bytes) -> Parsed:
    parsed: Parsed = parsers.make(kind).parse(content)
    return parsed


def test_the_text_of_a_good_file_is_there(kind: str) -> None:
    assert WORDS in parse(kind, READABLE[kind]).text


def test_a_broken_file_is_refused_with_a_reason(kind: str) -> None:
    with pytest.raises(Unparsable, match=r"it is n|its "):
        parse(kind, BROKEN[kind])


def test_every_suffix_belongs_to_one_parser() -> None:
    suffixes = [suffix for name in parsers.names() for suffix in parsers.load(name).suffixes]
    assert sorted(suffixes) == sorted(parser_names())
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in suffixes)


@pytest.mark.parametrize("kind", ["text", "markdown", "csv"])
def test_offsets_of_plain_files_are_those_of_the_file(kind: str) -> None:
    content = "# Räder\r\n\r\n  Text,with — signs  \r\n"
    assert parse(kind, content.encode()).text == content.replace("\r\n", "\n")


DECODED = [
    pytest.param("café".encode(), "café", id="UTF-8"),
    pytest.param(
        "café".encode("utf-8-sig"), "\ufeffcafé", id="a byte order mark stays, so that offsets are the file's"
    ),
    pytest.param("café".encode("utf-16"), "café", id="UTF-16 by its mark"),
    pytest.param("café – “x”".encode("cp1252"), "café – “x”", id="Windows-1252"),
]


@pytest.mark.parametrize(("content", "text"), DECODED)
def test_text_is_decoded(content: bytes, text: str) -> None:
    assert parse("text", content).text == text


def test_a_web_page_becomes_light_markdown() -> None:
    parsed = parse("html", READABLE["html"])
    assert parsed.title == "Lamp & shade"
    assert parsed.metadata == {"language": "en"}
    assert parsed.text == (
        f"# Warranty\n\n{WORDS}\n\n- Bulbs are not covered.\n- Cables are.\n\n"
        "| Kind | Years |\n| Lamp | 5 |\n\n```\nslipway up\n  --fast\n```\n"
    )


def test_a_web_page_without_a_main_part_is_read_whole() -> None:
    assert parse("html", b"<p>One</p>two <b>bold</b> words<br>line").text == "One\n\ntwo bold words\nline\n"


def test_a_deeply_nested_page_ends() -> None:
    assert parse("html", b"<div>" * 5_000 + b"deep").format == "html"


def test_a_pdf_names_its_title_and_where_pages_start() -> None:
    parsed = parse("pdf", READABLE["pdf"])
    assert (parsed.title, parsed.metadata) == ("Lamps", {"page_starts": "0"})


PDFS = [
    pytest.param(make_pdf("x", encrypted=True), "encrypted with a password", id="encrypted"),
    pytest.param(make_pdf(""), "holds no text; a scan needs text recognition", id="a page without text"),
]


@pytest.mark.parametrize(("content", "reason"), PDFS)
def test_a_pdf_that_cannot_be_read_says_why(content: bytes, reason: str) -> None:
    with pytest.raises(Unparsable, match=reason):
        parse("pdf", content)


def test_a_pdf_with_too_many_pages_is_refused() -> None:
    with pytest.raises(Unparsable, match="1 pages; at most 0 are read"):
        parsers.make("pdf", {"pages": 0}).parse(READABLE["pdf"])


def test_a_word_document_keeps_headings_and_tables() -> None:
    assert parse("docx", READABLE["docx"]).text == f"# Warranty\n\n{WORDS}\n\n| Lamp |  |\n"


BOMBS = [
    pytest.param(make_docx("<w:p>" + " " * 3_000_000 + "</w:p>"), "unpacks to more than 1 MB", id="it unpacks too far"),
    pytest.param(make_docx("").replace(b"word/document.xml", b"word/xxxxxxxx.xml"), "no valid", id="no text part"),
]


@pytest.mark.parametrize(("content", "reason"), BOMBS)
def test_a_crafted_word_document_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(Unparsable, match=reason):
        parsers.make("docx", {"unpacked_mb": 1}).parse(content)


def test_entities_in_a_word_document_are_refused() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("word/document.xml", '<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>')
    with pytest.raises(Unparsable, match="entities"):
        parse("docx", file.getvalue())


WORD_FILE = make_docx(paragraph("Warranty", "Heading1") + paragraph(WORDS) + TABLE)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(WORD_FILE) - 1), st.integers(0, 255)), max_size=4))
@example([(29, 2)])
def test_a_damaged_word_file_is_read_or_named(changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(WORD_FILE)
    for at, byte in changes:
        damaged[at] = byte
    with suppress(Unparsable):
        assert parsers.make("docx", {}).parse(bytes(damaged)).format == "docx"


def test_a_style_that_ends_in_a_raised_digit_is_no_heading() -> None:
    assert parse("docx", make_docx(paragraph("Warranty", "Heading²"))).text == "Warranty\n"

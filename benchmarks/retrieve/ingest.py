"""Loads a folder of 1,000 mixed files, one in ten of them bad: every good one is in, every bad one is named."""

from __future__ import annotations

import io
import resource
import sys
import tempfile
import zipfile
from pathlib import Path

from data import Figure, print_table

from slipway.retrieve.confinement import Confinement
from slipway.retrieve.documents import load_documents

FILES = 1000
GOOD = ("md", "txt", "html", "csv", "docx", "pdf")
SPACE = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def pdf(words: str, *, encrypted: bool = False) -> bytes:
    """The smallest PDF with one line of text."""
    stream = f"BT /F1 12 Tf 72 720 Td ({words}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    locked = b""
    if encrypted:
        objects.append(b"<< /Filter /Standard /V 1 /R 2 /Length 40 /P -4 /O <%s> /U <%s> >>" % (b"a1" * 32, b"b2" * 32))
        locked = b" /Encrypt 6 0 R /ID [<00> <00>]"
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, content in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer << /Size %d /Root 1 0 R%s >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, locked, start)
    return bytes(out)


def docx(body: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", f"<w:document {SPACE}><w:body>{body}</w:body></w:document>")
    return file.getvalue()


def good(number: int, kind: str) -> bytes:
    words = f"Lamp number {number} has a warranty of {number % 9} years and weighs {number} grams."
    match kind:
        case "html":
            return f"<html><body><main><h1>Lamp {number}</h1><p>{words}</p></main></body></html>".encode()
        case "csv":
            return f"kind,note\nlamp,{words}\n".encode()
        case "docx":
            return docx(f"<w:p><w:r><w:t>{words}</w:t></w:r></w:p>")
        case "pdf":
            return pdf(words)
        case _:
            return f"# Lamp {number}\n\n{words}\n".encode()


def bad() -> dict[str, bytes]:
    """Names (with a suffix) and contents that no reader should take."""
    entities = (
        '<!DOCTYPE a [<!ENTITY a "'
        + "x" * 1000
        + '">'
        + "".join(f'<!ENTITY {name} "{f"&{before};" * 20}">' for before, name in zip("abcdef", "bcdefg", strict=True))
    )
    laughs = io.BytesIO()
    with zipfile.ZipFile(laughs, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", f"{entities}]><w:document {SPACE}>&g;</w:document>")
    return {
        "empty.md": b"",
        "space.txt": b" \n\n",
        "binary.txt": b"\x00\x01\x02" * 500,
        "picture.png": b"\x89PNG\r\n",
        "broken.pdf": b"%PDF-1.4 broken",
        "locked.pdf": pdf("secret", encrypted=True),
        "broken.docx": b"PK\x03\x04",
        "unpacks.docx": docx("<w:p><w:r><w:t>" + "a" * 250_000_000 + "</w:t></w:r></w:p>"),
        "laughs.docx": laughs.getvalue(),
        "deep.html": b"<div>" * 400_000 + b"deep",
        "huge.txt": b"a" * 20_000_001,
    }


def main() -> int:
    """Load; none of the good may be missing, none of the bad unnamed, and this process stays small."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wrong = bad()
        copies = {f"{place}-{file}": content for place in range(9) for file, content in wrong.items()
                  if place == 0 or len(content) < 300_000}  # fmt: skip
        for file, content in copies.items():
            (folder / file).write_bytes(content)
        for number in range(FILES - len(copies)):
            kind = GOOD[number % len(GOOD)]
            path = folder / f"part{number % 10}" / f"lamp{number}.{kind}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(good(number, kind))
        largest_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        loaded = load_documents([folder], most_bytes=20_000_000, confinement=Confinement(seconds=5))
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - largest_before) / 1024
        named = {Path(item.source).name: item.reason for item in loaded.unreadable}
    for file in wrong:
        print(f"{file:14} {named.get(f'0-{file}', 'NOT NAMED')}")
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    missing = FILES - len(copies) - len(loaded.documents)
    figures = [
        Figure("good files that are missing", missing, "files", limit=0, note=f"{len(loaded.documents)} are in"),
        Figure(
            "bad files that are not named", len(set(copies) - set(named)), "files", limit=0, note=f"{len(named)} are"
        ),
        Figure("growth of the loading process", grown, "MB", limit=200),
        Figure("CPU of all processes", sum(one.ru_utime + one.ru_stime for one in used), "s"),
    ]
    return print_table(f"A folder of {FILES} mixed files", figures)


if __name__ == "__main__":
    sys.exit(main())

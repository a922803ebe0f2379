"""Bodies of multipart/form-data (RFC 7578), read where they lie: a value is replaced, all the rest stays as it came."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from slipway.domain.errors import RequestInvalid

BOUNDARY = re.compile(rb';\s*boundary=(?:"([^"\r\n]{1,70})"|([^\s";,]{1,70}))\s*(?:;|\Z)', re.IGNORECASE)
NAMED = re.compile(rb'form-data((?:;\s*(?:name|filename\*?)=(?:"(?:[^"\\]|\\.)*"|[^\s";]+)\s*)+)', re.IGNORECASE)
ONE = re.compile(rb';\s*(name|filename\*?)=(?:"((?:[^"\\]|\\.)*)"|([^\s";]+))', re.IGNORECASE)
PLAIN_ENCODINGS = (b"", b"binary", b"8bit", b"7bit")
PLAIN_CHARSETS = re.compile(rb"charset\s*=\s*\"?(?!utf-8|us-ascii)", re.IGNORECASE)
MOST_PARTS = 256
LITERALS = frozenset({"n", "stream"})
"""Fields that are no texts: a form writes them without a type."""


class Part(NamedTuple):
    """One field: its value lies at [start, end) of the body."""

    name: str
    start: int
    end: int
    content_type: str
    is_file: bool


class Form:
    """A form as a client sent it. `content_type` is its header, which goes on with it."""

    def __init__(self, body: bytes, content_type: bytes) -> None:
        """Raises `RequestInvalid`."""
        self._body = body
        self.content_type = content_type
        self.parts = _read_parts(body, content_type)

    def fields(self) -> dict[str, msgspec.Raw]:
        """Its fields but files as JSON. Raises `RequestInvalid`: two fields of one name are read differently by
        everyone, so only lists (`name[]`) may come more than once."""
        found: dict[str, msgspec.Raw] = {}
        for part in self.parts:
            if part.is_file:
                continue
            if part.name in found and not part.name.endswith("[]"):
                raise RequestInvalid(f"'{part.name}' is in the form twice: send it once.", param=part.name)
            text = self._text(part)
            found[part.name] = msgspec.Raw(text.encode() if part.name in LITERALS else msgspec.json.encode(text))
        for part in self.parts:
            if part.is_file and part.name in found:
                raise RequestInvalid(f"'{part.name}' is in the form as a text and as a file.", param=part.name)
        return found

    def with_values(self, values: Mapping[str, str]) -> bytes:
        """The body with other values of fields that are in it."""
        pieces, at = [], 0
        for part in self.parts:
            if not part.is_file and part.name in values:
                pieces += [self._body[at : part.start], values[part.name].encode()]
                at = part.end
        return b"".join([*pieces, self._body[at:]])

    def naming(self, name: str, value: str) -> bytes:
        """The body with a value of one text, which need not be in it yet."""
        if any(part.name == name and not part.is_file for part in self.parts):
            return self.with_values({name: value})
        part = b'%b\r\ncontent-disposition: form-data; name="%b"\r\n\r\n%b\r\n'
        return part % (_delimiter(self.content_type), name.encode(), value.encode()) + self._body

    @property
    def files(self) -> list[Part]:
        return [part for part in self.parts if part.is_file]

    @property
    def texts(self) -> bytes:
        """All that is no file."""
        return b"".join(self._body[part.start : part.end] for part in self.parts if not part.is_file)

    def _text(self, part: Part) -> str:
        try:
            return self._body[part.start : part.end].decode("utf-8")
        except UnicodeDecodeError:
            raise RequestInvalid(f"'{part.name}' is not text in UTF-8.", param=part.name) from None


def is_form(content_type: bytes) -> bool:
    return content_type.lower().startswith(b"multipart/form-data")


def _delimiter(content_type: bytes) -> bytes:
    found = BOUNDARY.search(content_type)
    if not is_form(content_type) or found is None:
        raise RequestInvalid("The body must be a form: content-type multipart/form-data with its boundary.")
    return b"--" + (found[1] or found[2])


def _read_parts(body: bytes, content_type: bytes) -> tuple[Part, ...]:
    delimiter = _delimiter(content_type)
    if not body.startswith(delimiter):
        raise _broken("it does not begin with its boundary")
    parts: list[Part] = []
    at = len(delimiter)
    while not body.startswith(b"--", at):
        # What follows the boundary in its line is padding.
        line_end = body.find(b"\r\n", at)
        start = body.find(b"\r\n\r\n", line_end) + 4
        end = body.find(b"\r\n" + delimiter, start)
        if line_end < 0 or body[at:line_end].strip(b" \t") or start < 4 or end < 0:
            raise _broken("a part has no end, or no head")
        if len(parts) == MOST_PARTS:
            raise _broken(f"it has more than {MOST_PARTS} parts")
        parts.append(_part(body[line_end + 2 : start - 4], start, end))
        at = end + 2 + len(delimiter)
    return tuple(parts)


def _part(head: bytes, start: int, end: int) -> Part:
    headers: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n"):
        header, colon, value = line.partition(b":")
        if not colon or header.lower() in headers:
            raise _broken("a head of a part cannot be read")
        headers[header.lower()] = value.strip()
    named = NAMED.fullmatch(headers.get(b"content-disposition", b""))
    names: dict[bytes, bytes] = {}
    for key, quoted, bare in ONE.findall(named[1] if named else b""):
        if key.lower() in names:
            raise _broken("a part is named twice")
        names[key.lower()] = quoted or bare
    encoding, kind = headers.get(b"content-transfer-encoding", b"").lower(), headers.get(b"content-type", b"")
    try:
        name = names[b"name"].decode("utf-8")
    except (KeyError, UnicodeDecodeError):
        raise _broken("a part has no name that can be read") from None
    if "\\" in name:
        raise _broken("a backslash in a name is read differently by everyone")
    is_file = b"filename" in names or b"filename*" in names
    # An engine that unpacks a text would see another one than we do.
    if encoding not in PLAIN_ENCODINGS or (not is_file and PLAIN_CHARSETS.search(kind)):
        raise RequestInvalid(f"'{name}' is encoded in a way that is not read here: send UTF-8 as it is.", param=name)
    return Part(name, start, end, kind.decode("latin-1"), is_file)


def _broken(why: str) -> RequestInvalid:
    return RequestInvalid(f"The body of the request is not a form of multipart/form-data: {why}.")

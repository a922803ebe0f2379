"""Heads of HTTP messages that came before on the same connection: known by their bytes, and not parsed again.

Clients and engines write the same head for every message of a connection, but for the length of its body. Whoever has
parsed one knows what the same bytes mean, for less than half of what parsing takes; all others are left to the parser.
"""

from __future__ import annotations

import re
from typing import Self

Headers = list[tuple[bytes, bytes]]

MOST_IN_VAIN = 8
"""So many heads in a row that were unlike the one before, and a connection is not worth learning from."""
MOST_DIGITS = 8
LONGEST = 8192
"""Bytes of a head that is kept: beyond that, who holds many connections would make us hold much."""
_LENGTH = re.compile(rb"\r\ncontent-length: (\d{1,%d})\r\n" % MOST_DIGITS, re.IGNORECASE)


class KnownHead:
    """One head, with a gap where the length of the body stands."""

    __slots__ = ("_after", "_before", "_headers", "_place")

    def __init__(self, before: bytes, after: bytes, headers: Headers, place: int) -> None:
        self._before, self._after, self._headers, self._place = before, after, headers, place

    @classmethod
    def of(cls, message: bytes, headers: Headers) -> Self | None:
        """The head that a message begins with, and the headers that a parser found in it, with names in lower case.
        None for one that says more of its body than its length, and for one that is very long."""
        end = message.find(b"\r\n\r\n", 0, LONGEST) + 4
        names = [name for name, _ in headers]
        found = _LENGTH.search(message, 0, end)
        if found is None or names.count(b"content-length") != 1 or b"transfer-encoding" in names:
            return None
        return cls(message[: found.start(1)], message[found.end(1) : end], headers, names.index(b"content-length"))

    def read(self, message: bytes) -> tuple[Headers, bytes] | None:
        """Headers and body of a message, if it is whole, nothing follows it, and its head is this one but for the
        length of the body; None for all others."""
        if not message.startswith(self._before):
            return None
        at = len(self._before)
        end = message.find(b"\r\n", at, at + MOST_DIGITS + 2)
        digits = message[at:end]
        if end < 0 or not digits.isdigit() or not message.startswith(self._after, end):
            return None
        begin = end + len(self._after)
        if len(message) - begin != int(digits):
            return None
        headers = self._headers.copy()
        headers[self._place] = b"content-length", digits
        return headers, message[begin:]

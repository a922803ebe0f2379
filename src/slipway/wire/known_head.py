"""Heads of HTTP messages that came before on the same connection: known by their bytes, and not parsed again.

Clients and engines write the same head for every message of a connection, but for the length of its body. Whoever has
parsed one knows what the same bytes mean, for less than half of what parsing takes; all others are left to the parser.
"""

from __future__ import annotations

import re

Headers = list[tuple[bytes, bytes]]

MOST_IN_VAIN = 8
"""So many heads in a row that were unlike the one before, and a connection is not worth learning from."""
MOST_DIGITS = 8
LONGEST = 8192
"""Bytes of a head that is kept: beyond that, who holds many connections would make us hold much."""
_LENGTH = re.compile(rb"\r\ncontent-length: (\d{1,%d})\r\n" % MOST_DIGITS, re.IGNORECASE)


class KnownHead:
    """The last head of a connection, with a gap where the length of the body stands, as long as it pays to keep one."""

    __slots__ = ("_after", "_before", "_headers", "_in_vain", "_place")

    def __init__(self) -> None:
        self._before = self._after = b""
        self._headers: Headers = []
        self._place = 0
        self._in_vain = 0

    def learn(self, message: bytes, headers: Headers) -> None:
        """Keeps the head that a message begins with, and the headers that a parser found in it, names in lower case.

        One that says more of its body than its length is not kept, nor a very long one, nor any where heads differ.
        """
        if self._in_vain >= MOST_IN_VAIN:
            return
        self._in_vain += 1
        self._before = b""
        end = message.find(b"\r\n\r\n", 0, LONGEST) + 4
        names = [name for name, _ in headers]
        found = _LENGTH.search(message, 0, end)
        if found is not None and names.count(b"content-length") == 1 and b"transfer-encoding" not in names:
            self._before, self._after = message[: found.start(1)], message[found.end(1) : end]
            self._headers, self._place = headers, names.index(b"content-length")

    def read(self, message: bytes) -> tuple[Headers, bytes] | None:
        """Headers and body of a message, if it is whole, nothing follows it, and its head is the one that is known but
        for the length of the body; None for all others."""
        before = self._before
        if not before:
            return None
        if message.startswith(before):
            at = len(before)
            end = message.find(b"\r\n", at, at + MOST_DIGITS + 2)
            digits = message[at:end]
            if end >= 0 and digits.isdigit() and message.startswith(self._after, end):
                begin = end + len(self._after)
                if len(message) - begin == int(digits):
                    self._in_vain = 0
                    headers = self._headers.copy()
                    headers[self._place] = b"content-length", digits
                    return headers, message[begin:]
        if self._in_vain >= MOST_IN_VAIN:
            self._before = b""
        return None

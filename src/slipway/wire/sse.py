"""Server-sent events: written one by one, parsed from pieces that end anywhere."""

import re
from collections.abc import Iterator

DONE = b"data: [DONE]\n\n"
BOM = b"\xef\xbb\xbf"
LONGEST_EVENT = 8 * 1024 * 1024
EMPTY_LINE = re.compile(rb"\n\n|\r\r|\n\r")
"""Where an event may end; whether it does is seen once carriage returns are line feeds."""


class EventTooLong(ValueError):
    """An event never ended."""


def write_event(data: bytes, *, name: str = "") -> bytes:
    """One event. `data` must not hold line breaks, as JSON does not."""
    if name:
        return b"event: %b\ndata: %b\n\n" % (name.encode("ascii"), data)
    return b"data: %b\n\n" % data


class EventReader:
    """Collects pieces and hands out the data of each event once it is complete. Raises `EventTooLong`."""

    __slots__ = ("_last", "_length", "_pieces")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._length, self._last = 0, b""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Data of every event that this piece completes, lines joined by line feeds; comments are passed over."""
        text = piece
        if self._pieces:
            self._pieces.append(piece)
            self._length += len(piece)
            seam = self._last + piece
            if EMPTY_LINE.search(seam) is None:
                # Joined only once the event ends: one in a thousand pieces would be copied a thousand times.
                self._last = seam[-2:]
                self._check_length()
                return
            text = b"".join(self._pieces)
        if b"\r" in text:
            # A carriage return at the very end may be the first half of a CR LF.
            held = b"\r" if text.endswith(b"\r") else b""
            text = text[: len(text) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n") + held
        *events, rest = text.split(b"\n\n")
        self._keep(rest)
        for event in events:
            data = data_of(event)
            if data is not None:
                yield data

    def close(self) -> Iterator[bytes]:
        """The last event where the stream ended without its empty line."""
        rest = b"".join(self._pieces).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        self._keep(b"")
        data = data_of(rest.rstrip(b"\n"))
        if data is not None:
            yield data

    def _keep(self, rest: bytes) -> None:
        self._pieces = [rest] if rest else []
        self._length, self._last = len(rest), rest[-2:]
        self._check_length()

    def _check_length(self) -> None:
        if self._length > LONGEST_EVENT:
            self._pieces, self._length, self._last = [], 0, b""  # whoever goes on begins with another event
            raise EventTooLong(f"an event of more than {LONGEST_EVENT} bytes")


def data_of(event: bytes) -> bytes | None:
    """The data of one event without its empty line, lines ending in line feeds; None where it has none."""
    if event.startswith(b"data: ") and b"\n" not in event:
        return event[6:]
    # The mark that a stream may begin with is no part of its first line.
    lines = [line[5:].removeprefix(b" ") for line in event.removeprefix(BOM).split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None

"""Server-sent events: written one by one, parsed from pieces that end anywhere."""

from collections.abc import Iterator

DONE = b"data: [DONE]\n\n"
LONGEST_EVENT = 8 * 1024 * 1024


class EventTooLong(ValueError):
    """An event never ended."""


def write_event(data: bytes, *, name: str = "") -> bytes:
    """One event. `data` must not hold line breaks, as JSON does not."""
    if name:
        return b"event: %b\ndata: %b\n\n" % (name.encode("ascii"), data)
    return b"data: %b\n\n" % data


class EventReader:
    """Collects pieces and hands out the data of each event once it is complete. Raises `EventTooLong`."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Data of every event that this piece completes, lines joined by line feeds; comments are passed over."""
        text = self._rest + piece if self._rest else piece
        if b"\r" in text:
            # A carriage return at the very end may be the first half of a CR LF.
            held = b"\r" if text.endswith(b"\r") else b""
            text = text[: len(text) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n") + held
        *events, self._rest = text.split(b"\n\n")
        if len(self._rest) > LONGEST_EVENT:
            raise EventTooLong(f"an event of more than {LONGEST_EVENT} bytes")
        for event in events:
            data = _data(event)
            if data is not None:
                yield data

    def close(self) -> Iterator[bytes]:
        """The last event where the stream ended without its empty line."""
        rest, self._rest = self._rest, b""
        data = _data(rest.rstrip(b"\r\n"))
        if data is not None:
            yield data


def _data(event: bytes) -> bytes | None:
    if event.startswith(b"data: ") and b"\n" not in event:
        return event[6:]
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None

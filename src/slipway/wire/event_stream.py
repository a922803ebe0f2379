"""Amazon's event stream: binary frames of headers and a payload, each checked by CRC32.

A frame is: length of it all (4 bytes), length of the headers (4), CRC of these eight bytes (4), headers, payload, CRC
of everything before (4), all big-endian. A header is: length of its name (1), name, type (1), value. Written from the
public specification `vnd.amazon.event-stream`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping

LONGEST_FRAME = 16 * 1024 * 1024
PRELUDE = struct.Struct(">III")
CRC = struct.Struct(">I")
STRING = 7
FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a value by its type; types 6 and 7 (bytes, text) say their length themselves."""


class FrameReader:
    """Collects pieces and hands out headers (those that are text) and payload of each frame once it is complete.

    Raises `ValueError` for a frame whose checksum is wrong, since nothing after it could be trusted.
    """

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, piece: bytes) -> Iterator[tuple[dict[str, str], bytes]]:
        self._rest += piece
        while len(self._rest) >= PRELUDE.size:
            total, headers, check = PRELUDE.unpack_from(self._rest)
            if zlib.crc32(self._rest[:8]) != check or not 16 <= total <= LONGEST_FRAME or headers > total - 16:
                raise ValueError("a frame of the event stream is damaged")
            if len(self._rest) < total:
                return
            frame = bytes(self._rest[:total])
            del self._rest[:total]
            if zlib.crc32(frame[:-4]) != CRC.unpack(frame[-4:])[0]:
                raise ValueError("a frame of the event stream is damaged")
            yield _headers(frame[12 : 12 + headers]), frame[12 + headers : -4]


def _headers(raw: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    try:
        while at < len(raw):
            length = raw[at]
            name = raw[at + 1 : at + 1 + length].decode()
            kind = raw[at + 1 + length]
            at += 2 + length
            if kind in FIXED:
                at += FIXED[kind]
                continue
            (size,) = struct.unpack_from(">H", raw, at)
            if kind == STRING:
                found[name] = raw[at + 2 : at + 2 + size].decode()
            at += 2 + size
    except (IndexError, struct.error) as wrong:
        raise ValueError("the headers of a frame of the event stream are damaged") from wrong
    return found


def write_frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """A frame with headers of text."""
    block = b"".join(
        bytes([len(name)]) + name.encode() + bytes([STRING]) + struct.pack(">H", len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    lengths = struct.pack(">II", 16 + len(block) + len(payload), len(block))
    frame = lengths + CRC.pack(zlib.crc32(lengths)) + block + payload
    return frame + CRC.pack(zlib.crc32(frame))

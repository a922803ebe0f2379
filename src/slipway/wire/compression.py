"""Bodies without their gzip, deflate or zstd, never larger than was agreed: a bomb is refused, not unpacked."""

import zlib

import zstandard

from slipway.domain.errors import OtlpRefused

LARGEST_BODY = 64 << 20
"""Bytes of one body after decompression. Exporters send some hundred spans at a time; more is a bomb."""


def decompress(body: bytes, encoding: str, *, largest: int = LARGEST_BODY) -> bytes:
    """The body without gzip, deflate or zstd, never more than `largest` bytes. Raises `OtlpRefused`."""
    match encoding.strip().lower():
        case "" | "identity":
            raw = body
        case "gzip" | "x-gzip":
            raw = _inflate(body, 16 + zlib.MAX_WBITS, largest)
        case "deflate":
            # The header says zlib; some senders leave it out.
            zlib_header = len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
            raw = _inflate(body, zlib.MAX_WBITS if zlib_header else -zlib.MAX_WBITS, largest)
        case "zstd":
            try:
                reader = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(body)
                raw = reader.read(largest + 1)
            except zstandard.ZstdError as wrong:
                raise OtlpRefused(f"the body is no zstd ({wrong})", http_status=400) from wrong
        case _:
            raise OtlpRefused(f"the encoding '{encoding}' is not known; send gzip, deflate or zstd", http_status=415)
    if len(raw) > largest:
        raise OtlpRefused(f"the body is larger than {largest >> 20} MiB; send fewer spans at a time", http_status=413)
    return raw


def _inflate(body: bytes, window: int, largest: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    rest = body
    while rest:
        inflater = zlib.decompressobj(window)
        try:
            piece = inflater.decompress(rest, largest + 1 - size)
        except zlib.error as wrong:
            raise OtlpRefused(f"the body cannot be decompressed ({wrong})", http_status=400) from wrong
        pieces.append(piece)
        size += len(piece)
        if size > largest:
            break
        if not inflater.eof:
            raise OtlpRefused("the compressed body is cut off", http_status=400)
        # A gzip body may have several members.
        rest = inflater.unused_data
    return b"".join(pieces)

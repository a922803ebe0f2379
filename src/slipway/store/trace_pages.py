"""Pages of trace content: what spans say, packed together, and which words can be found in it."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import zstandard

from slipway.domain.trace import Span
from slipway.store.words import words_of

WORDS_VERSION = 1
"""Grows when `searchable` or `words_of` change, so that the words of an old page are never guessed wrong."""
LARGEST_PAGE = 1 << 30
# Raw attributes repeat what the other keys say, and passages belong to the documents, which have their own search.
NOT_SEARCHED = frozenset({"attributes", "resource", "scope", "passages", "citations", "documents", "chunks"})
PREVIEW_CHARACTERS = 160


class _Zstd(threading.local):
    """A thread's own pair: to make one costs more than to press a page with it."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=3)
        self.decompressor = zstandard.ZstdDecompressor()


_zstd = _Zstd()


class Said(msgspec.Struct, frozen=True, array_like=True):
    """The part of a span that may be about a person."""

    span: bytes
    error: str
    content: dict[str, Any]


def pack(spans: Sequence[Span]) -> bytes:
    """Content and errors of spans, compressed. Spans that say nothing are left out; nothing at all gives b''."""
    said = [
        Said(bytes.fromhex(span.span), span.error, dict(span.content)) for span in spans if span.content or span.error
    ]
    return pack_said(said) if said else b""


def pack_said(said: Sequence[Said]) -> bytes:
    """What spans say, compressed."""
    try:
        raw = msgspec.msgpack.encode(said, enc_hook=str)
    except (OverflowError, TypeError, ValueError):
        raw = msgspec.msgpack.encode([Said(one.span, plain(one.error), plain(one.content)) for one in said])
    return _zstd.compressor.compress(raw)


def plain(value: Any) -> Any:
    """The value with what MessagePack cannot hold turned into text: huge numbers, odd keys, lone surrogates."""
    match value:
        case None | bool() | float() | bytes():
            return value
        case int():
            return value if -(2**63) <= value < 2**64 else str(value)
        case str():
            return value.encode("utf-8", "replace").decode()
        case Mapping():
            return {plain(str(key)): plain(inner) for key, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(inner) for inner in value]
        case _:
            try:
                return plain(msgspec.to_builtins(value))
            except (TypeError, ValueError, OverflowError):
                return plain(str(value))


def unpack(page: bytes) -> dict[bytes, Said]:
    """What each span says, by span."""
    raw = _zstd.decompressor.decompress(page, max_output_size=LARGEST_PAGE)
    return {said.span: said for said in msgspec.msgpack.decode(raw, type=list[Said])}


def words_in(said: Sequence[Said]) -> set[str]:
    """Words by which a page is found."""
    words: set[str] = set()
    for one in said:
        for key, value in one.content.items():
            if key not in NOT_SEARCHED:
                for text in texts(value):
                    words |= words_of(text)
        if one.error:
            words |= words_of(one.error)
    return words


def texts(value: object) -> Iterator[str]:
    """Every string inside a value."""
    match value:
        case str():
            yield value
        case Mapping():
            for inner in value.values():
                yield from texts(inner)
        case list() | tuple():
            for inner in value:
                yield from texts(inner)
        case _:
            return


def preview(content: Mapping[str, Any]) -> str:
    """The first line that a list shows of a trace: the question, else the last thing the user said."""
    for key in ("question", "query", "input", "prompt"):
        if isinstance(found := content.get(key), str) and found.strip():
            return _one_line(found)
    messages = content.get("messages")
    if isinstance(messages, list | tuple):
        for message in reversed(messages):
            if isinstance(message, Mapping) and message.get("role") == "user":
                said = " ".join(texts(message.get("text", message.get("content", ""))))
                if said.strip():
                    return _one_line(said)
    return ""


def _one_line(text: str) -> str:
    line = " ".join(text[: PREVIEW_CHARACTERS * 4].split())
    return line if len(line) <= PREVIEW_CHARACTERS else line[: PREVIEW_CHARACTERS - 1] + "…"

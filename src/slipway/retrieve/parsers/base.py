"""What a parser promises, and the registry of parsers."""

from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar, Protocol

from slipway.plugins import Registry


class Unparsable(Exception):
    """A file's content is not what its suffix says, or holds no text; the message is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """Clean text with what else the file says about itself. `format` tells chunkers whether `# ` marks a heading."""

    text: str
    title: str = ""
    format: str = "text"
    metadata: dict[str, str] = field(default_factory=dict)


class Parser(Protocol):
    """Reads one kind of file. Raises `Unparsable` for what is broken, and may raise anything when `confined`."""

    suffixes: ClassVar[tuple[str, ...]]
    confined: ClassVar[bool]
    """Whether files go through a child process with limits, because a crafted one can hang, crash or fill memory."""

    def parse(self, content: bytes) -> Parsed: ...


parsers: Registry[Parser] = Registry("parser", package="slipway.retrieve.parsers")


@cache
def parser_names() -> dict[str, str]:
    """Which parser reads which suffix, such as `.md`."""
    return {suffix: name for name in parsers.names() for suffix in parsers.load(name).suffixes}


def decode_text(content: bytes) -> str:
    """Text of a file, read as UTF-8 (or what its byte order mark says), else as Windows-1252; line ends become `\\n`.

    Raises `Unparsable` where the bytes are no text.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif b"\x00" in content[:65536]:
        raise Unparsable("it is not text")
    else:
        encoding = "utf-8"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        text = _decode_western(content)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _decode_western(content: bytes) -> str:
    strange = sum(byte < 32 and byte not in b"\t\n\r\f" for byte in content[:65536])
    if strange:
        raise Unparsable("it is not text")
    return content.decode("cp1252", errors="replace")

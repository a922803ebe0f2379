"""A request as it goes over the wire: checked and written out once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from slipway.domain.errors import InputError

HeaderPairs = Iterable[tuple[str | bytes, str | bytes]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request without its body, checked and written out once, so that a hot path can send it many times."""

    origin: str
    host: str
    port: int
    tls: bool
    head: bytes
    """Request line and headers, without content-length and without the empty line at the end."""
    address: str = ""
    """Network address to connect to, where the host was looked up already; empty looks it up."""

    def with_body(self, length: int, extra: bytes) -> bytes:
        """The whole head for a body of `length` bytes; `extra` are further lines, each ending in CR LF."""
        return b"%bcontent-length: %d\r\n%b\r\n" % (self.head, length, extra)

    def below(self, method: str, rest: str) -> Prepared:
        """The same server and headers, at an address that begins with this one. `rest` comes as it goes over the wire,
        such as `/id?limit=2`: visible ASCII without spaces."""
        line, _, lines = self.head.partition(b"\r\n")
        _, target, version = line.split(b" ")
        head = b"%b %b%b %b\r\n%b" % (method.encode("ascii"), target, rest.encode("ascii"), version, lines)
        return replace(self, head=head)


def prepare(method: str, url: str, headers: HeaderPairs = ()) -> Prepared:
    """Checks a request's address and headers and writes them out. Raises `InputError` for what cannot be sent."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
        raise InputError(f"'{url}' is not an address to send to: write it as http://host:port/path or https://…")
    tls = parts.scheme == "https"
    port = port or (443 if tls else 80)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    authority = host if port == (443 if tls else 80) else f"{host}:{port}"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1".encode("ascii", "strict" if target.isascii() else "backslashreplace")]
    lines.append(b"host: " + authority.encode("idna" if not authority.isascii() else "ascii"))
    for name, value in headers:
        lines.append(_bytes(name) + b": " + _bytes(value))
    for line in lines:
        if b"\r" in line or b"\n" in line or b"\0" in line:
            raise InputError(f"A line break or a zero byte in the address or a header for {authority} is refused.")
    return Prepared(
        origin=f"{parts.scheme}://{authority}",
        host=parts.hostname,
        port=port,
        tls=tls,
        head=b"\r\n".join(lines) + b"\r\n",
    )


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8")

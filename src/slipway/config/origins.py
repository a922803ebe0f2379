"""Origins of web pages, as browsers write them: scheme, host, and a port that is not the scheme's usual one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

ANY = "*"
USUAL_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")


def check_origins(origins: str | Sequence[str]) -> None:
    """Raises `ValueError` for the first one that no browser would ever send."""
    if isinstance(origins, str) and origins != ANY:
        raise ValueError(f"'{origins}' in allow_origins stands by itself: write a list, or \"*\" for all pages")
    for origin in origins:
        if origin == ANY:
            continue
        written = as_browsers_write(origin)
        if origin == "null":
            raise ValueError("'null' in allow_origins would be any page that hides its origin: name origins")
        if not written or "*" in origin:
            raise ValueError(f"'{origin}' in allow_origins is no origin: write one such as 'https://app.example'")
        if written != origin:
            raise ValueError(f"'{origin}' in allow_origins is not as browsers write it: write '{written}'")


def as_browsers_write(origin: str) -> str:
    """Empty for what is no origin."""
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname or "", parts.port
        host = f"[{host}]" if ":" in host else host.encode("idna").decode("ascii")
    except ValueError:
        return ""
    if not parts.scheme or not _HOST.fullmatch(host):
        return ""
    return f"{parts.scheme}://{host}" + ("" if port in (None, USUAL_PORTS.get(parts.scheme)) else f":{port}")

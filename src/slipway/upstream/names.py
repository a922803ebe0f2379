"""Addresses of host names: looked up when a connection is made, and kept for when the lookup itself fails."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

FRESH_S = 10.0
"""How long a lookup is used again, so that many new connections at once ask once."""
SHUNNED_S = 30.0
"""How long an address that did not answer is tried after the others."""

Lookup = Callable[[str, int], Awaitable[list[str]]]


async def look_up(host: str, port: int) -> list[str]:
    """Addresses of a host in the order in which the system wants them tried. Raises `OSError`."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for _, _, _, _, address in found))


class Names:
    """What one event loop knows about host names.

    A name whose lookup fails keeps the addresses that it had: a name server that is away for a moment takes nobody
    along who still answers.
    """

    def __init__(self, lookup: Lookup = look_up) -> None:
        self._lookup = lookup
        self._known: dict[tuple[str, int], tuple[float, list[str]]] = {}
        self._shunned: dict[str, float] = {}

    async def addresses(self, host: str, port: int, *, now: float, anew: bool = False) -> list[str]:
        """In the order in which to try them; `anew` does not believe an earlier lookup. Raises `OSError` where nothing
        was ever found."""
        looked_at, known = self._known.get((host, port), (float("-inf"), []))
        if anew or now - looked_at >= FRESH_S:
            try:
                known = await self._lookup(host, port)
            except OSError:
                if not known:
                    raise
            self._known[host, port] = (now, known)
        return sorted(known, key=lambda address: self._shunned.get(address, now) > now)

    def failed(self, address: str, *, now: float) -> None:
        """Nobody answers there: others go first for a while."""
        self._shunned = {one: until for one, until in self._shunned.items() if until > now}
        self._shunned[address] = now + SHUNNED_S

"""Ids of what engines keep, bound to who made it: to all others they mean nothing, whoever may have told them.

All keys of a gateway share its account at an engine, which answers whoever names an id. So clients get its ids with a
suffix: which release and which address made it, and a keyed hash (BLAKE2b, RFC 7693) over these, the id, and the key
that asked. Nothing is stored, so every worker and every server with the same master key can read them, at once and for
as long as the engine keeps what they name.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable
from typing import NamedTuple

from slipway.domain.access import ApiKey
from slipway.gateway.targets import Target

TAG_BYTES = 6
MAC_BYTES = 18
SUFFIX_BYTES = 2 * TAG_BYTES + MAC_BYTES
SUFFIX_LENGTH = SUFFIX_BYTES * 4 // 3
NO_RELEASE = bytes(TAG_BYTES)
ID = re.compile(r"(?=.*\d)[A-Za-z0-9_-]{8,256}")
"""What can be bound: it stands in addresses, and nothing else in an answer is likely to be the same."""


GIVEN = re.compile(rb'"([A-Za-z0-9_-]{%d,%d})"' % (SUFFIX_LENGTH + 8, SUFFIX_LENGTH + 256))
"""What may be a bound id, in JSON."""


class Bound(NamedTuple):
    """What a bound id says: the engine's own id, and tags of the release and the address that made it."""

    id: str
    release: bytes
    place: bytes

    @property
    def release_start(self) -> str:
        """How the id of the release begins; empty for a model past every release."""
        return "" if self.release == NO_RELEASE else self.release.hex()


class BoundIds:
    """Binds ids and reads them again. `secret` is the same for every server of the application."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._places: dict[tuple[str, str], bytes] = {}

    def place_of(self, engine: str, origin: str) -> bytes:
        """The tag of an engine at one of its addresses: what one keeps the other does not know."""
        key = (engine, origin)
        if key not in self._places:
            self._places[key] = self._hash("place", engine, origin)[:TAG_BYTES]
        return self._places[key]

    def bind(self, id: str, *, key: ApiKey | None, target: Target, origin: str) -> str:
        """The id as a client gets it, and any later one of the same key may send it back; the same each time."""
        release = NO_RELEASE if target.release is None else bytes.fromhex(target.release.id[: 2 * TAG_BYTES])
        return self.bind_again(Bound(id, release, self.place_of(target.engine, origin)), key=key)

    def binding(self, target: Target, origin: str, *, key: ApiKey | None) -> Callable[[str], str]:
        """Binds the ids of one answer; what cannot be bound stays as it is."""
        return lambda id: id if ID.fullmatch(id) is None else self.bind(id, key=key, target=target, origin=origin)

    def bind_again(self, bound: Bound, *, key: ApiKey | None) -> str:
        suffix = bound.release + bound.place + self._mac(bound, key)
        return bound.id + base64.urlsafe_b64encode(suffix).decode("ascii")

    def read(self, given: str, *, key: ApiKey | None) -> Bound | None:
        """What an id stands for; None where this key was not given it."""
        id, suffix = given[:-SUFFIX_LENGTH], given[-SUFFIX_LENGTH:]
        if ID.fullmatch(id) is None:
            return None
        try:
            raw = base64.b64decode(suffix, altchars=b"-_", validate=True)
        except (ValueError, binascii.Error):
            return None
        bound = Bound(id, raw[:TAG_BYTES], raw[TAG_BYTES : 2 * TAG_BYTES])
        return bound if hmac.compare_digest(raw[2 * TAG_BYTES :], self._mac(bound, key)) else None

    def read_all(self, raw: bytes, *, key: ApiKey | None) -> tuple[bytes, dict[str, str]]:
        """JSON with all ids in it that this key was given as the engine knows them, and what each of these was."""
        known: dict[str, str] = {}

        def own(found: re.Match[bytes]) -> bytes:
            given = found[1].decode("ascii")
            bound = self.read(given, key=key)
            if bound is None:
                return found[0]
            known[bound.id] = given
            return b'"%b"' % bound.id.encode("ascii")

        return GIVEN.sub(own, raw), known

    def _mac(self, bound: Bound, key: ApiKey | None) -> bytes:
        holder = "" if key is None else key.holder
        return self._hash("id", holder, bound.release.hex(), bound.place.hex(), bound.id)

    def _hash(self, *parts: str) -> bytes:
        text = "\0".join(parts).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, key=self._secret, digest_size=MAC_BYTES).digest()

"""Who may call: API keys, their scopes, their limits a minute and a month."""

from __future__ import annotations

import base64
import ipaddress
import math
from datetime import UTC, datetime

from slipway.access.budgets import Meter
from slipway.access.keys import hash_key
from slipway.access.limits import RateLimiter
from slipway.domain.access import ApiKey, Scope
from slipway.domain.errors import AccessDenied, ForeignSite, OverLimit, ScopeMissing
from slipway.gateway.call import Call

FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-real-ip", b"x-forwarded-host")
MOST_HOSTS = 64


class Admission:
    """Lets calls in by what the snapshot knows of keys, without a look into the store.

    What keys use in a month is written down by `settle_up`, from a thread.
    """

    def __init__(self, *, required: bool, limiter: RateLimiter, meter: Meter) -> None:
        self.required = required
        self._limiter = limiter
        self._meter = meter
        self._known_hosts: set[bytes] = set()

    def admit(self, call: Call, scope: Scope) -> None:
        """Raises `AccessDenied` (401), `ScopeMissing` and `ForeignSite` (403), `OverLimit` (429)."""
        if not self.required:
            self._refuse_foreign_sites(call)
            if not call.snapshot.keys:
                return
        text = _bearer(call)
        key = call.snapshot.keys.get(hash_key(text)) if text else None
        if key is None or not key.valid_at(datetime.now(UTC)):
            # Where keys are not asked for, clients still send something: the OpenAI client cannot do without.
            if self.required:
                raise AccessDenied(
                    "The API key is missing, unknown, expired or revoked. Send one as 'Authorization: Bearer …'; "
                    "make one: slipway keys create NAME"
                )
            return
        if scope not in key.scopes:
            raise ScopeMissing(key.name, scope)
        call.key = key
        if scope == "chat":
            self._limiter.take(key)
            self._meter.reserve(key, 0)

    def _refuse_foreign_sites(self, call: Call) -> None:
        """Keeps out what a browser was lured into sending: where nobody needs a key, being on this machine is one.

        A page of another site names itself as Origin; a site whose name was rebound to 127.0.0.1 arrives with its own
        Host. Raises `ForeignSite`.
        """
        host = call.headers.get(b"host", b"")
        origin = call.headers.get(b"origin")
        if origin is not None and origin.rpartition(b"//")[2] != host:
            raise ForeignSite(origin.decode("latin-1"))
        if host in self._known_hosts:
            return
        server = call.scope.get("server")
        direct = not any(name in call.headers for name in FORWARDED)
        if server and is_loopback(str(server[0])) and direct and not is_loopback(_name(host)):
            raise ForeignSite(_name(host))
        if direct and len(self._known_hosts) < MOST_HOSTS:
            self._known_hosts.add(host)

    def used(self, key: ApiKey, *, tokens: int, micros: int) -> None:
        """Counts what a call used, once it is known."""
        self._limiter.add_tokens(key, tokens)
        self._meter.settle(key, reserved=0, micros=micros, tokens=tokens)

    def settle_up(self) -> None:
        """Writes down what was used and reads what other workers wrote. Raises `StoreError`."""
        self._meter.flush()


def is_loopback(name: str) -> bool:
    """Whether a host name or address means this machine and nothing else."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def limit_headers(error: OverLimit) -> list[tuple[bytes, bytes]]:
    return [(b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s)))]


def _bearer(call: Call) -> str:
    given = call.headers.get(b"authorization")
    if given is not None and given[:7].lower() == b"bearer ":
        return given[7:].strip().decode("utf-8", "replace")
    if given is not None and given[:6].lower() == b"basic ":
        # Langfuse's SDK sends its secret key as the password.
        try:
            return base64.b64decode(given[6:], validate=True).partition(b":")[2].decode("utf-8", "replace")
        except ValueError:
            return ""
    return ""


def _name(host: bytes) -> str:
    """`127.0.0.1:8080` or `[::1]:8080` without its port and brackets."""
    name, colon, port = host.decode("latin-1").rpartition(":")
    return (name if colon and port.isdigit() else host.decode("latin-1")).strip("[]").lower()

"""Who may call: API keys, their scopes, their limits a minute and a month."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from slipway.access.budgets import Meter
from slipway.access.keys import hash_key
from slipway.access.limits import RateLimiter
from slipway.domain.access import ApiKey, Scope
from slipway.domain.errors import AccessDenied, OverLimit, ScopeMissing
from slipway.gateway.call import Call

NEVER = math.inf


class Admission:
    """Lets calls in by what the snapshot knows of keys, without a look into the store.

    What keys use in a month is written down by `settle_up`, from a thread.
    """

    def __init__(self, *, required: bool, limiter: RateLimiter, meter: Meter) -> None:
        self.required = required
        self._limiter = limiter
        self._meter = meter

    def admit(self, call: Call, scope: Scope) -> None:
        """Raises `AccessDenied` (401), `ScopeMissing` (403), `OverLimit` (429)."""
        if not self.required and not call.snapshot.keys:
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

    def used(self, key: ApiKey, *, tokens: int, micros: int) -> None:
        """Counts what a call used, once it is known."""
        self._limiter.add_tokens(key, tokens)
        self._meter.settle(key, reserved=0, micros=micros, tokens=tokens)

    def settle_up(self) -> None:
        """Writes down what was used and reads what other workers wrote. Raises `StoreError`."""
        self._meter.flush()


def limit_headers(error: OverLimit) -> list[tuple[bytes, bytes]]:
    return [(b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s)))]


def _bearer(call: Call) -> str:
    given = call.headers.get(b"authorization")
    if given is not None and given[:7].lower() == b"bearer ":
        return given[7:].strip().decode("utf-8", "replace")
    return ""

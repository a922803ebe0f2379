"""Who may call: API keys and their scopes; how much they, a person and the project may use a minute and a month."""

from __future__ import annotations

import base64
import ipaddress
import math
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from slipway.access.budgets import CACHE_HOLDER, Meter, Reservation
from slipway.access.keys import hash_key
from slipway.access.limits import UNLIMITED, Allowance, RateLimiter, Remaining
from slipway.config.settings import LimitSettings, LimitsSettings
from slipway.domain.access import ApiKey, Limits, Scope
from slipway.domain.errors import AccessDenied, ForeignSite, OverLimit, ScopeMissing
from slipway.domain.message import Usage
from slipway.gateway.account import Account
from slipway.gateway.call import Call
from slipway.gateway.snapshot import Snapshot
from slipway.gateway.targets import Target

FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-real-ip", b"x-forwarded-host")
MOST_HOSTS = 64
BYTES_PER_TOKEN = 4
PROMPT_TOKENS = 2000
"""What a release with its own prompt or documents adds to a question, roughly."""
USUAL_ANSWER_TOKENS = 1024
"""What is set aside for an answer whose length nobody limits."""
MOST_TOKENS, MOST_ANSWERS = 100_000_000, 1000
"""More than any engine gives: numbers beyond that are counted as these, since counters are not without end."""
NO_USAGE = Usage()


class Admission:
    """Lets calls in by what the snapshot knows of keys, without a look into the store.

    What was used in a month is written down by `settle_up`, from a thread.
    """

    def __init__(self, *, required: bool, limiter: RateLimiter, meter: Meter) -> None:
        self.required = required
        self._limiter = limiter
        self._meter = meter
        self._known_hosts: set[bytes] = set()
        self._settings: LimitsSettings | None = None
        self._person: Limits = UNLIMITED
        self._project: Allowance | None = None

    def admit(self, call: Call, scope: Scope) -> None:
        """Raises `AccessDenied` (401), `ScopeMissing` and `ForeignSite` (403), `OverLimit` (429)."""
        if not self.required:
            self._refuse_foreign_sites(call)
        key = self._key(call) if self.required or call.snapshot.keys else None
        if key is not None:
            if scope not in key.scopes:
                raise ScopeMissing(key.name, scope)
            call.key = key
        if scope != "chat":
            return
        if call.snapshot.workspace.settings.limits is not self._settings:
            self._read(call.snapshot.workspace.settings.limits)
        allowances = []
        if key is not None:
            allowances.append(Allowance(holder=key.holder, whose=f"key '{key.name}'", limits=key.limits))
        if self._project is not None:
            allowances.append(self._project)
        if allowances or self._person is not UNLIMITED:
            account = call.account = Account(allowances)
            if account.limited:
                left: dict[str, Remaining] = {}
                try:
                    self._limiter.take(allowances, requests=1, left=left)
                finally:
                    account.left = left

    def reserve(self, call: Call, target: Target, *, body: bytes, fields: Mapping[str, msgspec.Raw]) -> None:
        """Sets aside what the call may cost at most, now that it is known who asks which model for what.

        Raises `OverLimit`.
        """
        account = call.account
        if account is None:
            return
        if self._person is not UNLIMITED and call.subject is not None:
            person = Allowance(holder=self._meter.holder_of(call.subject), whose="this person", limits=self._person)
            account.allowances = [*account.allowances, person]
            account.limited = True
            self._limiter.take([person], requests=1)
        most, tokens = most_usage(target, body=body, fields=fields) if account.limited else (NO_USAGE, 0)
        account.reservation = self._meter.reserve(account.allowances, target.cost_micros(most))
        if account.limited:
            left: dict[str, Remaining] = {}
            try:
                account.taken_at = self._limiter.take(account.allowances, tokens=tokens, left=left)
            finally:
                account.left |= left
            account.taken = tokens

    def used(self, account: Account, *, tokens: int, micros: int) -> None:
        """Counts what a call used, once it is known."""
        if account.limited:
            self._limiter.correct(account.allowances, tokens=tokens, taken=account.taken, at=account.taken_at)
            account.taken = tokens
        if account.reservation is None:
            account.reservation = Reservation(account.allowances, 0)
        self._meter.settle(account.reservation, micros=micros, tokens=tokens)

    def saved(self, micros: int) -> None:
        """Counts what an answer from the cache would have cost, under a holder of its own."""
        self._meter.note(CACHE_HOLDER, requests=1, micros=micros)

    def finish(self, account: Account) -> None:
        """Gives back what was set aside for a call that cost nothing in the end."""
        reservation = account.reservation
        if reservation is not None and not reservation.settled:
            self._meter.release(reservation)
            if account.limited:
                self._limiter.correct(account.allowances, tokens=0, taken=account.taken, at=account.taken_at)

    def settle_up(self, snapshot: Snapshot) -> None:
        """Writes down what was used and reads what others wrote, where there is anything to count.

        Raises `StoreError`.
        """
        limits = snapshot.workspace.settings.limits
        if snapshot.keys or limits != LimitsSettings() or snapshot.workspace.settings.cache.enabled:
            self._meter.flush()

    def _key(self, call: Call) -> ApiKey | None:
        text = _bearer(call)
        key = call.snapshot.keys.get(hash_key(text)) if text else None
        if key is not None and key.valid_at(datetime.now(UTC)):
            return key
        # Where keys are not asked for, clients still send something: the OpenAI client cannot do without.
        if self.required:
            raise AccessDenied(
                "The API key is missing, unknown, expired or revoked. Send one as 'Authorization: Bearer …'; "
                "make one: slipway keys create NAME"
            )
        return None

    def _read(self, settings: LimitsSettings) -> None:
        person, project = limits_of(settings.person), limits_of(settings.project)
        self._person = UNLIMITED if person == UNLIMITED else person
        self._project = None
        if project != UNLIMITED:
            self._project = Allowance(holder="project", whose="the project", limits=project)
        self._settings = settings

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


def limits_of(settings: LimitSettings) -> Limits:
    """Limits as slipway.toml writes them."""
    budget = settings.monthly_budget
    return Limits(
        requests_per_minute=settings.requests_per_minute,
        tokens_per_minute=settings.tokens_per_minute,
        monthly_requests=settings.monthly_requests,
        monthly_budget_micros=None if budget is None else round(budget * 1_000_000),
    )


def most_usage(target: Target, *, body: bytes, fields: Mapping[str, msgspec.Raw]) -> tuple[Usage, int]:
    """What a request may use at most: its own length, and the longest answer that it or the release allows.

    Second, the tokens of that which somebody named: an answer whose length nobody limits is set aside in money at a
    usual length, but counts among the tokens of a minute only when it is there.
    """
    asked = -(-len(body) // BYTES_PER_TOKEN)
    if not target.plain:
        asked += PROMPT_TOKENS
    if "input" in fields and "messages" not in fields:
        return Usage(input_tokens=asked, estimated=True), asked
    longest = _number(fields, "max_completion_tokens", MOST_TOKENS) or _number(fields, "max_tokens", MOST_TOKENS)
    release = target.release
    if release is not None and (longest is None or not target.plain):
        longest = release.decoding.max_tokens
    answers = _number(fields, "n", MOST_ANSWERS) or 1
    most = Usage(input_tokens=asked, output_tokens=(longest or USUAL_ANSWER_TOKENS) * answers, estimated=True)
    return most, most.total_tokens if longest else asked


def _number(fields: Mapping[str, msgspec.Raw], name: str, most: int) -> int | None:
    """A count from 1 on, `most` where it is more. What is none counts as not said, and the engine says what is wrong
    with it: below nothing it would make room where others are counted."""
    try:
        number = msgspec.json.decode(fields[name], type=int | None) if name in fields else None
    except ValueError:
        return None
    return min(number, most) if number is not None and number > 0 else None


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
    """The key as clients of OpenAI send it, or as those of Anthropic do."""
    given = call.headers.get(b"authorization")
    if given is not None and given[:7].lower() == b"bearer ":
        return given[7:].strip().decode("utf-8", "replace")
    if given is not None and given[:6].lower() == b"basic ":
        # Langfuse's SDK sends its secret key as the password.
        try:
            return base64.b64decode(given[6:], validate=True).partition(b":")[2].decode("utf-8", "replace")
        except ValueError:
            return ""
    return call.headers.get(b"x-api-key", b"").strip().decode("utf-8", "replace")


def _name(host: bytes) -> str:
    """`127.0.0.1:8080` or `[::1]:8080` without its port and brackets."""
    name, colon, port = host.decode("latin-1").rpartition(":")
    return (name if colon and port.isdigit() else host.decode("latin-1")).strip("[]").lower()

"""Who may call: API keys and their scopes; how much they, a person and the project may use a minute and a month."""

from __future__ import annotations

import base64
import ipaddress
import math
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from slipway.access.budgets import CACHE_HOLDER, Meter
from slipway.access.keys import hash_key
from slipway.access.leases import Account, Lease, Leases
from slipway.access.limits import UNLIMITED, Allowance
from slipway.config.settings import LimitSettings, LimitsSettings
from slipway.domain.access import ApiKey, Limits, Scope
from slipway.domain.errors import AccessDenied, ForeignSite, ModelNotAllowed, OverLimit, ScopeMissing
from slipway.domain.ids import SubjectId
from slipway.gateway.call import Call
from slipway.gateway.snapshot import Snapshot
from slipway.gateway.targets import Target

FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-real-ip", b"x-forwarded-host")
KEY_HEADERS = (b"x-api-key", b"api-key", b"x-goog-api-key")
MOST_HOSTS = 64
MOST_SEEN = 1024
BYTES_PER_TOKEN = 4
PROMPT_TOKENS = 2000
"""What a release with its own prompt or documents adds to a question, roughly."""
USUAL_ANSWER_TOKENS = 1024
"""What is set aside for an answer whose length nobody limits."""
MOST_TOKENS, MOST_ANSWERS = 100_000_000, 1000
"""More than any engine gives: numbers beyond that are counted as these, since counters are not without end."""
_Counted = tuple[tuple[Allowance, ...], tuple[Lease, ...]]


class Admission:
    """Lets calls in by what the snapshot knows of keys, without a look into the store.

    What was used in a month is written down by `settle_up`, from a thread.
    """

    def __init__(self, *, required: bool, meter: Meter, leases: Leases) -> None:
        self.required = required
        self._meter = meter
        self._leases = leases
        self._known_hosts: set[bytes] = set()
        self._keys: Mapping[str, ApiKey] = {}
        self._seen: dict[bytes, ApiKey] = {}
        """Keys by the header that named them, of the keys that are known now."""
        self._settings: LimitsSettings | None = None
        self._person: Limits = UNLIMITED
        self._of_all: _Counted = (), ()
        self._of_keys: dict[str, tuple[ApiKey, _Counted]] = {}

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
        allowances, leases = self._of_key(key) if key is not None else self._of_all
        if allowances or self._person is not UNLIMITED:
            account = call.account = Account(allowances, leases)
            self._leases.enter(account, allowances, leases)

    def reserve(
        self, call: Call, target: Target, *, body: bytes, fields: Mapping[str, msgspec.Raw], times: int = 1
    ) -> None:
        """Sets aside what the call may cost at most, now that it is known who asks which model for what. It asks for
        `times` times as many answers as its fields say.

        Raises `OverLimit`, `ModelNotAllowed` (403).
        """
        if call.key is not None and call.key.models:
            check_model(call, target)
        account = call.account
        if account is None:
            return
        if self._person is not UNLIMITED and call.subject is not None:
            self._enter_person(account, call.subject)
        if account.limited:
            asked, longest, tokens = most_usage(target, body=body, fields=fields, times=times)
            self._leases.reserve(account, tokens=tokens, micros=target.micros_of(asked, longest))
        else:
            self._leases.reserve(account, tokens=0, micros=0)

    def admit_again(self, call: Call, target: Target) -> None:
        """As `reserve`, for a call that a kept answer costs nothing: who may not ask for it does not get it either.

        Raises `OverLimit`, `ModelNotAllowed` (403).
        """
        check_model(call, target)
        if call.account is not None and self._person is not UNLIMITED and call.subject is not None:
            self._enter_person(call.account, call.subject)

    def _enter_person(self, account: Account, subject: SubjectId) -> None:
        """Counts a request among those of a person. Raises `OverLimit`."""
        holder = self._meter.holder_of(subject)
        allowance, lease = self._with_lease(Allowance(holder=holder, whose="this person", limits=self._person))
        account.add(allowance, lease)
        self._leases.enter(account, (allowance,), (lease,))

    def used(self, account: Account, *, tokens: int, micros: int) -> None:
        """Counts what a call used, once it is known. It lasts from the next `save` on."""
        self._leases.settle(account, tokens=tokens, micros=micros)

    def save(self) -> None:
        """Returns when what was used is counted even if this process is killed."""
        self._leases.save()

    def saved(self, micros: int) -> None:
        """Counts what an answer from the cache would have cost, under a holder of its own."""
        self._meter.note(CACHE_HOLDER, requests=1, micros=micros)

    def finish(self, account: Account) -> None:
        """Gives back what was set aside for a call that cost nothing in the end."""
        self._leases.release(account)

    def tick(self) -> bool:
        """Gives back to the other workers what nobody needed here: once a second or so, where calls are let in, and
        again soon where there is more, which is returned."""
        return self._leases.tick()

    def close(self) -> None:
        """Gives all of it back: no more calls are let in."""
        self._leases.close()

    def settle_up(self, snapshot: Snapshot) -> None:
        """Writes down what was used and reads what others wrote, where there is anything to count.

        Raises `StoreError`.
        """
        limits = snapshot.workspace.settings.limits
        if snapshot.keys or limits != LimitsSettings() or snapshot.workspace.settings.cache.enabled:
            self._meter.flush()

    def _key(self, call: Call) -> ApiKey | None:
        keys, given = call.snapshot.keys, call.headers.get(b"authorization", b"")
        if keys is not self._keys:
            self._keys = keys
            self._seen.clear()
        key = self._seen.get(given)
        if key is None:
            text = _bearer(call)
            key = keys.get(hash_key(text)) if text else None
            # What says who is asking is hashed once; it stands in memory with the request anyway.
            if key is not None and given[:7].lower() == b"bearer " and len(self._seen) < MOST_SEEN:
                self._seen[given] = key
        if key is not None and (_for_good(key) or key.valid_at(datetime.now(UTC))):
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
        self._of_all = (), ()
        if project != UNLIMITED:
            allowance, lease = self._with_lease(Allowance(holder="project", whose="the project", limits=project))
            self._of_all = (allowance,), (lease,)
        self._of_keys.clear()
        self._settings = settings

    def _of_key(self, key: ApiKey) -> _Counted:
        """Whose limits the requests of a key are counted under."""
        found = self._of_keys.get(key.id)
        if found is None or found[0] is not key:
            whose = f"key '{key.name}'"
            allowance, lease = self._with_lease(Allowance(holder=key.holder, whose=whose, limits=key.limits))
            allowances, leases = self._of_all
            found = self._of_keys[key.id] = key, ((allowance, *allowances), (lease, *leases))
        return found[1]

    def _with_lease(self, allowance: Allowance) -> tuple[Allowance, Lease]:
        return allowance, self._leases.of(allowance)

    def _refuse_foreign_sites(self, call: Call) -> None:
        """Keeps out what a browser was lured into sending: where nobody needs a key, being on this machine is one.

        A page of another site names itself as Origin; a site whose name was rebound to 127.0.0.1 arrives with its own
        Host. Pages that [server] allow_origins names may call. Raises `ForeignSite`.
        """
        host = call.headers.get(b"host", b"")
        origin = call.headers.get(b"origin")
        if origin is not None and not call.for_page and origin.rpartition(b"//")[2] != host:
            raise ForeignSite(origin.decode("latin-1"))
        if host in self._known_hosts:
            return
        server = call.scope.get("server")
        direct = not any(name in call.headers for name in FORWARDED)
        if server and is_loopback(str(server[0])) and direct and not is_loopback(_name(host)):
            raise ForeignSite(_name(host))
        if direct and len(self._known_hosts) < MOST_HOSTS:
            self._known_hosts.add(host)


def _for_good(key: ApiKey) -> bool:
    """Whether a key is neither revoked nor ever expires: then nobody has to look at the clock."""
    return key.expires_at is None and key.revoked_at is None


def check_model(call: Call, target: Target | None) -> None:
    """Raises `ModelNotAllowed` where the key of a call may not call its model.

    A release that is called by its id is known by its name too, a channel by its own alone.
    """
    key = call.key
    if key is not None and not key.may_call(call.model, *([target.label] if target and not call.channel else ())):
        raise ModelNotAllowed(key.name, call.model, key.models)


def limits_of(settings: LimitSettings) -> Limits:
    """Limits as slipway.toml writes them."""
    budget = settings.monthly_budget
    return Limits(
        requests_per_minute=settings.requests_per_minute,
        tokens_per_minute=settings.tokens_per_minute,
        monthly_requests=settings.monthly_requests,
        monthly_budget_micros=None if budget is None else round(budget * 1_000_000),
    )


def most_usage(
    target: Target, *, body: bytes, fields: Mapping[str, msgspec.Raw], times: int = 1
) -> tuple[int, int, int]:
    """Tokens that a request may use at most: its own length, and the longest answer that it or the release allows.

    Third, the tokens of that which somebody named: an answer whose length nobody limits is set aside in money at a
    usual length, but counts among the tokens of a minute only when it is there.
    """
    asked = -(-len(body) // BYTES_PER_TOKEN)
    if not target.plain:
        asked += PROMPT_TOKENS
    if "input" in fields and "messages" not in fields:
        return asked, 0, asked
    longest = None
    if "max_tokens" in fields or "max_completion_tokens" in fields:
        longest = count_in(fields, "max_completion_tokens", MOST_TOKENS) or count_in(fields, "max_tokens", MOST_TOKENS)
    release = target.release
    if release is not None and (longest is None or not target.plain):
        longest = release.decoding.max_tokens
    answers = (count_in(fields, "n", MOST_ANSWERS) or 1) if "n" in fields else 1
    most = (longest or USUAL_ANSWER_TOKENS) * answers * times
    return asked, most, asked + most if longest else asked


def count_in(fields: Mapping[str, msgspec.Raw], name: str, most: int) -> int | None:
    """A count from 1 on, `most` where it is more. What is none counts as not said, and the engine says what is wrong
    with it: below nothing it would make room where others are counted."""
    given = fields.get(name)
    if given is None:
        return None
    try:
        number = _count.decode(given)
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
    """The key as clients of OpenAI send it, or as those of Anthropic, Azure and Google do."""
    given = call.headers.get(b"authorization")
    if given is not None and given[:7].lower() == b"bearer ":
        return given[7:].strip().decode("utf-8", "replace")
    if given is not None and given[:6].lower() == b"basic ":
        # Langfuse's SDK sends its secret key as the password.
        try:
            return base64.b64decode(given[6:], validate=True).partition(b":")[2].decode("utf-8", "replace")
        except ValueError:
            return ""
    named = next((call.headers[name] for name in KEY_HEADERS if name in call.headers), b"")
    return named.strip().decode("utf-8", "replace")


def _name(host: bytes) -> str:
    """`127.0.0.1:8080` or `[::1]:8080` without its port and brackets."""
    name, colon, port = host.decode("latin-1").rpartition(":")
    return (name if colon and port.isdigit() else host.decode("latin-1")).strip("[]").lower()


_count: msgspec.json.Decoder[int | None] = msgspec.json.Decoder(int | None)

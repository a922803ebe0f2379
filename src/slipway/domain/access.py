"""Who may do what: keys, roles, limits, and the log of what was done."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from slipway.domain.ids import ContentHash

Scope = Literal["chat", "feedback", "traces", "read", "write", "admin"]
"""`chat`: call models (all of /v1 that asks one, and /v1/models); `feedback`: send feedback; `traces`: send spans;
`read`, `write`, `admin`: the pages and /api/v1 as viewer, member, admin."""
Role = Literal["viewer", "member", "admin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a key may use. None is without limit; a month is a calendar month in UTC."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    monthly_requests: int | None = None
    monthly_budget_micros: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is kept: never the key itself, which is shown once, when it is made."""

    id: str
    name: str
    hash: ContentHash
    """SHA-256 of the key."""
    prefix: str
    """The first characters, so that people recognise it."""
    scopes: tuple[Scope, ...]
    role: Role | None = None
    """What its holder may do on the pages; None keeps it out of them."""
    models: tuple[str, ...] = ()
    """Names that it may call, `*` at the end of one standing for anything; without any it may call all."""
    limits: Limits = field(default_factory=Limits)
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    counted_as: str = ""
    """Id of the key whose limits and spending it shares: the old text of a rotated key, while both work."""

    @property
    def holder(self) -> str:
        """What its use is counted under."""
        return self.counted_as or self.id

    def may_call(self, *names: str) -> bool:
        """Whether one of the names of a model is among those that it may call."""
        return not self.models or any(
            name.startswith(model[:-1]) if model.endswith("*") else name == model
            for name in names
            for model in self.models
        )

    def valid_at(self, now: datetime) -> bool:
        """Neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What one holder (a key's id) used in one period, such as `2026-11`."""

    holder: str
    period: str
    requests: int = 0
    tokens: int = 0
    micros: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One line of the audit log. `hash` covers the line and the hash before it; `detail` holds no content."""

    number: int
    at: datetime
    actor: str
    action: str
    thing: str
    detail: dict[str, str]
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What checking the log found. `first_bad` is the number of the first line that is not as it was written."""

    events: int
    head: str
    """Hash of the last line: keep it elsewhere, and a missing tail will show too."""
    first_bad: int | None = None
    problem: str = ""

    @property
    def intact(self) -> bool:
        return self.first_bad is None

"""The audit log: every line carries the hash of the one before it, so that edits, drops and swaps show."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from slipway.domain.access import AuditEvent, AuditReport
from slipway.store.store import Store

FIRST = "0" * 64
"""What the first line builds on."""


def record_event(
    store: Store,
    actor: str,
    action: str,
    thing: str,
    *,
    detail: Mapping[str, str] | None = None,
    now: datetime | None = None,
) -> AuditEvent:
    """Adds one line. Put no content and no person's id into it: erasing a person must not break the chain.

    Inside a transaction the line appears with what it is about, or not at all.
    """

    def make(last: AuditEvent | None) -> AuditEvent:
        at = now or datetime.now(UTC)
        # Whole microseconds, so that the line reads back as it was hashed.
        at = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=round(at.timestamp() * 1_000_000))
        number = last.number + 1 if last is not None else 1
        line = AuditEvent(
            number=number, at=at, actor=actor, action=action, thing=thing, detail=dict(detail or {}), hash=""
        )
        return AuditEvent(
            number=number,
            at=at,
            actor=actor,
            action=action,
            thing=thing,
            detail=line.detail,
            hash=_hash(store.project, last.hash if last is not None else FIRST, line),
        )

    return store.audit.append(make)


def verify_audit(store: Store, *, head: str | None = None) -> AuditReport:
    """Checks every line. A tail that was cut off shows only against `head`, the hash of a line noted elsewhere.

    `head` must occur in the log: older heads stay valid as the log grows.
    """
    before, count = FIRST, 0
    seen_head = head is None or head == FIRST
    for expected, event in enumerate(store.audit.events(), start=1):
        if event.number != expected:
            return AuditReport(events=count, head=before, first_bad=expected, problem=f"line {expected} is missing")
        if event.hash != _hash(store.project, before, event):
            problem = f"line {expected} was changed, or a line before it was taken out or moved"
            return AuditReport(events=count, head=before, first_bad=expected, problem=problem)
        before, count = event.hash, count + 1
        seen_head = seen_head or event.hash == head
    if not seen_head:
        problem = f"the log ends at line {count} and does not hold the noted head {head}: its tail is missing"
        return AuditReport(events=count, head=before, first_bad=count + 1, problem=problem)
    return AuditReport(events=count, head=before)


def _hash(project: str, before: str, event: AuditEvent) -> str:
    line = [
        project,
        before,
        event.number,
        round(event.at.timestamp() * 1_000_000),
        event.actor,
        event.action,
        event.thing,
        event.detail,
    ]
    return hashlib.sha256(msgspec.json.encode(line, order="sorted")).hexdigest()

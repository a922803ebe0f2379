"""Retention: content of traces goes when its days are over, numbers stay."""

from datetime import datetime, timedelta

from slipway.access.audit import record_event
from slipway.domain.privacy import RetentionReport
from slipway.tracing.ingest import drain
from slipway.workspace import Workspace


def run_retention(
    workspace: Workspace, *, keep_days: int | None = None, now: datetime | None = None, actor: str = "cli"
) -> RetentionReport:
    """Removes traces and finished jobs that are older than `keep_days` ([privacy] keep_days by default).

    Roll-ups hold numbers only and stay. What people saved from a trace (feedback, cases, findings) stays too: it has
    its own purpose, and goes when its person is erased.
    """
    store = workspace.store
    days = workspace.settings.privacy.keep_days if keep_days is None else keep_days
    before = (now or workspace.now()) - timedelta(days=days)
    drain(store)
    traces = store.traces.expire(before=before)
    store.span_events.forget()
    jobs = store.jobs.expire(before=before)
    notes: tuple[str, ...] = ()
    if traces or jobs:
        note = store.database.dialect.scrub(store.database.engine)
        notes = (note,) if note else ()
        detail = {"traces": str(traces), "jobs": str(jobs), "keep_days": str(days)}
        record_event(store, actor, "privacy.keep", workspace.application, detail=detail)
    return RetentionReport(keep_days=days, before=before, traces=traces, jobs=jobs, notes=notes)

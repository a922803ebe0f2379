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

    Kinds of traces in [privacy] keep_days_by_kind have their own days, unless `keep_days` is given: it counts for all.
    Roll-ups hold numbers only and stay. What people saved from a trace (feedback, cases, findings) stays too: it has
    its own purpose, and goes when its person is erased.
    """
    store = workspace.store
    settings = workspace.settings.privacy
    moment = now or workspace.now()
    days = settings.keep_days if keep_days is None else keep_days
    of_kind = settings.keep_days_by_kind if keep_days is None else {}
    before = moment - timedelta(days=days)
    drain(store)
    traces = store.traces.expire(before=before, other_than=tuple(of_kind))
    for kind, its_days in of_kind.items():
        traces += store.traces.expire(before=moment - timedelta(days=its_days), kind=kind)
    store.span_events.forget()
    jobs = store.jobs.expire(before=before)
    notes: tuple[str, ...] = ()
    if traces or jobs:
        note = store.database.dialect.scrub(store.database.engine)
        notes = (note,) if note else ()
        detail = {"traces": str(traces), "jobs": str(jobs), "keep_days": str(days)}
        record_event(store, actor, "privacy.keep", workspace.application, detail=detail)
    return RetentionReport(keep_days=days, before=before, traces=traces, jobs=jobs, notes=notes)

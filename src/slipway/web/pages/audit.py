"""Who did what? The append-only log, with its chain checked."""

from collections.abc import Iterator
from itertools import islice

from slipway.access.audit import verify_audit
from slipway.domain.access import AuditEvent
from slipway.web.filter import Filter, link
from slipway.web.frame import Crumb
from slipway.web.number import UNKNOWN, moment
from slipway.web.page import View, Visit, page
from slipway.web.table import Column, Row, Table

PAGE = 100
COLUMNS = (
    Column(key="number", label="Line", number=True),
    Column(key="at", label="When"),
    Column(key="actor", label="Who"),
    Column(key="action", label="Did"),
    Column(key="thing", label="To", mono=True, one_line=False),
    Column(key="detail", label="With", one_line=False),
    Column(key="hash", label="Hash", mono=True),
)


def show(visit: Visit) -> View:
    wanted = {name: visit.ask(name).strip() for name in ("actor", "action", "thing")}
    after = visit.ask("after")
    before = int(after) if after.isdigit() else None
    found = list(islice((event for event in _older(visit, before) if _fits(event, wanted)), PAGE + 1))
    more = link("/audit", wanted, after=str(found[PAGE - 1].number)) if len(found) > PAGE else ""
    data = {
        "table": Table(
            caption="Audit log",
            columns=COLUMNS,
            rows=[_row(event) for event in found[:PAGE]],
            more_href=more,
            first_href=link("/audit", wanted) if before else "",
            compact=True,
        ),
        "filters": [
            Filter(name="actor", label="Who", value=wanted["actor"]),
            Filter(name="action", label="Did what", value=wanted["action"]),
            Filter(name="thing", label="To what", value=wanted["thing"]),
        ],
        "filtered": any(wanted.values()),
        "report": verify_audit(visit.workspace.store, head=visit.ask("head") or None)
        if visit.ask("part") == "check"
        else None,
    }
    return View("audit.html", "Audit", data, (Crumb("Audit"),))


def _older(visit: Visit, before: int | None) -> Iterator[AuditEvent]:
    for event in visit.workspace.store.audit.events(newest_first=True):
        if before is None or event.number < before:
            yield event


def _fits(event: AuditEvent, wanted: dict[str, str]) -> bool:
    return all(value.lower() in str(getattr(event, name)).lower() for name, value in wanted.items())


def _row(event: AuditEvent) -> Row:
    return Row(
        cells={
            "number": str(event.number),
            "at": moment(event.at),
            "actor": event.actor,
            "action": event.action.replace("_", " "),
            "thing": event.thing,
            "detail": ", ".join(f"{name} {value}" for name, value in event.detail.items()) or UNKNOWN,
            "hash": event.hash[:12],
        }
    )


ROUTES = [page("/audit", show, needs="see_audit")]

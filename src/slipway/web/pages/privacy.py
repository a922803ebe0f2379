"""Whose data is kept here? One person's data to hand out or to erase with a receipt; what retention removes."""

from collections import Counter
from typing import Any

from starlette.responses import Response

from slipway.access.audit import record_event
from slipway.domain.errors import NotFound
from slipway.domain.ids import SubjectId
from slipway.domain.privacy import ErasureReport
from slipway.privacy.erasure import erase_subject
from slipway.privacy.export import export_subject, size_of
from slipway.privacy.retention import run_retention
from slipway.web.frame import Crumb
from slipway.web.number import count, moment, plural, seconds
from slipway.web.page import Done, View, Visit, act, page
from slipway.web.table import Column, Row, Table, tag

MOST_PEOPLE = 200
TONES = {"erased": "pass", "rewritten": "pass", "checked": "", "found": "warn", "outside": "warn"}
KINDS = (Column(key="kind", label="Kind"), Column(key="many", label="Things", number=True))
NODES = (
    Column(key="kind", label="Kind"),
    Column(key="id", label="Thing", mono=True, one_line=False),
    Column(key="state", label="State"),
    Column(key="reason", label="How, or what to do next", one_line=False),
)
RECEIPTS = (
    Column(key="when", label="Erased"),
    Column(key="person", label="Fingerprint", mono=True),
    Column(key="things", label="Things", number=True),
    Column(key="state", label="State"),
)


def show(visit: Visit) -> View:
    workspace = visit.workspace
    subject = visit.ask("subject").strip()
    people = workspace.store.keys.subjects()
    settings = workspace.settings.privacy
    data: dict[str, Any] = {
        "subject": subject,
        "people": people[:MOST_PEOPLE],
        "number": len(people),
        "kinds": None,
        "things": 0,
        "receipts": _receipts(workspace.store.records.list(ErasureReport, limit=50)),
        "facts": [
            ("Content of traces is kept", plural(settings.keep_days, "day")),
            ("Messages and passages", "kept, sealed per person" if settings.store_content else "not kept"),
            ("Master key", settings.master_key or "in .slipway/master.key"),
        ],
    }
    if subject:
        visit.require("export_person")
        exported = export_subject(workspace, SubjectId(subject))
        data["things"] = size_of(exported)
        data["kinds"] = _kinds(exported)
    return View("privacy.html", "Privacy", data, (Crumb("Privacy"),))


def export(visit: Visit) -> Response:
    """Everything that is kept about a person, as a file of JSON."""
    import msgspec

    subject = SubjectId(visit.part("subject"))
    exported = export_subject(visit.workspace, subject)
    store = visit.workspace.store
    if not size_of(exported):
        raise NotFound("person", subject, known=store.keys.subjects(), next_step="List the ids: slipway privacy people")
    record_event(store, visit.person, "export_person", store.keys.pseudonym(subject))
    body = msgspec.json.format(msgspec.json.encode(exported, enc_hook=str), indent=2)
    headers = {"Content-Disposition": 'attachment; filename="person.json"', "Cache-Control": "no-store"}
    return Response(body, media_type="application/json", headers=headers)


def erase(visit: Visit) -> Done:
    report = erase_subject(
        visit.workspace,
        SubjectId(visit.said("subject")),
        everywhere=bool(visit.said("everywhere")),
        actor=visit.person,
    )
    return Done(f"/privacy/erasure/{report.id}", "Erased. This page is the receipt.")


def show_erasure(visit: Visit) -> View:
    report = visit.workspace.store.records.get(ErasureReport, visit.part("id"))
    data = {
        "report": report,
        "figures": [(state.capitalize(), count(number), "") for state, number in sorted(report.counts.items())]
        + [
            ("Keys destroyed", count(report.keys), "backups can no longer be read either"),
            ("Files searched", count(report.files_searched), seconds(report.seconds)),
        ],
        "nodes": Table(
            caption="Things",
            columns=NODES,
            rows=[
                Row(
                    cells={
                        "kind": node.kind,
                        "id": node.id,
                        "state": tag(node.state, TONES[node.state]),
                        "reason": node.reason,
                    }
                )
                for node in report.nodes[:500]
            ],
            compact=True,
        ),
    }
    crumbs = (Crumb("Privacy", "/privacy"), Crumb("receipt"))
    return View("erasure.html", "Erasure", data, crumbs)


def keep(visit: Visit) -> Done:
    report = run_retention(visit.workspace, actor=visit.person)
    return Done(
        "/privacy", f"{plural(report.traces, 'trace')} and {plural(report.jobs, 'job')} were removed; numbers stay."
    )


def _kinds(exported: dict[str, Any]) -> Table:
    found = Counter(
        {"trace": len(exported["traces"]), "document": len(exported["documents"]), "job": len(exported["jobs"])}
    )
    found.update({kind.replace("_", " "): len(records) for kind, records in exported["records"].items()})
    found.update({f"part of {name}": len(members) for name, members in exported["members"].items()})
    found["copy made from these"] = len(exported["copies"])
    rows = [Row(cells={"kind": kind, "many": count(many)}) for kind, many in found.items() if many]
    return Table(caption="What is kept", columns=KINDS, rows=rows)


def _receipts(reports: list[ErasureReport]) -> Table:
    return Table(
        caption="Receipts",
        columns=RECEIPTS,
        rows=[
            Row(
                href=f"/privacy/erasure/{report.id}",
                cells={
                    "when": moment(report.created_at),
                    "person": report.person[:16],
                    "things": count(len(report.nodes)),
                    "state": tag("complete", "pass") if report.complete else tag("something is left", "warn"),
                },
            )
            for report in reports
        ],
    )


ROUTES = [
    page("/privacy", show, needs="see_content"),
    page("/privacy/export/{subject:path}", export, needs="export_person"),
    act("/privacy/erase", erase, back=show, needs="erase_person"),
    act("/privacy/keep", keep, back=show, needs="erase_person"),
    page("/privacy/erasure/{id}", show_erasure, needs="export_person"),
]

"""Everything that is kept about a person, as plain values: what access and portability ask for."""

from collections import defaultdict
from typing import Any

import msgspec

from slipway.domain.ids import SubjectId
from slipway.privacy.documents import documents_about
from slipway.tracing.ingest import drain
from slipway.workspace import Workspace


def export_subject(workspace: Workspace, subject: SubjectId) -> dict[str, Any]:
    """Traces with what was said, records by kind, members of datasets and evaluations, documents, jobs, and copies.

    `copies` are the edges to things that were made from these; what they hold of the person is among the records.
    """
    store = workspace.store
    drain(store)
    traces = [store.traces.get(id) for id in store.traces.about(subject)]
    records: dict[str, list[Any]] = defaultdict(list)
    things = [("trace", str(trace.id)) for trace in traces]
    for record in store.plain_records.all(subject=subject):
        records[record.kind].append(record.body)
        things.append((record.kind, record.id))
    members: dict[str, list[Any]] = defaultdict(list)
    for member in store.plain_records.members(subject):
        members[f"{member.kind} {member.id}"].append(member.body)
        things.append((member.kind, member.id))
    documents = [
        {"index": f"{holding.built.name}@{holding.built.version}" if holding.built else holding.version, **told}
        for holding in documents_about(workspace, subject)
        for document in holding.documents
        for told in [{"id": document.id, "title": document.title, "source": document.source, "text": document.text}]
    ]
    jobs = store.jobs.list(kind=None, state=None, subject=subject, limit=1_000_000)
    copies = {edge.child for edge in store.lineage.descendants(things)} - set(things)
    exported = {
        "subject": subject,
        "application": workspace.application,
        "created_at": workspace.now(),
        "traces": traces,
        "records": dict(records),
        "members": dict(members),
        "documents": documents,
        "jobs": jobs,
        "copies": [{"kind": kind, "id": id} for kind, id in sorted(copies)],
    }
    plain: dict[str, Any] = msgspec.to_builtins(exported, enc_hook=str)
    return plain


def size_of(exported: dict[str, Any]) -> int:
    """Number of things in an export; 0 when nothing is kept about the person."""
    listed = sum(len(exported[key]) for key in ("traces", "documents", "jobs", "copies"))
    return listed + sum(len(found) for key in ("records", "members") for found in exported[key].values())

"""Erases a person: key, traces, records, copies, words, index versions, caches, journal; and proves it."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from slipway.access.audit import record_event
from slipway.domain.errors import ErasureBusy
from slipway.domain.ids import SubjectId, new_id
from slipway.domain.privacy import ErasureNode, ErasureReport, NodeState
from slipway.domain.release import Release
from slipway.privacy.documents import Holding, chunk_texts, documents_about, passages_in, without_documents
from slipway.privacy.proof import search_files
from slipway.privacy.words import SHORTEST, Texts, said_in, strings, told_in, without
from slipway.retrieve.embeddings import forget_texts
from slipway.store.files import write_text
from slipway.store.journal import overwrite, segments
from slipway.store.lineage import Thing
from slipway.store.plain_records import PlainRecord
from slipway.store.records import Kind, register
from slipway.tracing.ingest import drain
from slipway.workspace import Workspace

WAIT_S = 30.0
# Answers quote documents: looked for in these, they would find what other people asked and were told the same way.
ANSWERS_BELONG_TO_ALL = frozenset({"dataset", "evaluation", "prompt", "index", "release", "evidence", "comparison"})
# What a person's own files may be, where words are looked for but never changed.
OWN_FILES = frozenset({".md", ".txt", ".jsonl", ".json", ".csv", ".html", ".htm", ".toml", ".yaml", ".yml"})
LARGEST_OWN_FILE = 20 << 20

register(ErasureReport, Kind(kind="erasure"))


@dataclass
class _Person:
    """What is known about a person before anything is erased."""

    traces: list[str] = field(default_factory=list)
    records: list[PlainRecord] = field(default_factory=list)
    members: list[tuple[Thing, int]] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    holdings: list[Holding] = field(default_factory=list)
    chunks: list[str] = field(default_factory=list)
    said: Texts = field(default_factory=lambda: Texts(()))
    told: Texts = field(default_factory=lambda: Texts(()))

    @property
    def things(self) -> list[Thing]:
        own = [("trace", id) for id in self.traces] + [(record.kind, record.id) for record in self.records]
        return [*own, *dict.fromkeys(thing for thing, _ in self.members)]


def erase_subject(
    workspace: Workspace,
    subject: SubjectId,
    *,
    everywhere: bool = False,
    prove: bool = True,
    actor: str = "cli",
) -> ErasureReport:
    """Erases everything that is about a person, and follows every copy; the report names each thing and its state.

    What says the same words but was copied by no known way is reported as `found`; with `everywhere` it is rewritten
    too. `prove` searches every file of the store afterwards. Files of the application itself (documents, prompts,
    questions, drafts) are only named. The person's data that arrives later is new data. Raises `ErasureBusy` when the
    journal cannot be emptied.
    """
    began = time.monotonic()
    store = workspace.store
    if drain(store, wait_s=WAIT_S).busy:
        raise ErasureBusy()
    person = _gather(workspace, subject)
    nodes: list[ErasureNode] = []
    with store.transaction():
        nodes += _erase_own(workspace, subject, person)
        nodes += _clean_copies(workspace, subject, person, everywhere=everywhere)
        nodes += _clean_passages(workspace, person)
        keys = store.keys.erase(subject)
    nodes += _erase_index_versions(workspace, person)
    forgotten = forget_texts(workspace.state, [*person.said.whole, *person.told.whole, *person.chunks])
    if forgotten:
        nodes.append(ErasureNode(kind="embedding", id=f"{forgotten} vectors", state="erased", reason="cache emptied"))
    nodes += _own_files(workspace, person)
    for segment in segments(store.journal_folder):
        # Done once more, in case the reader was killed between the store and the overwriting.
        overwrite(segment, 0, store.positions.of(segment.name), sync=True)
    note = store.database.dialect.scrub(store.database.engine)
    remains: list[str] = []
    searched = 0
    if prove:
        looked_for = [*person.said.long(), *Texts(person.chunks).long()]
        proof = search_files(workspace.state, looked_for)
        searched = proof.searched
        remains += [f"{path.relative_to(workspace.folder)} still holds words of the person" for path in proof.holding]
    report = ErasureReport(
        id=new_id(),
        person=store.keys.pseudonym(subject),
        nodes=tuple(nodes),
        keys=keys,
        remains=tuple(remains),
        notes=(note,) if note else (),
        files_searched=searched,
        seconds=round(time.monotonic() - began, 3),
        created_at=workspace.now(),
    )
    with store.transaction():
        store.records.save(report)
        counts = {state: str(count) for state, count in sorted(report.counts.items())}
        record_event(store, actor, "privacy.erase", report.person, detail={"report": report.id, **counts})
    return report


def _gather(workspace: Workspace, subject: SubjectId) -> _Person:
    """Everything about the person, read while it can still be read."""
    store = workspace.store
    person = _Person(traces=[*store.traces.about(subject)])
    said: set[str] = set()
    told: set[str] = set()
    for id in person.traces:
        trace = store.traces.get(id)
        said |= said_in(trace)
        told |= told_in(trace)
    person.records = list(store.plain_records.all(subject=subject))
    members = store.plain_records.members(subject)
    person.members = [((member.kind, member.id), member.position) for member in members]
    for body in [record.body for record in person.records] + [member.body for member in members]:
        said.update(_own_words(body))
        told.update(_answers(body))
    jobs = store.jobs.list(kind=None, state=None, subject=subject, limit=1_000_000)
    person.jobs = [job.id for job in jobs]
    for job in jobs:
        said.update(text for text in strings([job.payload, job.checkpoint, job.result]) if len(text) >= SHORTEST)
    person.holdings = documents_about(workspace, subject)
    for holding in person.holdings:
        person.chunks += chunk_texts(workspace, holding)
    person.said, person.told = Texts(said), Texts(told)
    return person


def _own_words(body: object) -> Iterator[str]:
    """What the person wrote in a record: these fields hold people's own words in every kind."""
    if isinstance(body, dict):
        for key in ("question", "comment", "correction", "detail", "title", "text", "note"):
            yield from strings([body.get(key)])
        yield from strings([body.get("questions")])


def _answers(body: object) -> Iterator[str]:
    if isinstance(body, dict):
        for key in ("answer", "expected", "context"):
            yield from strings([body.get(key)])


def _erase_own(workspace: Workspace, subject: SubjectId, person: _Person) -> Iterable[ErasureNode]:
    """Traces, records, members and jobs of the person."""
    store = workspace.store
    store.traces.remove(person.traces, tombstones=True)
    store.plain_records.remove(subject)
    store.jobs.remove(person.jobs)
    gone = "deleted, and its key destroyed"
    nodes = [_node("trace", id, "erased", f"{gone}; roll-ups keep numbers only") for id in person.traces]
    nodes += [_node(record.kind, record.id, "erased", gone) for record in person.records]
    nodes += [_node(kind, f"{id}#{place}", "erased", gone) for (kind, id), place in person.members]
    nodes += [_node("job", id, "erased", gone) for id in person.jobs]
    return nodes


def _clean_copies(
    workspace: Workspace, subject: SubjectId, person: _Person, *, everywhere: bool
) -> Iterable[ErasureNode]:
    """Records of other people or of nobody that were made from the person's data, or that say the same."""
    store = workspace.store
    own = set(person.things)
    derived = {edge.child for edge in store.lineage.descendants(person.things)} - own
    lost_members = {thing for thing, _ in person.members}
    chunks = Texts(person.chunks)
    for record in store.plain_records.all():
        if record.subject == subject:
            continue
        copied = (record.kind, record.id) in derived | lost_members
        texts = person.said if record.kind in ANSWERS_BELONG_TO_ALL else person.said | person.told
        # Without an edge, only long texts in the person's own words count: short ones and answers are everybody's.
        wanted = (texts if copied else Texts(person.said.long())) | chunks
        body = _without_entries(record, person)
        cleaned = without(body, wanted)
        if record.kind == "cached_answer" and (copied or cleaned.taken):
            # Half an answer must not be given to anybody.
            store.records.delete_row(record.kind, record.id, tombstone=False)
            yield _node(record.kind, record.id, "erased", "an answer kept to be given again, of the person's words")
            continue
        if not cleaned.taken and body == record.body:
            if (record.kind, record.id) in derived:
                yield _node(record.kind, record.id, "checked", "made from the person's data, holds none of it")
        elif copied or everywhere or body != record.body:
            store.plain_records.rewrite(record.kind, record.id, cleaned.value)
            yield _node(record.kind, record.id, "rewritten", f"{cleaned.taken or 1} places taken out")
        else:
            yield _node(
                record.kind,
                record.id,
                "found",
                "says the same words, but was not made from the person's data; erase with --everywhere if it is theirs",
            )
    for kind, id in sorted(derived - {("trace", one) for one in person.traces}):
        if kind == "trace":
            yield _node(kind, id, "checked", "a trace about somebody else")


def _without_entries(record: PlainRecord, person: _Person) -> object:
    """The body of an index record without the manifest lines of the person's documents."""
    ids = {document.id for holding in person.holdings for document in holding.documents}
    if record.kind != "index" or not ids or not isinstance(record.body, dict):
        return record.body
    kept = [entry for entry in record.body.get("documents", []) if entry.get("id") not in ids]
    return record.body if len(kept) == len(record.body.get("documents", [])) else {**record.body, "documents": kept}


def _clean_passages(workspace: Workspace, person: _Person) -> Iterable[ErasureNode]:
    """Traces of other people that quote documents about the person."""
    ids = frozenset(document.id for holding in person.holdings for document in holding.documents)
    if not ids:
        return
    store = workspace.store
    for id in store.traces.ids():
        passages = passages_in(store.traces.get(id), ids)
        if passages:
            store.traces.rewrite(id, lambda content, found=passages: without_documents(content, ids, found))  # type: ignore[misc]
            yield _node("trace", id, "rewritten", "passages of documents about the person, and its answer, taken out")


def _erase_index_versions(workspace: Workspace, person: _Person) -> Iterable[ErasureNode]:
    for holding in person.holdings:
        name = str(f"{holding.built.name}@{holding.built.version}" if holding.built else holding.version[:12])
        workspace.indexes.remove(holding.version)
        rebuild = holding.built.name if holding.built else ""
        yield _node("index version", name, "erased", f"removed whole; build it anew: slipway retrieve build {rebuild}")
        for release in workspace.store.records.list(Release):
            if holding.built and release.index and str(release.index) == name:
                reason = "answers from that version until you promote a release with a new one and restart its server"
                yield _node("release", release.label, "outside", reason)
        for document in holding.documents:
            reason = "delete this source before you build the index anew"
            yield _node("document", document.source or document.id, "outside", reason)


def _own_files(workspace: Workspace, person: _Person) -> Iterable[ErasureNode]:
    """Files of the application that say the person's words: drafts lose them, the user's own files are only named."""
    texts = Texts(person.said.long())
    if not texts:
        return
    for path in _files(workspace.folder, leave_out=workspace.state):
        try:
            content = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        cleaned = texts.cut(content)
        if cleaned == content:
            continue
        name = path.relative_to(workspace.folder).as_posix()
        if path.is_relative_to(workspace.folder / workspace.settings.learn.drafts):
            write_text(path, cleaned)
            yield _node("file", name, "rewritten", "a draft that was made from the person's words")
        else:
            yield _node("file", name, "outside", "the file is yours: take the words out, or delete it")


def _files(folder: Path, *, leave_out: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        own = not path.is_relative_to(leave_out) and path.suffix.lower() in OWN_FILES
        if own and path.is_file() and path.stat().st_size <= LARGEST_OWN_FILE:
            yield path


def _node(kind: str, id: str, state: NodeState, reason: str) -> ErasureNode:
    return ErasureNode(kind=kind, id=id, state=state, reason=reason)

"""Datasets in immutable versions: from files, from traces and what people said about them, from the documents."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Literal

from slipway.domain.dataset import Case, Dataset
from slipway.domain.errors import ContentErased, DatasetEmpty, NameInvalid, NotFound
from slipway.domain.feedback import Feedback
from slipway.domain.ids import ContentHash, ReleaseId, TraceId, hash_parts, is_name
from slipway.domain.release import PartRef
from slipway.domain.trace import OWN_CHANNELS, Trace
from slipway.evaluate.cases import read_cases
from slipway.retrieve.index import load_sources
from slipway.retrieve.questions import make_questions
from slipway.tracing.ingest import drain
from slipway.workspace import Workspace

QUESTIONS = "questions"
"""Name of the dataset that holds the application's own questions."""
EVALUATE = "evaluate"
"""Channel of the traces that evaluations leave."""
Said = Literal["anything", "good", "bad"]


def import_dataset(workspace: Workspace, name: str, path: Path) -> Dataset:
    """The cases of a JSONL or CSV file as the newest version of a dataset; the same cases are the same version.

    Raises `NameInvalid`, `FileMissing`, `FileBroken`, `DatasetRowInvalid`; then nothing was imported.
    """
    return save_cases(workspace, name, read_cases(path), source=path.name)


def save_cases(
    workspace: Workspace,
    name: str,
    cases: Iterable[Case],
    *,
    source: str,
    made: bool = False,
    parents: Sequence[tuple[str, str]] = (),
) -> Dataset:
    """Saves cases as the next version, or returns the newest one when it holds the same.

    `parents` are what the cases were copied from, so that erasing a person finds the copy.
    """
    if not is_name(name):
        raise NameInvalid("a dataset", name)
    kept = tuple(cases)
    if not kept:
        raise DatasetEmpty(f"Dataset '{name}'", next_step="Import a file: slipway evaluate import NAME FILE")
    content = hash_cases(kept)
    records = workspace.store.records
    with workspace.store.transaction():
        newest = records.latest(Dataset, name)
        if newest is not None and newest.hash == content:
            return newest
        dataset = Dataset(
            name=name,
            version=records.next_version(Dataset, name),
            hash=content,
            cases=kept,
            source=source,
            made=made,
            created_at=workspace.now(),
        )
        records.save(dataset, parents=parents, transform="dataset" if parents else "")
    return dataset


def hash_cases(cases: Sequence[Case]) -> ContentHash:
    """Hash of the cases in their order, on every machine the same."""
    return hash_parts({"cases": [asdict(case) for case in cases]})


def load_dataset(workspace: Workspace, reference: str) -> Dataset:
    """A dataset by `name` (its newest version) or `name@version`. Raises `NotFound`."""
    records = workspace.store.records
    found = records.find(Dataset, reference) if "@" in reference else records.latest(Dataset, reference)
    if found is None:
        known = sorted({dataset.name for dataset in records.list(Dataset)})
        raise NotFound("dataset", reference, known=known, next_step="Import one: slipway evaluate import NAME FILE")
    return found


def list_datasets(workspace: Workspace) -> list[Dataset]:
    """Every version of every dataset, newest first."""
    return workspace.store.records.list(Dataset)


def default_dataset(workspace: Workspace) -> Dataset:
    """The application's questions: its file, else what was saved under `questions`, else made from the documents.

    Raises like `import_dataset`, and `DatasetEmpty` when the documents give no question.
    """
    file = workspace.settings.application.questions
    if file:
        return import_dataset(workspace, QUESTIONS, workspace.folder / file)
    saved = workspace.store.records.latest(Dataset, QUESTIONS)
    if saved is not None:
        return saved
    loaded = load_sources(workspace)
    cases = make_questions(loaded.documents)
    return save_cases(workspace, QUESTIONS, cases, source="made from the documents", made=True)


def dataset_from_traces(
    workspace: Workspace,
    name: str,
    *,
    said: Said = "anything",
    query: str = "",
    release: ReleaseId | None = None,
    since: datetime | None = None,
    limit: int = 100,
) -> Dataset:
    """Adds the questions of traces to a dataset, with what people said about the answers.

    A correction becomes the expected answer; so does an answer that was praised. A complaint without correction
    leaves the expected answer open. `said` keeps only traces with such feedback. Content of erased people is left
    out. The version points to every trace it was made from. Raises `DatasetEmpty` when no trace fits.
    """
    drain(workspace.store)
    voices: dict[TraceId, Feedback] = {}
    for feedback in workspace.store.records.list(Feedback, newest_first=False):
        voices[feedback.trace] = feedback
    before = workspace.store.records.latest(Dataset, name)
    cases = {case.id: case for case in before.cases} if before is not None else {}
    parents: list[tuple[str, str]] = [("dataset", f"{before.name}@{before.version}")] if before is not None else []
    taken = 0
    for trace in _traces(workspace, query=query, release=release, since=since):
        voice = voices.get(trace.id)
        if taken == limit:
            break
        if not _fits(voice, said) or not trace.root.content.get("question"):
            continue
        case = case_of(trace, voice)
        cases[case.id] = case
        parents.append(("trace", trace.id))
        parents += [("feedback", voice.id)] if voice is not None else []
        taken += 1
    if not taken:
        raise DatasetEmpty("The selection of traces", next_step="Widen it, or look at them: slipway watch traces")
    return save_cases(workspace, name, cases.values(), source="traces", parents=parents)


def case_of(trace: Trace, voice: Feedback | None = None) -> Case:
    """A trace as a case. The person whom the trace is about stays on it."""
    root = trace.root
    answer = str(root.content.get("answer", ""))
    answered = root.status == "ok" and bool(answer)
    praised = voice is not None and voice.score > 0
    expected, answerable = "", None
    if voice is not None and voice.correction:
        expected, answerable = voice.correction, True
    elif praised and answered:
        expected, answerable = answer, True
    elif praised and root.status == "abstained":
        answerable = False
    return Case(
        id=f"trace-{trace.id[:16]}",
        question=str(root.content["question"]),
        expected=expected,
        answerable=answerable,
        documents=_cited(trace) if praised and answered else (),
        tags=("trace",) if voice is None else ("trace", "praised" if praised else "complaint"),
        subject=root.subject,
    )


def part_of(dataset: Dataset) -> PartRef:
    """A dataset version as evidence pins it."""
    return PartRef(name=dataset.name, version=dataset.version, hash=dataset.hash)


def _fits(voice: Feedback | None, said: Said) -> bool:
    match said:
        case "anything":
            return True
        case "good":
            return voice is not None and voice.score > 0
        case "bad":
            return voice is not None and voice.score < 0


def _cited(trace: Trace) -> tuple[str, ...]:
    citations = trace.root.content.get("citations")
    if not isinstance(citations, list):
        return ()
    return tuple(dict.fromkeys(str(citation["document"]) for citation in citations))


def _traces(workspace: Workspace, *, query: str, release: ReleaseId | None, since: datetime | None) -> Iterable[Trace]:
    """Traces of real traffic, newest first: Slipway's own questions are left out, or a dataset would feed on itself."""
    after: str | None = None
    while True:
        page = workspace.store.traces.list(text=query, release=release, since=since, limit=100, after=after)
        for row in page.rows:
            if row.channel in OWN_CHANNELS:
                continue
            try:
                yield workspace.store.traces.get(row.id)
            except ContentErased:
                continue
        after = page.next
        if after is None:
            return

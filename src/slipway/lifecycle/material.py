"""What the demo works on: documents, one of them held back as a gap, and questions about all of them."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import slipway
from slipway.domain.dataset import Case
from slipway.domain.document import Document, Unreadable
from slipway.domain.errors import FileMissing, NothingToIndex
from slipway.retrieve.documents import load_documents
from slipway.retrieve.questions import make_questions
from slipway.store.files import write_text

HELD_BACK = "privacy.md"
"""Chapter of Slipway's own documentation that the demo learns about last."""
GENERATED = ("commands.md", "errors.md", "house.md", "settings.md", "pages.md")
"""Chapters written from the code: tables, no prose to answer from."""
FEWEST_QUESTIONS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Files of the demo application: `held_back` lies outside `documents` until the demo learns of it."""

    questions: Path
    held_back: Path
    held_back_id: str
    gap_questions: tuple[str, ...]
    documents: int
    unreadable: tuple[Unreadable, ...]


def own_documentation() -> Path:
    """Folder of Slipway's own documentation: inside the installed package, or beside the source."""
    packaged = Path(slipway.__file__).parent / "docs"
    return packaged if packaged.is_dir() else Path(slipway.__file__).parents[2] / "docs"


def lay_out(folder: Path, sources: Sequence[Path]) -> Material:
    """Copies the documents into `folder`/documents, all but one, and writes questions.jsonl.

    Without `sources` they are Slipway's own chapters. Raises `FileMissing`, or `NothingToIndex` when nothing can be
    read.
    """
    for source in sources:
        if not source.exists():
            raise FileMissing(source, next_step="Name the folder or file that holds your documents.")
    if not sources:
        chapters = sorted(path for path in own_documentation().glob("*.md") if path.name not in GENERATED)
        return _lay_out(folder, chapters, own=True)
    return _lay_out(folder, sources, own=False)


def _lay_out(folder: Path, sources: Sequence[Path], *, own: bool) -> Material:
    loaded = load_documents(sources)
    documents = _at_least_two(loaded.documents)
    if not documents:
        named = [f"{item.source}: {item.reason}" for item in loaded.unreadable[:3]]
        raise NothingToIndex("documents", files=len(loaded.unreadable), examples=named)
    cases = _own_questions() if own else make_questions(documents)
    held = _choose_held_back(documents, cases, wanted=HELD_BACK if own else "")
    places = {document.id: _place(document, folder, held=document.id == held.id) for document in documents}
    (folder / "documents").mkdir(parents=True, exist_ok=True)
    for document in documents:
        _copy(document, places[document.id])
    questions = folder / "questions.jsonl"
    write_text(questions, "".join(json.dumps(_row(case), ensure_ascii=False) + "\n" for case in cases))
    return Material(
        questions=questions,
        held_back=places[held.id],
        held_back_id=held.id,
        gap_questions=tuple(case.question for case in cases if held.id in case.documents),
        documents=len(documents),
        unreadable=tuple(loaded.unreadable),
    )


def _at_least_two(documents: Sequence[Document]) -> list[Document]:
    """A single document is cut in two at a paragraph near its middle, so that one half can be held back."""
    if len(documents) != 1:
        return list(documents)
    whole = documents[0]
    middle = whole.text.find("\n\n", len(whole.text) // 2)
    if middle < 0:
        return [whole]
    stem = Path(whole.id).stem
    return [
        Document(
            id=f"{stem}-part-{number}.md",
            title=f"{whole.title}, part {number}",
            text=text,
            source="",
            content_hash=whole.content_hash,
        )
        for number, text in ((1, whole.text[:middle].strip() + "\n"), (2, whole.text[middle:].strip() + "\n"))
    ]


def _choose_held_back(documents: Sequence[Document], cases: Sequence[Case], *, wanted: str) -> Document:
    """The wanted document or else the shortest, where it has enough questions; else the one with the most."""
    counts = {document.id: sum(document.id in case.documents for case in cases) for document in documents}
    enough = [document for document in documents if counts[document.id] >= FEWEST_QUESTIONS]
    if enough:
        return min(enough, key=lambda document: (document.id != wanted, len(document.text)))
    return max(documents, key=lambda document: counts[document.id])


def _own_questions() -> list[Case]:
    text = files("slipway.lifecycle").joinpath("questions.jsonl").read_text(encoding="utf-8")
    return [_case(json.loads(line)) for line in text.splitlines() if line.strip()]


def _case(row: dict[str, object]) -> Case:
    listed = row.get("documents")
    return Case(
        id=str(row["id"]),
        question=str(row["question"]),
        expected=str(row.get("expected", "")),
        answerable=bool(row.get("answerable", True)),
        documents=tuple(map(str, listed)) if isinstance(listed, list) else (),
    )


def _row(case: Case) -> dict[str, object]:
    row: dict[str, object] = {"id": case.id, "question": case.question}
    if case.expected:
        row["expected"] = case.expected
    if case.answerable is not None:
        row["answerable"] = case.answerable
    if case.documents:
        row["documents"] = list(case.documents)
    if case.spans:
        row["spans"] = [list(span) for span in case.spans]
    if case.tags:
        row["tags"] = list(case.tags)
    return row


def _place(document: Document, folder: Path, *, held: bool) -> Path:
    return folder / ("held-back" if held else "documents") / document.id


def _copy(document: Document, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if document.source and Path(document.source).is_file():
        shutil.copyfile(document.source, target)
    else:
        write_text(target, document.text)

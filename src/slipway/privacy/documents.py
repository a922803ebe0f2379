"""Documents that are about a person: in which index versions they lie, and where their passages went."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from slipway.domain.document import Document
from slipway.domain.ids import ContentHash, SubjectId
from slipway.domain.index import Index
from slipway.domain.trace import Trace
from slipway.privacy.words import ERASED, Texts, strings
from slipway.workspace import Workspace


class Holding(NamedTuple):
    """A version of an index, the record of it where there is one, and its documents about the person."""

    version: ContentHash
    built: Index | None
    documents: list[Document]


def documents_about(workspace: Workspace, subject: SubjectId) -> list[Holding]:
    """Every index version that holds documents about a person."""
    by_hash = {index.hash: index for index in workspace.store.records.list(Index)}
    holdings = []
    for version in workspace.indexes.about(subject):
        reader = workspace.indexes.open(version)
        found = [document for id in reader.document_ids() if (document := reader.document(id)).subject == subject]
        holdings.append(Holding(version, by_hash.get(version), found))
    return holdings


def chunk_texts(workspace: Workspace, holding: Holding) -> list[str]:
    """The texts of the chunks that were cut from the documents, as they were embedded."""
    reader = workspace.indexes.open(holding.version)
    texts: list[str] = []
    for document in holding.documents:
        texts += [chunk.text for chunk in reader.chunks(reader.chunk_numbers(document.id))]
    return texts


def passages_in(trace: Trace, ids: frozenset[str]) -> Texts:
    """The texts of passages and citations of some documents that a trace holds."""
    found: set[str] = set()
    for span in trace.spans:
        _take_out(span.content, ids, found)
    return Texts(found)


def without_documents(content: dict[str, Any], ids: frozenset[str], passages: Texts) -> dict[str, Any]:
    """What a span says without these passages, and without an answer that was made from them."""
    kept = _take_out(content, ids, set())
    cleaned: dict[str, Any] = {}
    for key, value in kept.items():
        # Prompts were rendered with the passages: a message loses them and stays.
        cleaned[key] = _cut(value, passages)
    for key in ("answer", "reply"):
        if isinstance(cleaned.get(key), str):
            cleaned[key] = ERASED
    return cleaned


def _take_out(value: Any, ids: frozenset[str], taken: set[str]) -> Any:
    """The value without list members that name one of the documents; their texts are added to `taken`."""
    match value:
        case Mapping():
            return {key: _take_out(inner, ids, taken) for key, inner in value.items()}
        case list() | tuple():
            kept = []
            for inner in value:
                if isinstance(inner, Mapping) and inner.get("document") in ids:
                    taken.update(strings([inner.get("text")]))
                else:
                    kept.append(_take_out(inner, ids, taken))
            return kept
        case _:
            return value


def _cut(value: Any, texts: Texts) -> Any:
    match value:
        case str():
            return texts.cut(value)
        case Mapping():
            return {key: _cut(inner, texts) for key, inner in value.items()}
        case list() | tuple():
            return [_cut(inner, texts) for inner in value]
        case _:
            return value

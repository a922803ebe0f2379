"""CPU to build a lexical index of 1 MB of Markdown, beside a bare FTS5 insert of the same chunks."""

from __future__ import annotations

import random
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

from data import ROOT, Figure, print_table

from slipway.domain.document import Chunk
from slipway.retrieve.documents import load_documents
from slipway.retrieve.index import build_index, cut_documents, make_chunker
from slipway.workspace import open_workspace

MEGABYTE = 1_000_000
RUNS = 3
SETTINGS = '[application]\nname = "bench"\n\n[retrieve]\nembedder = { kind = "none" }\n'


def write_markdown(folder: Path, characters: int) -> int:
    """Pages made of this project's own documentation: its paragraphs, drawn at random, under its headings."""
    draw = random.Random(0)
    sources = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
    blocks = [block for path in sources for block in path.read_text(encoding="utf-8").split("\n\n") if block.strip()]
    written = 0
    number = 0
    while written < characters:
        text = f"# Page {number}\n\n" + "\n\n".join(draw.choices(blocks, k=40)) + f"\n\nEnd of page {number}.\n"
        (folder / f"page-{number:04}.md").write_text(text, encoding="utf-8")
        written += len(text)
        number += 1
    return written


def build_cpu(folder: Path) -> tuple[float, int]:
    """CPU seconds of loading, cutting, writing, calibrating and saving; and the number of chunks."""
    with open_workspace(folder) as workspace:
        began = time.process_time()
        index = build_index(workspace)
        return time.process_time() - began, index.chunks


def plain_fts_cpu(chunks: list[Chunk]) -> float:
    """CPU seconds of inserting the same chunks into one FTS5 table and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        connection = sqlite3.connect(Path(folder) / "plain.db")
        connection.execute("create virtual table words using fts5(text, tokenize='porter unicode61')")
        began = time.process_time()
        with connection:
            connection.executemany("insert into words values (?)", ((chunk.text,) for chunk in chunks))
        seconds = time.process_time() - began
        connection.close()
        return seconds


def main() -> int:
    """Measure, and compare with the limit."""
    times: list[float] = []
    plain: list[float] = []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "documents").mkdir()
            (folder / "slipway.toml").write_text(SETTINGS, encoding="utf-8")
            characters = write_markdown(folder / "documents", MEGABYTE)
            seconds, count = build_cpu(folder)
            documents = load_documents([folder / "documents"]).documents
            chunker, cut_id, tokens = make_chunker({"kind": "recursive", "size": 200}, None)
            chunks = cut_documents(documents, chunker, cut_id, tokens)
            times.append(seconds * MEGABYTE / characters)
            plain.append(plain_fts_cpu(chunks) * MEGABYTE / characters)
    figures = [
        Figure("plain FTS5 insert of the chunks", min(plain), "s", note=f"{count} chunks"),
        Figure("index build", min(times), "s", limit=3, note=f"{min(times) / min(plain):.1f}x the plain insert"),
    ]
    return print_table(f"Index of 1 MB of Markdown without embeddings: least CPU of {RUNS} builds", figures)


if __name__ == "__main__":
    sys.exit(main())

"""Cutting documents by a model's own tokens costs little more than taking them apart into tokens once."""

from __future__ import annotations

import sys
import time

from data import Figure, print_table, read_rows
from tokenizers import Tokenizer

from slipway.domain.document import Document
from slipway.domain.ids import hash_text
from slipway.embedders.minilm import MiniLM
from slipway.retrieve.index import make_chunker

ROUNDS = 9
CHUNKERS = ("recursive", "sentence", "fixed", "headings")
LEAST_SPEED = 0.9
"""Share of the tokenizer's own speed."""


def main() -> int:
    """Measure; the shipped chunker must keep nine tenths of the tokenizer's speed."""
    texts = [row["text"] for row in read_rows("retrieval/chunking/corpora.jsonl.gz")]
    documents = [
        Document(id=f"{place}.txt", title="", text=text, source="", content_hash=hash_text(text))
        for place, text in enumerate(texts)
    ]
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    embedder = MiniLM(threads=1)
    rival = Tokenizer.from_file(str(embedder.folder / "tokenizer.json"))
    rival.no_truncation()
    rival.no_padding()
    rival.encode("warm")
    plain: list[float] = []
    ours: dict[str, list[float]] = {kind: [] for kind in CHUNKERS}
    for _ in range(ROUNDS):
        # Turn about, and the least of each: what else the machine does then falls on all.
        began = time.process_time()
        for text in texts:
            rival.encode(text, add_special_tokens=False)
        plain.append(time.process_time() - began)
        for kind in CHUNKERS:
            chunker, _, tokens = make_chunker({"kind": kind, "size": 200, "overlap": 0}, embedder)
            began = time.process_time()
            for document in documents:
                list(chunker.cut(document, tokens))
            ours[kind].append(time.process_time() - began)
    figures = [Figure("tokenizer alone", megabytes / min(plain), "MB/s CPU", note=f"{megabytes:.1f} MB")]
    for kind in CHUNKERS:
        # The limit is one on time: 1 / 0.9 of the tokenizer's.
        took = min(ours[kind]) / min(plain)
        limit = 1 / LEAST_SPEED if kind == "recursive" else None
        figures.append(
            Figure(f"{kind}, CPU time against the tokenizer alone", took, "x", limit, f"{1 / took:.2f}x its speed")
        )
    return print_table("Cutting into chunks of 200 MiniLM tokens", figures)


if __name__ == "__main__":
    sys.exit(main())

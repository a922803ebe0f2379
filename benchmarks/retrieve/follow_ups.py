"""How well the last question of a conversation is searched without a model that rewrites it (MTRAG, 3 collections).

Searched are the passages of all conversations together; those that the reference answer was made from count as
relevant. What rewriting by a model gains is not measured: that needs the model.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy
from data import CACHE, Figure, print_table, read_rows

from slipway.domain.document import Chunk, Document
from slipway.domain.ids import hash_parts, hash_text
from slipway.domain.index import SearchSettings
from slipway.embedders.minilm import MiniLM
from slipway.retrieve.embeddings import Embeddings
from slipway.retrieve.fusion import fuse
from slipway.retrieve.query import search_legs
from slipway.retrieve.ranking import ndcg_at
from slipway.text.markdown import plain_text
from slipway.vectors.sqlite import SQLiteIndexes

WORDS = (0, 5, 8, 10, 12, 1000)
"""Below so many words a question is searched together with the one before it; 10 is what ships."""


def main() -> int:
    """nDCG@10 for each rule."""
    tasks = [row for row in read_rows("retrieval/mtragun/tasks.jsonl.gz") if row["contexts"]]
    texts = {one["id"]: one["text"] for row in tasks for one in row["contexts"]}
    ids = sorted(texts)
    places = {id: place for place, id in enumerate(ids)}
    documents = [Document(id=id, title="", text=texts[id], source="", content_hash=hash_text(texts[id])) for id in ids]
    chunks = [Chunk(document=one.id, start=0, end=len(one.text), text=one.text) for one in documents]
    embedder = MiniLM()
    figures = []
    with tempfile.TemporaryDirectory() as folder, Embeddings(CACHE) as kept:
        store = SQLiteIndexes(Path(folder))
        version = hash_parts({"follow-ups": len(ids)})
        vectors = kept.embed(embedder, [plain_text(texts[id]) for id in ids])
        store.write(version, documents=documents, chunks=chunks, vectors=vectors)
        reader = store.open(version)
        for fewest in WORDS:
            asked = [searched([text for who, text in row["turns"] if who == "user"], fewest) for row in tasks]
            shares = []
            for row, question, vector in zip(tasks, asked, kept.embed(embedder, asked), strict=True):
                relevant = {places[one["id"]] for one in row["contexts"]}
                legs = search_legs(reader, question, vector, SearchSettings())
                hits = fuse(legs.lexical, legs.dense, alpha=SearchSettings().alpha)
                shares.append(ndcg_at([hit.chunk in relevant for hit in hits], len(relevant)))
            name = {0: "the last question alone", 1000: "always with the one before"}.get(
                fewest, f"with the one before below {fewest} words"
            )
            figures.append(Figure(name, 100 * float(numpy.mean(shares)), "nDCG@10"))
        store.close()
    return print_table(f"The last of several questions, {len(tasks)} conversations, {len(ids)} passages", figures)


def searched(questions: list[str], fewest: int) -> str:
    last = questions[-1]
    return f"{questions[-2]} {last}" if len(questions) > 1 and len(last.split()) < fewest else last


if __name__ == "__main__":
    sys.exit(main())

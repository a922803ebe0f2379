"""Fits the model that tells whether the documents cover a question, and measures the one that ships.

Each question is asked three times: of the whole index, without the article that answers it, and without the paragraph.
Half of SQuAD's articles are held back from the measurement's fit; ClapNQ comes from the users of a search engine.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy
from data import CACHE, Figure, print_table, read_rows
from numpy.typing import NDArray

from slipway.domain.document import Chunk, Document
from slipway.domain.ids import hash_parts, hash_text
from slipway.domain.index import SearchSettings
from slipway.embedders.minilm import MiniLM
from slipway.retrieve.coverage import BY_WORDS, PRIORS, WITH_VECTORS, Words, describe_search
from slipway.retrieve.embeddings import Embeddings
from slipway.retrieve.query import Legs, search_legs
from slipway.text.markdown import plain_text
from slipway.vectors.sqlite import SQLiteIndexes

Floats = NDArray[numpy.float64]
SQUAD_QUESTIONS = 2400
RIDGE = 1e-3


class Row(NamedTuple):
    """Features of one question with its document, without it, and without its paragraph; `answerable` by label."""

    group: str
    answerable: bool
    covered: dict[str, float]
    without_document: dict[str, float]
    without_paragraph: dict[str, float]


def squad(embedder: MiniLM) -> list[Row]:
    paragraphs = read_rows("retrieval/squad/paragraphs.jsonl.gz")
    rows = [row for row in read_rows("retrieval/squad/questions.jsonl.gz") if row["answerable"]]
    random.Random(1).shuffle(rows)
    articles: dict[str, list[int]] = defaultdict(list)
    places = {}
    for place, paragraph in enumerate(paragraphs):
        articles[paragraph["article"]].append(place)
        places[paragraph["id"]] = place
    titled = [(row["article"].replace("_", " "), row["text"]) for row in paragraphs]
    asked = [
        (row["query"], row["article"], True, articles[row["article"]], [places[id] for id in row["relevant"]])
        for row in rows[:SQUAD_QUESTIONS]
    ]
    return describe(embedder, titled, asked)


def clapnq(embedder: MiniLM) -> list[Row]:
    rows = read_rows("retrieval/clapnq/questions.jsonl.gz")
    same: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        same[row["title"]].append(place)
    asked = [
        (row["query"], row["title"], bool(row["answerable"]), same[row["title"]], [place])
        for place, row in enumerate(rows)
    ]
    return describe(embedder, [(row["title"], row["passage"]) for row in rows], asked)


def describe(
    embedder: MiniLM,
    texts: Sequence[tuple[str, str]],
    asked: Sequence[tuple[str, str, bool, list[int], list[int]]],
) -> list[Row]:
    documents = [
        Document(id=str(place), title=title, text=text, source="", content_hash=hash_text(text))
        for place, (title, text) in enumerate(texts)
    ]
    chunks = [Chunk(document=one.id, start=0, end=len(one.text), text=one.text) for one in documents]
    with Embeddings(CACHE) as kept:
        vectors = kept.embed(embedder, [plain_text(text) for _, text in texts])
        questions = kept.embed(embedder, [question for question, *_ in asked])
    with tempfile.TemporaryDirectory() as folder:
        store = SQLiteIndexes(Path(folder))
        version = hash_parts({"coverage": len(texts)})
        store.write(version, documents=documents, chunks=chunks, vectors=vectors)
        reader = store.open(version)
        known = Words(reader, {})
        found = []
        for (question, group, answerable, document, paragraph), vector in zip(asked, questions, strict=True):
            legs: Legs = search_legs(reader, question, vector, SearchSettings())
            found.append(
                Row(
                    group,
                    answerable,
                    describe_search(known, question, legs),
                    describe_search(known, question, legs, dropped=document),
                    describe_search(known, question, legs, dropped=paragraph),
                )
            )
        return found


def matrix(rows: Sequence[dict[str, float]], names: Sequence[str]) -> Floats:
    return numpy.array([[row[name] for name in names] for row in rows])


def fit(squad_rows: Sequence[Row], clapnq_rows: Sequence[Row], names: Sequence[str]) -> tuple[Floats, float]:
    """Weights and bias by Newton's method. ClapNQ counts threefold, covered questions twice."""
    answerable = [row for row in clapnq_rows if row.answerable]
    parts = [
        ([row.covered for row in squad_rows], 1.0, 2.0),
        ([row.without_document for row in squad_rows], 0.0, 1.0),
        ([row.without_paragraph for row in squad_rows], 0.0, 1.0),
        ([row.covered for row in answerable], 1.0, 6.0),
        ([row.without_document for row in clapnq_rows], 0.0, 3.0),
    ]
    parts = [part for part in parts if part[0]]
    x = numpy.concatenate([matrix(rows, names) for rows, _, _ in parts])
    x = numpy.column_stack([x, numpy.ones(len(x))])
    y = numpy.concatenate([numpy.full(len(rows), label) for rows, label, _ in parts])
    counts = numpy.concatenate([numpy.full(len(rows), weight) for rows, _, weight in parts])
    ridge = numpy.diag([2 * RIDGE * len(y)] * len(names) + [0.0])
    beta = numpy.zeros(x.shape[1])
    for _ in range(30):
        chance = 1 / (1 + numpy.exp(-x @ beta))
        gradient = x.T @ (counts * (chance - y)) + ridge @ beta
        curvature = (x.T * (counts * chance * (1 - chance))) @ x + ridge + 1e-9 * numpy.eye(len(beta))
        beta -= numpy.linalg.solve(curvature, gradient)
    return beta[:-1], float(beta[-1])


def auroc(higher: Floats, lower: Floats) -> float:
    ranks = numpy.concatenate([higher, lower]).argsort().argsort()[: len(higher)]
    return float((ranks.sum() - len(higher) * (len(higher) - 1) / 2) / (len(higher) * len(lower)))


def figures_of(what: str, covered: Floats, missing: Floats) -> Figure:
    threshold = numpy.quantile(covered, 0.05)
    note = f"finds {100 * (missing < threshold).mean():.0f} % at 5 % false alarms"
    return Figure(what, auroc(covered, missing), "AUROC", note=note)


def main() -> int:
    """Print the weights fitted on everything, and measure with half of the articles held back."""
    embedder = MiniLM()
    squad_rows, clapnq_rows = squad(embedder), clapnq(embedder)
    groups = sorted({row.group for row in squad_rows})
    random.Random(2).shuffle(groups)
    held_back = set(groups[: len(groups) // 2])
    train = [row for row in squad_rows if row.group not in held_back]
    test = [row for row in squad_rows if row.group in held_back]
    figures = []
    for how, names in (("words", list(BY_WORDS)), ("words and vectors", list(WITH_VECTORS))):
        weights, bias = fit(squad_rows, clapnq_rows, names)
        covered = matrix([row.covered for row in squad_rows], names) @ weights + bias
        users = matrix([row.covered for row in clapnq_rows if row.answerable], names) @ weights + bias
        threshold = numpy.quantile(numpy.concatenate([covered, numpy.repeat(users, 8)]), 0.05)
        print(how, {name: round(float(weight), 2) for name, weight in zip(names, weights, strict=True)})
        print(f"bias {bias:.2f}, threshold {1 / (1 + numpy.exp(-threshold)):.2f}")
        weights, bias = fit(train, clapnq_rows, names)
        scores = [matrix([getattr(row, part) for row in test], names) @ weights for part in Row._fields[2:]]
        figures += [
            figures_of(f"{how}: article missing, other articles", scores[0], scores[1]),
            figures_of(f"{how}: paragraph missing, other articles", scores[0], scores[2]),
        ]
        weights, _ = fit(squad_rows, [], names)
        answered = matrix([row.covered for row in clapnq_rows if row.answerable], names) @ weights
        missing = matrix([row.without_document for row in clapnq_rows], names) @ weights
        figures.append(figures_of(f"{how}: ClapNQ, fitted on SQuAD only", answered, missing))
    for dense, prior in PRIORS.items():
        names = list(prior.weights)
        weights = numpy.array(list(prior.weights.values()))
        rows = [row.covered for row in squad_rows] + [row.covered for row in clapnq_rows if row.answerable]
        chances = 1 / (1 + numpy.exp(-matrix(rows, names) @ weights - prior.bias))
        alarms = 100 * float((chances < prior.threshold).mean())
        how = "words and vectors" if dense else "words"
        figures.append(Figure(f"{how}: false alarms of the shipped threshold", alarms, "%", limit=8))
    return print_table("Whether the documents cover a question", figures)


if __name__ == "__main__":
    sys.exit(main())

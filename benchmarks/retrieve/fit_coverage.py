"""Fits the model that tells whether the documents cover a question, and measures the one that ships.

Each question is asked three times: of the whole index, without the article that answers it, and without the paragraph.
Articles are held back from the measurement's fit by turns; ClapNQ comes from the users of a search engine. Beside it a
harder index is made in which every other paragraph is missing, as it would be if nobody had written them.
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
from slipway.retrieve.coverage import PRIORS
from slipway.retrieve.embeddings import Embeddings
from slipway.retrieve.query import Legs, search_legs
from slipway.retrieve.signals import BY_WORDS_ALONE, OF_SENTENCES, OF_VECTORS, Known, describe_search
from slipway.text.markdown import plain_text
from slipway.vectors.sqlite import SQLiteIndexes

Floats = NDArray[numpy.float64]
RIDGE = 1e-4
FOLDS = 6
MODELS = {
    "words": BY_WORDS_ALONE,
    "vectors": (*BY_WORDS_ALONE, *OF_VECTORS),
    "sentences": (*BY_WORDS_ALONE, *OF_VECTORS, *OF_SENTENCES),
}


class Row(NamedTuple):
    """Features of one question: of the whole index, without its document, without its paragraph.

    `by_words` are those of a search without vectors. `answerable` is the label.
    """

    group: str
    answerable: bool
    by_words: list[dict[str, float]]
    with_vectors: list[dict[str, float]]

    def of(self, model: str) -> list[dict[str, float]]:
        return self.by_words if model == "words" else self.with_vectors


COVERED, NO_DOCUMENT, NO_PARAGRAPH = range(3)


def squad(embedder: MiniLM) -> tuple[list[Row], list[Row]]:
    """The questions asked of all paragraphs, and the same asked of every other paragraph.

    In the second, `COVERED` are those whose paragraph is there (else none), `NO_PARAGRAPH` those whose is not.
    """
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
        for row in rows
    ]
    whole = describe(embedder, titled, asked)
    half = describe(
        embedder,
        titled[::2],
        [(question, group, paragraph[0] % 2 == 0, [], []) for question, group, _, _, paragraph in asked],
    )
    return whole, half


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
        known = Known(reader, embedder)
        alpha = SearchSettings().alpha
        found = []
        for (question, group, answerable, document, paragraph), vector in zip(asked, questions, strict=True):
            both = search_legs(reader, question, vector, SearchSettings())
            rows = {}
            for name, legs, own in (("words", Legs(lexical=both.lexical, dense={}), None), ("vectors", both, vector)):
                rows[name] = [
                    describe_search(known, question, legs, vector=own, alpha=alpha, dropped=dropped)
                    for dropped in ([], document, paragraph)
                ]
            found.append(Row(group, answerable, rows["words"], rows["vectors"]))
        return found


def matrix(rows: Sequence[dict[str, float]], names: Sequence[str]) -> Floats:
    return numpy.array([[row.get(name, 0.0) for name in names] for row in rows])


def fit(squad_rows: Sequence[Row], clapnq_rows: Sequence[Row], model: str) -> tuple[Floats, float]:
    """Weights and bias by Newton's method. ClapNQ counts threefold, covered questions twice."""
    names = MODELS[model]
    answerable = [row for row in clapnq_rows if row.answerable]
    parts = [
        ([row.of(model)[COVERED] for row in squad_rows], 1.0, 2.0),
        ([row.of(model)[NO_DOCUMENT] for row in squad_rows], 0.0, 1.0),
        ([row.of(model)[NO_PARAGRAPH] for row in squad_rows], 0.0, 1.0),
        ([row.of(model)[COVERED] for row in answerable], 1.0, 6.0),
        ([row.of(model)[NO_DOCUMENT] for row in clapnq_rows], 0.0, 3.0),
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


def measured(covered: Floats, missing: Floats) -> tuple[float, float]:
    """(AUROC, share of the missing that is found at 5 % false alarms)."""
    return auroc(covered, missing), float((missing < numpy.quantile(covered, 0.05)).mean())


def main() -> int:
    """Print the weights fitted on everything, and measure by cross-validation over articles."""
    embedder = MiniLM()
    squad_rows, half_rows = squad(embedder)
    clapnq_rows = clapnq(embedder)
    groups = sorted({row.group for row in squad_rows})
    random.Random(2).shuffle(groups)
    answerable = [row for row in clapnq_rows if row.answerable]
    figures = []
    for model, names in MODELS.items():
        weights, bias = fit(squad_rows, clapnq_rows, model)
        covered = matrix([row.of(model)[COVERED] for row in squad_rows], names) @ weights + bias
        users = matrix([row.of(model)[COVERED] for row in answerable], names) @ weights + bias
        threshold = numpy.quantile(numpy.concatenate([covered, numpy.repeat(users, 8)]), 0.05)
        print(model, {name: round(float(weight), 2) for name, weight in zip(names, weights, strict=True)})
        print(f"bias {bias:.2f}, threshold {1 / (1 + numpy.exp(-threshold)):.2f}")
        shares = []
        halves: tuple[list[float], list[float]] = ([], [])
        for fold in range(FOLDS):
            held_back = set(groups[fold::FOLDS])
            weights, bias = fit([row for row in squad_rows if row.group not in held_back], clapnq_rows, model)
            test = [row for row in squad_rows if row.group in held_back]
            scores = [matrix([row.of(model)[part] for row in test], names) @ weights for part in range(3)]
            for row in half_rows:
                if row.group in held_back:
                    (score,) = matrix(row.of(model)[:1], names) @ weights
                    halves[row.answerable].append(float(score) + bias)
            shares.append([measured(scores[COVERED], scores[part]) for part in (NO_DOCUMENT, NO_PARAGRAPH)])
        for place, (what, least) in enumerate((("article", 0.975), ("paragraph", 0.92))):
            area, found = numpy.mean([share[place] for share in shares], axis=0)
            note = f"finds {100 * found:.0f} % at 5 % false alarms; to reach: {least}"
            figures.append(Figure(f"{model}: {what} missing, other articles", float(area), "AUROC", note=note))
        area, found = measured(numpy.array(halves[True]), numpy.array(halves[False]))
        note = f"finds {100 * found:.0f} % at 5 % false alarms; to reach: 0.92"
        figures.append(Figure(f"{model}: every other paragraph missing, other articles", area, "AUROC", note=note))
        weights, _ = fit(squad_rows, [], model)
        answered = matrix([row.of(model)[COVERED] for row in answerable], names) @ weights
        missing = matrix([row.of(model)[NO_DOCUMENT] for row in clapnq_rows], names) @ weights
        area, found = measured(answered, missing)
        note = f"finds {100 * found:.0f} % at 5 % false alarms"
        figures.append(Figure(f"{model}: ClapNQ, fitted on SQuAD only", area, "AUROC", note=note))
        prior = PRIORS[model]
        rows = [row.of(model)[COVERED] for row in [*squad_rows, *answerable]]
        named = list(prior.weights)
        chances = 1 / (1 + numpy.exp(-matrix(rows, named) @ numpy.array(list(prior.weights.values())) - prior.bias))
        alarms = 100 * float((chances < prior.threshold).mean())
        figures.append(Figure(f"{model}: false alarms of the shipped threshold", alarms, "%", limit=8))
    return print_table("Whether the documents cover a question", figures)


if __name__ == "__main__":
    sys.exit(main())

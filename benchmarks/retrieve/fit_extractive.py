"""Fits the weights of the extractive engine and measures those that ship: hits, silence, and false alarms.

Questions of SQuAD (training rows) are asked of all paragraphs, as a search would: at most eight passages within 0.65 of
the best BM25 score. For rows marked `unanswerable-mismatch` the article that answers is left out. A logistic model over
the sentences competes with "nothing answers": softmax over the sentences of a question and a constant. With --cosines
the second model (words and MiniLM) is fitted as well; that embeds some 15,000 sentences.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
from data import CACHE, Figure, print_table, read_rows
from numpy.typing import NDArray

from slipway.domain.document import Chunk, Document, Passage
from slipway.domain.ids import hash_parts, hash_text
from slipway.embedders.minilm import MiniLM
from slipway.engines.extractive import EMBEDDED, Extractive
from slipway.retrieve.embeddings import Embeddings
from slipway.text.evidence import FEATURES, Source, Unit, describe_units, find_units, take_apart
from slipway.text.markdown import plain_text
from slipway.vectors.sqlite import SQLiteIndexes

Floats = NDArray[numpy.float64]
TRAINING_ROWS = 9000
RIDGE = 1e-3


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with the passages that a search returned; `right` marks the sentences that hold the answer."""

    question: str
    answers: list[str]
    kind: str
    passages: list[Passage]
    units: list[Unit]
    rows: Floats
    right: NDArray[numpy.bool_]


def ask(rows: Sequence[dict[str, Any]], *, limit: int) -> Iterator[Asked]:
    """Search for every row, in a random but fixed order; answerable rows whose paragraph was not found are left out."""
    paragraphs = read_rows("starter/paragraphs.jsonl.gz")
    documents = [
        Document(
            id=str(number),
            title=row["article"].replace("_", " "),
            text=row["text"],
            source="",
            content_hash=hash_text(row["text"]),
        )
        for number, row in enumerate(paragraphs)
    ]
    chunks = [Chunk(document=one.id, start=0, end=len(one.text), text=one.text) for one in documents]
    drawn = list(rows)
    random.Random(0).shuffle(drawn)
    with tempfile.TemporaryDirectory() as folder:
        store = SQLiteIndexes(Path(folder))
        store.write(hash_parts({"fit": 1}), documents=documents, chunks=chunks, vectors=None)
        reader = store.open(hash_parts({"fit": 1}))
        given = 0
        for row in drawn:
            if given == limit:
                return
            found = reader.lexical(row["question"], limit=100)
            if row["kind"] == "unanswerable-mismatch":
                found = [hit for hit in found if paragraphs[hit.chunk]["article"] != row["article"]]
            best = found[0].score if found else 0.0
            passages = [
                Passage(document=str(hit.chunk), title=documents[hit.chunk].title, start=0, end=len(text), text=text,
                        score=hit.score / best)
                for hit in found[:8] if hit.score >= 0.65 * best for text in [documents[hit.chunk].text]
            ]  # fmt: skip
            made = describe(row, passages)
            if made is not None:
                given += 1
                yield made


def describe(row: dict[str, Any], passages: list[Passage]) -> Asked | None:
    sources = [Source(text=one.text, title=one.title, heading="", score=one.score) for one in passages]
    units = find_units(sources)
    if not units:
        return None
    right = numpy.zeros(len(units), dtype=bool)
    if row["kind"] == "answerable":
        # Only the sentence around the answer counts: the same words may stand elsewhere by chance.
        context = " ".join(row["context"].split())
        for place, unit in enumerate(units):
            text = sources[unit.source].text[unit.start : unit.end]
            right[place] = any(answer in text for answer in row["answers"]) and " ".join(text.split())[:60] in context
        if not right.any():
            return None
    rows = numpy.array(describe_units(take_apart(row["question"]), sources, units))
    return Asked(row["question"], row["answers"], row["kind"], passages, units, rows, right)


def fit(groups: Sequence[tuple[Floats, NDArray[numpy.bool_]]], *, steps: int = 1500) -> tuple[Floats, float]:
    """Weights and the log-odds of "nothing answers", by Adam on the whole set."""
    rows = numpy.concatenate([group for group, _ in groups])
    right = numpy.concatenate([marks / max(marks.sum(), 1) for _, marks in groups])
    none = numpy.array([float(not marks.any()) for _, marks in groups])
    starts = numpy.cumsum([0, *(len(group) for group, _ in groups)])[:-1]
    of = numpy.repeat(numpy.arange(len(groups)), [len(group) for group, _ in groups])
    weights = numpy.zeros(rows.shape[1] + 1)
    momentum, squares = numpy.zeros_like(weights), numpy.zeros_like(weights)
    for step in range(1, steps + 1):
        scores, nothing = rows @ weights[:-1], weights[-1]
        highest = numpy.maximum(numpy.maximum.reduceat(scores, starts), nothing)
        raised = numpy.exp(scores - highest[of])
        total = numpy.add.reduceat(raised, starts) + numpy.exp(nothing - highest)
        slope = (raised / total[of] - right) / len(groups)
        gradient = numpy.append(rows.T @ slope + 2 * RIDGE * weights[:-1],
                                (numpy.exp(nothing - highest) / total - none).mean())  # fmt: skip
        momentum = 0.9 * momentum + 0.1 * gradient
        squares = 0.999 * squares + 0.001 * gradient**2
        rate = 0.1 * min(1.0, 3 * (1 - step / (steps + 1)))
        weights -= rate * momentum / (1 - 0.9**step) / (numpy.sqrt(squares / (1 - 0.999**step)) + 1e-9)
    return weights[:-1], float(weights[-1])


def with_cosines(asked: Sequence[Asked], weights: Floats, nothing: float) -> list[tuple[Floats, NDArray[numpy.bool_]]]:
    """(log-odds by words, cosine to the question) of each question's best sentences."""
    embedder = MiniLM()
    groups = []
    best = [numpy.argsort(-(one.rows @ weights))[:EMBEDDED] for one in asked]
    texts = [
        [plain_text(one.passages[one.units[place].source].text[one.units[place].start : one.units[place].end])
         for place in places]
        for one, places in zip(asked, best, strict=True)
    ]  # fmt: skip
    with Embeddings(CACHE) as kept:
        questions = kept.embed(embedder, [one.question for one in asked])
        sentences = kept.embed(embedder, [text for some in texts for text in some])
    start = 0
    for one, places, question in zip(asked, best, questions, strict=True):
        cosines = sentences[start : start + len(places)] @ question
        start += len(places)
        if one.kind != "answerable" or one.right[places].any():
            log_odds = one.rows[places] @ weights - nothing
            groups.append((numpy.column_stack([log_odds, cosines]), one.right[places]))
    return groups


def measure(asked: Sequence[Asked], embedder: MiniLM | None) -> list[Figure]:
    """What the shipped engine does on rows of articles that it was not fitted on."""
    engine = Extractive()
    silent: dict[str, list[bool]] = {}
    hit: list[bool] = []
    for one in asked:
        quotes = engine.find_quotes(one.question, one.passages, embedder)
        silent.setdefault(one.kind, []).append(not quotes)
        if one.kind == "answerable" and quotes:
            texts = [one.passages[quote.passage].text[quote.start : quote.end] for quote in quotes]
            hit.append(any(answer in text for answer in one.answers for text in texts))
    how = "words and MiniLM" if embedder else "words"
    shares = {kind: 100 * sum(marks) / len(marks) for kind, marks in silent.items()}
    return [
        Figure(f"{how}: silent although the passages answer", shares["answerable"], "%", limit=10),
        Figure(f"{how}: silent where the article is missing", shares["unanswerable-mismatch"], "%"),
        Figure(f"{how}: silent where a near miss stands", shares["unanswerable-hard"], "%"),
        Figure(f"{how}: what is quoted holds the answer", 100 * sum(hit) / len(hit), "%", note=f"{len(hit)} answered"),
    ]


def main() -> int:
    """Fit, print the weights, and measure the engine as it ships."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cosines", action="store_true", help="Fit and measure with MiniLM as well.")
    parser.add_argument("--no-fit", action="store_true", help="Only measure the engine as it ships.")
    options = parser.parse_args()
    if not options.no_fit:
        train = list(ask(read_rows("starter/train.jsonl.gz"), limit=TRAINING_ROWS))
        kept = [one for one in train if one.kind != "unanswerable-hard"]
        weights, nothing = fit([(one.rows, one.right) for one in kept])
        print(f"fitted on {len(kept)} questions")
        print({name: round(float(weight), 2) for name, weight in zip(FEATURES, weights, strict=True)})
        print(f"BIAS = {-nothing:.2f}")
        if options.cosines:
            pair, constant = fit(with_cosines(kept[:2200], weights, nothing))
            print(f"BY_WORDS, BY_COSINE, COSINE_BIAS = {pair[0]:.2f}, {pair[1]:.2f}, {-constant:.2f}")
    valid = list(ask(read_rows("starter/valid.jsonl.gz"), limit=1800))
    figures = measure(valid, None)
    if options.cosines:
        figures += measure(valid, MiniLM())
    return print_table(f"Extractive engine on {len(valid)} questions about five other articles", figures)


if __name__ == "__main__":
    sys.exit(main())

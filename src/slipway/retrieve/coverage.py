"""Tells questions that an index covers from those that it does not, by features of a search."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from slipway.domain.coverage import Coverage
from slipway.domain.document import Chunk
from slipway.domain.index import Index, SearchSettings
from slipway.embedders.base import Embedder
from slipway.retrieve.query import Legs, embed_question, search_legs
from slipway.text.overlap import content_words, words
from slipway.text.rarity import general_rarity
from slipway.text.sentences import split_sentences
from slipway.text.stop_words import STOP_WORDS
from slipway.vectors.base import IndexReader
from slipway.workspace import Workspace

# Logistic weights for a search without and with vectors, fitted by benchmarks/retrieve/fit_coverage.py on questions
# about encyclopaedia articles (SQuAD 2.0, 2,400) and of a search engine's users (ClapNQ, 290), each asked three times:
# of the whole index, without the article that answers it, and without the paragraph. The threshold is the 5 % quantile
# of the covered ones; `found` and `auroc` are of articles that were held back.
BY_WORDS = {
    "bm25_of_ideal": 3.63, "covered_by_first": 1.58, "covered_by_five": 0.44, "told_by_first": 2.24,
    "told_by_five": 0.75, "missing": 0.03, "unknown": -0.46, "lead": 2.98, "question_length": 0.67,
}  # fmt: skip
WITH_VECTORS = {
    "bm25_of_ideal": 2.02, "covered_by_first": 1.55, "covered_by_five": 0.39, "told_by_first": 1.69,
    "told_by_five": 0.43, "missing": -0.14, "unknown": -0.08, "lead": 2.62, "question_length": 0.06, "cosine": 1.64,
    "cosine_of_first_by_words": 2.45, "cosine_of_five": -0.04, "cosine_lead": 2.32,
}  # fmt: skip
FALSE_ALARMS = 0.05
TOP = 5
PROBES = 120
FEWEST_PROBES = 40


class Prior(NamedTuple):
    """A model that holds before anything is known about an index."""

    weights: Mapping[str, float]
    bias: float
    threshold: float
    found: float
    auroc: float


PRIORS = {False: Prior(BY_WORDS, -5.63, 0.20, 0.86, 0.972), True: Prior(WITH_VECTORS, -6.16, 0.26, 0.95, 0.986)}


class Probe(NamedTuple):
    """A made question with the chunk that it was made from."""

    chunk: int
    question: str


@dataclass(frozen=True, slots=True)
class Words:
    """Content words of chunks, each taken apart once."""

    reader: IndexReader
    known: dict[int, frozenset[str]]

    def of(self, chunks: Collection[int]) -> list[frozenset[str]]:
        missing = [chunk for chunk in chunks if chunk not in self.known]
        for number, chunk in zip(missing, self.reader.chunks(missing), strict=True):
            self.known[number] = frozenset(content_words(f"{chunk.heading} {chunk.text}"))
        return [self.known[chunk] for chunk in chunks]


def answerable_probability(workspace: Workspace, index: Index, question: str) -> float:
    """How likely it is that the documents cover the question, 0 to 1; below `index.unanswered_below` they do not.

    It tells a missing document well and a missing paragraph fairly; it cannot tell that a passage on the very topic
    lacks the one fact that was asked for. Raises `EmbedderChanged`, `NotFound` when the index file is gone.
    """
    reader = workspace.indexes.open(index.hash)
    legs = search_legs(reader, question, embed_question(workspace, index, question), index.search)
    return probability(describe_search(Words(reader, {}), question, legs), index)


def probability(row: Mapping[str, float], index: Index) -> float:
    """What the index's own model says, or the general one where it has none."""
    coverage = index.coverage
    if coverage is None:
        prior = PRIORS[index.dimensions > 0]
        return _logistic(row, prior.weights, prior.bias)
    return _logistic(row, dict(zip(coverage.features, coverage.weights, strict=True)), coverage.bias)


def fit_coverage(
    reader: IndexReader, *, search: SearchSettings, embedder: Embedder | None, seed: int = 0, probes: int = PROBES
) -> Coverage:
    """The general model with a threshold for this index.

    Questions are made from sentences of the index (some words dropped, some replaced) and asked of the whole index and
    of the index without the document they come from. The threshold lies between the general one and the 5 % quantile
    of the covered ones, because made questions resemble real ones only roughly.
    """
    prior = PRIORS[embedder is not None]
    made = list(make_probes(reader, count=probes, seed=seed))
    vectors = embedder.embed([probe.question for probe in made]) if embedder is not None and made else None
    known = Words(reader, {})
    covered: list[float] = []
    uncovered: list[float] = []
    for place, probe in enumerate(made):
        legs = search_legs(reader, probe.question, None if vectors is None else vectors[place], search)
        own = reader.chunk_numbers(reader.chunks([probe.chunk])[0].document)
        row = describe_search(known, probe.question, legs)
        covered.append(_logistic(row, prior.weights, prior.bias))
        without = describe_search(known, probe.question, legs, dropped=own)
        uncovered.append(_logistic(without, prior.weights, prior.bias))
    threshold = prior.threshold
    found, auroc = prior.found, prior.auroc
    if len(covered) >= FEWEST_PROBES:
        own_threshold = sorted(covered)[int(FALSE_ALARMS * len(covered))]
        threshold = _from_logit((_to_logit(prior.threshold) + _to_logit(own_threshold)) / 2)
        found = sum(score < threshold for score in uncovered) / len(uncovered)
        auroc = _auroc(covered, uncovered)
    return Coverage(
        features=tuple(prior.weights),
        weights=tuple(prior.weights.values()),
        bias=prior.bias,
        threshold=threshold,
        false_alarms=FALSE_ALARMS,
        found=found,
        auroc=auroc,
        questions=len(covered),
    )


def describe_search(known: Words, question: str, legs: Legs, *, dropped: Sequence[int] = ()) -> dict[str, float]:
    """Features of one search, as if the chunks in `dropped` were not in the index; all about 0 to 1.

    Those of vectors are there where the index has vectors.
    """
    gone = frozenset(dropped)
    asked = sorted(set(content_words(question)))
    lexical = sorted((chunk for chunk in legs.lexical if chunk not in gone), key=lambda chunk: -legs.lexical[chunk])
    counts = dict(zip(asked, known.reader.frequencies(asked), strict=True))
    for lost in known.of(dropped):
        for word in lost.intersection(asked):
            counts[word] -= 1
    chunks = max(known.reader.chunk_count - len(gone), 1)
    weights = {word: math.log(1 + (chunks - min(n, chunks) + 0.5) / (max(n, 0) + 0.5)) for word, n in counts.items()}
    most = math.log(1 + (chunks + 0.5) / 0.5)
    telling = {word: general_rarity(word) for word in asked}
    best = known.of(lexical[:TOP])
    first = best[0] if best else frozenset()
    five = frozenset().union(*best)
    scores = [legs.lexical[chunk] for chunk in lexical[:2]]
    # BM25 of a chunk that held every word without end: the sum of idf times k1 + 1.
    ideal = 2.2 * sum(weights.values()) or 1.0
    row = {
        "bm25_of_ideal": min(scores[0] / ideal, 1.0) if scores else 0.0,
        "covered_by_first": _share(weights, first),
        "covered_by_five": _share(weights, five),
        "told_by_first": _share(telling, first),
        "told_by_five": _share(telling, five),
        "missing": max((weights[word] for word in asked if word not in five), default=0.0) / most,
        "unknown": sum(telling[word] for word in asked if counts[word] <= 0) / (sum(telling.values()) or 1.0),
        "lead": (scores[0] - scores[1]) / scores[0] if len(scores) > 1 and scores[0] > 0 else 0.0,
        "question_length": min(len(asked) / 10, 1.0),
    }
    if legs.dense:
        cosines = sorted((score for chunk, score in legs.dense.items() if chunk not in gone), reverse=True)[:TOP] or [
            0.0
        ]
        row["cosine"] = cosines[0]
        row["cosine_of_first_by_words"] = legs.dense.get(lexical[0], 0.0) if lexical else 0.0
        row["cosine_of_five"] = sum(cosines) / len(cosines)
        row["cosine_lead"] = cosines[0] - cosines[-1]
    return row


def make_probes(reader: IndexReader, *, count: int, seed: int = 0) -> Iterator[Probe]:
    """Made questions: three to six content words of a sentence, one in five replaced by a word from elsewhere."""
    random = Random(seed)
    numbers = random.sample(range(reader.chunk_count), min(count, reader.chunk_count))
    chunks = reader.chunks(numbers)
    pool = sorted({word for chunk in chunks for word in _content(chunk.text)}) or [""]
    for number, chunk in zip(numbers, chunks, strict=True):
        sentence = _some_sentence(chunk, random)
        if len(sentence) >= 4:
            kept = sorted(random.sample(range(len(sentence)), min(len(sentence), random.randint(3, 6))))
            asked = [sentence[place] if random.random() > 0.2 else random.choice(pool) for place in kept]
            yield Probe(number, " ".join(asked))


def _some_sentence(chunk: Chunk, random: Random) -> list[str]:
    spans = split_sentences(chunk.text)
    span = random.choice(spans)
    return _content(chunk.text[span.start : span.end])


def _content(text: str) -> list[str]:
    return [word for word in words(text) if word not in STOP_WORDS]


def _share(weights: Mapping[str, float], found: Collection[str]) -> float:
    total = sum(weights.values())
    return sum(weight for word, weight in weights.items() if word in found) / total if total else 0.0


def _logistic(row: Mapping[str, float], weights: Mapping[str, float], bias: float) -> float:
    return 1 / (1 + math.exp(-bias - sum(weight * row.get(name, 0.0) for name, weight in weights.items())))


def _to_logit(share: float) -> float:
    share = min(max(share, 1e-6), 1 - 1e-6)
    return math.log(share / (1 - share))


def _from_logit(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def _auroc(higher: Sequence[float], lower: Sequence[float]) -> float:
    """Share of pairs in which the first is higher; a tie counts half."""
    wins = sum((a > b) + 0.5 * (a == b) for a in higher for b in lower)
    return wins / (len(higher) * len(lower))

"""Describes a search in numbers: how much of the question the passages and their best sentences hold."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy

from slipway.domain.document import Chunk
from slipway.embedders.base import Embedder, TokenEmbedder, TokenVectors, Vectors
from slipway.engines.extractive import BIAS, BY_COSINE, BY_WORDS, COSINE_BIAS, EMBEDDER, WEIGHTS
from slipway.retrieve.fusion import fuse
from slipway.retrieve.likeness import NOTHING_MET, OF_LIKENESS, describe_likeness, take_tokens
from slipway.retrieve.query import Legs
from slipway.text.evidence import FEATURES, Source, describe_units, find_units, take_apart
from slipway.text.markdown import plain_text
from slipway.text.overlap import content_words
from slipway.text.rarity import general_rarity
from slipway.vectors.base import IndexReader

TOP = 5
SPREAD = 50
"""Scores that a best score is compared with."""
SENTENCES_EMBEDDED = 10
MOST_KEPT = 1000
"""Sentences whose tokens are kept in memory, some 50 KB each."""
BY_WORDS_ALONE = (
    "bm25_of_ideal", "covered_by_first", "covered_by_five", "told_by_first", "told_by_five", "missing", "unknown",
    "lead", "question_length", "stands_out", "evidence", "evidence_lead", "evidence_of_all", "sentence_coverage",
    "sentence_coverage_with_neighbours", "sentence_telling", "sentence_pairs", "sentence_names",
    "passage_telling", "best_sentence_coverage", "best_sentence_pairs", "best_passage_names", "best_passage_telling",
)  # fmt: skip
OF_VECTORS = (
    "cosine", "cosine_of_first_by_words", "cosine_of_five", "cosine_lead", "cosine_stands_out", "fused_lead",
    "fused_lead_of_five",
)  # fmt: skip
OF_SENTENCES = (
    "answer", "answer_lead", "answer_of_all", "sentence_cosine", "sentence_cosine_lead", *OF_LIKENESS,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Known:
    """Chunks of one index, each read and taken apart once. Sentences are embedded where MiniLM runs here."""

    reader: IndexReader
    embedder: Embedder | None = None
    _chunks: dict[int, Chunk] = field(default_factory=dict)
    _words: dict[int, frozenset[str]] = field(default_factory=dict)
    _sentences: dict[str, TokenVectors] = field(default_factory=dict)

    @property
    def embeds_sentences(self) -> bool:
        """Not by a remote model: that would be a request for every question."""
        return isinstance(self.embedder, TokenEmbedder) and self.embedder.id.startswith(EMBEDDER)

    def chunks(self, numbers: Collection[int]) -> list[Chunk]:
        missing = [number for number in numbers if number not in self._chunks]
        self._chunks.update(zip(missing, self.reader.chunks(missing), strict=True))
        return [self._chunks[number] for number in numbers]

    def words(self, numbers: Collection[int]) -> list[frozenset[str]]:
        for number, chunk in zip(numbers, self.chunks(numbers), strict=True):
            if number not in self._words:
                self._words[number] = frozenset(content_words(f"{chunk.heading} {chunk.text}"))
        return [self._words[number] for number in numbers]

    def embed(self, texts: Sequence[str]) -> list[TokenVectors]:
        """Sentences with the vectors of their tokens; only where `embeds_sentences`."""
        assert isinstance(self.embedder, TokenEmbedder)
        if len(self._sentences) > MOST_KEPT:
            self._sentences.clear()
        missing = [text for text in dict.fromkeys(texts) if text not in self._sentences]
        self._sentences.update(zip(missing, self.embedder.embed_tokens(missing), strict=True))
        return [self._sentences[text] for text in texts]


def describe_search(
    known: Known,
    question: str,
    legs: Legs,
    *,
    vector: Vectors | None = None,
    alpha: float = 0.5,
    dropped: Sequence[int] = (),
) -> dict[str, float]:
    """Features of one search, as if the chunks in `dropped` were not in the index; most lie between 0 and 1.

    Those of vectors are there where the index has vectors, those of sentences where MiniLM runs here and `vector`, the
    question's own, is given.
    """
    gone = frozenset(dropped)
    lexical = {chunk: score for chunk, score in legs.lexical.items() if chunk not in gone}
    dense = {chunk: score for chunk, score in legs.dense.items() if chunk not in gone}
    row = _of_words(known, question, lexical, dropped)
    fused = fuse(lexical, dense, alpha=alpha if legs.dense else 1.0)[:TOP]
    best = fused[0].score if fused and fused[0].score > 0 else 1.0
    scores = [hit.score / best for hit in fused]
    numbers = [hit.chunk for hit in fused]
    row |= _of_evidence(known, question, numbers, scores, vector if known.embeds_sentences else None)
    if legs.dense:
        row |= _of_vectors(lexical, dense)
        row["fused_lead"] = 1 - scores[1] if len(scores) > 1 else 0.0
        row["fused_lead_of_five"] = 1 - scores[-1] if len(scores) > 2 else 0.0
    return row


def _of_words(known: Known, question: str, lexical: Mapping[int, float], dropped: Sequence[int]) -> dict[str, float]:
    asked = sorted(set(content_words(question)))
    order = sorted(lexical, key=lambda chunk: (-lexical[chunk], chunk))
    counts = dict(zip(asked, known.reader.frequencies(asked), strict=True))
    for lost in known.words(dropped):
        for word in lost.intersection(asked):
            counts[word] -= 1
    chunks = max(known.reader.chunk_count - len(dropped), 1)
    weights = {word: math.log(1 + (chunks - min(n, chunks) + 0.5) / (max(n, 0) + 0.5)) for word, n in counts.items()}
    most = math.log(1 + (chunks + 0.5) / 0.5)
    telling = {word: general_rarity(word) for word in asked}
    best = known.words(order[:TOP])
    first = best[0] if best else frozenset()
    five = frozenset().union(*best)
    scores = [lexical[chunk] for chunk in order[:SPREAD]]
    # BM25 of a chunk that held every word without end: the sum of idf times k1 + 1.
    ideal = 2.2 * sum(weights.values()) or 1.0
    return {
        "bm25_of_ideal": min(scores[0] / ideal, 1.0) if scores else 0.0,
        "covered_by_first": _share(weights, first),
        "covered_by_five": _share(weights, five),
        "told_by_first": _share(telling, first),
        "told_by_five": _share(telling, five),
        "missing": max((weights[word] for word in asked if word not in five), default=0.0) / most,
        "unknown": sum(telling[word] for word in asked if counts[word] <= 0) / (sum(telling.values()) or 1.0),
        "lead": (scores[0] - scores[1]) / scores[0] if len(scores) > 1 and scores[0] > 0 else 0.0,
        "question_length": min(len(asked) / 10, 1.0),
        "stands_out": _stands_out(scores),
    }


def _of_evidence(
    known: Known, question: str, numbers: Sequence[int], scores: Sequence[float], vector: Vectors | None
) -> dict[str, float]:
    """How well the best sentences would answer, by the weights of the extractive engine."""
    asked = take_apart(question)
    chunks = known.chunks(numbers)
    sources = [
        Source(text=chunk.text, heading=chunk.heading, score=score) for chunk, score in zip(chunks, scores, strict=True)
    ]
    units = find_units(sources) if asked.stems else []
    if not units:
        row = dict.fromkeys(BY_WORDS_ALONE[10:], 0.0) | {"evidence": BIAS / 5, "evidence_of_all": BIAS / 5}
        if vector is not None:
            row |= dict.fromkeys(OF_SENTENCES, 0.0) | NOTHING_MET | {"answer": BIAS / 5, "answer_of_all": BIAS / 5}
        return row
    rows = numpy.asarray(describe_units(asked, sources, units))
    log_odds = rows @ WEIGHED + BIAS
    order = numpy.argsort(-log_odds, kind="stable")
    best = rows[order[0]]
    row = {
        "evidence": float(log_odds[order[0]]) / 5,
        "evidence_lead": float(log_odds[order[0]] - log_odds[order[1]]) / 5 if len(units) > 1 else 0.0,
        "evidence_of_all": _log_sum(log_odds) / 5,
        "sentence_coverage": _most(rows, "coverage"),
        "sentence_coverage_with_neighbours": _most(rows, "coverage_with_neighbours"),
        "sentence_telling": _most(rows, "telling"),
        "sentence_pairs": _most(rows, "bigrams"),
        "sentence_names": _most(rows, "names"),
        "passage_telling": _most(rows, "telling_by_passage"),
        "best_sentence_coverage": float(best[PLACE["coverage"]]),
        "best_sentence_pairs": float(best[PLACE["bigrams"]]),
        "best_passage_names": float(best[PLACE["names_in_passage"]]),
        "best_passage_telling": float(best[PLACE["telling_by_passage"]]),
    }
    if vector is not None:
        chosen = order[:SENTENCES_EMBEDDED]
        best_units = [units[at] for at in chosen.tolist()]
        texts = [plain_text(sources[unit.source].text[unit.start : unit.end]) for unit in best_units]
        sentences = known.embed(texts)
        cosines = numpy.stack([sentence.vector for sentence in sentences]) @ vector
        answers = BY_WORDS * log_odds[chosen] + BY_COSINE * cosines + COSINE_BIAS
        ranked = sorted(answers.tolist(), reverse=True)
        row |= {
            "answer": ranked[0] / 5,
            "answer_lead": (ranked[0] - ranked[1]) / 5 if len(ranked) > 1 else 0.0,
            "answer_of_all": _log_sum(answers) / 5,
            "sentence_cosine": float(cosines.max()),
            "sentence_cosine_lead": float(cosines.max() - numpy.median(cosines)),
        }
        row |= describe_likeness(
            take_tokens(question, known.embed([question])[0]),
            sentences,
            [unit.source for unit in best_units],
            known.words(numbers),
        )
    return row


def _of_vectors(lexical: Mapping[int, float], dense: Mapping[int, float]) -> dict[str, float]:
    cosines = sorted(dense.values(), reverse=True)[:SPREAD] or [0.0]
    first_by_words = min(lexical, key=lambda chunk: (-lexical[chunk], chunk), default=None)
    return {
        "cosine": cosines[0],
        "cosine_of_first_by_words": dense.get(first_by_words, 0.0) if first_by_words is not None else 0.0,
        "cosine_of_five": sum(cosines[:TOP]) / len(cosines[:TOP]),
        "cosine_lead": cosines[0] - cosines[:TOP][-1],
        "cosine_stands_out": _stands_out(cosines),
    }


PLACE = {name: place for place, name in enumerate(FEATURES)}
WEIGHED = numpy.array([WEIGHTS.get(name, 0.0) for name in FEATURES])


def _most(rows: Vectors, feature: str) -> float:
    return float(rows[:, PLACE[feature]].max())


def _log_sum(log_odds: Vectors) -> float:
    """Logarithm of the sum of the odds: many fair sentences count as much as one good."""
    highest = float(log_odds.max())
    return highest + math.log(float(numpy.exp(log_odds - highest).sum()))


def _stands_out(scores: Sequence[float]) -> float:
    """By how many tenths of the others' standard deviation the best score lies above their mean; at most 2."""
    others = numpy.asarray(scores[1:])
    if len(others) < TOP:
        return 0.0
    return min(float(scores[0] - others.mean()) / max(float(others.std()), 1e-3) / 10, 2.0)


def _share(weights: Mapping[str, float], found: Collection[str]) -> float:
    total = sum(weights.values())
    return sum(weight for word, weight in weights.items() if word in found) / total if total else 0.0

"""Describes a search in numbers: how much of the question the passages and their best sentences hold."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy

from slipway.domain.document import Chunk
from slipway.embedders.base import Embedder, TokenEmbedder, TokenVectors, Vectors
from slipway.engines.extractive import BIAS, BY_COSINE, BY_WORDS, COSINE_BIAS, EMBEDDER, WEIGHTS
from slipway.retrieve.fusion import fuse
from slipway.retrieve.likeness import NOTHING_MET, OF_LIKENESS, describe_each, describe_likeness, take_tokens
from slipway.retrieve.priors import PRIORS, log_odds
from slipway.retrieve.query import Legs
from slipway.retrieve.reading import NOTHING_READ, READ, Numbers, Sentence, describe_sentences, read_sentences
from slipway.text.evidence import FEATURES, Source, Unit, describe_units, find_units, take_apart
from slipway.text.markdown import plain_text
from slipway.text.overlap import asked_stems, content_words, sets_no_spaces
from slipway.text.rarity import general_rarity
from slipway.vectors.base import IndexReader

TOP = 5
SPREAD = 50
"""Scores that a best score is compared with."""
SENTENCES_EMBEDDED = 10
MOST_CHARACTERS = 500
"""Of a sentence that are embedded: a table or a log without full stops would cost as much as ten sentences."""
SURE = 2.5
"""Log-odds by words and cosines from which no sentence is embedded. Half of the covered questions are that sure, and of
those without their paragraph 3 %: among other articles this costs 0.001 of AUROC, and nothing at 5 % false alarms."""
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
    *READ,
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
    sure: float = SURE,
    sentences: list[Sentence] | None = None,
) -> dict[str, float]:
    """Features of one search, as if the chunks in `dropped` were not in the index; most lie between 0 and 1.

    Those of vectors are there where MiniLM made them, as other models have other cosines. Those of sentences are there
    where `vector`, the question's own, is given, and the search is not `sure` without them; each sentence that was
    read is added to `sentences`.
    """
    gone = frozenset(dropped)
    lexical = {chunk: score for chunk, score in legs.lexical.items() if chunk not in gone}
    dense = {chunk: score for chunk, score in legs.dense.items() if chunk not in gone}
    row = _of_words(known, question, lexical, dropped)
    fused = fuse(lexical, dense, alpha=alpha if legs.dense else 1.0)[:TOP]
    best = fused[0].score if fused and fused[0].score > 0 else 1.0
    scores = [hit.score / best for hit in fused]
    numbers = [hit.chunk for hit in fused]
    evidence = _find_evidence(known, question, numbers, scores)
    row |= _of_evidence(evidence)
    # MiniLM knows hardly a character of Chinese: to it all such texts are alike.
    if not legs.dense or not known.embeds_sentences or sets_no_spaces(question):
        return row
    row |= _of_vectors(lexical, dense)
    row["fused_lead"] = 1 - scores[1] if len(scores) > 1 else 0.0
    row["fused_lead_of_five"] = 1 - scores[-1] if len(scores) > 2 else 0.0
    by_vectors = PRIORS["vectors"]
    if vector is not None and log_odds(row, by_vectors.weights, by_vectors.bias) < sure:
        row |= _of_sentences(known, question, numbers, evidence, vector, sentences)
    return row


def _of_words(known: Known, question: str, lexical: Mapping[int, float], dropped: Sequence[int]) -> dict[str, float]:
    asked = sorted(set(asked_stems(question)))
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


class Evidence(NamedTuple):
    """The sentences of the best passages, each with what the extractive engine sees in it and its log-odds."""

    sources: list[Source]
    units: list[Unit]
    rows: Numbers
    log_odds: Numbers
    order: Sequence[int]
    """Places of the units, the best first."""


def _find_evidence(known: Known, question: str, numbers: Sequence[int], scores: Sequence[float]) -> Evidence | None:
    """None where no passage holds a sentence, or the question holds no word of content."""
    asked = take_apart(question)
    sources = [
        Source(text=chunk.text, heading=chunk.heading, score=score)
        for chunk, score in zip(known.chunks(numbers), scores, strict=True)
    ]
    units = find_units(sources) if asked.stems else []
    if not units:
        return None
    rows = numpy.asarray(describe_units(asked, sources, units))
    found = rows @ WEIGHED + BIAS
    return Evidence(sources, units, rows, found, numpy.argsort(-found, kind="stable").tolist())


def _of_evidence(evidence: Evidence | None) -> dict[str, float]:
    """How well the best sentences would answer, by the weights of the extractive engine."""
    if evidence is None:
        return dict.fromkeys(BY_WORDS_ALONE[10:], 0.0) | {"evidence": BIAS / 5, "evidence_of_all": BIAS / 5}
    rows, found, order = evidence.rows, evidence.log_odds, evidence.order
    best = rows[order[0]]
    return {
        "evidence": float(found[order[0]]) / 5,
        "evidence_lead": float(found[order[0]] - found[order[1]]) / 5 if len(order) > 1 else 0.0,
        "evidence_of_all": _log_sum(found) / 5,
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


def _of_sentences(
    known: Known,
    question: str,
    numbers: Sequence[int],
    evidence: Evidence | None,
    vector: Vectors,
    kept: list[Sentence] | None,
) -> dict[str, float]:
    """How well the best sentences would answer, by their vectors and those of their tokens."""
    if evidence is None:
        return (
            dict.fromkeys(OF_SENTENCES, 0.0)
            | NOTHING_MET
            | NOTHING_READ
            | {"answer": BIAS / 5, "answer_of_all": BIAS / 5}
        )
    chosen = evidence.order[:SENTENCES_EMBEDDED]
    units = [evidence.units[at] for at in chosen]
    sentences = known.embed(
        [plain_text(evidence.sources[unit.source].text[unit.start : unit.end])[:MOST_CHARACTERS] for unit in units]
    )
    cosines = numpy.stack([sentence.vector for sentence in sentences]) @ vector
    by_words = evidence.log_odds[chosen]
    answers = BY_WORDS * by_words + BY_COSINE * cosines + COSINE_BIAS
    ranked = sorted(answers.tolist(), reverse=True)
    asked = take_tokens(question, known.embed([question])[0])
    passages = [unit.source for unit in units]
    words = known.words(numbers)
    described = describe_sentences(
        evidence.rows[chosen], by_words, cosines, describe_each(asked, sentences, passages, words)
    )
    if kept is not None:
        kept += [
            Sentence(unit.source, evidence.sources[unit.source].text[unit.start : unit.end], described[place])
            for place, unit in enumerate(units)
        ]
    return {
        "answer": ranked[0] / 5,
        "answer_lead": (ranked[0] - ranked[1]) / 5 if len(ranked) > 1 else 0.0,
        "answer_of_all": _log_sum(answers) / 5,
        "sentence_cosine": float(cosines.max()),
        "sentence_cosine_lead": float(cosines.max() - numpy.median(cosines)),
        **describe_likeness(asked, sentences, passages, words),
        **read_sentences(described),
    }


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


def _most(rows: Numbers, feature: str) -> float:
    return float(rows[:, PLACE[feature]].max())


def _log_sum(log_odds: Numbers) -> float:
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

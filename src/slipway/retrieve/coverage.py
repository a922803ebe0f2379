"""Tells questions that an index covers from those that it does not, by features of a search."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import NamedTuple

from slipway.domain.coverage import Coverage
from slipway.domain.document import Chunk
from slipway.domain.index import Index, SearchSettings
from slipway.embedders.base import Embedder
from slipway.retrieve.query import embed_question, search_legs
from slipway.retrieve.signals import Known, describe_search
from slipway.text.overlap import words
from slipway.text.sentences import split_sentences
from slipway.text.stop_words import STOP_WORDS
from slipway.vectors.base import IndexReader
from slipway.workspace import Workspace

# Logistic weights for a search by words, with vectors, and with sentences embedded too; fitted by
# benchmarks/retrieve/fit_coverage.py on questions about encyclopaedia articles (SQuAD 2.0, 2,291) and of a search
# engine's users (ClapNQ, 290), each asked three times: of the whole index, without the article that answers it, and
# without the paragraph. The threshold is the 5 % quantile of the covered ones; `found` and `auroc` are of articles that
# were held back (a missing article; where only the paragraph is missing the AUROC is 0.89, 0.90 and 0.92).
BY_WORDS = {
    "bm25_of_ideal": 6.58, "covered_by_first": -2.44, "covered_by_five": 0.25, "told_by_first": -0.66,
    "told_by_five": 0.92, "missing": 0.17, "unknown": -0.34, "lead": 1.58, "question_length": -0.65,
    "stands_out": 1.51, "evidence": 2.52, "evidence_lead": 0.61, "evidence_of_all": -0.21, "sentence_coverage": -0.06,
    "sentence_coverage_with_neighbours": -0.22, "sentence_telling": 0.19, "sentence_pairs": 0.04,
    "sentence_names": -0.13, "passage_telling": 0.44, "best_sentence_coverage": 0.35, "best_sentence_pairs": -0.01,
    "best_passage_names": -0.21, "best_passage_telling": -0.24,
}  # fmt: skip
WITH_VECTORS = {
    "bm25_of_ideal": 3.14, "covered_by_first": -1.18, "covered_by_five": 0.06, "told_by_first": -0.44,
    "told_by_five": 0.15, "missing": -0.09, "unknown": -0.21, "lead": 0.7, "question_length": -0.9, "stands_out": 0.81,
    "evidence": 0.74, "evidence_lead": 1.36, "evidence_of_all": 1.32, "sentence_coverage": 0.09,
    "sentence_coverage_with_neighbours": -0.08, "sentence_telling": 0.01, "sentence_pairs": 0, "sentence_names": -0.06,
    "passage_telling": 0.69, "best_sentence_coverage": 0.15, "best_sentence_pairs": 0.19, "best_passage_names": -0.32,
    "best_passage_telling": -0.02, "cosine": 2.14, "cosine_of_first_by_words": 0.63, "cosine_of_five": 2.21,
    "cosine_lead": 0.07, "cosine_stands_out": 2.11, "fused_lead": 0.73, "fused_lead_of_five": 2.13,
}  # fmt: skip
WITH_SENTENCES = {
    "bm25_of_ideal": 4.71, "covered_by_first": -1.51, "covered_by_five": -0.03, "told_by_first": -0.4,
    "told_by_five": -0.22, "missing": -0.07, "unknown": -0.25, "lead": 0.46, "question_length": -0.55,
    "stands_out": 0.75, "evidence": -0.46, "evidence_lead": 1.29, "evidence_of_all": 0.85, "sentence_coverage": -0.01,
    "sentence_coverage_with_neighbours": 0.03, "sentence_telling": -1.82, "sentence_pairs": -0.46,
    "sentence_names": -0.02, "passage_telling": -0.43, "best_sentence_coverage": 0.36, "best_sentence_pairs": 0.18,
    "best_passage_names": -0.06, "best_passage_telling": -0.3, "cosine": 0.79, "cosine_of_first_by_words": -0.44,
    "cosine_of_five": 1.05, "cosine_lead": -0.12, "cosine_stands_out": 1.77, "fused_lead": 0.22,
    "fused_lead_of_five": 1.34, "answer": 0.32, "answer_lead": -0.22, "answer_of_all": 0.4, "sentence_cosine": 1.36,
    "sentence_cosine_lead": -0.52, "met_by_best": 1.41, "met_by_first": -0.94, "met_by_all": -0.48,
    "met_stands_out": 2.65, "alike": 3.01, "alike_stands_out": 2.75, "asking_word_met": 0.07, "met_by_passage": 1.66,
    "met_by_passage_lead": 0.27, "unmet_by_passage": -1.75, "unmet_by_passage_lead": -0.45, "like_passage": 2.45,
    "like_passage_lead": 0.22,
}  # fmt: skip
FALSE_ALARMS = 0.05
OWN = 0.1
"""Weight of the threshold that made questions give beside the general one. They are harder than what people ask: at 0.3
one gap in ten of ClapNQ's went unseen for it, with hardly a false alarm less."""
PROBES = 80
FEWEST_PROBES = 40


class Prior(NamedTuple):
    """A model that holds before anything is known about an index."""

    weights: Mapping[str, float]
    bias: float
    threshold: float
    found: float
    auroc: float


PRIORS = {
    "words": Prior(BY_WORDS, -2.65, 0.22, 0.89, 0.977),
    "vectors": Prior(WITH_VECTORS, -5.41, 0.26, 0.94, 0.985),
    "sentences": Prior(WITH_SENTENCES, -7.73, 0.31, 0.96, 0.991),
}


def prior_of(row: Mapping[str, float]) -> Prior:
    """The general model for the features that are there."""
    return PRIORS["sentences" if "answer" in row else "vectors" if "cosine" in row else "words"]


class Probe(NamedTuple):
    """A made question with the chunk that it was made from."""

    chunk: int
    question: str


def answerable_probability(workspace: Workspace, index: Index, question: str) -> float:
    """How likely it is that the documents cover the question, 0 to 1; below `index.unanswered_below` they do not.

    It tells a missing document well and a missing paragraph fairly; it cannot tell that a passage on the very topic
    lacks the one fact that was asked for. Raises `EmbedderChanged`, `NotFound` when the index file is gone.
    """
    reader = workspace.indexes.open(index.hash)
    vector = embed_question(workspace, index, question)
    legs = search_legs(reader, question, vector, index.search)
    known = Known(reader, workspace.embedder if index.dimensions else None)
    return probability(describe_search(known, question, legs, vector=vector, alpha=index.search.alpha), index)


def probability(row: Mapping[str, float], index: Index) -> float:
    """What the index's own model says, or the general one where it has none."""
    coverage = index.coverage
    if coverage is None:
        prior = prior_of(row)
        return _logistic(row, prior.weights, prior.bias)
    return _logistic(row, dict(zip(coverage.features, coverage.weights, strict=True)), coverage.bias)


def fit_coverage(
    reader: IndexReader,
    *,
    search: SearchSettings,
    embedder: Embedder | None,
    seed: int = 0,
    probes: int = PROBES,
) -> Coverage:
    """The general model with a threshold for this index.

    Questions are made from sentences of the index (some words dropped, some replaced) and asked of the whole index and
    of the index without the document they come from. The threshold lies between the general one and the 5 % quantile
    of the covered ones, because made questions resemble real ones only roughly.
    """
    made = list(make_probes(reader, count=probes, seed=seed))
    vectors = embedder.embed([probe.question for probe in made]) if embedder is not None and made else None
    known = Known(reader, embedder)
    prior = PRIORS["sentences" if known.embeds_sentences else "words" if embedder is None else "vectors"]
    covered: list[float] = []
    uncovered: list[float] = []
    for place, probe in enumerate(made):
        vector = None if vectors is None else vectors[place]
        legs = search_legs(reader, probe.question, vector, search)
        own = reader.chunk_numbers(known.chunks([probe.chunk])[0].document)
        row = describe_search(known, probe.question, legs, vector=vector, alpha=search.alpha)
        covered.append(_logistic(row, prior.weights, prior.bias))
        without = describe_search(known, probe.question, legs, vector=vector, alpha=search.alpha, dropped=own)
        uncovered.append(_logistic(without, prior.weights, prior.bias))
    threshold = prior.threshold
    found, auroc = prior.found, prior.auroc
    if len(covered) >= FEWEST_PROBES:
        own_threshold = sorted(covered)[int(FALSE_ALARMS * len(covered))]
        threshold = _from_logit((1 - OWN) * _to_logit(prior.threshold) + OWN * _to_logit(own_threshold))
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

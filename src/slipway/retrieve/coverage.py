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
from slipway.retrieve.priors import PRIORS, log_odds, prior_of
from slipway.retrieve.query import embed_question, search_legs
from slipway.retrieve.signals import Known, describe_search
from slipway.text.overlap import words
from slipway.text.sentences import split_sentences
from slipway.text.stop_words import STOP_WORDS
from slipway.vectors.base import IndexReader
from slipway.workspace import Workspace

FALSE_ALARMS = 0.05
OWN = 0.1
"""Weight of the threshold that made questions give beside the general one. They are harder than what people ask: at 0.3
one gap in ten of ClapNQ's went unseen for it, with hardly a false alarm less."""
HAIR = 1e-9
"""Log-odds."""
PROBES = 80
FEWEST_PROBES = 40


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
    """What the index's own model says, or the general one where it has none; on the scale of its calibration."""
    return _chance(coverage_log_odds(row, index) + calibration_shift(index))


def coverage_log_odds(row: Mapping[str, float], index: Index) -> float:
    """Log-odds by the model of the index as it is shipped, before any calibration on a team's own questions."""
    coverage = index.coverage
    if coverage is None:
        prior = prior_of(row)
        return log_odds(row, prior.weights, prior.bias)
    if coverage.features and coverage.features[-1] not in row:
        # Told by the model that needs no sentences, or words alone: moved so that its threshold is that of the index.
        prior = prior_of(row)
        moved = to_logit(coverage.threshold) - to_logit(prior.threshold)
        return log_odds(row, prior.weights, prior.bias) + moved
    return log_odds(row, dict(zip(coverage.features, coverage.weights, strict=True)), coverage.bias)


def calibration_shift(index: Index) -> float:
    """What a calibration adds to the log-odds, so that its cut-off lies at the threshold; 0 without one."""
    if index.calibration is None or index.coverage is None:
        return 0.0
    # The hair on top keeps a question that lies just at the cut-off above the threshold, whatever rounding does.
    return to_logit(index.coverage.threshold) - index.calibration.cutoff + HAIR


def general_probability(row: Mapping[str, float]) -> float:
    """What the general model says for the features that are there."""
    prior = prior_of(row)
    return _chance(log_odds(row, prior.weights, prior.bias))


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
    prior = PRIORS["sentences" if known.embeds_sentences else "words"]
    covered: list[float] = []
    uncovered: list[float] = []
    for place, probe in enumerate(made):
        vector = None if vectors is None else vectors[place]
        legs = search_legs(reader, probe.question, vector, search)
        own = reader.chunk_numbers(known.chunks([probe.chunk])[0].document)
        row = describe_search(known, probe.question, legs, vector=vector, alpha=search.alpha)
        covered.append(general_probability(row))
        without = describe_search(known, probe.question, legs, vector=vector, alpha=search.alpha, dropped=own)
        uncovered.append(general_probability(without))
    threshold = prior.threshold
    found, auroc = prior.found, prior.auroc
    if len(covered) >= FEWEST_PROBES:
        own_threshold = sorted(covered)[int(FALSE_ALARMS * len(covered))]
        threshold = _chance((1 - OWN) * to_logit(prior.threshold) + OWN * to_logit(own_threshold))
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


def to_logit(share: float) -> float:
    """Log-odds of a probability, at most 13.8 either way."""
    share = min(max(share, 1e-6), 1 - 1e-6)
    return math.log(share / (1 - share))


def _chance(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def _auroc(higher: Sequence[float], lower: Sequence[float]) -> float:
    """Share of pairs in which the first is higher; a tie counts half."""
    wins = sum((a > b) + 0.5 * (a == b) for a in higher for b in lower)
    return wins / (len(higher) * len(lower))

"""Groups questions by topic: average link over embeddings and rare words, or rare words alone without an embedder."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy
from numpy.typing import NDArray

from slipway.embedders.base import Embedder
from slipway.text.overlap import WORD, asked_stems
from slipway.text.rarity import general_rarity
from slipway.text.stems import stem

NEAR_BY_BOTH = 0.25
"""Mean likeness by vectors and words at which two groups become one."""
WORDS_TO_VECTORS = 0.5
"""Weight of the shared rare words beside the cosine: names keep topics apart that sound alike."""
NEAR_BY_WORDS = 0.27
NAMED = 2
"""How much more a name tells of a topic than another word that is as rare."""
LENT = 0.5
"""How much of its nearest questions' words a question is lent where there are words alone, so that two questions with
no word in common meet by a third that has words of both."""
LIKE = 0.05
"""Likeness from which a question lends."""
MOST = 2000
"""Questions that are grouped at once; memory grows with the square."""


def group_questions(questions: Sequence[str], embedder: Embedder | None) -> list[list[int]]:
    """Places of the questions that belong together, largest group first. Beyond `MOST` each joins its nearest group."""
    if not questions:
        return []
    vectors = word_vectors(questions)
    if embedder is None:
        vectors, near = lend_words(vectors), NEAR_BY_WORDS
    else:
        near = NEAR_BY_BOTH
        # Side by side, so that one product is the weighted mean of both likenesses.
        both = [embedder.embed(questions), math.sqrt(WORDS_TO_VECTORS) * vectors]
        vectors = (numpy.concatenate(both, axis=1) / math.sqrt(1 + WORDS_TO_VECTORS)).astype(numpy.float32)
    groups = average_link(vectors[:MOST] @ vectors[:MOST].T, least=near)
    for place in range(MOST, len(questions)):
        closest = max(groups, key=lambda group: float((vectors[group] @ vectors[place]).mean()))
        if float((vectors[closest] @ vectors[place]).mean()) >= near:
            closest.append(place)
        else:
            groups.append([place])
    return sorted(groups, key=lambda group: (-len(group), group[0]))


def average_link(similarity: NDArray[numpy.float32], *, least: float) -> list[list[int]]:
    """Groups of places whose mean similarity stays at or above `least`; the two most alike groups join first."""
    count = len(similarity)
    mean = similarity.astype(numpy.float64, copy=True)
    numpy.fill_diagonal(mean, -numpy.inf)
    groups: list[list[int]] = [[place] for place in range(count)]
    best = mean.argmax(axis=1) if count else numpy.empty(0, dtype=numpy.int64)
    value = mean[numpy.arange(count), best] if count else numpy.empty(0)
    while count:
        a = int(value.argmax())
        if value[a] < least:
            break
        b = int(best[a])
        # Lance and Williams (1967): the mean over all pairs follows from the two groups' means and sizes.
        joined = (len(groups[a]) * mean[a] + len(groups[b]) * mean[b]) / (len(groups[a]) + len(groups[b]))
        joined[[a, b]] = -numpy.inf
        mean[a], mean[:, a] = joined, joined
        mean[b], mean[:, b] = -numpy.inf, -numpy.inf
        groups[a] += groups[b]
        groups[b] = []
        stale = numpy.flatnonzero((best == a) | (best == b))
        for place in {a, b, *stale.tolist()}:
            best[place] = mean[place].argmax()
            value[place] = mean[place, best[place]]
        closer = joined > value
        best[closer] = a
        value[closer] = joined[closer]
    return [sorted(group) for group in groups if group]


def word_vectors(texts: Sequence[str]) -> NDArray[numpy.float32]:
    """Shape (texts, words): unit vectors of how telling each text's words are."""
    stems = [set(asked_stems(text)) for text in texts]
    counts = Counter(word for found in stems for word in found)
    named = Counter(word for text in texts for word in _names(text))
    columns = {word: place for place, word in enumerate(sorted(counts))}
    matrix = numpy.zeros((len(texts), max(len(columns), 1)), dtype=numpy.float32)
    for row, found in enumerate(stems):
        for word in found:
            telling = general_rarity(word) * math.log(1 + len(texts) / counts[word])
            # As a name counts what is mostly written so: a sentence may begin with any word.
            matrix[row, columns[word]] = telling * (NAMED if named[word] > counts[word] / 2 else 1)
    norms = numpy.linalg.norm(matrix, axis=1, keepdims=True)
    unit: NDArray[numpy.float32] = matrix / numpy.maximum(norms, 1e-9)
    return unit


def _names(text: str) -> set[str]:
    """Stems of the words that begin with a capital letter and not the text."""
    return {stem(word.lower()) for place, word in enumerate(WORD.findall(text)) if place and word[0].isupper()}


def lend_words(vectors: NDArray[numpy.float32]) -> NDArray[numpy.float32]:
    """The same with `LENT` of the mean of the questions that are like each, by likeness; unit vectors.

    Beyond `MOST` questions only the first lend, so that memory does not grow with the square.
    """
    lenders = vectors[:MOST]
    lent = vectors.copy()
    for first in range(0, len(vectors), MOST):
        rows = slice(first, first + MOST)
        likeness = vectors[rows] @ lenders.T
        likeness[likeness < LIKE] = 0
        if not first:
            numpy.fill_diagonal(likeness, 0)
        lent[rows] += LENT * (likeness @ lenders) / numpy.maximum(likeness.sum(axis=1, keepdims=True), 0.3)
    unit: NDArray[numpy.float32] = lent / numpy.maximum(numpy.linalg.norm(lent, axis=1, keepdims=True), 1e-9)
    return unit


def name_topic(questions: Sequence[str], others: Sequence[str]) -> str:
    """The words that most of these questions share and the others lack, as they are written; at most three."""
    inside = Counter(word for question in questions for word in set(asked_stems(question)))
    outside = Counter(word for question in others for word in set(asked_stems(question)))
    written = _written_forms(questions)

    def weight(word: str) -> float:
        share = inside[word] / len(questions)
        return share * general_rarity(word) / (1 + outside[word] / (1 + len(others)) * 10)

    best = sorted(inside, key=lambda word: (-weight(word), word))[:3]
    order = " ".join(questions).lower()
    kept = [word for word in best if weight(word) >= 0.4 * weight(best[0])]
    return " ".join(sorted((written[word] for word in kept), key=lambda form: order.find(form.lower())))


def _written_forms(questions: Sequence[str]) -> dict[str, str]:
    forms: dict[str, Counter[str]] = {}
    for question in questions:
        for token in re.findall(r"[^\W_]+", question):
            forms.setdefault(stem(token.lower()), Counter())[token] += 1
    return {stemmed: count.most_common(1)[0][0] for stemmed, count in forms.items()}

"""Compares a question with sentences word by word, by the vectors of their tokens: late interaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from slipway.embedders.base import TokenVectors, Vectors
from slipway.text.overlap import WORD
from slipway.text.rarity import general_rarity
from slipway.text.stems import stem
from slipway.text.stop_words import stop_words_of

ASKING = frozenset({"who", "whom", "whose", "when", "where", "what", "which", "why", "how"})
MET = 0.85
"""How far a word that stands in the passage itself counts as met at least."""
OF_LIKENESS = (
    "met_by_best", "met_by_first", "met_by_all", "met_stands_out", "alike", "alike_stands_out", "asking_word_met",
    "met_by_passage", "met_by_passage_lead", "unmet_by_passage", "unmet_by_passage_lead", "like_passage",
    "like_passage_lead",
)  # fmt: skip
OF_EACH = ("met", "alike", "unmet", "least_met", "asking_word_met", "met_with_passage")
NOTHING_MET = dict.fromkeys(OF_LIKENESS, 0.0) | {"unmet_by_passage": 1.0}


@dataclass(frozen=True, slots=True)
class AskedTokens:
    """A question in tokens: which of them make up each content word, how telling each word is, and what asks."""

    vectors: Vectors
    """Shape (tokens, dimensions)."""
    stems: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]
    weights: NDArray[numpy.float64]
    asking: tuple[int, ...]


def take_tokens(question: str, tokens: TokenVectors) -> AskedTokens:
    """Content words with the rows of their tokens; of a question of stop words only, all words."""
    rows: dict[int, list[int]] = {}
    for row, number in enumerate(tokens.words):
        rows.setdefault(number, []).append(row)
    words: list[tuple[str, tuple[int, ...]]] = []
    for places in rows.values():
        word = question[tokens.spans[places[0]][0] : tokens.spans[places[-1]][1]].lower()
        if WORD.fullmatch(word):
            words.append((word, tuple(places)))
    stop_words = stop_words_of(tuple(word for word, _ in words))
    content = [(word, places) for word, places in words if word not in stop_words] or words
    stems = tuple(stem(word) for word, _ in content)
    weights = numpy.array([general_rarity(word) for word in stems], dtype=numpy.float64)
    return AskedTokens(
        vectors=tokens.tokens,
        stems=stems,
        rows=tuple(places for _, places in content),
        weights=weights / max(float(weights.sum()), 1e-9),
        asking=tuple(row for word, places in words if word in ASKING for row in places),
    )


def describe_likeness(
    asked: AskedTokens,
    sentences: Sequence[TokenVectors],
    passages: Sequence[int],
    words: Sequence[frozenset[str]],
) -> dict[str, float]:
    """`OF_LIKENESS`: how far the sentences, the best by words first, meet each word of the question in meaning.

    A word is met as far as the nearest token of the sentence is like its own tokens (cosine, the mean over them), as in
    ColBERT: Khattab and Zaharia, SIGIR 2020. `passages` numbers the passage of each sentence, `words` are the stems in
    each passage.
    """
    kept = [place for place, sentence in enumerate(sentences) if len(sentence.tokens)]
    if not kept or not asked.stems:
        return dict(NOTHING_MET)
    nearest = numpy.stack([(asked.vectors @ sentences[place].tokens.T).max(axis=1) for place in kept])
    by_word = numpy.stack([nearest[:, list(rows)].mean(axis=1) for rows in asked.rows], axis=1)
    met = by_word @ asked.weights
    alike = nearest.mean(axis=1)
    whole: list[tuple[float, float, float]] = []
    of_sentence = numpy.asarray(passages)[kept]
    for passage in dict.fromkeys(of_sentence.tolist()):
        most = by_word[of_sentence == passage].max(axis=0)
        there = numpy.array([word in words[passage] for word in asked.stems])
        reached = numpy.where(there, numpy.maximum(most, MET), most)
        unmet = float(asked.weights @ ((1 - most) * ~there))
        whole.append((float(asked.weights @ reached), unmet, float(asked.weights @ most)))
    reached_by, unmet_by, like = zip(*whole, strict=True)
    return {
        "met_by_best": float(met.max()),
        "met_by_first": float(met[0]),
        "met_by_all": float(asked.weights @ by_word.max(axis=0)),
        "met_stands_out": float(met.max() - numpy.median(met)),
        "alike": float(alike.max()),
        "alike_stands_out": float(alike.max() - numpy.median(alike)),
        "asking_word_met": float(nearest[:, list(asked.asking)].max()) if asked.asking else 0.0,
        "met_by_passage": max(reached_by),
        "met_by_passage_lead": _lead(sorted(reached_by, reverse=True)),
        "unmet_by_passage": min(unmet_by),
        "unmet_by_passage_lead": _lead(sorted(unmet_by)),
        "like_passage": max(like),
        "like_passage_lead": _lead(sorted(like, reverse=True)),
    }


def describe_each(
    asked: AskedTokens,
    sentences: Sequence[TokenVectors],
    passages: Sequence[int],
    words: Sequence[frozenset[str]],
) -> Vectors:
    """Shape (sentences, `OF_EACH`): the same of every sentence alone; zeros where it has no token."""
    each = numpy.zeros((len(sentences), len(OF_EACH)), dtype=numpy.float32)
    if not asked.stems:
        return each
    for place, (sentence, passage) in enumerate(zip(sentences, passages, strict=True)):
        if not len(sentence.tokens):
            continue
        nearest = (asked.vectors @ sentence.tokens.T).max(axis=1)
        by_word = numpy.array([nearest[list(rows)].mean() for rows in asked.rows])
        there = numpy.array([word in words[passage] for word in asked.stems])
        each[place] = (
            asked.weights @ by_word,
            nearest.mean(),
            asked.weights @ ((1 - by_word) * ~there),
            by_word.min(),
            nearest[list(asked.asking)].max() if asked.asking else 0.0,
            asked.weights @ numpy.where(there, numpy.maximum(by_word, MET), by_word),
        )
    return each


def _lead(ranked: Sequence[float]) -> float:
    """How far the first lies from the mean of the others."""
    return ranked[0] - sum(ranked[1:]) / (len(ranked) - 1) if len(ranked) > 1 else 0.0

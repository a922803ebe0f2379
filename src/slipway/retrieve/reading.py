"""Tells how well each of the best sentences answers a question, by its words, its cosine and its tokens at once."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy
from numpy.typing import NDArray

from slipway.embedders.base import Vectors
from slipway.retrieve.likeness import OF_EACH
from slipway.text.evidence import FEATURES

Numbers = NDArray[numpy.floating[Any]]
OF_SENTENCE = (
    *FEATURES, "log_odds", "cosine", *(f"{name}_by_tokens" for name in OF_EACH), "met_and_near", "least_met_squared",
    "behind",
)  # fmt: skip
READ = ("read", "read_lead", "read_of_all")
NOTHING_READ = {"read": -2.0, "read_lead": 0.0, "read_of_all": -2.0}
# Logistic weights; fitted by benchmarks/retrieve/fit_coverage.py on whether a sentence holds the answer to a question
# about an encyclopaedia article (SQuAD 2.0), among the ten best sentences of a search.
READER = {
    "coverage": 0.68, "coverage_with_headings": 0.68, "coverage_with_neighbours": 0.39, "coverage_by_passage": 1.01,
    "headings": 0, "bigrams": 0.11, "rarest_missing": 1.15, "names": -0.19, "names_in_passage": -0.32,
    "matched": -0.1, "new_words": 0.12, "length": 0.03, "short": -0.03, "first": 0.07, "passage_score": 2.56,
    "telling": -1.36, "telling_with_neighbours": -0.66, "telling_by_passage": 0.25, "telling_missing": 0.35,
    "under_heading": 0, "best_of_passage": 0.37, "question_length": 0.04, "repeats_question": -0.05, "asks": 0,
    "item": -0.26, "row": 0, "code": 0, "number_found": -0.22, "number_missing": -0.51, "date_found": -0.27,
    "date_missing": -0.52, "person_found": 0.13, "person_missing": -0.35, "place_found": 0.12, "place_missing": -0.16,
    "reason_found": 0.11, "reason_missing": -0.35, "procedure_found": 0.06, "procedure_missing": -0.16,
    "definition_found": -0.41, "definition_missing": -0.4, "log_odds": 1.48, "cosine": 0.15, "met_by_tokens": 0.34,
    "alike_by_tokens": 1.43, "unmet_by_tokens": -2.11, "least_met_by_tokens": 1.01, "asking_word_met_by_tokens": 0.54,
    "met_with_passage_by_tokens": 2.08, "met_and_near": 0.76, "least_met_squared": 0.35, "behind": 1.25,
}  # fmt: skip
BIAS = -8.42
WEIGHED = numpy.array([READER[name] for name in OF_SENTENCE])


class Sentence(NamedTuple):
    """A sentence that was read: the number of its passage, its text, and `OF_SENTENCE`."""

    passage: int
    text: str
    described: Numbers


def describe_sentences(rows: Numbers, log_odds: Numbers, cosines: Vectors, each: Vectors) -> Numbers:
    """Shape (sentences, `OF_SENTENCE`). `rows` are those of the extractive engine with its `log_odds`, `each` those of
    the tokens, `cosines` those of the whole sentences."""
    log_odds = log_odds / 5
    behind = log_odds - log_odds.max()
    return numpy.column_stack([rows, log_odds, cosines, each, each[:, 0] * cosines, each[:, 3] ** 2, behind])


def read_sentences(described: Numbers, weights: Numbers = WEIGHED, bias: float = BIAS) -> dict[str, float]:
    """`READ`: the log-odds that the best sentence answers, its lead over the second, and those of all together."""
    found = described @ weights + bias
    ranked = sorted(found.tolist(), reverse=True)
    best = ranked[0]
    return {
        "read": best / 5,
        "read_lead": (best - ranked[1]) / 5 if len(ranked) > 1 else 0.0,
        "read_of_all": (best + math.log(sum(math.exp(score - best) for score in ranked))) / 5,
    }

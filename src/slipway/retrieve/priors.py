"""What holds of the features of a search before anything is known about an index: weights that were fitted once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

# Logistic weights for a search by words, with vectors, and with sentences embedded too; fitted by
# benchmarks/retrieve/fit_coverage.py on questions about encyclopaedia articles (SQuAD 2.0, 2,291) and of a search
# engine's users (ClapNQ, 290), each asked three times: of the whole index, without the article that answers it, and
# without the paragraph; with less weight also of 170 small indexes. The threshold is the 5 % quantile of the covered
# ones; `found` and `auroc` are of articles that were held back (a missing article; where only the paragraph is missing
# the AUROC is 0.89, 0.90 and 0.92).
BY_WORDS = {
    "bm25_of_ideal": 5.15, "covered_by_first": -2.25, "covered_by_five": 0.09, "told_by_first": -0.38,
    "told_by_five": 1.1, "missing": 0.22, "unknown": -0.03, "lead": 2.79, "question_length": -0.75,
    "stands_out": 0.65, "evidence": 2.56, "evidence_lead": 0.46, "evidence_of_all": -0.16, "sentence_coverage": -0.16,
    "sentence_coverage_with_neighbours": -0.19, "sentence_telling": 0.51, "sentence_pairs": 0,
    "sentence_names": -0.09, "passage_telling": 0.45, "best_sentence_coverage": 0.3, "best_sentence_pairs": 0.07,
    "best_passage_names": -0.3, "best_passage_telling": 0.06,
}  # fmt: skip
WITH_VECTORS = {
    "bm25_of_ideal": 2.76, "covered_by_first": -1.21, "covered_by_five": -0.01, "told_by_first": -0.11,
    "told_by_five": 0.7, "missing": 0.21, "unknown": -0.42, "lead": 0.98, "question_length": -1.11,
    "stands_out": 0.22, "evidence": 1.06, "evidence_lead": 1.22, "evidence_of_all": 1.28, "sentence_coverage": 0.13,
    "sentence_coverage_with_neighbours": 0.01, "sentence_telling": 0.15, "sentence_pairs": -0.07,
    "sentence_names": -0.05, "passage_telling": 0.47, "best_sentence_coverage": 0.05, "best_sentence_pairs": 0.05,
    "best_passage_names": -0.49, "best_passage_telling": -0.01, "cosine": 2.05, "cosine_of_first_by_words": 0.57,
    "cosine_of_five": 1.09, "cosine_lead": 1.38, "cosine_stands_out": 0.83, "fused_lead": 1.14,
    "fused_lead_of_five": 2.62,
}  # fmt: skip
WITH_SENTENCES = {
    "bm25_of_ideal": 3.85, "covered_by_first": -1.66, "covered_by_five": -0.39, "told_by_first": -0.03,
    "told_by_five": 0.24, "missing": 0.06, "unknown": -0.53, "lead": 0.78, "question_length": -0.79,
    "stands_out": 0.27, "evidence": -0.38, "evidence_lead": 0.81, "evidence_of_all": 0.57, "sentence_coverage": -0.19,
    "sentence_coverage_with_neighbours": -0.02, "sentence_telling": -0.66, "sentence_pairs": -0.33,
    "sentence_names": 0.02, "passage_telling": -0.47, "best_sentence_coverage": -0.23, "best_sentence_pairs": -0.01,
    "best_passage_names": -0.03, "best_passage_telling": -0.43, "cosine": 0.75, "cosine_of_first_by_words": -0.52,
    "cosine_of_five": 0.26, "cosine_lead": 0.86, "cosine_stands_out": 0.78, "fused_lead": 0.43,
    "fused_lead_of_five": 1.95, "answer": 0.02, "answer_lead": -0.77, "answer_of_all": 0.4, "sentence_cosine": 1.16,
    "sentence_cosine_lead": -0.24, "met_by_best": 0.77, "met_by_first": -1.29, "met_by_all": -0.22,
    "met_stands_out": 1.95, "alike": 2.45, "alike_stands_out": 2.24, "asking_word_met": -0.68, "met_by_passage": 1.29,
    "met_by_passage_lead": 0.33, "unmet_by_passage": -1.15, "unmet_by_passage_lead": -0.33, "like_passage": 1.71,
    "like_passage_lead": 0.47, "read": 1.68, "read_lead": 1.04, "read_of_all": 0.81,
}  # fmt: skip


class Prior(NamedTuple):
    """A model that holds before anything is known about an index."""

    weights: Mapping[str, float]
    bias: float
    threshold: float
    found: float
    auroc: float


PRIORS = {
    "words": Prior(BY_WORDS, -2.42, 0.23, 0.88, 0.977),
    "vectors": Prior(WITH_VECTORS, -4.67, 0.26, 0.94, 0.985),
    "sentences": Prior(WITH_SENTENCES, -4.41, 0.32, 0.96, 0.991),
}


def prior_of(row: Mapping[str, float]) -> Prior:
    """The general model for the features that are there."""
    return PRIORS["sentences" if "answer" in row else "vectors" if "cosine" in row else "words"]


def log_odds(row: Mapping[str, float], weights: Mapping[str, float], bias: float) -> float:
    """That the documents cover the question; a feature that is not there counts 0."""
    return bias + sum(weight * row.get(name, 0.0) for name, weight in weights.items())

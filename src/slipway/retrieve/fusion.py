"""Fuses the lexical and the dense leg of a search into one score, convexly on max-normalised scores."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from slipway.domain.index import SearchSettings
from slipway.vectors.base import Candidate


class Fused(NamedTuple):
    """A chunk with its score and what each leg contributed to it: score = lexical + dense."""

    chunk: int
    score: float
    lexical: float
    dense: float


def fuse(lexical: Mapping[int, float], dense: Mapping[int, float], *, alpha: float) -> list[Fused]:
    """Best first: alpha * BM25 / best BM25 + (1 - alpha) * similarity / best similarity.

    A leg that lacks a chunk gives it 0, as does a negative similarity. Where a leg found nothing the other counts
    alone, unless alpha is 0 or 1 and so leaves it out. Source of the convex combination: Bruch, Gai and Ingber, ACM
    TOIS 42 (2023); each leg is divided by its best score, because zero is a meaningful floor for both.
    """
    most_lexical = max(lexical.values(), default=0.0)
    most_dense = max(dense.values(), default=0.0)
    both = most_lexical > 0 and most_dense > 0
    share = alpha if both or alpha in {0, 1} else float(most_lexical > 0)
    fused = []
    for chunk in lexical.keys() | dense.keys():
        by_words = share * max(lexical.get(chunk, 0.0), 0.0) / most_lexical if most_lexical > 0 else 0.0
        by_vector = (1 - share) * max(dense.get(chunk, 0.0), 0.0) / most_dense if most_dense > 0 else 0.0
        fused.append(Fused(chunk, by_words + by_vector, by_words, by_vector))
    return sorted(fused, key=lambda hit: (-hit.score, hit.chunk))


def cut_off(hits: Sequence[Fused], *, cut: float, limit: int) -> list[Fused]:
    """The hits that reach `cut` times the best score, at most `limit`; hits without any score are left out."""
    if not hits:
        return []
    least = cut * hits[0].score
    return [hit for hit in hits if hit.score > 0 and hit.score >= least][:limit]


def scores_of(candidates: Sequence[Candidate]) -> dict[int, float]:
    """Score by chunk."""
    return {candidate.chunk: candidate.score for candidate in candidates}


def weigh(settings: SearchSettings, *, dense: bool) -> float:
    """The alpha that counts: 1 where there are no vectors."""
    return settings.alpha if dense else 1.0

"""How good a ranking is: discounted gain and reciprocal rank."""

import math
from collections.abc import Sequence

DEPTH = 10


def ndcg_at(relevant: Sequence[bool], there: int, *, depth: int = DEPTH) -> float:
    """Discounted gain of the first `depth` against the best order (Järvelin and Kekäläinen 2002), binary relevance."""
    gain = sum(1 / math.log2(rank + 2) for rank, hit in enumerate(relevant[:depth]) if hit)
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(there, depth)))
    return gain / ideal if ideal else 0.0


def reciprocal_rank(relevant: Sequence[bool]) -> float:
    """1 / rank of the first that is relevant; 0 when none is."""
    return next((1 / (rank + 1) for rank, hit in enumerate(relevant) if hit), 0.0)

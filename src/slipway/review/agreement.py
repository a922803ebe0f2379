"""How far reviewers agree: Krippendorff's alpha over all of them, Cohen's kappa for each two."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, assert_never

import numpy as np
import numpy.typing as npt

from slipway.domain.evaluation import Interval
from slipway.domain.ids import ReleaseId
from slipway.domain.release import Release
from slipway.domain.review import Review
from slipway.workspace import Workspace

Scale = Literal["nominal", "ordinal", "interval"]
Ratings = Mapping[Hashable, Mapping[str, int]]
"""By item, then by reviewer."""
RESAMPLES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class PairAgreement:
    """Two reviewers over the items that both have rated. `kappa` weighs distances quadratically."""

    reviewers: tuple[str, str]
    items: int
    kappa: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What the ratings of one release have in common. `alpha` is None while no two people rated the same answer, or
    while everybody gave the same rating: then there is nothing to agree on."""

    release: ReleaseId
    reviews: int
    items: int
    shared_items: int
    reviewers: tuple[str, ...]
    alpha: float | None
    interval: Interval | None
    pairs: tuple[PairAgreement, ...]
    means: dict[str, float]
    """Mean rating by background of the reviewers."""

    @property
    def verdict(self) -> str:
        """Krippendorff's own thresholds (Content Analysis, 2004, chapter 11)."""
        if self.alpha is None:
            return "not known yet: two people must rate the same answers, and not all alike"
        if self.alpha >= 0.8:
            return "reliable"
        return "tentative conclusions only" if self.alpha >= 0.667 else "people do not agree; look at what they noted"


def measure_agreement(workspace: Workspace, release: Release, *, seed: int = 0) -> Agreement:
    """Agreement over all ratings of a release."""
    return agreement_of(
        workspace.store.records.list(Review, where={"release": str(release.id)}), release=release.id, seed=seed
    )


def agreement_of(reviews: Sequence[Review], *, release: ReleaseId, seed: int = 0) -> Agreement:
    """Agreement over these reviews."""
    ratings: dict[Hashable, dict[str, int]] = {}
    backgrounds: dict[str, list[int]] = {}
    for review in reviews:
        ratings.setdefault(review.item, {})[review.reviewer] = review.rating
        backgrounds.setdefault(review.background or "unnamed", []).append(review.rating)
    reviewers = tuple(sorted({review.reviewer for review in reviews}))
    return Agreement(
        release=release,
        reviews=len(reviews),
        items=len(ratings),
        shared_items=sum(len(by) > 1 for by in ratings.values()),
        reviewers=reviewers,
        alpha=krippendorff_alpha(ratings),
        interval=alpha_interval(ratings, seed=seed),
        pairs=tuple(pair_agreement(ratings, pair) for pair in combinations(reviewers, 2)),
        means={name: sum(given) / len(given) for name, given in sorted(backgrounds.items())},
    )


def pair_agreement(ratings: Ratings, pair: tuple[str, str]) -> PairAgreement:
    """Cohen's kappa of two reviewers."""
    both = [(by[pair[0]], by[pair[1]]) for by in ratings.values() if pair[0] in by and pair[1] in by]
    return PairAgreement(reviewers=pair, items=len(both), kappa=cohen_kappa(both, weights="quadratic"))


def krippendorff_alpha(ratings: Ratings, *, scale: Scale = "ordinal") -> float | None:
    """1 is perfect agreement, 0 is chance, below is worse than chance; reviewers may leave items out.

    None when no item has two ratings or all ratings are alike. Source: Krippendorff, Computing Krippendorff's
    Alpha-Reliability (2011).
    """
    coincidences, values = _coincidences(ratings)
    if not coincidences.size:
        return None
    alpha = _alphas(coincidences.sum(axis=0)[None], values, scale)[0]
    return None if np.isnan(alpha) else float(alpha)


def alpha_interval(
    ratings: Ratings, *, scale: Scale = "ordinal", level: float = 0.95, seed: int = 0
) -> Interval | None:
    """Percentile bootstrap interval of alpha over items; None while fewer than two items are shared."""
    coincidences, values = _coincidences(ratings)
    if len(coincidences) < 2:
        return None
    rng = np.random.default_rng(seed)
    n = len(coincidences)
    times_drawn = rng.multinomial(n, [1 / n] * n, size=RESAMPLES)
    alphas = _alphas(np.tensordot(times_drawn, coincidences, axes=1), values, scale)
    alphas = alphas[~np.isnan(alphas)]
    if not alphas.size:
        return None
    low, high = np.quantile(alphas, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def cohen_kappa(pairs: Sequence[tuple[int, int]], *, weights: Literal["none", "quadratic"] = "none") -> float | None:
    """Agreement of two reviewers beyond chance over (one, other) ratings; None when chance leaves no room.

    Sources: Cohen, Educational and Psychological Measurement 20 (1960); with weights Psychological Bulletin 70 (1968).
    """
    if not pairs:
        return None
    values = sorted({rating for pair in pairs for rating in pair})
    place = {value: at for at, value in enumerate(values)}
    table = np.zeros((len(values), len(values)))
    for one, other in pairs:
        table[place[one], place[other]] += 1 / len(pairs)
    distance = np.subtract.outer(values, values).astype(float)
    match weights:
        case "none":
            apart = (distance != 0).astype(float)
        case "quadratic":
            apart = distance**2
        case _:
            assert_never(weights)
    expected = float((apart * np.outer(table.sum(axis=1), table.sum(axis=0))).sum())
    return None if expected == 0 else 1 - float((apart * table).sum()) / expected


def _coincidences(ratings: Ratings) -> tuple[npt.NDArray[np.float64], list[int]]:
    """How often two values met on an item, shape (items with two ratings or more, values, values), and the values."""
    shared = [list(by.values()) for by in ratings.values() if len(by) > 1]
    values = sorted({rating for given in shared for rating in given})
    place = {value: at for at, value in enumerate(values)}
    found = np.zeros((len(shared), len(values), len(values)))
    for matrix, given in zip(found, shared, strict=True):
        counts = np.bincount([place[rating] for rating in given], minlength=len(values)).astype(float)
        matrix += (np.outer(counts, counts) - np.diag(counts)) / (len(given) - 1)
    return found, values


def _alphas(tables: npt.NDArray[np.float64], values: list[int], scale: Scale) -> npt.NDArray[np.float64]:
    """Shape (tables,): alpha of each coincidence table; NaN where all ratings are alike."""
    totals = tables.sum(axis=2)
    n = totals.sum(axis=1)
    apart = _distances(totals, values, scale)
    observed = (tables * apart).sum(axis=(1, 2))
    expected = (totals[:, :, None] * totals[:, None, :] * apart).sum(axis=(1, 2)) / np.maximum(n - 1, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(expected > 0, 1 - observed / expected, np.nan), dtype=np.float64)


def _distances(totals: npt.NDArray[np.float64], values: list[int], scale: Scale) -> npt.NDArray[Any]:
    """Squared distance of every two values; ordinal ones depend on how often the values between them were given."""
    match scale:
        case "nominal":
            return np.asarray(1 - np.eye(len(values)))[None]
        case "interval":
            return np.asarray(np.subtract.outer(values, values).astype(float) ** 2)[None]
        case "ordinal":
            middle = np.cumsum(totals, axis=1) - totals / 2
            return np.asarray((middle[:, :, None] - middle[:, None, :]) ** 2)
        case _:
            assert_never(scale)

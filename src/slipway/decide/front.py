"""The Pareto front over cost, quality, time, control and risk, and weights that decide only inside it."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from slipway.domain.decision import Criterion, Weighing
from slipway.domain.deployment import Option
from slipway.domain.errors import InputError, did_you_mean

CRITERIA: tuple[Criterion, ...] = get_args(Criterion)
MORE_IS_BETTER: frozenset[Criterion] = frozenset({"quality", "control"})
CONTROL = {"api": 1.0, "mixed": 2.0, "open": 3.0, "build": 4.0}
"""Who holds model, filters and versions: the provider, both, we, we from the training data on. An order, no measure."""
RANDOM_INDEX = {1: 0.0, 2: 0.0, 3: 0.58, 4: 0.90, 5: 1.12}
"""Mean consistency index of random comparisons, by number of criteria. Source: Saaty 1980."""
MOST_INCONSISTENT = 0.1


def criteria_of(options: Sequence[Option]) -> tuple[Criterion, ...]:
    """The criteria that every option has a number for: one that is not known for all cannot be compared."""
    return tuple(name for name in CRITERIA if options and all(name in option.criteria for option in options))


def pareto_front(options: Sequence[Option]) -> list[Option]:
    """Options that no other option beats: at least as good in every criterion and better in one."""
    known = criteria_of(options)

    def gains(option: Option) -> list[float]:
        return [option.criteria[name] * (1 if name in MORE_IS_BETTER else -1) for name in known]

    return [
        one for one in options if not any(_beats(gains(other), gains(one)) for other in options if other is not one)
    ]


def _beats(better: Sequence[float], worse: Sequence[float]) -> bool:
    return all(a >= b for a, b in zip(better, worse, strict=True)) and better != worse


def weigh(front: Sequence[Option], *, weights: Mapping[Any, float], pairwise: Mapping[str, float]) -> Weighing:
    """Scores of the options on the front: each criterion scaled from 0 (worst on the front) to 1 (best), weighted.

    Without weights and comparisons the cost alone decides. Raises `InputError` for unknown criteria, for both kinds of
    weights at once, for weights that are all 0, for comparisons that are not enough or contradict each other.
    """
    if weights and pairwise:
        raise InputError("[decide] has weights and pairwise: keep one of them.")
    known = criteria_of(front)
    shares: dict[Any, float]
    method: Literal["cost alone", "swing", "pairwise"]
    consistency: float | None
    if pairwise:
        shares, consistency = compare_pairs(pairwise)
        method = "pairwise"
    elif weights:
        total = sum(weights.values())
        if total <= 0:
            raise InputError("[decide] weights are all 0: give the criterion that matters most 100.")
        shares, method, consistency = {name: value / total for name, value in weights.items()}, "swing", None
    else:
        shares, method, consistency = {"cost": 1.0}, "cost alone", None
    used = {name: share for name, share in shares.items() if name in known and share > 0}
    lost = [name for name, share in shares.items() if share > 0 and name not in known and front]
    if lost:
        raise InputError(
            f"[decide] weighs {', '.join(lost)}, which is not known for every option that is left. "
            "Give each a number ([decide] quality), or leave the criterion out."
        )
    return Weighing(method=method, weights=used, scores=_scores(front, used), consistency=consistency)


def _scores(front: Sequence[Option], weights: Mapping[str, float]) -> dict[str, float]:
    scores = dict.fromkeys((option.name for option in front), 0.0)
    for name, share in weights.items():
        values = [option.criteria[name] for option in front]
        low, high = min(values), max(values)
        for option, value in zip(front, values, strict=True):
            place = 1.0 if high == low else (value - low) / (high - low)
            scores[option.name] += share * (place if name in MORE_IS_BETTER or high == low else 1 - place)
    return scores


def compare_pairs(pairwise: Mapping[str, float]) -> tuple[dict[str, float], float]:
    """Weights from comparisons `a/b = how many times more a counts`, and their consistency ratio (AHP).

    Weights are the principal eigenvector of the matrix. Raises `InputError` when a pair is missing, a name is unknown,
    or the ratio is above 0.1.
    """
    names: list[str] = []
    given: dict[tuple[str, str], float] = {}
    for pair, value in pairwise.items():
        first, sign, second = (part.strip() for part in pair.partition("/"))
        for name in (first, second):
            if not sign or name not in CRITERIA:
                raise InputError(f"[decide] pairwise '{pair}' is no pair of criteria.{did_you_mean(name, CRITERIA)}")
            if name not in names:
                names.append(name)
        if first == second:
            raise InputError(f"[decide] pairwise '{pair}' compares a criterion with itself.")
        given[first, second] = value
        if (second, first) in given and abs(given[second, first] * value - 1) > 1e-6:
            raise InputError(f"[decide] pairwise '{pair}' contradicts '{second}/{first}'. Keep one of them.")
    matrix = np.ones((len(names), len(names)))
    missing = []
    for row, first in enumerate(names):
        for column, second in enumerate(names):
            if row == column:
                continue
            if (first, second) in given:
                matrix[row, column] = given[first, second]
            elif (second, first) in given:
                matrix[row, column] = 1 / given[second, first]
            elif row < column:
                missing.append(f"{first}/{second}")
    if missing:
        raise InputError(f"[decide] pairwise lacks {', '.join(missing)}: every pair of criteria is compared once.")
    values, vectors = np.linalg.eig(matrix)
    largest = int(np.argmax(values.real))
    vector = np.abs(vectors[:, largest].real)
    count = len(names)
    index = (float(values[largest].real) - count) / (count - 1)
    ratio = max(0.0, index / RANDOM_INDEX[count]) if RANDOM_INDEX[count] else 0.0
    if ratio > MOST_INCONSISTENT:
        raise InputError(
            f"[decide] pairwise contradicts itself: the consistency ratio is {ratio:.2f}, usable is at most "
            f"{MOST_INCONSISTENT:g}. Look again at {_worst(names, matrix, vector)}."
        )
    return dict(zip(names, (float(share) for share in vector / vector.sum()), strict=True)), ratio


def _worst(
    names: Sequence[str],
    matrix: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    vector: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> str:
    """The comparison that lies furthest from what the others imply."""
    off = np.abs(np.log(matrix * vector[None, :] / vector[:, None]))
    row, column = divmod(int(np.argmax(off)), len(names))
    implied = vector[row] / vector[column]
    return f"{names[row]}/{names[column]} = {matrix[row, column]:.3g} (the others imply {implied:.2g})"

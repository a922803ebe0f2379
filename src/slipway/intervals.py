"""Confidence intervals and exact tests: Wilson, Clopper–Pearson, bootstrap, McNemar and the sign test."""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from slipway.domain.evaluation import Interval

Statistic = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
"""Takes resamples, one a row, and gives one number a row."""

RESAMPLES = 2000
SLAB = 4_000_000
"""Most resampled values that are held at once."""


def wilson(successes: int, n: int, *, level: float = 0.95) -> Interval:
    """Score interval of a share. Source: Wilson, JASA 22 (1927); Newcombe, Stat. Med. 17 (1998), method 3.

    `n` 0 gives (0, 1): nothing is known.
    """
    if n == 0:
        return Interval(0.0, 1.0)
    return wilson_of_mean(successes / n, n, level=level)


def wilson_of_mean(mean: float, n: int, *, level: float = 0.95) -> Interval:
    """Wilson's interval for the mean of scores between 0 and 1.

    Graded scores vary at most as much as yes/no scores of the same mean, so this is never too narrow for them.
    """
    z = NormalDist().inv_cdf(0.5 + level / 2)
    centre = mean + z * z / (2 * n)
    half = z * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if mean <= 0 else max(0.0, (centre - half) / scale)
    high = 1.0 if mean >= 1 else min(1.0, (centre + half) / scale)
    return Interval(low, high)


def clustered_share(clusters: Sequence[tuple[int, int]], *, level: float = 0.95) -> Interval:
    """Interval of a share when several trials belong together, as (successes, trials) of each cluster.

    Wilson's interval with the sample size divided by the design effect. Source: Rao and Scott, Biometrics 48 (1992).
    """
    kept = [(successes, trials) for successes, trials in clusters if trials]
    successes, n = sum(hits for hits, _ in kept), sum(trials for _, trials in kept)
    if n == 0:
        return Interval(0.0, 1.0)
    share = successes / n
    effect = 1.0
    if len(kept) > 1 and 0 < share < 1:
        m = len(kept)
        variance = m / (m - 1) * math.fsum((hits - share * trials) ** 2 for hits, trials in kept) / n**2
        effect = max(1.0, variance / (share * (1 - share) / n))
    # A cluster is worth at least one trial.
    return wilson_of_mean(share, max(len(kept), round(n / effect)), level=level)


def clopper_pearson(successes: int, n: int, *, level: float = 0.95) -> Interval:
    """Exact interval of a share: it covers at least `level`. Source: Clopper and Pearson, Biometrika 26 (1934)."""
    if n == 0:
        return Interval(0.0, 1.0)
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else beta_quantile(tail, successes, n - successes + 1)
    high = 1.0 if successes == n else beta_quantile(1 - tail, successes + 1, n - successes)
    return Interval(low, high)


def upper_bound(successes: int, n: int, *, level: float = 0.95) -> float:
    """One-sided Clopper–Pearson bound: with `level` confidence the true share is not above it.

    No success of n gives the exact form of the "rule of three": 0 of 300 is bounded by 1 %.
    """
    if n == 0 or successes == n:
        return 1.0
    return beta_quantile(level, successes + 1, n - successes)


def beta_quantile(share: float, a: float, b: float) -> float:
    """The x with I_x(a, b) = `share`, by bisection to 1e-12."""
    low, high = 0.0, 1.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        if incomplete_beta(a, b, middle) < share:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def incomplete_beta(a: float, b: float, x: float) -> float:
    """Regularised incomplete beta function I_x(a, b) by its continued fraction. Source: DLMF 8.17.22."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    # Evaluated from the front by Lentz's method: c and d are the running ratios of numerators and denominators.
    tiny = 1e-300
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > tiny else tiny)
    fraction = d
    for m in range(1, 10_000):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 + numerator * d
            d = 1 / (d if abs(d) > tiny else tiny)
            c = 1 + numerator / c
            c = c if abs(c) > tiny else tiny
            fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * fraction / a


def bootstrap(
    values: Sequence[float],
    *,
    statistic: Statistic | None = None,
    level: float = 0.95,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Bias-corrected and accelerated bootstrap interval of `statistic` (the mean) over `values`.

    Source: Efron, JASA 82 (1987); Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 14.
    The same values and seed give the same interval. Values that are all equal give that value twice.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.size == 0:
        raise ValueError("a bootstrap needs at least one value")
    measure = statistic or mean_of_rows
    observed = float(measure(sample[None, :])[0])
    if sample.size == 1 or np.ptp(sample) == 0:
        return Interval(observed, observed)
    estimates = _resampled(sample, measure, seed=seed, resamples=resamples)
    # Ties with the observed value count half, so that a coarse statistic is not called biased.
    below = (np.sum(estimates < observed) + 0.5 * np.sum(estimates == observed)) / resamples
    below = min(max(float(below), 0.5 / resamples), 1 - 0.5 / resamples)
    bias = NormalDist().inv_cdf(below)
    acceleration = _acceleration(sample, measure)
    bounds = [_corrected(tail, bias, acceleration) for tail in ((1 - level) / 2, (1 + level) / 2)]
    low, high = np.quantile(estimates, bounds)
    return Interval(float(low), float(high))


def mean_of_rows(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The mean of every row."""
    return np.asarray(rows.mean(axis=1), dtype=np.float64)


def percentile_interval(values: Sequence[float], share: float, *, level: float = 0.95) -> Interval:
    """Distribution-free interval of a percentile from order statistics.

    The ranks come from the binomial count of values below the percentile. Source: David and Nagaraja, Order
    Statistics (2003), section 7.1. With few values the upper rank is the largest value, and coverage is less than
    asked for at that end.
    """
    ordered = sorted(values)
    n = len(ordered)
    if n == 0:
        raise ValueError("a percentile needs at least one value")
    tail = (1 - level) / 2
    cumulative, low, high = 0.0, 0, n - 1
    for rank in range(n + 1):
        cumulative += binomial(rank, n, share)
        if cumulative <= tail:
            low = rank
        if cumulative >= 1 - tail:
            high = min(rank, n - 1)
            break
    return Interval(ordered[low], ordered[high])


def mean_interval(values: Sequence[float], *, level: float = 0.95, seed: int = 0) -> Interval:
    """The interval that fits the mean of `values`.

    Scores of only 0 and 1 take Wilson's. Other scores between 0 and 1 take Wilson's too while there are fewer than
    twenty or all are equal, since a bootstrap of so few is too narrow. The rest is bootstrapped.
    """
    n = len(values)
    if n == 0:
        raise ValueError("an interval needs at least one value")
    bounded = min(values) >= 0 and max(values) <= 1
    mean = math.fsum(values) / n
    if bounded and (n < 20 or min(values) == max(values) or set(values) <= {0.0, 1.0}):
        return wilson_of_mean(mean, n, level=level)
    return bootstrap(values, level=level, seed=seed)


def paired_bootstrap(differences: Sequence[float], *, level: float = 0.95, seed: int = 0) -> Interval:
    """Percentile bootstrap interval of the mean of paired differences, widened as Student's t is against the normal.

    Cases are drawn, not answers, so what makes a case hard cancels out. Source: Efron and Tibshirani (1993), chapter
    13; the widening of small samples: Hesterberg, The American Statistician 69 (2015), section 3.3.
    """
    sample = np.asarray(differences, dtype=np.float64)
    n = sample.size
    if n == 0:
        raise ValueError("a comparison needs at least one pair")
    mean = float(sample.mean())
    if n == 1 or np.ptp(sample) == 0:
        return Interval(mean, mean)
    estimates = _resampled(sample, mean_of_rows, seed=seed, resamples=RESAMPLES)
    wide = NormalDist().cdf(-math.sqrt(n / (n - 1)) * student_quantile((1 + level) / 2, n - 1))
    low, high = np.quantile(estimates, [wide, 1 - wide])
    return Interval(float(low), float(high))


def paired_difference(both: int, only_after: int, only_before: int, neither: int, *, level: float = 0.95) -> Interval:
    """Interval of the difference of two shares over the same cases (after minus before).

    Source: Newcombe, Stat. Med. 17 (1998) 2635–2650, method 10: Wilson's intervals of both shares, put together with
    their correlation. It keeps its width when no or few cases differ, where a bootstrap collapses.
    """
    n = both + only_after + only_before + neither
    if n == 0:
        return Interval(-1.0, 1.0)
    after, before = (both + only_after) / n, (both + only_before) / n
    low_after, high_after = wilson(both + only_after, n, level=level)
    low_before, high_before = wilson(both + only_before, n, level=level)
    spread = (both + only_after) * (only_before + neither) * (both + only_before) * (only_after + neither)
    product = float(both * neither - only_after * only_before)
    if product > n / 2:
        product -= n / 2
    elif product >= 0:
        product = 0.0
    phi = product / math.sqrt(spread) if spread else 0.0
    down, up = after - low_after, high_before - before
    up_after, down_before = high_after - after, before - low_before
    difference = after - before
    low = difference - math.sqrt(max(0.0, down**2 - 2 * phi * down * up + up**2))
    high = difference + math.sqrt(max(0.0, up_after**2 - 2 * phi * up_after * down_before + down_before**2))
    return Interval(low, high)


def mcnemar(wins: int, losses: int) -> float:
    """Exact two-sided p of McNemar's test over the cases that differ; the same sum is the sign test.

    Source: McNemar, Psychometrika 12 (1947), with the binomial distribution in place of its approximation.
    """
    n = wins + losses
    if n == 0:
        return 1.0
    fewer = min(wins, losses)
    return min(1.0, 2 * math.fsum(binomial(k, n, 0.5) for k in range(fewer + 1)))


def binomial(k: int, n: int, share: float) -> float:
    """Probability of exactly `k` successes of `n`."""
    if share <= 0 or share >= 1:
        return float(k == (0 if share <= 0 else n))
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(ways + k * math.log(share) + (n - k) * math.log1p(-share))


def student_quantile(share: float, degrees: int) -> float:
    """Quantile of Student's t for `share` above one half. Source: its relation to the beta distribution, DLMF 8.17."""
    tail = 2 * (1 - share)
    x = beta_quantile(tail, degrees / 2, 0.5)
    return math.sqrt(degrees * (1 - x) / x)


def _resampled(
    sample: npt.NDArray[np.float64], measure: Statistic, *, seed: int, resamples: int
) -> npt.NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    rows = max(1, SLAB // sample.size)
    parts: list[npt.NDArray[Any]] = []
    for start in range(0, resamples, rows):
        drawn = rng.integers(0, sample.size, size=(min(rows, resamples - start), sample.size))
        parts.append(measure(sample[drawn]))
    return np.concatenate(parts)


def _acceleration(sample: npt.NDArray[np.float64], measure: Statistic) -> float:
    """Skewness of the statistic when one value after the other is left out (the jackknife)."""
    n = sample.size
    if measure is mean_of_rows:
        left_out = (sample.sum() - sample) / (n - 1)
    else:
        left_out = np.array([float(measure(np.delete(sample, i)[None, :])[0]) for i in range(n)])
    away = left_out.mean() - left_out
    squared = float(np.sum(away**2))
    return float(np.sum(away**3)) / (6 * squared**1.5) if squared > 0 else 0.0


def _corrected(tail: float, bias: float, acceleration: float) -> float:
    normal = NormalDist()
    z = bias + normal.inv_cdf(tail)
    return normal.cdf(bias + z / (1 - acceleration * z))

"""Intervals and exact tests against values that were published."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.intervals import (
    bootstrap,
    clopper_pearson,
    clustered_share,
    incomplete_beta,
    mcnemar,
    mean_interval,
    paired_bootstrap,
    paired_difference,
    percentile_interval,
    student_quantile,
    upper_bound,
    wilson,
)

SPATIAL_TEST = [48, 36, 20, 29, 42, 42, 20, 42, 22, 41, 45, 14, 6, 0, 33, 28, 34, 4, 32, 24, 47, 41, 24, 26, 30, 41]
"""Efron and Tibshirani (1993), table 14.1: 26 children, test A."""

NEWCOMBE = [
    pytest.param(81, 263, (0.2553, 0.3662), (0.2527, 0.3676), id="81 of 263"),
    pytest.param(15, 148, (0.0624, 0.1605), (0.0578, 0.1617), id="15 of 148"),
    pytest.param(0, 20, (0.0000, 0.1611), (0.0000, 0.1684), id="none of 20"),
    pytest.param(1, 29, (0.0061, 0.1718), (0.0009, 0.1776), id="1 of 29"),
]
"""Newcombe (1998), Stat. Med. 17, 857–872, table I: methods 3 and 5."""


@pytest.mark.parametrize(("successes", "n", "score", "exact"), NEWCOMBE)
def test_shares_have_the_published_intervals(
    successes: int, n: int, score: tuple[float, float], exact: tuple[float, float]
) -> None:
    assert wilson(successes, n) == pytest.approx(score, abs=6e-5)
    assert clopper_pearson(successes, n) == pytest.approx(exact, abs=6e-5)


def test_nothing_seen_says_nothing() -> None:
    assert wilson(0, 0) == clopper_pearson(0, 0) == (0.0, 1.0)
    assert upper_bound(0, 0) == 1.0


@pytest.mark.parametrize(
    ("n", "bound"), [pytest.param(300, 0.01, id="0 of 300 is 1 %"), pytest.param(59, 0.05, id="0 of 59 is 5 %")]
)
def test_no_success_is_bounded_by_the_rule_of_three(n: int, bound: float) -> None:
    assert upper_bound(0, n) == pytest.approx(bound, abs=0.0006)
    assert upper_bound(0, n) == pytest.approx(1 - 0.05 ** (1 / n), abs=1e-9)


def test_the_upper_bound_is_one_sided_and_so_below_the_interval() -> None:
    assert 3 / 50 < upper_bound(3, 50) < clopper_pearson(3, 50).high
    assert upper_bound(50, 50) == 1.0


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 60), st.integers(1, 60), st.floats(0.01, 0.99))
def test_the_incomplete_beta_is_the_binomial_tail(k: int, n: int, share: float) -> None:
    k = min(k, n - 1)
    tail = math.fsum(math.comb(n, i) * share**i * (1 - share) ** (n - i) for i in range(k + 1, n + 1))
    assert incomplete_beta(k + 1, n - k, share) == pytest.approx(tail, abs=1e-10)


def test_students_t_has_the_values_of_the_tables() -> None:
    assert [round(student_quantile(0.975, degrees), 3) for degrees in (1, 10, 30)] == [12.706, 2.228, 2.042]


def test_the_corrected_bootstrap_finds_the_published_interval_of_the_spatial_test() -> None:
    # Chapter 14.2: variance 171.5, BCa interval of 90 % (115.8, 259.6); the plain percentile one is (100.8, 233.9).
    assert np.var(SPATIAL_TEST) == pytest.approx(171.5, abs=0.05)
    low, high = bootstrap(SPATIAL_TEST, statistic=lambda rows: rows.var(axis=1), level=0.9, seed=1, resamples=20_000)
    assert low == pytest.approx(115.8, abs=2)
    assert high == pytest.approx(259.6, abs=5)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = [0.1, 0.9, 0.4, 0.4, 0.6, 1.0, 0.2] * 4
    assert bootstrap(values, seed=3) == bootstrap(values, seed=3)
    assert bootstrap(values, seed=3) != bootstrap(values, seed=4)


def test_the_bootstrap_covers_the_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for trial in range(200):
        low, high = bootstrap(list(rng.beta(2, 3, size=40)), seed=trial, resamples=400)
        covered += low <= 0.4 <= high
    assert 0.88 <= covered / 200 <= 0.99


MEANS = [
    pytest.param([1.0] * 12, wilson(12, 12), id="all right is not certainty"),
    pytest.param([1.0, 0.0, 1.0, 1.0] * 10, wilson(30, 40), id="yes and no take Wilson's"),
    pytest.param([0.5] * 10, wilson(5, 10), id="a few equal grades take Wilson's"),
]


@pytest.mark.parametrize(("values", "expected"), MEANS)
def test_a_mean_takes_the_interval_that_fits(values: list[float], expected: tuple[float, float]) -> None:
    assert mean_interval(values) == pytest.approx(expected)


def test_a_mean_of_seconds_is_bootstrapped() -> None:
    low, high = mean_interval([1.0, 2.0, 3.5, 8.0] * 10)
    assert 2.5 < low < 3.625 < high < 5


def test_percentiles_have_the_ranks_of_the_tables() -> None:
    # Median of 100: the 40th and the 61st value (David and Nagaraja, section 7.1).
    assert percentile_interval(list(range(1, 101)), 0.5) == (40, 61)
    assert percentile_interval([4.0], 0.95) == (4.0, 4.0)


PAIRED = [
    pytest.param((36, 12, 2, 0), (0.0569, 0.3404), id="table II: 36, 12, 2, 0"),
    pytest.param((0, 0, 0, 50), (-0.0713, 0.0713), id="no case answered by either"),
]
"""Newcombe (1998), Stat. Med. 17, 2635–2650, method 10; the second follows from Wilson's bound of 0 of 50."""


@pytest.mark.parametrize(("counts", "expected"), PAIRED)
def test_paired_shares_have_the_published_interval(
    counts: tuple[int, int, int, int], expected: tuple[float, float]
) -> None:
    assert paired_difference(*counts) == pytest.approx(expected, abs=6e-5)


def test_mcnemar_is_exact() -> None:
    # Agresti, Categorical Data Analysis, table 10.1: 150 and 86 of 1,600 changed their mind; exact p 3.716e-05.
    assert mcnemar(150, 86) == pytest.approx(3.716e-5, rel=1e-3)
    exact = 2 * sum(Fraction(math.comb(11, k), 2**11) for k in range(3))
    assert mcnemar(2, 9) == mcnemar(9, 2) == pytest.approx(float(exact))
    assert mcnemar(0, 0) == 1.0


def test_paired_differences_are_bootstrapped_over_cases() -> None:
    none = paired_bootstrap([0.2, -0.2, 0.1, -0.1, 0.3, -0.3] * 5)
    assert none.low < 0 < none.high
    better = paired_bootstrap([0.2, 0.3, 0.1, 0.25, 0.3, 0.15] * 5)
    assert 0 < better.low < 0.22 < better.high


def test_a_small_sample_is_wider_than_its_plain_bootstrap() -> None:
    differences = [0.0, 0.4, 0.1, 0.3, -0.1]
    paired, plain = paired_bootstrap(differences), bootstrap(differences)
    assert paired.high - paired.low > plain.high - plain.low


def test_trials_that_belong_together_widen_the_interval() -> None:
    alone = clustered_share([(1, 1)] * 10 + [(0, 1)] * 30)
    together = clustered_share([(4, 4), (4, 4), (2, 4)] + [(0, 4)] * 7)
    assert alone == pytest.approx(wilson(10, 40))
    assert together.low < alone.low
    assert together.high > alone.high
    assert clustered_share([]) == (0.0, 1.0)
    assert clustered_share([(0, 4)] * 10) == pytest.approx(wilson(0, 40))

"""The split that learns: traffic by the chance of being the best."""

import numpy as np
import pytest

from slipway.domain.ids import ReleaseId
from slipway.domain.routing import Posterior
from slipway.release.adaptive import chances_of_best, weights

A, B, C = (ReleaseId(letter * 64) for letter in "abc")


def chances(*arms: tuple[float, float]) -> list[float]:
    posteriors = [Posterior(release=ReleaseId(str(n) * 64), good=g, bad=b) for n, (g, b) in enumerate(arms)]
    return chances_of_best(posteriors, rng=np.random.default_rng(1))


def test_nothing_known_is_an_even_split():
    assert chances((0, 0), (0, 0)) == pytest.approx([0.5, 0.5], abs=0.05)


def test_a_clearly_better_release_gets_nearly_everything():
    assert chances((90, 10), (50, 50))[0] > 0.99


def test_a_difference_that_may_be_chance_stays_a_split():
    assert 0.55 < chances((9, 3), (7, 5))[0] < 0.95


def test_three_releases_sum_to_one_and_none_falls_below_the_floor():
    found = weights(chances((90, 10), (50, 50), (10, 90)), floor=0.05)
    assert sum(found) == pytest.approx(1)
    assert min(found) >= 0.05
    assert found[0] > 0.85


def test_in_the_long_run_the_better_release_is_found():
    """Thompson sampling in batches on two arms of 0.7 and 0.5: most of the traffic ends with the better one."""
    rng = np.random.default_rng(3)
    truth, good, bad, shares = (0.7, 0.5), [0.0, 0.0], [0.0, 0.0], [0.5, 0.5]
    for _ in range(40):
        for arm in (0, 1):
            n = round(50 * shares[arm])
            hits = float(rng.binomial(n, truth[arm]))
            good[arm] += hits
            bad[arm] += n - hits
        arms = [Posterior(release=r, good=g, bad=b) for r, g, b in zip((A, B), good, bad, strict=True)]
        shares = weights(chances_of_best(arms, rng=rng), floor=0.05)
    assert shares[0] > 0.9
    assert good[0] + bad[0] > 3 * (good[1] + bad[1])

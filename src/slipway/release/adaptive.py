"""A split that learns: each release gets the traffic of its chance of being the best one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from slipway.domain.ids import ReleaseId
from slipway.domain.release import Channel, Share
from slipway.domain.routing import Posterior
from slipway.release.canary import Scores
from slipway.workspace import Workspace

DRAWS = 4000
SMALLEST_STEP = 0.01
"""Shares that move by less are left as they are: sticky users stay where they are."""


def chances_of_best(posteriors: Sequence[Posterior], *, rng: np.random.Generator) -> list[float]:
    """For each release the chance that its true quality is the highest, by `DRAWS` draws from its Beta posterior.

    Giving each arm just that share of the traffic is Thompson sampling in batches. Sources: W. R. Thompson,
    Biometrika 25 (1933); S. L. Scott, A modern Bayesian look at the multi-armed bandit, ASMBI 26 (2010).
    """
    draws = np.stack([rng.beta(item.good + 1, item.bad + 1, DRAWS) for item in posteriors])
    best = np.bincount(draws.argmax(axis=0), minlength=len(posteriors))
    return [float(count) / DRAWS for count in best]


def weights(chances: Sequence[float], *, floor: float) -> list[float]:
    """The chances as shares of at least `floor` each; they sum to 1. Needs `floor` times their number below 1."""
    return [floor + (1 - floor * len(chances)) * chance for chance in chances]


def adapt(
    workspace: Workspace, name: str, scores: Mapping[ReleaseId, Scores], *, rng: np.random.Generator
) -> Channel | None:
    """Moves the shares of a channel to what the scores say; None when they stay. The posteriors stand in the channel.

    `scores` counts every answer since the channel was last changed by a person.
    """
    records = workspace.store.records
    with workspace.store.transaction():
        channel = records.find(Channel, name)
        if channel is None or channel.adaptive is None or len(channel.shares) < 2:
            return None
        posteriors = tuple(_posterior(share.release, scores) for share in channel.shares)
        chances = chances_of_best(posteriors, rng=rng)
        new = weights(chances, floor=channel.adaptive.floor)
        total = sum(share.weight for share in channel.shares)
        moved = max(abs(share.weight / total - weight) for share, weight in zip(channel.shares, new, strict=True))
        if moved < SMALLEST_STEP or posteriors == channel.posteriors:
            return None
        changed = replace(
            channel,
            shares=tuple(
                Share(release=share.release, weight=weight) for share, weight in zip(channel.shares, new, strict=True)
            ),
            posteriors=posteriors,
        )
        records.save(changed, parents=[("release", share.release) for share in changed.shares])
    return changed


def _posterior(release: ReleaseId, scores: Mapping[ReleaseId, Scores]) -> Posterior:
    found = scores.get(release, Scores(0, 0.0))
    return Posterior(release=release, good=found.total, bad=found.n - found.total)

"""Moves the labels at the ends of lines apart, so that none covers another."""

from collections.abc import Sequence


def spread(wanted: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """Places near the wanted ones (pixels), in the same order, at least `gap` apart and within the bounds.

    Pools neighbours that collide and centres each pool on the mean of what its members wanted, which keeps the sum
    of squared moves least. When they cannot all fit, the gap shrinks.
    """
    if not wanted:
        return []
    gap = min(gap, (high - low) / max(1, len(wanted) - 1)) if len(wanted) > 1 else gap
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    pools: list[list[int]] = []
    for index in order:
        pools.append([index])
        while len(pools) > 1 and _start(pools[-1], wanted, gap) < _start(pools[-2], wanted, gap) + gap * len(pools[-2]):
            last = pools.pop()
            pools[-1] += last
    placed = [0.0] * len(wanted)
    floor = low
    for pool in pools:
        start = max(_start(pool, wanted, gap), floor)
        for position, index in enumerate(pool):
            placed[index] = start + position * gap
        floor = start + gap * len(pool)
    ceiling = high
    for index in reversed(order):
        placed[index] = min(placed[index], ceiling)
        ceiling = placed[index] - gap
    return placed


def _start(pool: Sequence[int], wanted: Sequence[float], gap: float) -> float:
    return sum(wanted[index] for index in pool) / len(pool) - gap * (len(pool) - 1) / 2

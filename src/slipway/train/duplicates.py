"""Which texts say almost the same: by shared runs of characters, in time that grows with the number of texts."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy
from numpy.typing import NDArray

RUN = 5
ALIKE = 0.7
"""Texts that share so much of their runs of five characters (Jaccard) count as near duplicates."""
HASHES, BANDS = 64, 16
PRIME = (1 << 31) - 1
SPACES = re.compile(r"\W+")


def normalise(text: str) -> str:
    """Lower case, and every run of other signs than letters and digits as one space."""
    return SPACES.sub(" ", text.lower()).strip()


def near_duplicates(texts: Sequence[str], *, alike: float = ALIKE) -> Iterator[tuple[int, int, float]]:
    """Pairs of places (first < second) whose texts are alike, with how much; equal texts are 1.0.

    Candidates come from MinHash in bands (Broder 1997; Leskovec et al., Mining of Massive Datasets, 3.4), and each is
    checked exactly.
    """
    runs = [runs_of(text) for text in texts]
    found: set[tuple[int, int]] = set()
    for places in _buckets(runs).values():
        first = places[0]
        # Members of a bucket are compared with its first one: clusters grow by chains, and time stays linear.
        found.update((min(first, place), max(first, place)) for place in places[1:])
    for one, other in sorted(found):
        share = jaccard(runs[one], runs[other])
        if share >= alike:
            yield one, other, share


def runs_of(text: str) -> frozenset[int]:
    """Hashes of every run of five characters of the normalised text."""
    plain = normalise(text)
    return frozenset(_hash(plain[place : place + RUN]) for place in range(max(1, len(plain) - RUN + 1)))


def jaccard(one: frozenset[int], other: frozenset[int]) -> float:
    """Shared share of two sets."""
    return len(one & other) / len(one | other) if one or other else 1.0


def clusters(size: int, pairs: Sequence[tuple[int, int, float]]) -> list[int]:
    """For each place the smallest place that it is connected to by pairs."""
    roots = list(range(size))

    def root(place: int) -> int:
        while roots[place] != place:
            roots[place] = roots[roots[place]]
            place = roots[place]
        return place

    for one, other, _ in pairs:
        low, high = sorted((root(one), root(other)))
        roots[high] = low
    return [root(place) for place in range(size)]


def _buckets(runs: Sequence[frozenset[int]]) -> dict[tuple[int, bytes], list[int]]:
    rng = numpy.random.default_rng(0)
    factors = rng.integers(1, PRIME, size=(HASHES, 1), dtype=numpy.int64)
    offsets = rng.integers(0, PRIME, size=(HASHES, 1), dtype=numpy.int64)
    buckets: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    rows = HASHES // BANDS
    for place, one in enumerate(runs):
        values: NDArray[numpy.int64] = numpy.fromiter(one, dtype=numpy.int64, count=len(one))
        signature = ((factors * values + offsets) % PRIME).min(axis=1)
        for band in range(BANDS):
            buckets[band, signature[band * rows : (band + 1) * rows].tobytes()].append(place)
    return {key: places for key, places in buckets.items() if len(places) > 1}


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little") & (PRIME >> 1)

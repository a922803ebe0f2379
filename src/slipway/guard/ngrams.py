"""Hashed n-grams of words and characters with their places, by whole-array arithmetic."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BITS = 18
"""Buckets are numbered with this many bits."""
BUCKETS = 1 << BITS
CHARACTERS = (3, 4, 5)
WORDS = (1, 2, 3)

_PRIME = 1099511628211
_INVERSE = pow(_PRIME, -1, 1 << 64)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(64 - BITS)
_FOLD = np.uint64(29)

_LETTER = np.zeros(256, dtype=bool)
_LETTER[[*range(48, 58), *range(97, 123), *range(128, 256), 39]] = True

_powers = np.ones(1, dtype=np.uint64)
_inverses = np.ones(1, dtype=np.uint64)


class Grams(NamedTuple):
    """N-grams of a text: bucket and place (byte offset of the first character) of each; `size` is bytes of the text."""

    buckets: NDArray[np.int64]
    places: NDArray[np.int64]
    size: int


def grams(text: str) -> Grams:
    """N-grams of the text in lower case with single spaces. Linear in its length."""
    raw = np.frombuffer(f" {' '.join(text.lower().split())} ".encode("utf-8", "replace"), dtype=np.uint8)
    size = len(raw)
    powers, inverses = _tables(size)
    sums = np.zeros(size + 1, dtype=np.uint64)
    np.cumsum((raw.astype(np.uint64) + np.uint64(1)) * powers[:size], out=sums[1:])
    buckets = [np.zeros(0, dtype=np.int64)]
    places = [np.zeros(0, dtype=np.int64)]
    for length in CHARACTERS:
        if size >= length:
            values = (sums[length:] - sums[:-length]) * inverses[: size + 1 - length]
            buckets.append(_bucket(values, length))
            places.append(np.arange(size + 1 - length))
    letter = _LETTER[raw]
    starts = np.flatnonzero(letter[1:] & ~letter[:-1]) + 1
    ends = np.flatnonzero(letter[:-1] & ~letter[1:]) + 1
    value = (sums[ends] - sums[starts]) * inverses[starts] * _MIX
    value ^= value >> _FOLD
    joined = value
    for length in WORDS:
        if len(starts) < length:
            break
        if length > 1:
            joined = joined[:-1] * np.uint64(_PRIME) + value[length - 1 :]
        buckets.append(_bucket(joined, 16 + length))
        places.append(starts[: len(joined)])
    return Grams(np.concatenate(buckets), np.concatenate(places), size)


def _bucket(values: NDArray[np.uint64], salt: int) -> NDArray[np.int64]:
    mixed = (values + np.uint64(salt)) * _MIX
    mixed ^= mixed >> _FOLD
    return ((mixed * _MIX) >> _SHIFT).astype(np.int64)


def _tables(size: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Powers of the prime and of its inverse modulo 2^64, made once."""
    global _powers, _inverses
    if len(_powers) <= size:
        length = max(4096, 2 * size)
        base = np.full(length, _PRIME, dtype=np.uint64)
        inverse = np.full(length, _INVERSE, dtype=np.uint64)
        base[0] = inverse[0] = 1
        _inverses = np.cumprod(inverse)
        _powers = np.cumprod(base)
    return _powers, _inverses

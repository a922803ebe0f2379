"""Blocks of the word index: which of up to 4,096 traces hold which words, as sorted numbers, without the words.

A word becomes a term of 52 bits: its first four bytes, so that beginnings stay neighbours, and a hash of 20 bits over
its first and last eight bytes and its length. A posting is a term and the slot of a trace in its block, 12 bits. The
postings of a block are cut by first letter into buckets, so that looking for a word reads one bucket of each block.
"""

import struct
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import zstandard
from numpy.typing import NDArray

from slipway.store.words import LONGEST_WORD, words_of

Terms = NDArray[np.uint64]
Postings = NDArray[np.uint64]
"""Sorted and unique: term << 12 | slot."""
Slots = NDArray[np.int64]

SLOT_BITS = 12
MOST_SLOTS = 1 << SLOT_BITS
HASH_BITS = 20
EXACT_BEGINNING = 4
"""A beginning of up to four bytes is found exactly; of a longer one, only these four are compared."""
_SLOT = np.uint64(SLOT_BITS)
_SLOT_MASK = np.uint64(MOST_SLOTS - 1)
_HEAD = struct.Struct("<II")
_PAD = bytes(16)
PIECE = 48 << 10
"""Bytes that are cut at once: their arrays fit into the cache of a core."""
# Letters stay, capitals become small, bytes beyond ASCII are letters of folded words; everything else separates.
_FOLD = bytes(
    ord(chr(byte).lower()) if byte < 128 and chr(byte).isalnum() else byte if byte >= 128 else 0 for byte in range(256)
)
_LENGTHS = np.arange(LONGEST_WORD + 1, dtype=np.uint64)
_SHORT = np.minimum(_LENGTHS, np.uint64(8)) * np.uint64(8)
# Words of fewer than eight bytes: what belongs to them of the eight bytes from their start, and of those to their end.
_FIRST = np.array([(1 << int(bits)) - 1 for bits in _SHORT], dtype=np.uint64)
_LAST = np.array([((1 << int(bits)) - 1) << (64 - int(bits)) for bits in _SHORT], dtype=np.uint64)
_LENGTH_MIX = _LENGTHS * np.uint64(0x165667B19E3779F9)
_BOUNDS = np.array([*b"abcdefgijmnpqstu", 128], dtype=np.uint64) << np.uint64(24 + HASH_BITS)
BUCKETS = len(_BOUNDS) + 1
_NOTHING: Slots = np.empty(0, np.int64)
_compressor = zstandard.ZstdCompressor(level=1)
_decompressor = zstandard.ZstdDecompressor()


class Wanted(NamedTuple):
    """What is looked for: terms from `low` up to `high` in one bucket. Not `exact`: they may only begin alike."""

    bucket: int
    low: int
    high: int
    exact: bool


def wanted(word: str) -> Wanted:
    """A word as `query_words` gives it, or with a star at its end, a beginning."""
    if word.endswith("*"):
        raw = word[:-1].encode()
        head = raw[:EXACT_BEGINNING]
        low = int.from_bytes(head.ljust(4, b"\0"), "big") << HASH_BITS
        high = (int.from_bytes(head.ljust(4, b"\xff"), "big") + 1) << HASH_BITS
        exact = len(raw) <= EXACT_BEGINNING
    else:
        raw = word.encode()
        postings = postings_of([raw])
        low = int(postings[0] >> _SLOT) if len(postings) == 1 else 0
        high = low + 1
        exact = True
    bucket = int(np.searchsorted(_BOUNDS, np.uint64(low), side="right"))
    return Wanted(bucket, low, high, exact)


def searchable(text: str) -> bytes:
    """The bytes that are cut into words: ASCII as it is, other texts as their folded words.

    Cutting is left to `postings_of`, for many texts at once.
    """
    return text.encode() if text.isascii() else " ".join(words_of(text)).encode("utf-8", "replace")


def postings_of(lines: Sequence[bytes]) -> Postings:
    """The words of each line, whose place is its slot. At most 4,096 lines of what `searchable` gives."""
    pieces = []
    begin = size = 0
    for end, line in enumerate(lines, start=1):
        size += len(line) + 1
        if size > PIECE or end == len(lines):
            pieces.append(_cut(lines[begin:end], begin))
            begin, size = end, 0
    if not pieces:
        return np.empty(0, np.uint64)
    return _sorted(_unique(_grouped(np.concatenate(pieces))))


def _cut(lines: Sequence[bytes], first_slot: int) -> Postings:
    """Every word of some lines, in the order of the text: few enough that their arrays stay near the processor."""
    joined = b"".join([_PAD, b"\0".join(lines), _PAD]).translate(_FOLD)
    breaks = np.flatnonzero(np.frombuffer(joined, np.uint8) == 0)
    lengths = np.diff(breaks) - 1
    kept = np.flatnonzero((lengths > 0) & (lengths <= LONGEST_WORD))
    starts, lengths = breaks[kept] + 1, lengths[kept]
    ends_of_lines = np.cumsum([len(line) + 1 for line in lines]) + len(_PAD)
    words_before = np.searchsorted(starts, ends_of_lines)
    slots = np.arange(first_slot, first_slot + len(lines), dtype=np.uint64)
    return _terms(joined, starts, lengths) << _SLOT | np.repeat(slots, np.diff(words_before, prepend=0))


def find_in(body: bytes, what: Wanted) -> Slots:
    """Slots that hold what is wanted, in order. `body` is a bucket that may hold it."""
    count, _ = _HEAD.unpack_from(body)
    # A view and a bisection of its own: numpy takes longer to be called than to look.
    terms = memoryview(body)[_HEAD.size : _HEAD.size + 8 * count].cast("Q")
    first = bisect_left(terms, what.low)
    end = bisect_left(terms, what.high, first)
    return np.unique(_slots(body, first, end)) if first < end else _NOTHING


def count_in(body: bytes, what: Wanted) -> int:
    """Number of postings of what is wanted, without a look at the slots."""
    count, _ = _HEAD.unpack_from(body)
    terms = memoryview(body)[_HEAD.size : _HEAD.size + 8 * count].cast("Q")
    first = bisect_left(terms, what.low)
    end = bisect_left(terms, what.high, first)
    return int(np.frombuffer(body, "<u2", end - first, _HEAD.size + 8 * count + 2 * first).sum()) if first < end else 0


def cut_in_buckets(postings: Postings) -> list[tuple[int, bytes]]:
    """(bucket, body) of every bucket that holds something."""
    terms = postings >> _SLOT
    cuts = [0, *np.searchsorted(terms, _BOUNDS).tolist(), len(postings)]
    return [(bucket, encode(postings[begin:end])) for bucket, (begin, end) in enumerate(pairwise(cuts)) if begin < end]


def encode(postings: Postings) -> bytes:
    """Terms to search in as they are, the number of slots of each, and the slots as differences in two planes."""
    terms = postings >> _SLOT
    new = np.flatnonzero(np.concatenate(([True], terms[1:] != terms[:-1])))
    slots = (postings & _SLOT_MASK).astype(np.uint16)
    steps = np.diff(slots, prepend=np.uint16(0))
    steps[new] = slots[new]
    counts = np.diff(new, append=len(postings)).astype("<u2")
    head = _HEAD.pack(len(new), len(postings))
    # The low bytes of the differences hardly get smaller; the high ones are nearly all zero.
    low, high = (steps & 0xFF).astype(np.uint8).tobytes(), (steps >> 8).astype(np.uint8).tobytes()
    return b"".join((head, terms[new].astype("<u8").tobytes(), counts.tobytes(), low, _compressor.compress(high)))


def decode(body: bytes) -> Postings:
    """The postings that were encoded."""
    count, total = _HEAD.unpack_from(body)
    terms = np.frombuffer(body, "<u8", count, _HEAD.size)
    counts = np.frombuffer(body, "<u2", count, _HEAD.size + 8 * count)
    if not total:
        return np.empty(0, np.uint64)
    return np.repeat(terms.astype(np.uint64), counts) << _SLOT | _slots(body, 0, count).astype(np.uint64)


def without_slots(postings: Postings, slots: Iterable[int]) -> Postings:
    """The postings of all other slots."""
    gone = np.zeros(MOST_SLOTS, np.bool_)
    gone[list(slots)] = True
    return postings[~gone[(postings & _SLOT_MASK).astype(np.int64)]]


def merge(blocks: Sequence[tuple[Postings, NDArray[np.int64]]]) -> Postings:
    """Postings of several blocks as one; each comes with the new slot of each of its slots."""
    moved = [
        (postings & ~_SLOT_MASK) | slots[(postings & _SLOT_MASK).astype(np.int64)].astype(np.uint64)
        for postings, slots in blocks
    ]
    merged = np.concatenate(moved)
    merged.sort()
    return merged


def _slots(body: bytes, first: int, end: int) -> Slots:
    """Slots of the terms from `first` to `end`, in the order of the terms."""
    count, total = _HEAD.unpack_from(body)
    at = _HEAD.size + 8 * count
    counts = np.frombuffer(body, "<u2", count, at).astype(np.int64)
    low = np.frombuffer(body, np.uint8, total, at + 2 * count)
    high = np.frombuffer(_decompressor.decompress(body[at + 2 * count + total :], max_output_size=total), np.uint8)
    begin, stop = int(counts[:first].sum()), int(counts[:end].sum())
    steps = low[begin:stop].astype(np.int64) + (high[begin:stop].astype(np.int64) << 8)
    sums = np.cumsum(steps)
    # Differences begin anew with every term: what the terms before added up to is taken off again.
    ends = np.cumsum(counts[first:end])
    before = np.concatenate(([0], sums[ends[:-1] - 1]))
    slots: Slots = sums - np.repeat(before, counts[first:end])
    return slots


def _terms(joined: bytes, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Terms:
    # Eight bytes from every place on, as numbers; the padding keeps the first and the last of them inside.
    eights = np.lib.stride_tricks.as_strided(
        np.frombuffer(joined, "<u8", 1), shape=(len(joined) - 7,), strides=(1,), writeable=False
    )
    first = eights[starts] & _FIRST[lengths]
    last = eights[starts + lengths - 8] & _LAST[lengths]
    mixed = first * np.uint64(0x9E3779B97F4A7C15) ^ last * np.uint64(0xC2B2AE3D27D4EB4F) ^ _LENGTH_MIX[lengths]
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    beginning = (first & np.uint64(0xFFFFFFFF)).astype("<u4").byteswap().astype(np.uint64)
    terms: Terms = beginning << np.uint64(HASH_BITS) | mixed >> np.uint64(64 - HASH_BITS)
    return terms


def _grouped(postings: Postings) -> Postings:
    """Postings with equal terms side by side, slots in their order, terms in none.

    A sort by 16 bits of a hash, in linear time: a comparing sort of so many numbers takes several times as long. Where
    terms have the same 16 bits, their runs are torn; `_sorted` lays them beside each other, and that is all it takes.
    """
    mixed = (postings >> _SLOT) * np.uint64(0x9E3779B97F4A7C15)
    return postings[np.argsort((mixed >> np.uint64(48)).astype(np.uint16), kind="stable")]


def _sorted(postings: Postings) -> Postings:
    """Groups of equal terms in the order of the terms."""
    if not len(postings):
        return postings
    terms = postings >> _SLOT
    begins = np.flatnonzero(np.concatenate(([True], terms[1:] != terms[:-1])))
    sizes = np.diff(begins, append=len(postings))
    order = np.argsort(terms[begins], kind="stable")
    begins, sizes = begins[order], sizes[order]
    # Where each group comes from, less where it goes to, gives the way of each of its members.
    ways = begins - (np.cumsum(sizes) - sizes)
    return postings[np.repeat(ways, sizes) + np.arange(len(postings))]


def _unique(postings: Postings) -> Postings:
    if not len(postings):
        return postings
    return postings[np.concatenate(([True], postings[1:] != postings[:-1]))]

"""What the prompt-attack model sees of a text: n-grams of a whole turn, and of each sentence of a document.

A user's turn is judged as a whole; what is said to the assistant in a document is a sentence or two out of place, so
documents are judged sentence by sentence, each with what tells it apart from its neighbours.
"""

import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slipway.guard.ngrams import CHARACTERS, Grams, grams

Floats = NDArray[np.float64]

TURN_SIGNS = 24
SENTENCE_SIGNS = 16
WINDOW = 64
TAIL = 80
"""Bytes at the end of a turn in which appended noise is looked for."""

_BREAK = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9\u00c0-\u00de])|\n+|(?<=[。！？])")
_WORD = re.compile(r"[^\W\d_]{3,}")
_COMMON = frozenset(
    [
        "the",
        "and",
        "for",
        "are",
        "was",
        "with",
        "that",
        "this",
        "from",
        "you",
        "your",
        "have",
        "has",
        "not",
        "but",
        "can",
        "will",
        "all",
        "any",
        "which",
        "who",
        "what",
        "when",
        "where",
        "how",
        "why",
        "its",
        "his",
        "her",
        "they",
        "their",
        "our",
        "been",
        "were",
        "one",
        "also",
        "into",
        "than",
        "then",
        "there",
        "here",
        "out",
        "about",
        "over",
        "more",
        "most",
        "some",
        "such",
        "only",
        "other",
        "use",
        "using",
        "used",
    ]
)
_UPPER = np.zeros(256, dtype=bool)
_UPPER[65:91] = True
_LOWER = np.zeros(256, dtype=bool)
_LOWER[97:123] = True
_SIGN = np.ones(256, dtype=bool)
_SIGN[[32, *range(48, 58), *range(65, 91), *range(97, 123), *range(128, 256)]] = False


class Sentences(NamedTuple):
    """Sentences of a document as [start, end) of its text, with the n-grams of the whole.

    `owner` is the number of the sentence that each n-gram begins in; `signs` has one row a sentence and SENTENCE_SIGNS
    columns; `long_enough` is False for scraps of a word or two.
    """

    spans: list[tuple[int, int]]
    grams: Grams
    owner: NDArray[np.int64]
    signs: Floats
    long_enough: NDArray[np.bool_]


def turn_signs(text: str, found: Grams, seen: NDArray[np.bool_]) -> Floats:
    """How much of a turn looks like noise appended by an optimiser: unseen character sequences, odd joints of signs.

    `seen` marks buckets that occur in ordinary text. Shape (TURN_SIGNS,).
    """
    raw = np.frombuffer(f" {' '.join(text.split())} ".encode("utf-8", "replace"), dtype=np.uint8)
    size = min(found.size, len(raw))
    raw = raw[:size]
    begin = max(0, found.size - CHARACTERS[0] + 1)
    length = max(0, found.size - CHARACTERS[1] + 1)
    unseen = np.zeros(size)
    unseen[: min(length, size)] = ~seen[found.buckets[begin : begin + length]][:size]
    upper, lower, sign = _UPPER[raw], _LOWER[raw], _SIGN[raw]
    joint = np.zeros(size)
    joint[1:] = (lower[:-1] & upper[1:]) | (sign[:-1] & (sign | upper | lower)[1:])
    both = unseen * joint
    steps = ((0.3, 0.5, 0.7), (0.1, 0.2, 0.3), (0.06, 0.12, 0.2))
    values: list[float] = []
    for measured in ([_densest(one) for one in (unseen, joint, both)], [_tail(one) for one in (unseen, joint, both)]):
        for value, bounds in zip(measured, steps, strict=True):
            values += [value, *(float(value > bound) for bound in bounds)]
    return np.array(values)


def _densest(marks: Floats) -> float:
    """The largest share of marks in a window."""
    sums = np.concatenate([[0.0], np.cumsum(marks)])
    if len(marks) <= WINDOW:
        return float(sums[-1]) / WINDOW
    return float((sums[WINDOW:] - sums[:-WINDOW]).max()) / WINDOW


def _tail(marks: Floats) -> float:
    return float(marks[-TAIL:].mean()) if len(marks) else 0.0


def split_sentences(text: str) -> list[tuple[int, int]]:
    """[start, end) of sentences and lines."""
    spans: list[tuple[int, int]] = []
    start = 0
    for gap in _BREAK.finditer(text):
        if text[start : gap.start()].strip():
            spans.append((start, gap.start()))
        start = gap.end()
    if text[start:].strip():
        spans.append((start, len(text)))
    return spans


def read_sentences(text: str) -> Sentences:
    """The sentences of a document with their n-grams and signs. Linear in its length."""
    spans = split_sentences(text)
    shown = [text[start:end].split() for start, end in spans]
    lines = [" ".join(words) for words in shown]
    found = grams(" ".join(lines))
    sizes = [len(line.lower().encode("utf-8", "replace")) + 1 for line in lines]
    ends = np.cumsum([0, *sizes])
    owner = np.clip(np.searchsorted(ends, found.places, side="right") - 1, 0, max(0, len(spans) - 1))
    signs = _sentence_signs(text, spans, shown)
    return Sentences(spans, found, owner, signs, np.array([len(words) > 2 for words in shown], dtype=bool))


def _sentence_signs(text: str, spans: list[tuple[int, int]], shown: list[list[str]]) -> Floats:
    """What sets a sentence apart: place, length, form, and how many of its words occur elsewhere in the document."""
    content = [{word[:6] for word in _WORD.findall(text[a:b].lower()) if word not in _COMMON} for a, b in spans]
    counts: dict[str, int] = {}
    for words in content:
        for word in words:
            counts[word] = counts.get(word, 0) + 1
    many = len(spans)
    signs = np.zeros((many, SENTENCE_SIGNS))
    for number, ((start, end), words, tokens) in enumerate(zip(spans, content, shown, strict=True)):
        line = text[start:end].strip()
        shared = sum(counts[word] > 1 for word in words) / len(words) if words else 0.5
        size = len(tokens)
        length = max(1, len(line))
        signs[number] = (
            line.endswith("?"),
            number == 0,
            number == many - 1,
            shared,
            shared * (many > 3),
            size < 4,
            4 <= size <= 30,
            size > 40,
            start > 0 and text[start - 1] == "\n",
            end < len(text) and text[end] == "\n",
            many == 1,
            line[:1].isupper(),
            line[-1:] in ".!?",
            line.endswith(":"),
            sum(map(str.isdigit, line)) / length,
            sum(not sign.isalnum() and sign != " " for sign in line) / length,
        )
    return signs

"""Shared words, n-grams, rarity and the longest common run of two texts."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from slipway.text.stems import stem
from slipway.text.stop_words import STOP_WORDS, stop_words_of

UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Characters of Chinese and Japanese, which set no spaces: each counts as a word, and neighbours as a pair."""
UNSPACED_CHARACTER = re.compile(f"[{UNSPACED}]")
SPACED = rf"[^\W_{UNSPACED}]+"
WORD = re.compile(rf"\d+(?:[.,]\d+)+|[{UNSPACED}]|{SPACED}(?:['’](?!s\b){SPACED})*")
POSSESSIVE = re.compile(r"['’]s\b")


def words(text: str) -> list[str]:
    """Lower-case words in order; `1,000.5` stays whole, `max_tokens` and `re-use` fall apart, `'s` goes.

    Chinese and Japanese fall apart into characters. An accent is one with its letter, however it was written.
    """
    return WORD.findall(POSSESSIVE.sub("", unicodedata.normalize("NFC", text).lower()))


def content_words(text: str) -> list[str]:
    """Stems of the words that carry meaning, in order."""
    return [stem(word) for word in words(text) if word not in STOP_WORDS]


def sets_no_spaces(text: str) -> bool:
    """Whether it is mostly Chinese or Japanese."""
    return 2 * len(UNSPACED_CHARACTER.findall(text)) > sum(map(str.isalpha, text))


def space_out(text: str) -> str:
    """The text with spaces around every character of Chinese and Japanese, for an index that cuts words at spaces."""
    return UNSPACED_CHARACTER.sub(r" \g<0> ", text)


def asked_words(question: str) -> list[str]:
    """The words of a question that carry meaning, in order; what carries none is told by the question's language."""
    found = words(question)
    stop_words = stop_words_of(tuple(found))
    return [word for word in found if word not in stop_words]


def asked_stems(question: str) -> list[str]:
    """Their stems."""
    return [stem(word) for word in asked_words(question)]


def ngrams(items: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """Every run of `n` neighbours, in order."""
    return [tuple(items[at : at + n]) for at in range(len(items) - n + 1)]


def rarity(texts: Iterable[Iterable[str]]) -> dict[str, float]:
    """Inverse document frequency of every word: ln(1 + (N - n + 0.5) / (n + 0.5)), as in BM25 (Robertson 2009)."""
    counts: Counter[str] = Counter()
    total = 0
    for text in texts:
        counts.update(set(text))
        total += 1
    return {word: math.log(1 + (total - n + 0.5) / (n + 0.5)) for word, n in counts.items()}


def coverage(asked: Iterable[str], given: Iterable[str], weights: Mapping[str, float] | None = None) -> float:
    """Share of the distinct words of `asked` that stand in `given`, 0 to 1, each weighted by its rarity.

    A word that `weights` lacks weighs as much as the rarest. Nothing asked gives 0.
    """
    wanted = set(asked)
    if not wanted:
        return 0.0
    there = wanted & set(given)
    if weights is None:
        return len(there) / len(wanted)
    most = max(weights.values(), default=1.0)
    total = sum(weights.get(word, most) for word in wanted)
    return sum(weights.get(word, most) for word in there) / total if total else 0.0


def longest_common_run(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest stretch of neighbours that stands in both."""
    best = 0
    before = [0] * (len(b) + 1)
    for item in a:
        row = [0] * (len(b) + 1)
        for at, other in enumerate(b):
            if item == other:
                row[at + 1] = before[at] + 1
                best = max(best, row[at + 1])
        before = row
    return best


def token_f1(text: Sequence[str], expected: Sequence[str]) -> float:
    """Harmonic mean of precision and recall over words with their counts, as SQuAD scores answers."""
    if not text or not expected:
        return float(not text and not expected)
    shared = sum((Counter(text) & Counter(expected)).values())
    return 2 * shared / (len(text) + len(expected))

"""Drift of inputs: do today's questions look like those before? Lengths, words, languages, topics."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy

from slipway.embedders.base import Embedder
from slipway.text.overlap import words

STEADY, NOTABLE = 0.1, 0.25
"""Usual reading of the population stability index: below 0.1 steady, above 0.25 a shift."""
FEWEST = 20
"""Fewest questions on each side for a verdict."""
SCRIPTS = {
    "latin": re.compile(r"[A-Za-z\u00c0-\u024f]"),
    "cyrillic": re.compile(r"[\u0400-\u04ff]"),
    "greek": re.compile(r"[\u0370-\u03ff]"),
    "arabic": re.compile(r"[\u0600-\u06ff]"),
    "devanagari": re.compile(r"[\u0900-\u097f]"),
    "cjk": re.compile(r"[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """One property of the questions: population stability index, and examples of what is new."""

    what: Literal["length", "words", "script", "meaning"]
    index: float
    verdict: Literal["steady", "notable", "shifted", "too few"]
    detail: str
    examples: tuple[str, ...] = ()


def measure_drift(before: Sequence[str], after: Sequence[str], *, embedder: Embedder | None = None) -> list[Shift]:
    """Shifts from the questions `before` to those `after`.

    The population stability index (PSI) is the symmetrised Kullback-Leibler divergence of binned shares, as used in
    credit scoring (Siddiqi, Credit Risk Scorecards, 2006). `meaning` needs an embedder: the share of new questions
    that are farther from their nearest old one than 95 % of the old ones are from each other.
    """
    if min(len(before), len(after)) < FEWEST:
        detail = f"{len(before)} questions before and {len(after)} after; {FEWEST} on each side are needed"
        return [Shift(what="length", index=0.0, verdict="too few", detail=detail)]
    shifts = [_lengths(before, after), _words(before, after), _scripts(before, after)]
    if embedder is not None:
        shifts.append(_meaning(before, after, embedder))
    return shifts


def stability_index(before: Sequence[float], after: Sequence[float]) -> float:
    """PSI of two lists of shares over the same bins; empty bins are smoothed with half a count in 1000."""
    floor = 0.0005
    return sum(
        (max(new, floor) - max(old, floor)) * math.log(max(new, floor) / max(old, floor))
        for old, new in zip(before, after, strict=True)
    )


def _lengths(before: Sequence[str], after: Sequence[str]) -> Shift:
    old, new = ([len(words(text)) for text in side] for side in (before, after))
    # Between whole numbers, so that texts of one length are told from longer and from shorter ones.
    edges = sorted({min(old) - 0.5, *(float(edge) + 0.5 for edge in numpy.quantile(old, [0.1, 0.25, 0.5, 0.75, 0.9]))})
    index = stability_index(_binned(old, edges), _binned(new, edges))
    detail = f"median {numpy.median(old):.0f} words before, {numpy.median(new):.0f} after"
    return Shift(what="length", index=index, verdict=_verdict(index, len(edges) + 1, before, after), detail=detail)


def _words(before: Sequence[str], after: Sequence[str]) -> Shift:
    known = {word for text in before for word in words(text)}
    share = [_unknown_share(text, known) for text in after]
    # How unknown a question's words are when it is left out of the old ones: what "normal" looks like.
    counts = Counter(word for text in before for word in set(words(text)))
    normal = [_unknown_share(text, {word for word in known if counts[word] > 1}) for text in before]
    edges = [0.001, 0.2, 0.4, 0.6]
    index = stability_index(_binned(normal, edges), _binned(share, edges))
    strange = sorted(zip(share, after, strict=True), reverse=True)[:3]
    return Shift(
        what="words",
        index=index,
        verdict=_verdict(index, len(edges) + 1, before, after),
        detail=f"{numpy.mean(share):.0%} of the words were never asked before ({numpy.mean(normal):.0%} is usual)",
        examples=tuple(text for unknown, text in strange if unknown > 0),
    )


def _scripts(before: Sequence[str], after: Sequence[str]) -> Shift:
    names = list(SCRIPTS)
    old, new = ([Counter(map(script_of, side))[name] / len(side) for name in names] for side in (before, after))
    index = stability_index(old, new)
    grown = max(zip(names, old, new, strict=True), key=lambda row: row[2] - row[1])
    detail = f"{grown[0]} {grown[1]:.0%} before, {grown[2]:.0%} after"
    examples = tuple(text for text in after if script_of(text) == grown[0])[:3] if index >= STEADY else ()
    verdict = _verdict(index, len(names), before, after)
    return Shift(what="script", index=index, verdict=verdict, detail=detail, examples=examples)


def _meaning(before: Sequence[str], after: Sequence[str], embedder: Embedder) -> Shift:
    old, new = embedder.embed(before), embedder.embed(after)
    among = old @ old.T
    numpy.fill_diagonal(among, -1.0)
    usual = among.max(axis=1)
    limit = float(numpy.quantile(usual, 0.05))
    nearest = (new @ old.T).max(axis=1)
    far = float((nearest < limit).mean())
    index = stability_index([0.95, 0.05], [1 - far, far])
    order = numpy.argsort(nearest)[:3]
    return Shift(
        what="meaning",
        index=index,
        verdict=_verdict(index, 2, before, after),
        detail=f"{far:.0%} of the questions are unlike any before (5 % is usual)",
        examples=tuple(after[number] for number in order if nearest[number] < limit),
    )


def script_of(text: str) -> str:
    """The writing system that most letters belong to; latin where there are none."""
    counts = {name: len(pattern.findall(text)) for name, pattern in SCRIPTS.items()}
    return max(counts, key=lambda name: counts[name])


def _unknown_share(text: str, known: set[str]) -> float:
    found = words(text)
    return sum(word not in known for word in found) / len(found) if found else 0.0


def _binned(values: Sequence[float], edges: Sequence[float]) -> list[float]:
    counts = numpy.bincount(numpy.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return [float(count) / len(values) for count in counts]


def _verdict(
    index: float, bins: int, before: Sequence[str], after: Sequence[str]
) -> Literal["steady", "notable", "shifted"]:
    """An index that chance alone reaches once in a hundred times is steady, however large it looks."""
    if index < max(STEADY, chance_index(bins, len(before), len(after))):
        return "steady"
    return "notable" if index < NOTABLE else "shifted"


def chance_index(bins: int, before: int, after: int) -> float:
    """The index that two samples of the same kind stay below 99 times of 100.

    The index times n m / (n + m) follows a chi-square distribution with bins - 1 degrees of freedom (Yurdakul,
    Statistical Properties of Population Stability Index, 2018); its quantile by Wilson and Hilferty (1931).
    """
    degrees, z = bins - 1, 2.326
    quantile = degrees * (1 - 2 / (9 * degrees) + z * math.sqrt(2 / (9 * degrees))) ** 3
    return quantile * (1 / before + 1 / after)

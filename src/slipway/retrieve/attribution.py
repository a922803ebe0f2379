"""Tells what an answer came from: which passages support its sentences, the share of each, and what none supports."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from slipway.embedders.base import Embedder
from slipway.engines.extractive import EMBEDDER
from slipway.text.markdown import plain_text, split_units
from slipway.text.overlap import content_words, rarity, words
from slipway.text.sentences import Span

Support = Literal["words", "similar", "none", "nothing to support"]

BARE = frozenset(content_words("yes sure okay correct"))
CITATION_MARK = re.compile(r"\[\d{1,3}\]")
SUPPORTED_FROM = 0.6
"""Share of a sentence's content words that have to stand side by side in one passage."""
SIMILAR_FROM = 0.6
"""Cosine from which a sentence that shares too few words counts as similar."""
NEIGHBOURS = 2
"""Sentences of a passage that are read together: an answer often joins two."""
CANDIDATES = 3
"""Places of the passages that a sentence is compared with by embedding."""
MOST_EMBEDDED = 40
"""Sentences of an answer that are embedded at most."""


class Source(NamedTuple):
    """A passage that an answer was made from. `start` is where its text begins in the document."""

    document: str
    start: int
    end: int
    text: str
    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """A sentence of the answer, [start, end) of its text, with the place that supports it best.

    `words` are its content words, `supported_words` those of them that stand in that place. `passage` is a place in
    the list of passages, None where none supports it. `evidence_start` and `evidence_end` are characters of the
    document. `similarity` is a cosine, None where no embedder was asked.
    """

    start: int
    end: int
    text: str
    support: Support
    words: int
    supported_words: int
    passage: int | None = None
    evidence_start: int = 0
    evidence_end: int = 0
    missing_numbers: tuple[str, ...] = ()
    similarity: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """What one passage gave to an answer. `share` is its part of the answer's content words, 0 to 1."""

    document: str
    start: int
    end: int
    score: float | None
    sentences: int
    words: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """An answer taken apart. The shares of the passages and `unsupported` together make 1, where anything was said.

    `measure` names how support was measured.
    """

    answer: str
    sentences: tuple[Sentence, ...]
    passages: tuple[Contribution, ...]
    words: int
    unsupported: float
    measure: str

    @property
    def without_support(self) -> tuple[Sentence, ...]:
        """Sentences that no passage supports by words or by similarity."""
        return tuple(sentence for sentence in self.sentences if sentence.support == "none")


class _Place(NamedTuple):
    """Some neighbouring sentences of a passage: [start, end) of its text."""

    passage: int
    start: int
    end: int
    words: frozenset[str]
    numbers: frozenset[str]


class _Best(NamedTuple):
    place: _Place
    covered: float
    shared: int


def attribute(answer: str, sources: Sequence[Source], *, embedder: Embedder | None = None) -> Attribution:
    """Which passage supports each sentence of an answer, by the words that they share.

    A sentence is supported where at least `SUPPORTED_FROM` of its content words (stems, the rare ones weighing more)
    and every number of it stand in two neighbouring sentences of one passage. This tells where words come from; it
    does not tell that a sentence is true: a "not" that was left out goes unseen. A sentence that shares too few words
    is compared by embedding where the embedder runs on this machine, and called similar from a cosine of
    `SIMILAR_FROM`. Sentences without a content word ("Yes.") have nothing to support.
    """
    places = [place for number, source in enumerate(sources) for place in _places(number, source.text)]
    weights = rarity(place.words for place in places)
    here = embedder if embedder is not None and embedder.id.startswith(EMBEDDER) else None
    found = [_judge(answer, span, sources, places, weights) for span in _sentences(answer)]
    if here is not None:
        found = _compare(found, sources, places, weights, here)
    total = sum(sentence.words for sentence in found)
    contributions = tuple(_contribution(number, source, found, total) for number, source in enumerate(sources))
    supported = sum(each.words for each in contributions)
    return Attribution(
        answer=answer,
        sentences=tuple(found),
        passages=contributions,
        words=total,
        unsupported=(total - supported) / total if total else 0.0,
        measure=f"word overlap, then similarity by {here.id}" if here is not None else "word overlap",
    )


def _sentences(answer: str) -> list[Span]:
    return [
        span
        for span, kind in split_units(answer)
        if kind != "heading" and any(sign.isalnum() for sign in _said(answer[span.start : span.end]))
    ]


def _said(text: str) -> str:
    """A text without marks of citation such as [2]."""
    return CITATION_MARK.sub(" ", text)


def _places(number: int, text: str) -> list[_Place]:
    spans = [span for span, _ in split_units(text)]
    runs = [spans[at : at + NEIGHBOURS] for at in range(max(1, len(spans) - NEIGHBOURS + 1))] if spans else []
    return [_place(number, text, run[0].start, run[-1].end) for run in [*([span] for span in spans), *runs]]


def _place(number: int, text: str, start: int, end: int) -> _Place:
    piece = text[start:end]
    return _Place(number, start, end, frozenset(content_words(piece)), frozenset(_numbers(piece)))


def _numbers(text: str) -> list[str]:
    return [word.strip(".,") for word in words(text) if word[0].isdigit()]


def _judge(
    answer: str, span: Span, sources: Sequence[Source], places: Sequence[_Place], weights: Mapping[str, float]
) -> Sentence:
    text = answer[span.start : span.end]
    wanted = frozenset(content_words(_said(text))) - BARE
    numbers = dict.fromkeys(_numbers(_said(text)))
    if not wanted:
        return _sentence(span, text, "nothing to support", 0)
    best = _rank(wanted, places, weights)
    if not best:
        return _sentence(span, text, "none", len(wanted), missing_numbers=tuple(numbers))
    first = best[0]
    missing = tuple(number for number in numbers if number not in first.place.numbers)
    if first.covered < SUPPORTED_FROM or missing:
        return _sentence(span, text, "none", len(wanted), missing_numbers=missing)
    return _supported(_sentence(span, text, "words", len(wanted)), first.place, first.shared, sources)


def _sentence(
    span: Span, text: str, support: Support, count: int, *, missing_numbers: tuple[str, ...] = ()
) -> Sentence:
    return Sentence(
        start=span.start,
        end=span.end,
        text=text,
        support=support,
        words=count,
        supported_words=0,
        missing_numbers=missing_numbers,
    )


def _rank(wanted: frozenset[str], places: Sequence[_Place], weights: Mapping[str, float]) -> list[_Best]:
    """Places that share a word, the best first: most covered, then the shortest, then the first passage."""
    # A word that stands in no passage is as rare as any.
    rarest = max(weights.values(), default=1.0)
    total = sum(weights.get(word, rarest) for word in wanted)
    found = []
    for place in places:
        shared = wanted & place.words
        if shared:
            found.append(_Best(place, sum(weights[word] for word in shared) / total, len(shared)))
    return sorted(found, key=lambda one: (-round(one.covered, 6), one.place.end - one.place.start, one.place.passage))


def _supported(sentence: Sentence, place: _Place, shared: int, sources: Sequence[Source]) -> Sentence:
    begin = sources[place.passage].start
    return replace(
        sentence,
        supported_words=shared,
        passage=place.passage,
        evidence_start=begin + place.start,
        evidence_end=begin + place.end,
    )


def _compare(
    found: Sequence[Sentence],
    sources: Sequence[Source],
    places: Sequence[_Place],
    weights: Mapping[str, float],
    embedder: Embedder,
) -> list[Sentence]:
    """The sentences, those without support compared by embedding with the places that share most words with them."""
    open_ones = [at for at, one in enumerate(found) if one.support == "none" and one.words][:MOST_EMBEDDED]
    candidates = {
        at: _rank(frozenset(content_words(_said(found[at].text))), places, weights)[:CANDIDATES] for at in open_ones
    }
    texts = {plain_text(_said(found[at].text)) for at in open_ones if candidates[at]}
    texts |= {_text_of(one.place, sources) for several in candidates.values() for one in several}
    order = sorted(texts)
    vectors = dict(zip(order, embedder.embed(order), strict=True)) if order else {}
    compared = list(found)
    for at in open_ones:
        sentence = found[at]
        if not candidates[at]:
            continue
        own = vectors[plain_text(_said(sentence.text))]
        cosines = [float(own @ vectors[_text_of(one.place, sources)]) for one in candidates[at]]
        nearest = max(range(len(cosines)), key=cosines.__getitem__)
        # A number that stands nowhere near is not supported, however alike the rest is.
        similar = cosines[nearest] >= SIMILAR_FROM and not sentence.missing_numbers
        judged = replace(sentence, support="similar" if similar else "none", similarity=cosines[nearest])
        best = candidates[at][nearest]
        compared[at] = _supported(judged, best.place, best.shared, sources) if similar else judged
    return compared


def _text_of(place: _Place, sources: Sequence[Source]) -> str:
    return plain_text(sources[place.passage].text[place.start : place.end])


def _contribution(number: int, source: Source, found: Sequence[Sentence], total: int) -> Contribution:
    own = [sentence for sentence in found if sentence.passage == number]
    count = sum(sentence.supported_words for sentence in own)
    return Contribution(
        document=source.document,
        start=source.start,
        end=source.end,
        score=source.score,
        sentences=len(own),
        words=count,
        share=count / total if total else 0.0,
    )

"""Answers without a model: quotes the sentences of the passages that answer the question, or says that none does."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from slipway.domain.document import Passage
from slipway.domain.message import ABSTENTION, Delta, Quote, Reply, Request, Usage
from slipway.embedders.base import Embedder
from slipway.engines.base import Tools, engines
from slipway.text.evidence import (
    Source,
    Unit,
    announces,
    describe_units,
    find_units,
    take_apart,
    weigh_rows,
    whole_answer,
)
from slipway.text.markdown import plain_text
from slipway.text.overlap import asked_stems, content_words, coverage
from slipway.text.sentences import Span, split_sentences
from slipway.text.tokens import count_tokens

# Logistic weights, fitted by benchmarks/retrieve/fit_extractive.py on 7,629 questions over Wikipedia paragraphs (SQuAD
# 1.1 and 2.0, training rows), each with the passages that our own search returned; for a quarter of them the article
# that answers was left out. `under_heading` and `code` were set by hand, as encyclopaedia paragraphs have neither.
WEIGHTS = {
    "coverage": -0.05, "coverage_with_headings": 0.88, "coverage_with_neighbours": 0.22,
    "coverage_by_passage": -0.27, "headings": 0.51, "bigrams": 1.02, "rarest_missing": 0.68, "names": -0.39,
    "names_in_passage": 2.74, "matched": 2.13, "new_words": -0.49, "length": -0.44, "short": -0.28, "first": 0.11,
    "passage_score": 3.42, "telling": 1.34, "telling_with_neighbours": 3.08, "telling_by_passage": 2.97,
    "telling_missing": -0.64, "under_heading": 0.50, "best_of_passage": 0.70, "question_length": 0.96,
    "repeats_question": -0.22, "asks": 0.09, "item": 0.05, "row": 0.00, "code": -1.50, "number_found": 0.37,
    "number_missing": -1.20, "date_found": 0.47, "date_missing": -1.10, "person_found": -0.18,
    "person_missing": -0.83, "place_found": -0.29, "place_missing": -0.69, "reason_found": 0.26,
    "reason_missing": -0.04, "procedure_found": 0.09, "procedure_missing": -0.10, "definition_found": -0.10,
    "definition_missing": -0.19,
}  # fmt: skip
BIAS = -11.67
# With MiniLM the eight best by words are scored again: 0.83 of their log-odds and 5.18 of the cosine to the question.
EMBEDDED = 8
EMBEDDER = "all-MiniLM-L6-v2"
BY_WORDS, BY_COSINE, COSINE_BIAS = 0.83, 5.18, -2.31
ANNOUNCES_NOTHING = 2.0
MARGIN = 1.0
FAR_MARGIN = 4.0
"""Log-odds that a further sentence may lie below the best one; the second where it adds words of the question."""

ASKS = ("?", "\uff1f", "\u061f")
ASKS_BY_ITSELF = 2
"""Distinct content words from which on a question is understood without what was told before it."""


@dataclass(frozen=True, slots=True)
class Found:
    """A stretch of a passage that answers, with its log-odds."""

    quote: Quote
    log_odds: float


@engines.register("extractive")
@dataclass(frozen=True)
class Extractive:
    """Quotes the one to three sentences of the passages that answer the question; needs no model.

    Below the probability `threshold` it abstains. At 0.4 it keeps silent on 7 % of the questions that the passages
    answer and on 84 % of those whose article is missing; with MiniLM on 5 % and 87 % (docs/retrieve.md).
    """

    threshold: float = 0.4
    sentences: int = 3

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1 or not 1 <= self.sentences <= 10:
            raise ValueError("threshold must be between 0 and 1, and sentences between 1 and 10")

    async def complete(self, request: Request, *, tools: Tools) -> Reply:
        quotes = await asyncio.to_thread(self.find_quotes, _question(request), request.passages, tools.embedder)
        text = "".join(piece for piece, _ in _pieces(request.passages, quotes)) or ABSTENTION
        return Reply(
            text=text,
            model=request.model,
            usage=_usage(request, text),
            quotes=tuple(quotes),
            abstained=not quotes,
        )

    async def stream(self, request: Request, *, tools: Tools) -> AsyncIterator[Delta]:
        quotes = await asyncio.to_thread(self.find_quotes, _question(request), request.passages, tools.embedder)
        said = []
        for piece, quote in _pieces(request.passages, quotes):
            said.append(piece)
            yield Delta(text=piece, quotes=(quote,))
        if not quotes:
            said.append(ABSTENTION)
            yield Delta(text=ABSTENTION, abstained=True)
        yield Delta(finish="stop", usage=_usage(request, "".join(said)), abstained=not quotes)

    def find_quotes(self, question: str, passages: Sequence[Passage], embedder: Embedder | None = None) -> list[Quote]:
        """The stretches that answer, in reading order; none when the best is less probable than `threshold`."""
        best = rank_sentences(question, passages, embedder)[: self.sentences * 3]
        if not best or 1 / (1 + math.exp(-best[0].log_odds)) < self.threshold:
            return []
        asked = frozenset(asked_stems(asked_part(question)))
        open_words = asked
        chosen: list[Quote] = []
        for found in best:
            if len(chosen) == self.sentences:
                break
            said = frozenset(content_words(_text(found.quote, passages)))
            behind = best[0].log_odds - found.log_odds
            # A sentence further behind is taken where it speaks of what the ones before leave open.
            adds = len(open_words & said) >= 0.25 * len(asked)
            if behind > (FAR_MARGIN if adds else MARGIN):
                continue
            if not any(_repeats(found.quote, other, passages) for other in chosen):
                chosen.append(found.quote)
                open_words -= said
        return sorted(chosen, key=lambda quote: (quote.passage, quote.start))


def rank_sentences(question: str, passages: Sequence[Passage], embedder: Embedder | None = None) -> list[Found]:
    """Every sentence, list item, table row and line of code with its log-odds of answering, the best first.

    A sentence that announces a list, a table or code by a colon comes with it. Where a message tells something before
    it asks, each counts as it answers the whole or what is asked, whichever is more: "I am a pensioner." would else
    make every answer less probable, because the documents do not speak of pensioners.
    """
    sources = [
        Source(text=passage.text, title=passage.title, heading=passage.heading, score=passage.score)
        for passage in passages
    ]
    units = find_units(sources)
    ranked: dict[Quote, Found] = {}
    for each in dict.fromkeys([question, asked_part(question)]):
        for found in _rank(each, sources, units, embedder):
            if found.quote not in ranked or found.log_odds > ranked[found.quote].log_odds:
                ranked[found.quote] = found
    return sorted(ranked.values(), key=lambda one: -one.log_odds)


def asked_part(question: str) -> str:
    """The sentences that end in a question mark, where they ask for something by themselves; else everything."""
    asking = [sentence for sentence in split_sentences(question) if question[: sentence.end].rstrip().endswith(ASKS)]
    part = " ".join(question[sentence.start : sentence.end] for sentence in asking)
    return part if len(set(asked_stems(part))) >= ASKS_BY_ITSELF else question


def _rank(question: str, sources: Sequence[Source], units: Sequence[Unit], embedder: Embedder | None) -> list[Found]:
    asked = take_apart(question)
    if not units or not asked.stems:
        return []
    log_odds = weigh_rows(describe_units(asked, sources, units), WEIGHTS, BIAS)
    ranked = sorted(zip(units, log_odds, strict=True), key=lambda pair: -pair[1])
    if embedder is not None and embedder.id.startswith(EMBEDDER):
        ranked = _with_cosines(question, sources, ranked[:EMBEDDED], embedder)
    return [_found(sources, unit, log_odds) for unit, log_odds in ranked]


def _with_cosines(
    question: str, sources: Sequence[Source], ranked: Sequence[tuple[Unit, float]], embedder: Embedder
) -> list[tuple[Unit, float]]:
    texts = [plain_text(sources[unit.source].text[unit.start : unit.end]) for unit, _ in ranked]
    vectors = embedder.embed([question, *texts])
    cosines = vectors[1:] @ vectors[0]
    scored = [
        (unit, BY_WORDS * log_odds + BY_COSINE * float(cosine) + COSINE_BIAS)
        for (unit, log_odds), cosine in zip(ranked, cosines, strict=True)
    ]
    return sorted(scored, key=lambda pair: -pair[1])


def _found(sources: Sequence[Source], unit: Unit, log_odds: float) -> Found:
    text = sources[unit.source].text
    span = whole_answer(text, Span(unit.start, unit.end))
    # What announces a list that lies outside the passage says nothing by itself.
    if announces(text[span.start : span.end]):
        log_odds -= ANNOUNCES_NOTHING
    return Found(Quote(passage=unit.source, start=span.start, end=span.end), log_odds)


def _repeats(quote: Quote, other: Quote, passages: Sequence[Passage]) -> bool:
    """Whether two quotes overlap or say the same in nearly the same words."""
    if quote.passage == other.passage and quote.start < other.end and other.start < quote.end:
        return True
    said, again = content_words(_text(other, passages)), content_words(_text(quote, passages))
    return coverage(again, said) > 0.9


def _text(quote: Quote, passages: Sequence[Passage]) -> str:
    return passages[quote.passage].text[quote.start : quote.end]


def _pieces(passages: Sequence[Passage], quotes: Sequence[Quote]) -> list[tuple[str, Quote]]:
    """The quotes with what joins them: a space within a paragraph, else a blank line."""
    pieces: list[tuple[str, Quote]] = []
    for place, quote in enumerate(quotes):
        joint = ""
        if place:
            before = quotes[place - 1]
            between = passages[quote.passage].text[before.end : quote.start]
            flows = before.passage == quote.passage and not between.strip() and "\n\n" not in between
            joint = " " if flows else "\n\n"
        pieces.append((joint + _text(quote, passages), quote))
    return pieces


def _question(request: Request) -> str:
    """What the request asks; of a plain chat the last thing that the user said."""
    if request.question:
        return request.question
    return next((message.text for message in reversed(request.messages) if message.role == "user"), "")


def _usage(request: Request, text: str) -> Usage:
    """An estimate: this engine has no tokenizer."""
    asked = sum(count_tokens(message.text) for message in request.messages)
    return Usage(input_tokens=asked, output_tokens=count_tokens(text), estimated=True)

"""Scores the best hits of a search again, with what that cost; the order of the search stays where it fails."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slipway.domain.document import Passage
from slipway.domain.errors import ConfigError, SlipwayError
from slipway.domain.index import SearchSettings
from slipway.retrieve.asking import Spent
from slipway.retrieve.rerankers.base import Reranker, rerankers
from slipway.workspace import Workspace

PLACE = "[retrieve] reranker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reranked:
    """Passages in their new order. `failed` says why they were not scored; then they are those of the search."""

    passages: list[Passage]
    spent: Spent
    failed: str = ""


def pin_reranker(workspace: Workspace, table: Mapping[str, Any]) -> str:
    """`[retrieve] reranker` with everything that fixes its scores, as JSON; empty for none. Raises `ConfigError`."""
    if not table:
        return ""
    kind, reranker = _make(table)
    try:
        return json.dumps({"kind": kind, **reranker.pin(workspace)}, sort_keys=True)
    except ConfigError:
        raise
    except SlipwayError as wrong:
        raise ConfigError(PLACE, str(wrong)) from wrong


def reranker_of(search: SearchSettings) -> Reranker | None:
    """The reranker that an index version pins, or None."""
    return _make(json.loads(search.reranker))[1] if search.reranker else None


def before_reranking(search: SearchSettings) -> SearchSettings:
    """How candidates are found that a reranker is to score: as many as it scores, none cut off."""
    reranker = reranker_of(search)
    return search if reranker is None else replace(search, cut=0.0, limit=reranker.depth, reranker="")


async def rerank(
    workspace: Workspace, search: SearchSettings, question: str, passages: Sequence[Passage], *, limit: int = 0
) -> Reranked:
    """The passages by their new score, above the cut and at most the limit of `search`, as without a reranker.

    Where every score is 0 the order of the search stays: a reranker orders, whether the documents cover a question
    is told elsewhere. An engine that fails is noted, not raised.
    """
    reranker, limit = reranker_of(search), limit or search.limit
    if reranker is None or not passages:
        return Reranked(passages=cut_passages(passages, search, limit), spent=Spent())
    try:
        scores, spent, failed = await reranker.score(
            question, [passage.text for passage in passages], workspace=workspace
        )
    except SlipwayError as error:
        # Also an engine that has left slipway.toml, or weights that have changed: the release still answers.
        return Reranked(passages=cut_passages(passages, search, limit), spent=Spent(), failed=str(error))
    if failed or not any(scores):
        return Reranked(passages=cut_passages(passages, search, limit), spent=spent, failed=failed)
    again = [
        replace(passage, score=score, first_score=passage.score)
        for passage, score in zip(passages, scores, strict=True)
    ]
    # Sorting keeps the order of the search between equal scores.
    again.sort(key=lambda passage: -passage.score)
    return Reranked(passages=cut_passages(again, search, limit), spent=spent)


def cut_passages(passages: Sequence[Passage], search: SearchSettings, limit: int) -> list[Passage]:
    """Passages, best first, that reach the cut."""
    best = passages[0].score if passages else 0.0
    return [passage for passage in passages if passage.score > 0 and passage.score >= search.cut * best][:limit]


def _make(table: Mapping[str, Any]) -> tuple[str, Reranker]:
    settings = dict(table)
    kind = settings.pop("kind", None)
    if not isinstance(kind, str):
        raise ConfigError(PLACE, f'it has no kind. Write: kind = "engine" (known: {", ".join(rerankers.names())}).')
    try:
        return kind, rerankers.make(kind, settings)
    except SlipwayError as wrong:
        raise ConfigError(PLACE, str(wrong)) from wrong

"""An index version: which documents, cut and embedded how, pinned by hash."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from slipway.domain.coverage import Calibration, Coverage
from slipway.domain.ids import ContentHash

Similarity = Literal["cosine", "dot", "euclid"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """How passages are found. `alpha` weighs the lexical leg of the convex fusion: 1 is lexical only."""

    similarity: Similarity = "cosine"
    alpha: float = 0.45
    cut: float = 0.76
    limit: int = 15
    reranker: str = ""
    """What scores the hits again, as JSON of its settings with everything that fixes its scores; empty for nothing."""
    rewriting: str = ""
    """What rewrites follow-up questions, as JSON of engine and model; empty for nothing."""
    where: str = ""
    """Condition on the metadata of documents that every search keeps to; empty for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlphaFit:
    """The weight of the lexical leg that was fitted to an index, and how it ranked the questions made for that."""

    alpha: float
    questions: int
    ndcg: float
    """Mean nDCG@10 of the made questions with `alpha`."""
    ndcg_before: float
    """The same with the general weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentEntry:
    """A line of an index version's manifest."""

    id: str
    title: str
    source: str
    content_hash: ContentHash
    characters: int
    chunks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """One immutable version of an index. `hash` covers documents, chunker, embedder and search settings."""

    name: str
    version: int
    hash: ContentHash
    documents: tuple[DocumentEntry, ...]
    documents_hash: ContentHash
    chunker: str
    embedder: str
    search: SearchSettings
    chunks: int
    created_at: datetime
    dimensions: int = 0
    unanswered_below: float = 0.0
    """Probability below which a question counts as not covered by these documents; 0 when not calibrated."""
    coverage: Coverage | None = None
    """How questions that are not covered are told; None when there were too few documents to calibrate on."""
    alpha_fit: AlphaFit | None = None
    """Where `search.alpha` comes from when it was fitted; None when slipway.toml names it or none could be fitted."""
    calibration: Calibration | None = None
    """What moves `coverage` to a team's own questions; None while it stands as shipped. It is no part of `hash`, for no
    answer depends on it."""

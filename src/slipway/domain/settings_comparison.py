"""A comparison of ways to cut and search the same documents, on the same questions."""

from dataclasses import dataclass
from datetime import datetime

from slipway.domain.ids import ContentHash
from slipway.domain.index import Similarity
from slipway.domain.release import Measure


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsResult:
    """One setting: chunk size in tokens, weight of the lexical leg, relative cut, and what they gave.

    `ndcg` (at 10) and `mrr` are of the whole ranking, `recall`, `precision`, `iou` and `tokens` (a mean) of the
    passages that the cut leaves. `precision` and `iou` are by characters, where the answer's place is known.
    """

    size: int
    alpha: float
    cut: float
    ndcg: Measure
    recall: Measure
    mrr: Measure
    tokens: float
    chunker: str = "recursive"
    embedder: str = ""
    """Id of the embedder; empty is words only."""
    similarity: Similarity = "cosine"
    precision: Measure | None = None
    iou: Measure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsComparison:
    """Every setting that was tried. `made` says that Slipway made the questions; `verdict` is for the reader."""

    id: str
    index: str
    embedder: str
    questions: int
    documents: int
    documents_hash: ContentHash
    made: bool
    rows: tuple[SettingsResult, ...]
    best: SettingsResult
    current: SettingsResult | None
    """The row of the settings in slipway.toml, where it was among those tried."""
    verdict: str
    created_at: datetime
    clear: bool = False
    """Whether the best is clearly better than `current` on these questions; without that it is not applied unasked."""
    applied: str = ""
    """The index version that was built with the best setting, as NAME@VERSION."""

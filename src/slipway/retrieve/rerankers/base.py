"""What a reranker promises, and the registry of rerankers."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from slipway.plugins import Registry
from slipway.retrieve.asking import Spent
from slipway.workspace import Workspace


class Scored(NamedTuple):
    """A score for each passage, 0 (says nothing on it) to 1 (answers it), in their order, and what that cost.

    `failed` says why there are no scores although something was spent.
    """

    scores: tuple[float, ...]
    spent: Spent
    failed: str = ""


class Reranker(Protocol):
    """Scores passages for a question, more dearly than a search can. A reranker is a frozen dataclass of settings."""

    @property
    def depth(self) -> int:
        """Hits of the search that are scored, the best first."""
        ...

    def pin(self, workspace: Workspace) -> dict[str, object]:
        """Settings that fix what scores, such as the model and the digest of its weights. Raises `ConfigError`."""
        ...

    async def score(self, question: str, texts: Sequence[str], *, workspace: Workspace) -> Scored:
        """Raises `EngineError` where nobody answered; then the order of the search stays."""
        ...


rerankers: Registry[Reranker] = Registry("reranker", package="slipway.retrieve.rerankers")

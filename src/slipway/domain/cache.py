"""An answer that is kept to be given again to the same question."""

from dataclasses import dataclass
from datetime import datetime

from slipway.domain.ids import SubjectId, TraceId


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedAnswer:
    """A chat completion with what it answered. It is about `subject`, whoever it may be given to.

    `id` is the hash of everything that the answer depends on; `context` the hash of the same without the question, so
    that an answer to a question of the same meaning can be found by `vector`.
    """

    id: str
    context: str
    release: str
    question: str
    completion: str
    """JSON, as a client would get it."""
    cost_micros: int
    """What the answer cost when it was made, and what giving it again saves."""
    embedder: str = ""
    vector: str = ""
    """Unit vector of the question in base64 (float32), where there is an embedder."""
    subject: SubjectId | None = None
    trace: TraceId
    created_at: datetime

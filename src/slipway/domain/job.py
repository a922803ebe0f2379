"""Work that runs beside the request: a row with a lease, attempts, progress and a result."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from slipway.domain.ids import SubjectId

JobState = Literal["queued", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One piece of work. `payload`, `checkpoint` and `result` are plain JSON values, sealed in the store."""

    id: str
    kind: str
    state: JobState
    payload: object = None
    key: str = ""
    """Idempotency key: a second job of the same kind and key is the first one."""
    subject: SubjectId | None = None
    priority: int = 0
    attempts: int = 0
    max_attempts: int = 3
    worker: str = ""
    run_at: datetime
    leased_until: datetime | None = None
    cancel_requested: bool = False
    done: int = 0
    total: int = 0
    message: str = ""
    checkpoint: object = None
    result: object = None
    created_at: datetime
    finished_at: datetime | None = None

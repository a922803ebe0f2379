"""The queue: enqueue, claim, progress, cancel, resume."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from slipway.domain.errors import Conflict, JobCancelled, JobLost, NotFound
from slipway.domain.ids import SubjectId, new_id
from slipway.domain.job import Job, JobState
from slipway.store.store import Store

LEASE_S = 60.0
FIRST_RETRY_S = 2.0
LONGEST_RETRY_S = 600.0


def utc_now() -> datetime:
    return datetime.now(UTC)


def enqueue(
    store: Store,
    kind: str,
    payload: object = None,
    *,
    key: str = "",
    subject: SubjectId | None = None,
    priority: int = 0,
    delay_s: float = 0.0,
    max_attempts: int = 3,
    now: datetime | None = None,
) -> str:
    """Puts a job into the queue and returns its id; inside `store.transaction()`, with what else happens there.

    `payload` is a plain JSON value. A job of the same kind and `key` is enqueued once, whatever became of it. Higher
    priorities go first.
    """
    moment = now or utc_now()
    return store.jobs.add(
        Job(
            id=new_id(),
            kind=kind,
            state="queued",
            payload=payload,
            key=key,
            subject=subject,
            priority=priority,
            max_attempts=max_attempts,
            run_at=moment + timedelta(seconds=delay_s),
            created_at=moment,
        )
    )


def claim(
    store: Store,
    kinds: Sequence[str],
    *,
    worker: str,
    lease_s: float = LEASE_S,
    now: Callable[[], datetime] = utc_now,
) -> "Claim | None":
    """The next job of these kinds, for this worker alone until the lease ends; None when nothing is due."""
    found = store.jobs.claim(kinds, worker=worker, now_us=_us(now()), lease_us=round(lease_s * 1_000_000))
    return None if found is None else Claim(store, found, worker=worker, lease_s=lease_s, now=now)


def get_job(store: Store, id: str) -> Job:
    """Raises `NotFound`."""
    found = store.jobs.get(id)
    if found is None:
        raise NotFound("job", id)
    return found


def list_jobs(store: Store, *, kind: str | None = None, state: JobState | None = None, limit: int = 100) -> list[Job]:
    """Jobs, newest first."""
    return store.jobs.list(kind=kind, state=state, subject=None, limit=limit)


def cancel_job(store: Store, id: str) -> Job:
    """Cancels a job that waits; one that runs stops at its next `Claim.progress`. Raises `NotFound`, `Conflict`."""
    state = store.jobs.cancel(id)
    if state is None:
        raise NotFound("job", id)
    if state in ("done", "failed"):
        raise Conflict(f"Job {id} is {state} already and cannot be cancelled.")
    return get_job(store, id)


def resume_job(store: Store, id: str, *, now: datetime | None = None) -> Job:
    """Queues a failed or cancelled job again; it finds the checkpoint it saved. Raises `NotFound`, `Conflict`."""
    if not store.jobs.resume(id, now_us=_us(now or utc_now())):
        state = get_job(store, id).state
        raise Conflict(f"Job {id} is {state}: only failed and cancelled jobs are resumed.")
    return get_job(store, id)


class Claim:
    """A job in the hands of one worker. Call `progress` often: it renews the lease and hears of a cancellation."""

    def __init__(self, store: Store, job: Job, *, worker: str, lease_s: float, now: Callable[[], datetime]) -> None:
        self.store, self.job, self.worker = store, job, worker
        self._lease_s, self._now = lease_s, now

    @property
    def payload(self) -> Any:
        return self.job.payload

    @property
    def checkpoint(self) -> Any:
        """What the last attempt saved with `save`; None at first."""
        return self.job.checkpoint

    def progress(self, done: int, total: int, message: str = "") -> None:
        """Raises `JobCancelled`, and `JobLost` when the lease ran out and another worker has the job."""
        self._hold(done=done, total=total, message=message)

    def save(self, checkpoint: object) -> None:
        """Keeps where the work stands, so that another attempt goes on from here. Raises like `progress`."""
        self._hold(progress=checkpoint)

    def renew(self) -> None:
        """Renews the lease only. Raises like `progress`."""
        self._hold()

    def succeed(self, result: object = None) -> None:
        """Ends the job. Raises `JobLost`: then whatever is in the same transaction is rolled back with it."""
        self._end("done", result=result)

    def stop(self) -> None:
        """Ends the job as cancelled; what it saved is kept."""
        self._end("cancelled")

    def fail(self, reason: str, *, retry: bool = True) -> None:
        """Queues the job again after a pause that doubles with each attempt, or ends it when no attempt is left."""
        if retry and self.job.attempts < self.job.max_attempts:
            pause = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2 ** (self.job.attempts - 1))
            self._end("queued", message=reason, run_at=self._now() + timedelta(seconds=pause))
        else:
            self._end("failed", message=reason)

    def _hold(self, **changed: Any) -> None:
        lease_us = _us(self._now()) + round(self._lease_s * 1_000_000)
        stop = self.store.jobs.hold(self.job.id, worker=self.worker, lease_us=lease_us, **changed)
        if stop is None:
            raise JobLost(self.job.id)
        if stop:
            raise JobCancelled(f"Job {self.job.id} was cancelled; what it finished is kept, and it can be resumed.")

    def _end(
        self, state: JobState, *, message: str = "", result: object = None, run_at: datetime | None = None
    ) -> None:
        ended = self.store.jobs.finish(
            self.job.id,
            worker=self.worker,
            state=state,
            message=message,
            result=result,
            run_at_us=None if run_at is None else _us(run_at),
        )
        if not ended:
            raise JobLost(self.job.id)


def _us(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)

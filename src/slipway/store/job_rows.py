"""Rows of the job queue: claimed by one worker at a time under a lease, bodies sealed."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, case, delete, select, update

from slipway.domain.errors import ContentErased
from slipway.domain.ids import SubjectId
from slipway.domain.job import Job
from slipway.store.databases.base import Database
from slipway.store.encryption import Keys
from slipway.store.schema import job

Many = list
"""`list` under a name that the method `JobRows.list` does not hide."""


class JobRows:
    """The queue of one project. Times are microseconds since 1970, given by the caller: a test can move the clock."""

    def __init__(self, database: Database, project: str, keys: Keys) -> None:
        self.database, self.project, self.keys = database, project, keys

    def add(self, new: Job) -> str:
        """Id of the new job, or of the one with the same kind and key that is there already."""
        with self.database.transaction() as connection:
            row = {
                "id": new.id,
                "project": self.project,
                "kind": new.kind,
                "key": new.key or None,
                "state": new.state,
                "priority": new.priority,
                "attempts": new.attempts,
                "max_attempts": new.max_attempts,
                "worker": "",
                "run_at_us": _us(new.run_at),
                "lease_us": 0,
                "cancel": False,
                "done": 0,
                "total": 0,
                "message": "",
                "created_us": _us(new.created_at),
                "subject": new.subject,
                "body": self._seal(connection, new.payload, new.id, new.subject),
            }
            made = connection.execute(
                self.database.insert(job).values(row).on_conflict_do_nothing().returning(job.c.id)
            ).scalar()
            if made is not None:
                return str(made)
            same = (job.c.project == self.project, job.c.kind == new.kind, job.c.key == new.key)
            return str(connection.execute(select(job.c.id).where(*same)).scalar_one())

    def claim(self, kinds: Sequence[str], *, worker: str, now_us: int, lease_us: int) -> Job | None:
        """The next job that is due, or whose worker let its lease run out; it is this worker's until the lease ends.

        A job that used up its attempts without ending is marked as failed on the way.
        """
        due = ((job.c.state == "queued") & (job.c.run_at_us <= now_us)) | (
            (job.c.state == "running") & (job.c.lease_us < now_us)
        )
        candidate = (
            select(job.c.id)
            .where(job.c.project == self.project, job.c.kind.in_(kinds), due, job.c.attempts < job.c.max_attempts)
            .order_by(job.c.priority.desc(), job.c.run_at_us, job.c.id)
            .limit(1)
        )
        if self.database.dialect.skip_locked():
            candidate = candidate.with_for_update(skip_locked=True)
        with self.database.reading() as connection:
            # Looking costs no lock: an idle worker disturbs nobody.
            waiting = select(job.c.id).where(job.c.project == self.project, job.c.kind.in_(kinds), due).limit(1)
            if connection.execute(waiting).first() is None:
                return None
        with self.database.transaction() as connection:
            lost = (job.c.state == "running") & (job.c.lease_us < now_us)
            connection.execute(
                update(job)
                .where(job.c.project == self.project, lost, job.c.attempts >= job.c.max_attempts)
                .values(state="failed", finished_us=now_us, message="its worker was lost too often")
            )
            connection.execute(
                update(job)
                .where(job.c.project == self.project, lost, job.c.cancel)
                .values(state="cancelled", finished_us=now_us)
            )
            row = connection.execute(
                update(job)
                .where(job.c.id == candidate.scalar_subquery())
                .values(state="running", worker=worker, lease_us=now_us + lease_us, attempts=job.c.attempts + 1)
                .returning(*job.c)
            ).first()
            return None if row is None else self._job(connection, row)

    def hold(self, id: str, *, worker: str, lease_us: int, **changed: Any) -> bool | None:
        """Renews the lease and notes progress. None when the job is no longer this worker's; else whether to stop."""
        with self.database.transaction() as connection:
            if "progress" in changed:
                subject = connection.execute(select(job.c.subject).where(job.c.id == id)).scalar()
                changed["progress"] = self._seal(connection, changed["progress"], id, subject)
            cancelled = connection.execute(
                update(job)
                .where(job.c.id == id, job.c.state == "running", job.c.worker == worker)
                .values(lease_us=lease_us, **changed)
                .returning(job.c.cancel)
            ).scalar()
        return None if cancelled is None else bool(cancelled)

    def finish(
        self,
        id: str,
        *,
        worker: str,
        state: str,
        message: str = "",
        result: object = None,
        run_at_us: int | None = None,
    ) -> bool:
        """Ends a job, or queues it again (`state` queued, `run_at_us`). False when it is no longer this worker's."""
        with self.database.transaction() as connection:
            subject = connection.execute(select(job.c.subject).where(job.c.id == id)).scalar()
            values: dict[str, Any] = {"state": state, "message": message, "lease_us": 0, "worker": ""}
            if run_at_us is not None:
                values["run_at_us"] = run_at_us
            else:
                values["finished_us"] = time.time_ns() // 1000
            if result is not None:
                values["result"] = self._seal(connection, result, id, subject)
            done = connection.execute(
                update(job).where(job.c.id == id, job.c.state == "running", job.c.worker == worker).values(values)
            )
            return done.rowcount > 0

    def cancel(self, id: str) -> str | None:
        """Cancels what waits, asks what runs to stop; the state it is in now, None when there is no such job."""
        with self.database.transaction() as connection:
            row = connection.execute(
                update(job)
                .where(job.c.project == self.project, job.c.id == id, job.c.state.in_(("queued", "running")))
                .values(
                    cancel=True,
                    state=case((job.c.state == "queued", "cancelled"), else_=job.c.state),
                    finished_us=case((job.c.state == "queued", time.time_ns() // 1000), else_=None),
                )
                .returning(job.c.state)
            ).scalar()
            if row is not None:
                return str(row)
            return connection.execute(select(job.c.state).where(job.c.project == self.project, job.c.id == id)).scalar()

    def resume(self, id: str, *, now_us: int) -> bool:
        """Queues a failed or cancelled job again, with its checkpoint and fresh attempts."""
        with self.database.transaction() as connection:
            done = connection.execute(
                update(job)
                .where(job.c.project == self.project, job.c.id == id, job.c.state.in_(("failed", "cancelled")))
                .values(state="queued", attempts=0, cancel=False, run_at_us=now_us, finished_us=None, message="")
            )
            return done.rowcount > 0

    def get(self, id: str) -> Job | None:
        with self.database.reading() as connection:
            row = connection.execute(select(job).where(job.c.project == self.project, job.c.id == id)).first()
            return None if row is None else self._job(connection, row)

    def list(self, *, kind: str | None, state: str | None, subject: str | None, limit: int) -> Many[Job]:
        """Newest first."""
        statement = select(job).where(job.c.project == self.project).order_by(job.c.created_us.desc(), job.c.id.desc())
        for column, value in ((job.c.kind, kind), (job.c.state, state), (job.c.subject, subject)):
            if value is not None:
                statement = statement.where(column == value)
        with self.database.reading() as connection:
            return [self._job(connection, row) for row in connection.execute(statement.limit(limit)).all()]

    def remove(self, ids: Sequence[str]) -> None:
        with self.database.transaction() as connection:
            connection.execute(delete(job).where(job.c.project == self.project, job.c.id.in_(ids)))

    def expire(self, *, before: datetime) -> int:
        """Removes jobs that ended before a moment; returns how many."""
        with self.database.transaction() as connection:
            done = connection.execute(delete(job).where(job.c.project == self.project, job.c.finished_us < _us(before)))
        return done.rowcount

    def _seal(self, connection: Connection, value: object, id: str, subject: str | None) -> bytes:
        return self.keys.seal(connection, msgspec.json.encode(value), subject=subject, kind="job", id=id)

    def _open(self, connection: Connection, sealed: bytes | None, id: str) -> Any:
        if sealed is None:
            return None
        try:
            return msgspec.json.decode(self.keys.open(connection, sealed, kind="job", id=id))
        except ContentErased:
            return None

    def _job(self, connection: Connection, row: Row[Any]) -> Job:
        return Job(
            id=row.id,
            kind=row.kind,
            state=row.state,
            payload=self._open(connection, row.body, row.id),
            key=row.key or "",
            subject=SubjectId(row.subject) if row.subject else None,
            priority=row.priority,
            attempts=row.attempts,
            max_attempts=row.max_attempts,
            worker=row.worker,
            run_at=_moment(row.run_at_us),
            leased_until=_moment(row.lease_us) if row.lease_us else None,
            cancel_requested=row.cancel,
            done=row.done,
            total=row.total,
            message=row.message,
            checkpoint=self._open(connection, row.progress, row.id),
            result=self._open(connection, row.result, row.id),
            created_at=_moment(row.created_us),
            finished_at=_moment(row.finished_us) if row.finished_us is not None else None,
        )


def _us(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)


def _moment(us: int) -> datetime:
    return datetime.fromtimestamp(us / 1_000_000, UTC)

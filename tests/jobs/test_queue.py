"""The queue: each job once, for one worker at a time, resumed when the worker dies."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from slipway.config.secrets import Secret
from slipway.domain.errors import Conflict, InputError, JobCancelled, JobLost, NotFound
from slipway.domain.ids import SubjectId
from slipway.jobs.queue import Claim, cancel_job, claim, enqueue, get_job, list_jobs, resume_job
from slipway.jobs.runners.threads import ThreadRunner
from slipway.store.store import Store, open_store

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
MASTER = Secret("0f" * 32)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgres"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """What the database itself decides is tried on both."""
    url = f"sqlite:///{tmp_path / 'any.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    with open_store(url, project=f"jobs-{os.urandom(4).hex()}", folder=tmp_path, master_key=MASTER) as opened:
        yield opened


def take(store: Store, clock: Clock, *, worker: str = "w1", lease_s: float = 60.0) -> Claim:
    claimed = claim(store, ["score"], worker=worker, lease_s=lease_s, now=clock)
    assert claimed is not None
    return claimed


def test_a_job_is_done_once(any_store: Store, clock: Clock) -> None:
    store = any_store
    id = enqueue(store, "score", {"case": 1}, subject=SubjectId("anna"), now=NOON)
    claimed = take(store, clock)
    assert (claimed.job.id, claimed.payload, claimed.job.attempts) == (id, {"case": 1}, 1)
    assert claim(store, ["score"], worker="w2", now=clock) is None
    claimed.progress(3, 10, "three of ten")
    running = get_job(store, id)
    assert (running.state, running.done, running.total, running.message) == ("running", 3, 10, "three of ten")
    claimed.succeed({"score": 0.5})
    job = get_job(store, id)
    assert (job.state, job.result, job.subject) == ("done", {"score": 0.5}, "anna")
    assert job.finished_at is not None
    assert claim(store, ["score"], worker="w2", now=clock) is None


def test_jobs_go_by_priority_then_by_age(any_store: Store, clock: Clock) -> None:
    for number, priority in enumerate([0, 5, 0]):
        enqueue(any_store, "score", number, priority=priority, now=NOON + timedelta(seconds=number))
    clock.wait(10)
    assert [take(any_store, clock, worker=f"w{n}").payload for n in range(3)] == [1, 0, 2]


def test_only_the_kinds_that_were_asked_for(store: Store, clock: Clock) -> None:
    enqueue(store, "train", now=NOON)
    assert claim(store, ["score"], worker="w", now=clock) is None
    assert claim(store, ["score", "train"], worker="w", now=clock) is not None


def test_a_job_with_a_key_is_enqueued_once(any_store: Store, clock: Clock) -> None:
    first = enqueue(any_store, "score", 1, key="evaluation-7", now=NOON)
    assert enqueue(any_store, "score", 2, key="evaluation-7", now=NOON) == first
    assert enqueue(any_store, "other", 2, key="evaluation-7", now=NOON) != first
    take(any_store, clock).succeed()
    assert enqueue(any_store, "score", 3, key="evaluation-7", now=NOON) == first
    assert len(list_jobs(any_store, kind="score")) == 1


def test_a_job_comes_with_the_transaction_that_causes_it(any_store: Store) -> None:
    def fail() -> None:
        with any_store.transaction():
            enqueue(any_store, "score")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list_jobs(any_store) == []


def test_a_delayed_job_waits(store: Store, clock: Clock) -> None:
    enqueue(store, "score", delay_s=30, now=NOON)
    assert claim(store, ["score"], worker="w", now=clock) is None
    clock.wait(30)
    take(store, clock)


def test_a_lease_that_ends_hands_the_job_on(any_store: Store, clock: Clock) -> None:
    id = enqueue(any_store, "score", now=NOON)
    lost = take(any_store, clock, worker="w1", lease_s=60)
    clock.wait(59)
    lost.renew()
    clock.wait(59)
    assert claim(any_store, ["score"], worker="w2", now=clock) is None
    lost.save({"at": 7})
    clock.wait(61)
    second = take(any_store, clock, worker="w2")
    assert (second.job.id, second.job.attempts, second.checkpoint) == (id, 2, {"at": 7})
    for late in (lambda: lost.progress(1, 1), lambda: lost.save(1), lost.succeed, lambda: lost.fail("x")):
        with pytest.raises(JobLost):
            late()
    second.succeed("mine")
    assert get_job(any_store, id).result == "mine"


def test_a_failed_job_is_tried_again_ever_later(store: Store, clock: Clock) -> None:
    id = enqueue(store, "score", max_attempts=3, now=NOON)
    for pause in (2, 4):
        take(store, clock).fail("no luck")
        assert get_job(store, id).state == "queued"
        clock.wait(pause - 0.1)
        assert claim(store, ["score"], worker="w", now=clock) is None
        clock.wait(0.2)
    take(store, clock).fail("no luck at all")
    job = get_job(store, id)
    assert (job.state, job.message, job.attempts) == ("failed", "no luck at all", 3)
    assert claim(store, ["score"], worker="w", now=clock) is None


def test_a_job_whose_workers_keep_dying_fails_in_the_end(any_store: Store, clock: Clock) -> None:
    id = enqueue(any_store, "score", max_attempts=2, now=NOON)
    for attempt in (1, 2):
        assert take(any_store, clock).job.attempts == attempt
        clock.wait(61)
    assert claim(any_store, ["score"], worker="w", now=clock) is None
    job = get_job(any_store, id)
    assert (job.state, job.message) == ("failed", "its worker was lost too often")


def test_cancelling(any_store: Store, clock: Clock) -> None:
    store = any_store
    waiting = enqueue(store, "score", now=NOON)
    assert cancel_job(store, waiting).state == "cancelled"
    assert claim(store, ["score"], worker="w", now=clock) is None
    running = enqueue(store, "score", now=NOON)
    claimed = take(store, clock)
    claimed.save({"at": 3})
    assert cancel_job(store, running).cancel_requested
    with pytest.raises(JobCancelled, match="what it finished is kept"):
        claimed.progress(1, 2)
    claimed.stop()
    assert get_job(store, running).state == "cancelled"
    resume_job(store, running, now=clock())
    again = take(store, clock)
    assert (again.job.id, again.checkpoint, again.job.attempts) == (running, {"at": 3}, 1)
    again.succeed()
    with pytest.raises(Conflict, match="is done already"):
        cancel_job(store, running)
    with pytest.raises(Conflict, match="only failed and cancelled jobs"):
        resume_job(store, running)
    for unknown in (cancel_job, resume_job, get_job):
        with pytest.raises(NotFound):
            unknown(store, "nothing")


def test_a_cancelled_job_whose_worker_died_is_not_taken_up_again(store: Store, clock: Clock) -> None:
    id = enqueue(store, "score", now=NOON)
    take(store, clock)
    cancel_job(store, id)
    clock.wait(61)
    assert claim(store, ["score"], worker="w2", now=clock) is None
    assert get_job(store, id).state == "cancelled"


def test_many_workers_share_many_jobs(any_store: Store) -> None:
    for number in range(60):
        enqueue(any_store, "score", number)
    taken: list[Any] = []

    def work(name: str) -> None:
        while (claimed := claim(any_store, ["score"], worker=name)) is not None:
            taken.append(claimed.payload)
            claimed.succeed()

    threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(60))


def test_what_a_job_holds_is_sealed(store: Store) -> None:
    enqueue(store, "score", {"text": "a canary of somebody"}, subject=SubjectId("anna"))
    content = b"".join(path.read_bytes() for path in store.folder.rglob("*") if path.is_file())
    assert b"canary" not in content
    store.keys.erase("anna")
    assert list_jobs(store)[0].payload is None


def test_finished_jobs_expire(store: Store, clock: Clock) -> None:
    enqueue(store, "score", now=NOON)
    enqueue(store, "score", now=NOON)
    take(store, clock).succeed()
    assert store.jobs.expire(before=datetime(2000, 1, 1, tzinfo=UTC)) == 0
    assert store.jobs.expire(before=datetime(2100, 1, 1, tzinfo=UTC)) == 1
    assert len(list_jobs(store)) == 1


def test_threads_work_off_the_queue(store: Store) -> None:
    done = threading.Event()
    seen: list[int] = []

    def handler(job: Claim) -> int:
        seen.append(job.payload)
        if len(seen) == 10:
            done.set()
        return int(job.payload) * 2

    runner = ThreadRunner(store, {"score": handler}, threads=3, idle_s=0.02)
    runner.start()
    for number in range(10):
        enqueue(store, "score", number)
    assert done.wait(30)
    runner.stop()
    assert sorted(job.result for job in list_jobs(store)) == list(range(0, 20, 2))  # type: ignore[type-var]


def test_what_handlers_do_wrong(store: Store) -> None:
    def fail(job: Claim) -> None:
        raise {"wrong": InputError("the file is missing"), "bad": RuntimeError("no luck")}[job.payload]

    def stop(job: Claim) -> None:
        cancel_job(store, job.job.id)
        job.progress(1, 2)

    wrong, bad = enqueue(store, "fails", "wrong"), enqueue(store, "fails", "bad")
    stopped = enqueue(store, "stops")
    runner = ThreadRunner(store, {"fails": fail, "stops": stop})
    assert runner.run_pending() == 3
    assert (get_job(store, wrong).state, get_job(store, wrong).message) == ("failed", "the file is missing")
    assert (get_job(store, bad).state, get_job(store, bad).message) == ("queued", "RuntimeError: no luck")
    assert get_job(store, stopped).state == "cancelled"


def test_a_silent_handler_keeps_its_lease(store: Store) -> None:
    enqueue(store, "slow")
    others: list[object] = []

    def slow(_job: Claim) -> None:
        # Longer than the lease, without a word.
        time.sleep(0.9)
        others.append(claim(store, ["slow"], worker="thief"))

    ThreadRunner(store, {"slow": slow}, lease_s=0.4).run_pending()
    assert others == [None]
    assert list_jobs(store)[0].state == "done"


def test_a_killed_process_is_resumed_where_it_stood(store: Store, tmp_path: Path) -> None:
    id = enqueue(store, "count", {"to": 1000})
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                """
                import sys, time
                from pathlib import Path
                from slipway.config.secrets import Secret
                from slipway.jobs.queue import claim
                from slipway.store.store import open_store

                folder = Path(sys.argv[1])
                store = open_store(
                    f"sqlite:///{folder / 'store.db'}", project="lamps", folder=folder, master_key=Secret("0f" * 32)
                )
                job = claim(store, ["count"], worker="child", lease_s=1.0)
                for number in range(job.payload["to"]):
                    job.save({"at": number})
                    sys.stdout.write(f"{number}\\n")
                    sys.stdout.flush()
                    time.sleep(0.01)
                """
            ),
            str(tmp_path),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) >= 5:
            break
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert get_job(store, id).state == "running"

    def handler(job: Claim) -> dict[str, int]:
        return {"from": job.checkpoint["at"], "attempts": job.job.attempts}

    runner = ThreadRunner(store, {"count": handler})
    deadline = time.monotonic() + 30
    while not runner.run_pending() and time.monotonic() < deadline:
        time.sleep(0.1)
    result = get_job(store, id).result
    assert isinstance(result, dict)
    assert result["from"] >= 5
    assert result["attempts"] == 2

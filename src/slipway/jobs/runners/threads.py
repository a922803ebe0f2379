"""Works off the queue with threads of this process."""

import logging
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

from slipway.domain.errors import InputError, JobCancelled, JobLost, StoreError
from slipway.jobs.queue import LEASE_S, Claim, claim
from slipway.store.store import Store

Handler = Callable[[Claim], object]
"""Does one job and returns its result, a plain JSON value. May be called again for the same job: see `Claim.save`."""
log = logging.getLogger("slipway.jobs")


class ThreadRunner:
    """A few threads that claim jobs and run their handlers; a lease is renewed while a handler is silent.

    An `InputError` ends a job at once, because trying again would not help; any other error is tried again.
    """

    def __init__(
        self,
        store: Store,
        handlers: Mapping[str, Handler],
        *,
        threads: int = 2,
        idle_s: float = 0.5,
        lease_s: float = LEASE_S,
    ) -> None:
        self.store, self.handlers = store, dict(handlers)
        self.threads, self.idle_s, self.lease_s = threads, idle_s, lease_s
        self._stop = threading.Event()
        self._running: list[threading.Thread] = []

    def start(self) -> None:
        """Starts the threads; jobs that a killed process left behind are taken over when their leases end."""
        for number in range(self.threads):
            name = f"{os.uname().nodename}-{os.getpid()}-{number}"
            thread = threading.Thread(target=self._work, args=(name,), name=f"job-{number}", daemon=True)
            thread.start()
            self._running.append(thread)

    def stop(self, *, wait_s: float = 10.0) -> None:
        """Takes no more jobs, and waits for those that run; what does not end in time is resumed by another process."""
        self._stop.set()
        for thread in self._running:
            thread.join(wait_s)
        self._running.clear()

    def run_pending(self, *, worker: str = "here") -> int:
        """Runs what is due in this thread and returns how many jobs it took: for commands and tests."""
        taken = 0
        while self.run_one(worker=worker):
            taken += 1
        return taken

    def run_one(self, *, worker: str) -> bool:
        """Whether there was a job."""
        claimed = claim(self.store, list(self.handlers), worker=worker, lease_s=self.lease_s)
        if claimed is None:
            return False
        with self._renewed(claimed), suppress(JobLost):
            try:
                result = self.handlers[claimed.job.kind](claimed)
                claimed.succeed(result)
            except JobCancelled:
                claimed.stop()
            except JobLost:
                log.warning("job %s was taken over by another worker", claimed.job.id)
            except InputError as wrong:
                claimed.fail(str(wrong), retry=False)
            except Exception as wrong:
                log.warning("job %s (%s) failed: %s", claimed.job.id, claimed.job.kind, wrong, exc_info=True)
                claimed.fail(f"{type(wrong).__name__}: {wrong}")
        return True

    def _work(self, worker: str) -> None:
        told = ""
        while not self._stop.is_set():
            try:
                busy = self.run_one(worker=worker)
                told = ""
            except StoreError as wrong:
                # Said once: a database may be away for hours.
                if str(wrong) != told:
                    log.warning("the queue cannot be read: %s", wrong)
                told, busy = str(wrong), False
            if not busy:
                self._stop.wait(self.idle_s)

    def _renewed(self, claimed: Claim) -> "_Renewal":
        return _Renewal(claimed, every_s=self.lease_s / 3)


class _Renewal:
    """Renews a lease in the background for as long as its handler runs."""

    def __init__(self, claimed: Claim, *, every_s: float) -> None:
        self._claimed, self._every_s = claimed, every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _renew(self) -> None:
        while not self._ended.wait(self._every_s):
            # A cancellation is the handler's to hear, at its next `progress`.
            with suppress(JobCancelled, JobLost, StoreError):
                self._claimed.renew()

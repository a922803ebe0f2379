"""What became of each request to a channel with a canary, counted together by all workers of a server."""

from __future__ import annotations

import hashlib
import logging
import mmap
import os
from collections.abc import Iterable
from pathlib import Path
from time import monotonic

from slipway.domain.ids import ReleaseId
from slipway.domain.release import Channel
from slipway.domain.routing import RollbackRule
from slipway.release.canary import BUCKETS, Outcomes, Verdict, bucket_of, judge_errors, judge_latency

log = logging.getLogger("slipway.gateway")
MOST_WORKERS = 64
SIDE = 2 + BUCKETS
COLUMN = 2 * SIDE
HEADER = 8
"""Numbers in front of the columns; the first one is 1 once the canary is out."""
REMEMBERED = 400
"""Requests to the canary, of one worker, after which old ones count half: a canary may spoil late."""
LOOK_AT_LATENCY_EVERY = 16
WAIT_FOR_OTHERS_S = 3.0


class CanaryWatch:
    """One channel's canary. Every worker counts in a column of its own in a file that all of them map, so that each
    sees at once what the others saw, and that the canary is out."""

    def __init__(self, path: Path, channel: Channel, *, worker: int) -> None:
        assert channel.canary is not None
        self.channel = channel.name
        self.canary: ReleaseId = channel.canary
        self.rule: RollbackRule | None = channel.rule
        self.verdict: Verdict | None = None
        self.path = path
        self._seen_out_at: float | None = None
        self._mine = HEADER + COLUMN * (worker % MOST_WORKERS)
        size = 8 * (HEADER + COLUMN * MOST_WORKERS)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(handle, size)
            self._map = mmap.mmap(handle, size)
        finally:
            os.close(handle)
        self._numbers = memoryview(self._map).cast("d")

    @property
    def out(self) -> bool:
        """Whether some worker has taken the canary out."""
        return self._numbers[0] == 1.0

    @property
    def to_be_recorded(self) -> bool:
        """Whether this worker should write the roll-back down: it found it, or whoever did seems to be gone."""
        if not self.out:
            return False
        self._seen_out_at = self._seen_out_at or monotonic()
        return self.verdict is not None or monotonic() - self._seen_out_at > WAIT_FOR_OTHERS_S

    def note(self, *, canary: bool, failed: bool, seconds: float) -> bool:
        """Counts a request; whether it took the canary out."""
        numbers = self._numbers
        at = self._mine + SIDE * canary
        if numbers[at] >= (REMEMBERED if canary else REMEMBERED * 10):
            for place in range(at, at + SIDE):
                numbers[place] /= 2
        numbers[at] += 1
        numbers[at + 1] += failed
        numbers[at + 2 + bucket_of(seconds)] += 1
        if not canary or self.rule is None or self.out:
            return False
        verdict = None
        if failed:
            verdict = judge_errors(self.rule, self.outcomes(canary=True), self.outcomes(canary=False))
        elif numbers[at] % LOOK_AT_LATENCY_EVERY < 1:
            verdict = judge_latency(self.rule, self.outcomes(canary=True), self.outcomes(canary=False))
        return verdict is not None and self.take_out(verdict)

    def take_out(self, verdict: Verdict) -> bool:
        """From now on no worker sends the canary anything. Whether this worker was the first to say so."""
        first = not self.out
        self._numbers[0] = 1.0
        self.verdict = verdict
        if first:
            log.warning("the canary of channel %s is rolled back: %s", self.channel, verdict.reason)
        return first

    def outcomes(self, *, canary: bool) -> Outcomes:
        """What all workers together saw."""
        total = [0.0] * SIDE
        for column in range(HEADER + SIDE * canary, HEADER + COLUMN * MOST_WORKERS, COLUMN):
            if self._numbers[column]:
                total = [a + b for a, b in zip(total, self._numbers[column : column + SIDE], strict=True)]
        return Outcomes(total[0], total[1], total[2:])


class Arm:
    """The side of a channel that one request was routed to."""

    __slots__ = ("_canary", "_watch")

    def __init__(self, watch: CanaryWatch, *, canary: bool) -> None:
        self._watch = watch
        self._canary = canary

    def note(self, *, failed: bool, seconds: float) -> bool:
        """Counts what became of the request; whether it took the canary out."""
        return self._watch.note(canary=self._canary, failed=failed, seconds=seconds)


class Canaries:
    """The watches of one worker, one a canary, kept from snapshot to snapshot."""

    def __init__(self, folder: Path, *, worker: str) -> None:
        self._folder = folder
        self._worker = int(worker) if worker.isdigit() else 0
        self._tidied = False
        self._watches: dict[tuple[str, ReleaseId, str], CanaryWatch] = {}

    def watch(self, channels: Iterable[Channel]) -> dict[str, CanaryWatch]:
        """By channel. What is known of a canary that is gone is forgotten. Raises `OSError`."""
        found: dict[str, CanaryWatch] = {}
        for channel in channels:
            if channel.canary is None or channel.canary_since is None or not channel.stable:
                continue
            key = (channel.name, channel.canary, channel.canary_since.isoformat())
            watch = self._watches.get(key)
            if watch is None:
                watch = self._watches[key] = CanaryWatch(self._path(key), channel, worker=self._worker)
            watch.rule = channel.rule
            found[channel.name] = watch
        if not self._tidied:
            # What an earlier server left behind about canaries that ended while nobody looked.
            self._tidied = True
            known = {watch.path for watch in found.values()}
            for path in self._folder.glob("*.canary"):
                if path not in known:
                    path.unlink(missing_ok=True)
        kept = {id(watch) for watch in found.values()}
        for key, watch in list(self._watches.items()):
            if id(watch) not in kept:
                # Requests that are still under way may count in it: it is unmapped when the last of them is gone.
                del self._watches[key]
                watch.path.unlink(missing_ok=True)
        return found

    def _path(self, key: tuple[str, ...]) -> Path:
        name = hashlib.sha256("\0".join(key).encode()).hexdigest()[:24]
        return self._folder / f"{name}.canary"

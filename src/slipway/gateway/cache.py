"""Answers that were given before, in this worker's memory and in the store, until they are too old or too many."""

from __future__ import annotations

import base64
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy
from numpy.typing import NDArray

from slipway.config.settings import CacheSettings
from slipway.domain.cache import CachedAnswer
from slipway.store.store import Store

SINCE = timedelta(seconds=10)
"""Clocks of workers and databases differ a little; what is read twice does no harm."""
MOST_READ = 2000
WRITTEN_AT_ONCE = 100
"""Answers in one transaction: others wait for it."""


@dataclass
class Similar:
    """Answers of one context whose questions have vectors."""

    ids: list[str] = field(default_factory=list)
    vectors: list[NDArray[numpy.float32]] = field(default_factory=list)
    matrix: NDArray[numpy.float32] | None = None
    """The vectors as rows, once somebody has compared them: to put ten thousand together takes milliseconds."""


class AnswerCache:
    """What one worker can answer without asking again.

    `look` and `keep` only touch memory; `refresh`, from a thread, writes new answers down and reads those of the other
    workers. Erasing anybody empties the memory, which is then filled from what the store still holds.
    """

    def __init__(self, store: Store, *, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now
        self._lock = threading.Lock()
        self._answers: OrderedDict[str, CachedAnswer] = OrderedDict()
        self._bytes = 0
        self._by_context: dict[str, Similar] = {}
        self._new: list[CachedAnswer] = []
        self._read_until: datetime | None = None
        self._epoch = -1

    def look(self, id: str, settings: CacheSettings) -> CachedAnswer | None:
        """The answer to exactly this, if it is young enough."""
        with self._lock:
            found = self._answers.get(id)
            if found is None or self._now() - found.created_at > lifetime(settings):
                return None
            self._answers.move_to_end(id)
            return found

    def look_like(
        self, context: str, vector: NDArray[numpy.float32], embedder: str, settings: CacheSettings
    ) -> CachedAnswer | None:
        """The answer to the nearest question of the same context, if it is at least `similar` to this one."""
        with self._lock:
            similar = self._by_context.get(context)
            if settings.similar is None or similar is None or not similar.ids:
                return None
            if similar.matrix is None:
                similar.matrix = numpy.stack(similar.vectors)
            cosines = similar.matrix @ vector
            best = int(numpy.argmax(cosines))
            found = self._answers.get(similar.ids[best])
            if float(cosines[best]) < settings.similar or found is None or found.embedder != embedder:
                return None
        return self.look(found.id, settings)

    def keep(self, answer: CachedAnswer, settings: CacheSettings) -> None:
        with self._lock:
            self._put(answer, settings)
            self._new.append(answer)

    def refresh(self, settings: CacheSettings) -> None:
        """Writes down, reads, and drops what is too old or too much. Raises `StoreError`."""
        epoch = self._store.keys.epoch()
        with self._lock:
            new, self._new = self._new, []
            if epoch != self._epoch:
                # Somebody may have been erased: nothing in memory may outlive that.
                if self._epoch >= 0:
                    new = []
                    self._answers.clear()
                    self._by_context.clear()
                    self._bytes = 0
                    self._read_until = None
                self._epoch = epoch
        now = self._now()
        oldest = now - lifetime(settings)
        newest = list({answer.id: answer for answer in new}.values())
        for first in range(0, len(newest), WRITTEN_AT_ONCE):
            self._store.records.save_all(
                newest[first : first + WRITTEN_AT_ONCE],
                parents=lambda answer: [("trace", answer.trace)],
                transform="cache",
            )
        since = oldest if self._read_until is None else self._read_until - SINCE
        read = self._store.records.list(CachedAnswer, after=since, limit=min(settings.entries, MOST_READ))
        with self._lock:
            for answer in reversed(read):
                known = self._answers.get(answer.id)
                if known is None or known.created_at < answer.created_at:
                    self._put(answer, settings)
            self._read_until = now
        self._store.records.trim(CachedAnswer, keep=settings.entries, older_than=oldest)

    def _put(self, answer: CachedAnswer, settings: CacheSettings) -> None:
        self._drop(answer.id)
        self._answers[answer.id] = answer
        self._bytes += _size(answer)
        if answer.vector:
            similar = self._by_context.setdefault(answer.context, Similar())
            similar.matrix = None
            similar.ids.append(answer.id)
            similar.vectors.append(numpy.frombuffer(base64.b64decode(answer.vector), dtype=numpy.float32))
        while len(self._answers) > settings.entries or self._bytes > settings.megabytes * 1_000_000:
            self._drop(next(iter(self._answers)))

    def _drop(self, id: str) -> None:
        gone = self._answers.pop(id, None)
        if gone is None:
            return
        self._bytes -= _size(gone)
        similar = self._by_context.get(gone.context)
        if similar is not None and id in similar.ids:
            at, similar.matrix = similar.ids.index(id), None
            del similar.ids[at], similar.vectors[at]
            if not similar.ids:
                del self._by_context[gone.context]


def lifetime(settings: CacheSettings) -> timedelta:
    return timedelta(hours=settings.hours)


def _size(answer: CachedAnswer) -> int:
    return len(answer.completion) + len(answer.question) + len(answer.vector) + 400

"""Shadow traffic: copies of requests to a release whose answers nobody sees, behind the backs of the users."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from slipway.domain.errors import SlipwayError
from slipway.domain.ids import ReleaseId
from slipway.domain.trace import SHADOW
from slipway.gateway.call import Call, ClientLeft
from slipway.gateway.metrics import Counts

log = logging.getLogger("slipway.gateway")
NOT_COPIED = frozenset({b"traceparent", b"x-request-id", b"idempotency-key", b"authorization"})

Lane = Callable[[Call], Awaitable[None]]
"""Answers a call in the way that its target asks for."""


class Shadows:
    """The copies of one worker that run now, at most `most`: what comes on top is dropped and counted.

    A copy begins when the user has the answer. Its trace is one of its own, in the channel `shadow`, so that its cost
    is told apart; no key pays for it, and whatever goes wrong with it stays with it.
    """

    def __init__(self, counts: Counts, *, most: int) -> None:
        self.most = most
        self._counts = counts
        self._tasks: set[asyncio.Task[None]] = set()

    def copy(self, call: Call, lane: Lane) -> None:
        """Sends a copy of a call to the shadow of its channel, where it has one and the draw says so."""
        channel = call.snapshot.channels.get(call.channel)
        if channel is None or channel.shadow is None or random.random() >= channel.shadow_share:
            return
        if len(self._tasks) >= self.most:
            self._count("dropped")
            return
        try:
            copied = _copied(call, channel.shadow)
        except SlipwayError as wrong:
            log.info("there is no shadow to send to: %s", wrong)
            self._count("failed")
            return
        task = asyncio.get_running_loop().create_task(self._run(copied, lane))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Gives up what still runs."""
        for task in self._tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, call: Call, lane: Lane) -> None:
        outcome = "failed"
        try:
            await lane(call)
            outcome = "failed" if call.outcome else "sent"
        except (SlipwayError, ClientLeft) as wrong:
            log.info("a shadow request failed: %s", wrong)
        except Exception:
            log.exception("a shadow request failed")
        finally:
            self._count(outcome)
            line = call.line or self._counts.line(call.path, SHADOW, call.release)
            line.answered(call.status or 499, call.seconds, None)

    def _count(self, outcome: str) -> None:
        self._counts.shadows[outcome] = self._counts.shadows.get(outcome, 0) + 1


def _copied(call: Call, shadow: ReleaseId) -> Call:
    """The same request as a call of its own, whose answer goes nowhere. Raises `ReleaseUnavailable`."""
    call.snapshot.target(shadow)
    # Several paths lead to the same call.
    scope = dict(call.scope) | {"path": call.path}
    scope["headers"] = [(name, value) for name, value in call.scope["headers"] if name not in NOT_COPIED]
    copy = Call(scope, _nothing, _discard, call.snapshot)
    copy.model, copy.subject, copy.session = call.model, call.subject, call.session
    copy.channel, copy.shadow_of = SHADOW, call.trace
    copy.release = shadow
    copy.read = True
    return copy


async def _nothing() -> MutableMapping[str, Any]:
    return {"type": "http.disconnect"}


async def _discard(_: MutableMapping[str, Any]) -> None:
    """The answer of a shadow."""

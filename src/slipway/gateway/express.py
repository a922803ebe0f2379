"""The short way of the fast lane: a chat completion that comes whole and is answered whole, without a task.

Most requests are such. Everything that is not (a stream, a connection that must be made first, a cache, a shadow), and
everything that goes wrong on the way, is handed over to the long way of `gateway.app`, which knows what to do with what
has happened so far. Both ways count, record and answer the same.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

import msgspec

from slipway.domain.errors import SlipwayError
from slipway.domain.guardrail import Verdict
from slipway.gateway.call import Call, Receive, Scope, Send
from slipway.gateway.failures import FILTERED
from slipway.gateway.fields import Fields, read_model, read_user, wants_stream
from slipway.gateway.forward import (
    Passage,
    asked_in,
    body_for,
    check_asked,
    check_said,
    forward,
    reply_in,
)
from slipway.gateway.guarding import strongest
from slipway.gateway.operations import CHAT
from slipway.gateway.pieces import content_type_of, kept_headers
from slipway.gateway.routing import find_route
from slipway.gateway.services import Services
from slipway.gateway.snapshot import Snapshot
from slipway.gateway.targets import Target
from slipway.gateway.upstream_calls import LARGEST_ANSWER, Begun
from slipway.upstream.connection import Connection, Exchange
from slipway.upstream.pool import STALE_WITHIN_S, StreamedResponse, was_closing
from slipway.wire.errors import UNREADABLE
from slipway.wire.openai import Completion, read_completion, read_fields

log = logging.getLogger("slipway.gateway")
Rest = Callable[[], Awaitable[None]]
"""What is left to do for a call on the long way."""


class Client(Protocol):
    """The side of the client: one request that is there as a whole."""

    @property
    def scope(self) -> Scope: ...

    @property
    def body(self) -> bytes: ...

    @property
    def receive(self) -> Receive: ...

    @property
    def send(self) -> Send: ...

    def answer(self, status: int, headers: bytes, body: bytes) -> None:
        """Sends the whole answer; `headers` are lines that end in CR LF."""
        ...

    def go_the_long_way(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        """Begins a task that answers instead."""
        ...


class Express:
    """Takes requests of one worker. `serve` is the long way: a call, and what is left to do for it."""

    def __init__(
        self,
        services: Services,
        *,
        snapshot: Callable[[], Snapshot],
        serve: Callable[[Call, Rest], Awaitable[None]],
        finish: Callable[[Call], None],
    ) -> None:
        self.services = services
        self.serve = serve
        self.finish = finish
        self.loop = asyncio.get_running_loop()
        self._snapshot = snapshot
        self._running: set[Passing] = set()
        self._done: list[tuple[Passing, bytes, bytes]] = []

    def take(self, client: Client) -> Passing | None:
        """Begins to answer a POST of /v1/chat/completions; None where it has to go the long way from its start."""
        services, body = self.services, client.body
        snapshot = self._snapshot()
        settings = snapshot.workspace.settings
        if services.breakers or settings.cache.enabled or len(body) > settings.server.max_body_mb * 1_000_000:
            return None
        call = Call(client.scope, client.receive, client.send, snapshot)
        if b"origin" in call.headers:
            return None
        try:
            fields = read_fields(body)
            if "stream" in fields and wants_stream(fields):
                return None
            call.model = read_model(fields)
            call.identify(read_user(fields))
            target = find_route(call)
        except Exception:
            return None  # whatever it is, the long way comes by it again, and tells it after the key was looked at
        if not target.direct or call.channel in snapshot.shadowed:
            return None
        connection = services.http.free_connection(target.endpoints[CHAT][0], self.loop)
        if connection is None:
            return None
        call.read = True
        passing = Passing(self, client, call, target, fields, body)
        services.counts.in_flight += 1
        self._running.add(passing)
        try:
            passing.begin(connection)
        except Exception as wrong:
            passing.fail(connection, wrong)
        return passing

    def answer(self, passing: Passing, headers: bytes, body: bytes) -> None:
        """Sends an answer as soon as its trace is in the journal: with all others that came at the same moment."""
        if not self._done:
            self.loop.call_soon(self._flush)
        self._done.append((passing, headers, body))

    def leave(self, passing: Passing) -> None:
        self._running.discard(passing)
        self.services.counts.in_flight -= 1

    def stop(self) -> None:
        """Ends what is still on its way."""
        for passing in list(self._running):
            passing.left()
        self._flush()

    def _flush(self) -> None:
        done, self._done = self._done, []
        if not done:
            return
        try:
            self.services.ledger.flush()
        except Exception:
            # Whatever it was, those who wait for their answers are no part of it.
            log.exception("traces could not be written")
        # One after the other, so that clients on the same machine are woken once for all of them.
        for passing, headers, body in done:
            try:
                passing.send(headers, body)
            except Exception:
                log.exception("an answer could not be sent")
        for passing, _, _ in done:
            try:
                passing.finish()
            except Exception:
                log.exception("an answer could not be counted")


class Passing:
    """One request on the short way."""

    __slots__ = (
        "_asked",
        "_body",
        "_call",
        "_client",
        "_exchange",
        "_express",
        "_fields",
        "_over",
        "_reused",
        "_sent_at",
        "_sent_ns",
        "_target",
        "_verdicts",
    )

    def __init__(
        self, express: Express, client: Client, call: Call, target: Target, fields: Fields, body: bytes
    ) -> None:
        self._express = express
        self._client = client
        self._call = call
        self._target = target
        self._fields = fields
        self._body = body
        self._exchange: Exchange | None = None
        self._verdicts: list[Verdict] = []
        self._over = False

    def begin(self, connection: Connection) -> None:
        """Sends the request to the engine, if it may be sent."""
        call, target = self._call, self._target
        services = self._express.services
        try:
            try:
                services.admission.admit(call, "chat")
            except SlipwayError:
                # Nobody was let in who could have been routed.
                call.channel, call.release, call.arm = "", "", None
                raise
            services.admission.reserve(call, target, body=self._body, fields=self._fields)
        except SlipwayError as refused:
            connection.put_back()
            self._go_on(partial(_raise, refused))
            return
        fields = self._fields
        self._asked = asked_in(fields)
        if target.guardrails.before:
            try:
                fields, self._asked, self._verdicts = check_asked(fields, self._asked, target.guardrails)
            except SlipwayError:
                connection.put_back()
                self._go_on(self._forward)
                return
        body = body_for(target, call.model, fields, self._fields, self._body)
        services.budget.called()
        self._reused = connection.used > 0
        self._sent_ns, self._sent_at = time.time_ns(), time.perf_counter()
        exchange = self._exchange = connection.start(
            target.endpoints[CHAT][0].with_body(len(body), call.lines_for_engine()),
            body,
            deadlines=target.deadlines,
            max_bytes=LARGEST_ANSWER,
        )
        exchange.listener = self._came

    def fail(self, connection: Connection, wrong: Exception) -> None:
        """What nobody expected becomes an answer on the long way."""
        if self._exchange is not None:
            self._exchange.listener = None
            if self._exchange.connection is not None:
                connection.give_up()
        else:
            connection.put_back()
        self._go_on(partial(_raise, wrong))

    def send(self, headers: bytes, body: bytes) -> None:
        self._client.answer(200, headers, body)

    def finish(self) -> None:
        self._express.leave(self)
        self._express.finish(self._call)

    def left(self) -> None:
        """The client is gone: the engine's work is cancelled."""
        if self._over:
            return
        self._over = True
        exchange, call = self._exchange, self._call
        if exchange is not None:
            exchange.listener = None
            if exchange.connection is not None:
                exchange.connection.give_up()
        call.outcome = "cancelled"
        Passage(
            call,
            self._express.services,
            path=CHAT,
            # As the engine was asked: what guardrails took out stays out of the trace too.
            fields=self._fields | {"messages": msgspec.Raw(self._asked)},
            target=self._target,
            verdicts=self._verdicts,
        ).record("cancelled")
        self.finish()

    def _came(self, exchange: Exchange) -> None:
        """The engine's answer is there, or what became of it."""
        try:
            answered = self._answer(exchange)
        except Exception:
            log.exception("call %s cannot go the short way", self._call.request_id.decode("latin-1"))
            answered = False
        if not answered:
            self._go_on_with(exchange)

    def _answer(self, exchange: Exchange) -> bool:
        """Passes a good answer on; False for one that needs a closer look."""
        said = _whole(exchange)
        if said is None:
            return False
        call, target, services = self._call, self._target, self._express.services
        body, verdicts = exchange.buffer[0], self._verdicts
        if target.guardrails.after:
            try:
                body, changed, more = check_said(body, target.guardrails)
            except (SlipwayError, *UNREADABLE):
                return False
            said = changed or said
            verdicts = [*verdicts, *more]
        reply, finish, usage, model = reply_in(said)
        if usage is None:
            return False
        if services.breakers:
            services.breakers.succeeded(target.engine, target.endpoints[CHAT][0].origin, target.model, call.caller)
        response = StreamedResponse(exchange)
        headers = call.head_lines(200, content_type_of(response), len(body), kept_headers(response))
        services.ledger.note_answer(
            call,
            target=target,
            usage=usage,
            model=model,
            finish=finish,
            asked=self._asked,
            reply=reply,
            verdicts=strongest(verdicts) if verdicts else None,
        )
        self._over = True
        self._express.answer(self, headers, body)
        return True

    # The long way ---------------------------------------------------------------------------------------------------

    def _go_on_with(self, exchange: Exchange) -> None:
        """Hands over what the engine has answered so far, or how it failed."""
        error = exchange.error
        came: StreamedResponse | Exception | None
        if self._reused and was_closing(exchange) and time.perf_counter() - self._sent_at < STALE_WITHIN_S:
            if exchange.connection is not None:
                exchange.connection.give_up()
            came = None  # it is sent anew
        elif error is not None and not exchange.started:
            came = error
        else:
            came = StreamedResponse(exchange)
        self._go_on(partial(self._forward, Begun(came, self._sent_ns, self._sent_at)))

    async def _forward(self, begun: Begun | None = None) -> None:
        await forward(
            self._call,
            self._express.services,
            path=CHAT,
            fields=self._fields,
            body=self._body,
            target=self._target,
            begun=begun,
        )

    def _go_on(self, rest: Rest) -> None:
        self._over = True
        self._express.leave(self)
        self._client.go_the_long_way(partial(self._serve, rest))

    async def _serve(self, rest: Rest, _scope: Scope, _receive: Receive, _send: Send) -> None:
        await self._express.serve(self._call, rest)


def _whole(exchange: Exchange) -> Completion | None:
    """What a good answer says; None for one that needs a closer look."""
    if not exchange.done or exchange.error is not None or not 200 <= exchange.status < 300:
        return None
    buffer = exchange.buffer
    if len(buffer) != 1:
        buffer[:] = [b"".join(buffer)]
    try:
        said = read_completion(buffer[0])
    except (ValueError, RecursionError):
        return None
    choices = said.choices
    return said if choices and choices[0].finish_reason != FILTERED else None


async def _raise(wrong: Exception) -> None:
    raise wrong

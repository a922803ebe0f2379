"""The gateway as one raw ASGI application: /v1, /healthz, /readyz, /metrics; everything else goes to the pages."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

import msgspec

from slipway.access.budgets import Meter
from slipway.access.counters import Counters
from slipway.access.leases import Leases
from slipway.access.limits import RateLimiter
from slipway.domain.access import Scope as KeyScope
from slipway.domain.errors import (
    BodiesTooMany,
    EngineResting,
    ModelNotAllowed,
    OverLimit,
    RequestTooLarge,
    SlipwayError,
    StoreError,
)
from slipway.gateway.admission import Admission, limit_headers
from slipway.gateway.azure import ROOT as AZURE
from slipway.gateway.azure import read_path
from slipway.gateway.bound_ids import BoundIds
from slipway.gateway.breakers import Breakers
from slipway.gateway.cache import AnswerCache
from slipway.gateway.call import Call, ClientLeft, Receive, Scope, Send
from slipway.gateway.canaries import Canaries
from slipway.gateway.chat import chat
from slipway.gateway.embeddings import embed
from slipway.gateway.express import Express, Rest
from slipway.gateway.feedback import take_feedback
from slipway.gateway.generating import GENERATED, GENERATING, MODELS, place_of, show_generating
from slipway.gateway.generating import ROOT as GEMINI
from slipway.gateway.intake import Intake
from slipway.gateway.journal_lag import JournalLag
from slipway.gateway.ledger import Ledger
from slipway.gateway.messages import count_message_tokens, take_messages
from slipway.gateway.metrics import Counts, SharedCounts, write_page
from slipway.gateway.models import list_models, show_model
from slipway.gateway.operating import OPERATED, operate
from slipway.gateway.origins import meet_page
from slipway.gateway.otlp import LANGFUSE, SIGNALS, otlp_error, take_logs, take_metrics, take_traces
from slipway.gateway.otlp_grpc import GrpcDoor
from slipway.gateway.responses import compact, count_input_tokens, respond
from slipway.gateway.services import Services
from slipway.gateway.shadows import Shadows
from slipway.gateway.snapshot import Snapshot, Watcher, load_snapshot
from slipway.gateway.steering import Steering
from slipway.gateway.stored_responses import BELOW, methods_of, take_stored
from slipway.gateway.translation import GeminiDialect, MessagesDialect, answer_in
from slipway.models.patience import RetryBudget
from slipway.store.journal import Journal
from slipway.watch.live import LiveWriter
from slipway.watch.upstreams import write_health
from slipway.wire.errors import error_kind, write_error, write_slipway_error
from slipway.workspace import Workspace

log = logging.getLogger("slipway.gateway")

Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Handler = Callable[[Call, Services], Awaitable[None]]

HANDLERS: Mapping[str, tuple[str, KeyScope, Handler]] = {
    "/v1/chat/completions": ("POST", "chat", chat),
    "/v1/messages": ("POST", "chat", take_messages),
    "/v1/messages/count_tokens": ("POST", "chat", count_message_tokens),
    "/v1/responses": ("POST", "chat", respond),
    "/v1/responses/input_tokens": ("POST", "chat", count_input_tokens),
    "/v1/responses/compact": ("POST", "chat", compact),
    "/v1/embeddings": ("POST", "chat", embed),
    **dict.fromkeys(OPERATED, ("POST", "chat", operate)),
    "/v1/models": ("GET", "chat", list_models),
    **{path: (method, "chat", handler) for path, (method, handler) in GENERATING.items()},
    "/v1/feedback": ("POST", "feedback", take_feedback),
    "/v1/traces": ("POST", "traces", take_traces),
    LANGFUSE: ("POST", "traces", take_traces),
    "/v1/logs": ("POST", "traces", take_logs),
    "/v1/metrics": ("POST", "traces", take_metrics),
}
MESSAGES = frozenset({"/v1/messages", "/v1/messages/count_tokens"})
"""Paths of Anthropic's API: what is answered there has its shape, errors too."""
ELSEWHERE = {"/v2/rerank": "/v1/rerank", "/rerank": "/v1/rerank"}
"""Paths outside of /v1 that Cohere and others have for the same."""
DEPLOYED = frozenset(
    path
    for path, (method, scope, _) in HANDLERS.items()
    if (method, scope) == ("POST", "chat") and path not in GENERATING
)
"""Paths that can be called of one model, as Azure has it."""
RECORDED = frozenset(
    {
        "/v1/chat/completions",
        "/v1/messages",
        "/v1/responses",
        "/v1/responses/compact",
        "/v1/embeddings",
        *OPERATED,
        *GENERATED,
    }
)
NOT_ANSWERED = ("cancelled", "blocked", "content_filter", OverLimit.code, ModelNotAllowed.code)
"""Outcomes that say nothing about a release: whose limit is used up, say, was never answered by it."""
LOOK_EVERY_S = 0.25
"""Calls that run longer than this are watched for clients that leave: sooner, and each short call would pay for it."""
GIVE_BACK_AGAIN_S = 0.002
"""Pause for requests while many blocks of limits are given back."""
STALE_AFTER_S = 30.0


class Gateway:
    """One worker's gateway. `fallback` is the application of the pages.

    `keys_required` asks every call of /v1 for an API key. `worker` names the journal's segments and the counts. Limits
    are counted together with the other workers of the same folder.
    """

    def __init__(
        self,
        workspace: Workspace,
        *,
        fallback: Application | None = None,
        keys_required: bool = False,
        worker: str = "0",
        refresh_s: float = 1.0,
    ) -> None:
        self.fallback = fallback
        self.grpc: GrpcDoor | None = None
        """Takes OTLP over gRPC as well, where one is set before the server starts."""
        self.express: Express | None = None
        """The short way for requests that are there as a whole; from `start` on."""
        self._workspace = workspace
        self._worker = worker
        counts = self._counts = Counts()
        self._shared = SharedCounts(workspace.state / "workers", worker)
        self._live_traffic = LiveWriter(workspace.state / "workers", worker, started_s=time.monotonic())
        self._journal = Journal.open(workspace.store.journal_folder, worker=f"gateway{worker}")
        counters = self._counters = Counters(
            workspace.state / "workers" / "limits", worker=int(worker) if worker.isdigit() else 0
        )
        meter = Meter(workspace.store, counters, flush_s=float("inf"))
        leases = Leases(RateLimiter(counters), meter, counters)
        admission = Admission(required=keys_required, meter=meter, leases=leases)
        self._services = Services(
            http=workspace.http,
            admission=admission,
            ledger=Ledger(
                self._journal,
                counts,
                admission,
                project=workspace.application,
                keep_content=workspace.settings.privacy.store_content,
            ),
            intake=Intake(self._journal),
            counts=counts,
            budget=RetryBudget(),
            cache=AnswerCache(workspace.store, now=workspace.now),
            breakers=Breakers(),
            shadows=Shadows(counts, most=0),
            ids=BoundIds(workspace.store.keys.secret_for("ids of responses")),
        )
        canaries = Canaries(workspace.state / "workers", worker=worker)
        self._snapshot = load_snapshot(workspace, canaries=canaries)
        self._tune()
        self._watcher = Watcher(
            self._snapshot,
            use=self._use,
            every_s=refresh_s,
            also=self._write_down,
            canaries=canaries,
            steering=Steering(first=worker == "0", every_s=max(10 * refresh_s, 0.2)),
        )
        self._lag = JournalLag(workspace.store)
        self._running: set[Call] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking: asyncio.TimerHandle | None = None
        self._giving_back: asyncio.TimerHandle | None = None

    # ASGI ----------------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path: str = scope["path"]
            if path.startswith("/v1/") or path == LANGFUSE:
                call = Call(scope, receive, send, self._snapshot)
                # Google's newer clients call /v1/models too.
                await self._serve(_as_v1(call) if path.startswith("/v1/models") else call)
                return
            if path.startswith((AZURE, GEMINI)) or path in ELSEWHERE:
                await self._serve(_as_v1(Call(scope, receive, send, self._snapshot)))
                return
            probe = PROBES.get(path)
            if probe is not None:
                await probe(self, Call(scope, receive, send, self._snapshot))
                return
        elif scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        if self.fallback is not None:
            await self.fallback(scope, receive, send)
        elif scope["type"] == "http":
            await self._serve(Call(scope, receive, send, self._snapshot))

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Starts and stops with the server, around the lifespan of the pages."""

        async def receive_around() -> MutableMapping[str, Any]:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.start()
                if self.grpc is not None:
                    await self.grpc.start()
            elif message["type"] == "lifespan.shutdown":
                if self.grpc is not None:
                    await self.grpc.stop()
                await self.stop()
            return message

        if self.fallback is not None:
            await self.fallback(scope, receive_around, send)
            return
        for event in ("startup", "shutdown"):
            await receive_around()
            await send({"type": f"lifespan.{event}.complete"})

    def start(self) -> None:
        """Must run in the event loop that serves, before anybody is served."""
        try:
            self._services.admission.settle_up(self._snapshot)
        except StoreError as wrong:
            log.warning("what keys have used is not known yet: %s", wrong)
        self._watcher.start()
        loop = asyncio.get_running_loop()
        self.express = Express(self._services, snapshot=lambda: self._snapshot, serve=self._serve, finish=self._finish)
        self._look(loop)
        # Not in a thread, and not on a system without this signal.
        with suppress(RuntimeError, ValueError, NotImplementedError, AttributeError):
            loop.add_signal_handler(signal.SIGHUP, self._watcher.reload)

    async def stop(self) -> None:
        for timer in (self._looking, self._giving_back):
            if timer is not None:
                timer.cancel()
        if self.express is not None:
            self.express.stop()
        await self._services.shadows.stop()
        self._services.admission.close()
        await asyncio.to_thread(self._watcher.stop)
        self._journal.close()
        self._shared.remove()
        self._counters.close()
        self._live_traffic.remove()
        write_health(self._workspace.state / "workers", self._worker, [])

    def reload(self) -> None:
        """Reads slipway.toml and the store again, soon; something wrong is refused, and what served goes on."""
        self._watcher.reload()

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    def _use(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._tune()

    def _tune(self) -> None:
        """What of the settings lives outside the snapshot."""
        settings, services = self._snapshot.workspace.settings, self._services
        services.breakers.in_a_row = settings.routing.breaker_failures
        services.breakers.open_s = settings.routing.breaker_s
        services.budget.share = settings.routing.retry_share
        services.shadows.most = settings.routing.shadows
        services.ledger.most_bytes = round(settings.server.journal_mb * 1_000_000)

    def _write_down(self) -> None:
        """What can wait for a thread: counts for the other workers, and what keys used."""
        self._services.ledger.look_at_room()
        counts = self._count_what_others_know()
        try:
            self._shared.write(counts)
            # By channel: what names none (a health check, a wrong path) is no traffic.
            passing = [line.passing() for line in list(counts.lines.values()) if line.channel or line.release]
            self._live_traffic.write(passing, in_flight=counts.in_flight, now_s=time.monotonic())
            write_health(self._workspace.state / "workers", self._worker, counts.breakers)
        except OSError as wrong:
            log.warning("the counts cannot be written: %s", wrong)
        self._services.admission.settle_up(self._snapshot)
        cache = self._snapshot.workspace.settings.cache
        if cache.enabled:
            self._services.cache.refresh(cache)

    def _count_what_others_know(self) -> Counts:
        """The counts with what the watcher and the breakers count themselves."""
        self._counts.reloads = {"taken": self._watcher.taken, "refused": self._watcher.refusals}
        self._counts.breakers = self._services.breakers.health()
        return self._counts

    # One call -------------------------------------------------------------------------------------------------------

    async def _serve(self, call: Call, rest: Rest | None = None) -> None:
        """Runs a call to its end; whatever goes wrong becomes an answer in the shape of the API. `rest` is what is left
        to do for one that was begun elsewhere."""
        task = call.task = asyncio.current_task()
        counts = self._counts
        counts.in_flight += 1
        self._running.add(call)
        try:
            await self._handle(call, rest)
        except asyncio.CancelledError:
            if not call.left:
                raise
            assert task is not None
            task.uncancel()
            call.outcome = "cancelled"
        except ClientLeft:
            call.outcome = "cancelled"
        finally:
            self._running.discard(call)
            counts.in_flight -= 1
            self._finish(call)
            call.let_go()

    def _finish(self, call: Call) -> None:
        """Counts a call that has come to its end."""
        call.finished = True
        if call.account is not None:
            self._services.admission.finish(call.account)
        line = call.line or self._counts.line(_endpoint(call.path), call.channel, call.release)
        first_s = None if call.first_byte_ns is None else call.first_byte_ns / 1e9
        # 499, as nginx counts clients that did not wait.
        line.answered(call.status or 499, call.seconds, first_s)
        if call.outcome:
            line.came_to(call.outcome)
        arm = call.arm
        if arm is not None and _says_something(call) and arm.note(failed=_failed(call), seconds=call.seconds):
            self._watcher.look_soon()

    async def _handle(self, call: Call, rest: Rest | None) -> None:
        if b"origin" in call.headers and await meet_page(call):
            return
        if call.path in MESSAGES:
            answer_in(call, MessagesDialect(call))
        elif call.path.startswith(GEMINI):
            answer_in(call, GeminiDialect(call))
        try:
            if rest is not None:
                await rest()
                return
            method, scope, handler = _find_handler(call)
            if call.scope["method"] != method:
                allow = [(b"allow", method.encode("ascii"))]
                await self._refuse(call, 405, f"{call.path} takes {method} only.", "method_not_allowed", allow)
                return
            self._services.admission.admit(call, scope)
            await handler(call, self._services)
        except OverLimit as over:
            await self._fail(call, over, limit_headers(over))
        except RequestTooLarge as large:
            await self._fail(call, large, [(b"connection", b"close")])
        except BodiesTooMany as many:
            await self._fail(call, many, [(b"connection", b"close"), (b"retry-after", b"1")])
        except EngineResting as resting:
            await self._fail(call, resting, [(b"retry-after", b"%d" % math.ceil(max(1.0, resting.retry_after_s)))])
        except SlipwayError as failed:
            await self._fail(call, failed, [])
        except (asyncio.CancelledError, ClientLeft):
            raise
        except Exception:
            log.exception("call %s failed", call.request_id.decode("latin-1"))
            self._record_failure(call, "internal error")
            call.outcome = "internal_error"
            if not call.responded:
                message = "Something went wrong inside Slipway; its log says what."
                await call.reply(500, write_error(message, kind=error_kind(500), code="internal_error"))

    async def _fail(self, call: Call, error: SlipwayError, more: list[tuple[bytes, bytes]]) -> None:
        call.outcome = error.code
        if call.responded:
            return
        status = error.http_status
        if status not in (401, 403, 429):
            self._record_failure(call, str(error))
        if call.path in SIGNALS:
            await otlp_error(call, status, str(error), more=more)
            return
        await call.reply(status, write_slipway_error(error), more=more)

    async def _refuse(self, call: Call, status: int, message: str, code: str, more: list[tuple[bytes, bytes]]) -> None:
        call.outcome = code
        await call.reply(status, write_error(message, kind=error_kind(status), code=code), more=more)

    def _record_failure(self, call: Call, error: str) -> None:
        """A trace for a call that failed before its lane could write one."""
        if call.path in RECORDED and not call.recorded:
            self._services.ledger.write_call(
                call, name=call.model or "request", kind="request", status="error", error=error
            )

    # Clients that leave ---------------------------------------------------------------------------------------------

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts to watch the clients of calls that have run for a while; what was set aside for nobody goes back."""
        self._looking = loop.call_later(LOOK_EVERY_S, self._look, loop)
        if self._giving_back is None:
            self._give_back(loop)
        now = time.perf_counter()
        for call in self._running:
            if not call.watched and call.read and now - call.started > LOOK_EVERY_S:
                call.watched = True
                task = loop.create_task(_cancel_when_left(call))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _give_back(self, loop: asyncio.AbstractEventLoop) -> None:
        more = self._services.admission.tick()
        self._giving_back = loop.call_later(GIVE_BACK_AGAIN_S, self._give_back, loop) if more else None

    # Probes ---------------------------------------------------------------------------------------------------------

    async def healthz(self, call: Call) -> None:
        await call.reply(200, b'{"status":"ok"}')

    async def readyz(self, call: Call) -> None:
        stale_s = self._stale_s()
        broken, refused = self._snapshot.problems(), self._watcher.refused
        stale = f"not read for {stale_s:.0f} s, what was known goes on: {self._watcher.problem or 'it does not answer'}"
        checks: dict[str, Any] = {
            "store": "ok" if stale_s < STALE_AFTER_S else stale,
            "releases": "; ".join(broken) or "ok",
            "settings": f"refused, the old ones go on: {refused}" if refused else "ok",
            "traces": self._services.ledger.last_failure or "ok",
        }
        # It answers without the store: a probe that took it out of service would make of one failure two.
        ready = not broken
        await call.reply(200 if ready else 503, msgspec.json.encode({"ready": ready, "checks": checks}))

    def _stale_s(self) -> float:
        return time.monotonic() - self._watcher.fresh_at

    async def metrics(self, call: Call) -> None:
        waiting, answered = await self._lag.look()
        page = write_page(
            self._shared.with_others(self._count_what_others_know()),
            labels={id: target.label for id, target in self._snapshot.targets.items()},
            gauges={
                "slipway_journal_lag_bytes": ("Bytes of the journal that the store does not have yet.", waiting.bytes),
                "slipway_journal_segments": ("Segments of the journal.", waiting.segments),
                "slipway_journal_damaged": ("Records of the journal that could not be read.", waiting.damaged),
                "slipway_store_up": (
                    "Whether the store answers; without it, lag is all of the journal.",
                    int(answered),
                ),
                "slipway_store_age_seconds": (
                    "How long ago settings, keys and channels were read from it.",
                    self._stale_s(),
                ),
            },
        )
        await call.reply(200, page.encode(), content_type=b"text/plain; version=0.0.4; charset=utf-8")


PROBES: Mapping[str, Callable[[Gateway, Call], Awaitable[None]]] = {
    "/healthz": Gateway.healthz,
    "/readyz": Gateway.readyz,
    "/metrics": Gateway.metrics,
}


def _find_handler(call: Call) -> tuple[str, KeyScope, Handler]:
    found = HANDLERS.get(call.path)
    if found is not None:
        return found
    if call.path.startswith("/v1/models/"):
        return "GET", "chat", show_model
    if call.path.startswith(BELOW) and (methods := methods_of(call.path)):
        method = call.scope["method"]
        return method if method in methods else methods[0], "chat", take_stored
    if call.path.startswith(f"{MODELS}/") and call.scope["method"] == "GET":
        return "GET", "chat", show_generating
    return call.scope["method"], "chat", _unknown_path


def _as_v1(call: Call) -> Call:
    """A call of a path of other APIs, which may name the model."""
    if not call.path.startswith(AZURE) and call.path not in ELSEWHERE:
        call.path, call.deployment = place_of(call)
        return call
    there = ELSEWHERE.get(call.path)
    call.path, call.deployment = (there, "") if there else read_path(call.path, DEPLOYED)
    return call


async def _unknown_path(call: Call, services: Services) -> None:
    message = f"There is nothing at {call.path}. Known: {', '.join(HANDLERS)}."
    call.outcome = "unknown_path"
    await call.reply(404, write_error(message, kind=error_kind(404), code="unknown_path"))


def _says_something(call: Call) -> bool:
    """Whether a call says anything about its release: not where the user's own request was wrong, or a guardrail did
    its work. Counted as good, such calls would hide how many others fail."""
    return bool(call.fallback) or (call.status not in (400, 413, 422) and call.outcome not in NOT_ANSWERED)


def _failed(call: Call) -> bool:
    """Whether a release failed its user. A stand-in that saved the answer does not clear the release that was to give
    it."""
    return bool(call.fallback) or call.outcome not in ("", "abstained")


def _endpoint(path: str) -> str:
    """The path as a label: one that nobody knows must not make a line of its own."""
    if path in HANDLERS:
        return path
    if path.startswith(BELOW):
        return "/v1/responses"
    if path.startswith(f"{MODELS}/"):
        return MODELS
    return "/v1/models" if path.startswith("/v1/models/") else "other"


async def _cancel_when_left(call: Call) -> None:
    await call.wait_until_left()
    if not call.finished and call.task is not None:
        call.left = True
        call.task.cancel()

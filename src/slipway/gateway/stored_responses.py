"""/v1/responses/{id} and what lies below it: responses that an engine keeps, for the key that they were made for.

They are asked of the engine at the address that made them, cost nothing and count as requests of the key. Those that
ran in the background leave a trace of what they said once they are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from slipway.domain.errors import (
    RequestInvalid,
    ResponseUnknown,
    SlipwayError,
    UpstreamError,
)
from slipway.gateway.bound_ids import ID, Bound, BoundIds
from slipway.gateway.call import Call
from slipway.gateway.operations import RESPONSES
from slipway.gateway.pieces import content_type_of, kept_headers
from slipway.gateway.services import Services
from slipway.gateway.side_calls import ask_alone
from slipway.gateway.snapshot import Snapshot
from slipway.gateway.targets import Target
from slipway.gateway.upstream_calls import Passed
from slipway.upstream.client import Prepared
from slipway.upstream.engine_errors import engine_error
from slipway.wire.responses_native import UNDER_WAY, Events, Ids, read_response, tell

BELOW = "/v1/responses/"
KEPT = "responses/kept"
METHODS = {"": ("GET", "DELETE"), "cancel": ("POST",), "input_items": ("GET",)}
QUERY = re.compile(rb"[!-~]{0,2048}")
PLACE = re.compile(rb"((?:^|&)(?:after|before)=)([A-Za-z0-9_-]+)")
STREAM = re.compile(rb"(?:^|&)stream=(?:true|True|1)(?:&|$)")


def methods_of(path: str) -> tuple[str, ...]:
    """What may be asked of an address; nothing where there is none."""
    return METHODS.get(path.removeprefix(BELOW).partition("/")[2], ())


async def take_stored(call: Call, services: Services) -> None:
    """Raises `ResponseUnknown` for every id that was not given to this key, whether or not the engine knows it."""
    await call.body()
    given, _, verb = call.path.removeprefix(BELOW).partition("/")
    method: str = call.scope["method"]
    bound = services.ids.read(given, key=call.key)
    if bound is None:
        raise ResponseUnknown(given)
    query: bytes = PLACE.sub(
        lambda place: place[1] + _own_id(call, services, place[2]), call.scope.get("query_string", b"")
    )
    if QUERY.fullmatch(query) is None:
        raise RequestInvalid("The query of the address is too long, or not written as addresses are.")
    found = next(_keepers(call.snapshot, services.ids, bound), None)
    if found is None:
        raise ResponseUnknown(given)
    target, endpoint = found
    below = f"/{bound.id}" + (f"/{verb}" if verb else "") + (f"?{query.decode('ascii')}" if query else "")
    target = replace(target, endpoints={KEPT: (endpoint.below(method, below),)})
    call.release = target.release.id if target.release else ""
    passage = _Kept(call, services, target, bound, given)
    await passage.run(stream=method == "GET" and STREAM.search(query) is not None, read=method == "GET" and not verb)


def _own_id(call: Call, services: Services, given: bytes) -> bytes:
    """The engine's own id of an item where this key was given one."""
    bound = services.ids.read(given.decode("ascii"), key=call.key)
    return given if bound is None else bound.id.encode("ascii")


def _keepers(snapshot: Snapshot, ids: BoundIds, bound: Bound) -> Iterator[tuple[Target, Prepared]]:
    """The release that made a response, or else any other way to the same engine and address."""
    targets = list(snapshot.targets.values())
    start = bound.release_start
    made = [target for target in targets if start and target.release and target.release.id.startswith(start)]
    for target in [*made, *_raw_targets(snapshot)]:
        for endpoint in target.endpoints.get(RESPONSES, ()):
            if ids.place_of(target.engine, endpoint.origin) == bound.place:
                yield target, endpoint


def _raw_targets(snapshot: Snapshot) -> Iterator[Target]:
    for engine in snapshot.workspace.settings.engines:
        try:
            yield snapshot.raw_target(f"{engine}/-")
        except SlipwayError:
            continue  # one that cannot be asked here made nothing here


class _Kept:
    """One such request on its way to the engine and back."""

    def __init__(self, call: Call, services: Services, target: Target, bound: Bound, given: str) -> None:
        self._call = call
        self._services = services
        self._target = target
        ids, key = services.ids, call.key

        def bind(id: str) -> str:
            """Its items, and an earlier response that it leans on, were made at the same place and for the same key."""
            return id if ID.fullmatch(id) is None else ids.bind_again(bound._replace(id=id), key=key)

        self._ids = Ids({bound.id: given}, bind)

    async def run(self, *, stream: bool, read: bool) -> None:
        call = self._call
        passed, address = await ask_alone(
            call,
            self._services,
            self._target,
            KEPT,
            body_for=lambda _: b"",
            extra=call.lines_for_engine(),
            stream=stream,
        )
        response, status = passed.response, passed.response.status
        if passed.stream:
            await self._pass_stream(passed, address)
            return
        body = passed.body
        if status >= 400:
            body = self._ids.in_words(body)
        elif (found := read_response(body)) is not None:
            self._ids.learn(found)
            self._ids.learn_list(body)
            body = self._ids.replaced(body)
            if read and found.background:
                self._record(body)
        await call.reply(status, body, content_type=content_type_of(response), more=kept_headers(response))

    async def _pass_stream(self, passed: Passed, address: str) -> None:
        call, response, piece = self._call, passed.response, passed.body
        events = Events(self._ids)
        await call.begin_stream()
        try:
            while piece:
                complete = response.complete
                if out := events.feed(piece):
                    await call.piece(out)
                piece = b"" if complete else await response.piece()
            await call.end_stream(events.close())
        except UpstreamError as error:
            failure = engine_error(self._target.engine, address, error)
            call.outcome = failure.code
            await call.end_stream(events.failure(str(failure), failure.code, b""))
        finally:
            response.close()

    def _record(self, body: bytes) -> None:
        """What a response that ran in the background said: when it was asked for, that was not known."""
        response = read_response(body)
        told = None if response is None else tell(response)
        if told is None or told.status in UNDER_WAY:
            return
        usage = told.usage
        counted = {} if usage is None else {"usage": {"input": usage.input_tokens, "output": usage.output_tokens}}
        self._services.ledger.write_call(
            self._call,
            name=f"read response {self._target.model}" if self._target.release else "read response",
            kind="other",
            status="error" if told.error else "ok",
            target=self._target,
            response_model=told.model,
            finish=told.finish,
            error=told.error,
            content={"reply": told.text, "tool_calls": list(told.calls), **counted},
        )

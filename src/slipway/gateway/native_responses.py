"""A request of the Responses API at an engine that speaks it: passed on as it is, but for the model and for ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from slipway.domain.errors import EngineGarbled, RequestInvalid, SlipwayError, UpstreamError
from slipway.domain.message import Usage
from slipway.domain.routing import FailureKind
from slipway.gateway.admission import MOST_TOKENS, USUAL_ANSWER_TOKENS, count_in
from slipway.gateway.call import Call
from slipway.gateway.fields import Fields, wants_stream
from slipway.gateway.forward import Json, Passage, body_for, roughly
from slipway.gateway.operations import RESPONSES
from slipway.gateway.pieces import content_type_of, kept_headers
from slipway.gateway.services import Services
from slipway.gateway.targets import Target
from slipway.gateway.upstream_calls import Passed, ToldByChat
from slipway.upstream.client import Response
from slipway.upstream.pool import StreamedResponse
from slipway.upstream.translated import Dialect, TranslatedResponse
from slipway.wire import responses, responses_engine
from slipway.wire.chat import Facts
from slipway.wire.openai import read_stream
from slipway.wire.responses_native import (
    UNDER_WAY,
    Events,
    Ids,
    Told,
    asked_as_chat,
    chunks_in,
    read_response,
    tell,
)


class ResponsesPassage(Passage):
    """One such request. `there` are its fields as the engine gets them, but for the model; `previous` and `items` are
    ids in them and what the client calls these; `stays`: nobody else could answer it.

    An engine of another API that stands in is asked for a chat completion, where one can say what is asked.
    """

    __slots__ = ("_chat", "_events", "_ids", "_kept_there", "_request", "_stays", "_there", "_told")

    def __init__(
        self,
        call: Call,
        services: Services,
        *,
        fields: Fields,
        there: Fields,
        previous: Mapping[str, str],
        items: Mapping[str, str],
        target: Target,
        stays: bool,
    ) -> None:
        super().__init__(call, services, path=RESPONSES, fields=fields, target=target)
        self._there = there
        self._stays = stays
        self._chat: dict[str, Any] | None = None
        self._request: responses.ResponsesRequest | None = None
        self._events: Events | None = None
        self._told: Told | None = None
        # What nobody keeps nobody can ask for: its id may stay as it is.
        self._kept_there = bytes(fields.get("store", b"")) != b"false"
        self._ids = Ids(previous, asked=items)

    # There -----------------------------------------------------------------------------------------------------------

    def _asked_json(self) -> Json:
        return asked_as_chat(self._given)

    def _body_for(self, target: Target) -> bytes:
        if RESPONSES not in target.endpoints:
            assert self._chat is not None
            return msgspec.json.encode(self._chat | {"model": target.model})
        return body_for(target, self._call.model, self._there, self._given, self._body)

    def _others_for(self, kind: FailureKind) -> Sequence[Target]:
        if self._stays:
            return []
        others = [one for one in super()._others_for(kind) if one.guardrails.read_nothing]
        return [one for one in others if RESPONSES in one.endpoints or self.as_chat(self._body) is not None]

    def as_chat(self, body: bytes) -> dict[str, Any] | None:
        """The chat completion request that asks the same; None where none can say it."""
        if self._chat is None:
            with suppress(RequestInvalid):
                self._request, self._chat = responses.read_request(body)
        return self._chat

    def _told_by_chat(self) -> ToldByChat | None:
        return self._as_response

    def _as_response(self, response: Response, origin: str) -> Response:
        """The answer of a chat completion in the shape of this API."""
        assert self._request is not None
        facts = Facts(f"resp_{self._call.trace}", self._request.model, self._call.started_ns // 1_000_000_000)
        shape = responses.ResponseShape(self._request, facts)
        dialect = Dialect(
            write_request=dict,
            read_answer=lambda completion, facts: responses.write_answer(completion, shape, facts),
            read_error=responses_engine.read_error,
            read_stream=lambda facts, include_usage: responses.StreamWriter(shape, facts),
        )
        stream = wants_stream(self._given)
        return TranslatedResponse(response, dialect, facts, stream=stream, include_usage=True, origin=origin)

    # And back --------------------------------------------------------------------------------------------------------

    def _bind_ids(self) -> Ids:
        """From now on ids are bound to who answered, where that keeps anything."""
        if self._kept_there and RESPONSES in self._target.endpoints:
            # Nothing of this object: a circle would wait for the collector, with all that was said.
            self._ids.bind = self._services.ids.binding(self._target, self._address, key=self._call.key)
        return self._ids

    async def _pass_error(self, passed: Passed) -> None:
        await super()._pass_error(passed._replace(body=self._ids.in_words(passed.body)))

    async def _pass_whole(self, passed: Passed) -> None:
        body, response = passed.body, read_response(passed.body)
        if response is not None:
            self._bind_ids().learn(response)
            body = self._ids.replaced(body)
            self._told = tell(response)
        error = "" if self._told is None else self._told.error
        self.record("error" if error else "ok", error=error)
        whole = passed.response
        await self._call.reply(whole.status, body, content_type=content_type_of(whole), more=kept_headers(whole))

    async def _pass_stream(self, passed: Passed) -> None:
        response, piece = passed.response, passed.body
        events = self._events = Events(self._bind_ids())
        try:
            while piece:
                # Whether this is the last piece is asked before it is sent: its record comes before its bytes.
                complete = response.complete
                out = events.feed(piece)
                if out:
                    self._call.note_first_byte()
                self._keep(out)
                if complete:
                    break
                if events.told is not None:
                    self._note_end(events.told)
                if out:
                    begun = self._call.responded
                    await self._send(out, last=False)
                    if not begun:
                        self._hand_over_events(events, response)
                out = b""
                piece = await response.piece()
            else:
                out = b""
            rest = events.close()
            self._keep(rest)
            await self._end(out + rest)
        except UpstreamError as error:
            if events.told is None:
                raise self._broke_off(error) from error
            await self._send(b"", last=True)
        finally:
            response.close()

    def _hand_over_events(self, events: Events, response: Response) -> None:
        """As `_hand_over`, for pieces that hold whole events between the first and the last."""
        send = self._call.send_piece
        if send is None or not isinstance(response, StreamedResponse):
            return

        def take(piece: bytes) -> bool:
            if not events.passes(piece):
                return False
            out = events.passed(piece)
            if not send(out):
                return False
            self._keep(out)
            return True

        response.hand_over(take)

    async def _end(self, out: bytes) -> None:
        assert self._events is not None
        told = self._events.told
        if told is None:
            if out:
                await self._send(out, last=False)
            failure = EngineGarbled(self._target.engine, "the stream ended in the middle")
            self._services.breakers.streamed(*self._upstream, failure, self._call.caller)
            raise failure
        self._note_end(told)
        if not told.error:
            self._ended_well()
        await self._send(out, last=True)

    def _note_end(self, told: Told) -> None:
        self.record("error" if told.error else "ok", error=told.error)

    def failure(self, failed: SlipwayError) -> bytes:
        sent = b"".join(self._kept[-4:]) + self._last
        events = self._events or Events(self._ids)
        return events.failure(str(failed), failed.code, sent)

    # For the record --------------------------------------------------------------------------------------------------

    def _heard_of(self) -> Told | None:
        return self._told or (None if self._events is None else self._events.told)

    def _says_only_text(self) -> bool:
        told = self._heard_of()
        return told is not None and not told.calls and not told.background

    def _reply(self) -> tuple[str, str, Usage | None, str, int]:
        told = self._heard_of()
        if told is None or not (told.status or self._told):
            # It broke off, or an event said no more than why.
            streamed = read_stream(chunks_in(self._raw()))
            return streamed.text, streamed.finish or "", streamed.usage, streamed.model, streamed.written_bytes
        usage = told.usage
        if usage is None and told.status in UNDER_WAY:
            # What it will have used the engine tells whoever asks later; somebody has to pay for it now.
            longest = count_in(self._given, "max_output_tokens", MOST_TOKENS) or USUAL_ANSWER_TOKENS
            usage = Usage(input_tokens=roughly(len(self._asked)), output_tokens=longest, estimated=True)
        written = len(told.text.encode("utf-8", "replace")) + sum(len(str(call)) for call in told.calls)
        return told.text, told.finish, usage, told.model, 0 if usage is not None else written

    def _without_text(self) -> dict[str, Any]:
        told = self._heard_of()
        more: dict[str, Any] = {}
        if told is not None and told.calls:
            more["tool_calls"] = list(told.calls)
        if told is not None and told.status in UNDER_WAY:
            more["answered"] = told.status
        return more


def set_aside(fields: Fields) -> Mapping[str, msgspec.Raw]:
    """The fields by which a chat would say what this may use at most."""
    return {"max_tokens": fields["max_output_tokens"]} if "max_output_tokens" in fields else {}

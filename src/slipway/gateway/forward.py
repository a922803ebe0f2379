"""The fast lane: a client's request goes to the engine as it is, and the answer comes back byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import ModuleType
from typing import Any

import msgspec

from slipway.domain.errors import OUR_ACCOUNT, Blocked, EngineError, EngineGarbled, SlipwayError, UpstreamError
from slipway.domain.guardrail import Guardrails, Verdict
from slipway.domain.message import Usage
from slipway.domain.routing import FailureKind
from slipway.domain.trace import Status
from slipway.gateway.call import Call
from slipway.gateway.field_checks import check_fields, check_named
from slipway.gateway.fields import Fields, wants_stream
from slipway.gateway.guarding import (
    GuardedStream,
    GuardedTextStream,
    check_completion,
    check_messages,
    strongest,
)
from slipway.gateway.hearing import Heard, hear
from slipway.gateway.ledger import NO_USAGE
from slipway.gateway.operations import CHAT, CHATS, OPERATIONS
from slipway.gateway.pieces import Pieces, content_type_of, kept_headers
from slipway.gateway.services import Services
from slipway.gateway.targets import Target
from slipway.gateway.upstream_calls import Asking, Attempt, Begun, Passed, ToldByChat, told_error
from slipway.models.patience import NO_RETRIES
from slipway.store.call_records import LONGEST_TEXT, asked_texts, shortened
from slipway.upstream.client import Response
from slipway.upstream.engine_errors import engine_error, refused
from slipway.upstream.pool import StreamedResponse
from slipway.wire import completions, messages
from slipway.wire.errors import UNREADABLE, error_kind, error_text, message_in, write_error
from slipway.wire.forms import Form
from slipway.wire.openai import (
    DONE_LINES,
    ChunkWriter,
    Completion,
    Streamed,
    read_completion,
    read_fields,
    read_stream,
    read_usage,
    said_by,
    unsigned,
    written_bytes,
)
from slipway.wire.sse import DONE
from slipway.wire.texts import texts_in
from slipway.wire.thoughts import without

KEPT_BYTES = 1024 * 1024
"""Of a longer stream a trace keeps the beginning, and the end for its usage."""
EVENT_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")
Json = bytes | memoryview
AS_CHAT: Mapping[str, ModuleType] = {"messages": messages, "completions": completions}
"""What reads the answers of a path as those of a chat, for records."""


async def forward(
    call: Call,
    services: Services,
    *,
    path: str,
    fields: Fields,
    body: bytes,
    target: Target,
    form: Form | None = None,
    begun: Begun | None = None,
) -> None:
    """Sends the request to the target's engine and passes the answer on. Every end of it is recorded.

    The only things that change are `model`, and what guardrails redact. `form`: what the body is, where it is one.
    `begun`: it was sent already, and this came.
    """
    await carry(Passage(call, services, path=path, fields=fields, target=target, form=form), call, body, begun)


async def carry(passage: Passage, call: Call, body: bytes, begun: Begun | None = None) -> None:
    """Runs a passage to whatever end it comes to."""
    try:
        await passage.run(body, begun)
    except asyncio.CancelledError:
        passage.record("cancelled")
        raise
    except Blocked as blocked:
        passage.record("blocked", error=str(blocked))
        if not call.responded:
            raise
        notice = {"slipway": {"blocked": blocked.rail, "trace": call.trace}}
        await call.end_stream(passage.blocked(notice))
    except SlipwayError as failed:
        passage.record("error", error=str(failed))
        if not call.responded or not passage.of_events:
            # Half a sound has no place for words: its connection is closed in the middle.
            raise
        # The client has a part of the answer: the event says that it stays a part, and no [DONE] claims otherwise.
        await call.end_stream(passage.event_end() + passage.failure(failed))


# The rules of a request and of its answer, for this way and the short one (`gateway.express`) ----------------------


def asked_in(fields: Fields) -> Json:
    """The JSON of what a chat asks, not copied."""
    asked = fields.get("messages")
    return b"null" if asked is None else memoryview(asked)


def check_asked(fields: Fields, asked: Json, guardrails: Guardrails) -> tuple[Fields, Json, list[Verdict]]:
    """Fields and messages as the engine may see them: other ones where guardrails took something out.

    Raises `Blocked`, `RequestInvalid`."""
    rewritten, verdicts = check_messages(asked, guardrails)
    if rewritten is None:
        return fields, asked, verdicts
    return fields | {"messages": msgspec.Raw(rewritten)}, rewritten, verdicts


def body_for(target: Target, model: str, fields: Fields, given: Fields, body: bytes) -> bytes:
    """The body for an engine: the client's own bytes where its fields are still as they were `given` and the target is
    known by the name `model` that the client called; else written anew."""
    if fields is given and target.model == model:
        return body
    return msgspec.json.encode(fields | {"model": target.model_json})


def check_said(body: bytes, guardrails: Guardrails) -> tuple[bytes, Completion | None, list[Verdict]]:
    """A whole answer as the client may see it, and where something was taken out of it, what it says then.

    Raises `Blocked`, and `UNREADABLE` for an answer that cannot be checked."""
    checked, verdicts = check_completion(body, guardrails)
    return checked, None if checked is body else read_completion(checked), verdicts


class Passage:
    """One request on its way to an engine and back, and what is known about it so far."""

    __slots__ = (
        "_address",
        "_asked",
        "_attempts",
        "_body",
        "_call",
        "_fields",
        "_form",
        "_given",
        "_guarded",
        "_heard",
        "_kept",
        "_kept_bytes",
        "_last",
        "_operation",
        "_path",
        "_recorded",
        "_said",
        "_services",
        "_streamed",
        "_target",
        "_verdicts",
        "of_events",
    )

    def __init__(
        self,
        call: Call,
        services: Services,
        *,
        path: str,
        fields: Fields,
        target: Target,
        form: Form | None = None,
        verdicts: Sequence[Verdict] = (),
    ) -> None:
        self._call = call
        self._services = services
        self._path = path
        self._operation = OPERATIONS[path]
        self._form = form
        self._given = self._fields = fields
        self._target = target
        self._asked = asked_in(fields)
        self._said: Completion | None = None
        self._heard: Heard | None = None
        self.of_events = True
        """Whether what goes out, when it is not whole, is a stream of events."""
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._last = b""
        self._streamed: Streamed | None = None
        self._verdicts: list[Verdict] = list(verdicts)
        self._guarded: GuardedStream | None = None
        self._recorded = False
        self._body = b""
        self._address = ""
        self._attempts: list[Attempt] = []

    async def run(self, body: bytes, begun: Begun | None = None) -> None:
        target, services = self._target, self._services
        stream = wants_stream(self._fields)
        self._fields, self._verdicts = self._past_rails(target)
        self._asked = self._asked_json()
        self._body = body
        # Not kept: it holds methods of this object, and a circle of both would wait for the collector with all bodies.
        asking = Asking(
            services.http,
            target,
            self._path,
            body_for=self._body_for,
            others_for=self._others_for,
            extra=self._lines_for_engine(),
            stream=stream,
            any_type=self._operation.any_type,
            budget=NO_RETRIES if self._call.shadow_of else services.budget,
            breakers=services.breakers,
            caller=self._call.caller,
            counts=services.counts,
            attempts=self._attempts,
            begun=begun,
            told_by_chat=self._told_by_chat(),
        )
        passed = await asking.ask()
        self._address = asking.address
        if asking.target is not target:
            target = self._target = self._stand_in(asking.target)
        status = passed.response.status
        if status in OUR_ACCOUNT:
            raise refused(target.engine, passed.response, error_text(passed.body))
        if status >= 400:
            await self._pass_error(passed)
        elif not passed.stream:
            await self._pass_whole(passed)
        elif self._operation.any_type:
            await self._pass_pieces(passed)
        else:
            await self._pass_stream(passed)

    def _told_by_chat(self) -> ToldByChat | None:
        """How the answer of a stand-in that knows chat completions only is told; None where such cannot stand in."""
        return None

    def _asked_json(self) -> Json:
        """JSON of what was asked, as messages of a chat."""
        return asked_in(self._fields)

    def _body_for(self, target: Target) -> bytes:
        """The client's body with the name that the target's engine knows the model by, past the rails of a stand-in.

        Raises `Blocked`."""
        fields = self._fields if target is self._target else self._fields_for_stand_in(target)
        if self._form is None:
            return body_for(target, self._call.model, fields, self._given, self._body)
        changed = [name for name in self._operation.asked if fields.get(name) is not self._given.get(name)]
        values = {name: msgspec.json.decode(fields[name], type=str) for name in changed}
        return self._form.with_values(values | {"model": target.model})

    def _lines_for_engine(self) -> bytes:
        lines = self._call.lines_for_engine()
        return lines if self._form is None else b"%bcontent-type: %b\r\n" % (lines, self._form.content_type)

    def _past_rails(self, target: Target) -> tuple[Fields, list[Verdict]]:
        """The request as the target's engine may see it. Raises `Blocked`, `RequestInvalid`."""
        rails = target.guardrails
        if self._path == CHAT and rails.before:
            fields, _, verdicts = check_asked(self._fields, self._asked, rails)
            return fields, verdicts
        if self._path != CHAT and not rails.read_nothing:
            return check_fields(self._fields, self._operation, rails, label=target.label)
        return self._fields, []

    def _fields_for_stand_in(self, target: Target) -> Fields:
        """What it is asked: past its rails, and for one of another API without what only Anthropic's knows."""
        fields, verdicts = self._past_rails(target)
        self._verdicts += verdicts
        if self._call.path == "/v1/messages" and "messages" not in target.endpoints:
            return read_fields(msgspec.json.encode(without(msgspec.json.decode(msgspec.json.encode(fields)))))
        if target.direct and not self._target.direct and "messages" in fields:
            return fields | {"messages": unsigned(fields["messages"])}
        return fields

    def _stand_in(self, target: Target) -> Target:
        """Notes who answered instead. A bare model answers behind the rails of the release it stands in for."""
        call = self._call
        call.fallback = target.label
        if target.release is None:
            return replace(target, guardrails=self._target.guardrails)
        call.release = target.release.id
        return target

    def _others_for(self, kind: FailureKind) -> Sequence[Target]:
        call = self._call
        others = [] if call.shadow_of else call.snapshot.fallbacks(call.channel, self._target, kind)
        # Rails read chat completions; who has some cannot stand in where another API is passed on as it is.
        return [one for one in others if one.guardrails.read_nothing] if self._path == "messages" else others

    # Back to the client ------------------------------------------------------------------------------------------

    async def _pass_error(self, passed: Passed) -> None:
        response, body, content_type = passed.response, passed.body, content_type_of(passed.response)
        text = error_text(body)
        self.record("error", error=f"{response.status}: {text}")
        if self._path != "messages" and body.lstrip()[:1] not in (b"{", b"["):
            # The page of a proxy in between, say: no client of this API can read it.
            told = refused(self._target.engine, response, text)
            body = write_error(str(told), kind=error_kind(response.status), code=told.code)
            content_type = b"application/json"
        await self._call.reply(response.status, body, content_type=content_type, more=kept_headers(response))

    async def _pass_whole(self, passed: Passed) -> None:
        body, self._said = passed.body, passed.said
        if self._target.guardrails.after:
            body = self._checked_whole(body)
        if self._path in AS_CHAT:
            self._said = self._said_in(body)
        elif not self._operation.estimated:
            self._heard = hear(body, self._operation, content_type_of(passed.response))
        told = None if self._said is None else told_error(self._said)
        self.record("ok" if told is None else "error", error="" if told is None else message_in(told))
        response = passed.response
        await self._call.reply(
            response.status, body, content_type=content_type_of(response), more=kept_headers(response)
        )

    def _checked_whole(self, body: bytes) -> bytes:
        """A whole answer as the client may see it. Raises `Blocked`, `EngineGarbled`."""
        rails = self._target.guardrails
        try:
            if self._path in CHATS:
                body, changed, verdicts = check_said(body, rails)
                self._said = changed or self._said
            else:
                body, verdicts = check_named(body, self._operation, rails)
        except UNREADABLE as wrong:
            raise EngineGarbled(self._target.engine, str(wrong)) from wrong
        self._verdicts += verdicts
        return body

    async def _pass_pieces(self, passed: Passed) -> None:
        pieces = Pieces(passed, self._target, self._operation, verdicts=self._verdicts)
        self.of_events = pieces.of_events
        try:
            await pieces.send_all_but_last(self._call)
            self._heard = pieces.heard
            self._ended_well()
            self.record("error" if self._heard.error else "ok", error=self._heard.error)
            await pieces.send_last(self._call)
        except UpstreamError as error:
            raise self._broke_off(error) from error
        finally:
            self._heard = pieces.heard
            passed.response.close()

    async def _pass_stream(self, passed: Passed) -> None:
        response, piece = passed.response, passed.body
        if self._target.guardrails.after:
            hold_back = self._call.snapshot.workspace.settings.guard.hold_back
            guarded = GuardedTextStream if self._path == "completions" else GuardedStream
            self._guarded = guarded(self._target.guardrails, hold_back=hold_back)
        try:
            while piece:
                # Whether this is the last piece is asked before it is sent: its record comes before its bytes.
                complete = response.complete
                out = piece if self._guarded is None else self._checked(self._guarded, piece, last=complete)
                if out:
                    self._call.note_first_byte()
                self._keep(out)
                if complete:
                    await self._end(out)
                    return
                if self._last.rstrip().endswith(DONE_LINES):
                    self.record("ok")
                if out:
                    begun = self._call.responded
                    await self._send(out, last=False)
                    if not begun:
                        self._hand_over(response)
                piece = await response.piece()
            out = b"" if self._guarded is None else self._checked(self._guarded, b"", last=True)
            self._keep(out)
            await self._end(out)
        except UpstreamError as error:
            raise self._broke_off(error) from error
        finally:
            response.close()

    @property
    def _upstream(self) -> tuple[str, str, str]:
        return self._target.engine, self._address, self._target.model

    def _hand_over(self, response: Response) -> None:
        """Lets pieces go straight from the engine's connection to the client's. That spends a third of what a task
        spends on each; it sees to what is left: the first and the last ones, those that guardrails look at, and those
        for which the client is too slow."""
        send = self._call.send_piece
        if send is None or self._guarded is not None or not isinstance(response, StreamedResponse):
            return

        def take(piece: bytes) -> bool:
            # The record comes before the bytes that say that all is well; that is not done here.
            end = piece[-24:] if len(piece) >= 24 else self._last[-24:] + piece
            if b"[DONE]" in end or not send(piece):
                return False
            self._keep(piece)
            return True

        response.hand_over(take)

    async def _end(self, out: bytes) -> None:
        if self._recorded:
            self._ended_well()
            await self._send(out, last=True)
            return
        streamed = self._streamed = read_stream(self._raw())
        if streamed.error:
            self.record("error", error=streamed.error)
        elif not streamed.done and streamed.finish is None:
            if out:
                await self._send(out, last=False)
            failure = EngineGarbled(self._target.engine, "the stream ended in the middle")
            self._services.breakers.streamed(*self._upstream, failure, self._call.caller)
            raise failure
        else:
            self._ended_well()
        self.record("ok")
        await self._send(out, last=True)

    def _broke_off(self, error: UpstreamError) -> EngineError:
        failure = engine_error(self._target.engine, self._address, error)
        self._services.breakers.streamed(*self._upstream, failure, self._call.caller)
        return failure

    def _ended_well(self) -> None:
        if self._services.breakers:
            self._services.breakers.streamed(*self._upstream, None, self._call.caller)

    async def _send(self, out: bytes, *, last: bool) -> None:
        call = self._call
        if not call.responded:
            await call.begin_stream()
        if last:
            await call.end_stream(out)
        else:
            await call.piece(out)

    def blocked(self, notice: dict[str, Any]) -> bytes:
        """The end of a stream that a guardrail stopped."""
        return _write_blocked(self._call, self._path, notice)

    def failure(self, failed: SlipwayError) -> bytes:
        """The event that says why the stream ends here."""
        return b"data: %b\n\n" % write_error(str(failed), kind=error_kind(failed.http_status), code=failed.code)

    def event_end(self) -> bytes:
        """What ends the event that the stream broke off in, so that the next one stands by itself."""
        return b"" if not self._last or self._last.endswith(EVENT_ENDS) else b"\n\n"

    def _checked(self, guarded: GuardedStream, piece: bytes, *, last: bool) -> bytes:
        try:
            out = guarded.feed(piece)
            return out + guarded.close() if last else out
        except UNREADABLE as wrong:
            raise EngineGarbled(self._target.engine, str(wrong)) from wrong

    # For the record ----------------------------------------------------------------------------------------------

    def _keep(self, piece: bytes) -> None:
        if self._kept_bytes < KEPT_BYTES:
            self._kept.append(piece)
            self._kept_bytes += len(piece)
            self._last = piece if len(piece) > 64 else self._last[-64:] + piece
        else:
            self._last = (self._last + piece)[-4096:]

    def _raw(self) -> bytes:
        kept = b"".join(self._kept)
        raw = kept if self._kept_bytes < KEPT_BYTES else kept + self._last
        return AS_CHAT[self._path].chunks_in(raw) if self._path in AS_CHAT else raw

    def record(self, status: Status, *, error: str = "") -> None:
        """Writes the trace, once."""
        if self._recorded:
            return
        self._recorded = True
        call, target = self._call, self._target
        reply, finish, usage, model, written = self._reply()
        verdicts = self._verdicts if self._guarded is None else [*self._verdicts, *self._guarded.verdicts]
        plain = status == "ok" and usage is not None and self._says_only_text() and len(self._asked) <= LONGEST_TEXT
        if plain and not self._attempts and not call.shadow_of:
            assert usage is not None
            ledger = self._services.ledger
            ledger.note_answer(
                call,
                target=target,
                usage=usage,
                model=model,
                finish=finish,
                asked=self._asked,
                reply=reply,
                verdicts=strongest(verdicts) if verdicts else None,
            )
            ledger.flush()
            return
        asked = self._asked_texts()
        if usage is None and self._operation.estimated and (written or status == "ok"):
            usage = Usage(
                input_tokens=sum(roughly(len(message["text"].encode("utf-8", "replace"))) for message in asked),
                output_tokens=roughly(written),
                estimated=True,
            )
        operation = self._operation
        self._services.ledger.write_call(
            call,
            name=f"{operation.name or operation.path} {target.model}",
            kind=operation.kind,
            status=status,
            target=target,
            usage=usage or NO_USAGE,
            response_model=model,
            finish=finish,
            error=error,
            verdicts=strongest(verdicts) if verdicts else None,
            content={"messages": asked, "reply": shortened(reply), **self._without_text()},
            attempts=self._attempts,
        )
        # Errors hold on to where they were raised, and so to this object.
        self._attempts.clear()

    def _says_only_text(self) -> bool:
        """Whether all that a trace keeps of the answer is its text, as of a chat."""
        return self._path == CHAT

    def _reply(self) -> tuple[str, str, Usage | None, str, int]:
        """Text, finish, usage and model of what came back, as far as it can be read; and where there is no usage, how
        many bytes the model wrote in all."""
        if self._heard is not None:
            return self._heard.text, "", self._heard.usage, self._heard.model, 0
        if self._kept:
            streamed = self._streamed or read_stream(self._raw())
            return streamed.text, streamed.finish or "", streamed.usage, streamed.model, streamed.written_bytes
        completion = self._said
        if completion is None:
            return "", "", None, "", 0
        reply, finish, usage, model = reply_in(completion)
        return reply, finish, usage, model, 0 if usage is not None else written_bytes(completion)

    def _asked_texts(self) -> list[dict[str, str]]:
        if not self._operation.asked:
            return asked_texts(self._asked)
        texts = []
        for name in self._operation.asked:
            # What cannot be read is for the engine to say.
            with suppress(ValueError, RecursionError):
                texts += texts_in(msgspec.json.decode(self._fields[name])) if name in self._fields else []
        return [{"role": "user", "text": shortened(text)} for text in texts]

    def _without_text(self) -> dict[str, Any]:
        """What of the request and the answer a trace keeps no more of than its type and size."""
        content: dict[str, Any] = {}
        if self._form is not None and self._form.files:
            content["files"] = [
                {"field": part.name, "type": part.content_type, "bytes": part.end - part.start}
                for part in self._form.files
            ]
        if self._heard is not None and self._heard.size:
            content["answered"] = {"type": self._heard.content_type, "bytes": self._heard.size}
        return content

    def _said_in(self, body: bytes) -> Completion | None:
        """What an answer says that is no chat completion, as far as it can be read."""
        try:
            return read_completion(AS_CHAT[self._path].completion_in(body))
        except ValueError:
            return None


def _write_blocked(call: Call, path: str, notice: dict[str, Any]) -> bytes:
    created = call.started_ns // 1_000_000_000
    if path == "completions":
        return completions.write_blocked(id=f"cmpl-{call.trace}", model=call.model, created=created, notice=notice)
    writer = ChunkWriter(id=f"chatcmpl-{call.trace}", model=call.model, created=created)
    return writer.finish("content_filter", notice) + DONE


def roughly(text_bytes: int) -> int:
    """Tokens of a text by the rule of thumb of four bytes each: counting pieces would cost as much as all the rest."""
    return -(-text_bytes // 4)


def reply_in(completion: Completion) -> tuple[str, str, Usage | None, str]:
    """Text, finish, usage and model of a completion."""
    choice = completion.choices[0] if completion.choices else None
    text = said_by(choice.message) if choice else ""
    finish = choice.finish_reason or "" if choice else ""
    return text, finish, read_usage(completion.usage), completion.model or ""

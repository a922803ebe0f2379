"""Sends a client's request on: another address, another engine, a retry within the budget; none after a first byte."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from slipway.domain.errors import (
    OUR_ACCOUNT,
    EngineError,
    EngineGarbled,
    EngineRefused,
    EngineResting,
    EngineTimeout,
    UpstreamError,
)
from slipway.domain.routing import FailureKind
from slipway.gateway.breakers import Breakers, Caller
from slipway.gateway.failures import FILTERED, failure_kind, is_filtered
from slipway.gateway.metrics import Counts
from slipway.gateway.operations import CHAT, CHATS, RESPONSES
from slipway.gateway.targets import Target
from slipway.models.patience import RetryBudget
from slipway.upstream.backoff import wait_s
from slipway.upstream.client import HttpClient, Prepared, Response
from slipway.upstream.engine_errors import engine_error, refused
from slipway.wire.errors import UNREADABLE, error_status, error_text, message_in
from slipway.wire.openai import Completion, read_completion
from slipway.wire.responses_native import as_fault, fault_in, is_engine_fault, is_filtered_response
from slipway.wire.sse import EventReader

ATTEMPTS = 2
LONGEST_WAIT_S = 2.0
EVENTS = b"text/event-stream"
JSON = b"application/json"
EVENT_END = re.compile(rb"\n\r?\n|\r\r")
SAID = re.compile(rb"(?:\A(?:\xef\xbb\xbf)?|[\r\n])data:(?! ?\[DONE\])")
"""The beginning of an event that says more than that the stream is over."""
SILENCE = re.compile(rb"(?:(?::[^\r\n]*)?(?:\r\n|\n|\r))+")
"""Comments and empty lines before the first event of a stream."""
LONGEST_SILENCE_S = 60.0
OF_CHATS = frozenset({*CHATS, "messages", "completions", RESPONSES})
FAULT = re.compile(rb'"type":\s*"(?:error|response\.failed)"')
LONGEST_FIRST = 64 * 1024
"""Of the first event of a stream that is waited for to its end."""
LARGEST_ANSWER = 256 * 1024 * 1024

ToldByChat = Callable[[Response, str], Response]
"""Makes of the answer of a chat completion, and the address it comes from, one in the shape that is passed on."""
OthersFor = Callable[[FailureKind], Sequence[Target]]
"""Who may answer instead of the first target when that fails in this way, in order."""


class Passed(NamedTuple):
    """An answer worth passing on: its first piece when it is a `stream`, else its whole body, and what that says."""

    response: Response
    body: bytes
    stream: bool
    said: Completion | None = None


class Attempt(NamedTuple):
    """A call that did not become the answer."""

    target: Target
    address: str
    started_ns: int
    seconds: float
    failure: EngineError


class Begun(NamedTuple):
    """The first call, which somebody else has sent already."""

    came: Response | Exception | None
    """Its answer, or how it failed; None where the connection turned out to be closed before anything was read."""
    started_ns: int
    started: float


class Asking:
    """One request on its way to whoever answers it: `target` is asked now, failed calls are added to `attempts`."""

    __slots__ = (
        "_again",
        "_any_type",
        "_anyway",
        "_begun",
        "_body_for",
        "_breakers",
        "_budget",
        "_caller",
        "_counts",
        "_extra",
        "_http",
        "_others_for",
        "_path",
        "_stream",
        "_told_by_chat",
        "address",
        "attempts",
        "target",
    )

    def __init__(
        self,
        http: HttpClient,
        target: Target,
        path: str,
        *,
        body_for: Callable[[Target], bytes],
        others_for: OthersFor,
        extra: bytes,
        stream: bool,
        budget: RetryBudget,
        breakers: Breakers,
        caller: Caller,
        counts: Counts,
        attempts: list[Attempt],
        any_type: bool = False,
        begun: Begun | None = None,
        told_by_chat: ToldByChat | None = None,
    ) -> None:
        """`any_type`: an answer that is not JSON is passed on piece by piece. `told_by_chat`: who does not know the
        path is asked for a chat completion instead, and this is made of the answer."""
        self._http = http
        self.target = target
        self.address = ""
        """Who answered."""
        self._path = path
        self._body_for = body_for
        self._others_for = others_for
        self._extra = extra
        self._stream = stream
        self._budget = budget
        self._breakers = breakers
        self._caller = caller
        self._counts = counts
        self.attempts = attempts
        self._any_type = any_type
        self._begun = begun
        self._told_by_chat = told_by_chat
        self._anyway = False
        """Whether who is left alone is asked all the same, where it still answers."""
        self._again = False
        """Whether everybody was asked already: over a new connection then, since a kept one may be tried twice."""

    async def ask(self) -> Passed:
        """The answer of the first one that gives one. An answer with a status below 500 (but not 429) is final.

        When an address fails, the next one of the same engine is asked, then those who stand in for this kind of
        failure, all at once; then, within the budget, all of it once more after a pause. When all fail, the last
        answer is passed on with its status, if there was one. Raises `EngineError`.
        """
        first = self.target
        if self._begun is None:
            self._budget.called()
        attempt = 0
        earlier: Passed | None = None
        before: EngineError | None = None
        while True:
            failure, answer = await self._ask_all(first)
            if isinstance(failure, EngineResting):
                if before is not None:
                    # By now all are known to be down, as they were for this request.
                    failure = before
                else:
                    # Nobody was asked: rather one that answers 500, perhaps to certain requests only, than none at all.
                    self._anyway = True
                    failure, answer = await self._ask_all(first)
            if failure is None:
                assert answer is not None
                return answer
            before = failure
            answer = earlier = answer or earlier
            attempt += 1
            wait = _wait_for(failure, attempt)
            # Who is asked although it is left alone is not asked twice: others need the budget more.
            if attempt >= ATTEMPTS or wait is None or self._anyway or not self._budget.take():
                if answer is not None:
                    return answer
                try:
                    raise failure
                finally:
                    # Else its traceback leads back to it, and all of it waits for the collector.
                    failure = before = None
            self._counts.retries += 1
            self._again = True
            await asyncio.sleep(wait)

    async def _ask_all(self, first: Target) -> tuple[EngineError | None, Passed | None]:
        """The first one, then those who stand in for it."""
        self.target = first
        failure, answer = await self._ask_each(first)
        if failure is None or self._enough(failure):
            return failure, answer
        return await self._ask_others(first, failure, answer)

    def _enough(self, failure: EngineError) -> bool:
        """Whether nobody else is asked: of those that are to be left alone it is one a request."""
        return self._anyway and not isinstance(failure, EngineResting)

    async def _ask_others(
        self, first: Target, failure: EngineError, answer: Passed | None
    ) -> tuple[EngineError | None, Passed | None]:
        """Those who stand in for the first one after its failure, in turn."""
        for other in self._others_for(failure_kind(failure)):
            if not other.endpoints.get(self._path_for(other)):
                continue
            self.target = other
            stand_ins, stand_in = self._breakers.stand_ins, (other.engine, other.model)
            if not await stand_ins.turn(*stand_in, first=not self.attempts):
                continue
            answered = None
            try:
                next_failure, next_answer = await self._ask_each(other)
                answered = next_failure is None
            finally:
                stand_ins.came_to(*stand_in, answered)
            if next_failure is None:
                self._counts.fallbacks += 1
                return None, next_answer
            # Where all fail, the first one's word counts, unless it was not even asked.
            if isinstance(failure, EngineResting) and not isinstance(next_failure, EngineResting):
                failure, answer = next_failure, next_answer
            if self._enough(failure):
                break
        self.target = first
        return failure, answer

    async def _ask_each(self, target: Target) -> tuple[EngineError | None, Passed | None]:
        """Every address of one target in turn."""
        failure: EngineError | None = None
        answer: Passed | None = None
        for endpoint in target.endpoints[self._path_for(target)]:
            if self._begun is not None:
                _, started_ns, started = self._begun
            elif self._breakers and (refusal := self._refusal(target, endpoint)) is not None:
                # That nobody was asked is only worth telling where nobody at all was.
                failure = failure or refusal
                continue
            else:
                started_ns, started = time.time_ns(), time.perf_counter()
            failure, answer = await self._ask_one(target, endpoint)
            if failure is None:
                return None, answer
            self.attempts.append(Attempt(target, endpoint.origin, started_ns, time.perf_counter() - started, failure))
            self._counts.upstream_failed(target.engine, failure.code)
            if self._anyway:
                break
        assert failure is not None
        return failure, answer

    def _path_for(self, target: Target) -> str:
        """What it is asked for."""
        return CHAT if self._told_by_chat is not None and self._path not in target.endpoints else self._path

    def _refusal(self, target: Target, endpoint: Prepared) -> EngineError | None:
        """Why this address is not asked now."""
        upstream = (target.engine, endpoint.origin, target.model)
        limited = self._breakers.resting(*upstream)
        several = limited is not None and len(target.endpoints[self._path_for(target)]) > 1
        if limited is not None and (several or self._others_for("rate_limit")):
            return limited
        refusal = self._breakers.admit(*upstream, self._caller)
        return None if self._anyway and self._breakers.answers(*upstream, self._caller) else refusal

    async def _ask_one(self, target: Target, endpoint: Prepared) -> tuple[EngineError | None, Passed | None]:
        breakers, upstream = self._breakers, (target.engine, endpoint.origin, target.model)
        failure: EngineError
        answer: Passed | None = None
        try:
            answer = await self._call(target, endpoint)
        except UpstreamError as error:
            failure = engine_error(target.engine, endpoint.origin, error)
        except EngineGarbled as error:
            failure = error
        except BaseException:
            breakers.abandoned(*upstream, self._caller)
            raise
        else:
            self.address = endpoint.origin
            status, told = answer.response.status, None
            if status < 400 and (told := _told(answer, self._path)) is not None:
                status = error_status(told)
            if status < 400:
                if breakers:
                    breakers.succeeded(*upstream, self._caller)
                if not _was_filtered(answer, self._path) or not self._others_for("content_filter"):
                    return None, answer
                return EngineRefused(target.engine, status, FILTERED), answer
            filtered = is_filtered(status, answer.body)
            text = error_text(answer.body) if told is None else message_in(told)
            failure = refused(
                target.engine, answer.response, f"{FILTERED}: {text}" if filtered else text, status=status
            )
            if told is not None and failure.retryable and (answer.stream or self._path != RESPONSES):
                # Passed on with its own status it would be taken for an answer. A response tells its own.
                answer.response.close()
                answer = None
            if status == 429:
                breakers.limited(*upstream, failure, rest_s=failure.retry_after_s or 0.0, caller=self._caller)
                return failure, answer
            if status < 500 and status != 408:
                if breakers:
                    breakers.succeeded(*upstream, self._caller)
                instead = self._others_for(failure_kind(failure)) if status in OUR_ACCOUNT or filtered else ()
                return (failure if instead else None), answer
        breakers.failed(*upstream, failure, caller=self._caller)
        return failure, answer

    async def _call(self, target: Target, endpoint: Prepared) -> Passed:
        response: Response
        stale = False
        if self._begun is not None:
            came, self._begun = self._begun.came, None
            if isinstance(came, Exception):
                raise came
            if came is not None:
                return await self._read(target, came)
            stale = True
        body, most = self._body_for(target), None if self._stream else LARGEST_ANSWER
        path = self._path_for(target)
        if target.translator is not None and path == CHAT:
            response = await target.translator.send_chat(self._http, body, extra=self._extra, max_bytes=most)
        else:
            response = await self._http.send_prepared(
                endpoint,
                extra=self._extra,
                body=body,
                deadlines=target.deadlines,
                max_bytes=most,
                fresh=stale or self._again,
            )
        if path != self._path and self._told_by_chat is not None:
            response = self._told_by_chat(response, endpoint.origin)
        return await self._read(target, response)

    async def _read(self, target: Target, response: Response) -> Passed:
        status = response.status
        if status >= 600:
            response.close()
            raise EngineGarbled(target.engine, f"its status is {status}, which HTTP does not have")
        if 300 <= status < 400:
            response.close()
            where = (response.header(b"location") or b"somewhere").decode("latin-1")
            raise EngineGarbled(
                target.engine, f"it redirects ({status}) to {where}, which is not followed; correct base_url"
            )
        packed = response.header(b"content-encoding") or b"identity"
        if packed != b"identity" and status < 400:
            response.close()
            how = packed.decode("latin-1")
            raise EngineGarbled(target.engine, f"it is packed as '{how}', although nothing of that was asked for")
        kind = response.header(b"content-type") or b""
        if self._any_type and status < 400 and not kind.startswith(JSON):
            return Passed(response, await response.piece(), True)
        if self._stream and status < 400 and kind.startswith(EVENTS):
            until = time.monotonic() + (target.deadlines.first_byte_s or LONGEST_SILENCE_S)
            first = await response.piece()
            # Half an event helps nobody; a whole one may say that all is lost, while others can still be asked.
            # Comments, by which an engine says that it thinks, are none, and waited out no longer than a first byte.
            while len(first) < LONGEST_FIRST and not response.complete and not _has_event(first, until):
                more = await response.piece()
                if not more:
                    break
                first += more
            if SAID.search(first) is None and (not first or response.complete or b"[DONE]" in first):
                response.close()
                raise EngineGarbled(target.engine, "the stream says nothing" if first else "the stream is empty")
            return Passed(response, first, True)
        whole = await response.read()
        said = None if status >= 400 else _understood(whole, target, self._path)
        return Passed(response, whole, False, said)


def _has_event(first: bytes, until: float) -> bool:
    """Whether the beginning of a stream holds a whole event; after `until` comments will do."""
    silent = SILENCE.match(first)
    begin = silent.end() if silent is not None else 0
    return EVENT_END.search(first, begin) is not None or (begin > 0 and time.monotonic() > until)


def told_error(said: Completion) -> Any:
    """The error that an answer holds instead of what was asked for; None where it holds none."""
    return said.error if said.error is not None and not said.choices else None


def _told(answer: Passed, path: str) -> Any:
    """The error of an answer that calls itself a success; of a stream, that of its first event."""
    if not answer.stream:
        told = None if answer.said is None else told_error(answer.said)
        if path != RESPONSES or told is None:
            return told
        # The same API says in this way what it makes of a request that it took.
        return as_fault(told) if is_engine_fault(told) else None
    if b'"error"' not in answer.body:
        return None
    try:
        if path == RESPONSES and FAULT.search(answer.body) is None:
            return None  # a response that has begun says, too, that it has no error
        first = next(EventReader().feed(answer.body + b"\n\n"), b"")
        if path == RESPONSES:
            return fault_in(first)
        return told_error(read_completion(first))
    except UNREADABLE:
        return None


def _was_filtered(answer: Passed, path: str) -> bool:
    if answer.said is None:
        return False
    if path == RESPONSES:
        return FILTERED.encode() in answer.body and is_filtered_response(answer.body)
    choices = answer.said.choices
    return choices is not None and len(choices) > 0 and choices[0].finish_reason == FILTERED


def _understood(body: bytes, target: Target, path: str) -> Completion | None:
    """What an answer says; None where it is JSON of another shape, which for a chat is still an object. Raises
    `EngineGarbled` for all else."""
    if not body:
        raise EngineGarbled(target.engine, "it is empty")
    try:
        said = read_completion(body)
    except msgspec.ValidationError:
        pass
    except (ValueError, RecursionError) as wrong:
        raise EngineGarbled(target.engine, "it is not JSON") from wrong
    else:
        if path == CHAT and said.choices is None and said.error is None:
            raise EngineGarbled(target.engine, "it holds no choices")
        if path == RESPONSES and b'"output"' not in body and said.error is None:
            raise EngineGarbled(target.engine, "it holds no output")
        return said
    try:
        msgspec.json.decode(body, type=dict[str, msgspec.Raw] if path in OF_CHATS else msgspec.Raw)
    except msgspec.ValidationError as wrong:
        raise EngineGarbled(target.engine, "it is JSON, but no object") from wrong
    except (ValueError, RecursionError) as wrong:
        raise EngineGarbled(target.engine, "it is not JSON") from wrong
    return None


def _wait_for(failure: EngineError, attempt: int) -> float | None:
    """Seconds before all addresses are asked again; None when that would not help or would take too long."""
    if not failure.retryable or isinstance(failure, EngineTimeout):
        return None
    asked_for = failure.retry_after_s if isinstance(failure, EngineRefused) else None
    if asked_for is not None and asked_for > LONGEST_WAIT_S:
        return None
    return wait_s(attempt - 1, chance=random.random(), asked_for_s=asked_for)

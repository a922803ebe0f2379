"""Sends a client's request on: another address when one fails, a retry within the budget, none after a first byte."""

from __future__ import annotations

import asyncio
import random
from typing import NamedTuple

import msgspec

from slipway.domain.errors import EngineError, EngineGarbled, EngineRefused, EngineTimeout, UpstreamError
from slipway.gateway.metrics import Counts
from slipway.gateway.targets import Target
from slipway.models.patience import RetryBudget
from slipway.upstream.backoff import wait_s
from slipway.upstream.client import HttpClient, Prepared, Response
from slipway.upstream.engine_errors import engine_error, refused
from slipway.wire.errors import error_text
from slipway.wire.openai import Completion, read_completion

ATTEMPTS = 2
LONGEST_WAIT_S = 2.0
EVENTS = b"text/event-stream"
LARGEST_ANSWER = 256 * 1024 * 1024


class Passed(NamedTuple):
    """An answer worth passing on: its first piece when it is a `stream`, else its whole body, and what that says."""

    response: Response
    body: bytes
    stream: bool
    said: Completion | None = None


async def ask(
    http: HttpClient,
    target: Target,
    path: str,
    *,
    body: bytes,
    extra: bytes,
    stream: bool,
    budget: RetryBudget,
    counts: Counts,
) -> Passed:
    """The answer of the first address that gives one. An answer with a status below 500 (but not 429) is final.

    When all fail, the last answer is passed on with its status, if there was one. Raises `EngineError`.
    """
    budget.called()
    attempt = 0
    while True:
        failure, answer = await _ask_each(http, target, path, body=body, extra=extra, stream=stream, counts=counts)
        if failure is None:
            assert answer is not None
            return answer
        attempt += 1
        wait = _wait_for(failure, attempt)
        if attempt >= ATTEMPTS or wait is None or not budget.take():
            if answer is not None:
                return answer
            raise failure
        counts.retries += 1
        await asyncio.sleep(wait)


async def _ask_each(
    http: HttpClient, target: Target, path: str, *, body: bytes, extra: bytes, stream: bool, counts: Counts
) -> tuple[EngineError | None, Passed | None]:
    failure: EngineError | None = None
    answer: Passed | None = None
    for endpoint in target.endpoints[path]:
        try:
            answer = await _ask_one(http, target, endpoint, body=body, extra=extra, stream=stream)
        except UpstreamError as error:
            failure, answer = engine_error(target.engine, endpoint.origin, error), None
        except EngineGarbled as error:
            failure, answer = error, None
        else:
            status = answer.response.status
            if status < 500 and status != 429:
                return None, answer
            failure = refused(target.engine, answer.response, error_text(answer.body))
        counts.upstream_failed(target.engine, failure.code)
    return failure, answer


async def _ask_one(
    http: HttpClient, target: Target, endpoint: Prepared, *, body: bytes, extra: bytes, stream: bool
) -> Passed:
    most = None if stream else LARGEST_ANSWER
    response: Response
    if target.translator is not None:
        response = await target.translator.send_chat(http, body, extra=extra, max_bytes=most)
    else:
        response = await http.send_prepared(
            endpoint, extra=extra, body=body, deadlines=target.deadlines, max_bytes=most
        )
    if stream and response.status < 400 and (response.header(b"content-type") or b"").startswith(EVENTS):
        first = await response.piece()
        if not first:
            raise EngineGarbled(target.engine, "the stream is empty")
        return Passed(response, first, True)
    whole = await response.read()
    said = None if response.status >= 400 else _understood(whole, target)
    return Passed(response, whole, False, said)


def _understood(body: bytes, target: Target) -> Completion | None:
    """What an answer says; None where it is JSON of another shape. Raises `EngineGarbled` where it is no JSON."""
    try:
        return read_completion(body)
    except msgspec.ValidationError:
        pass
    except (ValueError, RecursionError) as wrong:
        raise EngineGarbled(target.engine, "it is not JSON") from wrong
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
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

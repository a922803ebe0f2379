"""Calls that only the engine itself can answer: what a request counts there, what it keeps. Nobody stands in for it."""

from __future__ import annotations

from collections.abc import Callable

from slipway.domain.errors import OUR_ACCOUNT
from slipway.gateway.call import Call
from slipway.gateway.services import Services
from slipway.gateway.targets import Target
from slipway.gateway.upstream_calls import Asking, Passed
from slipway.upstream.engine_errors import refused
from slipway.wire.errors import error_text

NO_SUCH_PATH = (404, 405, 501)


async def ask_alone(
    call: Call,
    services: Services,
    target: Target,
    path: str,
    *,
    body_for: Callable[[Target], bytes],
    extra: bytes = b"",
    stream: bool = False,
) -> tuple[Passed, str]:
    """The answer of a target, whatever its status, and the address that gave it. Raises `EngineError`, also where the
    engine does not like our own account."""
    asking = Asking(
        services.http,
        target,
        path,
        body_for=body_for,
        others_for=lambda _: (),
        extra=extra,
        stream=stream,
        budget=services.budget,
        breakers=services.breakers,
        caller=call.caller,
        counts=services.counts,
        attempts=[],
    )
    passed = await asking.ask()
    if passed.response.status in OUR_ACCOUNT:
        raise refused(target.engine, passed.response, error_text(passed.body))
    return passed, asking.address

"""POST /v1/traces, /v1/logs, /v1/metrics: what other programs send by OTLP over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slipway.domain.errors import DiskFull, OtlpRefused
from slipway.gateway.call import Call
from slipway.gateway.services import Services
from slipway.wire.otlp import (
    Decoded,
    ProjectOf,
    Signal,
    decode_logs,
    decode_metrics,
    decode_traces,
    encode_error,
    encode_response,
)
from slipway.wire.otlp_raw import JSON

LANGFUSE = "/api/public/otel/v1/traces"
"""Where Langfuse's SDK sends its spans, below the host that it is given."""
SIGNALS: Mapping[str, Signal] = {
    "/v1/traces": "traces",
    LANGFUSE: "traces",
    "/v1/logs": "logs",
    "/v1/metrics": "metrics",
}
GRPC_CODES: Mapping[int, int] = {400: 3, 401: 16, 403: 7, 405: 12, 413: 8, 415: 3, 429: 8, 503: 14}
"""HTTP status to the code that OTLP wants in the body of an error."""
INTERNAL = 13
RETRY_AFTER_S = 5
NAMES_PROJECT = ("openinference.project.name", "service.name")
DENSEST = 4
"""A compressed body counts as this many times its size when it is decided where to read it."""


async def take_traces(call: Call, services: Services) -> None:
    """Answered 200 only when the spans are on the disk: from there the ingester takes them into the store."""
    await _take(
        call,
        services,
        lambda body, kind, encoding, project: decode_traces(
            body, kind, encoding, project=project, now_ns=time.time_ns()
        ),
    )


async def take_logs(call: Call, services: Services) -> None:
    """Events that name a span are joined to it, whichever comes first. Answered 200 when they are on the disk."""
    await _take(
        call,
        services,
        lambda body, kind, encoding, project: decode_logs(body, kind, encoding, project=project),
    )


async def take_metrics(call: Call, services: Services) -> None:
    """Accepted and counted; numbers of Slipway's own come from the traces."""
    await _take(call, services, lambda body, kind, encoding, _: decode_metrics(body, kind, encoding))


async def _take(call: Call, services: Services, decode: Callable[[bytes, str, str, ProjectOf], Decoded]) -> None:
    signal = SIGNALS[call.path]
    body = await call.body()
    content_type = _header(call, b"content-type")
    encoding = _header(call, b"content-encoding")
    limit_mb = call.snapshot.workspace.settings.watch.most_waiting_mb
    if signal != "metrics" and services.intake.behind_bytes() > limit_mb * 1_000_000:
        call.outcome = "behind"
        message = f"The store is behind: more than {limit_mb:g} MB wait in the journal. Send this again later."
        await otlp_error(call, 503, message, more=_later())
        return
    try:
        project = _project_of(call)
        size = len(body) if encoding in ("", "identity") else len(body) * DENSEST
        taken = await services.intake.take(lambda: decode(body, content_type, encoding, project), size=size)
    except OtlpRefused as refused:
        call.outcome = refused.code
        services.counts.received(signal, "refused_requests", 1)
        await otlp_error(call, refused.http_status, str(refused))
        return
    except (DiskFull, OSError) as wrong:
        call.outcome = "disk"
        await otlp_error(call, 503, f"Nothing was kept: {wrong}", more=_later())
        return
    services.counts.received(signal, "taken", len(taken.spans) + len(taken.events) + taken.points)
    services.counts.received(signal, "rejected", taken.rejected)
    kind, answer = encode_response(content_type, taken.rejected, taken.message, signal=signal)
    await call.reply(200, answer, content_type=kind.encode("ascii"))


async def otlp_error(call: Call, status: int, message: str, *, more: Sequence[tuple[bytes, bytes]] = ()) -> None:
    """An error as OTLP wants it, in the kind of the request."""
    kind, answer = encode_error(_header(call, b"content-type") or JSON, GRPC_CODES.get(status, INTERNAL), message)
    await call.reply(status, answer, content_type=kind.encode("ascii"), more=list(more))


def _project_of(call: Call) -> ProjectOf:
    """The application, or another project of `[watch] projects` that the header or the resource names.

    Raises `OtlpRefused` where the header names one that is not there.
    """
    own = call.snapshot.workspace.application
    known = {own, *call.snapshot.workspace.settings.watch.projects}
    named = _header(call, b"x-slipway-project")
    if named:
        if named not in known:
            raise OtlpRefused(
                f"x-slipway-project names '{named}', which [watch] projects does not list", http_status=400
            )
        return lambda _: named
    if len(known) == 1:
        return lambda _: own

    def of_resource(resource: Mapping[str, Any]) -> str:
        named = (resource.get(key) for key in NAMES_PROJECT)
        return next((name for name in named if isinstance(name, str) and name in known), own)

    return of_resource


def _header(call: Call, name: bytes) -> str:
    return call.headers.get(name, b"").decode("latin-1").strip()


def _later() -> list[tuple[bytes, bytes]]:
    return [(b"retry-after", b"%d" % RETRY_AFTER_S)]

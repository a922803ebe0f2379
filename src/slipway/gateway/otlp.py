"""POST /v1/traces: spans of other programs, by OTLP over HTTP."""

from __future__ import annotations

from slipway.domain.errors import DiskFull, OtlpRefused
from slipway.gateway.call import Call
from slipway.gateway.services import Services
from slipway.wire.otlp import decode_traces, encode_error, encode_response

INVALID_ARGUMENT, UNAVAILABLE = 3, 14
AT_ONCE = 200
"""Spans of one journal record."""


async def take_traces(call: Call, services: Services) -> None:
    """Answered 200 only when the kernel has the spans: from there the ingester takes them into the store."""
    body = await call.body()
    content_type = call.headers.get(b"content-type", b"").decode("latin-1")
    encoding = call.headers.get(b"content-encoding", b"").decode("latin-1")
    try:
        taken = decode_traces(body, content_type, encoding, project=call.snapshot.workspace.application)
        spans = taken.spans
        for start in range(0, len(spans), AT_ONCE):
            services.ledger.append(spans[start : start + AT_ONCE])
    except OtlpRefused as refused:
        kind, answer = encode_error(content_type, INVALID_ARGUMENT, str(refused))
        await call.reply(refused.http_status, answer, content_type=kind.encode("ascii"))
        return
    except (DiskFull, OSError) as wrong:
        kind, answer = encode_error(content_type, UNAVAILABLE, str(wrong))
        await call.reply(503, answer, content_type=kind.encode("ascii"), more=[(b"retry-after", b"5")])
        return
    kind, answer = encode_response(content_type, taken.rejected, taken.message)
    await call.reply(200, answer, content_type=kind.encode("ascii"))

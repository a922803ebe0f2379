"""OTLP over gRPC: the same answers as over HTTP."""

import asyncio
import os
import sys

import httpx
import pytest

from slipway.access.keys import create_key
from slipway.domain.errors import PackageMissing
from slipway.gateway.app import Gateway
from slipway.gateway.otlp_grpc import GrpcDoor, load_grpc
from slipway.tracing.ingest import drain
from slipway.workspace import open_workspace

NOW = 1_790_000_000_000_000_000


def request_of(trace: bytes, span: bytes) -> bytes:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    told = request.resource_spans.add().scope_spans.add().spans.add()
    told.trace_id, told.span_id, told.name, told.start_time_unix_nano = trace, span, "step", NOW
    return request.SerializeToString()


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(PackageMissing, match=r"slipway\[otel\]"):
        load_grpc()


def test_spans_are_taken_and_refused_as_over_http(folder):
    grpc = pytest.importorskip("grpc", reason="grpcio (extra `otel`) is not installed")
    good, bad = os.urandom(16), os.urandom(16)

    async def talk(workspace, secret):
        gateway = Gateway(workspace, keys_required=True)
        door = GrpcDoor(gateway, "127.0.0.1:0", largest=1_000_000)
        await door.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{door.port}") as channel:
            export = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
            key = (("authorization", f"Bearer {secret}"),)
            assert await export(request_of(good, os.urandom(8)), metadata=key, timeout=60) == b""
            partial = await export(request_of(bad, b"short"), metadata=key, timeout=60)
            assert b"no span id" in partial
            for body, metadata, code in (
                (request_of(bad, os.urandom(8)), (), grpc.StatusCode.UNAUTHENTICATED),
                (b"\xff\xff", key, grpc.StatusCode.INVALID_ARGUMENT),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await export(body, metadata=metadata, timeout=60)
                assert refused.value.code() is code
                assert refused.value.details()
        await door.stop()
        gateway._journal.close()

    with open_workspace(folder) as workspace:
        _, secret = create_key(workspace.store, "bot", scopes=("traces",))
        asyncio.run(talk(workspace, secret))
        drain(workspace.store)
        assert {row.id for row in workspace.store.traces.list().rows} == {good.hex()}


def test_it_starts_and_ends_with_the_server(folder, tools):
    grpc = pytest.importorskip("grpc", reason="grpcio (extra `otel`) is not installed")
    trace = os.urandom(16)
    with open_workspace(folder) as workspace, tools.serving(workspace, grpc=True) as served:
        address = f"127.0.0.1:{served.gateway.grpc.port}"
        with grpc.insecure_channel(address) as channel:
            export = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
            assert export(request_of(trace, os.urandom(8)), timeout=60) == b""
        assert httpx.get(f"{served.url}/healthz").status_code == 200
        assert served.trace(trace.hex())
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.FutureTimeoutError):
        grpc.channel_ready_future(channel).result(timeout=0.5)

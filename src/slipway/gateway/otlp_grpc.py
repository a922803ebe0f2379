"""OTLP over gRPC, for senders that speak nothing else: each call goes through the same door as its HTTP twin."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from slipway.domain.errors import PackageMissing

Application = Callable[..., Awaitable[None]]
SERVICES = {
    "opentelemetry.proto.collector.trace.v1.TraceService": "/v1/traces",
    "opentelemetry.proto.collector.logs.v1.LogsService": "/v1/logs",
    "opentelemetry.proto.collector.metrics.v1.MetricsService": "/v1/metrics",
}
CODES = {400: 3, 401: 16, 403: 7, 413: 8, 429: 8, 503: 14}
INTERNAL = 13
GRACE_S = 5.0


def load_grpc() -> Any:
    """The package grpc. Raises `PackageMissing`."""
    try:
        import grpc
    except ImportError as missing:
        raise PackageMissing("OTLP over gRPC", "grpcio", "pip install 'slipway[otel]'") from missing
    return grpc


class GrpcDoor:
    """A gRPC server in the event loop of a worker. `address` is HOST:PORT; `tls` are certificate and key, PEM.

    Raises `PackageMissing` without grpcio.
    """

    def __init__(self, app: Application, address: str, *, largest: int, tls: tuple[bytes, bytes] | None = None) -> None:
        self._grpc, self._app, self.address, self._tls = load_grpc(), app, address, tls
        self._largest = largest
        self._server: Any = None
        self.port = 0

    async def start(self) -> None:
        """Raises `OSError` where the address is taken."""
        grpc = self._grpc
        self._server = grpc.aio.server(options=[("grpc.max_receive_message_length", self._largest)])
        for service, path in SERVICES.items():
            method = grpc.unary_unary_rpc_method_handler(self._export(path))
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": method}),))
        try:
            if self._tls is None:
                self.port = self._server.add_insecure_port(self.address)
            else:
                certificate, key = self._tls
                self.port = self._server.add_secure_port(
                    self.address, grpc.ssl_server_credentials([(key, certificate)])
                )
        except RuntimeError as wrong:
            raise OSError(f"OTLP over gRPC cannot listen on {self.address}: {wrong}") from wrong
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(GRACE_S)

    def _export(self, path: str) -> Callable[[bytes, Any], Awaitable[bytes]]:
        async def export(body: bytes, context: Any) -> bytes:
            status, answer = await self._ask(path, body, context.invocation_metadata() or ())
            if status == 200:
                return answer
            from opentelemetry.proto.trace.v1.trace_pb2 import Status

            # A google.rpc.Status has its message in the same field.
            codes = {code.value[0]: code for code in self._grpc.StatusCode}
            await context.abort(codes[CODES.get(status, INTERNAL)], Status.FromString(answer).message)
            raise AssertionError("abort raises")

        return export

    async def _ask(self, path: str, body: bytes, metadata: Any) -> tuple[int, bytes]:
        """The same request over HTTP, without a network between."""
        told = [
            (key.lower().encode(), value if isinstance(value, bytes) else value.encode())
            for key, value in metadata
            if not key.startswith(("grpc-", ":")) and key.lower() not in ("host", "content-type")
        ]
        # A page in a browser cannot speak gRPC, so it needs no guard against foreign hosts.
        headers = [*told, (b"host", b"localhost"), (b"content-type", b"application/x-protobuf")]
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "headers": headers,
            "server": None,
            "query_string": b"",
        }
        status, pieces, sent = 0, list[bytes](), False

        async def receive() -> MutableMapping[str, Any]:
            nonlocal sent
            if sent:
                return {"type": "http.disconnect"}
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                pieces.append(message.get("body", b""))

        await self._app(scope, receive, send)
        return status, b"".join(pieces)

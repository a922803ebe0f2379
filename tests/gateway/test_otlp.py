"""Spans of other programs, sent by the real OpenTelemetry exporter."""

import gzip
import json

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import Compression, OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

SPAN = {
    "traceId": "0af7651916cd43dd8448eb211c80319c",
    "spanId": "b7ad6b7169203331",
    "name": "chat m",
    "startTimeUnixNano": "1790000000000000000",
    "endTimeUnixNano": "1790000001000000000",
    "attributes": [{"key": "gen_ai.usage.input_tokens", "value": {"intValue": "7"}}],
}
BODY = {"resourceSpans": [{"scopeSpans": [{"spans": [SPAN]}]}]}


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip], ids=["plain", "gzip"])
def test_the_exporter(served, compression):
    provider = TracerProvider()
    exporter = OTLPSpanExporter(endpoint=f"{served.url}/v1/traces", compression=compression)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("test").start_as_current_span("work") as span:
        span.set_attribute("gen_ai.request.model", "m-1")
    provider.shutdown()
    (kept,) = served.trace(f"{span.get_span_context().trace_id:032x}")
    assert (kept.name, kept.model) == ("work", "m-1")


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_json(served, encoding):
    raw = json.dumps(BODY).encode()
    body = gzip.compress(raw) if encoding == "gzip" else raw
    answer = served.post("/v1/traces", body, headers={"content-encoding": encoding})
    assert (answer.status_code, answer.json()) == (200, {})
    (kept,) = served.trace(SPAN["traceId"])
    assert kept.input_tokens == 7


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        pytest.param(b"{", {}, 400, id="broken JSON"),
        pytest.param(b"\xff\xff", {"content-type": "application/x-protobuf"}, 400, id="broken protobuf"),
        pytest.param(b"{}", {"content-type": "text/plain"}, 415, id="another type"),
        pytest.param(b"xx", {"content-encoding": "gzip"}, 400, id="no gzip"),
        pytest.param(gzip.compress(b" " * 100_000_000), {"content-encoding": "gzip"}, 413, id="a bomb"),
    ],
)
def test_what_cannot_be_used(served, body, headers, status):
    assert served.post("/v1/traces", body, headers=headers).status_code == status


def test_what_could_not_be_journalled_is_not_acknowledged(served, monkeypatch):
    def full(_payload):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(served.gateway._journal, "append", full)
    answer = served.post("/v1/traces", BODY)
    assert answer.status_code == 503
    assert answer.headers["retry-after"]

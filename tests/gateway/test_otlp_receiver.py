"""The receiver of other programs: records joined, durable before the answer, in kind, clear about what it refuses."""

import asyncio
import json
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import zstandard
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

import slipway
from slipway.access.keys import create_key
from slipway.gateway.intake import Intake
from slipway.store.journal import Journal, read_journal
from slipway.tracing.ingest import drain
from slipway.tracing.intake import decode_record
from slipway.wire.otlp import Decoded, decode_traces
from slipway.workspace import open_workspace

NOW = 1_790_000_000_000_000_000
PROTOBUF = {"content-type": "application/x-protobuf"}
QUESTION, ANSWER = "What does a lampshade cost?", "Nine euros."


def ids() -> tuple[str, str]:
    return os.urandom(16).hex(), os.urandom(8).hex()


def a_span(trace: str, span: str, *, resource: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    told = {
        "traceId": trace,
        "spanId": span,
        "name": "chat m",
        "startTimeUnixNano": str(NOW),
        "endTimeUnixNano": str(NOW + 10**9),
        "attributes": [{"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}}],
    }
    return {
        "resourceSpans": [
            {"resource": {"attributes": pairs(resource or {})}, "scopeSpans": [{"spans": [{**told, **more}]}]}
        ]
    }


def pairs(values: dict[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": value}} for key, value in values.items()]


def records(trace: str, span: str, *more: dict[str, Any]) -> dict[str, Any]:
    question = {"kvlistValue": {"values": pairs({"content": QUESTION})}}
    answer = {
        "kvlistValue": {
            "values": [
                {"key": "finish_reason", "value": {"stringValue": "stop"}},
                {"key": "message", "value": {"kvlistValue": {"values": pairs({"content": ANSWER})}}},
            ]
        }
    }
    told = [
        {"eventName": "gen_ai.user.message", "observedTimeUnixNano": "1", "body": question},
        # The name was an attribute until 1.30.
        {"attributes": pairs({"event.name": "gen_ai.choice"}), "timeUnixNano": "2", "body": answer},
    ]
    named = [{"traceId": trace, "spanId": span, **one} for one in (*told, *more)]
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": named}]}]}


@pytest.mark.parametrize("logs_first", [True, False], ids=["logs first", "spans first"])
def test_log_records_are_joined_to_their_span(served, logs_first):
    trace, span = ids()
    sent = [("/v1/logs", records(trace, span)), ("/v1/traces", a_span(trace, span))]
    for path, body in sent if logs_first else reversed(sent):
        assert served.post(path, body).json() == {}
        drain(served.workspace.store)
    (kept,) = served.trace(trace)
    assert kept.content["messages"] == [{"role": "user", "text": QUESTION}]
    assert kept.content["output"] == [{"role": "assistant", "text": ANSWER}]
    assert kept.finish == "stop"
    assert served.workspace.store.traces.summary(trace).preview == QUESTION


def test_plain_log_lines_are_counted_not_kept(served):
    trace, span = ids()
    plain = {"body": {"stringValue": "listening"}}
    answer = served.post("/v1/logs", records(trace, span, plain, {**plain, "traceId": ""}))
    told = answer.json()["partialSuccess"]
    assert (answer.status_code, told["rejectedLogRecords"]) == (200, "2")
    assert "names no span" in told["errorMessage"]


def test_answers_come_in_kind(served):
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id = bytes.fromhex(ids()[0]), b"short"
    answer = served.post("/v1/traces", request.SerializeToString(), headers=PROTOBUF)
    told = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert answer.headers["content-type"] == "application/x-protobuf"
    assert told.rejected_spans == 1
    assert "no span id" in told.error_message
    empty = served.post("/v1/logs", b"", headers=PROTOBUF)
    assert (empty.status_code, ExportLogsServiceResponse.FromString(empty.content)) == (
        200,
        ExportLogsServiceResponse(),
    )


def test_metrics_are_counted(served):
    points = {"dataPoints": [{"asInt": "1"}, {"asInt": "2"}]}
    body = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "a", "sum": points}, {"name": "b"}]}]}]}
    before = served.gateway._services.counts.otlp.get("metrics taken", 0)
    assert served.post("/v1/metrics", body).json() == {}
    assert served.gateway._services.counts.otlp["metrics taken"] == before + 2
    assert 'slipway_otlp_total{signal="metrics",outcome="taken"}' in httpx.get(f"{served.url}/metrics").text


@pytest.mark.parametrize(
    ("encoding", "compress"), [("deflate", zlib.compress), ("zstd", zstandard.compress)], ids=["deflate", "zstd"]
)
def test_compressed(served, encoding, compress):
    trace, span = ids()
    body = compress(json.dumps(a_span(trace, span)).encode())
    assert served.post("/v1/traces", body, headers={"content-encoding": encoding}).status_code == 200
    assert served.trace(trace)


def test_a_sender_is_told_to_wait_when_the_store_is_behind(served, monkeypatch):
    monkeypatch.setattr(Intake, "behind_bytes", lambda _: 2_000_000_000)
    for path, body in (("/v1/traces", a_span(*ids())), ("/v1/logs", records(*ids()))):
        answer = served.post(path, body)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "more than 1024 MB wait" in answer.json()["message"]


def test_a_disk_that_fails_to_sync_acknowledges_nothing(served, monkeypatch):
    def fail():
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(served.gateway._journal, "sync", fail)
    answer = served.post("/v1/traces", a_span(*ids()))
    assert answer.status_code == 503
    assert "Input/output error" in answer.json()["message"]


def test_errors_come_in_kind_too(served):
    answer = served.post("/v1/traces", b"\xff", headers=PROTOBUF)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/x-protobuf")
    assert b"no OTLP protobuf" in answer.content
    assert httpx.get(f"{served.url}/v1/traces").status_code == 405


def test_a_missing_key_is_refused_in_kind(folder, tools):
    with open_workspace(folder) as workspace, tools.serving(workspace, keys_required=True) as served:
        answer = served.post("/v1/logs", records(*ids()))
        assert (answer.status_code, answer.json()["code"]) == (401, 16)


def test_langfuse_s_sdk_needs_only_another_host(folder, tools):
    """It posts below its host and sends its secret key as a password."""
    with open_workspace(folder) as workspace:
        _, secret = create_key(workspace.store, "bot", scopes=("traces",))
        with tools.serving(workspace, keys_required=True) as served:
            trace, span = ids()
            path = "/api/public/otel/v1/traces"
            assert served.post(path, a_span(trace, span)).status_code == 401
            wrong = httpx.BasicAuth("pk", "wrong")
            assert served.post(path, a_span(trace, span), auth=wrong).status_code == 401
            assert served.post(path, a_span(trace, span), auth=httpx.BasicAuth("pk", secret)).status_code == 200
            assert served.trace(trace)


def test_projects_that_are_named(folder, tools):
    text = (folder / "slipway.toml").read_text()
    (folder / "slipway.toml").write_text(text + '\n[watch]\nprojects = ["bulbs"]\n')
    with open_workspace(folder) as workspace, tools.serving(workspace) as served:
        traces = [ids() for _ in range(4)]
        served.post("/v1/traces", a_span(*traces[0], resource={"service.name": "bulbs"}))
        served.post("/v1/traces", a_span(*traces[1], resource={"service.name": "unheard of"}))
        served.post("/v1/traces", a_span(*traces[2]), headers={"x-slipway-project": "bulbs"})
        wrong = served.post("/v1/traces", a_span(*traces[3]), headers={"x-slipway-project": "others"})
        assert wrong.status_code == 400
        assert "[watch] projects" in wrong.json()["message"]
        drain(workspace.store)
        bulbs = {row.id for row in workspace.store.of("bulbs").traces.list().rows}
        own = {row.id for row in workspace.store.traces.list().rows}
        assert bulbs == {traces[0][0], traces[2][0]}
        assert own == {traces[1][0]}


def test_many_requests_share_one_sync_and_each_is_on_the_disk_before_its_answer(tmp_path):
    journal = Journal.open(tmp_path, worker="w")
    intake = Intake(journal)
    synced: set[str] = set()
    sync = journal.sync

    def syncing() -> None:
        written = {span.trace for payload in read_journal(tmp_path) for span in decode_record(payload)[0]}
        sync()
        synced.update(written)

    journal.sync = syncing  # type: ignore[method-assign]

    async def send(trace: str) -> None:
        body = json.dumps(a_span(trace, "1" * 16)).encode()
        await intake.take(lambda: decode_traces(body, "application/json", project="p"), size=len(body))
        assert trace in synced

    async def main() -> None:
        await asyncio.gather(*(send(ids()[0]) for _ in range(50)))

    asyncio.run(main())
    assert len(synced) == 50
    assert 1 <= intake.syncs < 25
    journal.close()


def test_a_client_that_leaves_takes_no_other_along(tmp_path):
    journal = Journal.open(tmp_path, worker="w")
    intake = Intake(journal)

    async def main() -> Decoded:
        def read(trace: str) -> Decoded:
            return decode_traces(json.dumps(a_span(trace, "1" * 16)).encode(), "application/json", project="p")

        leaving = asyncio.create_task(intake.take(lambda: read(ids()[0]), size=1))
        staying = asyncio.create_task(intake.take(lambda: read(ids()[0]), size=1))
        await asyncio.sleep(0)
        leaving.cancel()
        return await staying

    assert len(asyncio.run(main()).spans) == 1
    journal.close()


def test_many_senders_at_once(served):
    traces = [ids() for _ in range(40)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda one: served.post("/v1/traces", a_span(*one)).status_code, traces))
    assert set(answers) == {200}
    drain(served.workspace.store)
    assert all(served.workspace.store.traces.get(trace) for trace, _ in traces)


def test_a_trace_crosses_from_a_program_through_the_gateway(served):
    with slipway.init(served.url) as tracing:
        with slipway.span("question", session="s1") as step:
            headers = {"traceparent": slipway.traceparent()}
            served.client.chat.completions.create(
                model="plain", messages=[{"role": "user", "content": "hi"}], extra_headers=headers
            )
        assert tracing.flush(within_s=60)
    spans = served.trace(step._trace.trace_id)
    assert [(span.name, span.parent) for span in spans if span.parent is None] == [("question", None)]
    called = [span for span in spans if span.parent == step.id]
    assert [span.input_tokens for span in called] == [120]

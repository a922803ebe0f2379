"""What broken, late, huge and wrong senders send: each gets a clear answer, and nothing else is lost."""

import gzip
import json
import os
import time
import tracemalloc
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from slipway.domain.errors import NotFound, OtlpRefused
from slipway.tracing.ingest import drain
from slipway.wire.compression import decompress

PROTOBUF = "application/x-protobuf"
NOW = 1_790_000_000_000_000_000


def request_of(*spans: dict[str, Any]) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    scoped = request.resource_spans.add().scope_spans.add()
    for told in spans:
        span = scoped.spans.add()
        span.trace_id = told["trace"]
        span.span_id = told.get("span") or os.urandom(8)
        span.parent_span_id = told.get("parent", b"")
        span.name = told.get("name", "step")
        span.start_time_unix_nano = told.get("start", NOW)
        span.end_time_unix_nano = told.get("end", NOW + 10**9)
        for key, value in told.get("attributes", {}).items():
            pair = span.attributes.add()
            pair.key, pair.value.string_value = key, value
    return request


def send(served: Any, body: bytes | ExportTraceServiceRequest) -> Any:
    """Partial success of the answer, which must be 200."""
    raw = body if isinstance(body, bytes) else body.SerializeToString()
    answer = served.post(
        "/v1/traces", gzip.compress(raw), headers={"content-type": PROTOBUF, "content-encoding": "gzip"}
    )
    assert answer.status_code == 200, answer.text
    return ExportTraceServiceResponse.FromString(answer.content).partial_success


def test_children_before_parents_and_parents_that_never_come(served):
    trace, root, child = os.urandom(16), os.urandom(8), os.urandom(8)
    send(served, request_of({"trace": trace, "parent": child, "name": "grandchild", "start": NOW + 2}))
    orphan = served.trace(trace.hex())
    assert [span.name for span in orphan] == ["grandchild"]
    send(served, request_of({"trace": trace, "span": child, "parent": root, "name": "child", "start": NOW + 1}))
    drain(served.workspace.store)
    send(served, request_of({"trace": trace, "span": root, "name": "root"}))
    # A repetition, as senders do when an answer was lost.
    send(served, request_of({"trace": trace, "span": root, "name": "root"}))
    spans = served.trace(trace.hex())
    assert [span.name for span in spans] == ["root", "child", "grandchild"]
    assert spans[2].parent == spans[1].span
    summary = served.workspace.store.traces.summary(trace.hex())
    assert (summary.name, summary.spans) == ("root", 3)


def test_a_trace_of_32_thousand_spans(served):
    trace, root = os.urandom(16), os.urandom(8)
    spans = [{"trace": trace, "span": root, "name": "root"}]
    spans += [
        {"trace": trace, "span": number.to_bytes(8, "big"), "parent": root, "start": NOW + number}
        for number in range(1, 32_000)
    ]
    told = send(served, request_of(*spans))
    assert (told.rejected_spans, told.error_message) == (0, "")
    drain(served.workspace.store)
    summary = served.workspace.store.traces.summary(trace.hex())
    assert (summary.name, summary.spans) == ("root", 32_000)


def test_an_attribute_of_ten_megabytes_is_cut_and_said(served):
    trace = os.urandom(16)
    large = {"trace": trace, "attributes": {"input.value": "x" * 10_000_000}}
    told = send(served, request_of(large, {"trace": trace, "name": "beside"}))
    assert told.rejected_spans == 0
    assert "1 values were cut to 1048576 characters" in told.error_message
    kept = {span.name: span for span in served.trace(trace.hex())}
    assert "beside" in kept
    assert kept["step"].content["input"].endswith("… (10000000 characters)")


def test_text_that_is_no_utf_8_is_kept_with_marks(served):
    trace = os.urandom(16)
    raw = request_of(
        {"trace": trace, "attributes": {"question": "caf?"}, "name": "broken"}, {"trace": trace, "name": "whole"}
    ).SerializeToString()
    assert send(served, raw.replace(b"caf?", b"caf\xe9")).rejected_spans == 0
    kept = {span.name: span for span in served.trace(trace.hex())}
    assert kept["broken"].content["attributes"] == {"question": "caf\ufffd"}
    assert "whole" in kept


def test_json_that_is_no_utf_8_is_kept_with_marks(served):
    trace = os.urandom(16).hex()
    span = {"traceId": trace, "spanId": "a" * 16, "name": "caf?", "startTimeUnixNano": str(NOW)}
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
    assert served.post("/v1/traces", body.replace(b"caf?", b"caf\xe9")).json() == {}
    assert served.trace(trace)[0].name == "caf\ufffd"


def test_a_body_that_is_cut_off_gives_up_only_the_last_span(served):
    trace = os.urandom(16)
    raw = request_of(*({"trace": trace, "name": f"number {number}"} for number in range(5))).SerializeToString()
    told = send(served, raw[:-20])
    assert told.rejected_spans == 1
    assert "cut off" in told.error_message
    assert {span.name for span in served.trace(trace.hex())} == {f"number {number}" for number in range(4)}


def test_a_broken_span_in_the_middle_takes_no_other_along(served):
    trace = os.urandom(16)
    raw = request_of(
        {"trace": trace, "name": "first"}, {"trace": trace, "name": "spoiled!"}, {"trace": trace, "name": "last"}
    ).SerializeToString()
    # A field whose length reaches beyond its span.
    told = send(served, raw.replace(b"\x08spoiled!", b"\x7fspoiled!"))
    assert told.rejected_spans == 1
    assert {span.name for span in served.trace(trace.hex())} == {"first", "last"}


def test_a_clock_that_is_ahead_is_set_back_and_said(served):
    trace, ahead = os.urandom(16), time.time_ns() + 90 * 86_400 * 10**9
    told = send(
        served,
        request_of(
            {"trace": trace, "name": "outer", "start": ahead, "end": ahead + 5 * 10**9},
            {"trace": trace, "name": "inner", "start": ahead + 10**9, "end": ahead + 2 * 10**9},
        ),
    )
    assert told.rejected_spans == 0
    assert "2 spans begin in the future" in told.error_message
    spans = {span.name: span for span in served.trace(trace.hex())}
    assert spans["outer"].end_ns <= time.time_ns()
    assert spans["inner"].start_ns - spans["outer"].start_ns == 10**9
    assert spans["outer"].content["clock"] == {"start_ns": ahead, "end_ns": ahead + 5 * 10**9}


def test_a_span_that_ends_before_it_begins_lasts_no_time(served):
    trace = os.urandom(16)
    send(served, request_of({"trace": trace, "start": NOW, "end": NOW - 10**9}))
    assert served.trace(trace.hex())[0].seconds == 0


def test_late_spans_of_long_ago_are_taken(served):
    trace = os.urandom(16)
    assert send(served, request_of({"trace": trace, "start": 10**18, "end": 10**18 + 1})).error_message == ""
    assert served.trace(trace.hex())[0].start_ns == 10**18


def test_one_bad_span_among_good_ones_is_counted(served):
    trace = os.urandom(16)
    told = send(served, request_of({"trace": trace}, {"trace": b"\0" * 16}, {"trace": trace, "start": 0}))
    assert told.rejected_spans == 2
    assert "has no start time" in told.error_message
    assert len(served.trace(trace.hex())) == 1


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_a_bomb_is_refused_in_little_memory(encoding):
    import zlib

    import zstandard

    largest, raw = 1 << 20, bytes(100 << 20)
    packed = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstandard.compress}[encoding](raw)
    del raw
    tracemalloc.start()
    try:
        with pytest.raises(OtlpRefused, match="larger than 1 MiB"):
            decompress(packed, encoding, largest=largest)
        assert tracemalloc.get_traced_memory()[1] < 8 * largest
    finally:
        tracemalloc.stop()


def test_a_refused_body_leaves_nothing(served):
    trace = os.urandom(16)
    raw = request_of({"trace": trace}).SerializeToString()
    assert served.post("/v1/traces", raw[:30], headers={"content-type": PROTOBUF}).status_code == 400
    with pytest.raises(NotFound):
        served.trace(trace.hex())

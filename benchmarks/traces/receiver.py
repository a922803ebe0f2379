"""What a span of another program costs from the body of its request to the store: CPU milliseconds, by dialect.

Bodies are what real instrumentations sent (tests/wire/captured), with new ids, 100 spans a request, protobuf and gzip.
Each goes through decoding, journal and one sync, as in the gateway, and then through the ingester; HTTP is left out.

`python benchmarks/traces/receiver.py [--count 3000]`
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import gzip
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]
from machine import Figure, print_table  # noqa: E402
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest  # noqa: E402
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest  # noqa: E402

from slipway.config.secrets import Secret  # noqa: E402
from slipway.gateway.intake import Intake  # noqa: E402
from slipway.store.journal import Journal  # noqa: E402
from slipway.store.store import open_store  # noqa: E402
from slipway.tracing.ingest import drain  # noqa: E402
from slipway.wire.otlp import decode_logs, decode_traces  # noqa: E402

RECORDINGS = HERE.parents[1] / "tests" / "wire" / "captured"
AT_ONCE = 100
KINDS = {"/v1/traces": ExportTraceServiceRequest, "/v1/logs": ExportLogsServiceRequest}
IDS = ("traceId", "spanId", "parentSpanId")


def renamed(value: Any, number: int) -> Any:
    """A body with ids of its own, as protobuf's JSON wants them."""
    from base64 import b64encode

    match value:
        case dict():
            return {
                key: b64encode(
                    (int(inner, 16) ^ (number * 0x9E3779B97F4A7C15 & (1 << 60) - 1)).to_bytes(len(inner) // 2, "big")
                ).decode()
                if key in IDS and inner
                else renamed(inner, number)
                for key, inner in value.items()
            }
        case list():
            return [renamed(one, number) for one in value]
        case _:
            return value


def bodies(name: str, count: int) -> Iterator[tuple[str, bytes, int]]:
    """(path, gzip, spans) of requests that hold `count` spans in all; log records go before their spans."""
    from google.protobuf.json_format import ParseDict

    lines = [json.loads(line) for line in (RECORDINGS / f"{name}.jsonl").read_text().splitlines()]
    lines.sort(key=lambda line: line["path"])
    number = sent = 0
    while sent < count:
        requests = {line["path"]: KINDS[line["path"]]() for line in lines}
        spans = 0
        while spans < AT_ONCE:
            number += 1
            for line in lines:
                made = ParseDict(renamed(line["body"], number), KINDS[line["path"]]())
                requests[line["path"]].MergeFrom(made)
                for group in getattr(made, "resource_spans", ()):
                    spans += sum(len(scoped.spans) for scoped in group.scope_spans)
        sent += spans
        for path, request in requests.items():
            yield path, gzip.compress(request.SerializeToString(), 3), spans if path == "/v1/traces" else 0


async def receive(intake: Intake, sent: list[tuple[str, bytes, int]]) -> None:
    for path, body, _ in sent:
        decode = decode_traces if path == "/v1/traces" else decode_logs
        await intake.take(
            lambda body=body, decode=decode: decode(body, "application/x-protobuf", "gzip", project="bench"),
            size=len(body),
        )


def measure(name: str, count: int) -> Figure:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        url = f"sqlite:///{place / 'store.db'}"
        with open_store(url, project="bench", folder=place, master_key=Secret("0f" * 32)) as store:
            journal = Journal.open(store.journal_folder, worker="bench")
            intake = Intake(journal)
            everything = list(bodies(name, count + AT_ONCE))
            warm = 2 if any(path == "/v1/logs" for path, _, _ in everything) else 1
            asyncio.run(receive(intake, everything[:warm]))
            drain(store)
            sent = everything[warm:]
            gc.collect()
            began = time.process_time()
            asyncio.run(receive(intake, sent))
            received = time.process_time()
            done = drain(store)
            ended = time.process_time()
            journal.close()
        spans = sum(number for _, _, number in sent)
        assert done.spans == spans, (name, done, spans)
    size = sum(len(gzip.decompress(body)) for _, body, _ in sent) / spans
    received_ms, stored_ms = (received - began) / spans * 1e3, (ended - received) / spans * 1e3
    note = f"{size:.0f} bytes sent; received {received_ms:.3f}, stored {stored_ms:.3f}"
    return Figure(f"{name}: CPU a span", (ended - began) / spans * 1e3, "ms", 0.25, note)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=3000)
    count = parser.parse_args().count
    names = sorted(path.stem for path in RECORDINGS.glob("*.jsonl"))
    return print_table("Traces: from the request into the store", [measure(name, count) for name in names])


if __name__ == "__main__":
    sys.exit(main())

"""What a span costs that arrives by OTLP: CPU of the whole process tree, memory, disk; beside Phoenix and MLflow.

Every system is started as its users start it, on SQLite, and is sent the same requests of 200 spans of about 2 KB by
OTLP over HTTP in protobuf, as the instrumentation of OpenInference writes them: traces of four spans, each about a
person. Counted is what the process tree needs until it is idle again, so that work put off counts too. Of the disk,
logs and the journal are not counted: they do not grow with what is stored (the journal is at most 16 MB a worker).

`python benchmarks/traces/otlp.py [--spans 20000] [--phoenix PYTHON] [--mlflow PYTHON]`; a rival is measured when the
Python of an environment is named in which it is installed.
"""

from __future__ import annotations

import argparse
import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from kills import SETTINGS, tree  # noqa: E402
from machine import Figure, print_table  # noqa: E402
from spans import text  # noqa: E402

AT_ONCE = 200
TICKS = os.sysconf("SC_CLK_TCK")
KINDS = ("CHAIN", "RETRIEVER", "LLM", "GUARDRAIL")


class System(NamedTuple):
    """A server that takes spans, and where it keeps them."""

    name: str
    command: list[str]
    folder: Path
    path: str
    headers: dict[str, str]
    environment: dict[str, str]


def request(chance: random.Random) -> bytes:
    """200 spans of 50 traces; about 2 KB each."""
    whole = ExportTraceServiceRequest()
    resource = whole.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "bench"
    spans = resource.scope_spans.add()
    spans.scope.name = "openinference.instrumentation.openai"
    for _ in range(AT_ONCE // len(KINDS)):
        trace, root = chance.randbytes(16), chance.randbytes(8)
        begin = time.time_ns()
        person = f"user-{chance.randrange(5000)}"
        for number, kind in enumerate(KINDS):
            span = spans.spans.add()
            span.trace_id, span.span_id = trace, chance.randbytes(8) if number else root
            if number:
                span.parent_span_id = root
            span.name, span.kind = ("answer", "search", "ChatCompletion", "check")[number], 1
            span.start_time_unix_nano, span.end_time_unix_nano = begin, begin + 10**9
            span.status.code = 1
            question, answer = text(chance, 600), text(chance, 700)
            told = {
                "openinference.span.kind": kind,
                "user.id": person,
                "session.id": f"session of {person}",
                "input.value": question,
                "output.value": answer,
            }
            if kind == "LLM":
                told |= {
                    "llm.model_name": "gpt-4o-mini",
                    "llm.provider": "openai",
                    "llm.input_messages.0.message.role": "user",
                    "llm.input_messages.0.message.content": question,
                    "llm.output_messages.0.message.role": "assistant",
                    "llm.output_messages.0.message.content": answer,
                }
                for key, count in (("prompt", 150), ("completion", 180), ("total", 330)):
                    span.attributes.add(key=f"llm.token_count.{key}").value.int_value = count
            else:
                told["metadata"] = text(chance, 400)
            for key, value in told.items():
                span.attributes.add(key=key).value.string_value = value
    return whole.SerializeToString()


def cpu_seconds(pids: list[int]) -> float:
    total = 0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def peak_mib(pids: list[int]) -> float:
    """Most memory that the largest of the processes ever had."""
    most = 0
    for pid in pids:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmHWM"):
                    most = max(most, int(line.split()[1]))
    return most / 1024


def settle(root: int, *, quiet_s: float = 8.0, most_s: float = 900.0) -> None:
    """Waits until the tree has needed next to nothing for a while."""
    began = quiet_since = time.monotonic()
    before = cpu_seconds(tree(root))
    while time.monotonic() - quiet_since < quiet_s and time.monotonic() - began < most_s:
        time.sleep(0.5)
        now = cpu_seconds(tree(root))
        if now - before > 0.05:
            quiet_since = time.monotonic()
        before = now


def measure(system: System, bodies: list[bytes], port: int) -> list[Figure]:
    environment = {**os.environ, **system.environment}
    with (system.folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            system.command, env=environment, cwd=system.folder, stdout=log, stderr=log, start_new_session=True
        )
    try:
        send(port, system, bodies[:1], give_up_s=240)
        settle(process.pid)
        stored = size_of(system.folder)
        before = cpu_seconds(tree(process.pid))
        send(port, system, bodies[1:])
        settle(process.pid)
        pids = tree(process.pid)
        count = (len(bodies) - 1) * AT_ONCE
        ours = system.name == "slipway"
        cpu_ms = (cpu_seconds(pids) - before) / count * 1000
        sent = sum(map(len, bodies[1:])) / count
        note = f"{sent:.0f} bytes sent"
        return [
            Figure(f"{system.name}: CPU a span", cpu_ms, "ms", limit=0.25 if ours else None),
            Figure("  spans a second of one core", 1000 / cpu_ms, "spans/s"),
            Figure("  on disk", (size_of(system.folder) - stored) / count, "bytes/span", 1600 if ours else None, note),
            Figure("  most memory of one process", peak_mib(pids), "MiB", limit=150 if ours else None),
        ]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def size_of(folder: Path) -> int:
    """Bytes of everything that stays."""
    passing = {"server.log", "journal"}
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not passing & {*path.parts})


def send(port: int, system: System, bodies: list[bytes], *, give_up_s: float = 60) -> None:
    """Sends every request until it is answered 200, one after the other."""
    headers = {"content-type": "application/x-protobuf", **system.headers}
    for body in bodies:
        until = time.monotonic() + give_up_s
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                connection.request("POST", system.path, body, headers)
                status = connection.getresponse().status
                connection.close()
            except OSError:
                status = 0
            if status == 200:
                break
            if time.monotonic() > until:
                raise SystemExit(f"{system.name} answers {status}; see {system.folder / 'server.log'}")
            time.sleep(0.3)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def slipway(folder: Path, port: int) -> System:
    (folder / "documents").mkdir(parents=True)
    (folder / "prompts").mkdir()
    (folder / "slipway.toml").write_text(SETTINGS)
    command = [sys.executable, "-m", "slipway.cli.main", "serve", "--dir", str(folder), "--port", str(port)]
    return System("slipway", [*command, "--no-pages"], folder, "/v1/traces", {}, {})


def phoenix(folder: Path, port: int, python: str) -> System:
    folder.mkdir()
    environment = {
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(free_port()),
        "PHOENIX_TELEMETRY_ENABLED": "false",
    }
    return System("Phoenix", [python, "-m", "phoenix.server.main", "serve"], folder, "/v1/traces", {}, environment)


def mlflow(folder: Path, port: int, python: str) -> System:
    folder.mkdir()
    command = [python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return System("MLflow", command, folder, "/v1/traces", {"x-mlflow-experiment-id": "0"}, environment)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=20_000)
    parser.add_argument("--phoenix", metavar="PYTHON", help="Python of an environment with arize-phoenix")
    parser.add_argument("--mlflow", metavar="PYTHON", help="Python of an environment with mlflow")
    options = parser.parse_args()
    chance = random.Random(1)
    bodies = [request(chance) for _ in range(options.spans // AT_ONCE + 1)]
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as named:
        folder = Path(named)
        port = free_port()
        figures += measure(slipway(folder / "slipway", port), bodies, port)
        # A rival gets a tenth: it needs so much longer.
        few = bodies[: max(2, len(bodies) // 10)]
        if options.phoenix:
            port = free_port()
            figures += measure(phoenix(folder / "phoenix", port, options.phoenix), few, port)
        if options.mlflow:
            port = free_port()
            figures += measure(mlflow(folder / "mlflow", port, options.mlflow), few, port)
    return print_table("Traces by OTLP", figures)


if __name__ == "__main__":
    sys.exit(main())

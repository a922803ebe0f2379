"""Whether anything is lost that was answered 200: kill -9 under load, a locked database, a full disk. The limit is 0.

A real server takes spans by OTLP from two senders. Its whole process tree (gateway and ingester) is killed at some
moment and started again, so many times; after that another process locks the database for a few seconds; at last the
server may only write files up to a size, so that journal and database find the disk full. When all is over, what is
left in the journal is taken in, and every trace that was ever acknowledged is looked for.

`python benchmarks/traces/kills.py [--kills 20] [--seconds 1.5]`
"""

from __future__ import annotations

import argparse
import http.client
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from machine import Figure, print_table  # noqa: E402
from spans import text  # noqa: E402

from slipway.domain.ids import new_span_id, new_trace_id  # noqa: E402
from slipway.domain.trace import Span  # noqa: E402
from slipway.tracing.ingest import drain, open_for_ingest  # noqa: E402
from slipway.wire.otlp import encode_traces  # noqa: E402

SETTINGS = """
[application]
name = "bench"
[retrieve]
embedder = { kind = "none" }
"""
SPANS = 20
"""Traces of one request."""


class Sender(threading.Thread):
    """Sends traces one request after another, whatever happens, and remembers which were answered 200."""

    def __init__(self, port: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.port, self.chance = port, random.Random(seed)
        self.acknowledged: list[str] = []
        self.refused = 0
        self.ending = threading.Event()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while not self.ending.is_set():
            ids, body = self.request()
            try:
                connection.request("POST", "/v1/traces", body, {"content-type": "application/json"})
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                time.sleep(0.05)
                continue
            if answer.status == 200:
                self.acknowledged += ids
            else:
                self.refused += 1
                time.sleep(0.02)

    def request(self) -> tuple[list[str], bytes]:
        now = time.time_ns()
        content = {"question": text(self.chance, 600), "answer": text(self.chance, 700)}
        spans = [
            Span(
                trace=new_trace_id(), span=new_span_id(), name="chat", kind="chat", status="ok", model="small",
                start_ns=now, end_ns=now + 10**9, input_tokens=150, output_tokens=180, content=dict(content),
            )
            for _ in range(SPANS)
        ]  # fmt: skip
        return [span.trace for span in spans], encode_traces(spans, service="bench")


def tree(root: int) -> list[int]:
    """A process and everything it started."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for pid in found:
        found.extend(parents.get(pid, []))
    return found


def serve(folder: Path, port: int, *, most_file_kb: int | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "slipway.cli.main", "serve", "--dir", str(folder), "--port", str(port)]
    command += ["--no-pages", "--json"]
    if most_file_kb is not None:
        command = ["bash", "-c", f'ulimit -f {most_file_kb}; exec "$@"', "bash", *command]
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    if not process.stdout.readline():
        raise SystemExit(f"the server ended with {process.wait()}:\n{(folder / 'server.log').read_text()[-2000:]}")
    return process


def kill_all(process: subprocess.Popen[str]) -> None:
    for pid in tree(process.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def marks(senders: list[Sender]) -> list[int]:
    """How far each sender has come."""
    return [len(sender.acknowledged) for sender in senders]


def run(folder: Path, kills: int, seconds: float) -> list[Figure]:
    (folder / "documents").mkdir(parents=True)
    (folder / "prompts").mkdir()
    (folder / "slipway.toml").write_text(SETTINGS)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    database = folder / ".slipway" / "store.db"
    senders = [Sender(port, seed) for seed in (1, 2)]
    phases: list[tuple[str, list[int]]] = []
    process = serve(folder, port)
    for sender in senders:
        sender.start()
    for _ in range(kills):
        time.sleep(seconds * random.uniform(0.5, 1.5))
        kill_all(process)
        process = serve(folder, port)
    phases.append((f"{kills} kills -9 under load", marks(senders)))
    with sqlite3.connect(database, isolation_level=None) as other:
        other.execute("begin immediate")
        time.sleep(5)
        other.execute("rollback")
    phases.append(("database locked for 5 s", marks(senders)))
    kill_all(process)
    # A little more than there is: the journal and the database soon find no room.
    process = serve(folder, port, most_file_kb=database.stat().st_size // 1024 + 512)
    time.sleep(5)
    refused = sum(sender.refused for sender in senders)
    phases.append((f"no room for larger files ({refused} requests refused)", marks(senders)))
    for sender in senders:
        sender.ending.set()
        sender.join()
    kill_all(process)
    with open_for_ingest(folder) as store:
        drain(store, wait_s=10)
        stored = set(store.traces.ids())
        damaged = store.positions.damaged()
    figures = []
    before = [0] * len(senders)
    for name, until in phases:
        ids = [id for at, sender in enumerate(senders) for id in sender.acknowledged[before[at] : until[at]]]
        lost = len(set(ids) - stored)
        figures.append(Figure(f"lost: {name}", lost, "spans", limit=0, note=f"{len(ids):,} acknowledged"))
        before = until
    figures.append(Figure("journal records that were damaged", damaged, "", limit=0))
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1.5, help="time between kills, on average")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = run(Path(folder) / "bench", options.kills, options.seconds)
    return print_table("Traces: what was acknowledged and is not there", figures)


if __name__ == "__main__":
    sys.exit(main())

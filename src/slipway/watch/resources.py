"""What the application uses: processor, memory, disk, and money per release and model."""

import os
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from slipway.access.budgets import CACHE_HOLDER, period_of
from slipway.domain.rollup import Histogram
from slipway.workspace import Workspace

Key = Literal["release", "model", "channel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """This process and its machine. Bytes; `load` is the mean number of running processes over a minute."""

    cores: int
    load: float
    process_cpu_seconds: float
    process_memory: int
    memory_available: int
    disk_used_by_slipway: int
    disk_free: int
    journal_bytes: int
    """Traces that are acknowledged but not yet in the database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """Traffic and money of one release or model over a stretch of time."""

    key: str
    requests: int
    errors: int
    input_tokens: int
    output_tokens: int
    cost_micros: int
    per_request_micros: float
    p50_ms: float | None
    p95_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """Requests of one month that the cache answered, and what they would have cost, in millionths of a dollar."""

    period: str
    requests: int
    micros: int


def measure_machine(workspace: Workspace) -> Machine:
    """Read from the operating system now."""
    times = os.times()
    state = workspace.state
    return Machine(
        cores=os.cpu_count() or 1,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
        process_cpu_seconds=times.user + times.system,
        process_memory=_process_memory(),
        memory_available=_memory_available(),
        disk_used_by_slipway=_size(state),
        disk_free=shutil.disk_usage(workspace.folder).free,
        journal_bytes=_size(workspace.store.journal_folder),
    )


def spending(
    workspace: Workspace, *, since: datetime, until: datetime | None = None, by: Key = "release"
) -> list[Spending]:
    """Requests, tokens and money by `release`, `model` or `channel`, the dearest first; read from the roll-ups."""
    rows: dict[str, Spending] = {}
    points = workspace.store.traces.series(since=since, until=until or workspace.now(), by=by)
    for key in dict.fromkeys(point.key for point in points):
        own = [point for point in points if point.key == key]
        requests = sum(point.count for point in own)
        cost = sum(point.cost_micros for point in own)
        latency = sum((point.latency for point in own), Histogram())
        rows[key] = Spending(
            key=key,
            requests=requests,
            errors=sum(point.errors for point in own),
            input_tokens=sum(point.input_tokens for point in own),
            output_tokens=sum(point.output_tokens for point in own),
            cost_micros=cost,
            per_request_micros=cost / requests if requests else 0.0,
            p50_ms=_milliseconds(latency.percentile(0.5)),
            p95_ms=_milliseconds(latency.percentile(0.95)),
        )
    return sorted(rows.values(), key=lambda row: -row.cost_micros)


def saved_by_cache(workspace: Workspace) -> Saved:
    """What answers from the gateway's cache have saved this calendar month (UTC)."""
    period = period_of(workspace.now())
    found = workspace.store.spending.of(period).get(CACHE_HOLDER)
    return Saved(period=period, requests=found.requests if found else 0, micros=found.micros if found else 0)


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _size(folder: Path) -> int:
    if not folder.exists():
        return 0
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _process_memory() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _memory_available() -> int:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0

"""How long it takes to look at a million traces, to erase one person among them, and to start: CPU milliseconds.

Fills an application with traces of one span over one day, about so many people, through the journal as a gateway does;
then asks what pages ask. Limits are those of the issue. One person's traces hold a word that occurs nowhere else: after
the erasure every file of the application is searched for it, byte by byte.

`python benchmarks/traces/scale.py [--spans 1000000] [--people 20000] [--folder F] [--keep]`
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from machine import Figure, print_table  # noqa: E402
from spans import MODELS, START_NS, gateway_spans  # noqa: E402

from slipway.domain.ids import SubjectId  # noqa: E402
from slipway.privacy.erasure import erase_subject  # noqa: E402
from slipway.privacy.proof import search_files  # noqa: E402
from slipway.store.journal import Journal  # noqa: E402
from slipway.tracing.ingest import drain  # noqa: E402
from slipway.tracing.recorder import encode_spans  # noqa: E402
from slipway.workspace import Workspace, open_workspace  # noqa: E402

SETTINGS = """
[application]
name = "bench"
[retrieve]
embedder = { kind = "none" }
"""
AT_ONCE = 20_000
ANNA = SubjectId("user-anna")
CANARY = "quaxolotlin7b"
DAY = timedelta(days=1)
BEGIN = datetime.fromtimestamp(START_NS // 10**9, UTC)
START = """
import sys
from pathlib import Path
from slipway.workspace import open_workspace
with open_workspace(Path(sys.argv[1])) as workspace:
    assert len(workspace.store.traces.list(limit=50).rows) == 50
"""


def make_application(folder: Path) -> None:
    (folder / "documents").mkdir(parents=True)
    (folder / "prompts").mkdir()
    (folder / "slipway.toml").write_text(SETTINGS)


def fill(workspace: Workspace, count: int, people: int) -> float:
    """Journals and drains so many spans, every 20,000th about Anna; returns the CPU seconds of the draining."""
    seconds = 0.0
    apart_ns = 86_400 * 10**9 // count
    for first in range(0, count, AT_ONCE):
        some = min(AT_ONCE, count - first)
        with Journal.open(workspace.store.journal_folder, worker="bench") as journal:
            spans = gateway_spans(some, seed=first, first=first, people=people, apart_ns=apart_ns)
            for number, span in enumerate(spans):
                if number == some // 2:
                    span["subject"] = ANNA
                    span["content"]["messages"][0]["content"] += f" My secret word is {CANARY}."
                journal.append(encode_spans([span]))  # type: ignore[list-item]
        began = time.process_time()
        drain(workspace.store)
        seconds += time.process_time() - began
    return seconds


def cpu_ms(verb: Callable[[], Any], *, times: int = 3) -> float:
    """The least CPU of a few calls, in milliseconds."""
    least = float("inf")
    for _ in range(times):
        began = time.process_time()
        verb()
        least = min(least, time.process_time() - began)
    return least * 1000


def start_seconds(folder: Path) -> float:
    """CPU of a process that opens the application and shows the newest page."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", START, str(folder)], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(folder: Path, count: int, people: int) -> list[Figure]:
    if not (folder / "slipway.toml").exists():
        make_application(folder)
    figures = []
    with open_workspace(folder) as workspace:
        traces = workspace.store.traces
        if not traces.list(limit=1).rows:
            seconds = fill(workspace, count, people)
            figures.append(Figure("ingest: CPU a span", seconds / count * 1000, "ms", limit=0.25))
            figures.append(Figure("durable spans a second, of one core", count / seconds, "spans/s"))
        stored = sum(path.stat().st_size for path in (folder / ".slipway").rglob("*") if path.is_file())
        # No limit here: nearly every trace of a batch is about somebody else, so that none shares a page.
        figures.append(Figure("on disk, of 1,800 bytes sent", stored / count, "bytes/span"))
        by_model = lambda: traces.series(since=BEGIN, until=BEGIN + DAY, by="model", step_s=86_400)  # noqa: E731
        percentiles = [point.latency.percentile(0.99) for point in by_model()]
        hourly = lambda: traces.series(since=BEGIN, until=BEGIN + DAY, step_s=3600)  # noqa: E731
        queries: list[tuple[str, float, Callable[[], Any]]] = [
            ("newest page of 50", 50, traces.list),
            ("percentiles by model over a day", 50, by_model),
            ("hourly series over a day", 50, hourly),
            ("text that does not occur", 100, lambda: traces.list(text="zzyzxqq")),
            ("a rare word and a frequent one", 100, lambda: traces.list(text="secret quaxolotlin7b")),
            ("a word that is everywhere, newest 50", 1000, lambda: traces.list(text="release")),
            ("filter: model and errors", 50, lambda: traces.list(model=MODELS[0], status="error")),
            ("one person's traces", 50, lambda: traces.list(subject=ANNA)),
        ]
        for name, limit, verb in queries:
            note = f"{len(percentiles)} points" if verb is by_model else ""
            figures.append(Figure(name, cpu_ms(verb), "ms", limit=limit, note=note))
    figures.append(Figure("start and newest page: CPU of the process", start_seconds(folder), "s", limit=3))
    with open_workspace(folder) as workspace:
        held = len(workspace.store.traces.about(ANNA))
        began = time.process_time()
        report = erase_subject(workspace, ANNA, prove=False)
        seconds = time.process_time() - began
        note = f"{held} traces, {report.counts.get('erased', 0)} things erased"
        figures.append(Figure("erase one person", seconds, "s", limit=1, note=note))
        began = time.process_time()
        found = search_files(folder, [CANARY])
        note = f"searched {found.searched} files in {time.process_time() - began:.1f} CPU s"
        figures.append(
            Figure("files that still hold a word of that person", len(found.holding), "", limit=0, note=note)
        )
        assert not workspace.store.traces.list(text=CANARY).rows
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=1_000_000)
    parser.add_argument("--people", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, help="where to keep the application; filled when it is empty")
    parser.add_argument("--keep", action="store_true", help="leave the folder as it is when done")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp()) / "bench"
    try:
        figures = measure(folder, options.spans, options.people)
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    return print_table(f"Traces: {options.spans:,} spans about {options.people:,} people", figures)


if __name__ == "__main__":
    sys.exit(main())

"""What it costs to take a trace from the journal into the store: CPU microseconds a span, in all and by part.

A journal of traces of one span, as the gateway writes them (a prompt of 600 bytes, an answer of 750), is drained into
a fresh SQLite store with all that a stored trace has: lines and narrow rows, cost, roll-ups, words, sealed content.

`python benchmarks/traces/ingest.py [--count 6000] [--people 0] [--profile]`
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from machine import Figure, print_table  # noqa: E402
from spans import gateway_spans  # noqa: E402

from slipway.config.secrets import Secret  # noqa: E402
from slipway.store.journal import Journal  # noqa: E402
from slipway.store.store import Store, open_store  # noqa: E402
from slipway.tracing.ingest import calm_collector, drain  # noqa: E402
from slipway.tracing.recorder import encode_spans  # noqa: E402

MASTER = Secret("0f" * 32)


def fill(store: Store, count: int, *, first: int = 0, **options: int) -> int:
    """Journals spans; returns how many bytes they are."""
    with Journal.open(store.journal_folder, worker="bench") as journal:
        size = 0
        same = options.pop("same", 0)
        content = None
        for span in gateway_spans(count, seed=count + first, first=first, **options):
            content = content or span["content"]
            if same:
                span["content"] = content
            record = encode_spans([span])  # type: ignore[list-item]
            journal.append(record)
            size += len(record)
    return size


def measure(folder: Path, count: int, *, profile: bool = False, **options: int) -> dict[str, float]:
    """CPU microseconds a span and bytes on disk, after a first drain of 500 that pays what is paid once."""
    url = f"sqlite:///{folder / 'store.db'}"
    with open_store(url, project="bench", folder=folder, master_key=MASTER) as store:
        fill(store, 500, **options)
        drain(store)
        size = fill(store, count, first=500, **options)
        calm_collector()
        profiler = cProfile.Profile(time.process_time)
        if profile:
            profiler.enable()
        began = time.process_time()
        done = drain(store)
        seconds = time.process_time() - began
        profiler.disable()
        if profile:
            pstats.Stats(profiler).sort_stats("tottime").print_stats(35)
        assert done.spans == count, done
    stored = sum(path.stat().st_size for path in folder.glob("store.db*"))
    return {"us": seconds / count * 1e6, "sent": size / count, "stored": stored / (count + 500)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=6000)
    parser.add_argument("--people", type=int, default=0)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    figures = []
    cases = {"nobody known": {}, "a person each": {"people": options.count}}
    cases["nobody known, all ask the same"] = {"same": 1}
    cases["200 KB prompts"] = {"prompt": 200_000}
    if options.profile:
        cases = {"profiled": {"people": options.people}}
    for name, case in cases.items():
        count = options.count if "prompt" not in case else options.count // 50
        with tempfile.TemporaryDirectory() as folder:
            found = measure(Path(folder), count, profile=options.profile, **case)
        note = f"{found['stored']:.0f} bytes on disk of {found['sent']:.0f}"
        figures.append(Figure(f"{name}: CPU a span", found["us"] / 1000, "ms", note=note))
    return print_table("Traces: from the journal into the store", figures)


if __name__ == "__main__":
    sys.exit(main())

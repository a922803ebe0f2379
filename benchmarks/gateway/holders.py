"""Many keys, each with limits of its own: what a request costs when every one is of another key, and what idling costs.

The same application is asked with one key and with all of them in turn, pinned like the other benchmarks. Where each
request is of another key, none finds a block of its limits that was taken ahead of need, so all of them ask the table.

- a request: at most four times the CPU before ingest of one whose key asks all the time
- a second in which nobody asks: at most 50 ms CPU of the worker, ten seconds after the last request
- a new key is known after 3 seconds at most, and until then no request waits longer than 100 ms

`python benchmarks/gateway/holders.py [--keys 10000] [--seconds 4]`
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from machine import Figure, print_table  # noqa: E402
from systems import System, cpu_seconds, measure, memory_mb, start_slipway, upstream_and_folder  # noqa: E402

from slipway.access.keys import create_key  # noqa: E402
from slipway.domain.access import Limits  # noqa: E402
from slipway.workspace import open_workspace  # noqa: E402

LIMITS = Limits(requests_per_minute=10_000, tokens_per_minute=10**8, monthly_budget_micros=10**10)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    with ExitStack() as stack, upstream_and_folder(stack) as (upstream, folder):
        system = start_slipway(stack, folder / "app", upstream)
        texts = _make_keys(folder / "app", options.keys)
        (folder / "keys").write_text("\n".join(texts))
        _wait_for_key(system, texts[-1])
        measure(system, seconds=0.5)
        one = measure(system, seconds=options.seconds)
        all_of_them = measure(system, seconds=options.seconds, keys=folder / "keys")
        time.sleep(10)
        idle = cpu_seconds([system.pid])
        time.sleep(5)
        idle = (cpu_seconds([system.pid]) - idle) / 5
        known_s, longest_s = _wait_for_key(system, _make_keys(folder / "app", 1, "late")[0], beside=texts[0])
        figures = [
            Figure("one key: CPU a request before ingest", one["hot_ms"], "ms"),
            Figure(f"{options.keys} keys in turn: CPU a request before ingest", all_of_them["hot_ms"], "ms"),
            Figure("  against one key", all_of_them["hot_ms"] / one["hot_ms"], "times", limit=4.0),
            Figure("a second without requests: CPU", idle * 1000, "ms", limit=50.0),
            Figure("a new key is known after", known_s, "s", limit=3.0),
            Figure("  longest request meanwhile", longest_s * 1000, "ms", limit=100.0),
            Figure("memory of the worker", memory_mb(system.pid), "MB"),
        ]
    return print_table(f"Gateway: {options.keys} keys with limits", figures)


def _make_keys(folder: Path, number: int, name: str = "customer") -> list[str]:
    with open_workspace(folder) as workspace, workspace.store.transaction():
        return [create_key(workspace.store, f"{name}-{place}", limits=LIMITS)[1] for place in range(number)]


def _wait_for_key(system: System, key: str, beside: str = "") -> tuple[float, float]:
    """Seconds until a key is known, and of the longest request of another one meanwhile."""
    began, longest = time.monotonic(), 0.0
    while not _ask(system, key):
        if beside:
            asked = time.monotonic()
            _ask(system, beside)
            longest = max(longest, time.monotonic() - asked)
        if time.monotonic() - began > 60:
            raise SystemExit("a new key is not known after a minute")
    return time.monotonic() - began, longest


def _ask(system: System, key: str) -> bool:
    body = {"model": system.name_of("ok"), "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    try:
        urllib.request.urlopen(
            urllib.request.Request(system.url, json.dumps(body).encode(), headers), timeout=30
        ).read()
    except urllib.error.HTTPError as refused:
        if refused.code != 401:
            raise SystemExit(f"{refused.code} {refused.read().decode()}") from None
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())

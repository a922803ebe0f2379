"""A steady load with faults in it: memory and descriptors of the whole server must stay flat.

`python benchmarks/gateway/soak.py [--seconds 60] [--rate 200] [--faults 0.1] [--workers 1] [--transport own]`: a tenth
of the requests meet an upstream that fails in some way, or leave before their answer. Memory is what the serving
processes share with nobody, at a third of the time and at the end; half an hour (`--seconds 1800`) is what counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from faults import SETTINGS, Battery, Failed  # noqa: E402
from machine import Figure, print_table  # noqa: E402
from mock_upstream import MockUpstream  # noqa: E402
from systems import is_ingester, process, tree  # noqa: E402

FAULTS = ("429", "500", "reset", "garbage", "short", "cut", "error-event", "no-done", "400", "late", "stall", "leave")
STREAMED = ("cut", "error-event", "no-done", "late", "stall")
GROWTH_LIMIT = 5.0
"""Per cent of the memory at a third of the time."""
MOST_AT_ONCE = 800
DESCRIPTOR_LIMIT = 16
"""More open descriptors at the end, when nothing runs, than before the first request."""


def own_memory_mb(pid: int) -> float:
    """Private memory of a process."""
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Clean", "Private_Dirty")):
            total += int(line.split()[1])
    return total / 1000


def serving(pid: int) -> list[int]:
    return [one for one in tree(pid) if not is_ingester(one)]


def memory_of(pid: int) -> float:
    return sum(map(own_memory_mb, serving(pid)))


def descriptors_of(pid: int) -> int:
    return sum(len(os.listdir(f"/proc/{one}/fd")) for one in serving(pid))


async def one_request(battery: Battery, fault: str, came: Counter[str], *, model: str = "ok") -> None:
    stream = fault in STREAMED or (not fault and random.random() < 0.5)
    try:
        if fault == "leave":
            _, writer = await battery.open()
            body = b'{"model": "primary/slow-0.5", "messages": []}'
            writer.write(battery.head(len(body)) + body)
            await asyncio.sleep(0.1)
            writer.transport.abort()
            came["left"] += 1
            return
        answer = await battery.ask(f"primary/{fault or model}", stream=stream)
    except (Failed, OSError) as wrong:
        came[f"no answer ({fault or 'ok'}): {wrong}"] += 1
        return
    if not fault and answer.status != 200:
        came[f"{answer.status} without a fault"] += 1
    else:
        came["answered"] += 1


async def load(battery: Battery, pid: int, options: argparse.Namespace) -> tuple[Counter[str], float]:
    """Requests at a steady rate, whether or not earlier ones have ended, up to what a driver can hold; memory at a
    third of the time."""
    came: Counter[str] = Counter()
    running: set[asyncio.Task[None]] = set()
    # As many clients at once as ever come, before anything is measured: what they need is kept for the next ones, and a
    # busy machine lets such a crowd come up at any time.
    await asyncio.gather(*(one_request(battery, "", came, model="slow-0.5") for _ in range(MOST_AT_ONCE)))
    began, sent, early_mb = time.monotonic(), 0, 0.0
    while (passed := time.monotonic() - began) < options.seconds:
        while sent < passed * options.rate and len(running) < MOST_AT_ONCE:
            fault = random.choice(FAULTS) if random.random() < options.faults else ""
            task = asyncio.create_task(one_request(battery, fault, came))
            running.add(task)
            task.add_done_callback(running.discard)
            sent += 1
        if not early_mb and passed > options.seconds / 3:
            early_mb = memory_of(pid)
        await asyncio.sleep(0.005)
    await asyncio.gather(*running)
    return came, early_mb


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--faults", type=float, default=0.1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--transport", choices=("own", "aiohttp"), default="own")
    options = parser.parse_args()
    with ExitStack() as stack:
        mock = stack.enter_context(MockUpstream())
        mock.state.keep = False
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "app"
        (folder / "documents").mkdir(parents=True)
        (folder / "slipway.toml").write_text(SETTINGS.format(port=mock.port, transport=options.transport))
        command = [sys.executable, "-m", "slipway.cli.main", "serve", "--dir", str(folder), "--port", "0", "--no-pages"]
        command += ["--json", "--workers", str(options.workers)]
        served = stack.enter_context(process(command, stdout=subprocess.PIPE))
        assert served.stdout is not None
        battery = Battery(json.loads(served.stdout.readline())["endpoint"], mock, served.pid)
        time.sleep(2)
        before = descriptors_of(served.pid)
        came, early_mb = asyncio.run(load(battery, served.pid, options))
        mock.close_connections()
        time.sleep(3)
        late_mb, left = memory_of(served.pid), descriptors_of(served.pid) - before
    bad = sum(count for what, count in came.items() if what not in ("answered", "left"))
    figures = [
        Figure("requests", came.total(), "", note=", ".join(f"{count} {what}" for what, count in came.most_common(4))),
        Figure("requests without a fault that failed, or without an end", bad, "", limit=0),
        Figure("memory at a third of the time", early_mb, "MB"),
        Figure("memory at the end", late_mb, "MB"),
        Figure("  growth", (late_mb / early_mb - 1) * 100, "%", limit=GROWTH_LIMIT),
        Figure("descriptors more than before", left, "", limit=DESCRIPTOR_LIMIT),
    ]
    return print_table(f"Gateway: {options.seconds:g} s at {options.rate:g} requests/s, faults in them", figures)


if __name__ == "__main__":
    sys.exit(main())

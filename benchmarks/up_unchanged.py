"""Seconds that `slipway up --no-serve` takes when nothing has changed since the last time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import Figure, print_table

RUNS = 5
SLIPWAY = str(Path(sys.executable).parent / "slipway")
ROOT = Path(__file__).resolve().parent.parent


def timed(*arguments: str) -> tuple[float, float]:
    """Wall seconds and CPU seconds of one `slipway` command; ends the benchmark when the command fails."""
    began = time.monotonic()
    child = subprocess.Popen([SLIPWAY, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = child.stderr.read().decode() if child.stderr else ""
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"slipway {' '.join(arguments)} ended with {child.returncode}:\n{said}")
    return time.monotonic() - began, usage.ru_utime + usage.ru_stime


def main() -> int:
    """A new application over this project's own docs: the first `up` builds everything, the next find nothing to do."""
    with tempfile.TemporaryDirectory(prefix="slipway-up-") as folder:
        application = str(Path(folder) / "application")
        documents = shutil.copytree(ROOT / "docs", Path(folder) / "documents")
        timed("init", application, "--documents", str(documents))
        first_wall, first_cpu = timed("up", "--no-serve", "--dir", application)
        again = [timed("up", "--no-serve", "--dir", application) for _ in range(RUNS)]
    wall = min(wall for wall, _ in again)
    cpu = min(cpu for _, cpu in again)
    figures = [
        Figure("first slipway up --no-serve", first_wall, "s", note=f"{first_cpu:.1f} s CPU"),
        Figure("the same again", wall, "s", limit=2, note=f"{cpu:.2f} s CPU, {wall / first_wall:.3f}x the first"),
    ]
    return print_table(f"`slipway up` with nothing changed: least wall of {RUNS} runs", figures)


if __name__ == "__main__":
    sys.exit(main())

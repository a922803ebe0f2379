"""CPU that `import slipway` and `slipway --help` cost, beside what importing Starlette and Typer costs."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from machine import Figure, print_table

RUNS = 15
SLIPWAY = str(Path(sys.executable).parent / "slipway")


class Cost(NamedTuple):
    """CPU (user and system) of one child process, milliseconds."""

    least: float
    median: float


def cpu_ms(command: list[str]) -> Cost:
    """Run a command as a child process several times and read its own CPU time from the kernel."""
    seen: list[float] = []
    for _ in range(RUNS + 1):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            sys.exit(f"{command} ended with {child.returncode}: {child.stderr.read().decode() if child.stderr else ''}")
        if child.stderr:
            child.stderr.close()
        seen.append(1000 * (usage.ru_utime + usage.ru_stime))
    # The first run may have to compile bytecode.
    return Cost(min(seen[1:]), statistics.median(seen[1:]))


def main() -> int:
    """Measure, and compare with the limits. The interpreter's own start is part of every figure."""
    python = sys.executable
    bare = cpu_ms([python, "-c", "pass"])
    starlette = cpu_ms([python, "-c", "import starlette.applications"])
    typer = cpu_ms([python, "-c", "import typer"])
    ours = cpu_ms([python, "-c", "import slipway"])
    shown = cpu_ms([SLIPWAY, "--help"])
    to_starlette = f"{ours.least / starlette.least:.2f}x Starlette"
    to_typer = f"{shown.least / typer.least:.2f}x importing Typer"
    figures = [
        Figure("python -c pass", bare.least, "ms", note=f"median {bare.median:.0f}"),
        Figure("import starlette.applications", starlette.least, "ms", note=f"median {starlette.median:.0f}"),
        Figure("import typer", typer.least, "ms", note=f"median {typer.median:.0f}"),
        Figure("import slipway", ours.least, "ms", limit=150, note=f"median {ours.median:.0f}; {to_starlette}"),
        Figure("slipway --help", shown.least, "ms", limit=400, note=f"median {shown.median:.0f}; {to_typer}"),
    ]
    return print_table(f"Start-up: least CPU of {RUNS} child processes", figures)


if __name__ == "__main__":
    sys.exit(main())

"""What every benchmark prints first: the date, the machine and the command; and its table, with the limits checked."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple


class Figure(NamedTuple):
    """One measured number; `limit` is the most it may be, or None where it is shown for comparison only."""

    what: str
    value: float
    unit: str
    limit: float | None = None
    note: str = ""


def cpu_model() -> str:
    """The processor's own name for itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def print_heading(title: str) -> None:
    """What was measured, when, where and by which command."""
    where = f"{cpu_model()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{title}\n{datetime.now(UTC):%Y-%m-%d}, {where}\n$ {shlex.join(['python', *sys.argv])}\n")


def print_table(title: str, figures: Sequence[Figure]) -> int:
    """Print the figures; returns 1 when one is over its limit, for the exit code."""
    print_heading(title)
    rows = [("what", "measured", "limit", "", "note")]
    for figure in figures:
        limit = "" if figure.limit is None else f"{figure.limit:g} {figure.unit}"
        verdict = "" if figure.limit is None else ("kept" if figure.value <= figure.limit else "BROKEN")
        rows.append((figure.what, f"{figure.value:.3g} {figure.unit}", limit, verdict, figure.note))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return int(any(row[3] == "BROKEN" for row in rows))

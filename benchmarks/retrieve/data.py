"""Where the development data lies (SLIPWAY_DATA, or ../shared/data beside this checkout), and its rows."""

from __future__ import annotations

import gzip
import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from machine import Figure, print_table  # noqa: E402

__all__ = ["CACHE", "DATA", "ROOT", "Figure", "print_table", "read_rows"]

DATA = Path(os.environ.get("SLIPWAY_DATA", ROOT.parent / "shared" / "data"))
CACHE = ROOT / ".slipway" / "benchmarks"
"""Embeddings that a run made, so that the next one does not make them again."""


def read_rows(name: str) -> list[dict[str, Any]]:
    """Rows of a file under the data folder; ends the program with a hint where it is not there."""
    path = DATA / name
    if not path.exists():
        sys.exit(f"{path} is not there. Name the folder of the data: SLIPWAY_DATA=PATH")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]

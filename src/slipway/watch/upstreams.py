"""Which engines a running gateway leaves alone because they keep failing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

BreakerState = Literal["closed", "half-open", "open"]
WORST: tuple[BreakerState, ...] = ("closed", "half-open", "open")
OLD_AFTER_S = 60.0
"""What a worker wrote earlier than this says nothing: it was killed."""


class UpstreamHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One address of an engine and one model there; without `model` it is the address as such.

    `opened` counts how often it was left alone since the server started, `reason` is its last failure.
    """

    engine: str
    address: str
    model: str
    state: BreakerState
    opened: int
    retry_after_s: float
    reason: str


def write_health(folder: Path, worker: str, upstreams: Iterable[UpstreamHealth]) -> None:
    """One worker's view, as a file that the other processes read. Raises `OSError`."""
    path, found = folder / f"{worker}.upstreams", list(upstreams)
    if not found:
        path.unlink(missing_ok=True)
        return
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{worker}.upstreams.new"
    unfinished.write_bytes(msgspec.json.encode(found))
    os.replace(unfinished, path)


def read_health(folder: Path) -> list[UpstreamHealth]:
    """The worst that any worker sees of each upstream which failed lately, the worst ones first."""
    found: dict[tuple[str, str, str], UpstreamHealth] = {}
    for path in folder.glob("*.upstreams"):
        try:
            if time.time() - path.stat().st_mtime > OLD_AFTER_S:
                continue
            seen = msgspec.json.decode(path.read_bytes(), type=list[UpstreamHealth])
        except (OSError, ValueError):
            continue  # of a worker that is just ending
        for one in seen:
            key = (one.engine, one.address, one.model)
            known = found.get(key)
            if known is None:
                found[key] = one
                continue
            worse = max(one, known, key=lambda health: WORST.index(health.state))
            found[key] = msgspec.structs.replace(worse, opened=one.opened + known.opened)
    return sorted(found.values(), key=lambda health: (-WORST.index(health.state), health.engine, health.model))

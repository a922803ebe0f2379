"""Reads what load generators measured: vLLM bench, guidellm and aiperf JSON, tables, and traces with latencies."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from slipway.deploy.points import Point, point_of, read_table
from slipway.domain.errors import FileBroken, FileMissing, RowUnusable

TRACE_PARTS = 4
"""A trace with latencies becomes so many points, each of as many requests."""
FEWEST_IN_PART = 20
FIRST = ("ttft_ms", "first_token_ms", "seconds_to_first_token", "ttft_s", "first_s")
WHOLE = ("duration_ms", "latency_ms", "end_to_end_ms", "duration_s", "latency_s", "seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a load generator does not know: where the model ran. Empty or 0 where the file says it itself."""

    model: str = ""
    hardware: str = ""
    engine: str = "vllm"
    weights: str = ""
    devices: int = 0
    version: str = ""


def read_measurements(files: Sequence[Path], place: Place, *, folder: Path | None = None) -> list[Point]:
    """Every measured point of these files. Raises `FileMissing`, `FileBroken` or `RowUnusable` at the first bad one."""
    return [point for file in files for point in _points(file, place, folder)]


def _points(file: Path, place: Place, folder: Path | None) -> Iterator[Point]:
    for number, row in enumerate(_rows(file), 1):
        filled = {
            **row,
            "model": place.model or row.get("model", ""),
            "hardware": place.hardware or row.get("hardware", ""),
            "engine": row.get("engine") or place.engine,
            "weights": row.get("weights") or place.weights,
            "tp": row.get("tp") or str(place.devices or 1),
            "engine_version": row.get("engine_version") or place.version,
        }
        name = f"{file.name}, {row.get('id') or f'point {number}'}"
        if not filled["hardware"]:
            raise RowUnusable(name, "it does not say what it ran on. Name it: --hardware h100-sxm --devices 4")
        if not filled["model"]:
            raise RowUnusable(name, "it does not say which model ran. Name it: --model llama-3.1-70b")
        point = point_of(filled, name=name, folder=folder)
        if point.load == "closed" and not (point.first_s > 0 and point.token_s > 0):
            raise RowUnusable(name, "it holds no time to the first token or no time per token")
        yield point


def _rows(file: Path) -> list[dict[str, str]]:
    if file.suffix.lower() == ".csv":
        rows = read_table(file)
        if "arrival_s" in rows[0]:
            return _from_trace(file, rows)
        if not {"ttft_ms", "tpot_ms"} <= set(rows[0]):
            raise FileBroken(
                file, "it holds no measured times", next_step="A table needs ttft_ms and tpot_ms, a trace arrival_s."
            )
        return rows
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileMissing(file) from None
    except (OSError, ValueError) as wrong:
        raise FileBroken(file, f"it is neither JSON nor a .csv table ({wrong})") from wrong
    try:
        if isinstance(read, dict) and isinstance(read.get("benchmarks"), list):
            return [_from_guidellm(one) for one in read["benchmarks"]]
        if isinstance(read, dict) and "time_to_first_token" in read:
            return [_from_aiperf(read)]
        if isinstance(read, dict) and "mean_ttft_ms" in read:
            return [_from_vllm(read)]
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as lacking:
        raise FileBroken(file, f"it lacks {lacking}") from lacking
    raise FileBroken(file, "it is not a result of vLLM bench, guidellm or aiperf")


def _from_vllm(read: Mapping[str, Any]) -> dict[str, str]:
    """`vllm bench serve --save-result`. Without a limit on concurrency it is taken from Little's law."""
    completed = float(read["completed"])
    asked, said = read["total_input_tokens"] / completed, read["total_output_tokens"] / completed
    seconds = (read["mean_ttft_ms"] + max(said - 1, 0) * read["mean_tpot_ms"]) / 1e3
    users = read.get("max_concurrency") or completed / read["duration"] * seconds
    return _row(
        model=str(read.get("model_id") or ""),
        users=float(users),
        asked=asked,
        said=said,
        first_ms=read["mean_ttft_ms"],
        token_ms=read["mean_tpot_ms"],
        measured=str(read.get("date") or ""),
    )


def _from_guidellm(one: Mapping[str, Any]) -> dict[str, str]:
    """One benchmark of a guidellm report; its statistics of successful requests."""
    metrics = one["metrics"]

    def mean(*names: str) -> float:
        for name in names:
            if name in metrics:
                held = metrics[name].get("successful") or metrics[name]
                return float(held["mean"])
        raise KeyError(" or ".join(names))

    config = one.get("config") or one.get("args") or {}
    strategy = config.get("strategy") or one.get("scheduler", {}).get("strategy") or {}
    backend = config.get("backend") or one.get("worker") or {}
    return _row(
        model=str(backend.get("model") or backend.get("backend_model") or ""),
        users=float(strategy.get("max_concurrency") or strategy.get("streams") or mean("request_concurrency")),
        asked=mean("prompt_token_count"),
        said=mean("output_token_count"),
        first_ms=mean("time_to_first_token_ms"),
        # guidellm's time per output token counts the first one; the time between tokens is what is meant here.
        token_ms=mean("inter_token_latency_ms", "time_per_output_token_ms"),
    )


def _from_aiperf(read: Mapping[str, Any]) -> dict[str, str]:
    """aiperf's profile_export_aiperf.json."""

    def average(name: str) -> float:
        held = read[name]
        scale = 1e3 if held.get("unit") in ("s", "sec", "seconds") else 1.0
        return float(held["avg"]) * scale

    config = read.get("input_config") or {}
    load = config.get("loadgen") or {}
    names = (config.get("endpoint") or {}).get("model_names") or [""]
    asked, said = float(read["input_sequence_length"]["avg"]), float(read["output_sequence_length"]["avg"])
    first, token = average("time_to_first_token"), average("inter_token_latency")
    users = load.get("concurrency")
    if not users:
        users = float(read["request_throughput"]["avg"]) * (first + (said - 1) * token) / 1e3
    return _row(model=str(names[0]), users=float(users), asked=asked, said=said, first_ms=first, token_ms=token)


def _from_trace(file: Path, rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """A trace whose requests were timed: parts of it become points, with as many users as Little's law says."""
    try:
        timed = [_timed(row) for row in rows]
    except (KeyError, ValueError, StopIteration) as wrong:
        columns = f"Name the columns {FIRST[0]}, {WHOLE[0]}."
        raise FileBroken(file, f"a request lacks a length or a latency ({wrong})", next_step=columns) from wrong
    timed = sorted(one for one in timed if one[2] > 1)
    if not timed:
        raise FileBroken(file, "no answer has more than one token")
    parts = max(1, min(TRACE_PARTS, len(timed) // FEWEST_IN_PART))
    size = len(timed) // parts
    found = []
    for number in range(parts):
        part = timed[number * size : (number + 1) * size]
        span = max(part[-1][0] - part[0][0], 1e-9)
        whole = fmean(one[4] for one in part)
        users = max(1.0, len(part) / span * whole) if len(part) > 1 else 1.0
        first, said = fmean(one[3] for one in part), fmean(one[2] for one in part)
        token = fmean((one[4] - one[3]) / (one[2] - 1) for one in part)
        asked = fmean(one[1] for one in part)
        row = _row(model="", users=users, asked=asked, said=said, first_ms=1e3 * first, token_ms=1e3 * token)
        found.append(row)
    return found


def _timed(row: Mapping[str, str]) -> tuple[float, float, float, float, float]:
    """(arrival, input, output, seconds to the first token, seconds of the whole answer) of one request."""
    first = next(name for name in FIRST if row.get(name))
    whole = next(name for name in WHOLE if row.get(name))
    return (
        float(row["arrival_s"]),
        float(row["input_tokens"]),
        float(row["output_tokens"]),
        float(row[first]) / (1e3 if first.endswith("_ms") else 1),
        float(row[whole]) / (1e3 if whole.endswith("_ms") else 1),
    )


def _row(
    *, model: str, users: float, asked: float, said: float, first_ms: float, token_ms: float, measured: str = ""
) -> dict[str, str]:
    return {
        "model": model,
        "concurrency": str(max(1, round(users))),
        "isl": str(asked),
        "osl": str(said),
        "ttft_ms": str(first_ms),
        "tpot_ms": str(token_ms),
        "measured": measured,
    }

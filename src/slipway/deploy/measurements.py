"""Reads what load generators measured: vLLM bench, guidellm and aiperf JSON, tables, and traces with latencies."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from slipway.decide.arrivals import OUTPUT_SHARE, Arrival, read_arrivals
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
        columns = set(rows[0])
        if {"ttft_ms", "tpot_ms"} <= columns:
            return rows
        if columns & set(FIRST) and columns & set(WHOLE):
            return _from_trace(file, rows)
        needed = f"A table needs ttft_ms and tpot_ms; a trace {FIRST[0]} and {WHOLE[0]} of each request."
        raise FileBroken(file, "it holds no measured times", next_step=needed)
    return [row for read in _results(file) for row in _from_result(file, read)]


def _results(file: Path) -> list[Any]:
    """What a file of JSON holds; the lines of one to which `vllm bench serve --append-result` added."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise FileMissing(file) from None
    except (OSError, UnicodeDecodeError) as wrong:
        raise FileBroken(file, f"it is neither JSON nor a .csv table ({wrong})") from wrong
    try:
        return [json.loads(text)]
    except ValueError as wrong:
        try:
            lines = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError:
            lines = []
        if not lines:
            raise FileBroken(file, f"it is neither JSON nor a .csv table ({wrong})") from wrong
        return lines


def _from_result(file: Path, read: Any) -> list[dict[str, str]]:
    """The points of one result. Raises `FileBroken` where it is none, or holds too little."""
    if not isinstance(read, dict):
        raise FileBroken(file, UNKNOWN, next_step=KNOWN)
    try:
        if isinstance(read.get("benchmarks"), list):
            return [_from_guidellm(one) for one in read["benchmarks"]]
        if isinstance(read.get("input_config"), dict):
            return [_from_aiperf(read, read["input_config"])]
        if "completed" in read or "mean_ttft_ms" in read:
            return [_from_vllm(read)]
    except _Lacks as lacking:
        raise FileBroken(file, str(lacking), next_step=lacking.next_step) from lacking
    except KeyError as lacking:
        raise FileBroken(file, f"it lacks {lacking}") from lacking
    except (TypeError, ValueError, AttributeError) as wrong:
        raise FileBroken(file, f"a figure in it is not a number ({wrong})") from wrong
    raise FileBroken(file, UNKNOWN, next_step=KNOWN)


UNKNOWN = "it is not a result of vLLM bench serve, guidellm or aiperf"
KNOWN = (
    "Give the JSON of vllm bench serve --save-result, of guidellm, or profile_export_aiperf.json, or a .csv table with "
    "ttft_ms and tpot_ms."
)


class _Lacks(Exception):
    """A result that was read but says too little, and what to do about it."""

    def __init__(self, reason: str, next_step: str) -> None:
        super().__init__(reason)
        self.next_step = next_step


def _by_little(per_second: float, first_ms: float, token_ms: float, said: float) -> float:
    """Requests under way: rate x seconds of one (Little's law)."""
    return per_second * (first_ms + max(said - 1, 0) * token_ms) / 1e3


ENGINES = {"sglang": "sglang", "tensorrt-llm": "trtllm", "trt": "trtllm"}
"""Backends of load generators that speak to one engine only."""


def _from_vllm(read: Mapping[str, Any]) -> dict[str, str]:
    """`vllm bench serve --save-result`, and `sglang.bench_serving`, which writes the same names.

    Users are the limit on concurrency where requests came as fast as it let them, else what Little's law says.
    """
    completed = float(read["completed"])
    if completed <= 0:
        raise _Lacks("none of its requests was answered", "Look at its errors, and run it again.")
    if "mean_ttft_ms" not in read:
        raise _Lacks("it holds no time to the first token", "Run it with --percentile-metrics ttft,tpot.")
    asked, said = read["total_input_tokens"] / completed, read["total_output_tokens"] / completed
    first = float(read["mean_ttft_ms"])
    if "mean_tpot_ms" in read:
        token = float(read["mean_tpot_ms"])
    elif "mean_e2el_ms" in read and said > 1:
        token = (float(read["mean_e2el_ms"]) - first) / (said - 1)
    else:
        raise _Lacks("it holds no time per token", "Run it with --percentile-metrics ttft,tpot.")
    under_way = _by_little(completed / float(read["duration"]), first, token, said)
    most = float(read.get("max_concurrency") or 0)
    paced = str(read.get("request_rate") or "inf") != "inf"
    users = min(most, under_way) if most and paced else most or under_way
    return _row(
        model=str(read.get("model_id") or read.get("model") or ""),
        users=users,
        asked=asked,
        said=said,
        first_ms=first,
        token_ms=token,
        measured=str(read.get("date") or ""),
        engine=ENGINES.get(str(read.get("backend") or "").split("-oai")[0].split("-native")[0], ""),
    )


def _from_guidellm(one: Mapping[str, Any]) -> dict[str, str]:
    """One benchmark of a guidellm report (0.2 to 0.8); its statistics of successful requests.

    Users are the streams of a concurrent benchmark, else the mean of the requests that were under way.
    """
    if "metrics" not in one:
        raise _Lacks(
            "it is a report of a guidellm before 0.2, without its statistics", "Run it again with a newer one."
        )
    metrics = one["metrics"]

    def mean(*names: str) -> float:
        for name in names:
            if name in metrics:
                held = metrics[name].get("successful") or metrics[name]
                return float(held["mean"])
        raise KeyError(" or ".join(names))

    if not mean("output_token_count"):
        raise _Lacks("none of the requests of a benchmark in it was answered", "Look at its errors, and run it again.")
    config = one.get("config") or one.get("args") or {}
    strategy = config.get("strategy") or one.get("scheduler", {}).get("strategy") or {}
    backend = config.get("backend") or one.get("worker") or {}
    return _row(
        model=str(backend.get("model") or backend.get("backend_model") or ""),
        # Every strategy has a limit on concurrency; only that of streams is also how many there were.
        users=float(strategy.get("streams") or mean("request_concurrency")),
        asked=mean("prompt_token_count"),
        said=mean("output_token_count"),
        first_ms=mean("time_to_first_token_ms"),
        # guidellm's time per output token counts the first one; the time between tokens is what is meant here.
        token_ms=mean("inter_token_latency_ms", "time_per_output_token_ms"),
    )


TO_MS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3, "sec": 1e3, "seconds": 1e3}


def _from_aiperf(read: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, str]:
    """aiperf's profile_export_aiperf.json (0.1 to 0.13), or genai-perf's profile_export_genai_perf.json."""
    figures = read.get("records") or read

    def average(*names: str) -> float:
        for name in names:
            if name in figures:
                return float(figures[name]["avg"]) * TO_MS.get(str(figures[name].get("unit")), 1.0)
        raise KeyError(" or ".join(names))

    if not {"time_to_first_token", "ttft"} & set(figures):
        raise _Lacks("it holds no time to the first token", "Run it with --streaming.")
    asked, said = average("input_sequence_length"), average("output_sequence_length")
    first, token = average("time_to_first_token", "ttft"), average("inter_token_latency")
    users = _concurrency(config)
    if not users and "effective_concurrency" in figures:
        users = average("effective_concurrency")
    if not users:
        users = _by_little(average("request_throughput"), first, token, said)
    return _row(model=_model_name(config), users=users, asked=asked, said=said, first_ms=first, token_ms=token)


def _concurrency(config: Mapping[str, Any]) -> float:
    """The users that a run kept under way, wherever the version wrote them; 0 where it was paced by a rate."""
    measured = [phase for phase in config.get("phases") or () if phase.get("kind") != "warmup"]
    places: list[Mapping[str, Any]] = [
        *measured[-1:],
        config.get("loadgen") or {},
        (config.get("perf_analyzer") or {}).get("stimulus") or {},
        config,
    ]
    if any(place.get("rate") or place.get("request_rate") for place in places):
        return 0.0
    return next((float(place["concurrency"]) for place in places if place.get("concurrency")), 0.0)


def _model_name(config: Mapping[str, Any]) -> str:
    listed = [
        *(config.get("model_names") or ()),
        *((config.get("endpoint") or {}).get("model_names") or ()),
        *(one["name"] for one in (config.get("models") or {}).get("items") or ()),
    ]
    written = config.get("model") or ""
    return str(next(iter(listed), written[0] if isinstance(written, list) and written else written or ""))


def _from_trace(file: Path, rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """A trace whose requests were timed: parts of it become points, with as many users as Little's law says."""
    try:
        timed = [_timed(one, row) for one, row in zip(read_arrivals(file), rows, strict=True)]
    except (ValueError, StopIteration) as wrong:
        columns = f"Fill the columns {FIRST[0]}, {WHOLE[0]}."
        raise FileBroken(file, f"a request lacks a latency ({wrong})", next_step=columns) from wrong
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


def _timed(one: Arrival, row: Mapping[str, str]) -> tuple[float, float, float, float, float]:
    """(arrival, input, output, seconds to the first token, seconds of the whole answer) of one request."""
    first = next(name for name in FIRST if row.get(name))
    whole = next(name for name in WHOLE if row.get(name))
    asked, said = one.lengths(OUTPUT_SHARE)
    return (
        one.at_s,
        asked,
        said,
        float(row[first]) / (1e3 if first.endswith("_ms") else 1),
        float(row[whole]) / (1e3 if whole.endswith("_ms") else 1),
    )


def _row(
    *,
    model: str,
    users: float,
    asked: float,
    said: float,
    first_ms: float,
    token_ms: float,
    measured: str = "",
    engine: str = "",
) -> dict[str, str]:
    return {
        "engine": engine,
        "model": model,
        "concurrency": str(max(1, round(users))),
        "isl": str(asked),
        "osl": str(said),
        "ttft_ms": str(first_ms),
        "tpot_ms": str(token_ms),
        "measured": measured,
    }

"""Traffic from a CSV or from own traces: how many requests a day, how long they are, how uneven the day is."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from slipway.domain.decision import Traffic
from slipway.domain.errors import FileBroken, FileMissing, InputError
from slipway.domain.trace import OWN_CHANNELS
from slipway.store.traces import Traces

OUTPUT_SHARE = 0.15
"""Share of output in the total tokens where a file has totals only. Source: Azure conversation trace of 2023 (1,155
tokens in, 211 out)."""
DAY_S, MINUTE_S = 86_400.0, 60.0
LEVELS = 101
PAGE, MOST_TRACES = 500, 100_000
OWN_TRACES = "own traces"
FEW_REQUESTS = 30
"""Below so many requests a busiest minute says nothing."""
TIMES = (
    "time",
    "timestamp",
    "arrival",
    "arrived",
    "arrival_s",
    "arrived_at",
    "date",
    "datetime",
    "started_at",
    "start",
)
INPUTS = ("input", "input_tokens", "contexttokens", "prompt_tokens", "prompt", "in", "num_input_tokens")
OUTPUTS = ("output", "output_tokens", "generatedtokens", "completion_tokens", "completion", "out", "num_output_tokens")
TOTALS = ("tokens", "total", "total_tokens")


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request: when it came in seconds, and its tokens; `output` is None where only the total is known."""

    at_s: float
    input: float
    output: float | None


def read_traffic(path: Path, *, output_share: float = OUTPUT_SHARE) -> Traffic:
    """Traffic from a CSV with a line a request: time and tokens, or time, input tokens and output tokens.

    Times are ISO dates, seconds or milliseconds, in any order; a head line is optional; comma, semicolon or tab. With
    total tokens only, `output_share` of them is taken to be output. Raises `FileMissing`, `FileBroken` with the line.
    """
    return measure_traffic(read_arrivals(path), source=path.name, output_share=output_share)


def read_arrivals(path: Path) -> list[Arrival]:
    """The requests of such a file. Raises `FileMissing`, `FileBroken` with the line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise FileMissing(path) from None
    except (OSError, UnicodeDecodeError) as wrong:
        raise FileBroken(path, str(wrong)) from wrong
    return list(_rows(path, text))


def read_arrivals_text(text: str, *, name: str) -> list[Arrival]:
    """The requests of the text of a CSV that is called `name`. Raises `FileBroken` with the line."""
    return list(_rows(Path(name), text))


def figures_of(traffic: Traffic) -> dict[str, Any]:
    """What [decide] keeps of a trace, rounded as one would write it."""
    return {
        "requests_per_day": float(f"{traffic.requests_per_day:.4g}"),
        "input_tokens": float(f"{traffic.input_tokens:.4g}"),
        "output_tokens": float(f"{traffic.output_tokens:.4g}"),
        "peak_factor": float(f"{traffic.peak_factor:.3g}"),
    }


def read_traces(traces: Traces, *, output_share: float = OUTPUT_SHARE) -> Traffic:
    """Traffic of users from the application's own newest traces, at most `MOST_TRACES`. Raises `InputError` where none
    has tokens."""
    return measure_traffic(traced_arrivals(traces), source=OWN_TRACES, output_share=output_share)


def traced_arrivals(traces: Traces) -> list[Arrival]:
    """The requests of users in the application's own newest traces, at most `MOST_TRACES`, that have tokens."""
    arrivals: list[Arrival] = []
    after: str | None = None
    while len(arrivals) < MOST_TRACES:
        page = traces.list(limit=PAGE, after=after)
        arrivals += [
            Arrival(one.started_at.timestamp(), float(one.input_tokens), float(one.output_tokens))
            for one in page.rows
            if (one.input_tokens or one.output_tokens) and one.channel not in OWN_CHANNELS
        ]
        after = page.next
        if after is None:
            break
    return arrivals


def measure_traffic(arrivals: Iterable[Arrival], *, source: str, output_share: float = OUTPUT_SHARE) -> Traffic:
    """The traffic that these requests are. Raises `InputError` when there are fewer than two, or all at one time."""
    if not 0 < output_share < 1:
        raise InputError(f"An output share of {output_share:g} makes no sense: give a number between 0 and 1.")
    listed = list(arrivals)
    if len(listed) < 2:
        raise InputError(f"{source} holds {len(listed)} requests with tokens. At least two are needed, better a week.")
    at = np.sort(np.array([one.at_s for one in listed]))
    # The last request ends no interval: n requests span n - 1 gaps.
    span = float(at[-1] - at[0]) * len(at) / (len(at) - 1)
    if span <= 0:
        raise InputError(f"All requests of {source} come at the same time, so it shows no rate. Check its time column.")
    assumed = any(one.output is None for one in listed)
    inputs = np.array([one.input * (1 - output_share) if one.output is None else one.input for one in listed])
    outputs = np.array([one.input * output_share if one.output is None else one.output for one in listed])
    rates = _minute_rates(at, span)
    return Traffic(
        source=source,
        requests=len(listed),
        days=span / DAY_S,
        requests_per_day=len(at) / span * DAY_S,
        input_tokens=float(inputs.mean()),
        output_tokens=max(1.0, float(outputs.mean())),
        long_input_tokens=float(np.quantile(inputs, 0.99)),
        long_output_tokens=float(np.quantile(outputs, 0.99)),
        peak_factor=max(1.0, float(np.max(rates))),
        levels=tuple(float(level) for level in np.quantile(rates, np.linspace(0, 1, LEVELS))),
        by_hour=_by_hour(at) if span >= DAY_S else (),
        split_assumed=assumed,
    )


def _minute_rates(
    at: "np.ndarray[tuple[int], np.dtype[np.float64]]", span: float
) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Requests of each bin over the mean: minutes, or longer bins where minutes would hold chance only."""
    # With a handful of requests a bin, the busiest one shows luck: some ten a bin keep that below the day's shape.
    bins = int(np.clip(min(span / MINUTE_S, len(at) / 10), 1, 1_000_000))
    counts, _ = np.histogram(at, bins=bins, range=(at[0], at[0] + span))
    return counts / (len(at) / bins)


def _by_hour(at: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> tuple[float, ...]:
    counts = np.bincount(((at % DAY_S) // 3600).astype(int), minlength=24)[:24]
    return tuple(float(value) for value in counts / counts.mean())


def _rows(path: Path, text: str) -> Iterator[Arrival]:
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise FileBroken(path, "it is empty", next_step="Write one line a request: time, tokens.")
    delimiter = max(",;\t", key=lines[0].count)
    if delimiter not in lines[0]:
        raise FileBroken(
            path,
            "its first line has one column",
            next_step="Write one line a request, divided by comma, semicolon or tab: time, tokens.",
        )
    rows = list(csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter))
    head = [cell.strip().lower().replace(" ", "_") for cell in rows[0]]
    named = not any(_is_number(cell) for cell in rows[0][1:])
    time_at, input_at, output_at = _columns(path, head) if named else (0, 1, 2 if len(head) > 2 else None)
    for number, row in enumerate(rows[1:] if named else rows, 2 if named else 1):
        try:
            at = read_time(row[time_at])
            given = float(row[input_at])
            output = None if output_at is None else float(row[output_at])
        except (ValueError, IndexError) as wrong:
            why = f"it has {len(row)} columns" if isinstance(wrong, IndexError) else str(wrong)
            raise FileBroken(path, f"line {number} is no request ({why})") from wrong
        if given < 0 or (output is not None and output < 0) or not np.isfinite([at, given, output or 0.0]).all():
            raise FileBroken(path, f"line {number} has a number that makes no sense: {delimiter.join(row)[:60]}")
        yield Arrival(at, given, output)


def _columns(path: Path, head: Sequence[str]) -> tuple[int, int, int | None]:
    """Where time, input (or total) and output stand."""

    def place(names: Sequence[str]) -> int | None:
        return next((head.index(name) for name in names if name in head), None)

    time_at, input_at, output_at, total_at = place(TIMES), place(INPUTS), place(OUTPUTS), place(TOTALS)
    if len(head) == 2:
        return 0 if time_at is None else time_at, 1 if time_at in (0, None) else 0, None
    if time_at is None or (input_at is None and total_at is None):
        raise FileBroken(
            path, f"its head line ({', '.join(head)}) names no time and tokens", next_step="Name them time, tokens."
        )
    if input_at is None or output_at is None:
        return time_at, total_at if total_at is not None else input_at or 0, None
    return time_at, input_at, output_at


def read_time(text: str) -> float:
    """Seconds of an ISO date (UTC where it names no zone), of seconds, or of milliseconds, microseconds, nanoseconds
    since 1970. Raises `ValueError`."""
    text = text.strip()
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        for scale in (1e9, 1e6, 1e3):
            # An instant since 1970 is about 1.7e9 seconds; larger numbers count smaller units.
            if number / scale > 1e8:
                return number / scale
        return number
    # Python reads six digits of a fraction, logs often write seven.
    head, dot, fraction = text.partition(".")
    digits = len(fraction) - len(fraction.lstrip("0123456789"))
    if dot and digits > 6:
        text = f"{head}.{fraction[:6]}{fraction[digits:]}"
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

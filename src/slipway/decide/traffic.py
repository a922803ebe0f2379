"""Traffic from a CSV or from own traces: how many requests a day, how long they are, how uneven the day is."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from slipway.decide.arrivals import OUTPUT_SHARE, Arrival, read_arrivals
from slipway.domain.decision import Traffic
from slipway.domain.errors import InputError
from slipway.domain.trace import OWN_CHANNELS
from slipway.store.traces import Traces

DAY_S, MINUTE_S = 86_400.0, 60.0
LEVELS = 101
PAGE, MOST_TRACES = 500, 100_000
OWN_TRACES = "own traces"
FEW_REQUESTS = 30
"""Below so many requests a busiest minute says nothing."""


def read_traffic(path: Path, *, output_share: float = OUTPUT_SHARE) -> Traffic:
    """Traffic from a file with a line a request: time and tokens, or time, input tokens and output tokens.

    Where the answer's tokens are not told, they are `output_share` of all. Raises `FileMissing`, `FileBroken` with the
    line, `InputError`.
    """
    return measure_traffic(read_arrivals(path), source=path.name, output_share=output_share)


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
    inputs, outputs = np.array([one.lengths(output_share) for one in listed]).T
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

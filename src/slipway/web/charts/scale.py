"""Scales: values to places along an axis (0 to 100), and the ticks that are worth printing."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple, Self, assert_never

from slipway.web.number import compact

ScaleKind = Literal["linear", "log", "time"]
MINUTE, HOUR, DAY = 60, 3600, 86400
TIME_STEPS = (
    1, 5, 15, 30, MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR,
    DAY, 2 * DAY, 7 * DAY, 14 * DAY, 30 * DAY, 90 * DAY, 365 * DAY,
)  # fmt: skip


class Tick(NamedTuple):
    """A printed place on an axis; `at` is in per cent of its length."""

    value: float
    label: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Values from `low` to `high` (seconds since 1970 for `time`), widened to whole ticks when made by `over`."""

    kind: ScaleKind
    low: float
    high: float
    format: Callable[[float], str] = compact

    @classmethod
    def over(
        cls,
        values: Iterable[float],
        kind: ScaleKind = "linear",
        *,
        format: Callable[[float], str] = compact,
        zero: bool = False,
        nice: bool = True,
        top: float | None = None,
    ) -> Self:
        """The scale that holds all finite values; a logarithmic one leaves out what is not above zero."""
        kept = [value for value in values if math.isfinite(value) and (kind != "log" or value > 0)]
        if not kept:
            kept = [1.0, 10.0] if kind == "log" else [0.0, 1.0]
        low, high = min(kept), max(kept)
        match kind:
            case "log":
                if nice or high < 10 * low:
                    low, high = 10 ** math.floor(math.log10(low) + 1e-9), 10 ** math.ceil(math.log10(high) - 1e-9)
                if low == high:
                    high = low * 10
            case "linear":
                if zero:
                    low, high = min(low, 0.0), max(high, 0.0)
                if low == high:
                    low, high = (low - 0.5, high + 0.5) if low else (0.0, 1.0)
                if nice:
                    step = nice_step(high - low, 4)
                    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
                if top is not None:
                    high = min(high, top) if max(kept) <= top else high
            case "time":
                if low == high:
                    low, high = low - MINUTE, high + MINUTE
            case _:
                assert_never(kind)
        return cls(kind=kind, low=low, high=high, format=format)

    def at(self, value: float) -> float:
        """Place of a value in per cent; outside values land outside 0 to 100."""
        if self.kind == "log":
            value = max(value, self.low / 10)
            return 100 * math.log(value / self.low) / math.log(self.high / self.low)
        return 100 * (value - self.low) / (self.high - self.low)

    def ticks(self, wanted: int = 5) -> list[Tick]:
        match self.kind:
            case "linear":
                values = self._linear(wanted)
            case "log":
                values = self._decades(wanted)
            case "time":
                return self._times(wanted)
            case _:
                assert_never(self.kind)
        return [Tick(value, self.format(value), self.at(value)) for value in values]

    def _linear(self, wanted: int) -> list[float]:
        step = nice_step(self.high - self.low, wanted - 1)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(number * step, 12) for number in range(first, last + 1)]

    def _decades(self, wanted: int) -> list[float]:
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        if last - first < 2:
            steps = [10.0**exponent * factor for exponent in range(first - 1, last + 1) for factor in (1, 2, 5)]
            return [
                value
                for value in [*steps, 10.0 ** (last + 1)]
                if self.low <= value * (1 + 1e-9) <= self.high * (1 + 2e-9)
            ]
        every = max(1, math.ceil((last - first) / wanted))
        return [10.0**exponent for exponent in range(first, last + 1, every)]

    def _times(self, wanted: int) -> list[Tick]:
        length = self.high - self.low
        step = next((step for step in TIME_STEPS if length / step <= wanted), TIME_STEPS[-1])
        ticks = []
        value = math.ceil(self.low / step) * step
        while value <= self.high:
            ticks.append(Tick(value, time_label(value, step), self.at(value)))
            value += step
        return ticks


def nice_step(length: float, wanted: int) -> float:
    """1, 2, 2.5 or 5 times a power of ten, so that about `wanted` steps fill the length."""
    raw = length / max(1, wanted)
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))


def time_label(value: float, step: float) -> str:
    when = datetime.fromtimestamp(value, UTC)
    if step < MINUTE:
        return f"{when:%H:%M:%S}"
    if step < DAY:
        return f"{when:%H:%M}" if (when.hour, when.minute) != (0, 0) else f"{when.day} {when:%b}"
    return f"{when.day} {when:%b}" if step < 90 * DAY else f"{when:%b %Y}"

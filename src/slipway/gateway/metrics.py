"""What a gateway counts, and how Prometheus reads it: one page over all workers of a server."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from slipway.watch.live import SECONDS, Passing
from slipway.watch.upstreams import WORST, UpstreamHealth


class Line(msgspec.Struct):
    """Counts of one endpoint, channel and release."""

    endpoint: str
    channel: str
    release: str
    statuses: dict[int, int] = msgspec.field(default_factory=dict)
    outcomes: dict[str, int] = msgspec.field(default_factory=dict)
    """Errors by their code, and `blocked`, `abstained`, `cancelled`."""
    buckets: list[int] = msgspec.field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    seconds: float = 0.0
    first_buckets: list[int] = msgspec.field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    first_seconds: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_micros: int = 0

    def answered(self, status: int, seconds: float, first_s: float | None) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.buckets[bisect_left(SECONDS, seconds)] += 1
        self.seconds += seconds
        if first_s is not None:
            self.first_buckets[bisect_left(SECONDS, first_s)] += 1
            self.first_seconds += first_s

    def came_to(self, outcome: str) -> None:
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1

    def passing(self) -> Passing:
        """What the page of live traffic shows of it."""
        return Passing(
            channel=self.channel,
            release=self.release,
            requests=sum(self.statuses.values()),
            errors=sum(count for status, count in self.statuses.items() if status >= 500 or status == 429),
            buckets=list(self.buckets),
            first_buckets=list(self.first_buckets),
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cost_micros=self.cost_micros,
        )

    def add(self, other: Line) -> None:
        for status, count in other.statuses.items():
            self.statuses[status] = self.statuses.get(status, 0) + count
        for outcome, count in other.outcomes.items():
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + count
        self.buckets = [a + b for a, b in zip(self.buckets, other.buckets, strict=True)]
        self.first_buckets = [a + b for a, b in zip(self.first_buckets, other.first_buckets, strict=True)]
        self.seconds += other.seconds
        self.first_seconds += other.first_seconds
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cached_tokens += other.cached_tokens
        self.cost_micros += other.cost_micros


class Counts(msgspec.Struct):
    """Everything that one worker counted since it started."""

    lines: dict[str, Line] = msgspec.field(default_factory=dict)
    in_flight: int = 0
    upstream_failures: dict[str, int] = msgspec.field(default_factory=dict)
    """By engine and code, separated by a space."""
    retries: int = 0
    fallbacks: int = 0
    traces_lost: int = 0
    cache_hits: int = 0
    cache_saved_micros: int = 0
    otlp: dict[str, int] = msgspec.field(default_factory=dict)
    """What other programs sent, by signal and outcome, separated by a space."""
    bodies_shed: int = 0
    shadows: dict[str, int] = msgspec.field(default_factory=dict)
    """Copies of requests for shadows by what became of them: `sent`, `failed`, `dropped`."""
    reloads: dict[str, int] = msgspec.field(default_factory=dict)
    """Times slipway.toml was read again: `taken`, `refused`."""
    breakers: list[UpstreamHealth] = msgspec.field(default_factory=list)

    def line(self, endpoint: str, channel: str, release: str) -> Line:
        key = f"{endpoint} {channel} {release}"
        line = self.lines.get(key)
        if line is None:
            line = self.lines[key] = Line(endpoint, channel, release)
        return line

    def received(self, signal: str, outcome: str, count: int) -> None:
        if count:
            key = f"{signal} {outcome}"
            self.otlp[key] = self.otlp.get(key, 0) + count

    def upstream_failed(self, engine: str, code: str) -> None:
        key = f"{engine} {code}"
        self.upstream_failures[key] = self.upstream_failures.get(key, 0) + 1


class SharedCounts:
    """The counts of all workers: each writes its own to a file once a second, and whoever is asked adds them up."""

    def __init__(self, folder: Path, worker: str) -> None:
        self._folder = folder
        self._worker = worker

    def write(self, counts: Counts) -> None:
        """Raises `OSError`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        unfinished = self._folder / f".{self._worker}.new"
        unfinished.write_bytes(msgspec.msgpack.encode(counts))
        os.replace(unfinished, self._folder / f"{self._worker}.counts")

    def remove(self) -> None:
        (self._folder / f"{self._worker}.counts").unlink(missing_ok=True)

    def with_others(self, own: Counts) -> Counts:
        total = Counts()
        for counts in (own, *self._others()):
            for line in counts.lines.values():
                total.line(line.endpoint, line.channel, line.release).add(line)
            total.in_flight += counts.in_flight
            total.retries += counts.retries
            total.fallbacks += counts.fallbacks
            total.traces_lost += counts.traces_lost
            total.cache_hits += counts.cache_hits
            total.cache_saved_micros += counts.cache_saved_micros
            total.bodies_shed += counts.bodies_shed
            total.breakers += counts.breakers
            for field in ("upstream_failures", "shadows", "reloads", "otlp"):
                into = getattr(total, field)
                for key, count in getattr(counts, field).items():
                    into[key] = into.get(key, 0) + count
        return total

    def _others(self) -> Iterable[Counts]:
        for path in self._folder.glob("*.counts"):
            if path.stem != self._worker:
                try:
                    yield msgspec.msgpack.decode(path.read_bytes(), type=Counts)
                except (OSError, ValueError):
                    continue  # a worker that is just ending, or one of another version


def write_page(counts: Counts, *, labels: Mapping[str, str], gauges: Mapping[str, tuple[str, float]]) -> str:
    """The Prometheus text format, version 0.0.4. `labels` names releases by id; `gauges` are name: (help, value)."""
    page = _Page()
    lines = list(counts.lines.values())

    def names(line: Line) -> dict[str, str]:
        release = labels.get(line.release, line.release)
        return {"endpoint": line.endpoint, "channel": line.channel, "release": release}

    page.head("slipway_requests_total", "counter", "Requests by endpoint, channel, release and HTTP status.")
    for line in lines:
        for status, count in sorted(line.statuses.items()):
            page.sample("slipway_requests_total", names(line) | {"status": str(status)}, count)
    page.head(
        "slipway_outcomes_total", "counter", "Requests that failed, by code, or were blocked, abstained, cancelled."
    )
    for line in lines:
        for outcome, count in sorted(line.outcomes.items()):
            page.sample("slipway_outcomes_total", names(line) | {"outcome": outcome}, count)
    page.head("slipway_request_seconds", "histogram", "Seconds from the request to the last byte.")
    for line in lines:
        page.histogram("slipway_request_seconds", names(line), line.buckets, line.seconds)
    page.head("slipway_first_token_seconds", "histogram", "Seconds from the request to the first piece of a stream.")
    for line in lines:
        if any(line.first_buckets):
            page.histogram("slipway_first_token_seconds", names(line), line.first_buckets, line.first_seconds)
    page.head("slipway_tokens_total", "counter", "Tokens by kind; cached ones are part of the input.")
    for line in lines:
        for kind in ("input", "output", "cached"):
            page.sample("slipway_tokens_total", names(line) | {"kind": kind}, getattr(line, f"{kind}_tokens"))
    page.head("slipway_cost_dollars_total", "counter", "Cost at the price of the day, where a price is known.")
    for line in lines:
        page.sample("slipway_cost_dollars_total", names(line), line.cost_micros / 1_000_000)
    page.head("slipway_upstream_failures_total", "counter", "Failed calls of engines, by engine and code.")
    for key, count in sorted(counts.upstream_failures.items()):
        engine, _, code = key.rpartition(" ")
        page.sample("slipway_upstream_failures_total", {"engine": engine, "code": code}, count)
    page.head("slipway_otlp_total", "counter", "Spans, log records and data points that other programs sent.")
    for key, count in sorted(counts.otlp.items()):
        signal, _, outcome = key.partition(" ")
        page.sample("slipway_otlp_total", {"signal": signal, "outcome": outcome}, count)
    page.head("slipway_shadow_requests_total", "counter", "Copies of requests sent to shadows, by outcome.")
    for outcome, count in sorted(counts.shadows.items()):
        page.sample("slipway_shadow_requests_total", {"outcome": outcome}, count)
    page.head("slipway_reloads_total", "counter", "Times slipway.toml was read again, by result.")
    for result, count in sorted(counts.reloads.items()):
        page.sample("slipway_reloads_total", {"result": result}, count)
    _write_breakers(page, counts.breakers)
    for name, (text, value) in {
        "slipway_retries_total": ("Calls of engines that were repeated.", float(counts.retries)),
        "slipway_cache_hits_total": ("Requests that were answered from the cache.", float(counts.cache_hits)),
        "slipway_cache_saved_dollars_total": (
            "What answers from the cache would have cost.",
            counts.cache_saved_micros / 1_000_000,
        ),
        "slipway_fallbacks_total": ("Requests that another engine or release answered.", float(counts.fallbacks)),
        "slipway_bodies_shed_total": (
            "Requests whose trace was kept without what was said, for want of room.",
            float(counts.bodies_shed),
        ),
        "slipway_traces_lost_total": ("Requests whose trace could not be written.", float(counts.traces_lost)),
    }.items():
        page.head(name, "counter", text)
        page.sample(name, {}, value)
    for name, (text, value) in {
        "slipway_in_flight": ("Requests that run now.", float(counts.in_flight)),
        **gauges,
    }.items():
        page.head(name, "gauge", text)
        page.sample(name, {}, value)
    return "".join(page.parts)


def _write_breakers(page: _Page, breakers: Iterable[UpstreamHealth]) -> None:
    """The worst state over all workers of each upstream, and how often its breaker opened."""
    worst: dict[tuple[str, str, str], int] = {}
    opened: dict[tuple[str, str, str], int] = {}
    for line in breakers:
        upstream = (line.engine, line.address, line.model)
        worst[upstream] = max(worst.get(upstream, 0), WORST.index(line.state))
        opened[upstream] = opened.get(upstream, 0) + line.opened
    names = ("engine", "address", "model")
    page.head("slipway_breaker_state", "gauge", "Circuit breakers: 0 closed, 1 half-open, 2 open; without model, all.")
    for upstream, state in sorted(worst.items()):
        page.sample("slipway_breaker_state", dict(zip(names, upstream, strict=True)), state)
    page.head("slipway_breaker_opened_total", "counter", "Times a circuit breaker opened.")
    for upstream, count in sorted(opened.items()):
        page.sample("slipway_breaker_opened_total", dict(zip(names, upstream, strict=True)), count)


class _Page:
    def __init__(self) -> None:
        self.parts: list[str] = []

    def head(self, name: str, kind: str, text: str) -> None:
        self.parts.append(f"# HELP {name} {text}\n# TYPE {name} {kind}\n")

    def sample(self, name: str, labels: Mapping[str, str], value: float) -> None:
        shown = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
        number = str(int(value)) if value == int(value) else repr(float(value))
        self.parts.append(f"{name}{{{shown}}} {number}\n" if shown else f"{name} {number}\n")

    def histogram(self, name: str, labels: Mapping[str, str], buckets: list[int], total: float) -> None:
        running = 0
        for bound, count in zip((*map(str, SECONDS), "+Inf"), buckets, strict=True):
            running += count
            self.sample(f"{name}_bucket", {**labels, "le": bound}, running)
        self.sample(f"{name}_sum", labels, total)
        self.sample(f"{name}_count", labels, running)


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

"""How many accelerators a load needs within its limits on latency, by roofline and a stated safe utilisation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, log

from slipway.domain.architecture import Architecture
from slipway.domain.deployment import Demand, PlanOption
from slipway.domain.hardware import Hardware, Precision
from slipway.models.calibrations import Calibration, Setup, speed_of
from slipway.models.memory import sequences_that_fit, serving_bill, weights_gib
from slipway.models.roofline import Split, decode_step_s, prefill_s

SAFE_UTILISATION = 0.65
"""Share of a replica's throughput that the busiest minute may use.

Source: on the Azure conversation trace of 2023 a replay needs up to 2.2 times the replicas of rate / throughput; its
busiest minute is 1.44 times the mean, and 1.44 / 2.2 = 0.65.
"""
LONG_INPUT = 3.3
LONG_OUTPUT = 2.9
"""99th percentile of the lengths over their mean. Source: Azure conversation trace of 2023, 12,340 requests."""
MOST_SEQUENCES = 256
"""Requests an engine works on at once unless told otherwise. Source: default of vLLM."""
ENGINE = "vllm"
"""The engine that is assumed: the one that the targets start."""
HOURS_A_MONTH = 730.5
DAY_S = 86_400.0
PRECISIONS: dict[str, tuple[Precision, ...]] = {"bf16": ("bf16", "fp8"), "fp8": ("fp8",), "int4": ("int4",)}
"""Precisions to try, by how the weights are published. Fewer bits than these change answers: evaluate first."""
SPLITS = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What arrives and how fast it has to be answered. Means in tokens, limits in seconds for the 99th percentile."""

    input_tokens: float
    output_tokens: float
    context_tokens: int
    first_token_s: float | None = None
    end_to_end_s: float | None = None

    @classmethod
    def of(cls, demand: Demand) -> "Load":
        return cls(
            input_tokens=demand.input_tokens,
            output_tokens=demand.output_tokens,
            context_tokens=demand.context_tokens,
            first_token_s=None if demand.first_token_ms is None else demand.first_token_ms / 1e3,
            end_to_end_s=None if demand.end_to_end_ms is None else demand.end_to_end_ms / 1e3,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One copy of a model on some accelerators, and what it carries within the limits. Times in seconds."""

    shape: Architecture
    hardware: Hardware
    devices: int
    precision: Precision
    load: Load
    sequences: int = 0
    requests_per_second: float = 0.0
    """At full load. Plan with SAFE_UTILISATION of it."""
    first_token_s: float = 0.0
    token_s: float = 0.0
    end_to_end_s: float = 0.0
    rejected: str = ""
    engine: str = ENGINE
    calibration: Calibration | None = field(default=None, compare=False, repr=False)
    """What its speed comes from; None is the shipped one."""

    @property
    def setup(self) -> Setup:
        return Setup(
            shape=self.shape,
            hardware=self.hardware,
            engine=self.engine,
            precision=self.precision,
            split=Split(tensor=self.devices),
        )

    def room(self, tokens: float) -> float:
        """Requests of so many tokens whose keys and values fit beside the weights."""
        return sequences_that_fit(
            self.shape,
            self.hardware,
            self.devices,
            self.precision,
            tokens=tokens,
            bytes_each=self.setup.cache_bytes_each,
        )

    def replicas(self, peak_per_second: float, *, safe: float = SAFE_UTILISATION) -> int:
        """Copies that hold a peak: peak / (throughput x safe utilisation), rounded up."""
        return max(1, ceil(peak_per_second / (self.requests_per_second * safe)))

    def option(self, demand: Demand, *, hourly: float, safe: float = SAFE_UTILISATION) -> PlanOption:
        """This replica as an option of a plan for that demand, with its bill of memory and its price a month."""
        peak = peak_per_second(demand)
        replicas = 0 if self.rejected else self.replicas(peak, safe=safe)
        carried = replicas * self.requests_per_second * safe
        busy = at_rate(self, peak / replicas) if replicas else self
        return PlanOption(
            hardware=self.hardware.name,
            devices_per_replica=self.devices,
            replicas=replicas,
            precision=self.precision,
            memory=serving_bill(
                self.shape,
                self.hardware,
                self.devices,
                self.precision,
                sequences=self.sequences,
                tokens=self.load.input_tokens + self.load.output_tokens,
            ),
            first_token_ms=1e3 * busy.first_token_s,
            token_ms=1e3 * busy.token_s,
            end_to_end_ms=1e3 * busy.end_to_end_s,
            tokens_per_second=carried * demand.output_tokens,
            requests_per_second=carried,
            utilisation=peak / demand.peak_factor / (replicas * self.requests_per_second) if replicas else 0.0,
            monthly=replicas * self.devices * hourly * HOURS_A_MONTH,
            sequences=self.sequences,
            rejected=self.rejected,
        )


def peak_per_second(demand: Demand) -> float:
    """Requests a second in the busiest minute."""
    return demand.requests_per_day / DAY_S * demand.peak_factor


def list_replicas(
    shape: Architecture,
    hardware: Hardware,
    load: Load,
    *,
    precisions: Sequence[Precision] = (),
    splits: Sequence[int] = SPLITS,
    calibration: Calibration | None = None,
    engine: str = ENGINE,
) -> list[Replica]:
    """Every way to run a model on one kind of accelerator; those that cannot hold the load say why."""
    return [
        size_replica(shape, hardware, devices, precision, load, calibration=calibration, engine=engine)
        for precision in precisions or PRECISIONS[shape.native]
        if precision in hardware.efficiency
        for devices in _splits(shape, hardware, splits)
    ]


def size_replica(
    shape: Architecture,
    hardware: Hardware,
    devices: int,
    precision: Precision,
    load: Load,
    *,
    calibration: Calibration | None = None,
    engine: str = ENGINE,
) -> Replica:
    """The largest number of requests at once that one replica can work on within memory and limits.

    Time per token = step + (n - 1) x prefill / output, because the prompts of the others are read in between.
    Throughput = 1 / (prefill + output x step / n). Wait for the first token = the prompt's own prefill at the 99th
    percentile of its length, one step, and a queue of prefills at safe utilisation (M/M/1: s / (1 - u) x ln(100 u)).
    """
    empty = Replica(
        shape=shape,
        hardware=hardware,
        devices=devices,
        precision=precision,
        load=load,
        calibration=calibration,
        engine=engine,
    )
    fits = _fits(empty)
    if fits:
        return replace(empty, rejected=fits)
    most = int(min(MOST_SEQUENCES, empty.room(load.input_tokens + load.output_tokens)))
    alone = _at(empty, 1)
    if slow := _too_slow(alone):
        return replace(alone, rejected=slow)
    low, high = 1, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (low, middle - 1) if _too_slow(_at(empty, middle)) else (middle, high)
    return _at(empty, low)


def at_rate(replica: Replica, per_second: float) -> Replica:
    """The same replica while so many requests a second reach it: as many at once as that rate keeps in flight."""
    low, high = 1, replica.sequences
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _at(replica, middle).requests_per_second >= per_second else (middle + 1, high)
    return _at(replica, low)


def _at(empty: Replica, sequences: int) -> Replica:
    """A replica that works on so many requests at once."""
    shape, hardware, load = empty.shape, empty.hardware, empty.load
    place = (shape, hardware, empty.devices, empty.precision)
    setup = empty.setup
    speed = speed_of(setup, empty.calibration)
    prefill = prefill_s(*place, tokens=load.input_tokens, speed=speed)
    tokens = load.input_tokens + load.output_tokens / 2
    step = decode_step_s(
        *place, sequences=sequences, tokens=tokens, speed=speed, cache_bytes_each=setup.cache_bytes_each
    )
    token = step + (sequences - 1) * prefill / load.output_tokens
    rate = 1 / (prefill + load.output_tokens * step / sequences)
    busy = SAFE_UTILISATION * rate * prefill
    queue = prefill / (1 - busy) * max(0.0, log(100 * busy)) if busy > 0 else 0.0
    long_input = min(LONG_INPUT * load.input_tokens, load.context_tokens)
    first = prefill_s(*place, tokens=long_input, speed=speed) + step + queue
    long_output = min(LONG_OUTPUT * load.output_tokens, load.context_tokens)
    return replace(
        empty,
        sequences=sequences,
        requests_per_second=rate,
        token_s=token,
        first_token_s=first,
        end_to_end_s=first + max(0.0, long_output - 1) * token,
    )


def _fits(replica: Replica) -> str:
    """Why the model does not fit, or nothing."""
    shape, load = replica.shape, replica.load
    if shape.context < load.context_tokens:
        return f"its context of {shape.context:,} tokens is shorter than {load.context_tokens:,}"
    if replica.room(load.context_tokens) < 1:
        needed = serving_bill(
            shape, replica.hardware, replica.devices, replica.precision, sequences=1, tokens=load.context_tokens
        )
        weights = weights_gib(shape.parameters, replica.precision)
        return (
            f"needs {needed.total_gib:,.0f} GiB ({weights:,.0f} of weights) with one context of "
            f"{load.context_tokens:,} tokens, has {needed.available_gib:,.0f}"
        )
    return ""


def _too_slow(replica: Replica) -> str:
    """Which limit is missed and by how much, or nothing."""
    load = replica.load
    if load.first_token_s is not None and replica.first_token_s > load.first_token_s:
        return f"first token after {1e3 * replica.first_token_s:,.0f} ms, the limit is {1e3 * load.first_token_s:,.0f}"
    if load.end_to_end_s is not None and replica.end_to_end_s > load.end_to_end_s:
        return f"whole answer after {1e3 * replica.end_to_end_s:,.0f} ms, the limit is {1e3 * load.end_to_end_s:,.0f}"
    return ""


def _splits(shape: Architecture, hardware: Hardware, splits: Sequence[int]) -> Iterator[int]:
    """Numbers of devices that a model can be split over inside one machine: attention heads must divide evenly."""
    for devices in splits:
        if devices <= hardware.devices_per_node and shape.heads % devices == 0:
            yield devices

"""How many replicas hold a limit at the 99th percentile: the fewest for which a replay of the traffic does."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from math import ceil

import numpy as np

from slipway.deploy.simulation import Engine, Figure, Replay, Router, simulate
from slipway.deploy.traffic import Traffic
from slipway.domain.errors import InputError, NothingMeets

MEDIAN = 0.5
MOST_REPLICAS = 4096
ENDLESS = 1e12
"""Tokens of a cache that is never full."""
ALIGNMENTS = (0, 1)
"""A trace is replayed from its start and from its second request, so that a lucky distribution in turn is noticed."""
LONGEST_WINDOW_S, WINDOWS = 300.0, 12
"""The calmest twelfth of a trace, at most five minutes of it, gives the lower bound of an autoscaler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most seconds at a share of the requests, and at half of them; None is no limit."""

    first_s: float | None = None
    token_s: float | None = None
    end_to_end_s: float | None = None
    share: float = 0.99
    first_p50_s: float | None = None
    token_p50_s: float | None = None
    end_to_end_p50_s: float | None = None

    @property
    def any(self) -> bool:
        return self != Limits(share=self.share)

    def held_by(self, replay: Replay) -> bool:
        return not self.missed_by(replay)

    def missed_by(self, replay: Replay) -> str:
        """Which limits are missed and by how much, or nothing."""
        limits: tuple[tuple[str, Figure, float | None, float], ...] = (
            ("first token takes", "first", self.first_s, self.share),
            ("a token takes", "token", self.token_s, self.share),
            ("whole answer takes", "end_to_end", self.end_to_end_s, self.share),
            ("half of the first tokens take", "first", self.first_p50_s, MEDIAN),
            ("half of the tokens take", "token", self.token_p50_s, MEDIAN),
            ("half of the answers take", "end_to_end", self.end_to_end_p50_s, MEDIAN),
        )
        missed = []
        for what, figure, limit, share in limits:
            if limit is not None and (reached := replay.quantile(figure, share)) > limit:
                more = " or more" if share == MEDIAN else ""
                missed.append(f"{what} {1e3 * reached:,.0f} ms{more}, the limit is {1e3 * limit:,.0f}")
        return "; ".join(missed)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaCount:
    """The answer, beside the usual rule of thumb; times in seconds. `least` and `most` bound an autoscaler."""

    replicas: int
    least: int
    most: int
    by_rule: int
    """ceil(rate / most throughput of a replica), which forgets that traffic comes in bursts."""
    first_s: float
    token_s: float
    end_to_end_s: float
    first_p50_s: float
    token_p50_s: float
    end_to_end_p50_s: float
    busy: float
    cached_share: float
    requests: int
    per_second: float
    later: int = 0
    """What later traffic may need, coming `growth` times as fast. 0: not asked for."""
    growth: float = 1.0
    beyond_context: int = 0
    """Requests that are longer than the model's context: an engine refuses them, the replay answers them."""


def count_replicas(
    traffic: Traffic, engine: Engine, limits: Limits, *, router: Router = "round robin", compiled: bool = True
) -> ReplicaCount:
    """The fewest replicas whose replay holds the limits. Raises `NothingMeets` where no number does."""
    if not limits.any:
        raise InputError("No limit was given. Name one of --ttft-ms, --tpot-ms, --end-to-end-ms.")
    # Nothing waits for another and every prefix that came before is kept: no number of replicas does better.
    alone = simulate(_spread_out(traffic), replace(engine, cache_tokens=ENDLESS), replicas=1, compiled=compiled)
    if missed := limits.missed_by(alone):
        raise NothingMeets(f"No number of replicas holds the limits: with one request at a time {missed}.")

    def holds(replicas: int) -> bool:
        return all(
            limits.held_by(simulate(part, engine, replicas=replicas, router=router, compiled=compiled))
            for part in _alignments(traffic)
        )

    found = fewest(holds)
    if found is None:
        best = simulate(traffic, engine, replicas=MOST_REPLICAS, router=router, compiled=compiled)
        raise NothingMeets(f"{MOST_REPLICAS} replicas do not hold the limits: {limits.missed_by(best)}.")
    replay = simulate(traffic, engine, replicas=found, router=router, compiled=compiled)
    return ReplicaCount(
        replicas=found,
        least=_for_the_calmest(traffic, engine, limits, found, router=router, compiled=compiled),
        most=found,
        by_rule=ceil(traffic.per_second / throughput(traffic, engine)),
        first_s=replay.quantile("first", limits.share),
        token_s=replay.quantile("token", limits.share),
        end_to_end_s=replay.quantile("end_to_end", limits.share),
        first_p50_s=replay.quantile("first", MEDIAN),
        token_p50_s=replay.quantile("token", MEDIAN),
        end_to_end_p50_s=replay.quantile("end_to_end", MEDIAN),
        busy=replay.busy,
        cached_share=replay.cached_share,
        requests=len(traffic),
        per_second=traffic.per_second,
    )


def in_seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1e3


def check_halves(whole: Mapping[str, float | None], half: Mapping[str, float | None]) -> None:
    """Raises `InputError` where half of the requests may take longer than all but a few. Limits in milliseconds by the
    name of their option."""
    for (name, most), (half_name, half_most) in zip(whole.items(), half.items(), strict=True):
        if most is not None and half_most is not None and half_most > most:
            raise InputError(
                f"{half_name} {half_most:g} is longer than {name} {most:g}: half of the requests take no longer than "
                "the slowest. Correct one of them."
            )


def fewest_for(
    traffic: Traffic,
    engine: Engine,
    limits: Limits,
    *,
    router: Router = "round robin",
    compiled: bool = True,
    most: int = MOST_REPLICAS,
) -> int | None:
    """The fewest replicas, at most so many, that hold the limits in one replay; None where they do not."""
    return fewest(
        lambda number: limits.held_by(simulate(traffic, engine, replicas=number, router=router, compiled=compiled)),
        most=most,
    )


def fewest(holds: Callable[[int], bool], *, most: int = MOST_REPLICAS) -> int | None:
    """The least number that holds and whose next two hold as well: more replicas can by chance do worse in turn.

    Where none up to twice the least that holds is followed so, as when every replica more keeps fewer prefixes, it is
    the least. None where no number holds.
    """
    holds = cache(holds)
    high = 1
    while not holds(high):
        if high >= most:
            return None
        high = min(2 * high, most)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    followed = (each for each in range(high, min(2 * high, most - 2) + 1) if all(map(holds, range(each, each + 3))))
    return next(followed, high)


def throughput(traffic: Traffic, engine: Engine) -> float:
    """Requests a second of one replica that never waits for work."""
    few = traffic.part(0, min(len(traffic), 2000))
    rushed = Traffic(np.zeros(len(few)), few.input_tokens, few.output_tokens, few.blocks)
    return len(few) / simulate(rushed, engine, replicas=1, compiled=False).span_s


def _alignments(traffic: Traffic) -> list[Traffic]:
    return [traffic.part(start, len(traffic)) for start in ALIGNMENTS if start < len(traffic)]


def _spread_out(traffic: Traffic) -> Traffic:
    """The requests so far apart that none waits for another."""
    return replace(traffic, arrival_s=np.arange(len(traffic), dtype=np.float64) * 1e5)


def _for_the_calmest(
    traffic: Traffic, engine: Engine, limits: Limits, most: int, *, router: Router, compiled: bool
) -> int:
    """Replicas that hold the limits in the calmest minutes, for the lower bound of an autoscaler."""
    width = min(LONGEST_WINDOW_S, traffic.span_s / WINDOWS)
    if most == 1 or width <= 0:
        return most
    windows = int(traffic.span_s // width)
    starts = np.searchsorted(traffic.arrival_s, np.arange(windows + 1) * width)
    sizes = np.diff(starts)
    calmest = int(np.argmin(sizes))
    if sizes[calmest] == 0:
        return 1
    part = traffic.part(int(starts[calmest]), int(starts[calmest + 1]))
    found = fewest_for(part, engine, limits, router=router, compiled=compiled, most=most)
    return min(most, found or most)

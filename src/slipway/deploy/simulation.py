"""Replays traffic on replicas of a model, step by step, and tells what each request waited for."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slipway.deploy import loop
from slipway.deploy.points import step_tokens
from slipway.deploy.prediction import cache_tokens
from slipway.deploy.traffic import BLOCK_TOKENS, Traffic
from slipway.models.calibrations import STEPS_BETWEEN, Calibration, Setup, correction_at, speed_of
from slipway.models.roofline import Work, facts_of, step_seconds
from slipway.models.sizing import MOST_SEQUENCES

Router = Literal["round robin", "least load"]
Figure = Literal["first", "token", "end_to_end"]
ROUTERS: tuple[Router, ...] = ("round robin", "least load")
USUAL_SEQUENCES = 64.0
"""Sequences of a step at which the cost of one of them is taken: few of them share the time that reads the head."""
SHARED_MOST = 0.5
"""Share of the cache that may hold prefixes for requests to come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """The tables of one replica: seconds of a step by its tokens, and what else a step costs."""

    table: NDArray[np.float64]
    per_sequence: float
    per_token: float
    """Seconds for each cached token that a step reads."""
    per_attention: float
    request: float
    """Seconds of a request before its prompt is worked on."""
    queue: float
    step_tokens: int
    most: int
    cache_tokens: float
    prepared: bool = False
    """A step is prepared during the one before: a request that comes meanwhile waits one step more."""


class Replay(NamedTuple):
    """What happened: seconds to the first token, and per token after it, of each request; share of time busy."""

    first_s: NDArray[np.float64]
    token_s: NDArray[np.float64]
    end_to_end_s: NDArray[np.float64]
    busy: float
    span_s: float
    cached_share: float

    def quantile(self, figure: Figure, share: float) -> float:
        """A quantile in seconds. Answers of one token have no time per token and are left out of it."""
        values = {"first": self.first_s, "token": self.token_s, "end_to_end": self.end_to_end_s}[figure]
        known = values[~np.isnan(values)]
        return float(np.quantile(known, share)) if len(known) else 0.0


def engine_of(
    setup: Setup,
    *,
    mean_tokens: float,
    calibration: Calibration | None = None,
    chunk: int = 0,
    most: int = MOST_SEQUENCES,
) -> Engine:
    """The tables of a setup. `mean_tokens` is the usual length, at which windowed layers are counted; `chunk` is the
    tokens of one step, 0 for the engine's default."""
    speed = speed_of(setup, calibration)
    facts = facts_of(setup.shape, setup.hardware, setup.split, setup.precision, cache_bytes_each=setup.cache_bytes_each)
    budget = chunk or step_tokens(setup)
    tokens = np.arange(budget + most + 2, dtype=np.float64)

    def cost(work: Work) -> NDArray[np.float64]:
        return np.asarray(step_seconds(facts, speed, work), dtype=np.float64)

    table = cost(Work(tokens=tokens, sequences=0.0, context=0.0, attention=0.0))
    one = Work(tokens=1.0, sequences=1.0, context=0.0, attention=0.0)
    many = one._replace(sequences=USUAL_SEQUENCES)
    per_sequence = (float(cost(many)) - float(cost(one._replace(sequences=0.0)))) / USUAL_SEQUENCES
    reading = float(cost(one._replace(context=mean_tokens))) - float(cost(one))
    usual = Work(tokens=1000.0, sequences=0.0, context=0.0, attention=1000.0 * max(mean_tokens, 2.0) / 2)
    attention = float(cost(usual)) - float(cost(usual._replace(attention=0.0)))
    slower = correction_at(setup, mean_tokens=mean_tokens, calibration=calibration)
    return Engine(
        table=table * slower,
        per_sequence=per_sequence * slower,
        per_token=reading / mean_tokens * slower,
        per_attention=attention / float(usual.attention) * slower,
        request=float(speed.request),
        queue=float(speed.queue),
        step_tokens=budget,
        most=most,
        cache_tokens=cache_tokens(setup),
        prepared=STEPS_BETWEEN.get(setup.engine, 1) > 1,
    )


def simulate(
    traffic: Traffic,
    engine: Engine,
    *,
    replicas: int,
    router: Router = "round robin",
    compiled: bool = True,
) -> Replay:
    """Replays traffic on so many replicas. The compiled loop is taken where numba is installed; the result is equal."""
    number = len(traffic.arrival_s)
    cached = cached_tokens(traffic, engine, replicas) if traffic.blocks else np.zeros(number, dtype=np.int64)
    first, last = np.zeros(number), np.zeros(number)
    wholes = np.zeros((replicas, loop.WHOLES), dtype=np.int64)
    for place in (loop.HEAD, loop.READY, loop.TAIL):
        wholes[:, place] = loop.NOBODY
    fractions = np.zeros((replicas, loop.FRACTIONS))
    heaps = np.zeros((replicas, engine.most + 1), dtype=np.int64)
    following = np.full(number, loop.NOBODY, dtype=np.int64)
    state: list[Any] = [wholes, fractions, heaps, following]
    requests: list[Any] = [traffic.arrival_s, traffic.input_tokens, traffic.output_tokens, cached]
    answered: list[Any] = [first, last]
    table: Any = engine.table
    run = _compiled() if compiled else None
    if run is None:
        plain: Callable[..., None] = loop.replay
        run, table = plain, table.tolist()
        state, requests, answered = ([each.tolist() for each in group] for group in (state, requests, answered))
    costs = (
        engine.per_sequence,
        engine.per_token,
        engine.per_attention,
        engine.step_tokens,
        engine.most,
        engine.cache_tokens,
        int(engine.prepared),
    )
    run(router == "least load", *state, tuple(requests), tuple(answered), table, costs)
    first, last = answered
    ran = np.asarray(state[1])
    begun, ended = np.asarray(first), np.asarray(last)
    waits = (begun - traffic.arrival_s) + engine.request
    more = traffic.output_tokens - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        token = np.where(more > 0, (ended - begun) / more, np.nan)
    span = float(ran[:, loop.CLOCK].max() - traffic.arrival_s[0])
    return Replay(
        first_s=waits,
        token_s=token,
        end_to_end_s=ended - traffic.arrival_s + engine.request,
        busy=float(ran[:, loop.BUSY].sum() / (replicas * span)) if span > 0 else 0.0,
        span_s=span,
        cached_share=float(cached.sum() / traffic.input_tokens.sum()),
    )


def cached_tokens(traffic: Traffic, engine: Engine, replicas: int) -> NDArray[np.int64]:
    """Tokens of each prompt whose keys and values a replica still holds, by the hashes of its blocks.

    Each replica keeps the blocks that were used last, in a share of its cache, and is asked in turn. A prompt is never
    cached whole: its last token has to be read.
    """
    room = max(1, int(engine.cache_tokens * SHARED_MOST / BLOCK_TOKENS))
    kept: list[OrderedDict[int, None]] = [OrderedDict() for _ in range(replicas)]
    found = np.zeros(len(traffic.arrival_s), dtype=np.int64)
    for request, blocks in enumerate(traffic.blocks):
        held = kept[request % replicas]
        hits = 0
        for block in blocks:
            if block not in held:
                break
            hits += 1
        for block in blocks:
            held[block] = None
            held.move_to_end(block)
        while len(held) > room:
            held.popitem(last=False)
        found[request] = max(0, min(hits * BLOCK_TOKENS, int(traffic.input_tokens[request]) - 1))
    return found


def series(traffic: Traffic, replay: Replay, *, windows: int = 60) -> Sequence[tuple[float, float, float]]:
    """(seconds since the start, requests a second, 99th percentile of the wait for the first token) over the trace."""
    edges = np.linspace(traffic.arrival_s[0], traffic.arrival_s[-1] + 1e-9, windows + 1)
    place = np.searchsorted(edges, traffic.arrival_s, side="right") - 1
    width = float(edges[1] - edges[0])
    rows = []
    for window in range(windows):
        waits = replay.first_s[place == window]
        slow = float(np.quantile(waits, 0.99)) if len(waits) else 0.0
        rows.append((float(edges[window]), len(waits) / width, slow))
    return rows


@cache
def _compiled() -> Callable[..., None] | None:
    found: Callable[..., None] | None = loop.compiled()
    return found

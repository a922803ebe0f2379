"""What an engine does while a benchmark runs: its steps in order, which depend on lengths and memory but not on speed.

With a fixed number of users who ask again as soon as they are answered, the content of every step is known before a
second is: the same steps are then timed for any hardware.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slipway.models.roofline import Work

ROUNDS = 10
"""Requests of each user. Source: the protocol of InferenceX."""


class Steps(NamedTuple):
    """Kinds of steps of one run, one row each.

    `times` is how often it occurs; `waiting` and `answering` are what a second of each of them adds to the mean wait
    for the first token and to the mean time of a token after it. A time of a token is (last - first) / (tokens - 1).
    """

    work: Work
    times: NDArray[np.float64]
    waiting: NDArray[np.float64]
    answering: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """A benchmark: `users` who each ask `rounds` times, all starting at once, or `requests` that are queued at once.

    Lengths are drawn uniformly between `shortest` and 1 times the nominal ones.
    """

    input_tokens: int
    output_tokens: int
    users: int
    requests: int
    shortest: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How a server takes up prompts; all but the tokens are counts of steps.

    `between` go by before a new prompt can be read. New requests are looked for in every `look`-th step, and after each
    step that read prompts. While answers are under way a prompt waits for others: until `gather` steps have gone by, or
    answers and waiting prompts have `enough` tokens for one step.
    """

    step_tokens: int
    between: int = 0
    look: int = 1
    gather: int = 0
    enough: int = 0


def simulate_steps(
    protocol: Protocol, schedule: Schedule, *, cache_tokens: float, seed: int = 1, merged: bool = True
) -> Steps:
    """The steps of a benchmark on one replica whose cache holds `cache_tokens`.

    Answers go on in every step, prompts are read in what is left of a step's tokens, first come first served. A request
    starts when the cache has room for its whole length. A user asks again as soon as they are answered.
    """
    drawn = np.random.default_rng(seed)
    asked = _lengths(protocol.input_tokens, protocol, drawn, least=1)
    said = _lengths(protocol.output_tokens, protocol, drawn, least=2)
    rows = _run(asked, said, min(protocol.users, protocol.requests), schedule, cache_tokens)
    table = _merged(np.array(rows)) if merged else np.array(rows)
    work = Work(tokens=table[:, 0], context=table[:, 1], attention=table[:, 2], sequences=table[:, 3])
    return Steps(work, table[:, 4], table[:, 5], table[:, 6])


def _lengths(nominal: int, protocol: Protocol, drawn: np.random.Generator, *, least: int) -> list[int]:
    shares = drawn.uniform(protocol.shortest, 1.0, protocol.requests)
    return [int(value) for value in np.maximum(least, np.rint(nominal * shares))]


def _run(
    asked: Sequence[int], said: Sequence[int], users: int, schedule: Schedule, cache_tokens: float
) -> list[tuple[float, float, float, float, float, float, float]]:
    requests = len(asked)
    rows: list[tuple[float, float, float, float, float, float, float]] = []
    waiting = deque(range(users))
    upcoming = users
    coming: deque[tuple[int, int]] = deque()  # (step before which it cannot be read, request)
    reading: deque[list[int]] = deque()  # [request, tokens of its prompt that were read]
    finishing: list[tuple[int, int]] = []  # (decode step after which it ends, request)
    decoded = sequences = held = unanswered_done = 0
    context = 0
    inverse = 0.0  # sum of 1 / (tokens - 1) over the answers under way
    unanswered = users
    step = looked = 0
    gathering = -1  # the step since which prompts wait for others
    while unanswered_done < requests:
        if (step - looked) % schedule.look == 0 or not sequences:
            while coming and (coming[0][0] <= step or not (sequences or reading or waiting)):
                waiting.append(coming.popleft()[1])
        if schedule.gather and waiting and sequences and not reading:
            gathering = step if gathering < 0 else gathering
            if step - gathering >= schedule.gather or _tokens(asked, waiting, sequences) >= schedule.enough:
                gathering = -1
        else:
            gathering = -1
        while waiting and gathering < 0 and (held + asked[waiting[0]] + said[waiting[0]] <= cache_tokens or not held):
            request = waiting.popleft()
            held += asked[request] + said[request]
            reading.append([request, 0])
        begun: list[int] = []
        if reading:
            room = max(1, schedule.step_tokens - sequences)
            read, attention = 0, 0.0
            while reading and room > 0:
                request, before = reading[0]
                taken = min(room, asked[request] - before)
                read, room = read + taken, room - taken
                attention += taken * (before + taken / 2)
                reading[0][1] += taken
                if reading[0][1] >= asked[request]:
                    begun.append(request)
                    reading.popleft()
            rows.append((read + sequences, context, attention, sequences, 1.0, unanswered, inverse))
            decoded, context = decoded + (1 if sequences else 0), context + sequences
            unanswered -= len(begun)
            step += 1
            looked = step
        else:
            steps = finishing[0][0] - decoded
            if coming:
                steps = min(steps, _next_look(coming[0][0], step, looked, schedule.look) - step)
            if gathering >= 0:
                steps = min(steps, gathering + schedule.gather - step)
            mean = context + sequences * (steps - 1) / 2
            rows.append((sequences, mean, 0.0, sequences, steps, unanswered, inverse * steps))
            decoded, context = decoded + steps, context + sequences * steps
            step += steps
        while finishing and finishing[0][0] <= decoded:
            _, request = heappop(finishing)
            sequences -= 1
            context -= asked[request] + said[request] - 1
            inverse -= 1 / (said[request] - 1)
            held -= asked[request] + said[request]
            unanswered_done += 1
            if upcoming < requests:
                coming.append((step + schedule.between, upcoming))
                upcoming, unanswered = upcoming + 1, unanswered + 1
        for request in begun:
            heappush(finishing, (decoded + said[request] - 1, request))
            sequences, context = sequences + 1, context + asked[request]
            inverse += 1 / (said[request] - 1)
    return [
        (tokens, seen, attention, active, count, lined * count / requests, share / requests)
        for tokens, seen, attention, active, count, lined, share in rows
    ]


def _tokens(asked: Sequence[int], waiting: Iterable[int], sequences: int) -> int:
    return sequences + sum(asked[request] for request in waiting)


def _next_look(ready: int, step: int, looked: int, every: int) -> int:
    """The first step after this one in which a request that is ready then is found."""
    wanted = max(ready, step + 1)
    return looked - (looked - wanted) // every * every


def _merged(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Like steps counted together: a run of thousands becomes a few dozen kinds."""
    fineness = np.array([8.0, 4.0, 4.0, 8.0])
    keys = np.rint(fineness * np.log2(rows[:, :4] + 1))
    _, kind = np.unique(keys, axis=0, return_inverse=True)
    kind = kind.ravel()
    kinds = int(kind.max()) + 1
    counts = np.bincount(kind, rows[:, 4], kinds)
    merged = np.zeros((kinds, 7))
    for column in range(4):
        merged[:, column] = np.bincount(kind, rows[:, column] * rows[:, 4], kinds) / counts
    merged[:, 4] = counts
    for column in (5, 6):
        merged[:, column] = np.bincount(kind, rows[:, column], kinds)
    return merged

"""The inner loop of the simulation: one replica, step by step, in code that numba can compile and plain Python can run.

Only numbers and indexed sequences: lists when it runs plain, arrays when it is compiled. Both do the same operations in
the same order, so the results are equal to the last bit.
"""

from collections.abc import MutableSequence, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

Function = TypeVar("Function")

if TYPE_CHECKING:

    def register_jitable(function: Function) -> Function: ...

else:
    try:
        from numba.extending import register_jitable
    except ImportError:  # the plain fallback

        def register_jitable(function: Function) -> Function:
            return function


# Where a replica's state lies in its rows of whole numbers and of fractions.
DECODED, SEQUENCES, HEAP, HEAD, READING, READY, TAIL, DONE, UNDER_WAY = range(9)
CLOCK, CONTEXT, HELD, BUSY, BEGAN = range(5)
WHOLES, FRACTIONS = 9, 5
NOBODY = -1

Wholes: TypeAlias = MutableSequence[int]
Fractions: TypeAlias = MutableSequence[float]
Requests: TypeAlias = tuple[Sequence[float], Sequence[int], Sequence[int], Sequence[int]]
"""Of each request: arrival in seconds, tokens of its prompt and its answer, tokens of the prompt that are cached."""
Answered: TypeAlias = tuple[Fractions, Fractions]
"""Of each request: when its first and its last token came."""
Costs: TypeAlias = tuple[float, float, float, int, int, float, int]
"""per_sequence, per_token, per_attention, step_tokens, most sequences, cache_tokens, and 1 where a step is prepared
during the one before, so that a request that comes meanwhile waits one more."""


@register_jitable
def push(heap: MutableSequence[int], size: int, key: int) -> None:
    """Puts a key into a heap that holds `size` keys."""
    place = size
    while place > 0:
        above = (place - 1) >> 1
        if heap[above] <= key:
            break
        heap[place] = heap[above]
        place = above
    heap[place] = key


@register_jitable
def pop(heap: MutableSequence[int], size: int) -> None:
    """Takes the least key out of a heap of `size` keys."""
    size -= 1
    key = heap[size]
    place = 0
    below = 1
    while below < size:
        if below + 1 < size and heap[below + 1] < heap[below]:
            below += 1
        if heap[below] >= key:
            break
        heap[place] = heap[below]
        place = below
        below = 2 * place + 1
    heap[place] = key


@register_jitable
def steps_within(wanted: float, base: float, grow: float) -> int:
    """The fewest steps n whose time, n x base + grow x n x (n - 1) / 2, is more than `wanted`."""
    if grow > 0.0:
        half = base - 0.5 * grow
        return int(((half * half + 2.0 * grow * wanted) ** 0.5 - half) / grow) + 1
    return int(wanted / base) + 1


@register_jitable
def run_s(steps: int, base: float, grow: float) -> float:
    """Seconds of so many steps, each of which takes `grow` longer than the one before."""
    return steps * base + grow * steps * (steps - 1) * 0.5


@register_jitable
def advance(
    until: float, whole: Wholes, fraction: Fractions, heap: Wholes, following: Wholes,
    requests: Requests, answered: Answered, table: Sequence[float], costs: Costs,
) -> None:  # fmt: skip
    """Runs a replica until its clock reaches `until` or it has nothing to do.

    Its requests form a chain, each with the one `following` it. A step costs table[tokens] + per_sequence x answers +
    per_token x cached tokens read + per_attention x attention; answers go on in every step and prompts are read in what
    is left of `step_tokens`. Runs of steps without a change are summed in closed form.
    """
    arrival, asked, said, cached = requests
    first, last = answered
    per_sequence, per_token, per_attention, step_tokens, most, cache_tokens, prepared = costs
    decoded, sequences, size, ended = whole[DECODED], whole[SEQUENCES], whole[HEAP], 0
    head, reading, ready, done = whole[HEAD], whole[READING], whole[READY], whole[DONE]
    clock, context, held, busy = fraction[CLOCK], fraction[CONTEXT], fraction[HELD], fraction[BUSY]
    began = fraction[BEGAN]
    while clock < until:
        # From `head` on so many as are `reading` were admitted and wait to be read; from `ready` on the rest waits.
        seen = began if prepared > 0 and sequences + reading > 0 else clock
        while ready >= 0 and sequences + reading < most and arrival[ready] <= seen:
            needed = asked[ready] + said[ready]
            if held > 0 and held + needed > cache_tokens:
                break
            held += needed
            if reading == 0:
                head = ready
            reading += 1
            ready = following[ready]
        if reading > 0:
            room = max(1, step_tokens - sequences)
            read, attention = 0, 0.0
            begun, starting = head, 0
            while reading > 0 and room > 0:
                before = cached[head] + done
                left = asked[head] - before
                taken = min(left, room)
                attention += taken * (before + 0.5 * taken)
                read += taken
                room -= taken
                if taken == left:
                    head = following[head]
                    reading -= 1
                    starting += 1
                    done = 0
                else:
                    done += taken
            seconds = (
                table[read + sequences] + per_sequence * sequences + per_token * context + per_attention * attention
            )
            began = clock
            clock += seconds
            busy += seconds
            if sequences > 0:
                decoded += 1
                context += sequences
            while starting > 0:
                first[begun] = clock
                push(heap, size, ((decoded + said[begun] - 1) << 32) | begun)
                size += 1
                sequences += 1
                context += asked[begun]
                begun = following[begun]
                starting -= 1
        elif sequences > 0:
            steps = (heap[0] >> 32) - decoded
            base = table[sequences] + per_sequence * sequences + per_token * context
            grow = per_token * sequences
            stop = until
            if ready >= 0 and clock < arrival[ready]:
                stop = min(stop, arrival[ready])
            if ready >= 0 and seen < arrival[ready] <= clock:
                steps = 1
            if clock + run_s(steps, base, grow) > stop:
                steps = min(steps, steps_within(stop - clock, base, grow))
            # During the last of these steps the next is prepared.
            began = clock + run_s(steps - 1, base, grow)
            seconds = run_s(steps, base, grow)
            clock += seconds
            busy += seconds
            decoded += steps
            context += sequences * steps
        else:
            if ready < 0 or arrival[ready] >= until:
                break
            clock = max(clock, arrival[ready])
            continue
        while size > 0 and (heap[0] >> 32) <= decoded:
            request = heap[0] & 0xFFFFFFFF
            pop(heap, size)
            size -= 1
            sequences -= 1
            context -= asked[request] + said[request] - 1
            held -= asked[request] + said[request]
            last[request] = clock
            ended += 1
    whole[DECODED], whole[SEQUENCES], whole[HEAP] = decoded, sequences, size
    whole[HEAD], whole[READING], whole[READY], whole[DONE] = head, reading, ready, done
    whole[UNDER_WAY] -= ended
    fraction[CLOCK], fraction[CONTEXT], fraction[HELD], fraction[BUSY] = clock, context, held, busy
    fraction[BEGAN] = began


def replay(
    least_load: bool, wholes: Sequence[Wholes], fractions: Sequence[Fractions], heaps: Sequence[Wholes],
    following: Wholes, requests: Requests, answered: Answered, table: Sequence[float], costs: Costs,
) -> None:  # fmt: skip
    """Sends every request to a replica, in turn or to the one with the fewest under way, and runs all to the end."""
    arrival = requests[0]
    replicas = len(wholes)
    for request in range(len(arrival)):
        chosen = request % replicas
        if least_load:
            now = arrival[request]
            fewest = 1 << 40
            for place in range(replicas):
                # In turn from the next one on, so that replicas with equally few take turns.
                replica = (request + place) % replicas
                whole = wholes[replica]
                if whole[UNDER_WAY] > 0 and fractions[replica][CLOCK] < now:
                    advance(now, whole, fractions[replica], heaps[replica], following, requests, answered, table, costs)
                if whole[UNDER_WAY] < fewest:
                    fewest = whole[UNDER_WAY]
                    chosen = replica
        whole = wholes[chosen]
        if whole[TAIL] >= 0:
            following[whole[TAIL]] = request
        whole[TAIL] = request
        if whole[READY] < 0:
            whole[READY] = request
        whole[UNDER_WAY] += 1
    for replica in range(replicas):
        whole, fraction, heap = wholes[replica], fractions[replica], heaps[replica]
        advance(float("inf"), whole, fraction, heap, following, requests, answered, table, costs)


def compiled() -> Any:
    """The loop compiled by numba and kept on disk, or None where numba is not installed."""
    try:
        import numba
    except ImportError:
        return None
    return numba.njit(cache=True)(replay)

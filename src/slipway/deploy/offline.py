"""How many sequences and tokens an engine works on at once when it is run for the most throughput.

Source: TensorRT-LLM 1.0, tensorrt_llm/bench/build/tuning.py, and docs/source/performance/perf-overview.md.
"""

import math
from typing import NamedTuple

from slipway.models.calibrations import Setup
from slipway.models.memory import GIB, kv_bytes, kv_copies, weights_gib

CACHE_SHARE = 0.9
"""Share of the memory beside the weights that is counted on for keys and values."""
MOST_SEQUENCES, FEWEST_SEQUENCES = 4096, 64
MOST_TOKENS, FEWEST_TOKENS = 32_768, 2048
REQUESTS = {
    (128, 128): 30_000,
    (128, 2048): 3000,
    (500, 2000): 3000,
    (1000, 1000): 3000,
    (2048, 128): 3000,
    (20_000, 2000): 1000,
}
"""Requests of a run, by lengths; 1,500 for others."""


class Limits(NamedTuple):
    """What one step of one pipeline stage may hold at most."""

    sequences: int
    tokens: int


def requests_of(input_tokens: int, output_tokens: int) -> int:
    return REQUESTS.get((input_tokens, output_tokens), 1500)


def limits_of(setup: Setup, *, input_tokens: int, output_tokens: int) -> Limits:
    """The limits of `trtllm-bench throughput`: as many sequences as the cache holds whole, shared between the stages of
    a pipeline, with the prompts that they bring in each step; both rounded up, and at least one whole prompt."""
    shape, split = setup.shape, setup.split
    free = split.devices * setup.hardware.memory_gib - weights_gib(shape.parameters, setup.precision)
    each = kv_bytes(shape, input_tokens + output_tokens, bytes_each=setup.cache_bytes_each) / GIB
    held = max(free, 0.0) * CACHE_SHARE / (each * kv_copies(shape, split.tensor)) if each else float("inf")
    wanted = min(held, MOST_SEQUENCES) / split.pipeline
    step = 32 if wanted < 256 else 128 if wanted < 1024 else 256
    sequences = max(FEWEST_SEQUENCES, step * math.ceil(wanted / step))
    tokens = min(wanted * (1 + input_tokens / output_tokens), MOST_TOKENS)
    step = 256 if tokens < 4096 else 512 if tokens < 8192 else 1024
    tokens = max(FEWEST_TOKENS, step * math.ceil(tokens / step))
    return Limits(sequences=sequences, tokens=max(tokens, input_tokens + sequences))

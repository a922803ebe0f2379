"""Which traces are scored: a random share, and every one that looks worth a look."""

from collections.abc import Sequence
from random import Random

from slipway.domain.trace import TraceSummary

ALWAYS = ("error", "blocked")
"""A trace with one of these states is always in the sample."""


def choose_sample(traces: Sequence[TraceSummary], *, share: float, rng: Random) -> list[TraceSummary]:
    """A random `share` (0 to 1) of the traces, and all that failed or were blocked; the order is kept.

    The random part alone is representative: rates are computed from it (see `quality.watch_quality`).
    """
    return [trace for trace in traces if trace.status in ALWAYS or rng.random() < share]

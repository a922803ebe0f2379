"""Traffic to replay: when requests arrive, how long they are, and which blocks of their prompts were seen before."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slipway.decide.arrivals import OUTPUT_SHARE, Arrival, read_arrivals
from slipway.domain.errors import FileBroken

BLOCK_TOKENS = 512
"""Tokens of a block whose hash a trace gives. Source: the traces of Mooncake."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests in the order of arrival. Seconds since the first, tokens, and for each the hashes of its blocks."""

    arrival_s: NDArray[np.float64]
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    blocks: Sequence[Sequence[int]] = field(default=())
    slowed: float = 1.0
    """How many times longer it lasts than it was recorded: a day of a trace stays a day at any rate."""

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def span_s(self) -> float:
        return float(self.arrival_s[-1] - self.arrival_s[0])

    @property
    def per_second(self) -> float:
        """Mean rate; of a single request one a second."""
        return len(self) / self.span_s if self.span_s > 0 else float(len(self))

    @property
    def mean_tokens(self) -> float:
        """Tokens that an answer under way looks back on, on average."""
        return float(self.input_tokens.mean() + self.output_tokens.mean() / 2)

    def at_rate(self, per_second: float) -> "Traffic":
        """The same requests arriving faster or slower."""
        slower = self.per_second / per_second
        return replace(self, arrival_s=self.arrival_s * slower, slowed=self.slowed * slower)

    def part(self, begin: int, end: int) -> "Traffic":
        """Some of the requests, as a trace of their own."""
        cut = slice(begin, end)
        return Traffic(
            self.arrival_s[cut] - self.arrival_s[begin],
            self.input_tokens[cut],
            self.output_tokens[cut],
            self.blocks[begin:end] if self.blocks else (),
            self.slowed,
        )

    def windows(self, number: int) -> "list[Traffic]":
        """Parts of equal time, in order; those in which nothing came are left out."""
        edges = np.searchsorted(self.arrival_s, np.arange(1, number) * self.span_s / number)
        bounds = [0, *(int(edge) for edge in edges), len(self)]
        return [self.part(begin, end) for begin, end in itertools.pairwise(bounds) if end > begin]

    def busiest(self, most: int) -> "Traffic":
        """The consecutive requests, at most so many, that came in the shortest time."""
        if len(self) <= most:
            return self
        spans = self.arrival_s[most - 1 :] - self.arrival_s[: len(self) - most + 1]
        begin = int(np.argmin(spans))
        return self.part(begin, begin + most)


def read_traffic(file: Path) -> Traffic:
    """A trace to replay, from any file that `read_arrivals` knows. Raises `FileMissing`, `FileBroken`."""
    arrivals = read_arrivals(file)
    if not any(one.input or one.output for one in arrivals):
        raise FileBroken(file, "none of its requests has tokens", next_step="Check its columns of tokens.")
    traffic = traffic_of(arrivals)
    if len(traffic) > 1 and traffic.span_s <= 0:
        told = f"all its {len(traffic):,} requests come at the same time, so it shows no rate"
        raise FileBroken(file, told, next_step="Check its column of times.")
    return traffic


def traffic_of(arrivals: Sequence[Arrival], *, output_share: float = OUTPUT_SHARE) -> Traffic:
    """Requests to replay, in the order of arrival; where answers' tokens are not known they are a share of all."""
    ordered = sorted(arrivals, key=lambda one: one.at_s)
    at = np.array([one.at_s for one in ordered])
    tokens = np.rint(np.array([one.lengths(output_share) for one in ordered])).astype(np.int64)
    asked, said = np.maximum(1, tokens).T
    blocks = [one.blocks for one in ordered]
    return Traffic(at - at[0], np.ascontiguousarray(asked), np.ascontiguousarray(said), blocks if any(blocks) else ())


def invented(
    *, per_second: float, input_tokens: float, output_tokens: float, requests: int = 3000, seed: int = 7
) -> Traffic:
    """Traffic for a requirement without a trace: bursts and lengths spread as in the Azure conversation trace of 2023.

    Arrivals are a gamma process whose gaps vary 1.4 times as much as at random; lengths are log-normal with a 99th
    percentile of about 3.3 and 2.9 times the mean.
    """
    drawn = np.random.default_rng(seed)
    shape = 1 / GAP_VARIATION**2
    gaps = drawn.gamma(shape, 1 / (shape * per_second), requests)
    arrival = np.cumsum(gaps) - gaps[0]
    asked = np.maximum(1, np.rint(drawn.lognormal(-(INPUT_SPREAD**2) / 2, INPUT_SPREAD, requests) * input_tokens))
    said = np.maximum(1, np.rint(drawn.lognormal(-(OUTPUT_SPREAD**2) / 2, OUTPUT_SPREAD, requests) * output_tokens))
    return Traffic(arrival, asked.astype(np.int64), said.astype(np.int64))


GAP_VARIATION = 1.4
INPUT_SPREAD, OUTPUT_SPREAD = 0.62, 0.55

"""Traffic to replay: when requests arrive, how long they are, and which blocks of their prompts were seen before."""

import csv
import io
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway.decide.traffic import OUTPUT_SHARE, read_time
from slipway.domain.errors import FileBroken, FileMissing

BLOCK_TOKENS = 512
"""Tokens of a block whose hash a trace gives. Source: the traces of Mooncake."""
ARRIVAL = (
    *("arrival_s", "timestamp", "arrived_at", "arrival", "started_at", "time", "arrival_time", "request_time"),
    *("arrived", "date", "datetime", "start", "start_time", "created_at"),
)
ARRIVAL_MS = ("arrival_ms", "timestamp_ms", "time_ms", "arrived_ms")
INPUT = (
    *("input_tokens", "contexttokens", "prompt_tokens", "input_length", "isl", "request_tokens"),
    *("num_input_tokens", "num_prefill_tokens", "prompt_length", "prompt_len", "input_len", "input", "prompt", "in"),
)
OUTPUT = (
    *("output_tokens", "generatedtokens", "completion_tokens", "output_length", "osl", "response_tokens"),
    *("num_output_tokens", "num_decode_tokens", "response_length", "output_len", "output", "completion", "out"),
)
TOTAL = ("tokens", "total_tokens", "total", "num_tokens")
BLOCKS = ("blocks512", "hash_ids")
DEFAULT_OUTPUT = 200


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
    """A trace from CSV or JSON lines: a gateway's, Azure's, Mooncake's, or any with an arrival and two lengths.

    Arrivals are dates (UTC where they name no zone), seconds, or milliseconds since 1970 or in a column that ends in
    `_ms`; in any order. Without answers' lengths, or in a file of two columns (arrival, tokens of the prompt), an
    answer takes 200 tokens; of a column of total tokens 15 % are the answer's. Comma, semicolon or tab. Raises
    `FileMissing`, `FileBroken`.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise FileMissing(file) from None
    except (OSError, UnicodeDecodeError) as wrong:
        raise FileBroken(file, f"it is not text ({wrong})") from wrong
    lines = text.splitlines()
    if not any(line.strip() for line in lines):
        raise FileBroken(file, "it is empty; a trace needs at least one request")
    rows = _json_rows(file, lines) if lines[0].lstrip().startswith("{") else _csv_rows(file, lines)
    found: list[tuple[float, int, int, list[int]]] = []
    for number, row in rows:
        found.append(_request(file, number, row))
    if not found:
        raise FileBroken(file, "it holds no request below its header")
    found.sort(key=lambda each: each[0])
    start = found[0][0]
    blocks = [each[3] for each in found]
    return Traffic(
        np.array([each[0] - start for each in found]),
        np.array([each[1] for each in found], dtype=np.int64),
        np.array([each[2] for each in found], dtype=np.int64),
        blocks if any(blocks) else (),
    )


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


def _request(file: Path, number: int, row: Mapping[str, Any]) -> tuple[float, int, int, list[int]]:
    arrival = _first(row, ARRIVAL)
    if arrival is None and (milliseconds := _first(row, ARRIVAL_MS)) is not None:
        arrival = _seconds(file, number, milliseconds) / 1e3
    asked, said = _first(row, INPUT), _first(row, OUTPUT)
    total = _first(row, TOTAL)
    if asked is None and total is not None:
        whole = _count(file, number, total, least=2)
        said = max(1, round(whole * OUTPUT_SHARE)) if said is None else said
        asked = max(1, whole - _count(file, number, said, least=1))
    if arrival is None or asked is None:
        raise FileBroken(file, f"line {number} has no arrival or no input tokens", next_step=NEXT)
    tokens_in = _count(file, number, asked, least=1)
    tokens_out = DEFAULT_OUTPUT if said is None else _count(file, number, said, least=1)
    blocks = _first(row, BLOCKS) or []
    return _seconds(file, number, arrival), tokens_in, tokens_out, list(blocks)


NEXT = "Name the columns arrival_s, input_tokens, output_tokens."


def _first(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def _count(file: Path, number: int, written: Any, *, least: int) -> int:
    try:
        value = round(float(written))
    except (TypeError, ValueError, OverflowError):
        raise FileBroken(file, f"line {number}: '{written}' is not a number of tokens") from None
    if value < 0:
        raise FileBroken(file, f"line {number}: {written} tokens; a length has to be zero or more")
    return max(least, value)


def _seconds(file: Path, number: int, written: Any) -> float:
    try:
        value = read_time(str(written))
    except (ValueError, OverflowError):
        raise FileBroken(file, f"line {number}: '{written}' is neither seconds nor a date") from None
    if not np.isfinite(value):
        raise FileBroken(file, f"line {number}: arrival {written} makes no sense")
    return value


def _json_rows(file: Path, lines: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as wrong:
            raise FileBroken(file, f"line {number} is not JSON ({wrong})") from wrong
        if not isinstance(row, dict):
            raise FileBroken(file, f"line {number} holds no JSON object")
        named = {_plain(str(name)): value for name, value in row.items()}
        if "hash_ids" in named and isinstance(named.get("timestamp"), int | float):
            named["timestamp"] = named["timestamp"] / 1000  # Mooncake writes milliseconds
        yield number, named


def _csv_rows(file: Path, lines: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    first = next(line for line in lines if line.strip())
    delimiter = max(",;\t", key=first.count)
    if delimiter not in first:
        raise FileBroken(file, "its first line has one column", next_step=NEXT)
    reader = csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter)
    top = next(cells for cells in reader if cells)
    head = [_plain(name) for name in top]
    known = {*ARRIVAL, *ARRIVAL_MS, *INPUT, *OUTPUT, *TOTAL}
    rows: Iterator[list[str]] = reader
    start = 2
    if not known & set(head):
        if len(head) not in (2, 3) or not _is_number(head[-1]):
            raise FileBroken(file, f"its header names none of {', '.join(ARRIVAL[:2] + INPUT[:2])}", next_step=NEXT)
        rows, start = itertools.chain([top], reader), 1
        head = ["arrival_s", "input_tokens", "output_tokens"][: len(head)]
    for number, cells in enumerate(rows, start):
        if any(cell.strip() for cell in cells):
            yield number, dict(zip(head, cells, strict=False))


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

"""Requests of a trace: when each came and how many tokens it had, as gateways, logs and public traces write them."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from slipway.domain.errors import FileBroken, FileMissing

OUTPUT_SHARE = 0.15
"""Share of output in the total tokens where a file does not tell it. Source: Azure conversation trace of 2023 (1,155
tokens in, 211 out)."""
TIMES = (
    *("time", "timestamp", "arrival", "arrived", "arrived_at", "arrival_time", "request_time", "date", "datetime"),
    *("started_at", "start", "start_time", "request_start", "created_at", "created"),
)
INPUTS = (
    *("input_tokens", "contexttokens", "context_tokens", "prompt_tokens", "input_length", "isl", "request_tokens"),
    *("num_input_tokens", "num_prefill_tokens", "prompt_length", "prompt_len", "input_len", "input", "prompt", "in"),
)
OUTPUTS = (
    *("output_tokens", "generatedtokens", "generated_tokens", "completion_tokens", "output_length", "osl"),
    *("response_tokens", "num_output_tokens", "num_decode_tokens", "response_length", "output_len", "output"),
    *("completion", "out"),
)
TOTALS = ("tokens", "total_tokens", "total", "num_tokens")
BLOCKS = ("blocks512", "hash_ids")
MILLISECONDS_WITH = "hash_ids"
"""Traces of Mooncake count milliseconds in a column that does not say so."""
UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
EMPTY = "Write one line a request: time, tokens."
NAMES = "Name the columns time, input_tokens, output_tokens."
DATES = "Write seconds, or dates such as 2026-11-16T09:00:00Z."
WEB_LOG = "%d/%b/%Y:%H:%M:%S %z"
_DECIMAL_COMMA = re.compile(r"-?\d+,\d+")


class Lengths(NamedTuple):
    """Tokens of a prompt and of its answer."""

    input: float
    output: float


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request: when it came in seconds, and its tokens; `output` is None where only the total is known."""

    at_s: float
    input: float
    output: float | None
    prompt_only: bool = False
    """`input` is the prompt's although `output` is not known."""
    blocks: Sequence[int] = ()
    """Hashes of the blocks of the prompt, where the trace has them."""

    def lengths(self, output_share: float) -> Lengths:
        """Its tokens; where the answer's are not known they are such a share of all."""
        if self.output is not None:
            return Lengths(self.input, self.output)
        if self.prompt_only:
            return Lengths(self.input, self.input * output_share / (1 - output_share))
        return Lengths(self.input * (1 - output_share), self.input * output_share)


def read_arrivals(path: Path) -> list[Arrival]:
    """The requests of a file of CSV (comma, semicolon or tab), JSON lines or a JSON list, in its order.

    Raises `FileMissing`, `FileBroken` with the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise FileMissing(path) from None
    except UnicodeDecodeError as wrong:
        raise FileBroken(
            path, f"it is not text in UTF-8 ({wrong.reason})", next_step="Save it as CSV in UTF-8."
        ) from wrong
    except OSError as wrong:
        raise FileBroken(path, str(wrong)) from wrong
    return parse_arrivals(text, path)


def parse_arrivals(text: str, path: Path) -> list[Arrival]:
    """The requests of the text of such a file. Raises `FileBroken` with the line."""
    begin = text.lstrip()[:1]
    if not begin:
        raise FileBroken(path, "it is empty", next_step=EMPTY)
    found = list(_of_json(path, text) if begin in ("{", "[") else _of_table(path, text))
    if not found:
        raise FileBroken(path, "it holds no request", next_step=EMPTY)
    return found


def read_time(text: str) -> float:
    """Seconds of a date (UTC where it names no zone) as ISO 8601 or web servers write it, of seconds, or of
    milliseconds, microseconds, nanoseconds since 1970. Raises `ValueError`."""
    text = text.strip()
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        for scale in (1e9, 1e6, 1e3):
            # An instant since 1970 is about 1.7e9 seconds; larger numbers count smaller units.
            if number / scale > 1e8:
                return number / scale
        return number
    # Python reads six digits of a fraction, logs often write seven.
    head, dot, fraction = text.partition(".")
    digits = len(fraction) - len(fraction.lstrip("0123456789"))
    if dot and digits > 6:
        text = f"{head}.{fraction[:6]}{fraction[digits:]}"
    text = text.removesuffix(" UTC").removesuffix(" GMT")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = datetime.strptime(text.strip("[]"), WEB_LOG)  # noqa: DTZ007 - it has a zone
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


class _Columns(NamedTuple):
    """Where a request has what, by key of its row; None where it does not say it. `unit` divides a time."""

    time: Any
    unit: float | None
    input: Any
    output: Any
    total: Any
    blocks: Any = None


def _of_table(path: Path, text: str) -> Iterator[Arrival]:
    lines = text.splitlines()
    first = next(line for line in lines if line.strip())
    delimiter = max(",;\t", key=first.count)
    if delimiter not in first:
        lone = "Write one line a request, divided by comma, semicolon or tab: time, tokens."
        raise FileBroken(path, "its first line has one column", next_step=lone)
    try:
        rows = [
            (number, row)
            for number, row in enumerate(csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter), 1)
            if any(cell.strip() for cell in row)
        ]
    except csv.Error as wrong:
        raise FileBroken(path, str(wrong)) from wrong
    head = rows[0][1]
    if any(_is_number(cell) for cell in head[1:]):
        columns = _Columns(0, None, 1 if len(head) > 2 else None, 2 if len(head) > 2 else None, 1)
    else:
        columns = _columns(path, tuple(head), tuple(range(len(head))))
        del rows[0]
    for number, row in rows:
        if delimiter == ";" and len(row) > columns.time and _DECIMAL_COMMA.fullmatch(row[columns.time].strip()):
            row[columns.time] = row[columns.time].replace(",", ".")

        def cell(place: int, row: Sequence[str] = row) -> str:
            return row[place].strip() if place < len(row) else ""

        yield _arrival(path, f"line {number}", cell, columns)


def _of_json(path: Path, text: str) -> Iterator[Arrival]:
    known = cache(lambda keys: _columns(path, tuple(map(str, keys)), keys))
    for place, row in _objects(path, text):
        yield _arrival(path, place, row.get, known(tuple(row)))


def _objects(path: Path, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if text.lstrip().startswith("["):
        listed = _json(path, "", text)
        for number, row in enumerate(listed, 1):
            yield _object(path, f"request {number}", row)
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield _object(path, f"line {number}", _json(path, f"line {number}", line))


def _json(path: Path, place: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as wrong:
        raise FileBroken(path, f"{place or 'it'} is not JSON ({wrong})") from wrong


def _object(path: Path, place: str, row: Any) -> tuple[str, Mapping[str, Any]]:
    if not isinstance(row, dict):
        raise FileBroken(path, f"{place} holds no JSON object", next_step=NAMES)
    return place, row


def _columns(path: Path, names: tuple[str, ...], keys: Sequence[Any]) -> _Columns:
    """Finds what each column is by its name. Raises `FileBroken` where time or tokens are not among them."""
    plain = {
        re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_"): key for name, key in zip(names, keys, strict=True)
    }

    def of(known: Sequence[str]) -> Any:
        return next((plain[name] for name in known if name in plain), None)

    time, unit = of(TIMES), 1e3 if MILLISECONDS_WITH in plain else None
    for name, key in plain.items():
        base, _, end = name.rpartition("_")
        if time is None and end in UNITS and base in TIMES:
            time, unit = key, UNITS[end]
    asked, said, total = of(INPUTS), of(OUTPUTS), of(TOTALS)
    if len(names) == 2 and isinstance(keys[0], int):
        tokens = next((each for each in (asked, total) if each is not None), None)
        if time is None:
            time = keys[1] if tokens == keys[0] else keys[0]
        if tokens is None:
            total = keys[1] if time == keys[0] else keys[0]
    if time is None or (asked is None and total is None):
        told = ", ".join(names)
        told = told if len(told) <= 120 else f"{told[:120]} …"
        raise FileBroken(path, f"its head ({told}) names no time and tokens", next_step=NAMES)
    return _Columns(time, unit, asked, said, total, of(BLOCKS))


def _arrival(path: Path, place: str, cell: Callable[[Any], Any], columns: _Columns) -> Arrival:
    at = _time(path, place, cell(columns.time), columns.unit)
    asked, said, total = (
        None if key is None else _tokens(path, place, cell(key))
        for key in (columns.input, columns.output, columns.total)
    )
    blocks = () if columns.blocks is None else cell(columns.blocks) or ()
    if asked is not None:
        return Arrival(at, asked, said, prompt_only=said is None, blocks=blocks)
    if total is None:
        raise FileBroken(path, f"{place} has no tokens", next_step=NAMES)
    if said is None:
        return Arrival(at, total, None, blocks=blocks)
    return Arrival(at, max(0.0, total - said), said, blocks=blocks)


def _time(path: Path, place: str, written: Any, unit: float | None) -> float:
    if written in (None, ""):
        raise FileBroken(path, f"{place} has no time", next_step=NAMES)
    try:
        value = read_time(str(written)) if unit is None or not _is_number(written) else float(written) / unit
    except (ValueError, OverflowError):
        raise FileBroken(path, f"{place}: '{written}' is neither seconds nor a date", next_step=DATES) from None
    if not isfinite(value):
        raise FileBroken(path, f"{place}: a time of {written} makes no sense", next_step=DATES)
    return value


def _tokens(path: Path, place: str, written: Any) -> float | None:
    if written in (None, ""):
        return None
    try:
        value = float(written)
    except (TypeError, ValueError, OverflowError):
        value = float("nan")
    if not isfinite(value):
        raise FileBroken(path, f"{place}: '{written}' is not a number of tokens")
    if value < 0:
        raise FileBroken(path, f"{place}: {written} tokens; a length has to be zero or more")
    return value


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _is_number(written: Any) -> bool:
    try:
        float(written)
    except (TypeError, ValueError):
        return False
    return True

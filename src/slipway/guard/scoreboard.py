"""The scoreboard of a rail: what it caught, missed and raised for nothing on labelled texts, and what it cost."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from slipway.domain.errors import FileBroken, FileMissing
from slipway.domain.evaluation import Interval
from slipway.domain.guardrail import RailSpec, TextSource
from slipway.guard.checker import look
from slipway.guard.rails.base import Scene
from slipway.intervals import wilson

LARGEST_FILE = 200_000_000
SOURCES: tuple[TextSource, ...] = get_args(TextSource)


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A text and whether a rail should fire on it. `rail` is empty when the label is meant for every rail."""

    text: str
    label: bool
    source: TextSource = "user"
    rail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RailScore:
    """One rail on texts of one source. `recall` and `false_alarms` are shares with 95 % intervals (Wilson).

    `undecided` texts count as caught when they should be caught: a release blocks them by default.
    """

    rail: str
    source: str
    caught: int
    missed: int
    raised: int
    """False alarms: harmless texts on which it fired."""
    passed: int
    recall: Interval
    false_alarms: Interval
    precision: float
    microseconds: float
    """CPU time of one text, mean."""
    missed_examples: tuple[int, ...] = ()
    """Row numbers, from 1, of the first texts it missed."""
    raised_examples: tuple[int, ...] = ()


def read_labelled(path: Path, *, source: TextSource = "user") -> list[Labelled]:
    """Rows of a JSONL file: `text`, `label` (0/1 or true/false), and where known `source` and `rail`.

    `source` is what rows without a known source count as. Raises `FileMissing`, `FileBroken` with the line.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise FileBroken(path, f"it is larger than {LARGEST_FILE:,} bytes", next_step="Take a sample of it.")
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise FileMissing(path) from None
    except (OSError, UnicodeDecodeError) as wrong:
        raise FileBroken(path, str(wrong)) from wrong
    rows = [_row(path, number, line, source) for number, line in enumerate(lines, start=1) if line.strip()]
    if not rows:
        raise FileBroken(path, "it holds no rows", next_step='Give one {"text": …, "label": 0 or 1} a line.')
    return rows


def _row(path: Path, number: int, line: str, source: TextSource) -> Labelled:
    try:
        row = json.loads(line)
    except ValueError as wrong:
        raise FileBroken(path, f"line {number} is no JSON ({wrong})", next_step="Correct that line.") from None
    if not isinstance(row, dict) or not isinstance(row.get("text"), str) or row.get("label") not in (0, 1):
        raise FileBroken(path, f"line {number} lacks 'text' or a 'label' of 0 or 1", next_step="Correct that line.")
    named = row.get("source")
    return Labelled(
        text=row["text"],
        label=bool(row["label"]),
        source=cast(TextSource, named) if named in SOURCES else source,
        rail=str(row.get("rail", "")),
    )


def score_rails(specs: Sequence[RailSpec], rows: Sequence[Labelled]) -> list[RailScore]:
    """Each rail on the rows that are meant for it, one line for each source."""
    return [
        score
        for spec in specs
        for source in SOURCES
        if (score := _score(spec, source, [(n, row) for n, row in enumerate(rows, start=1) if row.source == source]))
    ]


def _score(spec: RailSpec, source: TextSource, rows: list[tuple[int, Labelled]]) -> RailScore | None:
    rows = [(number, row) for number, row in rows if row.rail in ("", spec.name)]
    if not rows:
        return None
    began = time.process_time()
    fired = [look(row.text, spec, Scene(source)).decision != "allow" for _, row in rows]
    spent = time.process_time() - began
    missed = [number for (number, row), hit in zip(rows, fired, strict=True) if row.label and not hit]
    raised = [number for (number, row), hit in zip(rows, fired, strict=True) if hit and not row.label]
    attacks = sum(row.label for _, row in rows)
    caught, harmless = attacks - len(missed), len(rows) - attacks
    return RailScore(
        rail=spec.name,
        source=source,
        caught=caught,
        missed=len(missed),
        raised=len(raised),
        passed=harmless - len(raised),
        recall=wilson(caught, attacks),
        false_alarms=wilson(len(raised), harmless),
        precision=caught / (caught + len(raised)) if caught or raised else 0.0,
        microseconds=spent / len(rows) * 1e6,
        missed_examples=tuple(missed[:10]),
        raised_examples=tuple(raised[:10]),
    )

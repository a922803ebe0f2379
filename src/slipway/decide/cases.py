"""Published cost figures, reproduced by our own formulas: how far off are they?"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from slipway.decide.formulas import FORMULAS, CaseLacks, Figure, Inputs
from slipway.domain.errors import FileBroken, FileMissing, SlipwayError, did_you_mean

USUAL_TOLERANCE = 0.05
NEEDED = ("kind", "inputs", "expected")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseOutcome:
    """One published figure beside ours. `within` is None where we have no figure; `reason` says why, or what ours is.

    `off` is ours / published - 1 where both are one number.
    """

    id: str
    kind: str
    question: str
    unit: str
    published: str
    ours: Figure | None
    within: bool | None
    off: float | None = None
    reason: str = ""


def read_cases(path: Path) -> list[dict[str, Any]]:
    """Cases from JSONL: kind, inputs, expected (a number, [low, high], or a table of them), unit, tolerance_rel.

    A line whose kind, inputs or expected value is missing stays a case, and its outcome says what is missing. Raises
    `FileMissing`, or `FileBroken` with the line that is no JSON object, or for a file without any case.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileMissing(path) from None
    except (OSError, UnicodeDecodeError) as wrong:
        raise FileBroken(path, str(wrong)) from wrong
    cases = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            case = json.loads(line)
        except ValueError as wrong:
            raise FileBroken(path, f"line {number} is no JSON ({wrong})") from wrong
        if not isinstance(case, dict):
            raise FileBroken(path, f"line {number} is no JSON object")
        cases.append({"id": f"line {number}", **case})
    if not cases:
        raise FileBroken(path, "it holds no case", next_step="Write one JSON object a line: kind, inputs, expected.")
    return cases


def evaluate_case(case: Mapping[str, Any]) -> CaseOutcome:
    """Our figure for one published case, and whether it lies within the tolerance. Never raises for a bad case."""
    ours, reason = _figure(case)
    within: bool | None = None
    off: float | None = None
    if ours is not None:
        expected, tolerance = case["expected"], case.get("tolerance_rel", USUAL_TOLERANCE)
        try:
            within = is_within(ours, expected, tolerance)
        except (TypeError, ValueError) as wrong:
            reason = f"its expected value or tolerance cannot be compared ({wrong})"
        if isinstance(ours, float) and isinstance(expected, int | float) and expected:
            off = ours / expected - 1
    return CaseOutcome(
        id=str(case.get("id", "?")),
        kind=str(case.get("kind", "")),
        question=str(case.get("question", "")),
        unit=str(case.get("unit", "")),
        published=json.dumps(case.get("expected")),
        ours=ours,
        within=within,
        off=off,
        reason=reason,
    )


def _figure(case: Mapping[str, Any]) -> tuple[Figure | None, str]:
    """Our figure and a remark on it, or nothing and the reason."""
    missing = [name for name in NEEDED if case.get(name) is None]
    if missing:
        return None, f"the case lacks {', '.join(missing)}"
    formula = FORMULAS.get(str(case["kind"]))
    if formula is None:
        return None, f"no formula for '{case['kind']}'.{did_you_mean(str(case['kind']), FORMULAS)}"
    if not isinstance(case["inputs"], Mapping):
        return None, "its inputs are no table of names and values"
    inputs = Inputs(
        given=case["inputs"],
        unit=str(case.get("unit", "")),
        question=str(case.get("question", "")),
        published=_count(case["expected"]),
    )
    try:
        figure = formula(inputs)
    except CaseLacks as lacks:
        return None, str(lacks)
    except SlipwayError as wrong:
        return None, str(wrong)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError) as wrong:
        return None, f"its inputs do not fit the formula ({wrong})"
    return figure, inputs.remark


def is_within(ours: Figure, expected: Any, tolerance: float | str) -> bool:
    """Whether our figure agrees with the published one.

    `range`: between low and high, `min`: at least, `max`: at most, else a relative deviation. A list of figures is
    compared one by one; with `range` a list of pairs. A table is compared name by name. Raises `ValueError` for shapes
    that cannot be compared.
    """
    if isinstance(ours, dict):
        if not isinstance(expected, Mapping):
            raise ValueError("ours is a table, the published figure is not")
        unknown = [name for name in expected if name not in ours]
        if unknown:
            raise ValueError(f"we have no figure for {', '.join(unknown)}")
        return all(is_within(ours[name], value, tolerance) for name, value in expected.items())
    if isinstance(ours, tuple):
        if not isinstance(expected, Sequence):
            raise ValueError("ours is a list, the published figure is not")
        pairs = _pairs(expected, len(ours)) if tolerance == "range" else list(expected)
        if len(pairs) != len(ours):
            raise ValueError(f"ours are {len(ours)} figures, published are {len(pairs)}")
        return all(is_within(one, value, tolerance) for one, value in zip(ours, pairs, strict=True))
    if isinstance(expected, Sequence) and not isinstance(expected, str):
        low, high = (float(value) for value in expected)
        # A range with a relative tolerance may be left by that share.
        slack = 0.0 if isinstance(tolerance, str) else float(tolerance)
        return low * (1 - slack) <= ours <= high * (1 + slack)
    value = float(expected)
    if not isfinite(ours):
        return False
    match tolerance:
        case "range":
            raise ValueError("a range needs two figures")
        case "min":
            return ours >= value
        case "max":
            return ours <= value
        case _:
            return abs(ours - value) <= float(tolerance) * abs(value) * (1 + 1e-9)


def _pairs(expected: Sequence[Any], count: int) -> list[Any]:
    """[low, high, low, high, ...] as pairs; what is already written as pairs stays so."""
    if len(expected) == 2 * count and not isinstance(expected[0], Sequence):
        return [expected[place : place + 2] for place in range(0, len(expected), 2)]
    return list(expected)


def _count(expected: Any) -> int:
    return len(expected) if isinstance(expected, list | tuple) else 1

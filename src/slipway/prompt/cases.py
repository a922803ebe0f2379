"""Cases to try prompts on: JSONL files of questions, or promptfoo's test files."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipway.domain.dataset import Case
from slipway.domain.errors import FileBroken, FileMissing
from slipway.prompt.assertions import TYPES, Assertion, Observed, holds
from slipway.prompt.files import UNREADABLE

LARGEST_FILE = 20_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialCase:
    """Variables of one request and what is asserted about the reply."""

    id: str
    variables: dict[str, Any]
    assertions: tuple[Assertion, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialCases:
    """Cases of a file, and what of it was not taken, with the reason."""

    cases: tuple[TrialCase, ...]
    left_out: tuple[str, ...] = field(default=())


def from_dataset(cases: list[Case] | tuple[Case, ...]) -> TrialCases:
    """Cases of a dataset: an expected answer becomes `icontains`."""
    return TrialCases(
        cases=tuple(
            TrialCase(
                id=case.id,
                variables={"question": case.question},
                assertions=(Assertion(type="icontains", value=case.expected),) if case.expected else (),
            )
            for case in cases
        )
    )


def read_cases(path: Path) -> TrialCases:
    """Cases of a .jsonl file (`vars` or `question`, `assert` or `expected`) or of a promptfoo .yaml or .json file.

    Raises `FileMissing`, `FileBroken` with the place of what is wrong.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise FileBroken(path, f"it is larger than {LARGEST_FILE:,} bytes", next_step="Split it.")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileMissing(path) from None
    except (OSError, UnicodeDecodeError) as wrong:
        raise FileBroken(path, str(wrong)) from wrong
    if path.suffix == ".jsonl":
        rows = [_parse_line(path, number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    else:
        rows = _parse_tests(path, text)
    left_out: list[str] = []
    cases = [_case(path, number, row, left_out) for number, row in enumerate(rows, start=1)]
    if not cases:
        raise FileBroken(path, "it holds no case", next_step="Give one JSON object a line with a question.")
    return TrialCases(cases=tuple(cases), left_out=tuple(dict.fromkeys(left_out)))


def _parse_line(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as wrong:
        reason = wrong.msg if isinstance(wrong, json.JSONDecodeError) else str(wrong)
        raise FileBroken(path, f"line {number} is no JSON ({reason})", next_step="Correct that line.") from None


def _parse_tests(path: Path, text: str) -> list[Any]:
    import yaml

    try:
        whole = yaml.safe_load(text)
    except (yaml.YAMLError, *UNREADABLE) as wrong:
        raise FileBroken(path, f"it is no YAML or JSON ({wrong})") from None
    tests = whole.get("tests") if isinstance(whole, dict) else whole
    if not isinstance(tests, list):
        raise FileBroken(path, "it holds no list of tests", next_step="Write them under `tests:`.")
    return tests


def _case(path: Path, number: int, row: Any, left_out: list[str]) -> TrialCase:
    if not isinstance(row, dict):
        raise FileBroken(path, f"case {number} is no object", next_step="Correct that case.")
    variables = row.get("vars") or {key: row[key] for key in ("question", "passages") if key in row}
    if not isinstance(variables, dict) or not variables:
        raise FileBroken(path, f"case {number} has neither vars nor question", next_step="Correct that case.")
    asserted = row.get("assert") or []
    if not isinstance(asserted, list):
        raise FileBroken(path, f"case {number}: assert is no list", next_step="Correct that case.")
    if row.get("expected"):
        asserted = [*asserted, {"type": "icontains", "value": row["expected"]}]
    found = [_assertion(item, left_out) for item in asserted]
    for assertion in found:
        try:
            if assertion is not None:
                holds(assertion, Observed(text="", seconds=0, cost=0))
        except (ValueError, TypeError) as wrong:
            reason = f"case {number}: {assertion.name if assertion else ''}: {wrong}"
            raise FileBroken(path, reason, next_step="Correct that assertion.") from wrong
    return TrialCase(
        id=str(row.get("id") or row.get("description") or f"case {number}"),
        variables=variables,
        assertions=tuple(assertion for assertion in found if assertion is not None),
    )


def _assertion(item: Any, left_out: list[str]) -> Assertion | None:
    """An assertion that is checked without a model; others are named in `left_out`."""
    kind = str(item.get("type", "")) if isinstance(item, dict) else str(item)
    negated, bare = kind.startswith("not-"), kind.removeprefix("not-")
    known = next((name for name in TYPES if name == bare), None)
    if known is None or not isinstance(item, dict):
        left_out.append(f"assertion '{kind}' is not checked: only {', '.join(TYPES)} are")
        return None
    return Assertion(type=known, value=item.get("threshold", item.get("value")), negated=negated)

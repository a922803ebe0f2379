"""What a test case asserts about a reply: text, schema, length, time. Names as in promptfoo."""

import json
import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

from slipway.text.json_schema import find_faults, parse_schema
from slipway.text.patterns import compile_pattern
from slipway.text.tokens import count_tokens

AssertionType = Literal[
    "equals",
    "contains",
    "icontains",
    "contains-all",
    "contains-any",
    "starts-with",
    "regex",
    "is-json",
    "max-tokens",
    "latency",
    "cost",
]
TYPES: tuple[AssertionType, ...] = get_args(AssertionType)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """One assertion. `negated` is written `not-contains`. `latency` is milliseconds, `cost` dollars."""

    type: AssertionType
    value: Any = None
    negated: bool = False

    @property
    def name(self) -> str:
        shown = "" if self.value is None else f" {_shown(self.value)}"
        return f"{'not-' if self.negated else ''}{self.type}{shown}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A reply with what it took: seconds, dollars."""

    text: str
    seconds: float
    cost: float


def _shown(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (RecursionError, TypeError, ValueError):
        return "…"  # YAML can write what JSON cannot: a list that holds itself


def holds(assertion: Assertion, observed: Observed) -> bool:
    """Whether the assertion holds. Raises `ValueError` for a value that does not fit its type."""
    return _matches(assertion.type, assertion.value, observed) is not assertion.negated


def _matches(kind: AssertionType, value: Any, observed: Observed) -> bool:
    text = observed.text
    match kind:
        case "equals":
            return text.strip() == str(value).strip()
        case "contains":
            return str(value) in text
        case "icontains":
            return str(value).lower() in text.lower()
        case "contains-all":
            return all(str(item) in text for item in _listed(value))
        case "contains-any":
            return any(str(item) in text for item in _listed(value))
        case "starts-with":
            return text.lstrip().startswith(str(value))
        case "regex":
            return compile_pattern(str(value)).search(text) is not None
        case "is-json":
            return _is_json(text, value)
        case "max-tokens":
            return count_tokens(text) <= float(value)
        case "latency":
            return observed.seconds * 1000 <= float(value)
        case "cost":
            return observed.cost <= float(value)


def _listed(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    return [item.strip() for item in re.split(r",", str(value))]


def _is_json(text: str, schema: Any) -> bool:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return False
    if schema is None:
        return True
    return not find_faults(value, parse_schema(schema if isinstance(schema, str) else json.dumps(schema)), most=1)

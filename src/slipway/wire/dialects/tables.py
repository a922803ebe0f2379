"""All dialects as one: which attribute means what, the newest convention first."""

from collections.abc import Mapping
from typing import Any

from slipway.domain.trace import SpanKind
from slipway.wire.dialects import (
    genai,
    genai_events,
    langfuse,
    mlflow,
    openinference,
    pydantic_ai,
    traceloop,
    vercel,
)
from slipway.wire.dialects.base import Dialect, Names

DIALECTS: tuple[Dialect, ...] = tuple(
    module.DIALECT for module in (genai, genai_events, openinference, traceloop, langfuse, vercel, mlflow, pydantic_ai)
)


def _names(field: str) -> Names:
    return tuple(dict.fromkeys(name for dialect in DIALECTS for name in getattr(dialect, field)))


def _merged(field: str) -> dict[str, Any]:
    return {key: value for dialect in reversed(DIALECTS) for key, value in getattr(dialect, field).items()}


def _columns() -> dict[str, tuple[str, int]]:
    found: dict[str, tuple[str, int]] = {}
    for place, dialect in enumerate(DIALECTS):
        for column, names in dialect.columns.items():
            for rank, name in enumerate(names):
                found.setdefault(name, (column, place * 100 + rank))
    return found


COLUMN_OF: Mapping[str, tuple[str, int]] = _columns()
"""Attribute to the column that it fills, and its rank: of several, the lowest counts."""
KINDS: Mapping[str, Mapping[str, SpanKind]] = {
    name: {**kinds, **{value.lower(): kind for value, kind in kinds.items()}}
    for dialect in DIALECTS
    for name, kinds in dialect.kinds.items()
}
INPUT_MESSAGES, OUTPUT_MESSAGES, ALL_MESSAGES = (
    _names("input_messages"),
    _names("output_messages"),
    _names("all_messages"),
)
SYSTEM, OUTPUT_TEXTS, OUTPUT_TOOL_CALLS = _names("system"), _names("output_texts"), _names("output_tool_calls")
INPUT_PREFIXES, OUTPUT_PREFIXES = _names("input_prefixes"), _names("output_prefixes")
WHOLE_INPUT, WHOLE_OUTPUT = _names("whole_input"), _names("whole_output")
ALWAYS_JSON = frozenset(_names("always_json"))
TOOL, ARGUMENTS, RESULT, QUERY = _names("tool"), _names("arguments"), _names("result"), _names("query")
TOOLS, TOOL_PREFIXES = _names("tools"), _names("tool_prefixes")
DOCUMENTS, DOCUMENT_PREFIXES = _names("documents"), _names("document_prefixes")
AGENT, SCORE_PREFIXES = _names("agent"), _names("score_prefixes")
PARAMETERS: Mapping[str, str] = _merged("parameters")
PARAMETER_TEXTS, PARAMETER_PREFIXES = _names("parameter_texts"), _names("parameter_prefixes")
SECONDS_TO_FIRST_TOKEN: Mapping[str, float] = _merged("seconds_to_first_token")
MESSAGE_EVENTS: Mapping[str, str] = _merged("message_events")
OUTPUT_EVENTS, DETAIL_EVENTS = frozenset(_names("output_events")), frozenset(_names("detail_events"))
SCORE_EVENTS, NOISE_EVENTS = frozenset(_names("score_events")), frozenset(_names("noise_events"))
FIRST_TOKEN_EVENTS = frozenset(_names("first_token_events"))
FLAT_PREFIXES = (*INPUT_PREFIXES, *OUTPUT_PREFIXES, *TOOL_PREFIXES, *DOCUMENT_PREFIXES, *SCORE_PREFIXES)
REFINERS = tuple((dialect.refine_where, dialect.refine) for dialect in DIALECTS if dialect.refine is not None)

"""What a dialect is: a table of the attribute names that it has for each of our columns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slipway.domain.trace import SpanKind

Attributes = Mapping[str, Any]
Names = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened inside a span, or a log record that names it. A record's body is among `attributes`."""

    name: str
    time_ns: int
    attributes: Attributes


Refine = Callable[[Attributes, Sequence[Event], int, dict[str, Any]], None]
"""(attributes, events, start in ns, columns found) fills in what no table can say: numbers inside JSON texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One convention. Every field holds attribute names, the best first; `columns` is by field of `Span`."""

    name: str
    columns: Mapping[str, Names] = field(default_factory=dict)
    kinds: Mapping[str, Mapping[str, SpanKind]] = field(default_factory=dict)
    """Attribute that tells the kind, and what its values mean."""
    seconds_to_first_token: Mapping[str, float] = field(default_factory=dict)
    """Attribute, and nanoseconds of one of its units."""
    input_messages: Names = ()
    output_messages: Names = ()
    all_messages: Names = ()
    """The whole conversation; what the assistant said last is the output."""
    system: Names = ()
    input_prefixes: Names = ()
    """Beginnings of flat, numbered attributes such as `llm.input_messages.0.message.role`."""
    output_prefixes: Names = ()
    output_texts: Names = ()
    """Plain text that is never JSON."""
    output_tool_calls: Names = ()
    whole_input: Names = ()
    """The input as one value: a repetition where there are messages."""
    whole_output: Names = ()
    always_json: Names = ()
    """Attributes whose plain text, too, is written as JSON."""
    tool: Names = ()
    arguments: Names = ()
    result: Names = ()
    tools: Names = ()
    tool_prefixes: Names = ()
    documents: Names = ()
    document_prefixes: Names = ()
    query: Names = ()
    agent: Names = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Attribute, and the name of the parameter."""
    parameter_texts: Names = ()
    """JSON objects of parameters."""
    parameter_prefixes: Names = ()
    score_prefixes: Names = ()
    message_events: Mapping[str, str] = field(default_factory=dict)
    """Name of the event, and the role of who spoke."""
    output_events: Names = ()
    detail_events: Names = ()
    """Events that repeat the attributes of their span."""
    score_events: Names = ()
    first_token_events: Names = ()
    noise_events: Names = ()
    """Events that say nothing, one a token."""
    refine: Refine | None = None
    refine_where: Names = ()
    """Attributes that call for `refine`."""

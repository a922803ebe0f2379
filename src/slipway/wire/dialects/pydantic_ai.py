"""pydantic-ai and Logfire: GenAI names, the conversation of an agent in one attribute, names without a prefix."""

from collections.abc import Sequence
from typing import Any

from slipway.wire.dialects.base import Attributes, Dialect, Event
from slipway.wire.dialects.values import as_count, as_mapping, readable


def refine(attributes: Attributes, events: Sequence[Event], start_ns: int, found: dict[str, Any]) -> None:
    """Logfire passes on the usage as the provider told it."""
    usage = as_mapping(readable(attributes.get("gen_ai.usage.raw")))
    details = as_mapping(usage.get("completion_tokens_details"))
    found["reasoning_tokens"] = found["reasoning_tokens"] or as_count(details.get("reasoning_tokens"))


DIALECT = Dialect(
    name="pydantic-ai",
    columns={
        "name": ("logfire.msg",),
        "model": ("model_name", "model"),
        "response_model": ("llm.response.model",),
        "cached_tokens": ("gen_ai.usage.details.cache_read_tokens", "gen_ai.usage.details.cached_tokens"),
        "reasoning_tokens": ("gen_ai.usage.details.reasoning_tokens",),
        "cost_micros": ("operation.cost",),
    },
    all_messages=("pydantic_ai.all_messages", "all_messages_events", "events"),
    whole_output=("final_result", "response"),
    arguments=("tool_arguments",),
    result=("tool_response",),
    agent=("agent_name",),
    refine=refine,
    refine_where=("gen_ai.usage.raw",),
)

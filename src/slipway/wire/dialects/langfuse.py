"""Langfuse's SDK: its own names beside GenAI ones, numbers packed into JSON texts."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from slipway.wire.dialects.base import Attributes, Dialect, Event
from slipway.wire.dialects.values import as_count, as_finish, as_mapping, as_micros, readable

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DETAILS = {
    "cached_tokens": ("prompt_tokens_details", "cached_tokens"),
    "reasoning_tokens": ("completion_tokens_details", "reasoning_tokens"),
}
"""Usage as the chat API has it, passed on as it came."""
USAGE = {
    "input_tokens": ("input", "prompt_tokens", "input_tokens"),
    "output_tokens": ("output", "completion_tokens", "output_tokens"),
    "cached_tokens": ("input_cached_tokens", "input_cache_read", "cache_read_input_tokens"),
    "reasoning_tokens": ("output_reasoning_tokens", "output_reasoning"),
}


def refine(attributes: Attributes, events: Sequence[Event], start_ns: int, found: dict[str, Any]) -> None:
    """Tokens, cost and the first token out of JSON texts."""
    usage = as_mapping(readable(attributes.get("langfuse.observation.usage_details")))
    for field, names in USAGE.items():
        if not found[field]:
            found[field] = next((as_count(usage[name]) for name in names if name in usage), 0)
    for field, (name, inner) in DETAILS.items():
        found[field] = found[field] or as_count(as_mapping(usage.get(name)).get(inner))
    found["finish"] = found["finish"] or as_finish(attributes.get("langfuse.observation.metadata.finish_reason"))
    cost = as_mapping(readable(attributes.get("langfuse.observation.cost_details")))
    if not found["cost_micros"] and "total" in cost:
        found["cost_micros"] = as_micros(cost["total"])
    begun = attributes.get("langfuse.observation.completion_start_time")
    if found["first_token_ns"] is None and isinstance(begun, str):
        try:
            moment = datetime.fromisoformat(begun.strip('"'))
        except ValueError:
            return
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        # In whole microseconds: a float of nanoseconds since 1970 is not exact.
        found["first_token_ns"] = max(0, (moment - EPOCH) // timedelta(microseconds=1) * 1000 - start_ns)


DIALECT = Dialect(
    name="Langfuse",
    columns={
        "model": ("langfuse.observation.model.name",),
        "session": ("langfuse.session.id",),
        "subject": ("langfuse.user.id",),
        "release": ("langfuse.release",),
        "environment": ("langfuse.environment",),
        "prompt": ("langfuse.prompt.name", "langfuse.observation.prompt.name"),
        "prompt_version": ("langfuse.prompt.version", "langfuse.observation.prompt.version"),
    },
    kinds={
        "langfuse.observation.type": {
            "generation": "chat",
            "embedding": "embeddings",
            "retriever": "retrieval",
            "agent": "agent",
            "tool": "tool",
            "chain": "chain",
            "evaluator": "evaluator",
            "guardrail": "guard",
        }
    },
    whole_input=("langfuse.observation.input",),
    whole_output=("langfuse.observation.output",),
    parameter_texts=("langfuse.observation.model.parameters",),
    refine=refine,
    refine_where=(
        "langfuse.observation.usage_details",
        "langfuse.observation.cost_details",
        "langfuse.observation.completion_start_time",
    ),
)

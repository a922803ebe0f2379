"""pydantic-ai and Logfire: GenAI names, the conversation of an agent in one attribute, names without a prefix."""

from slipway.wire.dialects.base import Dialect

DIALECT = Dialect(
    name="pydantic-ai",
    columns={
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
)

"""OpenTelemetry's GenAI conventions up to 1.36: messages as events of the span, or as log records that name it."""

from slipway.wire.dialects.base import Dialect

DIALECT = Dialect(
    name="gen_ai up to 1.36",
    columns={
        "provider": ("gen_ai.system",),
        "input_tokens": ("gen_ai.usage.prompt_tokens",),
        "output_tokens": ("gen_ai.usage.completion_tokens",),
        "cached_tokens": ("gen_ai.usage.cache_read_input_tokens",),
        "reasoning_tokens": ("gen_ai.usage.reasoning_tokens",),
        "cost_micros": ("gen_ai.usage.cost",),
    },
    seconds_to_first_token={"gen_ai.server.time_to_first_token": 1e9},
    message_events={
        "gen_ai.system.message": "system",
        "gen_ai.user.message": "user",
        "gen_ai.assistant.message": "assistant",
        "gen_ai.tool.message": "tool",
        "gen_ai.content.prompt": "user",
    },
    output_events=("gen_ai.choice", "gen_ai.content.completion"),
)

"""The AI SDK of Vercel (`experimental_telemetry`): names that begin with `ai.`."""

from collections.abc import Sequence
from typing import Any

from slipway.wire.dialects.base import Attributes, Dialect, Event


def refine(attributes: Attributes, events: Sequence[Event], start_ns: int, found: dict[str, Any]) -> None:
    """`openai.chat` names the provider and which of its APIs."""
    found["provider"] = found["provider"].partition(".")[0]


DIALECT = Dialect(
    name="Vercel AI SDK",
    columns={
        "provider": ("ai.model.provider",),
        "model": ("ai.model.id",),
        "response_model": ("ai.response.model",),
        "input_tokens": ("ai.usage.promptTokens", "ai.usage.inputTokens", "ai.usage.tokens"),
        "output_tokens": ("ai.usage.completionTokens", "ai.usage.outputTokens"),
        "cached_tokens": ("ai.usage.cachedInputTokens", "ai.usage.inputTokenDetails.cacheReadTokens"),
        "reasoning_tokens": ("ai.usage.reasoningTokens", "ai.usage.outputTokenDetails.reasoningTokens"),
        "finish": ("ai.response.finishReason",),
        "session": ("ai.telemetry.metadata.sessionId",),
        "subject": ("ai.telemetry.metadata.userId",),
    },
    kinds={
        "ai.operationId": {
            "ai.generateText": "chain",
            "ai.streamText": "chain",
            "ai.generateObject": "chain",
            "ai.streamObject": "chain",
            "ai.generateText.doGenerate": "chat",
            "ai.streamText.doStream": "chat",
            "ai.generateObject.doGenerate": "chat",
            "ai.streamObject.doStream": "chat",
            "ai.embed": "chain",
            "ai.embedMany": "chain",
            "ai.embed.doEmbed": "embeddings",
            "ai.embedMany.doEmbed": "embeddings",
            "ai.toolCall": "tool",
        }
    },
    seconds_to_first_token={"ai.response.msToFirstChunk": 1e6},
    input_messages=("ai.prompt.messages",),
    output_texts=("ai.response.text", "ai.response.object"),
    output_tool_calls=("ai.response.toolCalls",),
    whole_input=("ai.prompt", "ai.value", "ai.values"),
    tool=("ai.toolCall.name",),
    arguments=("ai.toolCall.args", "ai.toolCall.input"),
    result=("ai.toolCall.result", "ai.toolCall.output"),
    tools=("ai.prompt.tools",),
    agent=("ai.telemetry.functionId",),
    parameter_prefixes=("ai.settings.",),
    noise_events=("ai.stream.firstChunk", "ai.stream.finish"),
    refine=refine,
    refine_where=("ai.model.provider",),
)

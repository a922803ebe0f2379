"""OpenTelemetry's GenAI conventions 1.37 and newer (read: 1.41): messages as JSON in attributes or one log event."""

from collections.abc import Sequence
from typing import Any

from slipway.wire.dialects.base import Attributes, Dialect, Event
from slipway.wire.dialects.values import as_finish, as_mapping, readable


def refine(attributes: Attributes, events: Sequence[Event], start_ns: int, found: dict[str, Any]) -> None:
    """Streams may tell only in the message itself why it ended."""
    if not found["finish"] and isinstance(said := readable(attributes.get("gen_ai.output.messages")), list):
        found["finish"] = next((as_finish(as_mapping(one).get("finish_reason")) for one in said), "")


DIALECT = Dialect(
    name="gen_ai",
    columns={
        "provider": ("gen_ai.provider.name",),
        "model": ("gen_ai.request.model",),
        "response_model": ("gen_ai.response.model",),
        "input_tokens": ("gen_ai.usage.input_tokens",),
        "output_tokens": ("gen_ai.usage.output_tokens",),
        "cached_tokens": ("gen_ai.usage.cache_read.input_tokens",),
        "reasoning_tokens": ("gen_ai.usage.reasoning.output_tokens",),
        "finish": ("gen_ai.response.finish_reasons",),
        "session": ("gen_ai.conversation.id", "session.id"),
        "subject": ("slipway.subject", "user.id", "enduser.id"),
        "release": ("slipway.release.id",),
        "channel": ("slipway.channel",),
        "environment": ("deployment.environment.name", "deployment.environment"),
        "prompt": ("gen_ai.prompt.name",),
        "index": ("slipway.index", "gen_ai.data_source.id"),
    },
    kinds={
        "gen_ai.operation.name": {
            "chat": "chat",
            "text_completion": "chat",
            "generate_content": "chat",
            "embeddings": "embeddings",
            "retrieval": "retrieval",
            "execute_tool": "tool",
            "invoke_agent": "agent",
            "create_agent": "agent",
            "invoke_workflow": "chain",
        }
    },
    seconds_to_first_token={"gen_ai.response.time_to_first_chunk": 1e9},
    input_messages=("gen_ai.input.messages",),
    output_messages=("gen_ai.output.messages",),
    system=("gen_ai.system_instructions",),
    tool=("gen_ai.tool.name",),
    arguments=("gen_ai.tool.call.arguments",),
    result=("gen_ai.tool.call.result",),
    tools=("gen_ai.tool.definitions",),
    documents=("gen_ai.retrieval.documents",),
    query=("gen_ai.retrieval.query.text",),
    agent=("gen_ai.agent.name",),
    parameters={
        f"gen_ai.request.{name}": name.replace("choice.count", "n")
        for name in (
            "temperature",
            "top_p",
            "top_k",
            "max_tokens",
            "seed",
            "frequency_penalty",
            "presence_penalty",
            "stop_sequences",
            "choice.count",
            "stream",
        )
    },
    detail_events=("gen_ai.client.inference.operation.details",),
    score_events=("gen_ai.evaluation.result",),
    refine=refine,
    refine_where=("gen_ai.output.messages",),
)

"""OpenInference, the convention of Arize's instrumentations: flat, numbered messages, and the whole JSON once more."""

from collections.abc import Sequence
from typing import Any

from slipway.wire.dialects.base import Attributes, Dialect, Event
from slipway.wire.dialects.values import as_mapping, as_text, readable


def refine(attributes: Attributes, events: Sequence[Event], start_ns: int, found: dict[str, Any]) -> None:
    """`llm.model_name` is the model that answered, where the parameters name the one that was asked."""
    asked = as_text(as_mapping(readable(attributes.get("llm.invocation_parameters"))).get("model"))
    if asked and "llm.request.model_name" not in attributes and "gen_ai.request.model" not in attributes:
        found["response_model"] = found["response_model"] or as_text(attributes.get("llm.model_name"))
        found["model"] = asked


DIALECT = Dialect(
    name="OpenInference",
    columns={
        "provider": ("llm.provider", "llm.system"),
        "model": ("llm.request.model_name", "llm.model_name", "embedding.model_name", "reranker.model_name"),
        "response_model": ("llm.response.model_name",),
        "input_tokens": ("llm.token_count.prompt",),
        "output_tokens": ("llm.token_count.completion",),
        "cached_tokens": ("llm.token_count.prompt_details.cache_read",),
        "reasoning_tokens": ("llm.token_count.completion_details.reasoning",),
        "cost_micros": ("llm.cost.total",),
        "finish": ("llm.finish_reason",),
        "prompt": ("prompt.id",),
        "prompt_version": ("llm.prompt_template.version",),
    },
    kinds={
        "openinference.span.kind": {
            "LLM": "chat",
            "EMBEDDING": "embeddings",
            "CHAIN": "chain",
            "RETRIEVER": "retrieval",
            "RERANKER": "rerank",
            "TOOL": "tool",
            "AGENT": "agent",
            "GUARDRAIL": "guard",
            "EVALUATOR": "evaluator",
            "PROMPT": "other",
        }
    },
    input_prefixes=("llm.input_messages.",),
    output_prefixes=("llm.output_messages.",),
    whole_input=("input.value",),
    whole_output=("output.value",),
    tool=("tool.name",),
    arguments=("tool.parameters",),
    tool_prefixes=("llm.tools.",),
    document_prefixes=("retrieval.documents.", "reranker.output_documents."),
    query=("reranker.query",),
    agent=("agent.name",),
    parameter_texts=("llm.invocation_parameters",),
    score_prefixes=("annotations.", "trace.annotations.", "session.annotations.", "evaluations."),
    first_token_events=("First Token Stream Event",),
    refine=refine,
    refine_where=("llm.invocation_parameters",),
)

"""MLflow's tracing: inputs and outputs as JSON of whatever library was called."""

from collections.abc import Sequence
from typing import Any

from slipway.wire.dialects.base import Attributes, Dialect, Event
from slipway.wire.dialects.values import as_count, as_finish, as_mapping, as_text, readable


def refine(attributes: Attributes, events: Sequence[Event], start_ns: int, found: dict[str, Any]) -> None:
    """Tokens are one JSON text; models and the end stand in what was asked and answered."""
    usage = as_mapping(readable(attributes.get("mlflow.chat.tokenUsage")))
    for field, name in (
        ("input_tokens", "input_tokens"),
        ("output_tokens", "output_tokens"),
        ("cached_tokens", "cache_read_input_tokens"),
    ):
        found[field] = found[field] or as_count(usage.get(name))
    asked = as_mapping(readable(attributes.get("mlflow.spanInputs")))
    answered = as_mapping(readable(attributes.get("mlflow.spanOutputs")))
    found["model"] = found["model"] or as_text(asked.get("model"))
    found["response_model"] = found["response_model"] or as_text(answered.get("model"))
    details = as_mapping(answered.get("usage"))
    for field, outer, inner in (
        ("cached_tokens", "prompt_tokens_details", "cached_tokens"),
        ("reasoning_tokens", "completion_tokens_details", "reasoning_tokens"),
    ):
        found[field] = found[field] or as_count(as_mapping(details.get(outer)).get(inner))
    match answered.get("choices"):
        case [{"finish_reason": reason}, *_]:
            found["finish"] = found["finish"] or as_finish(reason)


DIALECT = Dialect(
    name="MLflow",
    columns={
        "provider": ("mlflow.llm.provider",),
        "model": ("mlflow.llm.model",),
        "session": ("mlflow.trace.session",),
        "subject": ("mlflow.trace.user",),
    },
    kinds={
        "mlflow.spanType": {
            "LLM": "chat",
            "CHAT_MODEL": "chat",
            "EMBEDDING": "embeddings",
            "RETRIEVER": "retrieval",
            "RERANKER": "rerank",
            "TOOL": "tool",
            "AGENT": "agent",
            "CHAIN": "chain",
            "WORKFLOW": "chain",
            "GUARDRAIL": "guard",
            "EVALUATOR": "evaluator",
        }
    },
    whole_input=("mlflow.spanInputs",),
    whole_output=("mlflow.spanOutputs",),
    always_json=("mlflow.spanInputs", "mlflow.spanOutputs"),
    tools=("mlflow.chat.tools",),
    refine=refine,
    refine_where=("mlflow.chat.tokenUsage",),
)

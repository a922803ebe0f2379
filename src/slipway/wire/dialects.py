"""What the attributes of a span mean: one table per column over every convention in use, newest first.

Read from the OpenTelemetry GenAI conventions 1.41 and 1.36, OpenInference, Traceloop/OpenLLMetry, Langfuse, MLflow and
the Vercel AI SDK. An attribute that became part of the messages is not kept a second time among the raw ones.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from slipway.domain.trace import SpanKind

Attributes = Mapping[str, Any]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened inside a span."""

    name: str
    time_ns: int
    attributes: Attributes


PROVIDER = ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system", "ai.model.provider")
MODEL = (
    "gen_ai.request.model",
    "llm.request.model_name",
    "llm.model_name",
    "embedding.model_name",
    "reranker.model_name",
    "ai.model.id",
    "langfuse.observation.model.name",
    "model",
)
RESPONSE_MODEL = ("gen_ai.response.model", "llm.response.model_name", "llm.response.model", "ai.response.model")
INPUT_TOKENS = (
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.prompt_tokens",
    "llm.token_count.prompt",
    "llm.usage.prompt_tokens",
    "ai.usage.promptTokens",
    "ai.usage.inputTokens",
    "ai.usage.tokens",
)
OUTPUT_TOKENS = (
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
    "llm.token_count.completion",
    "llm.usage.completion_tokens",
    "ai.usage.completionTokens",
    "ai.usage.outputTokens",
)
CACHED_TOKENS = (
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_read_input_tokens",
    "llm.token_count.prompt_details.cache_read",
    "ai.usage.cachedInputTokens",
)
REASONING_TOKENS = (
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.reasoning_tokens",
    "llm.token_count.completion_details.reasoning",
    "ai.usage.reasoningTokens",
)
COST = ("llm.cost.total", "gen_ai.usage.cost")
FINISH = ("gen_ai.response.finish_reasons", "llm.finish_reason", "ai.response.finishReason")
SESSION = (
    "gen_ai.conversation.id",
    "session.id",
    "langfuse.session.id",
    "traceloop.association.properties.session_id",
    "mlflow.trace.session",
)
SUBJECT = (
    "slipway.subject",
    "user.id",
    "enduser.id",
    "langfuse.user.id",
    "traceloop.association.properties.user_id",
    "mlflow.trace.user",
    "ai.telemetry.metadata.userId",
)
RELEASE = ("slipway.release.id", "langfuse.release")
CHANNEL = ("slipway.channel",)
ENVIRONMENT = ("deployment.environment.name", "deployment.environment", "langfuse.environment")
PROMPT = ("gen_ai.prompt.name", "langfuse.prompt.name", "langfuse.observation.prompt.name", "prompt.id")
PROMPT_VERSION = ("langfuse.prompt.version", "langfuse.observation.prompt.version", "llm.prompt_template.version")
INDEX = ("slipway.index", "gen_ai.data_source.id")
QUERY = ("gen_ai.retrieval.query.text",)

OPERATIONS: dict[str, SpanKind] = {
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
KINDS: dict[str, Mapping[str, SpanKind]] = {
    "gen_ai.operation.name": OPERATIONS,
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
    },
    "traceloop.span.kind": {"workflow": "chain", "task": "chain", "agent": "agent", "tool": "tool"},
    "llm.request.type": {"chat": "chat", "completion": "chat", "embedding": "embeddings", "rerank": "rerank"},
    "langfuse.observation.type": {
        "generation": "chat",
        "embedding": "embeddings",
        "retriever": "retrieval",
        "agent": "agent",
        "tool": "tool",
        "chain": "chain",
        "evaluator": "evaluator",
        "guardrail": "guard",
    },
    "mlflow.spanType": {
        "LLM": "chat",
        "CHAT_MODEL": "chat",
        "EMBEDDING": "embeddings",
        "RETRIEVER": "retrieval",
        "RERANKER": "rerank",
        "TOOL": "tool",
        "AGENT": "agent",
        "CHAIN": "chain",
    },
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
    },
}
# Attributes whose whole meaning goes into messages, documents or tools, and that are then not kept as raw ones.
INPUT_MESSAGES = ("gen_ai.input.messages", "ai.prompt.messages")
OUTPUT_MESSAGES = ("gen_ai.output.messages",)
SYSTEM_TEXT = ("gen_ai.system_instructions",)
INPUT_PREFIXES = ("llm.input_messages.", "gen_ai.prompt.")
OUTPUT_PREFIXES = ("llm.output_messages.", "gen_ai.completion.")
WHOLE_INPUT = ("input.value", "traceloop.entity.input", "mlflow.spanInputs", "langfuse.observation.input", "ai.prompt")
WHOLE_OUTPUT = (
    "output.value",
    "ai.response.text",
    "traceloop.entity.output",
    "mlflow.spanOutputs",
    "langfuse.observation.output",
)
TOOL_NAME = ("gen_ai.tool.name", "tool.name", "ai.toolCall.name")
TOOL_ARGUMENTS = ("gen_ai.tool.call.arguments", "tool.parameters", "ai.toolCall.args")
TOOL_RESULT = ("gen_ai.tool.call.result", "ai.toolCall.result")
MESSAGE_EVENTS = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
OUTPUT_EVENTS = ("gen_ai.choice",)
NOT_A_NAME = ("gen_ai.prompt.name",)


def columns(attributes: Attributes, events: Sequence[Event], resource: Attributes, *, start_ns: int) -> dict[str, Any]:
    """The typed fields of `Span` that the attributes tell; what they do not tell is left out."""
    whole = {**resource, **attributes}
    provider = _text(_first(attributes, PROVIDER))
    model = _text(_first(attributes, MODEL))
    name, version = _text(_first(attributes, PROMPT)), _text(_first(attributes, PROMPT_VERSION))
    found: dict[str, Any] = {
        "kind": _kind(attributes, called=bool(provider and model)),
        "provider": provider,
        "model": model,
        "response_model": _text(_first(attributes, RESPONSE_MODEL)),
        "input_tokens": _count(_first(attributes, INPUT_TOKENS)),
        "output_tokens": _count(_first(attributes, OUTPUT_TOKENS)),
        "cached_tokens": _count(_first(attributes, CACHED_TOKENS)),
        "reasoning_tokens": _count(_first(attributes, REASONING_TOKENS)),
        "cost_micros": _micros(_first(attributes, COST)),
        "finish": _finish(_first(attributes, FINISH)),
        "session": _text(_first(attributes, SESSION)),
        "subject": _text(_first(attributes, SUBJECT)),
        "release": _text(_first(attributes, RELEASE)),
        "channel": _text(_first(attributes, CHANNEL)),
        "environment": _text(_first(whole, ENVIRONMENT)),
        "prompt": f"{name}@{version}" if name and version else name,
        "index": _text(_first(attributes, INDEX)),
        "first_token_ns": _first_token(attributes, events, start_ns),
    }
    _langfuse_details(attributes, found)
    return {key: value for key, value in found.items() if value}


def content(attributes: Attributes, events: Sequence[Event]) -> dict[str, Any]:
    """What was said: `messages` in, `output` out, `passages`, tools, `query`; the rest as `attributes` and `events`."""
    found: dict[str, Any] = {}
    used: set[str] = set()
    messages = _said(attributes, INPUT_MESSAGES, INPUT_PREFIXES, used)
    if system := _parsed_messages(_first(attributes, SYSTEM_TEXT, used), role="system"):
        messages = [*system, *messages]
    output = _said(attributes, OUTPUT_MESSAGES, OUTPUT_PREFIXES, used, role="assistant")
    kept_events = []
    for event in events:
        role = MESSAGE_EVENTS.get(event.name)
        if role is not None:
            messages.append(_message({"role": role, **_unwrapped(event.attributes)}))
        elif event.name in OUTPUT_EVENTS:
            body = _unwrapped(event.attributes)
            output.append(_message({"role": "assistant", **_mapping(body.get("message", body))}))
        else:
            kept_events.append({"name": event.name, "time_ns": event.time_ns, "attributes": dict(event.attributes)})
    if messages:
        found["messages"] = messages
        # OpenInference sends the same messages a second time as one JSON text.
        used.update(name for name in ("input.value", "ai.prompt") if name in attributes)
    elif (whole := _first(attributes, WHOLE_INPUT, used)) is not None:
        found["input"] = _readable(whole)
    if output:
        found["output"] = output
        used.update(name for name in ("output.value",) if name in attributes)
    elif (whole := _first(attributes, WHOLE_OUTPUT, used)) is not None:
        found["output"] = _readable(whole)
    if passages := _passages(attributes, used):
        found["passages"] = passages
    for key, names in (
        ("query", QUERY),
        ("tool", TOOL_NAME),
        ("arguments", TOOL_ARGUMENTS),
        ("result", TOOL_RESULT),
    ):
        if (value := _first(attributes, names, used)) is not None:
            found[key] = _readable(value)
    if rest := {key: value for key, value in attributes.items() if key not in used}:
        found["attributes"] = rest
    if kept_events:
        found["events"] = kept_events
    return found


def error_text(attributes: Attributes, events: Sequence[Event], message: str) -> str:
    """Why a span failed, from its status, its exception event or its error type."""
    for event in events:
        if event.name == "exception":
            kind = _text(event.attributes.get("exception.type"))
            said = _text(event.attributes.get("exception.message"))
            return message or ": ".join(part for part in (kind, said) if part)
    return message or _text(attributes.get("error.type"))


def _kind(attributes: Attributes, *, called: bool) -> SpanKind:
    for name, kinds in KINDS.items():
        value = attributes.get(name)
        if value is not None and (kind := kinds.get(str(value)) or kinds.get(str(value).upper())):
            return kind
    return "chat" if called else "other"


def _said(
    attributes: Attributes,
    names: Sequence[str],
    prefixes: Sequence[str],
    used: set[str],
    *,
    role: str = "user",
) -> list[dict[str, Any]]:
    """Messages in whichever way they are written: one JSON value, or flat numbered attributes."""
    if messages := _parsed_messages(_first(attributes, names, used), role=role):
        return messages
    for prefix in prefixes:
        if entries := list(_numbered(attributes, prefix, used)):
            return [_message(_mapping(entry.get("message", entry)), role=role) for entry in entries]
    return []


def _parsed_messages(value: Any, *, role: str) -> list[dict[str, Any]]:
    value = _readable(value)
    match value:
        case None | "":
            return []
        case str():
            return [{"role": role, "text": value}]
        case [*entries]:
            if all(isinstance(entry, Mapping) and "role" not in entry for entry in entries):
                # System instructions are a bare list of parts.
                return [_message({"role": role, "parts": entries})]
            return [_message(_mapping(entry), role=role) for entry in entries]
        case {}:
            return [_message(_mapping(value), role=role)]
        case _:
            return [{"role": role, "text": str(value)}]


def _message(entry: Mapping[str, Any], *, role: str = "user") -> dict[str, Any]:
    """One message as role and plain text; tool calls and parts that are no text are kept beside it."""
    made: dict[str, Any] = {"role": str(entry.get("role") or role)}
    texts: list[str] = []
    others: list[Any] = []
    body = entry.get("parts", entry.get("contents", entry.get("content")))
    for part in _readable(body) if isinstance(_readable(body), list) else [body]:
        part = _mapping(part["message_content"]) if isinstance(part, Mapping) and "message_content" in part else part
        match part:
            case None:
                continue
            case str():
                texts.append(part)
            case {"text": str(text)} | {"type": "text", "content": str(text)} | {"content": str(text), "type": "text"}:
                texts.append(text)
            case _:
                others.append(part)
    made["text"] = "\n".join(texts)
    if others:
        made["parts"] = others
    for key in ("tool_calls", "tool_call_id", "name"):
        if entry.get(key):
            made[key] = entry[key]
    return made


def _passages(attributes: Attributes, used: set[str]) -> list[dict[str, Any]]:
    documents = _readable(_first(attributes, ("gen_ai.retrieval.documents",), used))
    entries: Iterable[Any]
    if isinstance(documents, list):
        entries = documents
    else:
        entries = _numbered(attributes, "retrieval.documents.", used)
    passages = []
    for entry in entries:
        told = _mapping(_mapping(entry).get("document", entry))
        passage: dict[str, Any] = {
            "document": _text(told.get("id")),
            "text": _text(told.get("content", told.get("text"))),
            "score": told.get("score"),
            "metadata": _readable(told.get("metadata")),
        }
        passages.append({key: value for key, value in passage.items() if value not in (None, "")})
    return passages


def _numbered(attributes: Attributes, prefix: str, used: set[str]) -> Iterator[dict[str, Any]]:
    """`prefix.0.message.role` and so on as one mapping a number, in order."""
    entries: dict[int, dict[str, Any]] = {}
    for key, value in attributes.items():
        if not key.startswith(prefix) or key in NOT_A_NAME:
            continue
        number, _, path = key[len(prefix) :].partition(".")
        if not (number.isascii() and number.isdecimal()) or len(number) > 6 or not path:
            continue
        used.add(key)
        _put(entries.setdefault(int(number), {}), path.split("."), value)
    for place in sorted(entries):
        yield {key: _lists(value) for key, value in entries[place].items()}


def _put(into: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for step in path[:-1][:12]:
        inner = into.get(step)
        if not isinstance(inner, dict):
            inner = into[step] = {}
        into = inner
    into[path[-1]] = value


def _lists(value: Any) -> Any:
    """Mappings whose keys are all numbers become lists."""
    if not isinstance(value, dict):
        return value
    inner = {key: _lists(one) for key, one in value.items()}
    if inner and all(key.isascii() and key.isdecimal() for key in inner):
        return [inner[key] for key in sorted(inner, key=int)]
    return inner


def _unwrapped(attributes: Attributes) -> dict[str, Any]:
    """Attributes of a message event; the content may be JSON in a text."""
    return {key: _readable(value) for key, value in attributes.items()}


def _first(attributes: Attributes, names: Sequence[str], used: set[str] | None = None) -> Any:
    for name in names:
        value = attributes.get(name)
        if value is not None and value != "":
            if used is not None:
                used.add(name)
            return value
    return None


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else str(value)


def _count(value: Any) -> int:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return 0
    return int(number) if math.isfinite(number) and number > 0 else 0


def _micros(value: Any) -> int:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return 0
    return round(number * 1_000_000) if math.isfinite(number) and number > 0 else 0


def _finish(value: Any) -> str:
    value = _readable(value)
    if isinstance(value, list | tuple):
        value = value[0] if value else ""
    reason = _text(value)
    # Traceloop writes the singular.
    return {"tool_call": "tool_calls", "function_call": "tool_calls"}.get(reason, reason)


def _first_token(attributes: Attributes, events: Sequence[Event], start_ns: int) -> int | None:
    for name, factor in (
        ("gen_ai.response.time_to_first_chunk", 1e9),
        ("gen_ai.server.time_to_first_token", 1e9),
        ("ai.response.msToFirstChunk", 1e6),
    ):
        try:
            return max(0, round(float(attributes[name]) * factor))
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
    for event in events:
        if event.name == "First Token Stream Event":
            return max(0, event.time_ns - start_ns)
    begun = attributes.get("langfuse.observation.completion_start_time")
    if isinstance(begun, str):
        try:
            moment = datetime.fromisoformat(begun.strip('"'))
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        # In whole microseconds: a float of nanoseconds since 1970 is not exact.
        return max(0, (moment - EPOCH) // timedelta(microseconds=1) * 1000 - start_ns)
    return None


def _langfuse_details(attributes: Attributes, found: dict[str, Any]) -> None:
    """Langfuse packs tokens and cost into JSON texts."""
    usage = _mapping(_readable(attributes.get("langfuse.observation.usage_details")))
    for field, name in (
        ("input_tokens", "input"),
        ("output_tokens", "output"),
        ("cached_tokens", "input_cached_tokens"),
    ):
        if not found[field] and name in usage:
            found[field] = _count(usage[name])
    cost = _mapping(_readable(attributes.get("langfuse.observation.cost_details")))
    if not found["cost_micros"] and "total" in cost:
        found["cost_micros"] = _micros(cost["total"])


def _readable(value: Any) -> Any:
    """JSON in a text becomes what it says; any other text stays."""
    if isinstance(value, str) and value[:1] in "[{" and value:
        try:
            return msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            return value
    return value


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {} if value is None else {"content": value}

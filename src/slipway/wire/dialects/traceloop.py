"""OpenLLMetry, the instrumentations of Traceloop: GenAI names, earlier ones flat and numbered, and some of its own."""

from slipway.wire.dialects.base import Dialect

DIALECT = Dialect(
    name="Traceloop",
    columns={
        "input_tokens": ("llm.usage.prompt_tokens",),
        "output_tokens": ("llm.usage.completion_tokens",),
        "session": ("traceloop.association.properties.session_id",),
        "subject": ("traceloop.association.properties.user_id",),
        "prompt": ("traceloop.prompt.key",),
        "prompt_version": ("traceloop.prompt.version",),
    },
    kinds={
        "traceloop.span.kind": {"workflow": "chain", "task": "chain", "agent": "agent", "tool": "tool"},
        "llm.request.type": {"chat": "chat", "completion": "chat", "embedding": "embeddings", "rerank": "rerank"},
    },
    input_prefixes=("gen_ai.prompt.",),
    output_prefixes=("gen_ai.completion.",),
    whole_input=("traceloop.entity.input",),
    whole_output=("traceloop.entity.output",),
    tool_prefixes=("llm.request.functions.",),
    first_token_events=("gen_ai.content.completion.chunk", "llm.content.completion.chunk"),
    noise_events=("gen_ai.content.completion.chunk", "llm.content.completion.chunk"),
)

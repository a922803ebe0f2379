"""The OpenTelemetry SDK alone: a person writes the GenAI attributes by hand."""

import json

import openai
from client_setup import MESSAGES, MODEL, MODEL_API, trace_provider

provider = trace_provider()
tracer = provider.get_tracer("by.hand")
client = openai.OpenAI(base_url=MODEL_API, api_key="none", max_retries=0)
with (
    tracer.start_as_current_span("question", attributes={"session.id": "s1", "user.id": "anna"}),
    tracer.start_as_current_span("chat") as span,
):
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES)
    span.set_attributes(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": MODEL,
            "gen_ai.response.model": answer.model,
            "gen_ai.usage.input_tokens": answer.usage.prompt_tokens,
            "gen_ai.usage.output_tokens": answer.usage.completion_tokens,
            "gen_ai.response.finish_reasons": [answer.choices[0].finish_reason],
            "gen_ai.input.messages": json.dumps(MESSAGES),
            "gen_ai.output.messages": json.dumps(
                [{"role": "assistant", "parts": [{"type": "text", "content": answer.choices[0].message.content}]}]
            ),
        }
    )
client.close()
provider.shutdown()

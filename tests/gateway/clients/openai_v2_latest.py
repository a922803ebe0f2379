"""opentelemetry-instrumentation-openai-v2 with the newest conventions: content stands in attributes of the span."""

import os

os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "gen_ai_latest_experimental"
os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "SPAN_AND_EVENT"

from client_setup import ask, log_provider, trace_provider
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor

traces, logs = trace_provider(), log_provider()
OpenAIInstrumentor().instrument(tracer_provider=traces, logger_provider=logs)
ask()
logs.shutdown()
traces.shutdown()

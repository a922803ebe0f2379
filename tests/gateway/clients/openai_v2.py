"""opentelemetry-instrumentation-openai-v2 as it is by default: content goes to /v1/logs, once it is asked for."""

import os

os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "true"

from client_setup import ask, log_provider, trace_provider
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor

traces, logs = trace_provider(), log_provider()
OpenAIInstrumentor().instrument(tracer_provider=traces, logger_provider=logs)
ask()
traces.shutdown()
logs.shutdown()

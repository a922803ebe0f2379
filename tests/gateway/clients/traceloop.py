"""opentelemetry-instrumentation-openai, the instrumentation of OpenLLMetry (Traceloop)."""

from client_setup import ask, trace_provider
from opentelemetry.instrumentation.openai import OpenAIInstrumentor

provider = trace_provider()
OpenAIInstrumentor().instrument(tracer_provider=provider)
ask()
provider.shutdown()

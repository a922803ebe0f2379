"""openinference-instrumentation-openai, as its own README sets it up."""

from client_setup import ask, trace_provider
from openinference.instrumentation.openai import OpenAIInstrumentor

provider = trace_provider()
OpenAIInstrumentor().instrument(tracer_provider=provider)
ask()
provider.shutdown()

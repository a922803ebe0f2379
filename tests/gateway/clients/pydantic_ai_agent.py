"""pydantic-ai with its own instrumentation: an agent with one tool."""

from client_setup import MODEL, MODEL_API, trace_provider
from pydantic_ai import Agent
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

provider = trace_provider()
Agent.instrument_all(InstrumentationSettings(tracer_provider=provider))
model = OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=MODEL_API, api_key="none"))
agent = Agent(model, system_prompt="You are brief.", name="clerk")
agent.run_sync("What does express shipping cost?")
provider.shutdown()

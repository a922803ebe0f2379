"""LangChain with openinference-instrumentation-langchain: a prompt and a model in a chain."""

from client_setup import MODEL, MODEL_API, trace_provider
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
from openinference.instrumentation.langchain import LangChainInstrumentor

provider = trace_provider()
LangChainInstrumentor().instrument(tracer_provider=provider)
model = ChatOpenAI(base_url=MODEL_API, api_key="none", model=MODEL, temperature=0.5, max_retries=0)
prompt = ChatPromptTemplate.from_messages([("system", "You are brief."), ("user", "{question}")])
(prompt | model).invoke({"question": "What does express shipping cost?"})
provider.shutdown()

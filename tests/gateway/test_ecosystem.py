"""LangChain and pydantic-ai, unmodified, against the gateway: plain, streamed, with calls of functions."""

from __future__ import annotations

import runpy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from slipway.release.channels import promote
from slipway.workspace import open_workspace

QUESTION = "What does express shipping cost?"
ANSWER = "Express shipping costs 12 euros [1]."


@pytest.fixture(scope="module")
def everyone(tmp_path_factory, mock, tools):
    """A gateway with documents (`lamps`), an OpenAI-shaped engine (`plain`) and one that calls functions (`gemini`)."""
    dialects = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "gateway" / "mock_dialects.py"))
    with dialects["MockDialects"]() as upstream:
        folder = tmp_path_factory.mktemp("everyone")
        (folder / "key").write_text("key")
        table = f'[engines.gemini]\nkind = "gemini"\nbase_url = "{upstream.url}/v1"\napi_key = "file:{folder}/key"\n'
        folder = tools.make_application(folder / "lamps", mock.url, table)
        with open_workspace(folder) as workspace:
            promote(workspace, tools.plain_release(workspace), "plain", force=True)
            promote(workspace, tools.plain_release(workspace, engine="gemini", model="g"), "gemini", force=True)
            promote(workspace, tools.documents_release(workspace), force=True)
            with tools.serving(workspace) as served:
                yield served


# LangChain -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def langchain():
    return pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")


def chat_model(langchain: Any, served: Any, model: str, **more: Any) -> Any:
    return langchain.ChatOpenAI(model=model, base_url=f"{served.url}/v1", api_key="none", max_retries=0, **more)


@pytest.mark.parametrize("responses", [False, True])
def test_langchain_invokes_and_streams(langchain, everyone, responses):
    chat = chat_model(langchain, everyone, "lamps", use_responses_api=responses, stream_usage=True)
    answer = chat.invoke(QUESTION)
    assert answer.text == ANSWER
    assert answer.usage_metadata["total_tokens"] > 0
    pieces = list(chat.stream(QUESTION))
    assert "".join(piece.text for piece in pieces) == ANSWER
    assert sum((piece.usage_metadata or {}).get("total_tokens", 0) for piece in pieces) > 0


@pytest.mark.parametrize("responses", [False, True])
def test_langchain_calls_functions(langchain, everyone, responses):
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool

    @tool
    def weather(city: str) -> str:
        """Weather of a city."""
        return f'{{"celsius": 12, "city": "{city}"}}'

    chat = chat_model(langchain, everyone, "gemini", use_responses_api=responses).bind_tools([weather])
    messages: list[Any] = [HumanMessage("Weather in Paris?")]
    called = chat.invoke(messages)
    (call,) = called.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Paris"})
    messages += [called, ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"])]
    assert "12" in chat.invoke(messages).text


def test_langchain_embeds(langchain, everyone):
    embeddings = langchain.OpenAIEmbeddings(
        model="plain", base_url=f"{everyone.url}/v1", api_key="none", check_embedding_ctx_length=False
    )
    assert [vector[0] for vector in embeddings.embed_documents(["a", "bbb"])] == [3.0, 1.0]


# pydantic-ai ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def agent_on(kind: str, served: Any, model: str, **more: Any) -> AsyncIterator[Any]:
    """An agent over one of the client's own kinds of model; the client is closed in the end."""
    pytest.importorskip("pydantic_ai", reason="pydantic-ai is not installed")
    from pydantic_ai import Agent

    if kind == "anthropic":
        from anthropic import AsyncAnthropic
        from pydantic_ai.models.anthropic import AnthropicModel
        from pydantic_ai.providers.anthropic import AnthropicProvider

        async with AsyncAnthropic(base_url=served.url, api_key="none", max_retries=0) as claude:
            yield Agent(AnthropicModel(model, provider=AnthropicProvider(anthropic_client=claude)), **more)
        return
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    cls = OpenAIResponsesModel if kind == "responses" else OpenAIChatModel
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
        yield Agent(cls(model, provider=OpenAIProvider(openai_client=client)), **more)


KINDS = ["openai", "responses", "anthropic"]


@pytest.mark.parametrize("kind", KINDS)
async def test_pydantic_ai_runs_and_streams(everyone, kind):
    async with agent_on(kind, everyone, "lamps", system_prompt="Be brief.") as agent:
        result = await agent.run(QUESTION)
        assert result.output == ANSWER
        async with agent.run_stream(QUESTION) as stream:
            assert await stream.get_output() == ANSWER


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stream", [False, True])
async def test_pydantic_ai_calls_functions(everyone, kind, stream):
    asked: list[str] = []

    def weather(city: str) -> dict[str, int]:
        """Weather of a city."""
        asked.append(city)
        return {"celsius": 12}

    async with agent_on(kind, everyone, "gemini", tools=[weather]) as agent:
        if stream:
            async with agent.run_stream("Weather in Paris?") as running:
                said = await running.get_output()
        else:
            said = (await agent.run("Weather in Paris?")).output
    assert asked == ["Paris"]
    assert "12" in said

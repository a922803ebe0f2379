"""The engine for OpenAI-shaped endpoints against an upstream that plays each fault."""

import asyncio
from dataclasses import replace

import pytest

from slipway.config.secrets import Secret
from slipway.domain.decoding import Decoding
from slipway.domain.errors import EngineGarbled, EngineRefused, EngineTimeout, EngineUnreachable
from slipway.domain.message import Delta, Message, Request, Usage
from slipway.engines.base import Tools
from slipway.engines.openai import OpenAI
from slipway.upstream.client import HttpClient

ASKED = Request(model="ok", messages=(Message(role="user", text="How are you?"),), decoding=Decoding(max_tokens=9))
TEXT = " ".join(f"word{number}" for number in range(50))
COUNTED = Usage(input_tokens=120, output_tokens=50)


def engine(upstream, **settings) -> OpenAI:
    return OpenAI(base_url=upstream.url, name="fast", first_byte_s=0.3, idle_s=0.3, total_s=1.0, **settings)


def tools() -> Tools:
    return Tools(http=HttpClient())


async def stream(backend: OpenAI, request: Request) -> list[Delta]:
    return [delta async for delta in backend.stream(request, tools=tools())]


async def test_a_whole_reply(upstream):
    reply = await engine(upstream, api_key=Secret("sk-1")).complete(ASKED, tools=tools())
    assert (reply.text, reply.model, reply.usage, reply.finish) == (TEXT, "ok-2026", COUNTED, "stop")
    assert upstream.state.paths == ["/v1/chat/completions"]
    assert upstream.state.headers[0][b"authorization"] == b"Bearer sk-1"
    assert upstream.state.requests[0]["max_tokens"] == 9


async def test_a_stream_ends_with_the_counted_usage(upstream):
    deltas = await stream(engine(upstream), ASKED)
    assert "".join(delta.text for delta in deltas) == TEXT
    assert deltas[-1] == Delta(finish="stop", usage=COUNTED)
    assert upstream.state.requests[0]["stream_options"] == {"include_usage": True}


async def test_usage_is_estimated_and_marked_where_the_endpoint_does_not_count(upstream):
    request = replace(ASKED, model="no-usage")
    reply = await engine(upstream).complete(request, tools=tools())
    last = (await stream(engine(upstream), request))[-1]
    for usage in (reply.usage, last.usage):
        assert usage is not None
        assert usage.estimated
        assert usage.input_tokens == 4
        assert 50 <= usage.output_tokens <= 150


FAULTS = [
    pytest.param("hang", EngineTimeout, "first byte", id="hangs"),
    pytest.param("reset", EngineUnreachable, "broke off|closed|reset", id="resets the connection"),
    pytest.param("garbage", EngineGarbled, "malformed", id="sends a web page"),
    pytest.param("short", EngineGarbled, "in the middle", id="sends half a body"),
    pytest.param("drip", EngineTimeout, "whole answer", id="drips"),
    pytest.param("400", EngineRefused, "mock says 400", id="says 400"),
    pytest.param("429", EngineRefused, "mock says 429", id="says 429"),
    pytest.param("500", EngineRefused, "mock says 500", id="says 500"),
]


@pytest.mark.parametrize(("model", "error", "reason"), FAULTS)
async def test_faults_of_a_whole_reply(upstream, model, error, reason):
    with pytest.raises(error, match=reason) as failed:
        await engine(upstream).complete(replace(ASKED, model=model), tools=tools())
    assert failed.value.engine == "fast"
    assert failed.value.retryable == (model != "400")
    assert failed.value.http_status == {"400": 400, "429": 429, "hang": 504, "drip": 504}.get(model, 502)


async def test_retry_after_is_kept(upstream):
    with pytest.raises(EngineRefused) as failed:
        await engine(upstream).complete(replace(ASKED, model="429"), tools=tools())
    assert failed.value.retry_after_s == 30


STREAM_FAULTS = [
    pytest.param("late", EngineTimeout, 0, id="headers, then nothing"),
    pytest.param("stall", EngineTimeout, 5, id="stops talking"),
    pytest.param("cut", EngineGarbled, 5, id="is cut"),
    pytest.param("no-done", EngineGarbled, 5, id="ends without finishing"),
    pytest.param("error-event", EngineGarbled, 5, id="sends an error event"),
    pytest.param("garbage", EngineGarbled, 0, id="is no stream"),
    pytest.param("500", EngineRefused, 0, id="says 500"),
]


@pytest.mark.parametrize(("model", "error", "words"), STREAM_FAULTS)
async def test_faults_of_a_stream(upstream, model, error, words):
    said: list[str] = []

    async def listen() -> None:
        async for delta in engine(upstream).stream(replace(ASKED, model=model), tools=tools()):
            said.append(delta.text)  # noqa: PERF401 (what was said before the error counts)

    with pytest.raises(error):
        await listen()
    assert len(said) == words


async def test_nobody_at_home(upstream):
    backend = replace(engine(upstream), base_url="http://127.0.0.1:1/v1")
    with pytest.raises(EngineUnreachable, match=r"\[engines\.fast\]"):
        await backend.complete(ASKED, tools=tools())


async def test_a_dead_first_address_is_passed_over(upstream):
    backend = replace(engine(upstream), base_url="http://127.0.0.1:1/v1", fallback_urls=(upstream.url,))
    reply = await backend.complete(ASKED, tools=tools())
    assert reply.text == TEXT


async def test_a_request_that_is_wrong_is_wrong_everywhere(upstream):
    backend = engine(upstream, fallback_urls=(upstream.url,))
    with pytest.raises(EngineRefused):
        await backend.complete(replace(ASKED, model="400"), tools=tools())
    assert upstream.state.asked["400"] == 1


async def test_leaving_a_stream_cancels_the_upstream(upstream):
    deltas = engine(upstream).stream(replace(ASKED, model="stall"), tools=tools())
    await anext(deltas)
    await deltas.aclose()
    assert await asyncio.to_thread(upstream.wait_cancelled, "stall")


async def test_a_cancelled_call_cancels_the_upstream(upstream):
    task = asyncio.create_task(engine(upstream).complete(replace(ASKED, model="slow-60"), tools=tools()))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(upstream.wait_cancelled, "slow-60")

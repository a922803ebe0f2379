"""What every engine promises, over each one that is there."""

import asyncio
import runpy
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import fields, is_dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from slipway.config.secrets import Secret
from slipway.domain.document import Passage
from slipway.domain.errors import BackendSettingInvalid, PackageMissing
from slipway.domain.message import Delta, Message, Request
from slipway.engines.base import Engine, Tools, engines
from slipway.upstream.client import HttpClient

GATEWAY = Path(__file__).parents[2] / "benchmarks" / "gateway"
MOCK, DIALECTS = GATEWAY / "mock_upstream.py", GATEWAY / "mock_dialects.py"
TRANSLATED = ("anthropic", "bedrock", "gemini", "responses")
PASSAGE = Passage(
    document="shipping.md",
    title="Shipping",
    start=0,
    end=60,
    text="Standard shipping takes five days. Express takes one day now.",
    score=0.9,
)
ASKED = Request(
    model="ok",
    messages=(Message(role="user", text="How long does express shipping take?"),),
    question="How long does express shipping take?",
    passages=(PASSAGE,),
)


OWN = [name for name in engines.names() if find_spec(f"{engines.package}.{name}")]
"""Other tests have engines of their own, which keep part of the promise."""


@pytest.fixture(params=OWN)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each engine with the settings that let it run here."""
    with ExitStack() as stack:
        settings: dict[str, Any] = {}
        if request.param == "openai":
            settings["base_url"] = stack.enter_context(runpy.run_path(str(MOCK))["MockUpstream"]()).url
        elif request.param == "any_llm":
            pytest.importorskip("any_llm", reason="any-llm-sdk, the extra `providers`, is not installed")
            url = stack.enter_context(runpy.run_path(str(MOCK))["MockUpstream"]()).url
            # `details` says of no choices that they are an empty list, as OpenAI does.
            settings = {"provider": "openai", "base_url": url, "api_key": Secret("none"), "extra": {"model": "details"}}
        elif request.param in TRANSLATED:
            mock = stack.enter_context(runpy.run_path(str(DIALECTS))["MockDialects"]())
            secrets = {"api_key", "access_key", "secret_key"}
            settings = {
                key: Secret(value) if key in secrets else value for key, value in mock.settings(request.param).items()
            }
        try:
            yield engines.make(request.param, settings)
        except PackageMissing as missing:
            pytest.skip(str(missing))


def tools() -> Tools:
    return Tools(http=HttpClient())


async def collect(engine: Engine) -> list[Delta]:
    return [delta async for delta in engine.stream(ASKED, tools=tools())]


async def test_the_stream_says_what_the_whole_reply_says(engine):
    reply = await engine.complete(ASKED, tools=tools())
    deltas = await collect(engine)
    assert "".join(delta.text for delta in deltas) == reply.text
    assert reply.text


async def test_the_last_piece_carries_the_end_and_the_usage(engine):
    *before, last = await collect(engine)
    assert last.finish == "stop"
    assert last.usage is not None
    assert all(delta.finish is None for delta in before)


async def test_usage_counts_what_was_asked_and_said(engine):
    reply = await engine.complete(ASKED, tools=tools())
    assert reply.usage.input_tokens > 0
    assert reply.usage.output_tokens > 0


async def test_quotes_stand_literally_in_their_passage(engine):
    reply = await engine.complete(ASKED, tools=tools())
    for quote in reply.quotes:
        assert PASSAGE.text[quote.start : quote.end].strip() in reply.text


async def test_many_requests_at_once(engine):
    one, handles = await engine.complete(ASKED, tools=tools()), tools()
    replies = await asyncio.gather(*(engine.complete(ASKED, tools=handles) for _ in range(8)))
    assert {reply.text for reply in replies} == {one.text}


async def test_a_stream_can_be_left(engine):
    stream = engine.stream(ASKED, tools=tools())
    await anext(stream)
    await stream.aclose()


@pytest.mark.parametrize("name", engines.names())
def test_settings_are_the_fields_of_a_frozen_dataclass_with_help(name):
    try:
        cls = engines.load(name)
    except PackageMissing as missing:
        pytest.skip(str(missing))
    assert is_dataclass(cls)
    assert cls.__dataclass_params__.frozen
    assert engines.help(name).strip()
    known: Callable[[str], bool] = {field.name for field in fields(cls)}.__contains__
    assert not known("no_such_setting")
    with pytest.raises(BackendSettingInvalid, match="no_such_setting"):
        engines.make(name, {"no_such_setting": 1})

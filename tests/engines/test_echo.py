"""The echo engine does what its script says."""

import pytest

from slipway.domain.errors import EngineError
from slipway.domain.message import Message, Request
from slipway.engines.base import Tools
from slipway.engines.echo import Echo
from slipway.upstream.client import HttpClient

TOOLS = Tools(http=HttpClient())


def asked(text: str) -> Request:
    return Request(model="echo", messages=(Message(role="user", text=text),))


@pytest.mark.parametrize(
    ("engine", "reply"),
    [
        pytest.param(Echo(), "Who are you?", id="repeats the question"),
        pytest.param(Echo(reply="Nobody."), "Nobody.", id="always the same"),
        pytest.param(Echo(script={"Who": "Echo.", "you": "Me."}, reply="?"), "Echo.", id="the first match of a script"),
        pytest.param(Echo(script={"Where": "Here."}, reply="?"), "?", id="no match"),
    ],
)
async def test_replies(engine, reply):
    whole = await engine.complete(asked("Who are you?"), tools=TOOLS)
    deltas = [delta async for delta in engine.stream(asked("Who are you?"), tools=TOOLS)]
    assert whole.text == reply
    assert "".join(delta.text for delta in deltas) == reply
    assert deltas[-1].usage == whole.usage
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (3, len(reply.split()))


@pytest.mark.parametrize("failure", ["unreachable", "timeout", "refused", "garbled"])
async def test_failures(failure):
    engine = Echo(reply="one two three", fails=failure, fails_after=2)
    with pytest.raises(EngineError):
        await engine.complete(asked("?"), tools=TOOLS)
    said = []
    with pytest.raises(EngineError):  # noqa: PT012
        async for delta in engine.stream(asked("?"), tools=TOOLS):
            said.append(delta.text)  # noqa: PERF401
    assert said == ["one", " two"]

"""Retries help against short faults and never make a long one worse."""

import itertools
from collections.abc import AsyncIterator

import pytest

from slipway.domain.errors import EngineError, EngineGarbled, EngineRefused, EngineUnreachable
from slipway.domain.message import Delta, Message, Reply, Request, Usage
from slipway.engines.base import Tools
from slipway.models.patience import Patience, RetryBudget, complete, stream
from slipway.upstream.backoff import LONGEST_S, wait_s
from slipway.upstream.client import HttpClient

ASKED = Request(model="m", messages=(Message(role="user", text="?"),))
TOOLS = Tools(http=HttpClient())
QUICK = Patience(attempts=3, first_wait_s=0.001)
DOWN = EngineUnreachable("e", "http://a", "refused")
WRONG = EngineRefused("e", 400, "wrong")
BUSY = EngineRefused("e", 429, "busy", retry_after_s=30)


class Flaky:
    """Fails as its list says, then answers; `None` answers."""

    def __init__(self, *fates: EngineError | None, after: int = 0) -> None:
        self.fates = itertools.chain(fates, itertools.repeat(None))
        self.after = after
        self.calls = 0

    async def complete(self, request: Request, *, tools: Tools) -> Reply:
        self.calls += 1
        if fate := next(self.fates):
            raise fate
        return Reply(text="yes", model="m", usage=Usage())

    async def stream(self, request: Request, *, tools: Tools) -> AsyncIterator[Delta]:
        self.calls += 1
        fate = next(self.fates)
        for number in range(3):
            if fate and number == self.after:
                raise fate
            yield Delta(text=str(number))
        yield Delta(finish="stop")


CASES = [
    pytest.param([DOWN, DOWN], 3, None, id="two short faults are bridged"),
    pytest.param([DOWN, DOWN, DOWN], 3, EngineUnreachable, id="three are not"),
    pytest.param([WRONG], 1, EngineRefused, id="a wrong request is not repeated"),
    pytest.param([BUSY], 1, EngineRefused, id="half a minute is not waited for"),
]


@pytest.mark.parametrize(("fates", "calls", "error"), CASES)
async def test_whole_replies(fates, calls, error):
    engine = Flaky(*fates)
    patience = Patience(attempts=3, first_wait_s=0.001, deadline_s=5)
    if error is None:
        assert (await complete(engine, ASKED, tools=TOOLS, patience=patience)).text == "yes"
    else:
        with pytest.raises(error):
            await complete(engine, ASKED, tools=TOOLS, patience=patience)
    assert engine.calls == calls


async def test_a_stream_is_repeated_before_its_first_piece():
    engine = Flaky(DOWN)
    deltas = [delta async for delta in stream(engine, ASKED, tools=TOOLS, patience=QUICK)]
    assert "".join(delta.text for delta in deltas) == "012"
    assert engine.calls == 2


async def test_what_was_said_is_never_said_again():
    engine = Flaky(EngineGarbled("e", "cut"), after=1)
    said: list[str] = []
    with pytest.raises(EngineGarbled):  # noqa: PT012
        async for delta in stream(engine, ASKED, tools=TOOLS, patience=QUICK):
            said.append(delta.text)  # noqa: PERF401
    assert (said, engine.calls) == (["0"], 1)


async def test_when_everything_is_down_few_calls_are_repeated():
    budget = RetryBudget(share=0.2, burst=5)
    engine = Flaky(*[DOWN] * 1000)
    for _ in range(100):
        with pytest.raises(EngineUnreachable):
            await complete(engine, ASKED, tools=TOOLS, patience=QUICK, budget=budget)
    assert engine.calls <= 100 * 1.2 + 5


def test_waits_grow_and_are_capped():
    assert [wait_s(attempt, chance=1, first_s=0.5) for attempt in range(4)] == [0.5, 1, 2, 4]
    assert wait_s(50, chance=1) == LONGEST_S
    assert wait_s(0, chance=0) == 0
    assert wait_s(0, chance=1, asked_for_s=3) == 3
    assert wait_s(0, chance=1, asked_for_s=3600) == LONGEST_S

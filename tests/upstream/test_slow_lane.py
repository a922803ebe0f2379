"""The slow lane: work in a thread of its own, with places, deadlines, back pressure and an end."""

import asyncio
import threading

import pytest

from slipway.domain.errors import ResponseGarbled, UpstreamTimeout
from slipway.upstream.client import Deadlines
from slipway.upstream.slow_lane import AHEAD, LaneResponse, SlowLane

ORIGIN = "https://tail"
OK = [(b"content-type", b"text/event-stream")]


class Script:
    """Work that gives pieces, and remembers how far it came and in which thread."""

    def __init__(self, *pieces: bytes | float | Exception, begin_s: float = 0.0) -> None:
        self.pieces, self.begin_s = pieces, begin_s
        self.given = 0
        self.thread = ""
        self.ended = threading.Event()

    async def begin(self):
        self.thread = threading.current_thread().name
        try:
            await asyncio.sleep(self.begin_s)
        except asyncio.CancelledError:
            self.ended.set()
            raise
        return 200, OK, self._give()

    async def _give(self):
        try:
            for piece in self.pieces:
                if isinstance(piece, Exception):
                    raise piece
                if isinstance(piece, float):
                    await asyncio.sleep(piece)
                    continue
                self.given += 1
                yield piece
        finally:
            self.ended.set()


@pytest.fixture
def lane() -> SlowLane:
    return SlowLane("a slow lane", at_once=2)


async def start(lane: SlowLane, script: Script, **deadlines: float) -> LaneResponse:
    response = LaneResponse(ORIGIN, Deadlines(**deadlines))
    await response.start(lane, script.begin())
    return response


async def test_pieces_come_in_order_from_another_thread(lane):
    script = Script(b"one ", b"two ", b"three")
    response = await start(lane, script)
    assert (response.status, response.header(b"content-type")) == (200, b"text/event-stream")
    assert await response.read() == b"one two three"
    assert response.complete
    assert await response.piece() == b""
    assert script.thread == "a slow lane"


async def test_it_makes_no_more_than_is_wanted_and_stops_when_nobody_wants_it(lane):
    script = Script(*[b"x"] * 10_000)
    response = await start(lane, script)
    assert await response.piece() == b"x"
    await asyncio.sleep(0.2)
    assert script.given <= AHEAD + 3
    response.close()
    assert await asyncio.to_thread(script.ended.wait, 30)
    assert script.given <= AHEAD + 3


async def test_what_breaks_in_the_middle_is_told_after_what_came(lane):
    response = await start(lane, Script(b"one", ResponseGarbled(ORIGIN, "it broke")))
    assert await response.piece() == b"one"
    with pytest.raises(ResponseGarbled, match="it broke"):
        await response.piece()


@pytest.mark.parametrize(
    ("script", "deadlines", "phase"),
    [
        pytest.param(Script(b"x", begin_s=60.0), {"first_byte_s": 0.1}, "first byte", id="no beginning"),
        pytest.param(Script(b"x", begin_s=60.0), {"total_s": 0.1}, "whole answer", id="no beginning, in all"),
        pytest.param(Script(b"x", 60.0, b"y"), {"idle_s": 0.1}, "next piece", id="a pause"),
        pytest.param(Script(*[0.02, b"x"] * 3000), {"total_s": 0.3}, "whole answer", id="drops"),
    ],
)
async def test_each_deadline_is_kept_and_ends_the_work(lane, script, deadlines, phase):
    with pytest.raises(UpstreamTimeout) as late:
        await (await start(lane, script, **deadlines)).read()
    assert late.value.phase == phase
    assert await asyncio.to_thread(script.ended.wait, 30)


async def test_no_more_run_than_there_are_places_and_a_place_comes_back(lane):
    first, second, third = Script(b"1", 60.0), Script(b"2", 60.0), Script(b"3")
    running = [await start(lane, script) for script in (first, second)]
    waiting = asyncio.create_task(start(lane, third))
    await asyncio.sleep(0.1)
    assert third.thread == ""
    running[0].close()
    assert await (await waiting).read() == b"3"
    running[1].close()


async def test_a_task_that_is_cancelled_cancels_the_work(lane):
    script = Script(b"x", begin_s=60.0)
    task = asyncio.create_task(start(lane, script))
    while not script.thread:  # noqa: ASYNC110 (another thread sets it)
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(script.ended.wait, 30)

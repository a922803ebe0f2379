"""An answer that breaks off leaves nothing behind that only the garbage collector could find."""

import asyncio
import gc

import pytest

from slipway.domain.errors import ConnectionBroken, UpstreamTimeout
from slipway.upstream.client import Deadlines, HttpClient, Response
from slipway.upstream.connection import Exchange


async def half_an_answer(client: HttpClient, error: type[Exception], *, stays: bool, deadlines: Deadlines) -> Response:
    """What is left of an answer whose first half came. The server closes the connection, or `stays` until we do."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        await (reader.read() if stays else writer.drain())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        response = await client.send("GET", url, deadlines=deadlines)
        with pytest.raises(error):
            await response.read()
        return response


async def breaks_off(client: HttpClient) -> None:
    response = await half_an_answer(client, ConnectionBroken, stays=False, deadlines=Deadlines())
    assert not response.complete


async def is_late(client: HttpClient) -> None:
    await half_an_answer(client, UpstreamTimeout, stays=True, deadlines=Deadlines(total_s=0.02))


def test_what_broke_off_is_let_go_of_at_once() -> None:
    def exchanges() -> int:
        return sum(type(one) is Exchange for one in gc.get_objects())

    async def several() -> int:
        client = HttpClient()
        for _ in range(5):
            await breaks_off(client)
        return exchanges()

    gc.collect()
    gc.disable()
    before = exchanges()
    try:
        assert asyncio.run(several()) <= before
    finally:
        gc.enable()


@pytest.mark.parametrize("fault", [breaks_off, is_late])
def test_no_answer_is_kept_after_it_has_failed(new_client, fault) -> None:
    """Not even by errors that are the same for all."""

    def answers() -> int:
        return sum(type(one).__name__ in ("AiohttpResponse", "StreamedResponse") for one in gc.get_objects())

    async def several() -> int:
        client = new_client()
        for _ in range(5):
            await fault(client)
        await asyncio.sleep(0.05)  # both sides hear that their connections are closed
        gc.collect()
        return answers()

    gc.collect()
    before = answers()
    assert asyncio.run(several()) <= before

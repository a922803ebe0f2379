"""Requests whose head came before on their connection are answered as those that a parser has read: byte for byte."""

import asyncio
import json
import random
import re

import pytest

from slipway.gateway.door import Door
from slipway.wire import known_head
from slipway.wire.known_head import MOST_IN_VAIN

PATH = b"/v1/chat/completions"
TRACE = b"traceparent: 00-" + b"4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CHUNKED = b"transfer-encoding: chunked\r\n"
QUIET_S = 0.5


def body_of(length: int = 0, text: str = "hi") -> bytes:
    body = json.dumps({"model": "plain", "messages": [{"role": "user", "content": text}]}).encode()
    return body + b" " * (length - len(body))


def message(
    body: bytes | None = None,
    *,
    head: bytes = b"POST " + PATH + b" HTTP/1.1",
    length: bytes | None = None,
    more: bytes = b"",
) -> bytes:
    body = body_of() if body is None else body
    said = b"content-length: %d\r\n" % len(body) if length is None else length
    host, named = b"host: 127.0.0.1\r\n", b"x-request-id: one\r\ncontent-type: application/json\r\n%b\r\n" % TRACE
    return head + b"\r\n" + host + said + named + more + b"\r\n" + body


def in_chunks(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


SAME = message()
CHUNKS = message(in_chunks(body_of()), length=CHUNKED)
LENGTH = len(body_of())
GET = b"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\nx-request-id: one\r\n" + TRACE + b"\r\n\r\n"
SECOND = {
    "the same": SAME,
    "longer": message(body_of(300)),
    "longer than what is kept of a body": message(body_of(70_000)),
    "of other words": message(body_of(text="nobody said that before")),
    "without a body": message(b""),
    "no JSON": message(b"{"),
    "a model that nobody knows": message(b'{"model":"nobody","messages":[]}'),
    "a stream": message(b'{"model":"plain","messages":[],"stream":true}'),
    "a length with zeros before it": message(length=b"content-length: %012d\r\n" % LENGTH),
    "a length with a few zeros before it": message(length=b"content-length: %06d\r\n" % LENGTH),
    "a length with a sign": message(length=b"content-length: +%d\r\n" % LENGTH),
    "a length below nothing": message(length=b"content-length: -%d\r\n" % LENGTH),
    "a length and spaces": message(length=b"content-length:  %d \t\r\n" % LENGTH),
    "a length in hex": message(length=b"content-length: 0x%x\r\n" % LENGTH),
    "a length of two numbers": message(length=b"content-length: %d, %d\r\n" % (LENGTH, LENGTH)),
    "a length without end": message(length=b"content-length: %d\r\n" % (2**64 + LENGTH)),
    "two lengths": message(more=b"content-length: %d\r\n" % LENGTH),
    "two lengths that differ": message(more=b"content-length: %d\r\n" % (LENGTH + 1)),
    "a length on two lines": message(length=b"content-length:\r\n %d\r\n" % LENGTH),
    "a length ended by a line feed": message(length=b"content-length: %d\n" % LENGTH),
    "a head of line feeds": message().replace(b"\r\n", b"\n"),
    "a length and chunks": message(in_chunks(body_of()), more=CHUNKED),
    "chunks": CHUNKS,
    "another header of the same length": SAME.replace(b"x-request-id: one", b"x-request-id: two"),
    "one more header": message(more=b"x-more: 1\r\n"),
    "a header folded": message(more=b"x-more: 1\r\n content-length: 2\r\n"),
    "the last of its connection": message(more=b"connection: close\r\n"),
    "the last one of HTTP/1.0": message(head=b"POST " + PATH + b" HTTP/1.0"),
    "one of HTTP/1.0": message(head=b"POST " + PATH + b" HTTP/1.0", more=b"connection: keep-alive\r\n"),
    "one of HTTP/2.0": message(head=b"POST " + PATH + b" HTTP/2.0"),
    "another method": message(head=b"PUT " + PATH + b" HTTP/1.1"),
    "another path": message(head=b"POST /v1/embeddings HTTP/1.1"),
    "a path with a query": message(head=b"POST " + PATH + b"?a=b HTTP/1.1"),
    "no path": message(head=b"POST " + PATH[:-1] + b" HTTP/1.1"),
    "one that asks first": message(more=b"expect: 100-continue\r\n"),
    "one that offers HTTP/2": message(more=b"connection: upgrade\r\nupgrade: h2c\r\n"),
    "a body that is longer than it says": message(length=b"content-length: %d\r\n" % (LENGTH - 3)),
    "a body that is longer by a request": SAME + GET,
    "two at once": SAME + SAME,
    "three at once of which one is odd": SAME + CHUNKS + SAME,
    "two at once of which the second is broken": SAME + message(length=b"content-length: x\r\n"),
    "a request within a body": message(GET),
    "an empty line before": b"\r\n" + SAME,
    "empty lines before": b"\r\n\r\n\r\n" + SAME,
    "empty lines behind": SAME + b"\r\n\r\n",
    "a letter behind": SAME + b"P",
    "a byte that is none of it": b"\0" + SAME,
    "nothing but a head": message(b"", length=b"content-length: 5\r\n"),
    "another one between": GET,
    "the head of one between": b"HEAD /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
}  # fmt: skip


async def converse(served, pieces: list[bytes], *, wait_s: float) -> bytes:
    """All that comes back for pieces that are sent one after the other."""
    host, port = served.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    received = b""
    try:
        for number, piece in enumerate(pieces):
            writer.write(piece)
            if number + 1 < len(pieces):
                try:
                    async with asyncio.timeout(wait_s):
                        while came := await reader.read(65536):
                            received += came
                except TimeoutError:
                    continue
                break
        async with asyncio.timeout(QUIET_S * 4) as quiet:
            while came := await reader.read(65536):
                received += came
                quiet.reschedule(asyncio.get_running_loop().time() + QUIET_S)
        received += b"[closed]"
    except TimeoutError:
        pass
    except ConnectionError:
        received += b"[closed]"
    finally:
        writer.close()
    return re.sub(rb"(x-slipway-trace: |req_|date: )[^\r]*", b"", received)


async def answers_of(served, talks: list[list[bytes]], *, learn: bool, monkeypatch, wait_s: float = 0.3) -> list[bytes]:
    monkeypatch.setattr(known_head, "MOST_IN_VAIN", MOST_IN_VAIN if learn else 0)
    return await asyncio.gather(*(converse(served, talk, wait_s=wait_s) for talk in talks))


@pytest.fixture
def known(monkeypatch) -> list[bytes]:
    """What was read without the parser."""
    taken: list[bytes] = []
    real = Door._begin_known
    monkeypatch.setattr(Door, "_begin_known", lambda self, *read: (taken.append(read[1]), real(self, *read))[1])
    return taken


async def test_a_request_after_a_known_one_is_answered_as_a_parser_reads_it(served, monkeypatch, known):
    talks = [[SAME, SAME, second, SAME] for second in SECOND.values()]
    expected = await answers_of(served, talks, learn=False, monkeypatch=monkeypatch)
    assert not known
    answers = await answers_of(served, talks, learn=True, monkeypatch=monkeypatch)
    assert len(known) >= len(talks)
    for name, one, other in zip(SECOND, answers, expected, strict=True):
        assert one == other, name
        assert one.startswith(b"HTTP/1.1 200"), name


async def test_a_request_may_come_cut_anywhere(served, monkeypatch, known):
    talks = [[SAME, SAME[:at], SAME[at:] + SAME, SAME] for at in range(1, len(SAME), 5)]
    expected = await answers_of(served, talks, learn=False, monkeypatch=monkeypatch)
    answers = await answers_of(served, talks, learn=True, monkeypatch=monkeypatch)
    assert len(known) >= len(talks)
    assert answers == expected


async def test_whatever_is_changed_in_a_request_the_answer_is_that_of_a_parser(served, monkeypatch, known):
    chance = random.Random(7)
    parts = [b"", b"\r\n", b"\n", b" ", b"0", b"9", b":", b"\0", b"content-length: 3\r\n", CHUNKED, SAME, b"x"]
    talks = []
    for _ in range(100):
        changed = SAME
        for _ in range(chance.randint(1, 2)):
            at = chance.randrange(len(SAME))
            changed = changed[:at] + chance.choice(parts) + changed[at + chance.randint(0, 2) :]
        talks.append([SAME, SAME, changed, SAME])
    expected = await answers_of(served, talks, learn=False, monkeypatch=monkeypatch)
    answers = await answers_of(served, talks, learn=True, monkeypatch=monkeypatch)
    assert len(known) >= len(talks)
    for talk, one, other in zip(talks, answers, expected, strict=True):
        assert one == other, talk[2]

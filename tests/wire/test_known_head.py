"""Heads that are known again mean what a parser would have found in them; all others are left to the parser."""

from typing import Any

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slipway.wire.known_head import MOST_IN_VAIN, KnownHead

REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    b"Content-Length: 5\r\nUser-Agent: x\r\n\r\nhello"
)


class Read:
    """What httptools finds in a request."""

    def __init__(self, message: bytes) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.url = self.body = b""
        self.complete = 0
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(message)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete += 1

    def facts(self) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in ("url", "headers", "body", "complete")}
        return found | {"method": self.parser.get_method(), "keep": self.parser.should_keep_alive()}


def known() -> KnownHead:
    head = KnownHead()
    head.learn(REQUEST, Read(REQUEST).headers)
    return head


@pytest.mark.parametrize("body", [b"", b"x", b"hello", b"0" * 1234])
def test_a_head_is_known_again_with_another_length(body):
    message = REQUEST.replace(b": 5\r\n", b": %d\r\n" % len(body))[:-5] + body
    read = known().read(message)
    assert read is not None
    assert read == (Read(message).headers, body)


@pytest.mark.parametrize(
    "message",
    [
        REQUEST[:-1],
        REQUEST + b"x",
        REQUEST + REQUEST,
        REQUEST.replace(b": 5\r\n", b": \r\n"),
        REQUEST.replace(b": 5\r\n", b": +5\r\n"),
        REQUEST.replace(b": 5\r\n", b": -5\r\n"),
        REQUEST.replace(b": 5\r\n", b": 5 \r\n"),
        REQUEST.replace(b": 5\r\n", b": 5, 5\r\n"),
        REQUEST.replace(b": 5\r\n", b": 5\r\nContent-Length: 5\r\n"),
        REQUEST.replace(b": 5\r\n", b": 5\r\nTransfer-Encoding: chunked\r\n"),
        REQUEST.replace(b": 5\r\n", b": 5\n"),
        REQUEST.replace(b": 5\r\n", "\N{SUPERSCRIPT TWO}\r\n".encode()),
        REQUEST.replace(b"Host: a", b"Host: b"),
        REQUEST.replace(b"POST", b"GET"),
        REQUEST.replace(b"/v1/chat", b"/v2/chat"),
        REQUEST.replace(b"1.1", b"1.0"),
        b"",
        REQUEST[:20],
    ],
)
def test_what_is_not_the_same_is_left_to_the_parser(message):
    assert known().read(message) is None


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 \r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: %b\r\nContent-Length: 5\r\n\r\nhello" % (b"a" * 8192),
    ],
)
def test_a_head_that_says_more_or_less_than_a_length_or_is_very_long_is_not_kept(head):
    known = KnownHead()
    known.learn(head, Read(head).headers)
    assert known.read(head) is None


def test_a_connection_whose_heads_always_differ_learns_no_more():
    known = KnownHead()
    heads = [REQUEST.replace(b"Host: a", b"Host: %d" % number) for number in range(2 * MOST_IN_VAIN)]
    for head in heads:
        assert known.read(head) is None
        known.learn(head, Read(head).headers)
    assert known.read(heads[-1]) is None


@given(
    st.lists(
        st.tuples(
            st.integers(0, len(REQUEST)),
            st.sampled_from(
                [b"", b"5", b"6", b"\r\n", b"\n", b" ", b"\0", b"x", b"Content-Length: 4\r\n", b":", b"hello"]
            ),
            st.integers(0, 3),
        ),
        max_size=3,
    )
)
@example([])
def test_whatever_is_changed_nothing_is_read_that_a_parser_reads_otherwise(changes):
    message = REQUEST
    for at, put, over in changes:
        message = message[:at] + put + message[at + over :]
    read = known().read(message)
    if read is not None:
        found = Read(message).facts()
        assert (found["headers"], found["body"]) == read
        assert (found["url"], found["method"]) == (b"/v1/chat/completions", b"POST")
        assert found["keep"]
        assert found["complete"] == 1

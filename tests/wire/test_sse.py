"""Events survive whatever a network does to their pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.wire.sse import LONGEST_EVENT, EventReader, EventTooLong, write_event

STREAMS = [
    pytest.param(b'data: {"a":1}\n\ndata: [DONE]\n\n', [b'{"a":1}', b"[DONE]"], id="as everyone writes it"),
    pytest.param(b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"], id="carriage returns and line feeds"),
    pytest.param(b"data: a\r\rdata: b\r\r", [b"a", b"b"], id="carriage returns alone"),
    pytest.param(b"data:a\n\n", [b"a"], id="no space after the colon"),
    pytest.param(b"data:  a\n\n", [b" a"], id="only the first space is dropped"),
    pytest.param(b"data: a\ndata: b\n\n", [b"a\nb"], id="data on two lines"),
    pytest.param(b": ping\n\ndata: a\n\n", [b"a"], id="a comment between"),
    pytest.param(b"event: x\nid: 7\ndata: a\nretry: 5\n\n", [b"a"], id="other fields around the data"),
    pytest.param(b"data: a", [b"a"], id="no empty line at the end"),
    pytest.param(b"event: ping\n\n", [], id="an event without data"),
    pytest.param(b"", [], id="nothing"),
]


def read(pieces: list[bytes]) -> list[bytes]:
    reader = EventReader()
    found = [data for piece in pieces for data in reader.feed(piece)]
    return found + list(reader.close())


@pytest.mark.parametrize(("stream", "events"), STREAMS)
def test_events_of_a_whole_stream(stream, events):
    assert read([stream]) == events


@pytest.mark.parametrize(("stream", "events"), STREAMS)
def test_byte_by_byte(stream, events):
    assert read([stream[i : i + 1] for i in range(len(stream))]) == events


@given(
    events=st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1)),
    cuts=st.lists(st.integers(1, 7)),
)
def test_written_events_are_read_again_however_they_are_cut(events, cuts):
    stream = b"".join(write_event(event.encode()) for event in events)
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(stream[at : at + cut])
        at += cut
    assert read([*pieces, stream[at:]]) == [event.encode() for event in events]


def test_a_named_event():
    assert write_event(b"{}", name="response.created") == b"event: response.created\ndata: {}\n\n"


def test_an_event_that_never_ends_is_given_up():
    reader = EventReader()
    assert list(reader.feed(b"x" * LONGEST_EVENT)) == []
    with pytest.raises(EventTooLong):
        list(reader.feed(b"x"))

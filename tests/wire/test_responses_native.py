"""Streams of responses that are passed on: whole events, other ids, what they said, wherever they are cut."""

import json
import re

import msgspec
import pytest

from slipway.wire.responses_native import Events, Ids, asked_as_chat, chunks_in, fault_in, read_response, tell

WORDS = ["One", " \u00e9vent", ' "response"', ' {"error": 1}', " end"]
ITEM = {"id": "msg_1", "type": "message", "content": [{"type": "output_text", "text": "".join(WORDS)}]}
RESPONSE = {
    "id": "resp_0001",
    "status": "completed",
    "model": "m",
    "previous_response_id": "resp_0000",
    "error": None,
    "output": [ITEM],
    "usage": {"input_tokens": 3, "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 2}},
}
EVENTS = [
    {"type": "response.created", "sequence_number": 0, "response": RESPONSE | {"status": "in_progress", "output": []}},
    {"type": "response.output_item.added", "sequence_number": 1, "item": ITEM | {"content": []}},
    *(
        {"type": "response.output_text.delta", "sequence_number": number, "item_id": "msg_1", "delta": word}
        for number, word in enumerate(WORDS, 2)
    ),
    {"type": "response.completed", "sequence_number": 9, "response": RESPONSE},
]


def stream(events=EVENTS, end: str = "\n") -> bytes:
    return "".join(f"event: {one['type']}{end}data: {json.dumps(one)}{end}{end}" for one in events).encode()


def passed(pieces: list[bytes]) -> tuple[bytes, Events]:
    events = Events(Ids({}, lambda id: f"{id}-bound"))
    return b"".join(map(events.feed, pieces)) + events.close(), events


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CR LF", "CR"])
@pytest.mark.parametrize("step", [1, 2, 3, 7, 50, 333, 10_000])
def test_wherever_it_is_cut_only_ids_differ(end, step):
    raw = stream(end=end)
    out, events = passed([raw[at : at + step] for at in range(0, len(raw), step)])
    assert out == re.sub(rb'"(resp_0001|resp_0000|msg_1)"', rb'"\1-bound"', raw)
    assert events.told is not None
    assert (events.told.text, events.told.finish, events.told.model) == ("".join(WORDS), "stop", "m")
    assert (events.told.usage.input_tokens, events.told.usage.reasoning_tokens) == (3, 2)


def test_what_goes_out_is_whole_events():
    events = Events(Ids({}))
    raw = stream()
    assert events.feed(raw[:20]) == b""
    first = raw.index(b"\n\n") + 2
    assert events.feed(raw[20 : first + 5]) == raw[:first]
    assert events.feed(b"") == b""
    assert not events.passes(raw[first + 5 :])


def test_pieces_between_the_first_and_the_last_pass_untouched():
    events = Events(Ids({}))
    pieces = [stream([one]) for one in EVENTS]
    events.feed(pieces[0])
    assert [events.passes(piece) for piece in pieces] == [False, False, True, True, True, True, True, False]


def test_a_stream_that_breaks_off_fails_with_the_next_number():
    events = Events(Ids({}, lambda id: f"{id}-bound"))
    sent = b"".join(events.feed(stream([one])) for one in EVENTS[:3]) + events.feed(b"data: {half")
    name, data = events.failure("gone", "engine_failed", sent).decode().removesuffix("\n\n").split("\n")
    told = json.loads(data.removeprefix("data: "))
    assert name == "event: response.failed"
    assert (told["sequence_number"], told["response"]["id"]) == (3, "resp_0001-bound")
    assert (told["response"]["status"], told["response"]["error"]["message"]) == ("failed", "gone")


def test_one_that_never_began_ends_with_an_error():
    told = json.loads(Events(Ids({})).failure("gone", "engine_failed", b"").split(b"data: ")[1])
    assert (told["type"], told["message"], told["code"]) == ("error", "gone", "engine_failed")


@pytest.mark.parametrize(
    ("event", "code"),
    [
        pytest.param({"type": "error", "code": "server_error", "message": "no"}, "server_error", id="an error"),
        pytest.param({"type": "error", "error": {"code": "x", "message": "no"}}, "x", id="an error within"),
        pytest.param({"type": "response.failed", "response": {"error": {"code": "y"}}}, "y", id="a failure"),
        pytest.param(EVENTS[0], None, id="a beginning"),
        pytest.param([], None, id="no event"),
    ],
)
def test_the_fault_of_a_first_event(event, code):
    fault = fault_in(json.dumps(event).encode())
    assert (None if fault is None else fault["type"]) == code


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"7", b'{"id":7}', b'{"output":7}', b'{"output":[7],"usage":{"input_tokens":-1}}']
)
def test_what_is_no_response_says_nothing(raw):
    response = read_response(raw)
    assert response is None or tell(response)[:3] == ("", "stop", None)


def test_what_was_asked_is_told_as_a_chat():
    given = {
        "instructions": "Be brief.",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_file"}, 7]},
            {"type": "reasoning", "summary": []},
            {"type": "web_search_call", "action": {"query": "q"}},
            {"type": "custom_tool_call_output", "output": [{"type": "input_text", "text": "b"}]},
            {"type": "item_reference", "id": "msg_1"},
            "odd",
        ],
    }
    fields = msgspec.json.decode(json.dumps(given), type=dict[str, msgspec.Raw])
    assert json.loads(asked_as_chat(fields)) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "a[input_file]"},
        {"role": "assistant", "content": "[reasoning]"},
        {"role": "assistant", "content": '[web_search_call] {"query":"q"}'},
        {"role": "tool", "content": "b"},
        {"role": "assistant", "content": "[item_reference]"},
    ]


def test_of_a_stream_whose_middle_is_missing_the_rest_is_read():
    raw = stream()
    told = chunks_in(raw[: raw.index(b'"sequence_number": 4')] + raw[-300:])
    assert b'"content":"One"' in told
    assert b" end" not in told

"""The after rails on events of a stream, one by one."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slipway.domain.errors import Blocked, RequestInvalid
from slipway.domain.guardrail import Guardrails, RailSpec
from slipway.gateway.guarding import GuardedStream, check_completion, check_messages
from slipway.guard.checker import check
from slipway.wire.errors import UNREADABLE

REDACT = Guardrails(after=(RailSpec(name="personal_data", action="redact"),))
BLOCK = Guardrails(after=(RailSpec(name="personal_data", action="block"),))
PADDING = "All is well and nothing happens here at all, sentence after sentence. " * 8


def event(*choices: tuple[int, dict, str | None], **more) -> bytes:
    shaped = [{"index": index, "delta": delta, "finish_reason": finish} for index, delta, finish in choices]
    return b"data: " + json.dumps({"choices": shaped, **more}).encode() + b"\n\n"


def run(stream: GuardedStream, *pieces: bytes) -> tuple[dict[int, str], list[dict]]:
    out = b"".join(stream.feed(piece) for piece in pieces)
    events = [json.loads(line[6:]) for line in out.split(b"\n\n") if line.startswith(b"data: {")]
    texts: dict[int, str] = {}
    for one in events:
        for choice in one.get("choices") or []:
            texts[choice["index"]] = texts.get(choice["index"], "") + (choice["delta"].get("content") or "")
    return texts, events


def test_each_choice_is_watched_by_itself():
    stream = GuardedStream(REDACT, hold_back=64)
    texts, _ = run(
        stream,
        event((0, {"role": "assistant", "content": "mail a@b"}, None), (1, {"content": "x"}, None)),
        event((1, {"content": "@nothing"}, None)),
        event((0, {"content": ".eu now"}, None)),
        event((0, {}, "stop")),
        event((1, {}, "stop")),
    )
    assert texts == {0: "mail [EMAIL] now", 1: "x@nothing"}


def test_what_is_not_text_goes_through_at_once():
    stream = GuardedStream(REDACT, hold_back=64)
    sound = {"audio": {"id": "a", "data": "AAAA"}}
    _, events = run(
        stream,
        event((0, sound, None)),
        b": ping\n\n",
        event(usage={"total_tokens": 3}),
        b'data: {"error":{"message":"boom"}}\n\n',
        b"data: [DONE]\n\n",
    )
    assert events[0]["choices"][0]["delta"] == sound
    assert events[1]["usage"] == {"total_tokens": 3}
    assert events[2]["error"]["message"] == "boom"


CALLS = [
    {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "send", "arguments": ""}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": '{"to": "a@'}}]},
    {"tool_calls": [{"index": 1, "id": "c2", "type": "function", "function": {"name": "log", "arguments": "{}"}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": 'b.eu"}'}}]},
]
WHOLE_CALLS = [
    {"index": 0, "id": "c1", "type": "function", "function": {"name": "send", "arguments": '{"to": "a@b.eu"}'}},
    {"index": 1, "id": "c2", "type": "function", "function": {"name": "log", "arguments": "{}"}},
]


def test_calls_of_tools_go_out_whole_as_they_are_when_what_is_found_in_them_may_only_be_redacted():
    """A tool that gets [EMAIL] for an address is of no use; that there was one is told all the same."""
    stream = GuardedStream(REDACT, hold_back=64)
    first = event((0, {"role": "assistant", "content": "I write to x@y.eu"}, None))
    assert run(stream, first, *(event((0, call, None)) for call in CALLS))[1] == [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
    ]
    _, events = run(stream, event((0, {}, "tool_calls")))
    deltas = [one["choices"][0]["delta"] for one in events]
    assert deltas == [{"content": "I write to [EMAIL]"}, {"tool_calls": WHOLE_CALLS}, {}]
    assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert [verdict.decision for verdict in stream.verdicts] == ["redact", "flag", "allow"]


@pytest.mark.parametrize("calls", [CALLS, [{"function_call": {"name": "send", "arguments": '{"to": "a@b.eu"}'}}]])
def test_no_call_of_a_tool_goes_out_that_a_rail_blocks(calls):
    stream = GuardedStream(BLOCK, hold_back=64)
    assert not run(stream, *(event((0, call, None)) for call in calls))[1]
    with pytest.raises(Blocked, match="personal_data"):
        run(stream, event((0, {}, "tool_calls")))
    with pytest.raises(Blocked, match="personal_data"):
        check_completion(json.dumps({"choices": [{"message": joined(calls)}]}).encode(), BLOCK)


def joined(calls: list[dict]) -> dict:
    return calls[0] if "function_call" in calls[0] else {"tool_calls": WHOLE_CALLS}


def test_calls_that_nobody_says_are_complete_go_out_at_the_end():
    stream = GuardedStream(REDACT, hold_back=64)
    _, events = run(stream, *(event((0, call, None)) for call in CALLS), b"data: [DONE]\n\n")
    assert [one["choices"][0]["delta"] for one in events] == [{"tool_calls": WHOLE_CALLS}]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thoughts_are_watched_and_come_before_what_follows_them(field):
    stream = GuardedStream(REDACT, hold_back=64)
    pieces = ["The user is a@", "b.eu", ". ", PADDING, "Write to c@d.eu"]
    _, events = run(
        stream,
        *(event((0, {field: piece}, None)) for piece in pieces),
        event((0, {"content": "Hello ", "thinking_blocks": [{"type": "thinking", "signature": "s"}]}, None)),
        event((0, {"content": "e@f.eu"}, None)),
        event((0, {}, "stop")),
    )
    deltas = [one["choices"][0]["delta"] for one in events]
    thought = "".join(delta.get(field) or "" for delta in deltas)
    assert thought == f"The user is [EMAIL]. {PADDING}Write to [EMAIL]"
    assert "".join(delta.get("content") or "" for delta in deltas) == "Hello [EMAIL]"
    said = [at for at, delta in enumerate(deltas) if delta.get("content")]
    assert max(at for at, delta in enumerate(deltas) if delta.get(field)) <= min(said)
    assert not any("thinking_blocks" in delta for delta in deltas)


def test_parts_of_thoughts_are_watched_too():
    stream = GuardedStream(REDACT, hold_back=64)
    sealed = {"type": "reasoning.encrypted", "data": "xyz"}
    _, events = run(
        stream,
        event((0, {"reasoning_details": [{"type": "reasoning.text", "text": "It is a@"}]}, None)),
        event((0, {"reasoning_details": [{"type": "reasoning.text", "text": "b.eu."}, sealed]}, None)),
        event((0, {"content": "Hi"}, "stop")),
    )
    parts = [part for one in events for part in one["choices"][0]["delta"].get("reasoning_details") or ()]
    assert "".join(part.get("text") or "" for part in parts) == "It is [EMAIL]."
    assert sealed in parts


LENGTHS = Guardrails(after=(RailSpec(name="length", action="block", settings={"max_characters": 20}),))


def test_lengths_are_asked_of_the_answer_alone():
    stream = GuardedStream(LENGTHS, hold_back=64)
    thought = {"reasoning_content": PADDING, **CALLS[0]}
    _, events = run(stream, event((0, thought, None)), event((0, {"content": "Short."}, "stop")))
    assert events[0]["choices"][0]["delta"] == thought
    message = {"content": "Short.", "reasoning_content": PADDING, "tool_calls": WHOLE_CALLS}
    body = json.dumps({"choices": [{"message": message}]}).encode()
    assert check_completion(body, LENGTHS)[0] == body


def test_what_a_model_thinks_is_redacted_in_a_whole_answer():
    message = {
        "content": "Done.",
        "refusal": None,
        "reasoning_content": "It is a@b.eu",
        "reasoning_details": [{"type": "reasoning.summary", "summary": "a@b.eu"}],
        "thinking_blocks": [{"type": "thinking", "thinking": "It is a@b.eu", "signature": "s"}],
        "tool_calls": WHOLE_CALLS,
    }
    body, verdicts = check_completion(json.dumps({"choices": [{"message": message}]}).encode(), REDACT)
    out = json.loads(body)["choices"][0]["message"]
    assert out["reasoning_content"] == "It is [EMAIL]"
    assert out["reasoning_details"][0]["summary"] == "[EMAIL]"
    assert "thinking_blocks" not in out
    assert out["tool_calls"] == WHOLE_CALLS
    assert {verdict.decision for verdict in verdicts} == {"allow", "redact", "flag"}


def test_a_long_text_flows_before_it_ends():
    stream = GuardedStream(REDACT, hold_back=64)
    texts, _ = run(stream, event((0, {"content": PADDING}, None)))
    assert 0 < len(texts[0]) < len(PADDING)
    rest, _ = run(stream, event((0, {}, "stop")))
    assert texts[0] + rest[0] == PADDING


def test_what_was_sent_before_the_block_was_harmless():
    stream = GuardedStream(BLOCK, hold_back=64)
    texts, _ = run(stream, event((0, {"content": PADDING}, None)))
    with pytest.raises(Blocked, match="personal_data"):
        run(stream, event((0, {"content": "mail a@b.eu now"}, "stop")))
    assert "a@b" not in texts[0]


def test_tools_and_users_are_checked_the_system_is_trusted():
    rails = Guardrails(before=(RailSpec(name="personal_data", action="redact"),))
    messages = [
        {"role": "system", "content": "Our address is help@shop.eu."},
        {"role": "user", "content": "I am a@b.eu."},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "tool", "content": "found c@d.eu", "tool_call_id": "1"},
    ]
    rewritten, verdicts = check_messages(json.dumps(messages).encode(), rails)
    assert rewritten is not None
    texts = [message["content"] for message in json.loads(rewritten)]
    assert texts == ["Our address is help@shop.eu.", "I am [EMAIL].", None, "found [EMAIL]"]
    assert [verdict.source for verdict in verdicts] == ["user", "tool"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"choices":[{"message":{"content":"all well"}}]}', id="nothing found"),
        pytest.param(b'{"choices":[{"message":{"content":null,"tool_calls":[]}}]}', id="no text"),
        pytest.param(b'{"choices":null}', id="no choices"),
        pytest.param(b"[1]", id="another shape"),
    ],
)
def test_an_answer_without_findings_keeps_every_byte(body):
    assert check_completion(body, REDACT)[0] is body


SAID = st.lists(
    st.sampled_from(["Write to ", "a@b.eu", "4111 1111 ", "1111 1111", ". ", " and ", "+49 (0)30 1234-5678", "我的"]),
    max_size=9,
).map("".join)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(SAID, SAID),
    st.lists(st.integers(1, 9), min_size=1),
    st.lists(st.integers(1, 300), min_size=1),
    st.booleans(),
)
def test_however_two_choices_are_cut_each_reads_like_the_whole(
    texts: tuple[str, str], characters: list[int], bytes_: list[int], in_parts: bool
) -> None:
    raw, at, turn = b"", [0, 0], 0
    while any(at[index] < len(texts[index]) for index in (0, 1)):
        index, size = turn % 2, characters[turn % len(characters)]
        piece = texts[index][at[index] : at[index] + size]
        raw += event((index, {"content": [{"type": "text", "text": piece}] if in_parts else piece}, None))
        at[index], turn = at[index] + size, turn + 1
    stream, out, begin, turn = GuardedStream(REDACT, hold_back=32), b"", 0, 0
    while begin < len(raw):
        size = bytes_[turn % len(bytes_)]
        out, begin, turn = out + stream.feed(raw[begin : begin + size]), begin + size, turn + 1
    said = {0: "", 1: ""}
    for line in (out + stream.close()).split(b"\n\n"):
        for choice in json.loads(line[6:])["choices"] if line else ():
            content = choice["delta"]["content"]
            said[choice["index"]] += content if isinstance(content, str) else "".join(part["text"] for part in content)
    for index, text in enumerate(texts):
        assert said[index] == check(text, REDACT.after, source="answer").text


ODD = st.sampled_from([None, 1, -1, "", "x", [], [None], ["x"], [{"text": 5}], {}, {"a": 1}])
DELTA = st.fixed_dictionaries({}, optional={"content": ODD, "role": ODD, "tool_calls": ODD}) | ODD
CHOICE = (
    st.fixed_dictionaries({}, optional={"index": ODD, "delta": DELTA, "message": DELTA, "finish_reason": ODD}) | ODD
)
BODY = st.fixed_dictionaries({}, optional={"choices": st.lists(CHOICE, max_size=2) | ODD, "usage": ODD}) | ODD


@settings(max_examples=100, deadline=None)
@given(BODY)
@example({"choices": [1]})
def test_what_an_engine_sends_is_checked_or_cannot_be_read(body: Any) -> None:
    """Callers answer all of `UNREADABLE` with an error of the engine."""
    raw = json.dumps(body).encode()
    with suppress(*UNREADABLE):
        check_completion(raw, REDACT)
    with suppress(*UNREADABLE):
        stream = GuardedStream(REDACT, hold_back=32)
        stream.feed(b"data: %b\n\n" % raw)
        stream.close()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.fixed_dictionaries({}, optional={"role": st.just("user") | ODD, "content": ODD}) | ODD) | ODD)
@example("too deep")
def test_messages_of_any_shape_are_checked_or_refused(messages: Any) -> None:
    raw = b"[" * 5000 if messages == "too deep" else json.dumps(messages).encode()
    with suppress(RequestInvalid):
        check_messages(raw, REDACT)


def test_what_is_taken_out_of_a_text_does_not_stand_in_its_probabilities():
    told = {"content": [{"token": " a@b", "logprob": -0.1}, {"token": ".eu", "logprob": -0.1}]}
    clean = {"message": {"content": "All is well"}, "logprobs": told}
    choice = {"message": {"content": "mail a@b.eu now"}, "logprobs": told}
    body, _ = check_completion(json.dumps({"choices": [choice, clean]}).encode(), REDACT)
    redacted, as_it_was = json.loads(body)["choices"]
    assert redacted == {"message": {"content": "mail [EMAIL] now"}}
    assert as_it_was == clean
    stream = GuardedStream(REDACT, hold_back=64)
    one = {"index": 0, "delta": {"role": "assistant", "content": "mail a@b.eu"}, "logprobs": told}
    out = stream.feed(b"data: %b\n\n" % json.dumps({"choices": [one]}).encode()) + stream.close()
    assert b"a@b" not in out
    assert b"mail [EMAIL]" in out

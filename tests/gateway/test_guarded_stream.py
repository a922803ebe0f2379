"""The after rails on events of a stream, one by one."""

import json

import pytest

from slipway.domain.errors import Blocked
from slipway.domain.guardrail import Guardrails, RailSpec
from slipway.gateway.guarding import GuardedStream, check_completion, check_messages

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
    call = {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}
    _, events = run(
        stream,
        event((0, call, None)),
        b": ping\n\n",
        event(usage={"total_tokens": 3}),
        b'data: {"error":{"message":"boom"}}\n\n',
        b"data: [DONE]\n\n",
    )
    assert events[0]["choices"][0]["delta"] == call
    assert events[1]["usage"] == {"total_tokens": 3}
    assert events[2]["error"]["message"] == "boom"


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

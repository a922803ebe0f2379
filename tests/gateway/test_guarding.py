"""Guardrails on requests that are otherwise passed on as they are."""

import json

import openai
import pytest

from slipway.guard.parts import guardrails_from_settings
from slipway.release.channels import promote
from slipway.workspace import open_workspace

KEY = "sk-proj-Q2hlY2sgdGhpcyBrZXkgb3V0IG5vdyBwbGVhc2Uhmm4"
IBAN = "DE89 3704 0044 0532 0130 00"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, mock, tools):
    """Channels of plain releases with rails: `redacting`, `blocking`; and `talkative`, whose engine tells an IBAN."""
    folder = tools.make_application(tmp_path_factory.mktemp("guarded") / "lamps", mock.url)
    with open_workspace(folder) as workspace:
        for name, guard in tools.RAILS.items():
            rails = guardrails_from_settings(tools.with_guard(workspace, guard).settings)
            promote(workspace, tools.plain_release(workspace, guardrails=rails), name, force=True)
            leaky = tools.plain_release(workspace, model="secret", guardrails=rails)
            promote(workspace, leaky, f"{name}-leaky", force=True)
        with tools.serving(workspace) as served:
            yield served


def said(answer) -> str:
    events = [json.loads(line[6:]) for line in answer.text.split("\n\n") if line.startswith("data: {")]
    return "".join(choice["delta"].get("content") or "" for event in events for choice in event.get("choices") or [])


def test_a_secret_of_the_user_never_reaches_the_engine(guarded, upstream):
    messages = [
        {"role": "system", "content": "Be kind.", "name": "s"},
        {"role": "user", "content": [{"type": "text", "text": f"my key is {KEY}", "x": 1}]},
    ]
    answer = guarded.chat("redacting", messages=messages, temperature=0.5)
    assert answer.status_code == 200
    sent = upstream.state.requests[0]
    assert KEY not in json.dumps(sent)
    assert sent["messages"][0] == messages[0]
    assert sent["messages"][1]["content"][0]["x"] == 1
    assert sent["temperature"] == 0.5
    (span,) = guarded.trace(answer.headers["x-slipway-trace"])
    assert span.verdicts["secrets"] == "redact"
    assert KEY not in json.dumps(span.content)


def test_a_request_that_needs_no_redaction_is_unchanged(guarded, upstream):
    body = b'{"model":"redacting","messages":[ {"role" : "user","content":"hi"} ],"x":1.50}'
    assert guarded.post("/v1/chat/completions", body).status_code == 200
    assert upstream.state.requests[0] == json.loads(body) | {"model": "ok"}


def test_a_request_that_a_rail_blocks_is_a_400(guarded, upstream):
    with pytest.raises(openai.BadRequestError) as blocked:
        guarded.client.chat.completions.create(model="blocking", messages=[{"role": "user", "content": "x" * 600}])
    assert blocked.value.code == "content_filter"
    assert not upstream.state.requests
    (row, *_) = guarded.traces()
    assert row.status == "blocked"


def test_a_whole_answer_is_redacted(guarded):
    answer = guarded.chat("redacting-leaky")
    text = answer.json()["choices"][0]["message"]["content"]
    assert text.startswith("The account is [")
    assert text.endswith("thank you.")
    (span,) = guarded.trace(answer.headers["x-slipway-trace"])
    assert span.verdicts["personal_data"] == "redact"
    assert IBAN not in json.dumps(span.content)


def test_what_is_cut_into_pieces_is_still_found(guarded):
    answer = guarded.chat("redacting-leaky", stream=True)
    text = said(answer)
    assert "DE89" not in answer.text
    assert text.startswith("The account is [")
    assert text.endswith("thank you.")
    assert answer.text.endswith("data: [DONE]\n\n")


def test_a_blocked_answer_is_a_400(guarded):
    answer = guarded.chat("blocking-leaky")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "content_filter"


def test_a_stream_that_is_blocked_before_anything_was_sent_is_a_400(guarded):
    answer = guarded.chat("blocking-leaky", stream=True)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "content_filter"


def test_a_harmless_stream_is_complete(guarded):
    plain = guarded.chat("redacting", stream=True, stream_options={"include_usage": True})
    assert said(plain) == " ".join(f"word{number}" for number in range(50))
    assert '"usage"' in plain.text
    assert plain.text.endswith("data: [DONE]\n\n")
    chunks = guarded.client.chat.completions.create(
        model="redacting", messages=[{"role": "user", "content": "hi"}], stream=True
    )
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"

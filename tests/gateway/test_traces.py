"""Every request leaves a trace that says who asked, what was said and what it cost."""

import json
from dataclasses import replace

import msgspec
import pytest

from slipway.domain.errors import DiskFull
from slipway.release.channels import promote
from slipway.workspace import open_workspace

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
TEXT = " ".join(f"word{number}" for number in range(50))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_forwarded_request(served, stream):
    more = {"stream_options": {"include_usage": True}} if stream else {}
    answer = served.chat("plain", messages=MESSAGES, user="u-1", stream=stream, **more)
    (span,) = served.trace(answer.headers["x-slipway-trace"])
    assert (span.kind, span.status, span.channel, span.provider, span.model) == ("chat", "ok", "plain", "fast", "ok")
    assert span.release == answer.headers["x-slipway-release"]
    assert span.subject == "u-1"
    assert (span.input_tokens, span.output_tokens, span.usage_estimated) == (120, 50, False)
    assert span.response_model == "ok-2026"
    assert span.finish == "stop"
    assert span.content["messages"] == [{"role": "system", "text": "Be brief."}, {"role": "user", "text": "hi"}]
    assert span.content["reply"] == TEXT
    assert span.end_ns > span.start_ns
    assert (span.first_token_ns is not None) == stream


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_answer_from_documents(served, stream):
    messages = [{"role": "user", "content": "What does express shipping cost?"}]
    answer = served.chat("lamps", messages=messages, stream=stream, user="u-2")
    root, *steps = served.trace(answer.headers["x-slipway-trace"])
    assert (root.kind, root.status, root.channel, root.subject) == ("request", "ok", "lamps", "u-2")
    assert root.content["question"] == "What does express shipping cost?"
    assert root.content["citations"][0]["document"] == "shipping.md"
    assert {step.kind for step in steps} >= {"retrieval", "chat"}


def test_the_header_names_the_subject_before_the_body_does(served):
    answer = served.chat("plain", user="u-1", headers={"x-slipway-subject": "u-9", "x-slipway-session": "s-1"})
    (span,) = served.trace(answer.headers["x-slipway-trace"])
    assert (span.subject, span.session) == ("u-9", "s-1")


def test_requests_that_fail_are_recorded_too(served):
    for body, reason in ((b"{", "not JSON"), ({"model": "nobody", "messages": []}, "no model 'nobody'")):
        answer = served.post("/v1/chat/completions", body)
        (span,) = served.trace(answer.headers["x-slipway-trace"])
        assert span.status == "error"
        assert reason in span.error


def test_embeddings_are_recorded(served):
    answer = served.post("/v1/embeddings", {"model": "plain", "input": ["a", "b"]})
    (span,) = served.trace(answer.headers["x-slipway-trace"])
    assert (span.kind, span.status, span.input_tokens) == ("embeddings", "ok", 3)


def test_an_image_is_named_and_not_kept(served):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5000}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is this? "}, image]}]
    answer = served.chat("plain", messages=messages)
    (span,) = served.trace(answer.headers["x-slipway-trace"])
    assert span.content["messages"] == [{"role": "user", "text": "What is this? [image_url]"}]


def test_without_content_only_numbers_are_kept(folder, tools):
    with open_workspace(folder) as opened:
        privacy = msgspec.structs.replace(opened.settings.privacy, store_content=False)
        workspace = replace(opened, settings=msgspec.structs.replace(opened.settings, privacy=privacy))
        promote(workspace, tools.plain_release(workspace), "plain", force=True)
        promote(workspace, tools.documents_release(workspace), force=True)
        with tools.serving(workspace) as served:
            for model in ("plain", "lamps"):
                answer = served.chat(model, messages=[{"role": "user", "content": "a private matter"}])
                spans = served.trace(answer.headers["x-slipway-trace"])
                assert sum(span.output_tokens for span in spans) > 0
                assert "private" not in json.dumps([span.content for span in spans])


def test_a_full_disk_costs_the_trace_and_not_the_answer(served, monkeypatch):
    lost = served.gateway._counts.traces_lost

    def full(_payloads):
        raise DiskFull("journal")

    monkeypatch.setattr(served.gateway._journal, "append_all", full)
    assert served.chat("plain").status_code == 200
    assert served.chat("lamps", messages=[{"role": "user", "content": "shipping?"}]).status_code == 200
    assert served.gateway._counts.traces_lost == lost + 2

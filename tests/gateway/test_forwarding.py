"""The fast lane: byte for byte there and back, and every fault of an upstream told honestly."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from slipway.gateway.upstream_calls import ATTEMPTS
from slipway.upstream.client import HttpClient
from slipway.workspace import open_workspace


def test_what_the_client_sent_arrives_unchanged_but_for_the_model(served, upstream):
    body = (
        b'{"model":"plain","messages":[ {"role" : "user", "content":"h\\u00e9"} ],"temperature":1.0e0,'
        b'"unknown":{"a":[1,2.50]},"logit_bias":{"50256":-100}}'
    )
    assert served.post("/v1/chat/completions", body).status_code == 200
    sent = upstream.state.requests[0]
    assert sent == json.loads(body) | {"model": "ok"}
    assert b"authorization" not in upstream.state.headers[0]


def test_the_engine_gets_the_clients_bytes_where_the_name_is_its_own(served, upstream):
    direct = httpx.post(f"{upstream.url}/chat/completions", json={"model": "ok", "messages": []})
    through = served.chat("plain")
    assert through.content == direct.content
    assert through.headers["content-type"] == "application/json"


def test_a_stream_comes_back_byte_for_byte(served, upstream):
    asked = {"model": "ok", "messages": [], "stream": True, "stream_options": {"include_usage": True}}
    direct = httpx.post(f"{upstream.url}/chat/completions", json=asked)
    through = served.chat("plain", stream=True, stream_options={"include_usage": True})
    assert through.content == direct.content
    assert through.headers["content-type"].startswith("text/event-stream")


def test_the_trace_goes_on_to_the_engine(served, upstream):
    trace = "0af7651916cd43dd8448eb211c80319c"
    answer = served.chat("plain", headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    assert answer.headers["x-slipway-trace"] == trace
    sent = upstream.state.headers[0][b"traceparent"].decode().split("-")
    assert sent[1] == trace
    (span,) = served.trace(trace)
    assert span.parent == "b7ad6b7169203331"
    assert span.span == sent[2]


PASSED_ON = [
    pytest.param("400", 400, id="a wrong request"),
    pytest.param("404", 404, id="a model the engine does not have"),
    pytest.param("422", 422, id="wrong fields"),
    pytest.param("429", 429, id="too many requests, with a long Retry-After"),
    pytest.param("500", 500, id="an error inside the engine"),
    pytest.param("503", 503, id="an engine that is down for now"),
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("model", "status"), PASSED_ON)
def test_errors_of_the_engine_are_passed_on(served, upstream, model, status, stream):
    answer = served.chat(f"fast/{model}", stream=stream)
    assert answer.status_code == status
    assert answer.json()["error"]["message"] == f"mock says {status}"
    assert answer.headers.get("retry-after") == ("30" if status == 429 else None)
    asked = upstream.state.asked[model]
    assert asked == (ATTEMPTS if status >= 500 else 1)
    span, *attempts = served.trace(answer.headers["x-slipway-trace"])
    assert len(attempts) == (asked if asked > 1 else 0)
    assert span.status == "error"
    assert f"mock says {status}" in span.error


@pytest.mark.parametrize("status", ["401", "403"])
def test_that_our_own_key_was_refused_is_not_the_clients_fault(served, status):
    answer = served.chat(f"fast/{status}")
    assert answer.status_code == 502
    assert f"answered {status}" in answer.json()["error"]["message"]


FAULTS = [
    pytest.param("hang", 504, "first byte", id="hangs"),
    pytest.param("reset", 502, "cannot be reached", id="resets the connection"),
    pytest.param("garbage", 502, "not JSON", id="sends a web page"),
    pytest.param("short", 502, "in the middle", id="sends half a body"),
    pytest.param("drip", 504, "whole answer", id="drips"),
]


@pytest.mark.parametrize(("model", "status", "reason"), FAULTS)
def test_faults_become_clean_errors(served, model, status, reason):
    answer = served.chat(f"fast/{model}")
    assert answer.status_code == status
    error = answer.json()["error"]
    assert reason in error["message"]
    assert error["type"] == "server_error"
    span, *attempts = served.trace(answer.headers["x-slipway-trace"])
    assert (span.status, span.model) == ("error", model)
    assert all(attempt.parent == span.span and attempt.status == "error" for attempt in attempts)


STREAM_FAULTS = [
    pytest.param("late", "first byte", id="headers, then nothing"),
    pytest.param("hang", "first byte", id="nothing at all"),
    pytest.param("reset", "cannot be reached", id="resets the connection"),
    pytest.param("garbage", "not JSON", id="is a web page"),
]


@pytest.mark.parametrize(("model", "reason"), STREAM_FAULTS)
def test_before_the_first_byte_a_stream_fails_with_a_status(served, model, reason):
    answer = served.chat(f"fast/{model}", stream=True)
    assert answer.status_code in (502, 504)
    assert reason in answer.json()["error"]["message"]


BROKEN_STREAMS = [
    pytest.param("cut", "middle", id="is cut"),
    pytest.param("stall", "next piece", id="stops talking"),
    pytest.param("no-done", "middle", id="ends without finishing"),
    pytest.param("error-event", "out of memory", id="sends an error itself"),
]


@pytest.mark.parametrize(("model", "reason"), BROKEN_STREAMS)
def test_a_stream_that_breaks_ends_with_an_error_and_without_done(served, upstream, model, reason):
    answer = served.chat(f"fast/{model}", stream=True)
    assert answer.status_code == 200
    *words, error = [line for line in answer.text.split("\n\n") if line]
    assert len(words) == 6
    assert reason in json.loads(error.removeprefix("data: "))["error"]["message"]
    assert "[DONE]" not in answer.text
    assert upstream.state.asked[model] == 1  # nothing is repeated after the first byte
    (span,) = served.trace(answer.headers["x-slipway-trace"])
    assert span.status == "error"
    assert reason in span.error
    assert span.content["reply"] == "word0 word1 word2 word3 word4"
    assert span.usage_estimated


def test_a_second_address_of_the_same_model_answers_when_the_first_is_dead(served, upstream):
    for stream in (False, True):
        assert served.chat("pair/ok", stream=stream).status_code == 200
    assert upstream.state.asked["ok"] == 2


def test_a_dead_engine_is_named(served):
    answer = served.chat("dead/ok")
    assert answer.status_code == 502
    error = answer.json()["error"]
    assert error["code"] == "engine_unreachable"
    assert "[engines.dead]" in error["message"]


def test_when_all_is_down_few_requests_are_repeated(folder, upstream, tools):
    toml = folder / "slipway.toml"
    toml.write_text(toml.read_text() + "\n[routing]\nbreaker_failures = 0\n")
    with open_workspace(folder) as workspace, tools.serving(workspace) as served, httpx.Client() as client:
        for _ in range(60):
            client.post(f"{served.url}/v1/chat/completions", json={"model": "fast/reset", "messages": []})
    assert 60 < upstream.state.asked["reset"] <= 60 * 1.5


def test_an_engine_that_resets_kept_connections_is_asked_again_over_a_new_one(folder, upstream, tools):
    toml = folder / "slipway.toml"
    toml.write_text(toml.read_text() + "\n[routing]\nbreaker_failures = 0\nretry_share = 1.0\n")
    with open_workspace(folder) as workspace, tools.serving(workspace) as served, ThreadPoolExecutor(4) as threads:

        def ask(model):
            return httpx.post(
                f"{served.url}/v1/chat/completions", json={"model": f"fast/{model}", "messages": []}, timeout=30
            ).status_code

        assert list(threads.map(ask, ["slow-0.5"] * 4)) == [200] * 4  # four connections are kept
        assert ask("reset") == 502
    assert upstream.state.asked["reset"] == 3


@pytest.mark.parametrize("model", ["no-usage", "zero-usage"])
def test_usage_that_the_engine_does_not_count_is_estimated_and_marked(served, model):
    for stream in (False, True):
        answer = served.chat(f"fast/{model}", stream=stream)
        (span,) = served.trace(answer.headers["x-slipway-trace"])
        assert span.usage_estimated
        assert span.input_tokens > 0
        assert 50 <= span.output_tokens <= 150


async def test_an_answer_of_thirty_megabytes(patient):
    response = await HttpClient().send(
        "POST",
        f"{patient.url}/v1/chat/completions",
        headers=[("content-type", "application/json")],
        body=b'{"model":"fast/big","messages":[]}',
    )
    assert response.status == 200
    assert len(await response.read()) > 30_000_000

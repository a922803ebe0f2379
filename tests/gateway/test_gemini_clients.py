"""Clients of Google's Gemini API against the gateway: on releases with and without documents, and on Gemini itself."""

import json
import runpy
from pathlib import Path

import httpx
import pytest

from slipway.access.keys import create_key
from slipway.guard.parts import guardrails_from_settings
from slipway.release.channels import promote
from slipway.wire.sse import EventReader
from slipway.workspace import open_workspace

QUESTION = "What does express shipping cost?"
ANSWER = "Express shipping costs 12 euros [1]."
ASKED = {"contents": [{"role": "user", "parts": [{"text": QUESTION}]}]}
TOOLS = [{"functionDeclarations": [{"name": "weather", "parameters": {"type": "OBJECT"}}]}]


@pytest.fixture(scope="module")
def google(tmp_path_factory, mock, tools):
    """A gateway that asks for a key, and the header with it. Channels: `lamps`, `plain`, `gemini`, whose engine calls
    a function, and `blocking`, behind rails."""
    dialects = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "gateway" / "mock_dialects.py"))
    with dialects["MockDialects"]() as upstream:
        folder = tmp_path_factory.mktemp("google")
        (folder / "key").write_text("key")
        table = f'[engines.gemini]\nkind = "gemini"\nbase_url = "{upstream.url}/v1"\napi_key = "file:{folder}/key"\n'
        table += table.replace("engines.gemini", "engines.gone").replace(upstream.url, "http://127.0.0.1:1")
        table += '[routing.fallback.gone]\nto = ["fast/ok"]\n'
        folder = tools.make_application(folder / "lamps", mock.url, table)
        with open_workspace(folder) as workspace:
            promote(workspace, tools.plain_release(workspace), "plain", force=True)
            promote(workspace, tools.plain_release(workspace, engine="gemini", model="g"), "gemini", force=True)
            rails = guardrails_from_settings(tools.with_guard(workspace, tools.RAILS["blocking"]).settings)
            promote(workspace, tools.plain_release(workspace, guardrails=rails), "blocking", force=True)
            promote(workspace, tools.documents_release(workspace), force=True)
            _, key = create_key(workspace.store, "google")
            with tools.serving(workspace, keys_required=True) as served:
                yield served, {"x-goog-api-key": key}


def post(google, model, method="generateContent", body=ASKED, version="v1beta"):
    served, key = google
    return served.post(f"/{version}/models/{model}:{method}", body, headers=key)


def parts_of(answer):
    return answer["candidates"][0]["content"]["parts"]


@pytest.mark.parametrize("version", ["v1beta", "v1"])
@pytest.mark.parametrize("model", ["lamps", "lamps@4", "fast/ok"])
def test_an_answer_comes_whole_and_as_a_stream(google, model, version):
    answer = post(google, model, version=version)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    text = parts_of(told)[0]["text"]
    assert text == ANSWER or model == "fast/ok"
    assert told["candidates"][0]["finishReason"] == "STOP"
    assert told["modelVersion"] == model
    assert told["usageMetadata"]["totalTokenCount"] > 0
    assert answer.headers["x-slipway-trace"] == told["responseId"]
    stream = post(google, model, "streamGenerateContent?alt=sse", version=version)
    assert stream.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(data) for data in EventReader().feed(stream.content)]
    assert "".join(part["text"] for event in events for part in parts_of(event)) == text
    assert [event["candidates"][0].get("finishReason") for event in events][-2:] == [None, "STOP"]
    assert events[-1]["usageMetadata"]["totalTokenCount"] > 0


def test_a_call_of_a_function_and_its_result(google):
    asked = {"contents": [{"role": "user", "parts": [{"text": "How is the weather in Paris?"}]}], "tools": TOOLS}
    for method in ("generateContent", "streamGenerateContent?alt=sse"):
        answer = post(google, "gemini", method, asked)
        told = [answer.json()] if method == "generateContent" else map(json.loads, EventReader().feed(answer.content))
        (call,) = [part["functionCall"] for one in told for part in parts_of(one) if "functionCall" in part]
        assert call["name"] == "weather"
    result = {"functionResponse": {"name": "weather", "id": call["id"], "response": {"result": "sunny"}}}
    turns = [*asked["contents"], {"role": "model", "parts": [{"functionCall": call}]}, {"parts": [result]}]
    assert post(google, "gemini", body={"contents": turns, "tools": TOOLS}).status_code == 200


def test_the_seal_of_a_call_stays_with_gemini(google, mock):
    call = {"functionCall": {"name": "weather", "args": {}}, "thoughtSignature": "c2ln"}
    result = {"functionResponse": {"name": "weather", "response": {"result": "sunny"}}}
    turns = [*ASKED["contents"], {"role": "model", "parts": [call]}, {"parts": [result]}]
    answer = post(google, "gone/g", body={"contents": turns, "tools": TOOLS})
    assert answer.headers["x-slipway-fallback"] == "fast/ok"
    asked = mock.state.requests[-1]["messages"][1]["tool_calls"]
    assert asked == [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]


def test_it_is_recorded_like_every_chat(google):
    served, _ = google
    span = served.trace(post(google, "plain").headers["x-slipway-trace"])[0]
    assert (span.kind, span.status, span.channel) == ("chat", "ok", "plain")
    assert span.content["messages"][0]["text"] == QUESTION


def test_models_are_listed_and_tokens_estimated(google):
    served, key = google
    names = [model["name"] for model in httpx.get(f"{served.url}/v1beta/models", headers=key).json()["models"]]
    assert {"models/lamps", "models/plain"} <= set(names)
    assert httpx.get(f"{served.url}/v1beta/models/lamps", headers=key).json()["name"] == "models/lamps"
    newer = httpx.get(f"{served.url}/v1/models", headers=key | {"x-goog-api-client": "google-genai-sdk/3.6.1"})
    assert [model["name"] for model in newer.json()["models"]] == names
    assert "data" in httpx.get(f"{served.url}/v1/models", headers=key).json()
    for body in (ASKED, {"generateContentRequest": {"model": "models/lamps", **ASKED}}):
        counted = post(google, "lamps", "countTokens", body).json()
        assert counted == {"totalTokens": 6, "slipway": {"estimated": True}}


WRONG = [
    pytest.param("lamp", "generateContent", ASKED, 404, "NOT_FOUND", "Did you mean", id="an unknown model"),
    pytest.param("lamps", "generateContent", {"contents": []}, 400, "INVALID_ARGUMENT", "empty", id="nothing said"),
    pytest.param("lamps", "generateContent", b"{", 400, "INVALID_ARGUMENT", "not JSON", id="no JSON"),
    pytest.param("lamps", "streamGenerateContent", ASKED, 400, "INVALID_ARGUMENT", "alt=sse", id="a stream as a list"),
    pytest.param("lamps", "embedContent", ASKED, 404, "NOT_FOUND", "generateContent", id="another method"),
    pytest.param("lamps", "generateContent", ASKED | {"tools": TOOLS}, 400, "INVALID_ARGUMENT", "tools", id="tools"),
    pytest.param("dead/m", "generateContent", ASKED, 502, "UNAVAILABLE", "dead", id="an engine that is gone"),
]


@pytest.mark.parametrize(("model", "method", "body", "status", "word", "why"), WRONG)
def test_what_is_wrong_is_told_in_the_shape_of_google(google, model, method, body, status, word, why):
    answer = post(google, model, method, body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["status"]) == (status, status, word)
    assert why in error["message"]


def test_without_its_key_nobody_gets_in(google):
    served, _ = google
    answer = served.post("/v1beta/models/lamps:generateContent", ASKED)
    assert (answer.status_code, answer.json()["error"]["status"]) == (401, "UNAUTHENTICATED")


def test_guardrails_read_along(google):
    answer = post(google, "blocking", body={"contents": [{"parts": [{"text": "x" * 600}]}]})
    assert answer.status_code == 400
    assert "length" in answer.json()["error"]["message"]

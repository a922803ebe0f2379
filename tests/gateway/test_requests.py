"""What clients do wrong is told with the right status, and never with a 500."""

import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from slipway.gateway.bodies import bodies
from slipway.workspace import open_workspace

MESSAGES = [{"role": "user", "content": "hi"}]
CHAT, RESPONSES, EMBEDDINGS, FEEDBACK = "/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/feedback"

WRONG = [
    pytest.param(CHAT, b"", 400, None, id="an empty body"),
    pytest.param(CHAT, b"{not json", 400, None, id="no JSON"),
    pytest.param(CHAT, b"[1, 2]", 400, None, id="a list"),
    pytest.param(CHAT, b"[" * 50_000, 400, None, id="a tower of brackets"),
    pytest.param(CHAT, b'\xff\xfe{"model"', 400, None, id="bytes that are no text"),
    pytest.param(CHAT, {"messages": MESSAGES}, 400, "model", id="no model"),
    pytest.param(CHAT, {"model": 7, "messages": MESSAGES}, 400, "model", id="a number as model"),
    pytest.param(CHAT, {"model": "", "messages": MESSAGES}, 400, "model", id="an empty model"),
    pytest.param(CHAT, {"model": "nobody", "messages": MESSAGES}, 404, "model", id="an unknown model"),
    pytest.param(CHAT, {"model": "lamps@99", "messages": MESSAGES}, 404, "model", id="an unknown release"),
    pytest.param(CHAT, {"model": "nobody/ok", "messages": MESSAGES}, 404, "model", id="an unknown engine"),
    pytest.param(CHAT, {"model": "lamps"}, 400, "messages", id="no messages"),
    pytest.param(CHAT, {"model": "lamps", "messages": "hi"}, 400, "messages", id="a text as messages"),
    pytest.param(CHAT, {"model": "lamps", "messages": []}, 400, "messages", id="no message at all"),
    pytest.param(
        CHAT, {"model": "lamps", "messages": [{"role": "system", "content": "x"}]}, 400, "messages", id="no question"
    ),
    pytest.param(CHAT, {"model": "lamps", "messages": MESSAGES, "stream": "yes"}, 400, "stream", id="stream: yes"),
    pytest.param(CHAT, {"model": "plain", "messages": MESSAGES, "stream": 1}, 400, "stream", id="stream: 1, forwarded"),
    pytest.param(CHAT, {"model": "plain", "messages": MESSAGES, "user": 7}, 400, "user", id="a number as user"),
    pytest.param(CHAT, {"model": "plain", "messages": MESSAGES, "user": "x" * 500}, 400, "user", id="a novel as user"),
    pytest.param(CHAT, {"model": "lamps", "messages": MESSAGES, "n": 2}, 400, "n", id="two answers from documents"),
    pytest.param(
        CHAT, {"model": "lamps", "messages": MESSAGES, "tools": [{}]}, 400, "tools", id="tools from documents"
    ),
    pytest.param(
        CHAT,
        {"model": "lamps", "messages": MESSAGES, "response_format": {"type": "json_object"}},
        400,
        "response_format",
        id="JSON from documents",
    ),
    pytest.param(
        CHAT,
        {"model": "lamps", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        400,
        "messages",
        id="an image for a model of texts",
    ),
    pytest.param(RESPONSES, {"model": "lamps"}, 400, "input", id="responses without input"),
    pytest.param(RESPONSES, {"model": "lamps", "input": 7}, 400, "input", id="responses with a number"),
    pytest.param(RESPONSES, {"model": "nobody", "input": "hi"}, 404, "model", id="responses of nobody"),
    pytest.param(
        RESPONSES,
        {"model": "fast/ok", "input": "hi", "previous_response_id": "resp_1"},
        400,
        "previous_response_id",
        id="responses that lean on an earlier one",
    ),
    pytest.param(
        RESPONSES,
        {"model": "lamps", "input": "hi", "previous_response_id": "resp_1"},
        400,
        "previous_response_id",
        id="state that is not kept",
    ),
    pytest.param(RESPONSES, {"model": "lamps", "input": "hi", "tools": [{}]}, 400, "tools", id="responses with tools"),
    pytest.param(EMBEDDINGS, {"model": "lamps", "input": []}, 400, "input", id="no text to embed"),
    pytest.param(EMBEDDINGS, {"model": "lamps", "input": [[1, 2]]}, 400, "input", id="numbers of tokens"),
    pytest.param(FEEDBACK, {"trace": "0" * 32}, 400, "score", id="feedback without a word"),
    pytest.param(FEEDBACK, {"score": 1}, 400, "trace", id="feedback on nothing"),
    pytest.param(FEEDBACK, {"trace": "0" * 32, "score": 2}, 400, "score", id="a score above 1"),
    pytest.param(FEEDBACK, {"trace": "0" * 32, "thumbs": "sideways"}, 400, "thumbs", id="a thumb sideways"),
    pytest.param(FEEDBACK, {"trace": "0" * 32, "scroe": 1}, 400, "scroe", id="a misspelt field"),
]


@pytest.mark.parametrize(("path", "body", "status", "param"), WRONG)
def test_wrong_requests(served, path, body, status, param):
    answer = served.post(path, body)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert (error["param"] or "").split("[")[0] == (param or "")
    assert error["message"]
    assert answer.headers["x-request-id"]


def test_a_wrong_method_and_an_unknown_path(served):
    wrong = httpx.get(f"{served.url}{CHAT}")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert httpx.post(f"{served.url}/v1/models").status_code == 405
    unknown = httpx.get(f"{served.url}/v1/assistants")
    assert unknown.status_code == 404
    assert CHAT in unknown.json()["error"]["message"]


def test_a_request_id_is_kept_where_it_is_harmless(served):
    assert served.chat("plain", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert served.chat("plain", headers={"x-request-id": "a b<>"}).headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("length_known", [True, False], ids=["its length is told", "in chunks"])
def test_a_body_that_is_too_large(served, length_known):
    big = json.dumps({"model": "plain", "messages": [{"role": "user", "content": "x" * 3_000_000}]}).encode()
    content = big if length_known else (big[start : start + 65536] for start in range(0, len(big), 65536))
    answer = httpx.post(f"{served.url}{CHAT}", content=content)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"
    assert served.chat("plain").status_code == 200


def test_a_client_that_asks_first_is_told_at_once_that_its_body_is_too_large(served):
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as raw:
        raw.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
            b"content-length: 64000000\r\nexpect: 100-continue\r\n\r\n"
        )
        assert raw.recv(1000).startswith(b"HTTP/1.1 413")


def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(served, until):
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as raw:
        raw.sendall(b'POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 1000\r\n\r\n{"model"')
    assert served.chat("plain").status_code == 200
    assert until(lambda: "slipway_in_flight 0" in httpx.get(f"{served.url}/metrics").text)


def test_a_worker_holds_only_so_much_of_bodies_at_once(folder, tools, upstream):
    toml = folder / "slipway.toml"
    toml.write_text(re.sub(r"max_body_mb = \S+", "max_body_mb = 8\nbodies_mb = 2", toml.read_text()))
    with open_workspace(folder) as workspace, tools.serving(workspace) as served, ThreadPoolExecutor(8) as threads:

        def ask(model: str, megabytes: float) -> httpx.Response:
            messages = [{"role": "user", "content": "x" * int(megabytes * 1_000_000)}]
            body = {"model": f"fast/{model}", "messages": messages}
            return httpx.post(f"{served.url}/v1/chat/completions", json=body, timeout=30)

        answers = list(threads.map(ask, ["slow-0.6"] * 8, [0.9] * 8))
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 503}
        assert statuses.count(200) >= 2
        refused = next(answer for answer in answers if answer.status_code == 503)
        assert refused.json()["error"]["code"] == "overloaded"
        assert refused.headers["retry-after"] == "1"
        # Short ones are not concerned, and one alone may be longer than all together.
        slow = threads.submit(ask, "slow-0.6", 1.9)
        time.sleep(0.3)
        assert ask("ok", 0.001).status_code == 200
        assert slow.result().status_code == 200
        assert ask("ok", 5).status_code == 200
    assert bodies.held == 0

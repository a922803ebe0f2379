"""The tail of providers, with the real any-llm against an upstream of OpenAI's shape, through the real gateway.

any-llm wants an older client of Anthropic's than other tests do, so this runs in an environment of its own:

    python3 -m venv tail && tail/bin/pip install -e '.[providers]' 'any-llm-sdk[openai]' pytest-asyncio hypothesis
    tail/bin/python -m pytest tests/engines/test_any_llm.py
"""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import httpx
import pytest

from slipway.config.secrets import Secret
from slipway.domain.errors import BackendSettingInvalid, ConnectFailed, UpstreamTimeout
from slipway.domain.guardrail import Guardrails, RailSpec
from slipway.engines.base import engines
from slipway.release.channels import promote
from slipway.upstream.client import HttpClient
from slipway.upstream.slow_lane import SlowLane
from slipway.workspace import open_workspace
from tests.gateway import conftest as gateway

pytest.importorskip("any_llm", reason="any-llm-sdk, the extra `providers`, is not installed")
pytest.importorskip("openai")

mock, tools, until = gateway.mock, gateway.tools, gateway.until
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
RAILS = Guardrails(after=(RailSpec(name="personal_data", action="redact"),))


@pytest.fixture
def upstream(mock):
    mock.state.__init__()
    return mock


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, mock, tools):
    folder = tmp_path_factory.mktemp("tail")
    (folder / "key").write_text("sk-tail")

    def table(name: str, url: str, more: str = "") -> str:
        return (
            f'[engines.{name}]\nkind = "any_llm"\nprovider = "openai"\nbase_url = "{url}"\n'
            f'api_key = "file:{folder / "key"}"\n{more}'
        )

    quick = "first_byte_s = 1.5\nidle_s = 1.5\ntotal_s = 5\n"
    tables = table("tail", mock.url, quick) + table("nobody", "http://127.0.0.1:1/v1")
    tables += table("slow", mock.url, "idle_s = 60\ntotal_s = 1\n")
    tables += '[routing.fallback.nobody]\nto = ["fast/ok"]\n'
    app: Path = tools.make_application(folder / "lamps", mock.url, tables)
    with open_workspace(app) as workspace:
        promote(workspace, tools.plain_release(workspace, engine="tail"), "tail", force=True)
        secret = tools.plain_release(workspace, engine="tail", model="secret", guardrails=RAILS)
        promote(workspace, secret, "guarded", force=True)
        with tools.serving(workspace) as served:
            yield served


def text_of(stream: str) -> str:
    chunks = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices") or ())


def test_an_answer_whole_with_what_was_asked_and_its_usage(served, upstream):
    answer = served.chat("tail", temperature=0.5, max_tokens=7, tools=[TOOL], seed=3)
    assert answer.status_code == 200, answer.text
    choice = answer.json()["choices"][0]
    assert choice["message"]["content"].startswith("word0 word1")
    assert choice["finish_reason"] == "stop"
    assert answer.json()["usage"]["prompt_tokens"] == 120
    (asked,) = upstream.state.requests
    assert (asked["model"], asked["temperature"], asked["tools"], asked["seed"]) == ("ok", 0.5, [TOOL], 3)
    assert upstream.state.headers[0][b"authorization"] == b"Bearer sk-tail"
    (span,) = served.trace(answer.headers["x-slipway-trace"])
    assert (span.provider, span.input_tokens, span.output_tokens) == ("tail", 120, 50)


def test_an_answer_as_a_stream(served):
    answer = served.chat("tail/details", stream=True, stream_options={"include_usage": True})
    assert text_of(answer.text).endswith("word48 word49")
    assert answer.text.rstrip().endswith("data: [DONE]")
    (span,) = served.trace(answer.headers["x-slipway-trace"])
    assert (span.status, span.output_tokens, span.cached_tokens) == ("ok", 50, 40)


def test_clients_of_other_apis_and_guardrails_reach_it_too(served):
    body = {"model": "tail", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    assert served.post("/v1/messages", body).json()["content"][0]["text"].startswith("word0")
    for stream in (False, True):
        answer = served.chat("guarded", stream=stream)
        said = text_of(answer.text) if stream else answer.json()["choices"][0]["message"]["content"]
        assert "DE89" not in said
        assert said.startswith("The account is")


@pytest.mark.parametrize("status", [400, 401, 404, 422, 429, 500, 503])
def test_what_the_provider_refuses_keeps_its_status(served, upstream, status):
    answer = served.chat(f"tail/{status}")
    # Our own key refused is nobody's business but ours.
    assert answer.status_code == (502 if status == 401 else status), answer.text
    assert upstream.state.asked[str(status)] <= 2
    if status == 429:
        assert answer.headers["retry-after"] == "30"


@pytest.mark.parametrize(("fault", "stream"), [("hang", False), ("late", True)])
def test_it_has_deadlines_of_its_own_and_cancels_what_it_gave_up(served, upstream, fault, stream):
    answer = served.chat(f"tail/{fault}", stream=stream)
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "engine_timeout"
    assert upstream.wait_cancelled(fault, within_s=30)


@pytest.mark.parametrize(
    ("model", "why"), [("tail/stall", "next piece"), ("tail/cut", ""), ("slow/trickle", "whole answer")]
)
def test_a_stream_that_breaks_is_an_error_without_an_end(served, upstream, model, why):
    answer = served.chat(model, stream=True)
    assert "word4" in answer.text
    assert "[DONE]" not in answer.text
    assert why in json.loads(answer.text.rpartition("data: ")[2])["error"]["message"]


def test_nobody_there_is_answered_by_the_fallback(served):
    answer = served.chat("nobody/ok")
    assert answer.status_code == 200
    assert answer.headers["x-slipway-fallback"] == "fast/ok"


def test_a_client_that_leaves_cancels_the_call(served, upstream):
    body = {"model": "tail/hang", "messages": [{"role": "user", "content": "hi"}]}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{served.url}/v1/chat/completions", json=body, timeout=0.5)
    assert upstream.wait_cancelled("hang", within_s=30)


def test_a_field_that_any_llm_cannot_pass_on_is_the_clients_error(served):
    answer = served.chat("tail", a_field_that_nobody_knows=1)
    assert answer.status_code == 400
    assert "a_field_that_nobody_knows" in answer.json()["error"]["message"]


def test_its_work_is_done_in_a_thread_of_its_own(served, upstream):
    served.chat("tail")
    assert "slipway any-llm" in {thread.name for thread in threading.enumerate()}


def test_a_provider_that_there_is_not_is_named_at_once():
    with pytest.raises(BackendSettingInvalid, match=r"knows no provider 'mistrall'\. Did you mean 'mistral'"):
        engines.make("any_llm", {"provider": "mistrall"})
    with pytest.raises(BackendSettingInvalid, match="provider"):
        engines.make("any_llm", {})


async def test_a_provider_whose_package_is_missing_says_which_one():
    engine = engines.make("any_llm", {"provider": "cerebras", "api_key": Secret("k")})
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
    with pytest.raises(ConnectFailed, match="pip install any-llm-sdk\\[cerebras\\]"):
        await engine.send_chat(HttpClient(), body)


async def test_calls_beyond_its_places_wait_their_turn_and_give_up_in_time(upstream, until, monkeypatch):
    engines.load("any_llm")
    monkeypatch.setattr("slipway.engines.any_llm.LANE", SlowLane("narrow", at_once=1))
    settings = {"provider": "openai", "base_url": upstream.url, "api_key": Secret("k"), "first_byte_s": 1.0}
    engine = engines.make("any_llm", settings)

    async def ask(model: str) -> bytes:
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]}).encode()
        return await (await engine.send_chat(HttpClient(), body)).read()

    first = asyncio.create_task(ask("hang"))
    assert await asyncio.to_thread(until, lambda: upstream.state.asked["hang"] == 1)
    second = asyncio.create_task(ask("ok"))
    with pytest.raises(UpstreamTimeout):
        await first
    assert b"word49" in await second

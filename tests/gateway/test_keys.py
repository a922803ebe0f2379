"""API keys: who gets in, what they may do, how much of it."""

from datetime import timedelta

import httpx
import openai
import pytest

from slipway.access.keys import change_models, create_key, revoke_key
from slipway.domain.access import Limits
from slipway.release.channels import promote
from slipway.workspace import open_workspace


@pytest.fixture(scope="module")
def locked(tmp_path_factory, mock, tools):
    """A gateway that asks for keys."""
    folder = tools.make_application(tmp_path_factory.mktemp("locked") / "lamps", mock.url)
    with open_workspace(folder) as workspace:
        promote(workspace, tools.plain_release(workspace), "plain", force=True)
        with tools.serving(workspace, keys_required=True) as served:
            yield served


@pytest.fixture
def new_key(locked, until):
    """Makes a key and waits until the gateway knows it."""

    def make(name: str, **more) -> str:
        key, text = create_key(locked.workspace.store, name, **more)
        assert until(lambda: key.hash in locked.gateway.snapshot.keys)
        return text

    return make


def chat(locked, text: str) -> httpx.Response:
    return locked.chat("plain", headers={"authorization": f"Bearer {text}"} if text else {})


def test_without_a_key_nobody_gets_in(locked):
    for headers in ({}, {"authorization": "Bearer sk-wrong"}, {"authorization": "Basic abc"}, {"authorization": ""}):
        answer = locked.chat("plain", headers=headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
    with pytest.raises(openai.AuthenticationError):
        locked.client.models.list()
    assert httpx.get(f"{locked.url}/healthz").status_code == 200


def test_with_a_key_everything_works(locked, new_key):
    text = new_key("good")
    client = openai.OpenAI(base_url=f"{locked.url}/v1", api_key=text, max_retries=0)
    assert client.chat.completions.create(model="plain", messages=[{"role": "user", "content": "hi"}]).choices
    assert [model.id for model in client.models.list()]


def test_the_key_never_reaches_the_engine(locked, new_key, upstream):
    text = new_key("discreet")
    chat(locked, text)
    assert all(text.encode() not in value for headers in upstream.state.headers for value in headers.values())


def test_a_key_for_feedback_may_not_chat(locked, new_key):
    text = new_key("narrow", scopes=["feedback"])
    answer = chat(locked, text)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "insufficient_scope"


def test_an_expired_key_is_out(locked, new_key):
    text = new_key("old", expires_at=locked.workspace.now() - timedelta(seconds=1))
    assert chat(locked, text).status_code == 401


def test_a_revoked_key_is_out_within_moments(locked, new_key, until):
    text = new_key("fired")
    assert chat(locked, text).status_code == 200
    revoke_key(locked.workspace.store, "fired")
    assert until(lambda: chat(locked, text).status_code == 401)


def test_requests_a_minute(locked, new_key):
    text = new_key("slow", limits=Limits(requests_per_minute=3))
    answers = [chat(locked, text) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[-1].json()["error"]["type"] == "rate_limit_error"
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60


def test_tokens_a_minute_count_what_was_used(locked, new_key):
    text = new_key("wordy", limits=Limits(tokens_per_minute=200))
    # One request costs 170 tokens, which is known afterwards; the second one goes below zero.
    assert [chat(locked, text).status_code for _ in range(2)] == [200, 200]


def test_requests_a_month(locked, new_key):
    text = new_key("modest", limits=Limits(monthly_requests=2))
    assert [chat(locked, text).status_code for _ in range(3)] == [200, 200, 429]


FOREIGN = [
    pytest.param({"origin": "https://evil.example"}, id="a page of another site"),
    pytest.param({"origin": "null"}, id="a page without a site"),
    pytest.param({"host": "evil.example"}, id="a name that was rebound to this machine"),
    pytest.param({"host": "evil.example:8080"}, id="the same with a port"),
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_without_keys_web_pages_of_others_are_refused(served, headers):
    answer = served.chat("plain", headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "foreign_site"


def test_without_keys_our_own_pages_and_proxies_may_call(served):
    host = served.url.removeprefix("http://")
    for headers in ({"origin": served.url}, {"host": "localhost:1"}, {"host": host}):
        assert served.chat("plain", headers=headers).status_code == 200
    behind_a_proxy = {"host": "chat.example.org", "x-forwarded-for": "203.0.113.7"}
    assert served.chat("plain", headers=behind_a_proxy).status_code == 200


def test_with_keys_a_web_page_that_has_one_may_call(locked, new_key):
    text = new_key("page")
    headers = {"authorization": f"Bearer {text}", "origin": "https://chat.example.org"}
    assert locked.chat("plain", headers=headers).status_code == 200


@pytest.fixture
def narrow(locked, new_key):
    """A client whose key may call the channel `plain` and nothing else."""
    text = new_key("one-model", models=["plain"], limits=Limits(requests_per_minute=1000))
    yield openai.OpenAI(base_url=f"{locked.url}/v1", api_key=text, max_retries=0)
    revoke_key(locked.workspace.store, "one-model")


def test_a_key_calls_the_models_that_are_named_and_no_others(locked, narrow, upstream):
    label = next(iter(locked.gateway.snapshot.by_label))
    asked = [{"role": "user", "content": "hi"}]
    for stream in (False, True):
        assert narrow.chat.completions.create(model="plain", messages=asked, stream=stream)
    before = dict(upstream.state.asked)
    calls = [
        lambda name: narrow.chat.completions.create(model=name, messages=asked),
        lambda name: narrow.chat.completions.create(model=name, messages=asked, stream=True),
        lambda name: narrow.responses.create(model=name, input="hi"),
        lambda name: narrow.embeddings.create(model=name, input="hi"),
        lambda name: narrow.post("/messages", body={"model": name, "max_tokens": 5, "messages": asked}, cast_to=object),
        lambda name: narrow.post("/messages/count_tokens", body={"model": name, "messages": asked}, cast_to=object),
    ]
    for name in (label, locked.gateway.snapshot.by_label[label]):
        for call in calls:
            with pytest.raises(openai.PermissionDeniedError, match="may not call"):
                call(name)
    assert dict(upstream.state.asked) == before
    assert [model.id for model in narrow.models.list()] == ["plain"]
    with pytest.raises(openai.NotFoundError):
        narrow.models.retrieve(label)


def test_a_release_is_allowed_by_its_name_and_called_by_its_id(locked, new_key, until):
    label, id = next(iter(locked.gateway.snapshot.by_label.items()))
    text = new_key("by-name", models=["support*", label])
    for name, status in ((label, 200), (id, 200), ("plain", 403)):
        assert locked.chat(name, headers={"authorization": f"Bearer {text}"}).status_code == status, name
    key = change_models(locked.workspace.store, "by-name", [])
    assert until(lambda: locked.gateway.snapshot.keys[key.hash].models == ())
    assert locked.chat("plain", headers={"authorization": f"Bearer {text}"}).status_code == 200

"""Azure's clients of the OpenAI API, unmodified: deployments in the path, the key in `api-key`."""

import io

import httpx
import openai
import pytest

from slipway.access.keys import create_key
from slipway.gateway.app import HANDLERS
from slipway.gateway.azure import read_path
from slipway.release.channels import promote
from slipway.workspace import open_workspace

from .test_operations import SOUND, an_engine, last_seen

VERSION = "2024-10-21"
HELLO = [{"role": "user", "content": "What does express shipping cost?"}]
ANSWER = "Express shipping costs 12 euros [1]."


@pytest.fixture(scope="module")
def engine():
    with an_engine() as server:
        yield server


@pytest.fixture(scope="module")
def azure(tmp_path_factory, engine, mock, tools):
    """A gateway that asks for a key, and the key. Channels: `lamps`, `plain`, and `all`, whose engine does the rest."""
    url = f"http://127.0.0.1:{engine.server_address[1]}/v1"
    more = f'[engines.all]\nkind = "openai"\nbase_url = "{url}"\n'
    folder = tools.make_application(tmp_path_factory.mktemp("azure") / "lamps", mock.url, more)
    with open_workspace(folder) as workspace:
        promote(workspace, tools.plain_release(workspace), "plain", force=True)
        promote(workspace, tools.plain_release(workspace, engine="all"), "all", force=True)
        promote(workspace, tools.documents_release(workspace), force=True)
        _, key = create_key(workspace.store, "azure")
        with tools.serving(workspace, keys_required=True) as served:
            yield served, key


def client(azure, **more):
    served, key = azure
    given = {"azure_endpoint": served.url, "api_version": VERSION, "api_key": key, "max_retries": 0}
    return openai.AzureOpenAI(**given | more)


@pytest.mark.parametrize("model", ["lamps", "lamps@3"])
def test_a_model_is_a_deployment(azure, model):
    completion = client(azure).chat.completions.create(model=model, messages=HELLO)
    assert completion.choices[0].message.content == ANSWER
    stream = client(azure).chat.completions.create(model=model, messages=HELLO, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == ANSWER


def test_the_deployment_counts_whatever_the_body_says(azure):
    named = client(azure, azure_deployment="lamps")
    assert named.chat.completions.create(model="gpt-4o", messages=HELLO).choices[0].message.content == ANSWER
    served, key = azure
    bare = f"/openai/deployments/lamps/chat/completions?api-version={VERSION}"
    answer = served.post(bare, {"messages": HELLO}, headers={"api-key": key})
    assert answer.json()["choices"][0]["message"]["content"] == ANSWER
    assert answer.json()["model"] == "lamps"


def test_what_else_is_deployed(azure, engine):
    past_releases = client(azure).chat.completions.create(model="fast/ok", messages=HELLO)
    assert past_releases.choices[0].message.content
    vectors = client(azure).embeddings.create(model="plain", input=["a", "b"])
    assert len(vectors.data) == 2
    assert client(azure).completions.create(model="all", prompt="Once").choices[0].text == "One two three."
    assert client(azure).images.generate(model="all", prompt="a lamp").data[0].b64_json
    assert client(azure).audio.speech.create(model="all", voice="alloy", input="Hello").read() == SOUND
    for named in ({}, {"azure_deployment": "all"}):
        recording = ("a.wav", io.BytesIO(b"RIFF" * 100), "audio/wav")
        heard = client(azure, **named).audio.transcriptions.create(model="all", file=recording, prompt="lamps")
        assert heard.text == "One two three."
        assert last_seen(engine)[0] == {"model": "ok", "prompt": "lamps"}


def test_a_form_without_a_model_gets_the_deployments(azure, engine):
    served, key = azure
    path = "/openai/deployments/all/audio/transcriptions"
    heard = httpx.post(f"{served.url}{path}", files={"file": b"RIFF"}, headers={"api-key": key})
    assert heard.json()["text"] == "One two three."
    assert last_seen(engine)[0] == {"model": "ok"}


def test_what_has_no_deployment_in_its_path(azure):
    served, key = azure
    assert client(azure).responses.create(model="lamps", input="What does express shipping cost?").output_text == ANSWER
    assert "lamps" in [model.id for model in client(azure).models.list()]
    newer = openai.OpenAI(base_url=f"{served.url}/openai/v1/", api_key=key, max_retries=0)
    assert newer.chat.completions.create(model="lamps", messages=HELLO).choices[0].message.content == ANSWER


def test_what_is_wrong_is_told(azure):
    with pytest.raises(openai.NotFoundError, match=r"no model .lamp.\. Did you mean .lamps."):
        client(azure).chat.completions.create(model="lamp", messages=HELLO)
    with pytest.raises(openai.AuthenticationError):
        client(azure, api_key="nope").chat.completions.create(model="lamps", messages=HELLO)
    served, key = azure
    for path in ("/openai/deployments/lamps/nothing", "/openai/nothing", "/openai/deployments/"):
        answer = served.post(path, {}, headers={"api-key": key})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_path")
    chat = "/openai/deployments/lamps/chat/completions"
    assert httpx.get(f"{served.url}{chat}").status_code == 405
    assert served.post(chat, b"{", headers={"api-key": key}).status_code == 400
    assert served.post(chat, b"[]", headers={"api-key": key}).status_code == 400


def test_it_is_counted_and_recorded_as_what_it_is(azure):
    raw = client(azure).chat.completions.with_raw_response.create(model="lamps", messages=HELLO)
    span = azure[0].trace(raw.headers["x-slipway-trace"])[0]
    assert (span.status, span.channel) == ("ok", "lamps")


def test_langchains_client_of_azure(azure):
    langchain = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")
    served, key = azure
    given = {"azure_endpoint": served.url, "api_version": VERSION, "api_key": key, "max_retries": 0}
    chat = langchain.AzureChatOpenAI(azure_deployment="lamps", model="gpt-4o", **given)
    assert chat.invoke("What does express shipping cost?").text == ANSWER
    assert "".join(piece.text for piece in chat.stream("What does express shipping cost?")) == ANSWER
    embedded = langchain.AzureOpenAIEmbeddings(azure_deployment="plain", check_embedding_ctx_length=False, **given)
    assert len(embedded.embed_documents(["a", "b"])) == 2


PATHS = [
    ("/openai/deployments/a/chat/completions", "/v1/chat/completions", "a"),
    ("/openai/deployments/a/b/chat/completions", "/v1/chat/completions", "a/b"),
    ("/openai/deployments/a/completions", "/v1/completions", "a"),
    ("/openai/deployments/chat/completions", "/v1/completions", "chat"),
    ("/openai/v1/responses", "/v1/responses", ""),
    ("/openai/models/a", "/v1/models/a", ""),
    ("/openai/deployments//chat/completions", "/openai/deployments//chat/completions", ""),
    ("/openai/deployments", "/v1/deployments", ""),
]


@pytest.mark.parametrize(("path", "there", "deployment"), PATHS)
def test_where_a_path_leads(path, there, deployment):
    assert read_path(path, HANDLERS) == (there, deployment)

"""The official OpenAI client, unmodified, against the gateway."""

import base64
from dataclasses import replace
from pathlib import Path

import numpy
import openai
import pytest

from slipway.embedders.openai import OpenAIEmbedder
from slipway.workspace import open_workspace

HELLO = [{"role": "user", "content": "What does express shipping cost?"}]
TEXT = " ".join(f"word{number}" for number in range(50))
ANSWER = "Express shipping costs 12 euros [1]."


@pytest.mark.parametrize(("model", "text"), [("plain", TEXT), ("lamps", ANSWER)])
def test_chat(served, model, text):
    completion = served.client.chat.completions.create(model=model, messages=HELLO)
    assert completion.choices[0].message.content == text
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.total_tokens > 0


@pytest.mark.parametrize(("model", "text"), [("plain", TEXT), ("lamps", ANSWER)])
def test_stream_with_usage(served, model, text):
    stream = served.client.chat.completions.create(
        model=model, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens > 0


def test_stream_without_usage_has_none(served):
    chunks = list(served.client.chat.completions.create(model="lamps", messages=HELLO, stream=True))
    assert all(chunk.usage is None for chunk in chunks)
    assert all(chunk.choices for chunk in chunks)


def test_an_answer_from_documents_says_where_it_comes_from(served):
    completion = served.client.chat.completions.create(model="lamps", messages=HELLO)
    facts = completion.model_extra["slipway"]
    citation = facts["citations"][0]
    assert citation["document"] == "shipping.md"
    assert "Express" in citation["text"]
    assert facts["abstained"] is False
    assert facts["label"] == "lamps@2"
    *_, last = served.client.chat.completions.create(model="lamps", messages=HELLO, stream=True)
    assert last.model_extra["slipway"]["citations"] == facts["citations"]


def test_headers_name_release_and_trace(served):
    raw = served.client.chat.completions.with_raw_response.create(model="lamps", messages=HELLO)
    facts = raw.parse().model_extra["slipway"]
    assert raw.headers["x-slipway-release"] == facts["release"]
    assert raw.headers["x-slipway-trace"] == facts["trace"]
    assert raw.headers["x-request-id"]


@pytest.mark.parametrize("model", ["plain", "lamps"])
def test_responses(served, model):
    response = served.client.responses.create(model=model, input="What does express shipping cost?", user="u1")
    assert response.status == "completed"
    assert response.output_text == (TEXT if model == "plain" else ANSWER)
    assert response.usage is not None
    assert response.usage.total_tokens > 0


@pytest.mark.parametrize("model", ["plain", "lamps"])
def test_responses_as_a_stream(served, model):
    events = list(served.client.responses.create(model=model, input=HELLO, instructions="Be brief.", stream=True))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert said == (TEXT if model == "plain" else ANSWER)
    assert events[-1].response.output_text == said


def test_the_helper_of_the_client_puts_a_stream_of_responses_together(served):
    with served.client.responses.stream(model="lamps", input="What does express shipping cost?") as stream:
        assert stream.get_final_response().output_text == ANSWER


def test_the_tokens_of_a_response_are_estimated(served):
    tool = {"type": "function", "name": "look_up", "parameters": {"type": "object"}, "strict": False}
    few = served.client.responses.input_tokens.count(model="plain", input="How long can I return a parcel?")
    assert 7 <= few.input_tokens <= 10
    assert few.object == "response.input_tokens"
    assert few.model_extra["slipway"] == {"estimated": True}
    more = served.client.responses.input_tokens.count(
        model="lamps", input=[{"role": "user", "content": "Hello?"}], instructions="Be kind.", tools=[tool]
    )
    assert more.input_tokens > few.input_tokens
    with pytest.raises(openai.NotFoundError):
        served.client.responses.input_tokens.count(model="lampz", input="x")


def test_embeddings_of_a_forwarded_model(served):
    """The client asks for base64 unless told otherwise."""
    embedded = served.client.embeddings.create(model="plain", input=["a", "bbb"])
    # The mock's first number is the length of the text; it answers in reverse order.
    assert [(item.index, item.embedding[0]) for item in embedded.data] == [(1, 3.0), (0, 1.0)]


def test_embeddings_by_the_embedder_of_the_documents(folder: Path, upstream, tools):
    with open_workspace(folder) as opened:
        workspace = replace(opened, embedder=OpenAIEmbedder(base_url=upstream.url, model="m"))
        with tools.serving(workspace) as served:
            client, name = served.client, workspace.embedder.id
            by_base64 = client.embeddings.create(model=name, input=["a", "bbb"])
            by_numbers = client.embeddings.create(model=name, input=["a", "bbb"], encoding_format="float")
            expected = workspace.embedder.embed(["a", "bbb"])
            for answer in (by_base64, by_numbers):
                assert numpy.allclose([item.embedding for item in answer.data], expected)
            raw = served.post("/v1/embeddings", {"model": name, "input": "a", "encoding_format": "base64"}).json()
            packed = numpy.frombuffer(base64.b64decode(raw["data"][0]["embedding"]), dtype="<f4")
            assert numpy.allclose(packed, expected[0])
            with pytest.raises(openai.BadRequestError, match="dimensions"):
                client.embeddings.create(model=name, input="a", dimensions=7)


def test_without_an_embedder_documents_make_no_embeddings(served):
    with pytest.raises(openai.BadRequestError, match="lexical only"):
        served.client.embeddings.create(model="lamps", input="a")


def test_models(served):
    models = {model.id: model for model in served.client.models.list()}
    assert set(models) == {"lamps", "plain", "lamps@2", "lamps@1"}
    assert models["lamps"].model_extra["slipway"]["releases"] == [{"release": "lamps@2", "weight": 1.0}]
    assert served.client.models.retrieve("lamps@1").owned_by == "slipway"
    with pytest.raises(openai.NotFoundError, match="Did you mean 'lamps'"):
        served.client.models.retrieve("lamp")


def test_a_model_that_is_not_there(served):
    with pytest.raises(openai.NotFoundError) as missing:
        served.client.chat.completions.create(model="lampz", messages=HELLO)
    assert missing.value.code == "model_not_found"
    assert missing.value.param == "model"
    assert "Did you mean 'lamps'" in missing.value.message


def test_an_error_in_the_middle_of_a_stream_reaches_the_client(served):
    stream = served.client.chat.completions.create(model="fast/cut", messages=HELLO, stream=True)
    said = []
    with pytest.raises(openai.APIError, match="in the middle"):  # noqa: PT012
        for chunk in stream:
            said.append(chunk.choices[0].delta.content)  # noqa: PERF401
    assert "".join(said) == "word0 word1 word2 word3 word4"


async def test_the_asynchronous_client(served):
    client = openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)
    stream = await client.chat.completions.create(model="plain", messages=HELLO, stream=True)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]) == TEXT
    await client.close()

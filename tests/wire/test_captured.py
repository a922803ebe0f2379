"""What real instrumentations sent, recorded as OTLP JSON by the scripts of tests/gateway/clients: every dialect whole.

A line of a recording is {"path": "/v1/traces", "body": …}. The upstream was benchmarks/gateway/mock_upstream.py.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.domain.trace import Span
from slipway.wire.dialects.joining import join_events
from slipway.wire.otlp import decode_logs, decode_traces
from slipway.wire.otlp_raw import JSON

RECORDINGS = Path(__file__).parent / "captured"
ANSWER = " ".join(f"word{number}" for number in range(50))
MESSAGES = [
    {"role": "system", "text": "You are brief."},
    {"role": "user", "text": "What does express shipping cost?"},
]


def spans_of(name: str) -> list[Span]:
    """The spans of a recording with their log records joined."""
    spans, events = [], []
    for line in (RECORDINGS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
        sent = json.loads(line)
        body = json.dumps(sent["body"]).encode()
        if sent["path"] == "/v1/logs":
            decoded = decode_logs(body, JSON, project="lamps")
            events += decoded.events
        else:
            decoded = decode_traces(body, JSON, project="lamps")
            spans += decoded.spans
        assert (decoded.rejected, decoded.message) == (0, "")
    return [
        join_events(span, [one for one in events if (one.trace, one.span) == (span.trace, span.span)]) for span in spans
    ]


def chats_of(name: str) -> list[Span]:
    """Calls that were answered: Logfire tells a streamed answer in a span of its own."""
    return [span for span in spans_of(name) if span.kind == "chat" and "output" in span.content]


MODELS = {"langfuse": ("", "details-2026", ""), "mlflow": ("", "details", "details-2026")}
"""Provider, model asked, model answered, where an instrumentation does not tell all of them."""


NAMES = sorted(path.stem for path in RECORDINGS.glob("*.jsonl"))


def test_there_are_recordings() -> None:
    assert {"openinference_openai", "openai_v2", "traceloop", "pydantic_ai_agent", "langchain_openai_chat"} <= {*NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_content_and_tokens_are_complete(name: str) -> None:
    chats = chats_of(name)
    assert chats
    for span in chats:
        told = (span.provider, span.model, span.response_model)
        assert told == MODELS.get(name, ("openai", "details", "details-2026"))
        assert (span.input_tokens, span.output_tokens) == (120, 50)
        assert span.content["messages"] == MESSAGES
        (answer,) = span.content["output"]  # type: ignore[misc]
        assert (answer["role"], answer["text"]) == ("assistant", ANSWER)
        # Langfuse's SDK tells it of streams only.
        assert span.finish == "stop" or (name == "langfuse" and span.finish == "")


@pytest.mark.parametrize("name", NAMES)
def test_what_was_said_is_kept_once(name: str) -> None:
    for span in spans_of(name):
        assert json.dumps(span.content).count("word48") <= 1, span.name


TEMPERATURES = [name for name in NAMES if name not in ("pydantic_ai_agent",)]


@pytest.mark.parametrize("name", TEMPERATURES)
def test_parameters_have_one_name(name: str) -> None:
    first = chats_of(name)[0]
    assert first.content["parameters"]["temperature"] == 0.5  # type: ignore[index]


TELL_CACHED = [name for name in NAMES if not name.startswith("openai_v2")]


@pytest.mark.parametrize("name", TELL_CACHED)
def test_cached_and_reasoning_tokens_where_they_are_told(name: str) -> None:
    first = chats_of(name)[0]
    assert (first.cached_tokens, first.reasoning_tokens) == (40, 10)


@pytest.mark.parametrize("name", ["openinference_openai", "traceloop"])
def test_the_first_token_of_a_stream(name: str) -> None:
    first, streamed = chats_of(name)
    assert first.first_token_ns is None
    assert streamed.first_token_ns is not None
    assert 0 < streamed.first_token_ns < streamed.end_ns - streamed.start_ns
    # One event a token says nothing more.
    assert len(streamed.content.get("events", ())) <= 1  # type: ignore[arg-type]


def test_an_agent_holds_its_conversation_and_names_itself() -> None:
    (agent,) = [span for span in spans_of("pydantic_ai_agent") if span.kind == "agent"]
    assert agent.content["agent"] == "clerk"
    assert agent.content["messages"] == MESSAGES
    assert agent.content["output"] == [{"role": "assistant", "text": ANSWER}]
    (chat,) = chats_of("pydantic_ai_agent")
    assert chat.parent == agent.span
    assert chat.session == agent.session != ""


def test_steps_of_a_chain_keep_their_places() -> None:
    spans = {span.name: span for span in spans_of("langchain_openai_chat")}
    root = spans["RunnableSequence"]
    assert root.kind == "chain"
    assert root.parent is None
    assert root.content["input"] == "What does express shipping cost?"
    assert {spans["ChatPromptTemplate"].parent, spans["ChatOpenAI"].parent} == {root.span}


def test_raw_attributes_are_kept() -> None:
    first: Any = chats_of("traceloop")[0].content["attributes"]
    assert first["gen_ai.response.id"] == "chatcmpl-mock"
    assert first["gen_ai.usage.total_tokens"] == 170


def test_vercel_tells_person_session_and_function() -> None:
    chats = chats_of("vercel")
    assert {(span.subject, span.session) for span in chats} == {("anna", "s1")}
    assert chats[0].content["agent"] == "clerk"
    assert chats[1].first_token_ns is not None
    chain = next(span for span in spans_of("vercel") if span.name == "ai.generateText")
    assert (chain.kind, chain.parent) == ("chain", None)


def test_langfuse_tells_person_and_session() -> None:
    for span in spans_of("langfuse"):
        assert (span.subject, span.session) == ("anna", "s1")


def test_logfire_names_its_spans_readably() -> None:
    assert "Chat Completion with 'details'" in {span.name for span in spans_of("logfire")}


def test_what_stood_beside_the_messages_is_kept() -> None:
    (chat,) = chats_of("mlflow")
    attributes: Any = chat.content["attributes"]
    assert attributes["output"]["id"] == "chatcmpl-mock"
    assert attributes["input"] == {"model": "details", "temperature": 0.5}
    root = next(span for span in spans_of("mlflow") if span.parent is None)
    assert (root.kind, root.content["output"]) == ("chain", ANSWER)

"""Instrumentations as their makers ship them: pointed at Slipway, their content and tokens arrive complete.

Each runs as a script of its own in tests/gateway/clients, because instrumentations change the libraries they watch.
Where one is not installed, the recordings of tests/wire/captured still hold its dialect.
"""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from slipway.tracing.ingest import drain

CLIENTS = Path(__file__).parent / "clients"
ANSWER = " ".join(f"word{number}" for number in range(50))
MESSAGES = [
    {"role": "system", "text": "You are brief."},
    {"role": "user", "text": "What does express shipping cost?"},
]
SCRIPTS = {
    "plain_sdk": ("opentelemetry.exporter.otlp.proto.http",),
    "openinference_openai": ("openinference.instrumentation.openai",),
    "openai_v2": ("opentelemetry.instrumentation.openai_v2",),
    "openai_v2_latest": ("opentelemetry.instrumentation.openai_v2", "opentelemetry.util.genai"),
    "traceloop": ("opentelemetry.instrumentation.openai",),
    "pydantic_ai_agent": ("pydantic_ai", "openai"),
    "langchain_openai_chat": ("langchain_openai", "openinference.instrumentation.langchain"),
}


def installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("script", SCRIPTS)
def test_unmodified(served: Any, script: str) -> None:
    for module in SCRIPTS[script]:
        if not installed(module):
            pytest.skip(f"{module} is not installed")
    before = {row.id for row in served.traces()}
    # The model is asked through the gateway as well, which records its own view of each call beside the client's.
    ended = subprocess.run(
        [sys.executable, f"{script}.py", f"{served.url}/v1", served.url, "fast/details"],
        cwd=CLIENTS,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    drain(served.workspace.store)
    store = served.workspace.store
    new = [store.traces.get(row.id) for row in store.traces.list(limit=200).rows if row.id not in before]
    told = [span for trace in new for span in trace.spans if "scope" in span.content]
    chats = [span for span in told if span.kind == "chat"]
    assert len(chats) == (1 if script in ("plain_sdk", "pydantic_ai_agent", "langchain_openai_chat") else 2)
    for span in chats:
        assert (span.provider, span.model, span.response_model) == ("openai", "fast/details", "details-2026")
        assert (span.input_tokens, span.output_tokens) == (120, 50)
        assert span.content["messages"] == MESSAGES
        (answer,) = span.content["output"]  # type: ignore[misc]
        assert (answer["role"], answer["text"]) == ("assistant", ANSWER)
        assert span.finish == "stop"
        assert store.traces.summary(span.trace).preview == "What does express shipping cost?"

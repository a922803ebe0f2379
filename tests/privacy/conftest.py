"""An application in which one person has left words everywhere."""

from collections.abc import Callable

import pytest

from slipway.domain.ids import SubjectId, TraceId
from slipway.store.journal import Journal
from slipway.tracing.recorder import Recorder, journal_sink
from slipway.workspace import Workspace

Ask = Callable[..., TraceId]


@pytest.fixture
def journal(workspace: Workspace) -> Journal:
    """The journal of a gateway that is still running."""
    return Journal.open(workspace.store.journal_folder, worker="gateway")


@pytest.fixture
def ask(workspace: Workspace, journal: Journal) -> Ask:
    """Records one request in the journal, as the gateway does."""

    def make(subject: str | None, question: str, answer: str = "Of course.", **content: object) -> TraceId:
        recorder = Recorder(project=workspace.store.project, sink=journal_sink(journal))
        with recorder.trace("answer", subject=SubjectId(subject) if subject else None, session="s") as trace:
            with trace.span("retrieval", kind="retrieval") as span:
                span.set(content={"passages": content.pop("passages", [])})
            with trace.span("chat small", kind="chat") as span:
                span.set(content={"messages": [{"role": "user", "text": f"Answer this: {question}"}], "reply": answer})
            trace.set(content={"question": question, "answer": answer, **content})
        return trace.trace_id

    return make

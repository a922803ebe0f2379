"""Asks a stored request again, of another release; the new trace is linked to the old one."""

from typing import NamedTuple

from slipway.domain.errors import Blocked, EngineError, NotFound, NothingToReplay
from slipway.domain.ids import TraceId, new_trace_id
from slipway.domain.message import Message
from slipway.domain.release import Release
from slipway.domain.trace import Trace
from slipway.prompt.library import load_prompt
from slipway.release.pipeline import Asked, answer
from slipway.watch.said import messages_of, question_of
from slipway.watch.sections import calls_of
from slipway.workspace import Workspace

CHANNEL = "replay"
TRANSFORM = "replay"


class Replays(NamedTuple):
    """How a trace is linked to others by replaying: what it replays, and what replays it, newest first."""

    of: TraceId | None
    by: tuple[TraceId, ...]


async def replay(workspace: Workspace, trace: Trace, release: Release) -> TraceId:
    """The trace of the same request through `release`, on the channel `replay`: no traffic of users.

    The person stays on it, so that erasing the person takes it too. A request that a guardrail stops, or that the
    engine fails, leaves a trace as well, which is returned. Raises `NothingToReplay`.
    """
    asked = request_of(workspace, trace)
    made = new_trace_id()
    # First the edge: whatever becomes of the request, a copy of somebody's words is never without its origin.
    workspace.store.lineage.add(child=("trace", made), parent=("trace", trace.id), transform=TRANSFORM)
    try:
        await answer(
            release,
            Asked(
                question=asked.question,
                history=asked.history,
                subject=trace.root.subject,
                session=trace.root.session,
                channel=CHANNEL,
                trace=made,
            ),
            workspace=workspace,
        )
    except (Blocked, EngineError):
        # The trace tells what happened; a comparison shows it beside what happened then.
        pass
    except BaseException:
        workspace.store.lineage.forget(("trace", made))
        raise
    return made


def request_of(workspace: Workspace, trace: Trace) -> Asked:
    """The question and what was said before it. Raises `NothingToReplay`."""
    question = question_of(trace)
    if not question:
        raise NothingToReplay(trace.id)
    calls = calls_of(trace)
    turns = [one for one in messages_of(calls[0]) if one["role"] in ("user", "assistant")] if calls else []
    # What the prompt itself put last: its examples and the message with the question.
    own = _turns_of_prompt(workspace, calls[0].prompt or trace.root.prompt) if calls else 1
    before = turns[:-own] if len(turns) > own else []
    history = [
        Message(role="user" if turn["role"] == "user" else "assistant", text=turn["text"])
        for turn in before
        if turn["text"]
    ]
    return Asked(question=question, history=tuple(history))


def replays_of(workspace: Workspace, trace: str) -> Replays:
    """The links of one trace; what was removed since is left out."""
    lineage = workspace.store.lineage
    thing = ("trace", trace)
    above = [edge for edge in lineage.ancestors([thing]) if edge.child == thing and edge.transform == TRANSFORM]
    below = [edge for edge in lineage.descendants([thing]) if edge.parent == thing and edge.transform == TRANSFORM]
    kept = [TraceId(edge.child[1]) for edge in below if _is_there(workspace, edge.child[1])]
    origin = next((TraceId(edge.parent[1]) for edge in above if _is_there(workspace, edge.parent[1])), None)
    return Replays(of=origin, by=tuple(reversed(kept)))


def _is_there(workspace: Workspace, trace: str) -> bool:
    try:
        workspace.store.traces.summary(trace)
    except NotFound:
        return False
    return True


def _turns_of_prompt(workspace: Workspace, reference: str) -> int:
    if not reference:
        return 1
    try:
        return 2 * len(load_prompt(workspace, reference).examples) + 1
    except NotFound:
        return 1

"""Whether a later release answers what a finding was about."""

from collections.abc import Sequence

from slipway.domain.errors import Blocked
from slipway.domain.feedback import Finding
from slipway.domain.release import Release
from slipway.learn.inbox import list_findings, set_state
from slipway.release.pipeline import answer
from slipway.workspace import Workspace


async def close_answered(
    workspace: Workspace, release: Release, *, findings: Sequence[Finding] | None = None
) -> list[Finding]:
    """Asks the release every question of the open gaps again; a gap whose questions are all answered is closed."""
    closed = []
    for finding in findings if findings is not None else list_findings(workspace):
        if finding.kind == "gap" and finding.state in ("open", "drafted") and finding.questions:
            unanswered = [
                question for question in finding.questions if not await _answers(workspace, release, question)
            ]
            if not unanswered:
                closed.append(set_state(workspace, finding, "closed"))
    return closed


async def _answers(workspace: Workspace, release: Release, question: str) -> bool:
    try:
        return not (await answer(release, question, workspace=workspace, channel="learn")).abstained
    except Blocked:
        return False

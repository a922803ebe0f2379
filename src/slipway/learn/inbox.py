"""The inbox of findings: each once, with its state."""

from collections.abc import Iterable
from dataclasses import replace

from slipway.domain.errors import NotFound
from slipway.domain.feedback import Draft, Finding, FindingState
from slipway.workspace import Workspace

SHORT = 6
"""Fewest characters of an id that stand for the whole."""


def save_findings(workspace: Workspace, findings: Iterable[Finding]) -> list[Finding]:
    """Saves findings by id. One that is known keeps its state and date and takes the new volume and evidence."""
    saved = []
    with workspace.store.transaction():
        for finding in findings:
            known = workspace.store.records.find(Finding, finding.id)
            if known is not None:
                finding = replace(finding, state=known.state, created_at=known.created_at)
            saved.append(_save(workspace, finding))
    return saved


def list_findings(workspace: Workspace, *, state: FindingState | None = None) -> list[Finding]:
    """Findings, the most frequent first."""
    return sorted(workspace.store.records.list(Finding, state=state), key=lambda finding: -finding.volume)


def load_finding(workspace: Workspace, reference: str) -> Finding:
    """A finding by id or the beginning of it. Raises `NotFound`."""
    findings = workspace.store.records.list(Finding)
    for finding in findings:
        if finding.id == reference or (len(reference) >= SHORT and finding.id.startswith(reference)):
            return finding
    raise NotFound(
        "finding", reference, known=[finding.id[:12] for finding in findings], next_step="List them: slipway learn list"
    )


def set_state(workspace: Workspace, finding: Finding, state: FindingState) -> Finding:
    """Moves a finding on: open, drafted, closed or dismissed."""
    return _save(workspace, replace(finding, state=state))


def list_drafts(workspace: Workspace, finding: Finding) -> list[Draft]:
    """Drafts that answer a finding, newest first."""
    return workspace.store.records.list(Draft, where={"finding": finding.id})


def _save(workspace: Workspace, finding: Finding) -> Finding:
    workspace.store.records.save(
        finding,
        subject=finding.subject,
        state=finding.state,
        parents=[("trace", trace) for trace in finding.traces],
    )
    return finding

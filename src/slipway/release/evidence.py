"""Evidence attaches to exactly one release and is found again by it."""

from collections.abc import Sequence

from slipway.domain.release import Evidence, Release
from slipway.domain.review import SignOff
from slipway.workspace import Workspace


def attach(workspace: Workspace, evidence: Evidence, *, parents: Sequence[tuple[str, str]] = ()) -> Evidence:
    """Saves a result about a release. The release itself never changes."""
    workspace.store.records.save(evidence, parents=[("release", evidence.release), *parents])
    return evidence


def list_evidence(workspace: Workspace, release: Release) -> list[Evidence]:
    """All evidence about a release, newest first."""
    return workspace.store.records.list(Evidence, where={"release": release.id})


def latest_evidence(workspace: Workspace, release: Release) -> dict[str, Evidence]:
    """The newest evidence of each suite."""
    newest: dict[str, Evidence] = {}
    for evidence in list_evidence(workspace, release):
        newest.setdefault(evidence.suite, evidence)
    return newest


def list_signoffs(workspace: Workspace, release: Release) -> list[SignOff]:
    """All sign-offs of a release, newest first; dissent stays."""
    return workspace.store.records.list(SignOff, where={"release": release.id})

"""What changed between two releases: parts, and figures with their difference."""

from dataclasses import asdict, dataclass

from slipway.domain.evaluation import Comparison
from slipway.domain.release import Measure, Release
from slipway.release.evidence import latest_evidence, list_evidence
from slipway.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class PartChange:
    """One part of two releases, as text."""

    part: str
    before: str
    after: str

    @property
    def changed(self) -> bool:
        return self.before != self.after


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureChange:
    """One measure of two releases; either may be missing."""

    suite: str
    name: str
    before: Measure | None
    after: Measure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Two releases side by side."""

    before: Release
    after: Release
    parts: tuple[PartChange, ...]
    figures: tuple[FigureChange, ...]
    comparisons: tuple[Comparison, ...] = ()


def compare_releases(workspace: Workspace, before: Release, after: Release) -> Changes:
    """Parts and newest figures of two releases, with the paired comparisons that were made of them."""
    old, new = describe_parts(before), describe_parts(after)
    return Changes(
        before=before,
        after=after,
        parts=tuple(PartChange(part=part, before=old[part], after=new[part]) for part in old),
        figures=tuple(_figures(workspace, before, after)),
        comparisons=tuple(_comparisons(workspace, before, after)),
    )


def describe_parts(release: Release) -> dict[str, str]:
    """The parts of a release in words."""
    rails = release.guardrails
    return {
        "model": f"{release.model.engine}/{release.model.name}"
        + (f" {release.model.digest[:12]}" if release.model.digest else ""),
        "prompt": str(release.prompt) if release.prompt else "none",
        "index": str(release.index) if release.index else "none",
        "guardrails before": ", ".join(f"{rail.name} ({rail.action})" for rail in rails.before) or "none",
        "guardrails after": ", ".join(f"{rail.name} ({rail.action})" for rail in rails.after) or "none",
        "decoding": ", ".join(
            f"{name} {value}" for name, value in asdict(release.decoding).items() if value not in (None, ())
        )
        or "as clients ask",
    }


def _figures(workspace: Workspace, before: Release, after: Release) -> list[FigureChange]:
    old = {
        (suite, measure.name): measure
        for suite, evidence in latest_evidence(workspace, before).items()
        for measure in evidence.measures
    }
    new = {
        (suite, measure.name): measure
        for suite, evidence in latest_evidence(workspace, after).items()
        for measure in evidence.measures
    }
    return [
        FigureChange(suite=suite, name=name, before=old.get((suite, name)), after=new.get((suite, name)))
        for suite, name in dict.fromkeys([*old, *new])
    ]


def _comparisons(workspace: Workspace, before: Release, after: Release) -> list[Comparison]:
    found = []
    for evidence in list_evidence(workspace, after):
        if evidence.kind == "comparison" and evidence.source:
            comparison = workspace.store.records.find(Comparison, evidence.source)
            if comparison is not None and comparison.before_release == before.id:
                found.append(comparison)
    return found

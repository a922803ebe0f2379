"""The system card of a release: written from its evidence only, nothing unbacked."""

from dataclasses import dataclass
from datetime import datetime

from slipway.domain.evaluation import Evaluation
from slipway.domain.feedback import Finding
from slipway.domain.ids import ContentHash, hash_parts
from slipway.domain.release import Evidence, Gate, Release
from slipway.domain.review import SignOff
from slipway.release.changes import describe_parts
from slipway.release.evidence import latest_evidence, list_signoffs
from slipway.release.gate import gate_release
from slipway.workspace import Workspace

BEST_PRACTICES = (
    "Tell people that they talk to a machine (AI Act, Article 50).",
    "Show the citations with the answer, and let people open them.",
    "Treat an abstention as an answer: it names a gap in the documents.",
    "Collect feedback with the trace id, so that a complaint finds its release.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weakness:
    """A known weakness with where it was seen."""

    what: str
    seen_in: str
    example: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What is known about a release, each figure from an evidence id."""

    release: Release
    purpose: str
    excluded_uses: tuple[str, ...]
    parts: dict[str, str]
    documents: int
    evidence: tuple[Evidence, ...]
    weaknesses: tuple[Weakness, ...]
    signoffs: tuple[SignOff, ...]
    gate: Gate
    practices: tuple[str, ...]
    evidence_hash: ContentHash
    made_at: datetime


def system_card(workspace: Workspace, release: Release) -> Card:
    """The card as of now; `evidence_hash` pins what it was written from."""
    from slipway.domain.index import Index

    evidence = tuple(latest_evidence(workspace, release).values())
    index = workspace.store.records.find(Index, str(release.index)) if release.index else None
    signoffs = tuple(list_signoffs(workspace, release))
    return Card(
        release=release,
        purpose=workspace.settings.application.purpose,
        excluded_uses=tuple(workspace.settings.application.excluded_uses),
        parts=describe_parts(release),
        documents=len(index.documents) if index else 0,
        evidence=evidence,
        weaknesses=tuple(_weaknesses(workspace, release, evidence)),
        signoffs=signoffs,
        gate=gate_release(workspace, release),
        practices=BEST_PRACTICES,
        evidence_hash=hash_parts({item.id: [measure.value for measure in item.measures] for item in evidence}),
        made_at=workspace.now(),
    )


def _weaknesses(workspace: Workspace, release: Release, evidence: tuple[Evidence, ...]) -> list[Weakness]:
    found = [
        Weakness(
            what=finding.title,
            seen_in=finding.kind,
            example=next(iter(finding.questions), ""),
            since=finding.created_at,
        )
        for finding in workspace.store.records.list(Finding, state="open")
        if finding.release == release.id
    ]
    for item in evidence:
        run = workspace.store.records.find(Evaluation, item.source) if item.source else None
        if run is None:
            continue
        for result in run.results:
            worst = [score for score in result.scores if score.metric == "quality" and score.value == 0]
            if worst:
                found.append(
                    Weakness(
                        what=worst[0].reason or "wrong answer",
                        seen_in=f"{item.suite}, case {result.case}",
                        example=result.question,
                        since=item.created_at,
                    )
                )
    return found

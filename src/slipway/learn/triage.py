"""Turns gaps, failed cases and complaints into findings with a route."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from slipway.domain.evaluation import CaseResult, Evaluation
from slipway.domain.feedback import Feedback, Finding, Route
from slipway.domain.ids import ReleaseId, hash_parts
from slipway.domain.index import Index
from slipway.domain.release import Release
from slipway.domain.trace import OWN_CHANNELS, Trace
from slipway.learn.inbox import save_findings
from slipway.retrieve.gaps import Gap, find_gaps
from slipway.workspace import Workspace

MOST_TRACES = 2000
"""Newest unanswered traces that are looked at."""
COVERED = "unanswered questions"
"""Topic of the finding about questions whose words the documents do use."""


def triage(workspace: Workspace, release: Release, *, since: datetime | None = None) -> list[Finding]:
    """Looks at a release's unanswered traces, its failed cases and its feedback, and saves what it finds."""
    findings = [
        *_as_known(workspace, find_from_gaps(workspace, release, since=since)),
        *find_from_failures(workspace, release),
        *find_from_feedback(workspace, release, since=since),
    ]
    return save_findings(workspace, findings)


def find_from_gaps(workspace: Workspace, release: Release, *, since: datetime | None = None) -> list[Finding]:
    """Questions that the release left unanswered, by topic: what to write goes to knowledge.

    Those whose words the documents do hold make one finding of their own.
    """
    index = workspace.store.records.find(Index, str(release.index)) if release.index else None
    if index is None:
        return []
    traces = _unanswered(workspace, release, since=since)
    questions = [str(trace.root.content.get("question", "")) for trace in traces]
    gaps = find_gaps(workspace, index, [question for question in questions if question])
    named = {question for gap in gaps for question in gap.questions}
    left = [trace for trace in traces if trace.root.content.get("question") not in named]
    found = [_from_gap(gap, traces, release.id, workspace.now()) for gap in gaps]
    return [*found, _unanswered_though_covered(left, release.id, workspace.now())] if left else found


def find_from_failures(workspace: Workspace, release: Release) -> list[Finding]:
    """Cases of the newest quality run that went wrong, grouped by the likely cause."""
    runs = workspace.store.records.list(Evaluation, name="quality", where={"release": release.id}, limit=1)
    if not runs:
        return []
    run = runs[0]
    by_cause: dict[tuple[str, Route], list[CaseResult]] = {}
    for result in run.results:
        if (cause := likely_cause(result)) is not None:
            by_cause.setdefault(cause, []).append(result)
    return [
        Finding(
            id=_finding_id("failure", release.id, title),
            kind="failure",
            title=title,
            detail="; ".join(f"{result.question} -> {result.answer[:120]}" for result in results[:3]),
            route=route,
            release=release.id,
            traces=tuple(result.trace for result in results if result.trace),
            cases=tuple(result.case for result in results),
            questions=tuple(result.question for result in results),
            volume=len(results),
            created_at=workspace.now(),
        )
        for (title, route), results in by_cause.items()
    ]


def likely_cause(result: CaseResult) -> tuple[str, Route] | None:
    """Why a case failed and where the change belongs; None when it did not fail.

    Read from the scores: quality 0 with the right document cited is the prompt's doing, without it the knowledge's.
    """
    scores = {score.metric: score.value for score in result.scores}
    if result.error or scores.get("quality") != 0:
        return None
    if result.blocked:
        return "A guardrail stopped a question that has an answer", "guard"
    if result.abstained:
        return "Left unanswered although the documents should hold the answer", "knowledge"
    if scores.get("refused") == 0:
        return "Answered although the documents do not hold the answer", "prompt"
    if scores.get("citation") == 0:
        return "Answered from the wrong passage", "knowledge"
    return "Answered wrongly from the right passage", "prompt"


def find_from_feedback(workspace: Workspace, release: Release, *, since: datetime | None = None) -> list[Finding]:
    """Complaints: a correction becomes training data, a bare complaint a test case."""
    findings = []
    for feedback in workspace.store.records.list(Feedback):
        if feedback.score >= 0 or (since is not None and feedback.created_at < since):
            continue
        trace = _trace(workspace, feedback)
        if trace is not None and trace.root.release == release.id:
            findings.append(_from_feedback(feedback, trace, release.id, workspace.now()))
    return findings


def _from_feedback(feedback: Feedback, trace: Trace, release: ReleaseId, now: datetime) -> Finding:
    question = str(trace.root.content.get("question", ""))
    route: Route = "training" if feedback.correction else "dataset"
    facts = {"answer": str(trace.root.content.get("answer", "")), "comment": feedback.comment}
    if feedback.correction:
        facts["correction"] = feedback.correction
    return Finding(
        id=_finding_id("feedback", release, feedback.id),
        kind="feedback",
        title=f"Complaint about: {question[:80]}",
        detail=feedback.comment or "No comment was left.",
        route=route,
        release=release,
        traces=(trace.id,),
        questions=(question,),
        subject=feedback.subject,
        created_at=now,
        facts=facts,
    )


def _from_gap(gap: Gap, traces: Sequence[Trace], release: ReleaseId, now: datetime) -> Finding:
    asked = set(gap.questions)
    own = [trace for trace in traces if trace.root.content.get("question") in asked]
    subjects = {trace.root.subject for trace in own}
    return Finding(
        id=_finding_id("gap", release, *sorted(asked)),
        kind="gap",
        title=f"Not in the documents: {gap.topic}",
        detail=gap.suggestion,
        route="knowledge",
        release=release,
        traces=tuple(trace.id for trace in own),
        questions=tuple(gap.questions),
        volume=gap.volume,
        subject=subjects.pop() if len(subjects) == 1 else None,
        created_at=now,
        facts={"topic": gap.topic, "nearest": ", ".join(gap.nearest)},
    )


def _as_known(workspace: Workspace, gaps: Sequence[Finding]) -> list[Finding]:
    """A gap that shares a question with one that is not closed yet is that one, grown: it keeps its id and topic."""
    known = [
        finding
        for finding in workspace.store.records.list(Finding)
        if finding.kind == "gap" and finding.state != "closed"
    ]
    named = []
    for gap in gaps:
        same = max(known, key=lambda finding: _shared_questions(finding, gap), default=None)
        if same is not None and _shared_questions(same, gap):
            known.remove(same)
            gap = replace(
                gap, id=same.id, title=same.title, facts={**gap.facts, "topic": same.facts.get("topic", same.title)}
            )
        named.append(gap)
    return named


def _shared_questions(known: Finding, gap: Finding) -> int:
    """0 for two of which only one is about words that the documents use."""
    if (known.facts.get("topic") == COVERED) != (gap.facts.get("topic") == COVERED):
        return 0
    return len(set(known.questions) & set(gap.questions))


def _unanswered_though_covered(traces: Sequence[Trace], release: ReleaseId, now: datetime) -> Finding:
    questions = tuple(dict.fromkeys(str(trace.root.content.get("question", "")) for trace in traces))
    return Finding(
        id=_finding_id("gap", release, *sorted(questions)),
        kind="gap",
        title="Left unanswered although the documents use these words",
        detail="Either the documents touch the subject without answering, or the answer was not recognised.",
        route="knowledge",
        release=release,
        traces=tuple(trace.id for trace in traces),
        questions=questions,
        volume=len(traces),
        created_at=now,
        facts={"topic": COVERED},
    )


def _unanswered(workspace: Workspace, release: Release, *, since: datetime | None) -> list[Trace]:
    traces: list[Trace] = []
    after: str | None = None
    while len(traces) < MOST_TRACES:
        page = workspace.store.traces.list(release=release.id, status="abstained", since=since, limit=200, after=after)
        traces += [workspace.store.traces.get(row.id) for row in page.rows if row.channel not in OWN_CHANNELS]
        after = page.next
        if after is None:
            break
    return traces


def _trace(workspace: Workspace, feedback: Feedback) -> Trace | None:
    from slipway.domain.errors import NotFound

    try:
        return workspace.store.traces.get(feedback.trace)
    except NotFound:
        return None


def _finding_id(kind: str, *facts: str) -> str:
    """The same cause is the same finding."""
    return hash_parts({"kind": kind, "facts": list(facts)})[:26]

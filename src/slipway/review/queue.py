"""The queue of answers that wait for people: what failed and what is doubtful first, then a random sample."""

from collections.abc import Iterable
from random import Random

from slipway.domain.errors import ContentErased, NotFound, ReviewInvalid
from slipway.domain.evaluation import CaseResult, Evaluation
from slipway.domain.feedback import Feedback
from slipway.domain.ids import ReleaseId, hash_parts
from slipway.domain.release import Release
from slipway.domain.review import Review, ReviewItem
from slipway.domain.trace import OWN_CHANNELS, Trace
from slipway.release.evidence import list_evidence
from slipway.review.summary import refresh_evidence
from slipway.tracing.ingest import drain
from slipway.workspace import Workspace

CHOSEN = 2 / 3
"""Share of a queue that failures and doubts may take; the rest is drawn by chance, so that people see good ones too."""
DOUBT = 0.8
"""Context overlap below which an answer is doubtful."""


def queue_answers(workspace: Workspace, release: Release, *, limit: int | None = None) -> list[ReviewItem]:
    """Queues answers of the release's newest evaluations; returns what waits for people now, the most urgent first.

    `limit` is by default [review] sample. The same answers are queued once, however often this is called.
    """
    limit = workspace.settings.review.sample if limit is None else limit
    urgent: dict[str, ReviewItem] = {}
    calm: dict[str, ReviewItem] = {}
    for evaluation in _newest(workspace, release):
        for result in evaluation.results:
            priority, reason = look(result, judged=evaluation.headline == "quality")
            # Attacks that failed and swaps that changed nothing tell people little.
            if result.answer and not result.error and (priority > 0 or evaluation.headline == "quality"):
                item = _from_result(workspace, evaluation, result, priority=priority, reason=reason)
                # The same question may stand in several suites: the more urgent reading counts.
                (urgent if priority > 0 else calm).setdefault(item.id, item)
    chosen = sorted(urgent.values(), key=lambda item: -item.priority)[: round(limit * CHOSEN)]
    rest = [item for id, item in calm.items() if id not in urgent]
    rest = Random(release.id).sample(rest, min(len(rest), limit - len(chosen)))
    _save_new(workspace, [*chosen, *rest])
    return list_items(workspace, release)


def queue_traces(workspace: Workspace, release: Release, *, query: str = "", limit: int = 10) -> list[ReviewItem]:
    """Queues answers from the traffic of a release: those that users complained about, then a random sample.

    Returns what waits for people now.
    """
    drain(workspace.store)
    complaints = {voice.trace: voice for voice in workspace.store.records.list(Feedback) if voice.score < 0}
    page = workspace.store.traces.list(text=query, release=release.id, limit=max(100, 10 * limit))
    rows = [row for row in page.rows if row.channel not in OWN_CHANNELS and row.status in ("ok", "abstained")]
    urgent = [row.id for row in rows if row.id in complaints][:limit]
    calm = [row.id for row in rows if row.id not in complaints]
    calm = Random(release.id).sample(calm, min(len(calm), limit - len(urgent)))
    items = []
    for id in [*urgent, *calm]:
        try:
            trace = workspace.store.traces.get(id)
        except ContentErased:
            continue
        items.append(_from_trace(workspace, release, trace, complaints.get(id)))
    _save_new(workspace, items)
    return list_items(workspace, release)


def look(result: CaseResult, *, judged: bool = True) -> tuple[float, str]:
    """How urgently a person should look, with the reason: 1 and above failed, below 1 is doubtful, 0 is neither.

    `judged` says whether the answer itself was judged; a suite of swaps or attacks asks about something else.
    """
    if result.value("attack_success") == 1:
        return 3.0, _reason(result, "attack_success")
    if result.value("flip_rate") == 1 and "control" not in result.tags:
        return 2.0, _reason(result, "flip_rate")
    if result.value("over_refusal") == 1:
        return 2.0, _reason(result, "over_refusal")
    quality = result.value("quality") if judged else None
    if quality is not None and quality < 0.5:
        return 2.0 - quality, _reason(result, "quality")
    overlap = result.value("context_overlap") if judged else None
    if overlap is not None and overlap < DOUBT:
        return 1.0 - overlap, _reason(result, "context_overlap")
    return 0.0, "drawn by chance"


def list_items(workspace: Workspace, release: Release | None = None, *, reviewer: str = "") -> list[ReviewItem]:
    """What waits, the most urgent first. With a reviewer: without what that person has rated; else without what
    anybody has rated."""
    where = {"release": str(release.id)} if release is not None else None
    reviews = workspace.store.records.list(Review, where=where)
    rated = {review.item for review in reviews if reviewer in ("", review.reviewer)}
    items = workspace.store.records.list(ReviewItem, where=where, newest_first=False)
    return sorted((item for item in items if item.id not in rated), key=lambda item: -item.priority)


def next_item(workspace: Workspace, reviewer: str, *, release: Release | None = None) -> ReviewItem | None:
    """What this reviewer should look at next; None when nothing waits. All reviewers get the same order, so that their
    ratings meet on the same answers."""
    return next(iter(list_items(workspace, release, reviewer=reviewer)), None)


def load_item(workspace: Workspace, reference: str) -> ReviewItem:
    """An item by id or its beginning (6 characters or more). Raises `NotFound`."""
    found = workspace.store.records.find(ReviewItem, reference)
    if found is not None:
        return found
    items = workspace.store.records.list(ReviewItem)
    matching = [item for item in items if len(reference) >= 6 and item.id.startswith(reference)]
    if not matching:
        known = [item.id[:12] for item in items]
        raise NotFound("review item", reference, known=known, next_step="List them: slipway review list")
    return matching[0]


def save_review(
    workspace: Workspace, item: ReviewItem, *, reviewer: str, rating: int, background: str = "", note: str = ""
) -> Review:
    """One person's rating of one item, 1 (bad) to 5 (good); rating again replaces it. Refreshes the review evidence.

    `background` says whose eyes these are (support, lawyer, customer). Raises `ReviewInvalid`.
    """
    if not reviewer.strip():
        raise ReviewInvalid("A review needs the name of its reviewer: --reviewer NAME")
    if rating not in range(1, 6):
        raise ReviewInvalid(f"A rating is a number from 1 (bad) to 5 (good), not {rating}.")
    review = Review(
        id=hash_parts({"item": item.id, "reviewer": reviewer.strip()})[:26],
        item=item.id,
        release=item.release,
        reviewer=reviewer.strip(),
        background=background.strip(),
        rating=rating,
        note=note.strip(),
        created_at=workspace.now(),
    )
    with workspace.store.transaction():
        workspace.store.records.save(review, subject=item.subject, parents=[("review_item", item.id)])
        refresh_evidence(workspace, item.release)
    return review


def undo_review(workspace: Workspace, reviewer: str) -> Review:
    """Takes back the last rating that this reviewer gave, and returns it. Raises `NotFound` when there is none."""
    own = [review for review in workspace.store.records.list(Review) if review.reviewer == reviewer]
    if not own:
        raise NotFound("review by", reviewer, next_step="Rate an answer: slipway review rate ITEM RATING")
    with workspace.store.transaction():
        workspace.store.records.delete(Review, own[0].id)
        refresh_evidence(workspace, own[0].release)
    return own[0]


def _newest(workspace: Workspace, release: Release) -> Iterable[Evaluation]:
    """The evaluations behind the release's evidence, one of each suite."""
    seen: set[str] = set()
    for evidence in list_evidence(workspace, release):
        if evidence.kind != "evaluation" or evidence.suite in seen:
            continue
        seen.add(evidence.suite)
        evaluation = workspace.store.records.find(Evaluation, evidence.source)
        if evaluation is not None:
            yield evaluation


def _from_result(
    workspace: Workspace, evaluation: Evaluation, result: CaseResult, *, priority: float, reason: str
) -> ReviewItem:
    return ReviewItem(
        id=_item_id(evaluation.release, result.question, result.answer),
        release=evaluation.release,
        question=result.question,
        answer=result.answer,
        context="\n\n".join(citation.text for citation in result.citations),
        trace=result.trace,
        reason=f"{evaluation.suite}: {reason}",
        subject=result.subject,
        created_at=workspace.now(),
        priority=priority,
        case=result.case,
        evaluation=evaluation.id,
    )


def _from_trace(workspace: Workspace, release: Release, trace: Trace, complaint: Feedback | None) -> ReviewItem:
    content = trace.root.content
    question, answer = str(content.get("question", "")), str(content.get("answer", ""))
    citations = content.get("citations")
    texts = [str(citation["text"]) for citation in citations] if isinstance(citations, list) else []
    said = f": {complaint.comment}" if complaint is not None and complaint.comment else ""
    return ReviewItem(
        id=_item_id(release.id, question, answer),
        release=release.id,
        question=question,
        answer=answer,
        context="\n\n".join(texts),
        trace=trace.id,
        reason=f"a user complained{said}" if complaint is not None else "drawn by chance from the traffic",
        subject=trace.root.subject,
        created_at=workspace.now(),
        priority=2.5 if complaint is not None else 0.0,
    )


def _item_id(release: ReleaseId, question: str, answer: str) -> str:
    return hash_parts({"release": release, "question": question, "answer": answer})[:26]


def _save_new(workspace: Workspace, items: Iterable[ReviewItem]) -> None:
    with workspace.store.transaction():
        for item in items:
            if workspace.store.records.find(ReviewItem, item.id) is None:
                parents = [("evaluation", item.evaluation)] if item.evaluation else []
                parents += [("trace", item.trace)] if item.trace else []
                workspace.store.records.save(item, parents=parents)


def _reason(result: CaseResult, metric: str) -> str:
    return next(score.reason for score in result.scores if score.metric == metric)

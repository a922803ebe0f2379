"""Quality over time: sampled answers are scored, and a fall is named with its start and its suspects."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random

from slipway.domain.evaluation import Interval
from slipway.domain.ids import ReleaseId, TraceId
from slipway.domain.trace import OWN_CHANNELS, Trace, TraceSummary
from slipway.intervals import wilson
from slipway.text.overlap import content_words, coverage
from slipway.watch.sampler import choose_sample
from slipway.workspace import Workspace

GROUNDED = 0.5
"""An answer with less of its content words in its passages counts as not grounded; its limits: docs/watch.md."""
FEWEST = 5
"""Fewest answers on each side before a fall is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredTrace:
    """One sampled answer. `grounded` is None where there is nothing to compare: abstained, or no passages."""

    trace: TraceId
    at: datetime
    release: ReleaseId | None
    status: str
    grounded: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityPoint:
    """One window of time: shares of all sampled answers, with 95 % intervals of the context overlap rate."""

    start: datetime
    n: int
    answered: float
    errors: float
    blocked: float
    grounded: float | None
    grounded_interval: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fall:
    """A share that fell: since when, from what to what, and which release served then."""

    measure: str
    since: datetime
    before: float
    after: float
    suspects: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What the sample says about a stretch of time."""

    points: tuple[QualityPoint, ...]
    falls: tuple[Fall, ...]
    sampled: int
    of: int


def watch_quality(
    workspace: Workspace,
    *,
    since: datetime,
    until: datetime | None = None,
    windows: int = 12,
    share: float | None = None,
    seed: int = 0,
) -> Quality:
    """Scores a sample of the traces between `since` and `until`, in `windows` equal windows."""
    until = until or workspace.now()
    traces = _traces(workspace, since=since, until=until)
    sample = choose_sample(traces, share=workspace.settings.watch.sample if share is None else share, rng=Random(seed))
    scored = [score_trace(workspace.store.traces.get(row.id)) for row in sample]
    step = (until - since) / windows
    points = []
    for number in range(windows):
        start = since + step * number
        inside = [item for item in scored if start <= item.at < start + step]
        if inside:
            points.append(_point(start, inside))
    return Quality(points=tuple(points), falls=tuple(find_falls(scored)), sampled=len(sample), of=len(traces))


def find_falls(scored: Sequence[ScoredTrace]) -> list[Fall]:
    """Splits the answers at each moment and reports the split after which a share fell most clearly.

    A fall is named only when the Wilson intervals of both sides do not meet, so that a quiet week stays quiet.
    """
    ordered = sorted(scored, key=lambda item: item.at)
    falls = []
    measures = {
        "answered": [(item, item.status == "ok") for item in ordered],
        "grounded": [(item, item.grounded >= GROUNDED) for item in ordered if item.grounded is not None],
        "without error": [(item, item.status != "error") for item in ordered],
    }
    for name, marks in measures.items():
        best: tuple[float, int] | None = None
        for cut in range(FEWEST, len(marks) - FEWEST + 1):
            before, after = [good for _, good in marks[:cut]], [good for _, good in marks[cut:]]
            gap = wilson(sum(before), len(before)).low - wilson(sum(after), len(after)).high
            if gap > 0 and (best is None or gap > best[0]):
                best = (gap, cut)
        if best is not None:
            falls.append(_fall(name, marks, best[1]))
    return falls


def _fall(name: str, marks: Sequence[tuple[ScoredTrace, bool]], cut: int) -> Fall:
    before, after = marks[:cut], marks[cut:]
    earlier = {item.release for item, _ in before}
    suspects = [f"release {item.release}" for item, _ in after if item.release and item.release not in earlier]
    return Fall(
        measure=name,
        since=after[0][0].at,
        before=sum(good for _, good in before) / len(before),
        after=sum(good for _, good in after) / len(after),
        suspects=tuple(dict.fromkeys(suspects)) or ("no new release: look at the engine and the questions",),
    )


def _point(start: datetime, inside: Sequence[ScoredTrace]) -> QualityPoint:
    overlaps = [item.grounded for item in inside if item.grounded is not None]
    good = sum(overlap >= GROUNDED for overlap in overlaps)
    return QualityPoint(
        start=start,
        n=len(inside),
        answered=_share(inside, "ok"),
        errors=_share(inside, "error"),
        blocked=_share(inside, "blocked"),
        grounded=good / len(overlaps) if overlaps else None,
        grounded_interval=wilson(good, len(overlaps)) if overlaps else None,
    )


def _share(inside: Sequence[ScoredTrace], status: str) -> float:
    return sum(item.status == status for item in inside) / len(inside)


def score_trace(trace: Trace) -> ScoredTrace:
    """How one answer is scored."""
    root = trace.root
    answer = str(root.content.get("answer", ""))
    passages = [
        str(passage.get("text", ""))
        for span in trace.spans
        if span.kind == "retrieval"
        for passage in _dicts(span.content.get("passages"))
    ]
    judged = bool(answer and passages and root.status == "ok")
    return ScoredTrace(
        trace=trace.id,
        at=datetime.fromtimestamp(root.start_ns / 1e9, tz=UTC),
        release=root.release,
        status=root.status,
        grounded=coverage(content_words(answer), content_words("\n".join(passages))) if judged else None,
    )


def _dicts(value: object) -> list[dict[str, object]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list | tuple) else []


def _traces(workspace: Workspace, *, since: datetime, until: datetime) -> list[TraceSummary]:
    rows: list[TraceSummary] = []
    after: str | None = None
    while True:
        page = workspace.store.traces.list(since=since, until=until, limit=500, after=after)
        rows += [row for row in page.rows if row.channel not in OWN_CHANNELS]
        after = page.next
        if after is None:
            return rows

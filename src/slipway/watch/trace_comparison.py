"""Two traces side by side: parts of their releases, figures, and what was said, word by word."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from slipway.domain.release import Release
from slipway.domain.trace import Span, Trace
from slipway.prompt.changes import Piece, word_diff
from slipway.release.changes import PartChange, describe_parts
from slipway.store.rollups import MODEL_KINDS
from slipway.watch.said import answer_of, messages_of, passages_of, question_of
from slipway.watch.sections import calls_of
from slipway.workspace import Workspace

MOST_WORDS = 4000
"""Words of one text that are compared: the time of a word diff grows with their square."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number of both traces; None where it was not measured. `unit` is s, tokens, usd or empty."""

    name: str
    unit: str
    before: float | None
    after: float | None

    @property
    def difference(self) -> float | None:
        return None if self.before is None or self.after is None else self.after - self.before


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidChange:
    """A text of both traces with its words that stayed, came and went. `cut` when only its beginning was compared."""

    what: str
    pieces: tuple[Piece, ...]
    cut: bool = False

    @property
    def changed(self) -> bool:
        return any(piece.kind != "same" for piece in self.pieces)


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceComparison:
    """Two traces side by side; `parts` is empty when one of them belongs to no release."""

    before: Trace
    after: Trace
    parts: tuple[PartChange, ...]
    facts: tuple[PartChange, ...]
    """What is said about the request as a whole: status, channel, model, verdicts, passages."""
    figures: tuple[Figure, ...]
    said: tuple[SaidChange, ...]


def compare_traces(workspace: Workspace, before: Trace, after: Trace) -> TraceComparison:
    """Everything that differs between two traces, and what does not. Raises nothing: what is missing is empty."""
    return TraceComparison(
        before=before,
        after=after,
        parts=_parts(workspace, before, after),
        facts=tuple(
            PartChange(part=name, before=old, after=new)
            for (name, old), (_, new) in zip(_facts(before), _facts(after), strict=True)
        ),
        figures=tuple(
            Figure(name=name, unit=unit, before=old, after=new)
            for (name, unit, old), (_, _, new) in zip(_figures(before), _figures(after), strict=True)
        ),
        said=tuple(_said(before, after)),
    )


def paid_steps(trace: Trace) -> list[Span]:
    """The steps whose tokens and money count: calls of models, or the root when there are none."""
    called = [span for span in trace.spans if span.kind in MODEL_KINDS and (span.input_tokens or span.cost_micros)]
    return called or [trace.root]


def _parts(workspace: Workspace, before: Trace, after: Trace) -> tuple[PartChange, ...]:
    records = workspace.store.records
    old = records.find(Release, before.root.release) if before.root.release else None
    new = records.find(Release, after.root.release) if after.root.release else None
    if old is None or new is None:
        return ()
    was, now = describe_parts(old), describe_parts(new)
    return (
        PartChange(part="release", before=old.label, after=new.label),
        *(PartChange(part=part, before=was[part], after=now[part]) for part in was),
    )


def _facts(trace: Trace) -> list[tuple[str, str]]:
    root = trace.root
    verdicts: dict[str, str] = {}
    for span in trace.spans:
        verdicts |= span.verdicts
    found = dict.fromkeys(str(passage.get("document", "")) for passage in passages_of(trace))
    return [
        ("status", root.status),
        ("model", next((span.model for span in paid_steps(trace) if span.model), root.model)),
        ("channel", root.channel),
        ("finish", next((span.finish for span in reversed(trace.spans) if span.finish), "")),
        ("verdicts", ", ".join(f"{rail}: {word}" for rail, word in sorted(verdicts.items()))),
        ("documents", ", ".join(filter(None, found))),
        ("error", next((span.error for span in trace.spans if span.error), "")),
    ]


def _figures(trace: Trace) -> list[tuple[str, str, float | None]]:
    paid = paid_steps(trace)
    first = next((span.first_token_ns for span in trace.spans if span.first_token_ns is not None), None)
    return [
        ("latency", "s", trace.root.seconds),
        ("first token", "s", None if first is None else first / 1e9),
        ("input tokens", "tokens", float(sum(span.input_tokens for span in paid))),
        ("output tokens", "tokens", float(sum(span.output_tokens for span in paid))),
        ("cached tokens", "tokens", float(sum(span.cached_tokens for span in paid))),
        ("cost", "usd", sum(span.cost_micros for span in paid) / 1e6),
        ("steps", "", float(len(trace.spans))),
        ("passages", "", float(len(passages_of(trace)))),
    ]


def _said(before: Trace, after: Trace) -> list[SaidChange]:
    changes = [_change("question", question_of(before), question_of(after))]
    sent = zip_longest(_sent(before), _sent(after), fillvalue=("", ""))
    for number, ((role, old), (new_role, new)) in enumerate(sent, start=1):
        changes.append(_change(f"message {number}, {role or new_role}", old, new))
    changes.append(_change("answer", answer_of(before), answer_of(after)))
    return [change for change in changes if change.pieces]


def _sent(trace: Trace) -> Sequence[tuple[str, str]]:
    """Messages of the first call of a model."""
    calls = calls_of(trace)
    return [(message["role"], message["text"]) for message in messages_of(calls[0])] if calls else []


def _change(what: str, before: str, after: str) -> SaidChange:
    if before == after:
        return SaidChange(what=what, pieces=(Piece("same", before),) if before else ())
    old, new = _beginning(before), _beginning(after)
    return SaidChange(what=what, pieces=tuple(word_diff(old, new)), cut=(old, new) != (before, after))


def _beginning(text: str) -> str:
    words = text.split(" ", MOST_WORDS)
    return text if len(words) <= MOST_WORDS else " ".join(words[:MOST_WORDS])

"""How spans that arrive change the line of their trace: root, person, release, sums, verdicts."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Row

from slipway.domain.trace import Span
from slipway.store.journal_spans import with_values
from slipway.store.rollups import MODEL_KINDS, Tally
from slipway.store.trace_pages import preview

LONGEST_TEXT = 500
LARGEST_NUMBER = 2**62
TEXT_COLUMNS = (
    "name",
    "subject",
    "session",
    "release",
    "channel",
    "environment",
    "provider",
    "model",
    "response_model",
    "prompt",
    "index",
    "finish",
)
NUMBER_COLUMNS = (
    "start_ns",
    "end_ns",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "cost_micros",
    "first_token_ns",
)
is_trace_id = re.compile(r"[0-9a-f]{32}").fullmatch
is_span_id = re.compile(r"[0-9a-f]{16}").fullmatch
NO_VERDICTS = "{}"
LINE = (
    "root",
    "started_ns",
    "ended_ns",
    "name",
    "kind",
    "status",
    "release",
    "channel",
    "environment",
    "provider",
    "model",
    "session",
    "subject",
    "spans",
    "model_spans",
    "input_tokens",
    "output_tokens",
    "cost_micros",
    "verdicts",
)
"""Columns of a trace's line that its spans decide."""
SPAN = (
    "trace_id",
    "span",
    "parent",
    "name",
    "kind",
    "start_ns",
    "duration_ns",
    "status",
    "provider",
    "model",
    "response_model",
    "prompt",
    "knowledge",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "usage_estimated",
    "cost_micros",
    "first_token_ns",
    "finish",
    "verdicts",
)
"""Columns of the row of a span."""
INHERITED = ("release", "channel", "session", "environment", "subject")
WORST_FIRST = ("block", "redact", "flag", "undecided", "allow")


class Arrival:
    """New spans of one trace, and how they change its line."""

    def __init__(self, id: str, spans: list[Span], row: Row[Any] | None) -> None:
        self.id, self.spans, self.row = id, spans, row
        self.number = 0
        self.subject: str | None = None
        self.whole: dict[str, Any] = {}
        self.root: Span | None = None
        """The root among the new spans; None when it came before or is still to come."""

    def inherit(self) -> None:
        """Finds the root, and gives every span what it knows of the whole."""
        row = self.row
        self.root = next((one for one in self.spans if one.parent is None), None)
        if self.root is None and (row is None or row.root is None):
            self.root = next((one for one in self.spans if one.kind == "request"), None)
        whole = self.whole
        for name in INHERITED:
            told = [getattr(one, name) for one in [*([self.root] if self.root else []), *self.spans]]
            known = getattr(row, name) if row is not None else None
            # Pages are sealed for the person who was known first; everything else the root knows best.
            told = [known, *told] if name == "subject" else [*told[:1], known, *told[1:]]
            whole[name] = next((value for value in told if value), None)
        self.subject = whole["subject"]
        spans = []
        for one in self.spans:
            # A trace is about one person: all of it is sealed under that person's key.
            missing = {name: value for name, value in whole.items() if value and not getattr(one, name)}
            if self.subject and one.subject != self.subject:
                missing["subject"] = self.subject
            spans.append(with_values(one, **missing) if missing else one)
        self.spans = spans
        if self.root is not None:
            span_id = self.root.span
            self.root = next(one for one in spans if one.span == span_id)

    def line(self) -> dict[str, Any]:
        """The columns of the trace's line after these spans."""
        row, root = self.row, self.root
        first = min(self.spans, key=lambda one: (one.start_ns, one.span))
        callers = [one for one in self.spans if one.kind in MODEL_KINDS]
        verdicts: dict[str, str] = msgspec.json.decode(row.verdicts) if row is not None else {}
        for one in self.spans:
            for rail, decision in one.verdicts.items():
                verdicts[rail] = _worse(verdicts.get(rail), decision)
        face = root or (first if row is None else None)
        line: dict[str, Any] = {
            "started_ns": min(one.start_ns for one in [root or first]),
            "ended_ns": max(one.end_ns for one in ([root] if root else self.spans)),
            "spans": len(self.spans) + (row.spans if row is not None else 0),
            "model_spans": len(callers) + (row.model_spans if row is not None else 0),
            "verdicts": encode_verdicts(verdicts),
        }
        if row is not None and root is None:
            # A root that came before keeps its times; without one, the trace spans what is there.
            line["started_ns"] = row.started_ns if row.root else min(row.started_ns, line["started_ns"])
            line["ended_ns"] = row.ended_ns if row.root else max(row.ended_ns, line["ended_ns"])
        for name in ("input_tokens", "output_tokens", "cost_micros"):
            line[name] = self._paid(name, callers)
        model = next((one.model or one.response_model for one in callers if one.model or one.response_model), "")
        provider = next((one.provider for one in callers if one.provider), "")
        if face is not None:
            line |= {"name": face.name, "kind": face.kind, "status": face.status}
            line["root"] = bytes.fromhex(root.span) if root else None
        line |= {name: self.whole[name] or "" for name in ("release", "channel", "environment", "session")}
        line["subject"] = self.subject
        line["model"] = (root.model or root.response_model if root else "") or (row.model if row else "") or model
        line["provider"] = (root.provider if root else "") or (row.provider if row else "") or provider
        return line

    def preview(self) -> str:
        """What the list shows of these spans."""
        said = (preview(one.content) for one in [*([self.root] if self.root else []), *self.spans])
        return next((one for one in said if one), "")

    def count(self, tally: Tally) -> None:
        """Adds the spans to the roll-ups. Tokens and money count where a model was called; else at the request."""
        had_callers = self.row is not None and self.row.model_spans > 0
        callers = had_callers or any(one.kind in MODEL_KINDS for one in self.spans)
        # A client may trace its own work around several requests to us: then these are counted, not the client's root.
        requests = (self.row is not None and self.row.kind == "request") or any(
            one.kind == "request" for one in self.spans
        )
        for one in self.spans:
            root = one.kind == "request" or (one.parent is None and not requests)
            tally.add(one, root=root, pays=one.kind in MODEL_KINDS or (root and not callers))

    def _paid(self, name: str, callers: Sequence[Span]) -> int:
        row = self.row
        before: int = getattr(row, name) if row is not None else 0
        if callers:
            had_callers = row is not None and row.model_spans > 0
            paid: int = sum((getattr(one, name) for one in callers), before if had_callers else 0)
            return min(paid, LARGEST_NUMBER)
        if row is not None and row.model_spans > 0:
            return before
        most: int = max(before, *(getattr(one, name) for one in self.spans))
        return most


def _worse(before: str | None, now: str) -> str:
    known = [decision for decision in (before, now) if decision in WORST_FIRST]
    return min(known, key=WORST_FIRST.index) if known else now


def lone_line(one: Span, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The line (`LINE`) of a trace of which one span is known: what `Arrival.line` says of it, without the detours.

    Most traces of a gateway are such, and this is done for every request. `row` is what `span_row` made of the span.
    """
    root = one.parent is None or one.kind == "request"
    calls = one.kind in MODEL_KINDS
    told = root or calls
    return (
        row[1] if root else None,
        one.start_ns,
        one.end_ns,
        one.name,
        one.kind,
        one.status,
        one.release or "",
        one.channel,
        one.environment,
        one.provider if told else "",
        (one.model or one.response_model) if told else "",
        one.session,
        one.subject or None,
        1,
        1 if calls else 0,
        one.input_tokens,
        one.output_tokens,
        one.cost_micros,
        row[-1],
    )


def count_lone(one: Span, tally: Tally) -> None:
    """What `Arrival.count` does with such a span."""
    root = one.parent is None or one.kind == "request"
    tally.add(one, root=root, pays=root or one.kind in MODEL_KINDS)


def span_row(one: Span, number: int) -> tuple[Any, ...]:
    """The row (`SPAN`) of a span. Ids are bytearrays: sqlite3 looks twice at bytes, and at what is true or false."""
    return (
        number,
        bytearray.fromhex(one.span),
        bytearray.fromhex(one.parent) if one.parent else None,
        one.name,
        one.kind,
        one.start_ns,
        one.end_ns - one.start_ns,
        one.status,
        one.provider,
        one.model,
        one.response_model,
        one.prompt,
        one.index,
        one.input_tokens,
        one.output_tokens,
        one.cached_tokens,
        one.reasoning_tokens,
        int(one.usage_estimated),
        one.cost_micros,
        one.first_token_ns,
        one.finish,
        encode_verdicts(one.verdicts),
    )


def clean(one: Span) -> Span | None:
    """The span with columns that every database takes; None when its ids are none."""
    if not (is_trace_id(one.trace) and is_span_id(one.span)):
        return None
    # All of them at once: one by one, to look would cost more than to store.
    texts = (
        f"{one.name}{one.subject or ''}{one.session}{one.release or ''}{one.channel}{one.environment}{one.provider}"
        f"{one.model}{one.response_model}{one.prompt}{one.index}{one.finish}"
    )
    if (
        len(texts) <= LONGEST_TEXT
        and texts.isprintable()
        and (one.parent is None or is_span_id(one.parent))
        and 0 <= one.start_ns <= one.end_ns <= LARGEST_NUMBER
        and 0 <= one.input_tokens <= LARGEST_NUMBER
        and 0 <= one.output_tokens <= LARGEST_NUMBER
        and 0 <= one.cached_tokens <= LARGEST_NUMBER
        and 0 <= one.reasoning_tokens <= LARGEST_NUMBER
        and 0 <= one.cost_micros <= LARGEST_NUMBER
        and (one.first_token_ns is None or 0 <= one.first_token_ns <= LARGEST_NUMBER)
    ):
        return one
    changed: dict[str, Any] = {}
    if one.parent is not None and not is_span_id(one.parent):
        changed["parent"] = None
    for name in TEXT_COLUMNS:
        value = getattr(one, name)
        if value and (len(value) > LONGEST_TEXT or not value.isprintable()):
            changed[name] = value[:LONGEST_TEXT].replace("\0", "").encode("utf-8", "replace").decode()
    for name in NUMBER_COLUMNS:
        value = getattr(one, name)
        if value is not None and not 0 <= value <= LARGEST_NUMBER:
            changed[name] = min(max(0, value), LARGEST_NUMBER)
    if one.end_ns < one.start_ns:
        changed["end_ns"] = changed.get("start_ns", one.start_ns)
    return with_values(one, **changed) if changed else one


def encode_verdicts(verdicts: dict[str, str]) -> str:
    return msgspec.json.encode(verdicts, order="sorted").decode() if verdicts else NO_VERDICTS

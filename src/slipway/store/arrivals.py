"""How spans that arrive change the line of their trace: root, person, release, sums, verdicts."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
from sqlalchemy import Row

from slipway.domain.trace import Span
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
_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_SPAN_ID = re.compile(r"[0-9a-f]{16}")
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
        if row is None and len(self.spans) == 1:
            # The usual case by far: a trace of one span, which knows itself best.
            one = self.spans[0]
            self.root = one if one.parent is None or one.kind == "request" else None
            self.whole.update({name: getattr(one, name) or None for name in INHERITED})
            self.subject = one.subject or None
            return
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
            spans.append(replace(one, **missing) if missing else one)
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
            return paid
        if row is not None and row.model_spans > 0:
            return before
        most: int = max(before, *(getattr(one, name) for one in self.spans))
        return most


def _worse(before: str | None, now: str) -> str:
    known = [decision for decision in (before, now) if decision in WORST_FIRST]
    return min(known, key=WORST_FIRST.index) if known else now


def clean(one: Span) -> Span | None:
    """The span with columns that every database takes; None when its ids are none."""
    if not (_TRACE_ID.fullmatch(one.trace) and _SPAN_ID.fullmatch(one.span)):
        return None
    changed: dict[str, Any] = {}
    if one.parent is not None and not _SPAN_ID.fullmatch(one.parent):
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
    return replace(one, **changed) if changed else one


def encode_verdicts(verdicts: dict[str, str]) -> str:
    return msgspec.json.encode(verdicts, order="sorted").decode()

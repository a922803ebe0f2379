"""Writes what happened to the journal before the last byte goes out, and counts it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from slipway.domain.errors import DiskFull, SlipwayError
from slipway.domain.ids import ReleaseId
from slipway.domain.message import Usage
from slipway.domain.trace import Span, SpanKind, Status
from slipway.gateway.admission import Admission
from slipway.gateway.call import Call
from slipway.gateway.metrics import Counts
from slipway.gateway.targets import Target
from slipway.gateway.upstream_calls import Attempt
from slipway.store.call_records import encode_call, read_call, shortened
from slipway.store.journal import Journal, segments
from slipway.store.journal_spans import with_values
from slipway.tracing.recorder import Recorder, encode_spans

log = logging.getLogger("slipway.gateway")
BODIES = frozenset({"content", "error"})
"""Fields of a span that hold what was said."""
NO_USAGE = Usage()


class Ledger:
    """One worker's journal and counts. A trace that cannot be written is counted and costs no answer."""

    def __init__(
        self, journal: Journal, counts: Counts, admission: Admission, *, project: str, keep_content: bool
    ) -> None:
        self.counts = counts
        self._admission = admission
        self._journal = journal
        self._project = project
        self._keep_content = keep_content
        self.last_failure = ""
        self.most_bytes = 1 << 62
        """Bytes of the journal above which traces are kept without what was said."""
        self._short_of_room = False
        self._waiting: list[bytes | bytearray] = []
        self.recorder = Recorder(project=project, sink=self.write, keep_content=keep_content)

    def write(self, spans: Sequence[Span]) -> None:
        """Returns when the kernel has the spans, or when the loss is counted."""
        self._write(spans)

    def look_at_room(self) -> None:
        """Looks how much waits in the journal, which the ingester may be unable to empty. For a thread, now and
        then."""
        waiting = sum(segment.bytes for segment in segments(self._journal.folder))
        if (waiting > self.most_bytes) is not self._short_of_room:
            self._short_of_room = not self._short_of_room
            state = "without" if self._short_of_room else "again with"
            log.warning("%d MB of traces wait: they are kept %s what was said", waiting // 1_000_000, state)

    def _write(self, spans: Sequence[Any]) -> None:
        if self._short_of_room:
            spans = self._shed(spans)
        try:
            self._journal.append(encode_spans(spans))
        except DiskFull as full:
            self._write_without_bodies(spans, full)
        except Exception as wrong:  # whatever is odd about a trace must not cost its answer
            self._lost(wrong)

    def _write_without_bodies(self, spans: Sequence[Any], full: DiskFull) -> None:
        """What a request was about goes before that it was there at all."""
        if not self._short_of_room:
            try:
                self._journal.append(encode_spans(self._shed(spans)))
            except Exception:
                self.counts.bodies_shed -= 1
            else:
                self.last_failure = f"kept without what was said: {full}"
                return
        self._lost(full)

    def _shed(self, spans: Sequence[Any]) -> list[Any]:
        self.counts.bodies_shed += 1
        return [
            {name: value for name, value in span.items() if name not in BODIES}
            if isinstance(span, dict)
            else with_values(span, content={}, error="")
            for span in spans
        ]

    def _lost(self, wrong: Exception) -> None:
        self.counts.traces_lost += 1
        if str(wrong) != self.last_failure:
            self.last_failure = str(wrong)
            log.error("traces are lost: %s", wrong)

    def write_call(
        self,
        call: Call,
        *,
        name: str,
        kind: SpanKind,
        status: Status,
        target: Target | None = None,
        usage: Usage = NO_USAGE,
        response_model: str = "",
        finish: str = "",
        error: str = "",
        verdicts: Mapping[str, str] | None = None,
        content: Mapping[str, Any] | None = None,
        attempts: Sequence[Attempt] = (),
    ) -> None:
        """One request as a trace of one span, and one more for each call of an engine that failed on the way."""
        call.recorded = True
        if status != "ok":
            call.outcome = call.outcome or status
        cost = target.cost_micros(usage) if target is not None else 0
        if usage is not NO_USAGE:
            self.count(call, usage, cost)
        # What a `Span` would be written as, without its defaults: it is decoded as one, and making it only to write it
        # would cost more than all the rest of this function.
        span: dict[str, Any] = {
            "trace": call.trace,
            "span": call.span,
            "name": name,
            "kind": kind,
            "start_ns": call.started_ns,
            "end_ns": call.end_ns,
            "status": status,
            "project": self._project,
            "channel": call.channel,
            "model": target.model if target else call.model,
        }
        if target is not None:
            span["provider"] = target.engine
        if call.release:
            span["release"] = call.release
        if call.parent is not None:
            span["parent"] = call.parent
        if call.subject is not None:
            span["subject"] = call.subject
        if call.session:
            span["session"] = call.session
        if usage is not NO_USAGE:
            span["input_tokens"] = usage.input_tokens
            span["output_tokens"] = usage.output_tokens
            span["cached_tokens"] = usage.cached_tokens
            span["reasoning_tokens"] = usage.reasoning_tokens
            span["usage_estimated"] = usage.estimated
            span["cost_micros"] = cost
        if call.first_byte_ns is not None:
            span["first_token_ns"] = call.first_byte_ns
        if response_model:
            span["response_model"] = response_model
        if finish:
            span["finish"] = finish
        if verdicts:
            span["verdicts"] = verdicts
        if call.shadow_of:
            span["environment"] = "shadow"
            content = {**(content or {}), "shadow_of": call.shadow_of}
        if self._keep_content:
            if error:
                span["error"] = error
            if content:
                span["content"] = content
        # A single failure that the request itself ended with is told by the request's own span.
        told = len(attempts) > 1 or (attempts and status == "ok")
        self._write([span, *self._failed(call, attempts)] if told else [span])

    def _failed(self, call: Call, attempts: Sequence[Attempt]) -> list[dict[str, Any]]:
        """Failed calls as spans below the request's own. All of them carried the same idempotency key."""
        spans = []
        for number, attempt in enumerate(attempts, start=1):
            span: dict[str, Any] = {
                "trace": call.trace,
                "span": os.urandom(8).hex(),
                "parent": call.span,
                "name": f"attempt {number}: {attempt.target.label}",
                "kind": "other",
                "start_ns": attempt.started_ns,
                "end_ns": attempt.started_ns + round(attempt.seconds * 1e9),
                "status": "error",
                "project": self._project,
                "channel": call.channel,
                "provider": attempt.target.engine,
                "model": attempt.target.model,
            }
            if call.subject is not None:
                span["subject"] = call.subject
            if self._keep_content:
                span["error"] = str(attempt.failure)
                span["content"] = {
                    "address": attempt.address,
                    "code": attempt.failure.code,
                    "idempotency_key": call.idempotency_key.decode("ascii"),
                }
            spans.append(span)
        return spans

    def note_answer(
        self,
        call: Call,
        *,
        target: Target,
        usage: Usage,
        model: str,
        finish: str,
        asked: bytes | memoryview,
        reply: str,
        verdicts: dict[str, str] | None,
    ) -> None:
        """As `write_call`, for a chat completion that went well. It is in the journal after `flush`.

        `asked` is the JSON of its messages, `model` the one that answered.
        """
        call.recorded = True
        cost = target.cost_micros(usage)
        self._count(call, usage, cost)
        keep = self._keep_content and not self._short_of_room
        if self._short_of_room:
            self.counts.bodies_shed += 1
        self._waiting.append(
            encode_call(
                (
                    call.trace,
                    call.span,
                    call.parent,
                    f"chat {target.model}",
                    call.started_ns,
                    call.end_ns,
                    self._project,
                    call.subject,
                    call.session,
                    ReleaseId(call.release) if call.release else None,
                    call.channel,
                    target.engine,  # the provider
                    target.model,
                    model,
                    usage.input_tokens,
                    usage.output_tokens,
                    usage.cached_tokens,
                    usage.reasoning_tokens,
                    cost,
                    finish,
                    verdicts or {},
                    asked if keep else b"",
                    shortened(reply) if keep else "",
                    usage.estimated,
                    call.first_byte_ns,
                )
            )
        )

    def flush(self) -> None:
        """Returns when the kernel has what `note_answer` noted, or when the loss is counted. All of it is one write;
        where that fails, one each, so that what there is room for is kept."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        self._admission.save()
        try:
            self._journal.append_all(waiting)
        except (SlipwayError, OSError):
            for payload in waiting:
                self._write_call_record(payload)

    def _write_call_record(self, payload: bytes | bytearray) -> None:
        try:
            self._journal.append(payload)
        except DiskFull as full:
            self._write_without_bodies([read_call(payload)], full)
        except Exception as wrong:
            self._lost(wrong)

    def count(self, call: Call, usage: Usage, cost_micros: int) -> None:
        """Counts what a call used, for good."""
        self._count(call, usage, cost_micros)
        self._admission.save()

    def _count(self, call: Call, usage: Usage, cost_micros: int) -> None:
        line = call.line = call.line or self.counts.line(call.path, call.channel, call.release)
        line.input_tokens += usage.input_tokens
        line.output_tokens += usage.output_tokens
        line.cached_tokens += usage.cached_tokens
        line.cost_micros += cost_micros
        if call.account is not None:
            self._admission.used(call.account, tokens=usage.total_tokens, micros=cost_micros)

    def saved(self, call: Call, cost_micros: int) -> None:
        """Counts what an answer from the cache would have cost."""
        self.counts.cache_hits += 1
        self.counts.cache_saved_micros += cost_micros
        self._admission.saved(cost_micros)

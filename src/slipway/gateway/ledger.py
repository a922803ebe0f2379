"""Writes what happened to the journal before the last byte goes out, and counts it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from slipway.domain.errors import SlipwayError
from slipway.domain.message import Usage
from slipway.domain.trace import Span, SpanKind, Status
from slipway.gateway.admission import Admission
from slipway.gateway.call import Call
from slipway.gateway.metrics import Counts
from slipway.gateway.targets import Target
from slipway.store.journal import Journal
from slipway.tracing.recorder import Recorder, encode_spans

log = logging.getLogger("slipway.gateway")
LONGEST_TEXT = 256 * 1024
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
        self.recorder = Recorder(project=project, sink=self.write, keep_content=keep_content)

    def write(self, spans: Sequence[Span]) -> None:
        """Returns when the kernel has the spans, or when the loss is counted."""
        self._write(spans)

    def _write(self, spans: Sequence[Any]) -> None:
        try:
            self._journal.append(encode_spans(spans))
        except (SlipwayError, OSError, ValueError) as wrong:
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
    ) -> None:
        """One request as a trace of one span."""
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
            "end_ns": time.time_ns(),
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
        if self._keep_content:
            if error:
                span["error"] = error
            if content:
                span["content"] = content
        self._write([span])

    def count(self, call: Call, usage: Usage, cost_micros: int) -> None:
        line = call.line = call.line or self.counts.line(call.path, call.channel, call.release)
        line.input_tokens += usage.input_tokens
        line.output_tokens += usage.output_tokens
        line.cached_tokens += usage.cached_tokens
        line.cost_micros += cost_micros
        if call.key is not None:
            self._admission.used(call.key, tokens=usage.total_tokens, micros=cost_micros)


def shortened(text: str) -> str:
    """A text as a trace keeps it."""
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}… ({len(text)} characters)"

"""What users' traffic costs: by release, model, person and operation, and what repeated calls a cache would save."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from slipway.domain.expense import Costs, Repeat, Repeats
from slipway.domain.ids import TraceId
from slipway.domain.trace import OWN_CHANNELS
from slipway.store.trace_calls import Call, count_calls, read_calls
from slipway.store.trace_sums import count_groups, read_groups, read_operations
from slipway.workspace import Workspace

MOST_LOOKED_AT = 20_000
"""Calls whose words are compared: opening one costs about a tenth of a millisecond."""


def read_costs(
    workspace: Workspace,
    *,
    since: datetime,
    until: datetime | None = None,
    most: int = 20,
    look_at: int = MOST_LOOKED_AT,
) -> Costs:
    """The economics of this stretch of time, without what Slipway asked itself; lists hold the `most` dearest."""
    until = until or workspace.now()
    traces = workspace.store.traces
    over: dict[str, Any] = {"since": since, "until": until, "without": OWN_CHANNELS}
    # There are few models and releases: their sums are those of everything.
    by_release = read_groups(traces, by="release", order="dearest", limit=1000, **over).rows
    by_model = read_groups(traces, by="model", order="dearest", limit=most, **over).rows
    return Costs(
        since=since,
        until=until,
        requests=sum(group.traces for group in by_release),
        cost_micros=sum(group.cost_micros for group in by_release),
        by_release=by_release[:most],
        by_model=by_model,
        by_user=read_groups(traces, by="subject", order="dearest", limit=most, **over).rows,
        users=count_groups(traces, by="subject", **over),
        by_operation=read_operations(traces, limit=most, **over),
        repeats=find_repeats(workspace, since=since, until=until, look_at=look_at, most=min(10, most)),
    )


@dataclass(slots=True)
class _Calls:
    """Calls with the same words; what all but the oldest one cost is what a cache would save."""

    example: TraceId
    calls: int = 0
    tokens: int = 0
    micros: int = 0
    oldest_tokens: int = 0
    oldest_micros: int = 0

    def add(self, tokens: int, micros: int) -> None:
        # They come newest first, so the last one that is added is the oldest.
        self.calls += 1
        self.tokens += tokens
        self.micros += micros
        self.oldest_tokens, self.oldest_micros = tokens, micros

    @property
    def tokens_saved(self) -> int:
        return self.tokens - self.oldest_tokens

    @property
    def saved_micros(self) -> int:
        return self.micros - self.oldest_micros


def find_repeats(
    workspace: Workspace, *, since: datetime, until: datetime, look_at: int = MOST_LOOKED_AT, most: int = 10
) -> Repeats:
    """Calls of users that were made before with exactly the same words, compared by hash; failed ones do not count."""
    calls: dict[bytes, _Calls] = {}
    own: dict[tuple[bytes, str], _Calls] = {}
    looked_at = 0
    traces = workspace.store.traces
    for call in read_calls(traces, since=since, until=until, without=OWN_CHANNELS, most=look_at):
        looked_at += 1
        key = _request_hash(call)
        if key is None:
            continue
        tokens = call.input_tokens + call.output_tokens
        calls.setdefault(key, _Calls(call.trace)).add(tokens, call.cost_micros)
        if call.subject:
            own.setdefault((key, call.subject), _Calls(call.trace)).add(tokens, call.cost_micros)
    of = looked_at
    if looked_at == look_at:
        of = count_calls(traces, since=since, until=until, without=OWN_CHANNELS)
    again = sorted((one for one in calls.values() if one.calls > 1), key=lambda one: (-one.saved_micros, -one.calls))
    return Repeats(
        looked_at=looked_at,
        of=of,
        repeated=sum(one.calls - 1 for one in again),
        tokens_saved=sum(one.tokens_saved for one in again),
        saved_micros=sum(one.saved_micros for one in again),
        own_repeated=sum(one.calls - 1 for one in own.values()),
        own_saved_micros=sum(one.saved_micros for one in own.values()),
        most=tuple(
            Repeat(example=one.example, calls=one.calls, tokens_saved=one.tokens_saved, saved_micros=one.saved_micros)
            for one in again[:most]
        ),
    )


def _request_hash(call: Call) -> bytes | None:
    """Hash of everything that a cache would look at: release, model, prompt, messages, tools; None without words."""
    asked = call.content.get("messages") or call.content.get("question") or call.content.get("query")
    if not asked:
        return None
    parts: Sequence[Any] = (call.release, call.model, call.prompt, asked, call.content.get("tools"))
    return hashlib.blake2b(msgspec.msgpack.encode(parts, enc_hook=str), digest_size=16).digest()

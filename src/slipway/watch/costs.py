"""What users' traffic costs: by release, model, person and operation, and what repeated calls a cache would save."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Row, func, select

from slipway.domain.expense import Costs, Repeat, Repeats
from slipway.domain.ids import TraceId
from slipway.domain.trace import OWN_CHANNELS
from slipway.store.schema import span, trace
from slipway.store.trace_contents import open_contents
from slipway.store.trace_sums import count_groups, read_groups, read_operations
from slipway.workspace import Workspace

MOST_LOOKED_AT = 20_000
"""Calls whose words are compared: opening one costs about a tenth of a millisecond."""
AT_ONCE = 1000


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
    for row, step, said in _calls(workspace, since, until, look_at):
        looked_at += 1
        key = _request_hash(row, step, said)
        if key is None:
            continue
        tokens = step.input_tokens + step.output_tokens
        example = TraceId(row.trace.hex())
        calls.setdefault(key, _Calls(example)).add(tokens, step.cost_micros)
        if row.subject:
            own.setdefault((key, row.subject), _Calls(example)).add(tokens, step.cost_micros)
    again = sorted((one for one in calls.values() if one.calls > 1), key=lambda one: (-one.saved_micros, -one.calls))
    return Repeats(
        looked_at=looked_at,
        of=_count_calls(workspace, since, until) if looked_at == look_at else looked_at,
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


def _calls(
    workspace: Workspace, since: datetime, until: datetime, look_at: int
) -> Iterator[tuple[Row[Any], Row[Any], Mapping[bytes, Mapping[str, Any]]]]:
    """(line of the trace, step that called a model, what the trace says), newest first, at most `look_at`."""
    traces = workspace.store.traces
    where = [*_users(traces.project, since, until)]
    seen = 0
    before: int | None = None
    with traces.database.reading() as connection:
        while seen < look_at:
            page = where if before is None else [*where, trace.c.id < before]
            # By number, which grows as traces arrive: close enough to their time, and quick to go on from.
            rows = connection.execute(select(trace).where(*page).order_by(trace.c.id.desc()).limit(AT_ONCE)).all()
            if not rows:
                return
            before = rows[-1].id
            steps: dict[int, list[Row[Any]]] = {}
            numbers = [row.id for row in rows]
            for step in connection.execute(select(span).where(span.c.trace_id.in_(numbers), _answered())):
                steps.setdefault(step.trace_id, []).append(step)
            for opened in open_contents(traces, connection, rows):
                mine = steps.get(opened.row.id, [])
                called = [step for step in mine if step.kind == "chat"]
                if opened.row.model_spans == 0:
                    # The gateway's own line is request and call in one.
                    called = [step for step in mine if step.span == opened.row.root]
                for step in called:
                    if seen == look_at:
                        return
                    seen += 1
                    yield opened.row, step, opened.said


def _users(project: str, since: datetime, until: datetime) -> list[Any]:
    return [
        trace.c.project == project,
        trace.c.started_ns >= int(since.timestamp() * 1e9),
        trace.c.started_ns < int(until.timestamp() * 1e9),
        trace.c.channel.not_in(sorted(OWN_CHANNELS)),
    ]


def _answered() -> Any:
    return span.c.kind.in_(["chat", "request"]) & span.c.status.in_(["ok", "unset", "abstained"])


def _count_calls(workspace: Workspace, since: datetime, until: datetime) -> int:
    traces = workspace.store.traces
    statement = (
        select(func.count())
        .select_from(span)
        .join(trace, trace.c.id == span.c.trace_id)
        .where(
            *_users(traces.project, since, until),
            _answered(),
            (span.c.kind == "chat") | ((span.c.span == trace.c.root) & (trace.c.model_spans == 0)),
        )
    )
    with traces.database.reading() as connection:
        return int(connection.execute(statement).scalar_one())


def _request_hash(row: Row[Any], step: Row[Any], said: Mapping[bytes, Mapping[str, Any]]) -> bytes | None:
    """Hash of everything that a cache would look at: release, model, prompt, messages, tools; None without words."""
    content = said.get(step.span, {})
    asked = content.get("messages") or content.get("question") or content.get("query")
    if not asked:
        return None
    parts: Sequence[Any] = (row.release, step.model, step.prompt, asked, content.get("tools"))
    return hashlib.blake2b(msgspec.msgpack.encode(parts, enc_hook=str), digest_size=16).digest()

"""Traces: narrow rows for lists and numbers, sealed pages for what was said, words for the search."""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, Row, Select, delete, false, func, select, text, true, tuple_, update

from slipway.domain.errors import ContentErased, NotFound
from slipway.domain.ids import ReleaseId, SpanId, SubjectId, TraceId
from slipway.domain.rollup import RollupPoint
from slipway.domain.trace import Span, Status, Trace, TracePage, TraceSummary
from slipway.store.databases.base import Database
from slipway.store.encryption import Keys
from slipway.store.rollups import forget_rollups, read_series
from slipway.store.schema import erased, span, trace, trace_page, waiting_event
from slipway.store.trace_pages import WORDS_VERSION, pack_said, preview, unpack, words_in
from slipway.store.trace_query import condition
from slipway.store.trace_writer import AT_ONCE, TraceWriter, open_preview, some_of
from slipway.store.words import index_line, query_words

Many = list
"""`list` under a name that the method `Traces.list` does not hide."""
FEW = 500


class Traces:
    """The traces of one project."""

    def __init__(self, database: Database, project: str, keys: Keys) -> None:
        self.database, self.project, self.keys = database, project, keys
        self._writer = TraceWriter(database, project, keys)

    def add(self, spans: Sequence[Span]) -> int:
        """Stores spans; returns how many were new. See `TraceWriter.add`."""
        return self._writer.add(spans)

    # Reading ----------------------------------------------------------------------------------------------------------

    def get(self, trace_id: str) -> Trace:
        """Raises `NotFound`, or `ContentErased` when the trace went with its person."""
        with self.database.reading() as connection:
            row = connection.execute(select(trace).where(*self._one(trace_id))).first()
            if row is None:
                raise self._missing(connection, trace_id)
            rows = connection.execute(
                select(span).where(span.c.trace_id == row.id).order_by(span.c.start_ns, span.c.span)
            ).all()
            said: dict[bytes, Any] = {}
            for page in connection.execute(select(trace_page.c.body).where(trace_page.c.trace_id == row.id)):
                said |= unpack(self.keys.open(connection, page.body, kind="trace", id=trace_id))
        spans = [_span(one, row, self.project, said.get(one.span)) for one in rows]
        spans.sort(key=lambda one: bytes.fromhex(one.span) != row.root)
        return Trace(id=TraceId(trace_id), spans=tuple(spans))

    def summary(self, trace_id: str) -> TraceSummary:
        """One line of the list. Raises `NotFound`, `ContentErased`."""
        with self.database.reading() as connection:
            row = connection.execute(select(trace).where(*self._one(trace_id))).first()
            if row is None:
                raise self._missing(connection, trace_id)
            return self._summary(connection, row)

    def list(
        self,
        *,
        query: str = "",
        text: str = "",
        release: str | None = None,
        channel: str | None = None,
        status: str | None = None,
        model: str | None = None,
        session: str | None = None,
        subject: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> TracePage:
        """Traces that meet every filter, newest first.

        `query` is the filter language of `trace_query`; `text` asks for words that must all occur (`word*` for a
        beginning). `after` is `next` of the page before. Raises `QueryInvalid`.
        """
        where = self._where(
            query=query,
            equal={
                "release": release,
                "channel": channel,
                "status": status,
                "model": model,
                "session": session,
                "subject": subject,
            },
            since=since,
            until=until,
        )
        if after is not None:
            where.append(tuple_(trace.c.started_ns, trace.c.id) < tuple_(*_position(after)))
        statement = select(trace).where(*where).order_by(trace.c.started_ns.desc(), trace.c.id.desc()).limit(limit + 1)
        with self.database.reading() as connection:
            rows = connection.execute(self._holding(connection, text, statement)).all()
            shown = tuple(self._summary(connection, row) for row in rows[:limit])
        more = f"{rows[limit - 1].started_ns}-{rows[limit - 1].id}" if len(rows) > limit else None
        return TracePage(rows=shown, next=more)

    def count(
        self,
        *,
        query: str = "",
        text: str = "",
        release: str | None = None,
        channel: str | None = None,
        status: str | None = None,
        model: str | None = None,
        session: str | None = None,
        subject: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> int:
        """Number of traces that `list` would give. Raises `QueryInvalid`."""
        equal = {
            "release": release,
            "channel": channel,
            "status": status,
            "model": model,
            "session": session,
            "subject": subject,
        }
        where = self._where(query=query, equal=equal, since=since, until=until)
        with self.database.reading() as connection:
            statement = select(func.count()).select_from(trace).where(*where)
            return int(connection.execute(self._holding(connection, text, statement)).scalar_one())

    def series(
        self,
        *,
        since: datetime,
        until: datetime,
        by: Literal["release", "model", "channel"] | None = None,
        step_s: int = 60,
    ) -> Many[RollupPoint]:
        """Numbers per step of time, from the roll-ups alone.

        Counts and latencies are of whole requests; with `by="model"`, of the calls of models. Steps without traffic are
        left out. `step_s` is rounded down to whole minutes.
        """
        with self.database.reading() as connection:
            return read_series(connection, self.project, since=since, until=until, by=by, step_s=step_s)

    def subjects(self) -> Many[SubjectId]:
        """Everybody whom traces are about, in order."""
        statement = (
            select(trace.c.subject)
            .where(trace.c.project == self.project, trace.c.subject.is_not(None))
            .distinct()
            .order_by(trace.c.subject)
        )
        with self.database.reading() as connection:
            return [SubjectId(subject) for subject in connection.execute(statement).scalars()]

    def about(self, subject: str) -> Many[TraceId]:
        """Every trace about a person, oldest first."""
        statement = (
            select(trace.c.trace)
            .where(trace.c.project == self.project, trace.c.subject == subject)
            .order_by(trace.c.started_ns, trace.c.id)
        )
        with self.database.reading() as connection:
            return [TraceId(found.hex()) for found in connection.execute(statement).scalars()]

    # Removing ---------------------------------------------------------------------------------------------------------

    def remove(self, ids: Sequence[str], *, tombstones: bool = False) -> int:
        """Removes traces with their content and words; roll-ups keep the numbers. Returns how many there were.

        With tombstones, asking for one raises `ContentErased`, and late spans of it are refused. The words of a page
        are taken out of the index by themselves, so this must come before the person's key is erased.
        """
        removed = 0
        with self.database.transaction() as connection:
            self.database.dialect.lock_project(connection, self.project)
            for some in some_of(ids):
                found = connection.execute(
                    select(trace.c.id, trace.c.trace).where(
                        trace.c.project == self.project, trace.c.trace.in_([bytes.fromhex(id) for id in some])
                    )
                ).all()
                names = {row.id: row.trace.hex() for row in found}
                if not names:
                    continue
                self._forget_words(connection, names)
                connection.execute(delete(trace_page).where(trace_page.c.trace_id.in_(names)))
                connection.execute(delete(span).where(span.c.trace_id.in_(names)))
                connection.execute(delete(trace).where(trace.c.id.in_(names)))
                connection.execute(
                    delete(waiting_event).where(
                        waiting_event.c.project == self.project, waiting_event.c.trace.in_([row.trace for row in found])
                    )
                )
                removed += len(names)
                if tombstones:
                    now = time.time_ns() // 1000
                    connection.execute(
                        self.database.insert(erased).on_conflict_do_nothing(),
                        [
                            {"project": self.project, "kind": "trace", "id": name, "erased_us": now}
                            for name in names.values()
                        ],
                    )
        return removed

    def expire(self, *, before: datetime, at_once: int = 1000) -> int:
        """Removes traces that started before a moment, a thousand in a transaction; returns how many."""
        removed = 0
        while True:
            statement = (
                select(trace.c.trace)
                .where(trace.c.project == self.project, trace.c.started_ns < _ns(before))
                .order_by(trace.c.started_ns)
                .limit(at_once)
            )
            with self.database.reading() as connection:
                ids = [found.hex() for found in connection.execute(statement).scalars()]
            if not ids:
                return removed
            removed += self.remove(ids)

    def expire_rollups(self, *, before: datetime) -> int:
        """Removes roll-ups older than a moment; returns how many rows."""
        with self.database.transaction() as connection:
            return forget_rollups(connection, self.project, before=before)

    def rewrite(self, trace_id: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> bool:
        """Changes what the spans of a trace say, with its words and preview; whether anything changed."""
        with self.database.transaction() as connection:
            self.database.dialect.lock_project(connection, self.project)
            row = connection.execute(select(trace).where(*self._one(trace_id))).first()
            if row is None:
                return False
            changed = False
            shown = ""
            for page in connection.execute(select(trace_page).where(trace_page.c.trace_id == row.id)).all():
                said = unpack(self.keys.open(connection, page.body, kind="trace", id=trace_id))
                after = {id: msgspec.structs.replace(one, content=change(one.content)) for id, one in said.items()}
                root = after.get(row.root or b"")
                shown = shown or (preview(root.content) if root else "")
                if after == said:
                    continue
                changed = True
                dialect = self.database.dialect
                dialect.forget_words(connection, [(page.id, index_line(words_in(list(said.values()))))])
                dialect.index_words(connection, [(page.id, index_line(words_in(list(after.values()))))])
                body = self.keys.seal(
                    connection, pack_said(list(after.values())), subject=row.subject, kind="trace", id=trace_id
                )
                connection.execute(update(trace_page).where(trace_page.c.id == page.id).values(body=body))
            if changed:
                sealed = self.keys.seal(connection, shown.encode(), subject=row.subject, kind="preview", id=trace_id)
                connection.execute(update(trace).where(trace.c.id == row.id).values(preview=sealed))
        return changed

    def ids(self) -> Iterator[TraceId]:
        """Every trace, oldest first."""
        statement = select(trace.c.trace).where(trace.c.project == self.project).order_by(trace.c.started_ns)
        with self.database.reading() as connection:
            for found in connection.execute(statement).scalars().all():
                yield TraceId(found.hex())

    def _forget_words(self, connection: Connection, names: dict[int, str]) -> None:
        pages = connection.execute(select(trace_page).where(trace_page.c.trace_id.in_(names))).all()
        lines = []
        unknown = False
        for page in pages:
            try:
                lines.append((page.id, self._line_of(connection, page, names[page.trace_id])))
            except ContentErased:
                unknown = True
            unknown = unknown or page.indexed != WORDS_VERSION
        if unknown:
            # The index holds words that cannot be told any more: it is built again from what can be read.
            connection.execute(delete(trace_page).where(trace_page.c.trace_id.in_(names)))
            self.rebuild_words()
        else:
            self.database.dialect.forget_words(connection, lines)

    def rebuild_words(self) -> int:
        """Builds the word index anew from what can be read; returns the number of pages."""
        done = 0
        with self.database.transaction() as connection:
            everybody = self.database.dialect.forget_all_words(connection, self.project)
            whose = true() if everybody else trace_page.c.project == self.project
            last = 0
            while True:
                pages = connection.execute(
                    select(trace_page, trace.c.trace)
                    .join(trace, trace.c.id == trace_page.c.trace_id)
                    .where(trace_page.c.id > last, whose)
                    .order_by(trace_page.c.id)
                    .limit(AT_ONCE)
                ).all()
                if not pages:
                    return done
                last = pages[-1].id
                lines = []
                for page in pages:
                    try:
                        lines.append((page.id, self._line_of(connection, page, page.trace.hex())))
                    except ContentErased:
                        continue
                self.database.dialect.index_words(connection, lines)
                done += len(lines)

    def _line_of(self, connection: Connection, page: Row[Any], trace_id: str) -> str:
        body = self.keys.of(page.project).open(connection, page.body, kind="trace", id=trace_id)
        return index_line(words_in(list(unpack(body).values())))

    # Parts ------------------------------------------------------------------------------------------------------------

    def _one(self, trace_id: str) -> tuple[Any, ...]:
        try:
            raw = bytes.fromhex(trace_id)
        except ValueError:
            raw = b""
        return (trace.c.project == self.project, trace.c.trace == raw)

    def _missing(self, connection: Connection, trace_id: str) -> Exception:
        where = (erased.c.project == self.project, erased.c.kind == "trace", erased.c.id == trace_id)
        if connection.execute(select(erased.c.id).where(*where)).first():
            return ContentErased("trace", trace_id)
        return NotFound("trace", trace_id, next_step="List what there is: slipway watch traces")

    def _where(
        self,
        *,
        query: str,
        equal: dict[str, str | None],
        since: datetime | None,
        until: datetime | None,
    ) -> Many[Any]:
        where: Many[Any] = [condition(query)]
        where += [trace.c[name] == value for name, value in equal.items() if value is not None]
        if since is not None:
            where.append(trace.c.started_ns >= _ns(since))
        if until is not None:
            where.append(trace.c.started_ns < _ns(until))
        return where

    def _holding(self, connection: Connection, words: str, statement: Select[Any]) -> Select[Any]:
        """The statement over the traces of this project that hold every word."""
        mine = trace.c.project == self.project
        if not words.strip():
            return statement.where(mine)
        wanted = query_words(words)
        sql, parameters = self.database.dialect.pages_with(wanted) if wanted else ("select 0 as id", {})
        pages = text(sql).bindparams(**parameters).columns(trace_page.c.id).subquery("found")
        holding = (
            select(trace_page.c.trace_id)
            .join(pages, pages.c.id == trace_page.c.id)
            .where(trace_page.c.project == self.project)
        )
        few = connection.execute(holding.limit(FEW + 1)).scalars().all()
        if len(few) > FEW:
            # Of many, the newest are found soon by going back in time.
            return statement.where(mine, trace.c.id.in_(holding))
        # Few are looked up by their numbers, which belong to this project: named once more, it would tempt SQLite to go
        # through the whole project by its index.
        return statement.where(trace.c.id.in_(few) if few else false())

    def _summary(self, connection: Connection, row: Row[Any]) -> TraceSummary:
        return TraceSummary(
            id=TraceId(row.trace.hex()),
            started_at=datetime.fromtimestamp(0, UTC) + timedelta(microseconds=row.started_ns // 1000),
            name=row.name,
            release=ReleaseId(row.release) if row.release else None,
            channel=row.channel,
            model=row.model,
            status=row.status,
            seconds=(row.ended_ns - row.started_ns) / 1e9,
            input_tokens=row.input_tokens,
            output_tokens=row.output_tokens,
            cost_micros=row.cost_micros,
            spans=row.spans,
            subject=SubjectId(row.subject) if row.subject else None,
            session=row.session,
            preview=open_preview(connection, self.keys, row),
            verdicts=msgspec.json.decode(row.verdicts),
        )


def _span(row: Row[Any], whole: Row[Any], project: str, said: Any) -> Span:
    status: Status = row.status
    return Span(
        trace=TraceId(whole.trace.hex()),
        span=SpanId(row.span.hex()),
        parent=SpanId(row.parent.hex()) if row.parent else None,
        name=row.name,
        kind=row.kind,
        start_ns=row.start_ns,
        end_ns=row.start_ns + row.duration_ns,
        status=status,
        project=project,
        subject=SubjectId(whole.subject) if whole.subject else None,
        session=whole.session,
        release=ReleaseId(whole.release) if whole.release else None,
        channel=whole.channel,
        environment=whole.environment,
        provider=row.provider,
        model=row.model,
        response_model=row.response_model,
        prompt=row.prompt,
        index=row.knowledge,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cached_tokens=row.cached_tokens,
        reasoning_tokens=row.reasoning_tokens,
        usage_estimated=row.usage_estimated,
        cost_micros=row.cost_micros,
        first_token_ns=row.first_token_ns,
        finish=row.finish,
        error=said.error if said else "",
        verdicts=msgspec.json.decode(row.verdicts),
        content=said.content if said else {},
    )


def _position(after: str) -> tuple[int, int]:
    started, _, number = after.partition("-")
    if not (started.isdigit() and number.isdigit()):
        raise NotFound("page of traces", after, next_step="Begin again without it.")
    return int(started), int(number)


def _ns(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000) * 1000

"""Traces: narrow rows for lists and numbers, sealed pages for what was said, words for the search."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, Row, delete, func, literal_column, select, text, true, tuple_, update

from slipway.domain.errors import ContentErased, NotFound
from slipway.domain.ids import ReleaseId, SpanId, SubjectId, TraceId
from slipway.domain.rollup import RollupPoint
from slipway.domain.trace import Span, Status, Trace, TracePage, TraceSummary
from slipway.store.arrivals import Arrival, clean, encode_verdicts
from slipway.store.databases.base import Database
from slipway.store.encryption import Keys
from slipway.store.rollups import Tally, forget_rollups, read_series, write_tally
from slipway.store.schema import erased, span, trace, trace_page
from slipway.store.trace_pages import WORDS_VERSION, pack, pack_said, preview, unpack, words_in
from slipway.store.trace_query import condition
from slipway.store.words import index_line, query_words

Many = list
"""`list` under a name that the method `Traces.list` does not hide."""
# A few hundred at a time: every database limits the number of parameters.
AT_ONCE = 400


class Traces:
    """The traces of one project."""

    def __init__(self, database: Database, project: str, keys: Keys) -> None:
        self.database, self.project, self.keys = database, project, keys

    # Writing ----------------------------------------------------------------------------------------------------------

    def add(self, spans: Sequence[Span]) -> int:
        """Stores spans with their content, words and roll-ups in one transaction; returns how many were new.

        Spans that are there already (same trace and span) change nothing. Spans of one trace may come in any order and
        in many batches; what the root knows (release, channel, session, environment, person) counts for all of them.
        """
        if not spans:
            return 0
        incoming: dict[str, dict[str, Span]] = {}
        for one in filter(None, map(clean, spans)):
            incoming.setdefault(one.trace, {}).setdefault(one.span, one)
        with self.database.transaction() as connection:
            self.database.dialect.lock_project(connection, self.project)
            known = self._known(connection, incoming)
            gone = self._gone(connection, incoming)
            batch = [
                Arrival(id, [one for one in members.values() if bytes.fromhex(one.span) not in seen], row)
                for id, members in incoming.items()
                if id not in gone
                for row, seen in [known.get(id, (None, frozenset()))]
            ]
            batch = [arrival for arrival in batch if arrival.spans]
            if not batch:
                return 0
            self._write_traces(connection, batch)
            self._write_spans(connection, batch)
            self._write_pages(connection, batch)
            tally = Tally()
            for arrival in batch:
                arrival.count(tally)
            write_tally(connection, self.database, self.project, tally)
        return sum(len(arrival.spans) for arrival in batch)

    def _known(self, connection: Connection, ids: Iterable[str]) -> dict[str, tuple[Row[Any], frozenset[bytes]]]:
        """Rows of the traces that are there already, with the spans they have."""
        rows: dict[str, Row[Any]] = {}
        for some in _some(ids):
            statement = select(trace).where(
                trace.c.project == self.project, trace.c.trace.in_([bytes.fromhex(id) for id in some])
            )
            rows |= {row.trace.hex(): row for row in connection.execute(statement)}
        spans: dict[int, set[bytes]] = {row.id: set() for row in rows.values()}
        for some_ids in _some(spans):
            for row in connection.execute(select(span.c.trace_id, span.c.span).where(span.c.trace_id.in_(some_ids))):
                spans[row.trace_id].add(row.span)
        return {id: (row, frozenset(spans[row.id])) for id, row in rows.items()}

    def _gone(self, connection: Connection, ids: Iterable[str]) -> set[str]:
        """Traces that were erased: late spans of them are not taken in again."""
        found: set[str] = set()
        for some in _some(ids):
            statement = select(erased.c.id).where(
                erased.c.project == self.project, erased.c.kind == "trace", erased.c.id.in_(some)
            )
            found.update(connection.execute(statement).scalars())
        return found

    def _write_traces(self, connection: Connection, batch: Sequence[Arrival]) -> None:
        fresh = []
        for arrival in batch:
            arrival.inherit()
            line = arrival.line()
            if arrival.row is None:
                line["preview"] = self._seal_preview(connection, arrival, arrival.preview())
                fresh.append({"project": self.project, "trace": bytes.fromhex(arrival.id), **line})
                continue
            adopted = arrival.subject != arrival.row.subject
            if adopted:
                self._adopt(connection, arrival, arrival.row.id)
            if adopted or arrival.root is not None:
                said = arrival.preview() or self._preview(connection, arrival.row)
                line["preview"] = self._seal_preview(connection, arrival, said)
            arrival.number = arrival.row.id
            connection.execute(update(trace).where(trace.c.id == arrival.number).values(line))
        if fresh:
            made = connection.execute(self.database.insert(trace).returning(trace.c.id, trace.c.trace), fresh)
            numbers = {row.trace.hex(): row.id for row in made}
            for arrival in batch:
                if arrival.row is None:
                    arrival.number = numbers[arrival.id]

    def _seal_preview(self, connection: Connection, arrival: Arrival, said: str) -> bytes:
        return self.keys.seal(connection, said.encode(), subject=arrival.subject, kind="preview", id=arrival.id)

    def _preview(self, connection: Connection, row: Row[Any]) -> str:
        try:
            return self.keys.open(connection, row.preview, kind="preview", id=row.trace.hex()).decode()
        except ContentErased:
            return ""

    def _adopt(self, connection: Connection, arrival: Arrival, number: int) -> None:
        """Seals earlier pages again: the person became known only now."""
        rows = connection.execute(select(trace_page).where(trace_page.c.trace_id == number)).all()
        for row in rows:
            body = self.keys.open(connection, row.body, kind="trace", id=arrival.id)
            connection.execute(
                update(trace_page)
                .where(trace_page.c.id == row.id)
                .values(
                    subject=arrival.subject,
                    body=self.keys.seal(connection, body, subject=arrival.subject, kind="trace", id=arrival.id),
                )
            )

    def _write_spans(self, connection: Connection, batch: Sequence[Arrival]) -> None:
        rows = [
            {
                "trace_id": arrival.number,
                "span": bytes.fromhex(one.span),
                "parent": bytes.fromhex(one.parent) if one.parent else None,
                "name": one.name,
                "kind": one.kind,
                "start_ns": one.start_ns,
                "duration_ns": one.end_ns - one.start_ns,
                "status": one.status,
                "provider": one.provider,
                "model": one.model,
                "response_model": one.response_model,
                "prompt": one.prompt,
                "knowledge": one.index,
                "input_tokens": one.input_tokens,
                "output_tokens": one.output_tokens,
                "cached_tokens": one.cached_tokens,
                "reasoning_tokens": one.reasoning_tokens,
                "usage_estimated": one.usage_estimated,
                "cost_micros": one.cost_micros,
                "first_token_ns": one.first_token_ns,
                "finish": one.finish,
                "verdicts": encode_verdicts(one.verdicts),
            }
            for arrival in batch
            for one in arrival.spans
        ]
        connection.execute(span.insert(), rows)

    def _write_pages(self, connection: Connection, batch: Sequence[Arrival]) -> None:
        pages, lines = [], []
        for arrival in batch:
            packed = pack(arrival.spans)
            if not packed:
                continue
            pages.append(
                {
                    "trace_id": arrival.number,
                    "project": self.project,
                    "subject": arrival.subject,
                    "indexed": WORDS_VERSION,
                    "body": self.keys.seal(connection, packed, subject=arrival.subject, kind="trace", id=arrival.id),
                }
            )
            lines.append(index_line(words_in(list(unpack(packed).values()))))
        if not pages:
            return
        made = connection.execute(
            self.database.insert(trace_page).returning(trace_page.c.id, sort_by_parameter_order=True), pages
        ).scalars()
        self.database.dialect.index_words(connection, list(zip(made, lines, strict=True)))

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
            words=text,
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
            rows = connection.execute(statement).all()
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
        where = self._where(query=query, words=text, equal=equal, since=since, until=until)
        with self.database.reading() as connection:
            return connection.execute(select(func.count()).select_from(trace).where(*where)).scalar_one()

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
            for some in _some(ids):
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
        words: str,
        equal: dict[str, str | None],
        since: datetime | None,
        until: datetime | None,
    ) -> Many[Any]:
        where: Many[Any] = [trace.c.project == self.project, condition(query)]
        where += [trace.c[name] == value for name, value in equal.items() if value is not None]
        if since is not None:
            where.append(trace.c.started_ns >= _ns(since))
        if until is not None:
            where.append(trace.c.started_ns < _ns(until))
        if words.strip():
            wanted = query_words(words)
            if not wanted:
                return [*where, literal_column("1") == literal_column("0")]
            sql, parameters = self.database.dialect.pages_with(wanted)
            pages = text(sql).bindparams(**parameters).columns(trace_page.c.id).subquery("found")
            where.append(trace.c.id.in_(select(trace_page.c.trace_id).where(trace_page.c.id.in_(select(pages.c.id)))))
        return where

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
            preview=self._preview(connection, row),
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


def _some(things: Iterable[Any]) -> Iterable[Many[Any]]:
    everything = list(things)
    for at in range(0, len(everything), AT_ONCE):
        yield everything[at : at + AT_ONCE]


def _position(after: str) -> tuple[int, int]:
    started, _, number = after.partition("-")
    if not (started.isdigit() and number.isdigit()):
        raise NotFound("page of traces", after, next_step="Begin again without it.")
    return int(started), int(number)


def _ns(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000) * 1000

"""Traces: narrow rows for lists and numbers, sealed pages for what was said, words for the search."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, delete, false, func, insert, select, tuple_, update

from slipway.domain.errors import ContentErased, NotFound
from slipway.domain.ids import ReleaseId, SpanId, SubjectId, TraceId
from slipway.domain.rollup import RollupPoint
from slipway.domain.trace import Span, Status, Trace, TracePage, TraceSummary
from slipway.domain.trace_filter import Filter
from slipway.store.call_records import CallRow
from slipway.store.databases.base import Database
from slipway.store.encryption import Keys
from slipway.store.rollups import forget_rollups, read_series
from slipway.store.schema import erased, setting, shared_page, span, trace, trace_page, waiting_event
from slipway.store.shared_pages import SharedPages
from slipway.store.trace_contents import MOST_OPENED, list_by_content
from slipway.store.trace_pages import Said, entry_of_said, press, said_in_entry, texts_in, unpress
from slipway.store.trace_query import condition, names_few, take_apart
from slipway.store.trace_writer import TraceWriter, first_words, some_of
from slipway.store.word_index import WordIndex
from slipway.store.words import query_words, words_of

Many = list
"""`list` under a name that the method `Traces.list` does not hide."""
AT_ONCE = 2000
MANY_FOUND = 5000
"""So many traces that hold a word are named to the database; of more, the newest are looked for one by one."""
REBUILD = "words_to_rebuild"
"""Setting that a migration leaves behind where the word index lacks what was there before."""


class Traces:
    """The traces of one project."""

    def __init__(self, database: Database, project: str, keys: Keys) -> None:
        self.database, self.project, self.keys = database, project, keys
        self.pages = SharedPages(database, project, keys)
        self.words = WordIndex(database, project)
        self._writer = TraceWriter(database, project, keys, self.pages, self.words)

    def add(self, spans: Sequence[Span], calls: Sequence[CallRow] = ()) -> int:
        """Stores spans and calls; returns how many were new. See `TraceWriter.add`."""
        return self._writer.add(spans, calls)

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
            said = {one.span: one for one in self._said_in(connection, row)}
        spans = [_span(one, row, self.project, said.get(one.span)) for one in rows]
        spans.sort(key=lambda one: bytes.fromhex(one.span) != row.root)
        return Trace(id=TraceId(trace_id), spans=tuple(spans))

    def summary(self, trace_id: str) -> TraceSummary:
        """One line of the list. Raises `NotFound`, `ContentErased`."""
        with self.database.reading() as connection:
            row = connection.execute(select(trace).where(*self._one(trace_id))).first()
            if row is None:
                raise self._missing(connection, trace_id)
            return self._summaries(connection, [row])[0]

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

        `query` is the filter language of `text/filters.py`; `text` asks for words that must all occur (`word*` for a
        beginning). `after` is `next` of the page before. A query about raw attributes opens what is sealed, so a page
        of it may hold fewer than `limit` lines, or none, and still have a `next`. Raises `QueryInvalid`.
        """
        equal = {
            "release": release,
            "channel": channel,
            "status": status,
            "model": model,
            "session": session,
            "subject": subject,
        }
        parts = take_apart(query)
        text = f"{text} {parts.words}".strip()
        where = self._where(equal=equal, since=since, until=until)
        if after is not None:
            where.append(tuple_(trace.c.started_ns, trace.c.id) < tuple_(*_position(after)))
        # Few traces meet such a filter: they are found by their own index and then sorted, not by going back in time.
        few = session is not None or subject is not None or names_few(parts.rows)
        begin = trace.c.started_ns + 0 if few else trace.c.started_ns
        statement = select(trace).where(*where).order_by(begin.desc(), trace.c.id.desc()).limit(limit + 1)
        with self.database.reading() as connection:
            statement = statement.where(self.meeting(connection, parts.rows))
            if parts.content:
                rows = connection.execute(self._holding(connection, text, statement.limit(MOST_OPENED + 1))).all()
                return list_by_content(
                    rows,
                    parts.content,
                    limit,
                    said_in=lambda some: self.said_in(connection, some),
                    summarise=lambda some: self._summaries(connection, some),
                )
            rows = self._rows(connection, text, statement, limit + 1)
            shown = tuple(self._summaries(connection, rows[:limit]))
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
        parts = take_apart(query)
        where = self._where(equal=equal, since=since, until=until)
        text = f"{text} {parts.words}".strip()
        with self.database.reading() as connection:
            wanted = self.meeting(connection, query if parts.content else parts.rows)
            statement = select(func.count()).select_from(trace).where(*where, wanted)
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

        With tombstones, asking for one raises `ContentErased`, and late spans of it are refused.
        """
        removed = 0
        with self.database.transaction() as connection:
            self.database.dialect.lock_project(connection, self.project)
            for some in some_of(ids):
                found = connection.execute(
                    select(trace.c.id, trace.c.trace, trace.c.page).where(
                        trace.c.project == self.project, trace.c.trace.in_([bytes.fromhex(id) for id in some])
                    )
                ).all()
                names = {row.id: row.trace.hex() for row in found}
                if not names:
                    continue
                pages: defaultdict[int, Many[int]] = defaultdict(Many)
                for row in found:
                    if row.page is not None:
                        pages[row.page].append(row.id)
                self.words.remove(connection, names)
                self.pages.take_out(connection, pages)
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

    def expire(
        self, *, before: datetime, kind: str | None = None, other_than: Sequence[str] = (), at_once: int = 1000
    ) -> int:
        """Removes traces that started before a moment, a thousand in a transaction; returns how many.

        Only those of one kind, or all but those of some kinds, when these are given.
        """
        removed = 0
        where = [trace.c.project == self.project, trace.c.started_ns < _ns(before)]
        if kind is not None:
            where.append(trace.c.kind == kind)
        if other_than:
            where.append(trace.c.kind.not_in(other_than))
        while True:
            statement = select(trace.c.trace).where(*where).order_by(trace.c.started_ns).limit(at_once)
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
        return self.amend(
            trace_id, lambda said: [msgspec.structs.replace(one, content=change(one.content)) for one in said]
        )

    def amend(self, trace_id: str, change: Callable[[Many[Said]], Many[Said]]) -> bool:
        """As `rewrite`, for changes that depend on the span, or that let one say what said nothing before."""
        with self.database.transaction() as connection:
            self.database.dialect.lock_project(connection, self.project)
            row = connection.execute(select(trace).where(*self._one(trace_id))).first()
            if row is None:
                return False
            before = self._said_in(connection, row)
            after = change(before)
            if after == before:
                return False
            if row.page is not None:
                self.pages.take_out(connection, {row.page: [row.id]})
            connection.execute(delete(trace_page).where(trace_page.c.trace_id == row.id))
            said = self.keys.seal(
                connection, press(entry_of_said(after)), subject=row.subject, kind="trace", id=trace_id
            )
            connection.execute(
                insert(trace_page).values(trace_id=row.id, project=self.project, subject=row.subject, body=said)
            )
            shown = first_words([(one.span, one.content) for one in after], row.root)
            preview = self.keys.seal(connection, shown.encode(), subject=row.subject, kind="preview", id=trace_id)
            connection.execute(update(trace).where(trace.c.id == row.id).values(preview=preview, page=None))
            self.words.remove(connection, [row.id])
            self.words.add(connection, [(row.id, _texts(after))])
        return True

    def ids(self) -> Iterator[TraceId]:
        """Every trace, oldest first."""
        statement = select(trace.c.trace).where(trace.c.project == self.project).order_by(trace.c.started_ns)
        with self.database.reading() as connection:
            for found in connection.execute(statement).scalars().all():
                yield TraceId(found.hex())

    def rebuild_words(self) -> int:
        """Builds the word index anew from what can be read; returns the number of traces that say something."""
        done, last = 0, 0
        with self.database.transaction() as connection:
            self.database.dialect.lock_project(connection, self.project)
            self.words.clear(connection)
            while True:
                statement = select(trace).where(trace.c.project == self.project, trace.c.id > last)
                rows = connection.execute(statement.order_by(trace.c.id).limit(AT_ONCE)).all()
                if not rows:
                    break
                last = rows[-1].id
                said = self.said_in(connection, rows)
                self.words.add(connection, [(row.id, _texts(said[row.id])) for row in rows if said[row.id]])
                done += sum(1 for row in rows if said[row.id])
        return done

    def rebuild_words_if_needed(self) -> None:
        """After a migration, the words of older traces are missing: whoever holds the keys adds them."""
        with self.database.reading() as connection:
            needed = connection.execute(select(setting.c.value).where(setting.c.name == REBUILD)).scalar()
            projects = connection.execute(select(trace.c.project).distinct()).scalars().all() if needed else []
        if needed:
            with self.database.transaction() as connection:
                for name in projects:
                    Traces(self.database, name, self.keys.of(name)).rebuild_words()
                connection.execute(delete(setting).where(setting.c.name == REBUILD))

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
        equal: dict[str, str | None],
        since: datetime | None,
        until: datetime | None,
    ) -> Many[Any]:
        where: Many[Any] = [trace.c[name] == value for name, value in equal.items() if value is not None]
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
        return statement.where(mine, self.holding(connection, words))

    def _rows(self, connection: Connection, words: str, statement: Select[Any], limit: int) -> Sequence[Row[Any]]:
        """The first lines of a statement over lines of `trace`, newest first, whose traces hold every word."""
        mine = statement.where(trace.c.project == self.project)
        if not words.strip():
            return connection.execute(mine).all()
        numbers = self._found(connection, words)
        if len(numbers) <= MANY_FOUND:
            return connection.execute(mine.where(self._one_of(numbers))).all() if numbers else []
        # Of many, the newest are found soon by going back in time: to name them all to the database takes longer.
        held, rows, some = set(numbers), Many[Row[Any]](), 4 * limit
        here = mine
        while len(rows) < limit:
            page = connection.execute(here.limit(some)).all()
            rows += [row for row in page if row.id in held]
            if len(page) < some:
                break
            here = mine.where(tuple_(trace.c.started_ns, trace.c.id) < tuple_(page[-1].started_ns, page[-1].id))
            some = min(2 * some, 5000)
        return rows[:limit]

    def holding(self, connection: Connection, words: str) -> ColumnElement[bool]:
        """The condition that a line of `trace` is of a trace that holds every word; nothing holds no word at all."""
        return self._one_of(self._found(connection, words))

    def _found(self, connection: Connection, words: str) -> Many[int]:
        """Numbers of the traces that hold every word."""
        wanted = query_words(words)
        numbers, exact = self.words.find(connection, wanted)
        found: Many[int] = numbers.tolist()
        return found if exact else self._with_beginnings(connection, found, wanted)

    def _one_of(self, numbers: Many[int]) -> ColumnElement[bool]:
        return self.database.dialect.one_of(trace.c.id, numbers) if numbers else false()

    def _with_beginnings(self, connection: Connection, numbers: Many[int], words: Many[str]) -> Many[int]:
        """Those of the traces that do hold words with these beginnings: the index tells four letters apart."""
        beginnings = [word[:-1] for word in words if word.endswith("*")]
        kept = []
        for some in some_of(numbers):
            rows = connection.execute(select(trace).where(trace.c.id.in_(some))).all()
            for number, said in self.said_in(connection, rows).items():
                held = words_of(" ".join(_texts(said)))
                if all(any(word.startswith(beginning) for word in held) for beginning in beginnings):
                    kept.append(number)
        return kept

    def meeting(self, connection: Connection, query: str | Filter) -> ColumnElement[bool]:
        """The condition that a line of `trace` meets a filter. Raises `QueryInvalid`."""
        return condition(query, project=self.project, holding=lambda words: self.holding(connection, words))

    def said_in(self, connection: Connection, rows: Sequence[Row[Any]]) -> dict[int, Many[Said]]:
        """What the spans of these lines of `trace` say, by the number of the line; nothing where a person was erased.

        Pages that several of them share are opened once.
        """
        said: dict[int, Many[Said]] = {row.id: [] for row in rows}
        pages: defaultdict[int, Many[int]] = defaultdict(Many)
        for row in rows:
            if row.page is not None:
                pages[row.page].append(row.id)
        for number, shared in self.pages.open(connection, pages).items():
            said[number] += shared
        names = {row.id: row.trace.hex() for row in rows}
        for some in some_of(names):
            own = select(trace_page).where(trace_page.c.trace_id.in_(some)).order_by(trace_page.c.id)
            for page in connection.execute(own).all():
                try:
                    body = self.keys.open(connection, page.body, kind="trace", id=names[page.trace_id])
                except ContentErased:
                    continue
                said[page.trace_id] += said_in_entry(unpress(body))
        return said

    def _said_in(self, connection: Connection, row: Row[Any]) -> Many[Said]:
        """What the spans of one trace say. Raises `ContentErased`."""
        said = self.said_in(connection, [row])[row.id]
        if not said and self._sealed_for_somebody_erased(connection, row):
            raise ContentErased("trace", row.trace.hex())
        return said

    def _sealed_for_somebody_erased(self, connection: Connection, row: Row[Any]) -> bool:
        if row.page is None:
            page = select(trace_page.c.body).where(trace_page.c.trace_id == row.id)
        else:
            page = select(shared_page.c.body).where(shared_page.c.id == row.page)
        sealed = connection.execute(page).scalar()
        return sealed is not None and not self.keys.can_open(connection, sealed)

    def _summaries(self, connection: Connection, rows: Sequence[Row[Any]]) -> Many[TraceSummary]:
        told = self.said_in(connection, [row for row in rows if row.preview is None and row.page is not None])
        return [
            TraceSummary(
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
                preview=first_words([(one.span, one.content) for one in told[row.id]], row.root)
                if row.id in told
                else self._writer.shown(connection, row),
                verdicts=msgspec.json.decode(row.verdicts),
            )
            for row in rows
        ]


def _texts(said: Sequence[Said]) -> list[str]:
    """What a trace is found by."""
    found: list[str] = []
    for one in said:
        texts_in(one.content, one.error, found)
    return found


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

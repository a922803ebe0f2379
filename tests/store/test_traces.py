"""Traces: what was recorded comes back, is found, is summed up, and goes away without a rest."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from slipway.domain.errors import ContentErased, NotFound, QueryInvalid
from slipway.domain.ids import ReleaseId, SpanId, SubjectId, TraceId
from slipway.domain.trace import Span
from slipway.store.schema import shared_page, trace_page, word_block
from slipway.store.schema import span as span_table
from slipway.store.schema import trace as trace_table
from slipway.store.store import Store

MakeSpan = Callable[..., Span]
NOON_NS = 1_780_000_000_000_000_000
NOON = datetime.fromtimestamp(NOON_NS // 1_000_000_000, UTC)
LATER = NOON + timedelta(hours=1)


def an_answer(make: MakeSpan, trace: int = 1, **fields: Any) -> list[Span]:
    """A request with one call of a model, as the pipeline records it."""
    question = fields.pop("question", "How long can I return a parcel?")
    root = make(
        trace,
        name="answer",
        kind="request",
        status=fields.pop("status", "ok"),
        release=ReleaseId("r1"),
        channel="support",
        session="s1",
        verdicts=fields.pop("verdicts", {"length": "allow"}),
        content={"question": question, "answer": fields.pop("answer", "Within 30 days.")},
        **{"subject": SubjectId("anna"), **fields},
    )
    call = make(
        trace,
        parent=root.span,
        name="chat small",
        kind="chat",
        provider="openai",
        model="small",
        input_tokens=300,
        output_tokens=40,
        cost_micros=120,
        first_token_ns=200_000_000,
        content={"messages": [{"role": "user", "text": question}]},
    )
    return [root, call]


def test_a_trace_comes_back_as_it_was_recorded(store: Store, make_span: MakeSpan) -> None:
    root, call = an_answer(make_span)
    assert store.traces.add([call, root]) == 2
    found = store.traces.get(root.trace)
    whole = {"project": store.project, "subject": "anna", "session": "s1", "release": "r1", "channel": "support"}
    assert found.spans == (replace(root, project=store.project), replace(call, **whole))  # type: ignore[arg-type]
    assert found.root.seconds == 1.0


def test_the_list_shows_the_sums_of_a_trace(store: Store, make_span: MakeSpan) -> None:
    store.traces.add(an_answer(make_span, question="How long\n can I   return?", verdicts={"pii": "redact"}))
    line = store.traces.list().rows[0]
    assert (line.name, line.status, line.model, line.release, line.channel) == (
        "answer",
        "ok",
        "small",
        "r1",
        "support",
    )
    assert (line.input_tokens, line.output_tokens, line.cost_micros, line.spans) == (300, 40, 120, 2)
    assert line.preview == "How long can I return?"
    assert line.verdicts == {"pii": "redact"}
    assert line.seconds == 1.0
    assert abs(line.started_at - NOON) < timedelta(seconds=1)


def test_sending_spans_twice_changes_nothing(store: Store, make_span: MakeSpan) -> None:
    spans = an_answer(make_span)
    store.traces.add(spans)
    assert store.traces.add(spans) == 0
    assert store.traces.add([*spans, *spans]) == 0
    assert store.traces.list().rows[0].cost_micros == 120
    (point,) = store.traces.series(since=NOON - timedelta(minutes=2), until=LATER)
    assert (point.count, point.cost_micros) == (1, 120)


def test_a_root_that_comes_last_tells_the_whole(store: Store, make_span: MakeSpan) -> None:
    root, call = an_answer(make_span)
    store.traces.add([call])
    before = store.traces.list().rows[0]
    assert (before.name, before.subject, before.release) == ("chat small", None, None)
    store.traces.add([root])
    after = store.traces.list().rows[0]
    assert (after.name, after.subject, after.release, after.spans) == ("answer", "anna", "r1", 2)
    assert after.cost_micros == 120
    # What was sealed before the person was known is sealed for the person now.
    store.keys.erase("anna")
    with pytest.raises(ContentErased):
        store.traces.get(root.trace)


def test_a_root_that_repeats_the_tokens_is_not_counted_twice(store: Store, make_span: MakeSpan) -> None:
    root, call = an_answer(make_span, input_tokens=300, output_tokens=40, cost_micros=120)
    store.traces.add([root, call])
    assert store.traces.list().rows[0].input_tokens == 300
    (point,) = store.traces.series(since=NOON - timedelta(minutes=2), until=LATER)
    assert (point.input_tokens, point.cost_micros) == (300, 120)


def test_a_trace_of_one_span_pays_for_itself(store: Store, make_span: MakeSpan) -> None:
    store.traces.add([make_span(kind="request", input_tokens=5, output_tokens=7, cost_micros=11, model="m")])
    line = store.traces.list().rows[0]
    assert (line.input_tokens, line.output_tokens, line.cost_micros, line.model) == (5, 7, 11, "m")
    (point,) = store.traces.series(since=NOON - timedelta(minutes=2), until=LATER)
    assert (point.count, point.output_tokens) == (1, 7)


def test_the_worst_verdict_of_a_rail_is_shown(store: Store, make_span: MakeSpan) -> None:
    root = make_span(verdicts={"pii": "allow", "own": "strange"})
    store.traces.add([root, make_span(parent=root.span, verdicts={"pii": "block"})])
    store.traces.add([make_span(parent=root.span, verdicts={"pii": "flag"})])
    assert store.traces.list().rows[0].verdicts == {"pii": "block", "own": "strange"}


def test_unknown_traces_say_so(store: Store) -> None:
    for wrong in ("ab" * 16, "no id", ""):
        with pytest.raises(NotFound, match="There is no trace"):
            store.traces.get(wrong)


def test_content_is_sealed(store: Store, make_span: MakeSpan) -> None:
    store.traces.add(an_answer(make_span, question="a question about canaries"))
    with store.database.reading() as connection:
        bodies: list[bytes] = []
        for column in (trace_page.c.body, shared_page.c.body, trace_table.c.preview, word_block.c.body):
            bodies += filter(None, connection.execute(select(column)).scalars())
    assert len(bodies) >= 2
    assert not any(b"canaries" in body for body in bodies)


def test_pages_follow_one_another(store: Store, make_span: MakeSpan) -> None:
    # Two traces begin in the same nanosecond.
    store.traces.add([make_span(number, start_ns=NOON_NS + number // 2) for number in range(1, 8)])
    seen: list[str] = []
    after = None
    while True:
        page = store.traces.list(limit=3, after=after)
        seen += [row.id for row in page.rows]
        if page.next is None:
            break
        after = page.next
    assert len(seen) == len(set(seen)) == 7
    with pytest.raises(NotFound, match="page of traces"):
        store.traces.list(after="nonsense")


FILTERS = [
    pytest.param({}, {1, 2, 3}, id="no filter"),
    pytest.param({"model": "small"}, {1, 2}, id="model"),
    pytest.param({"status": "blocked"}, {2}, id="status"),
    pytest.param({"release": "r1", "channel": "support"}, {1, 2}, id="release and channel"),
    pytest.param({"subject": "bert"}, {2}, id="person"),
    pytest.param({"session": "s1"}, {1, 2}, id="session"),
    pytest.param({"since": NOON + timedelta(seconds=90)}, {3}, id="since"),
    pytest.param({"until": NOON + timedelta(seconds=90)}, {1, 2}, id="until"),
    pytest.param({"text": "parcel"}, {1}, id="a word of the question"),
    pytest.param({"text": "PARCEL return"}, {1}, id="words in any case and order"),
    pytest.param({"text": "repa*"}, {2}, id="a beginning"),
    pytest.param({"text": "30"}, {1, 2}, id="a number of the answer"),
    pytest.param({"text": "giraffe"}, set(), id="a word that does not occur"),
    pytest.param({"text": "!?"}, set(), id="no word at all"),
    pytest.param({"text": '" OR 1=1 --'}, set(), id="an attempt at SQL"),
    pytest.param({"text": "Größe"}, {3}, id="umlauts"),
    pytest.param({"text": "grosse"}, {3}, id="umlauts without dots"),
    pytest.param({"query": 'model = "small" and not status = ok'}, {2}, id="query"),
    pytest.param({"query": "latency > 5s or latency < 10ms"}, {3}, id="query by latency"),
    pytest.param({"query": "latency >= 1000ms and latency <= 1s"}, {1, 2}, id="query with units"),
    pytest.param({"query": "verdict.attack"}, {2}, id="a rail that did not allow"),
    pytest.param({"query": "verdict.attack = allow"}, {1}, id="a rail that allowed"),
    pytest.param({"query": "cost > 0.0001 and tokens = 340"}, {1, 2}, id="query by money and tokens"),
    pytest.param({"query": "cost > $1"}, set(), id="more money than there is"),
    pytest.param({"query": "(status = ok or status = blocked) and spans >= 2"}, {1, 2}, id="brackets"),
    pytest.param({"query": 'name ~ "ans"'}, {1, 2}, id="contains"),
    pytest.param({"query": 'name ~ "%"'}, set(), id="a per cent sign is only that"),
    pytest.param({"query": "subject != anna"}, {2, 3}, id="not this person"),
    pytest.param({"query": "release = r"}, {1, 2}, id="the beginning of a release id"),
]


@pytest.mark.parametrize(("filters", "expected"), FILTERS)
def test_filters(store: Store, make_span: MakeSpan, filters: dict[str, Any], expected: set[int]) -> None:
    spans = an_answer(make_span, 1, verdicts={"attack": "allow"})
    spans += an_answer(
        make_span,
        2,
        status="blocked",
        subject=SubjectId("bert"),
        verdicts={"attack": "block"},
        question="Do you repair lamps?",
        answer="30 years long.",
    )
    late = NOON_NS + 120_000_000_000
    spans += [make_span(3, start_ns=late, lasts_ns=7_000_000_000, content={"question": "Welche Größe hat sie?"})]
    store.traces.add(spans)
    assert {int(row.id, 16) for row in store.traces.list(**filters).rows} == expected
    assert store.traces.count(**filters) == len(expected)


WRONG_QUERIES = [
    pytest.param("modle = x", "there is no field 'modle'. Did you mean 'model'?", id="unknown field"),
    pytest.param("latency > fast", "'latency' is compared with a number", id="no number"),
    pytest.param("latency > 3 parsecs", "write 'and' or 'or'", id="a word too much"),
    pytest.param("latency > 3parsecs", "a latency has the unit", id="unknown unit"),
    pytest.param("tokens > 3s", "'tokens' has no unit", id="a unit where there is none"),
    pytest.param("model", "something is missing at the end", id="no sign"),
    pytest.param("model = ", "something is missing at the end", id="no value"),
    pytest.param("model < x", "expected one of = != ~", id="text is not ordered"),
    pytest.param('model = "x', "a quotation mark is not closed", id="open quotation mark"),
    pytest.param("(model = x", "a bracket is not closed", id="open bracket"),
    pytest.param("= x", "a condition begins with a field", id="no field"),
    pytest.param("verdict.a'b = x", "write 'and' or 'or'|a quotation mark", id="a quotation mark in a rail"),
    pytest.param("not " * 50 + "model = x", "nested too deeply", id="nested too deeply"),
    pytest.param("x" * 5000, "at most 4000 characters", id="too long"),
]


@pytest.mark.parametrize(("query", "reason"), WRONG_QUERIES)
def test_a_wrong_query_says_where_and_why(store: Store, query: str, reason: str) -> None:
    with pytest.raises(QueryInvalid, match=reason.replace("?", r"\?").replace("'d", "'d")):
        store.traces.list(query=query)


def test_the_series_counts_requests_and_calls(store: Store, make_span: MakeSpan) -> None:
    store.traces.add(an_answer(make_span, 1))
    store.traces.add(an_answer(make_span, 2, status="abstained"))
    store.traces.add(an_answer(make_span, 3, status="error", start_ns=NOON_NS + 60_000_000_000, lasts_ns=100_000_000))
    begin = NOON - timedelta(minutes=2)
    by_minute = store.traces.series(since=begin, until=LATER)
    assert [(point.count, point.abstained, point.errors) for point in by_minute] == [(2, 1, 0), (1, 0, 1)]
    (whole,) = store.traces.series(since=begin, until=LATER, step_s=86400)
    assert (whole.count, whole.input_tokens, whole.output_tokens, whole.cost_micros) == (3, 900, 120, 360)
    assert whole.latency.total == 3
    assert whole.latency.percentile(0.99) == pytest.approx(1.0, rel=0.05)
    assert whole.latency.percentile(0.01) == pytest.approx(0.1, rel=0.05)
    (by_model,) = store.traces.series(since=begin, until=LATER, by="model", step_s=86400)
    assert (by_model.key, by_model.count, by_model.first_token.total) == ("small", 3, 3)
    assert by_model.first_token.percentile(0.5) == pytest.approx(0.2, rel=0.05)
    (by_release,) = store.traces.series(since=begin, until=LATER, by="release", step_s=86400)
    assert (by_release.key, by_release.count) == ("r1", 3)
    assert store.traces.series(since=LATER, until=LATER + timedelta(hours=1)) == []


def test_a_clients_own_root_around_our_requests_is_not_a_request(store: Store, make_span: MakeSpan) -> None:
    outer = make_span(1, name="their workflow", kind="chain")
    ours = make_span(1, kind="request", parent=outer.span)
    store.traces.add([ours])
    store.traces.add([outer])
    (point,) = store.traces.series(since=NOON - timedelta(minutes=2), until=LATER)
    assert point.count == 1
    assert store.traces.get(outer.trace).root.name == "their workflow"


def test_people_and_their_traces(store: Store, make_span: MakeSpan) -> None:
    store.traces.add([*an_answer(make_span, 1), *an_answer(make_span, 2), make_span(3)])
    store.traces.add(an_answer(make_span, 4, subject=SubjectId("bert")))
    assert store.traces.subjects() == ["anna", "bert"]
    assert [int(id, 16) for id in store.traces.about("anna")] == [1, 2]
    assert store.traces.about("nobody") == []


def test_removed_traces_leave_only_numbers(store: Store, make_span: MakeSpan) -> None:
    store.traces.add([*an_answer(make_span, 1, question="about a giraffe"), *an_answer(make_span, 2)])
    gone = TraceId(f"{1:032x}")
    assert store.traces.remove([gone, gone, TraceId("ab" * 16)], tombstones=True) == 1
    assert store.traces.count() == 1
    assert store.traces.count(text="giraffe") == 0
    assert store.traces.count(text="parcel") == 1
    with pytest.raises(ContentErased):
        store.traces.get(gone)
    (point,) = store.traces.series(since=NOON - timedelta(minutes=2), until=LATER)
    assert point.count == 2
    with store.database.reading() as connection:
        mine = select(trace_table.c.id).where(trace_table.c.project == store.project)
        rows = connection.execute(select(func.count()).where(span_table.c.trace_id.in_(mine))).scalar_one()
        assert rows == 2
        (page,) = connection.execute(select(shared_page).where(shared_page.c.project == store.project)).all()
        # The page that both shared holds one of them now.
        assert len(page.members) == 8


def test_late_spans_of_an_erased_trace_are_refused(store: Store, make_span: MakeSpan) -> None:
    root, call = an_answer(make_span)
    store.traces.add([root])
    store.traces.remove([root.trace], tombstones=True)
    assert store.traces.add([call]) == 0
    assert store.traces.count() == 0


def test_old_traces_expire_with_their_words(store: Store, make_span: MakeSpan) -> None:
    store.traces.add(an_answer(make_span, 1, question="an old giraffe"))
    store.traces.add(an_answer(make_span, 2, start_ns=NOON_NS + 7_200_000_000_000))
    assert store.traces.expire(before=LATER, at_once=1) == 1
    assert store.traces.count(text="giraffe") == 0
    assert store.traces.count() == 1
    with pytest.raises(NotFound):
        store.traces.get(f"{1:032x}")
    assert store.traces.expire_rollups(before=LATER) == 2
    assert len(store.traces.series(since=NOON - timedelta(hours=1), until=NOON + timedelta(hours=9))) == 1


def test_words_of_a_person_whose_key_is_gone_can_still_be_forgotten(store: Store, make_span: MakeSpan) -> None:
    store.traces.add(
        [*an_answer(make_span, 1, question="about a giraffe"), make_span(2, content={"question": "hello"})]
    )
    store.keys.erase("anna")
    assert store.traces.list(text="giraffe").rows[0].preview == ""
    store.traces.remove([f"{1:032x}"])
    assert store.traces.count(text="giraffe") == 0
    assert store.traces.count(text="hello") == 1


def test_projects_do_not_find_each_others_traces(store: Store, make_span: MakeSpan) -> None:
    store.traces.add(an_answer(make_span))
    other = store.of(f"{store.project}-b")
    assert other.traces.count() == other.traces.count(text="parcel") == 0
    with pytest.raises(NotFound):
        other.traces.get(f"{1:032x}")
    # The same trace id may occur in two projects.
    other.traces.add(an_answer(make_span))
    assert other.traces.count() == store.traces.count() == 1


ODD_SPANS = [
    pytest.param({"name": "a\0b"}, {"name": "ab"}, id="NUL in a name"),
    pytest.param({"name": "x" * 9999}, {"name": "x" * 500}, id="a very long name"),
    pytest.param({"input_tokens": -5}, {"input_tokens": 0}, id="negative tokens"),
    pytest.param({"output_tokens": 10**30}, {"output_tokens": 2**62}, id="more tokens than fit"),
    pytest.param({"parent": "nonsense"}, {"parent": None}, id="a parent that is no id"),
    pytest.param({"model": "a\ud800"}, {"model": "a?"}, id="half a surrogate pair"),
    pytest.param({"content": {"n": 10**40}}, {"content": {"n": str(10**40)}}, id="a huge number in content"),
    pytest.param({"content": {"t": "\ud800"}}, {"content": {"t": "?"}}, id="half a surrogate pair in content"),
    pytest.param({"content": {"d": NOON}}, {"content": {"d": NOON}}, id="a date in content"),
    pytest.param({"content": {"s": {1: (2, 3)}}}, {"content": {"s": {1: [2, 3]}}}, id="numbers as keys"),
    pytest.param({"error": "it\0broke"}, {"error": "it\0broke"}, id="NUL in sealed text stays"),
]


@pytest.mark.parametrize(("given", "kept"), ODD_SPANS)
def test_odd_values_are_stored_as_well_as_can_be(
    store: Store, make_span: MakeSpan, given: dict[str, Any], kept: dict[str, Any]
) -> None:
    one = make_span(**given)
    assert store.traces.add([one]) == 1
    root = store.traces.get(one.trace).root
    assert {name: getattr(root, name) for name in kept} == kept


def test_a_span_that_ends_before_it_begins_lasts_no_time(store: Store, make_span: MakeSpan) -> None:
    store.traces.add([make_span(lasts_ns=-5)])
    assert store.traces.list().rows[0].seconds == 0


def test_spans_without_proper_ids_are_left_out(store: Store, make_span: MakeSpan) -> None:
    good = make_span()
    bad = [replace(make_span(), trace=TraceId("xyz")), replace(make_span(), span=SpanId("12"))]
    assert store.traces.add([*bad, good]) == 1


def test_words_can_be_indexed_anew(store: Store, make_span: MakeSpan) -> None:
    store.traces.add(an_answer(make_span))
    with store.database.transaction() as connection:
        store.traces.words.clear(connection)
    assert store.traces.count(text="parcel") == 0
    assert store.traces.rebuild_words() >= 1
    assert store.traces.count(text="parcel") == 1

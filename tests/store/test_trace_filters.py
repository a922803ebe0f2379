"""Every filter means the same to SQLite, to Postgres and to plain Python over the same traces."""

import operator
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, true

from slipway.domain.errors import QueryInvalid
from slipway.domain.feedback import Feedback
from slipway.domain.ids import ReleaseId, SubjectId, TraceId, new_id
from slipway.domain.trace import Span, Trace, TraceSummary
from slipway.domain.trace_filter import (
    FIELDS,
    And,
    Attribute,
    Compare,
    Filter,
    Labelled,
    Not,
    Or,
    Rated,
    Ruled,
    Says,
    Scored,
)
from slipway.store.schema import trace
from slipway.store.store import Store
from slipway.store.trace_query import condition
from slipway.store.words import query_words, words_of
from slipway.text.filters import UNITS, write_filter

from .conftest import NOON, MakeSpan

SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
MODELS = ["small", "big", "Big%", 'a"b']
PEOPLE = [None, "anna", "bert"]
SAID = ["Where is my parcel?", "I want a refund", "Größe of the lamp", "refunds for parcels"]
Told = dict[str, list[Feedback]]
Lines = dict[str, TraceSummary]


def fill(store: Store, make_span: MakeSpan, count: int = 24) -> tuple[list[Trace], Told, Lines]:
    """Traces that differ in everything that filters ask for, and feedback on some."""
    rng = random.Random(3)
    told: Told = {}
    for number in range(1, count + 1):
        root = make_span(
            number,
            start_ns=NOON + number * 1_000_000_000,
            lasts_ns=rng.choice([5_000_000, 900_000_000, 2_000_000_000]),
            kind="request",
            status=rng.choice(["ok", "error", "blocked", "abstained"]),
            name=rng.choice(["answer", "ask"]),
            release=rng.choice([None, ReleaseId("abc1"), ReleaseId("abd2")]),
            channel=rng.choice(["", "support", "evaluate"]),
            session=rng.choice(["", "s1"]),
            subject=rng.choice([None, SubjectId("anna"), SubjectId("bert")]),
            model=rng.choice(MODELS),
            verdicts=rng.choice([{}, {"pii": "redact"}, {"pii": "allow", "attack": "block"}]),
            content={"question": rng.choice(SAID), "attributes": {"tier": rng.choice(["gold", "tin", 3])}},
        )
        spans = [root]
        if rng.random() < 0.7:
            spans.append(
                make_span(
                    number,
                    parent=root.span,
                    kind=rng.choice(["chat", "tool"]),
                    model="small",
                    finish=rng.choice(["stop", "length"]),
                    input_tokens=rng.choice([0, 10, 2000]),
                    output_tokens=7,
                    cost_micros=rng.choice([0, 250, 2_000_000]),
                    first_token_ns=rng.choice([None, 200_000_000]),
                )
            )
        store.traces.add(spans)
        if rng.random() < 0.5:
            told[root.trace] = [
                Feedback(
                    id=new_id(),
                    trace=TraceId(root.trace),
                    score=rng.choice([-1.0, 0.0, 0.5, 1.0]),
                    name=rng.choice(["", "tone"]),
                    label=rng.choice(["", "rude", "Rude or not"]),
                    created_at=datetime.now(UTC),
                )
                for _ in range(rng.choice([1, 2]))
            ]
            for one in told[root.trace]:
                store.records.save(one)
    lines: Lines = {row.id: row for row in store.traces.list(limit=1000).rows}
    return [store.traces.get(id) for id in lines], told, lines


def holds(filter: Filter, trace: Trace, told: Told, lines: Lines) -> bool:
    """What a filter means, without a database."""
    said = told.get(trace.id, [])
    match filter:
        case And(sides):
            return all(holds(side, trace, told, lines) for side in sides)
        case Or(sides):
            return any(holds(side, trace, told, lines) for side in sides)
        case Not(inner):
            return not holds(inner, trace, told, lines)
        case Compare(field, sign, value):
            if sign == "!=" and FIELDS[field].measure in ("text", "choice"):
                return not holds(Compare(field, "=", value), trace, told, lines)
            if sign == "!~":
                return not holds(Compare(field, "~", value), trace, told, lines)
            spans = trace.spans if FIELDS[field].place == "span" else trace.spans[:1]
            return any(_compared(field, sign, value, span, trace, lines) for span in spans)
        case Ruled(rail, sign, decision):
            found = lines[trace.id].verdicts.get(rail)
            if not decision:
                return found is not None and found != "allow"
            return (found == decision) == (sign == "=")
        case Rated(word):
            wanted = {"any": lambda _: True, "good": lambda s: s > 0, "bad": lambda s: s < 0, "mixed": lambda s: s == 0}
            return any(wanted[word](one.score) for one in said)
        case Scored(name, sign, value):
            return any(SIGNS[sign](one.score, value) for one in said if not name or one.name == name)
        case Labelled("!=" | "!~" as sign, value):
            return not holds(Labelled("=" if sign == "!=" else "~", value), trace, told, lines)
        case Labelled(sign, value):
            return any(_same(one.label, sign, value) for one in said)
        case Says(words):
            known = words_of(str(trace.root.content["question"]))
            wanted_words = query_words(words)
            return bool(wanted_words) and all(
                any(one.startswith(word[:-1]) for one in known) if word.endswith("*") else word in known
                for word in wanted_words
            )
        case Attribute(name, sign, value):
            has = trace.root.content["attributes"].get(name)  # type: ignore[attr-defined]
            return (str(has) == str(int(value) if isinstance(value, float) else value)) == (sign == "=")


def _same(said: str, sign: str, value: str) -> bool:
    return value.lower() in said.lower() if sign == "~" else said == value


def _compared(field: str, sign: str, value: Any, span: Span, trace: Trace, lines: Lines) -> bool:
    line = lines[trace.id]
    whole: dict[str, Any] = {
        "latency": span.end_ns - span.start_ns,
        "span.latency": span.end_ns - span.start_ns,
        "tokens": line.input_tokens + line.output_tokens,
        "input_tokens": line.input_tokens,
        "output_tokens": line.output_tokens,
        "cost": line.cost_micros,
        "span.cost": span.cost_micros,
        "spans": len(trace.spans),
        "calls": sum(one.kind == "chat" for one in trace.spans),
        "first_token": span.first_token_ns,
        "age": datetime.now(UTC).timestamp() * 1e9 - trace.root.start_ns,
        "model": line.model,
    }
    has = whole[field] if field in whole else getattr(span, field.removeprefix("span."))
    if isinstance(value, str):
        if field == "release" and sign == "=":
            return str(has or "").startswith(value)
        return (has is not None or field != "subject") and _same(str(has or ""), sign, value)
    scale = {"seconds": 1e9, "money": 1e6}.get(FIELDS[field].measure, 1)
    return has is not None and SIGNS[sign](has, round(value * scale))


def comparable() -> st.SearchStrategy[Filter]:
    values = {
        "model": MODELS, "span.model": MODELS, "subject": ["anna", "bert", "ANN"], "release": ["abc1", "ab", "x"],
        "channel": ["", "support"], "session": ["s1", ""], "name": ["answer", "A", "%", "_"],
        "finish": ["stop", "leng"],
    }  # fmt: skip
    texts_ = [
        st.builds(Compare, st.just(name), st.sampled_from(["=", "!=", "~", "!~"]), st.sampled_from(some))
        for name, some in values.items()
    ]
    choices = [
        st.builds(Compare, st.just(name), st.sampled_from(["=", "!="]), st.sampled_from(FIELDS[name].choices[:6]))
        for name in ("status", "span.status", "kind", "span.kind")
    ]
    numbers = [
        st.builds(
            Compare, st.just(name), st.sampled_from(list(SIGNS)), st.sampled_from([0.0, 0.2, 0.9, 1.0, 2.0, 17.0])
        )
        for name, field in FIELDS.items()
        if field.measure in UNITS
    ]
    return st.one_of(*texts_, *choices, *numbers)


LEAVES = st.one_of(
    comparable(),
    st.builds(Ruled, st.sampled_from(["pii", "attack", "no"])),
    st.builds(Ruled, st.just("pii"), st.sampled_from(["=", "!="]), st.sampled_from(["allow", "redact"])),
    st.builds(Rated, st.sampled_from(["any", "good", "mixed", "bad"])),
    st.builds(Scored, st.sampled_from(["", "tone"]), st.sampled_from(list(SIGNS)), st.sampled_from([-1.0, 0.0, 0.5])),
    st.builds(Labelled, st.sampled_from(["=", "!=", "~", "!~"]), st.sampled_from(["rude", "x", ""])),
    st.builds(Says, st.sampled_from(["refund", "refund*", "parcel where", "giraffe", "!?", "GRÖSSE"])),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)


def test_a_filter_means_the_same_everywhere(store: Store, make_span: MakeSpan) -> None:
    traces, told, lines = fill(store, make_span)

    @settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(TREES)
    @example(Not(Compare("subject", "=", "anna")))
    @example(Not(Compare("first_token", ">", 0.1)))
    @example(And((Says("refund"), Or((Says("refund*"), Says("parcel"))))))
    @example(Scored("tone", "=", -1.0))
    def check(tree: Filter) -> None:
        expected = {trace.id for trace in traces if holds(tree, trace, told, lines)}
        query = write_filter(tree)
        assert {row.id for row in store.traces.list(query=query, limit=1000).rows} == expected
        assert store.traces.count(query=query) == len(expected)

    check()


BY_ATTRIBUTE = [
    pytest.param("attribute.tier = gold", Attribute("tier", "=", "gold"), id="a text"),
    pytest.param("attribute.tier = 3", Attribute("tier", "=", 3.0), id="a number"),
    pytest.param('attribute["tier"] != gold', Attribute("tier", "!=", "gold"), id="not this"),
    pytest.param("not attribute.tier = gold", Not(Attribute("tier", "=", "gold")), id="negated"),
    pytest.param(
        "(attribute.tier = gold or attribute.tier = tin) and status = ok",
        And((Or((Attribute("tier", "=", "gold"), Attribute("tier", "=", "tin"))), Compare("status", "=", "ok"))),
        id="beside a column",
    ),
]


@pytest.mark.parametrize(("query", "tree"), BY_ATTRIBUTE)
def test_raw_attributes_are_found_though_they_are_sealed(
    store: Store, make_span: MakeSpan, query: str, tree: Filter
) -> None:
    traces, told, lines = fill(store, make_span)
    expected = [trace.id for trace in traces if holds(tree, trace, told, lines)]
    found: list[str] = []
    after = None
    while True:
        page = store.traces.list(query=query, limit=2, after=after)
        found += [row.id for row in page.rows]
        if (after := page.next) is None:
            break
    assert found == expected
    assert 0 < len(found) < len(traces)


def test_what_attributes_cannot_do_is_said(store: Store) -> None:
    with pytest.raises(QueryInvalid, match="joined to others by 'and' only"):
        store.traces.list(query="attribute.tier = gold or status = ok")
    with pytest.raises(QueryInvalid, match="sealed and cannot be counted"):
        store.traces.count(query="attribute.tier = gold")


def test_feedback_of_another_project_does_not_count(store: Store, make_span: MakeSpan) -> None:
    store.traces.add([make_span(1)])
    other = store.of(f"{store.project}-b")
    other.records.save(Feedback(id=new_id(), trace=TraceId(f"{1:032x}"), score=1.0, created_at=datetime.now(UTC)))
    assert store.traces.list(query="feedback").rows == ()


def test_the_age_counts_from_now(store: Store, make_span: MakeSpan) -> None:
    now = datetime.now(UTC)
    for number, minutes in enumerate((1, 90), start=1):
        began = round((now - timedelta(minutes=minutes)).timestamp() * 1e9)
        store.traces.add([make_span(number, start_ns=began)])
    assert [int(row.id, 16) for row in store.traces.list(query="age < 1h").rows] == [1]
    assert [int(row.id, 16) for row in store.traces.list(query="age >= 1h").rows] == [2]


# Postgres plans by what is in the table.
@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("status = error", "ix_trace_project_status_started_ns"),
        ("status = blocked", "ix_trace_project_status_started_ns"),
        ("session = s1", "ix_trace_project_session_started_ns"),
        ("subject = anna", "ix_trace_project_subject_started_ns"),
        ("status = ok", "ix_trace_project_started_ns"),
        (f"release = {'ab' * 32}", "ix_trace_project_release_started_ns"),
    ],
)
def test_a_filter_reads_the_index_that_holds_what_it_asks_for(store: Store, query: str, index: str) -> None:
    where = condition(query, project="lamps", holding=lambda _: true())
    statement = select(trace.c.id).where(trace.c.project == "lamps", where).order_by(trace.c.started_ns.desc()).limit(9)
    with store.database.engine.connect() as connection:
        compiled = statement.compile(connection, compile_kwargs={"literal_binds": True})
        plan = " ".join(row.detail for row in connection.exec_driver_sql(f"explain query plan {compiled}"))
    assert f"USING INDEX {index} " in plan or f"USING COVERING INDEX {index} " in plan, plan

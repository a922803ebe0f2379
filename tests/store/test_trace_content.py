"""What traces say: shared pages, pages of their own, and how they change when traces go or a person becomes known."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from sqlalchemy import func, select, text

from slipway.domain.errors import ContentErased
from slipway.domain.ids import SpanId, SubjectId
from slipway.domain.trace import Span
from slipway.store.arrivals import LINE, Arrival, clean, count_lone, lone_line, span_row
from slipway.store.journal_spans import with_values
from slipway.store.rollups import Tally
from slipway.store.schema import setting, shared_page, trace, trace_page
from slipway.store.store import Store
from slipway.store.traces import REBUILD
from slipway.tracing.recorder import decode_spans, encode_spans, read_spans

MakeSpan = Callable[..., Span]
ANNA, BERT = SubjectId("anna"), SubjectId("bert")


def saying(make: MakeSpan, number: int, words: str, **fields: Any) -> Span:
    return make(number, content={"question": words}, **fields)


def pages_of(store: Store) -> list[Any]:
    with store.database.reading() as connection:
        return list(connection.execute(select(shared_page).where(shared_page.c.project == store.project)).all())


LONE = [
    pytest.param({"kind": "chat", "model": "m", "input_tokens": 3, "cost_micros": 5}, id="a call"),
    pytest.param({"kind": "request", "parent": SpanId("ab" * 8), "response_model": "r"}, id="a request inside another"),
    pytest.param({"kind": "chain", "parent": SpanId("ab" * 8), "model": "m", "provider": "p"}, id="no root"),
    pytest.param({"kind": "chat", "parent": SpanId("ab" * 8), "provider": "p"}, id="a call without its root"),
    pytest.param({"kind": "tool", "output_tokens": 7, "status": "error", "subject": ANNA, "session": "s"}, id="a root"),
    pytest.param({"verdicts": {"pii": "block", "own": "odd"}, "first_token_ns": 9}, id="verdicts"),
]


@pytest.mark.parametrize("fields", LONE)
def test_a_trace_of_one_span_gets_the_line_that_any_trace_would_get(
    make_span: MakeSpan, fields: dict[str, Any]
) -> None:
    one = make_span(**fields)
    arrival = Arrival(one.trace, [one], None)
    arrival.inherit()
    line = arrival.line()
    assert lone_line(one, span_row(one, 1)) == tuple(line[name] for name in LINE)
    short, long = Tally(), Tally()
    count_lone(one, short)
    arrival.count(long)
    assert {key: (sums.numbers, sums.latency, sums.first_token) for key, sums in short.rows.items()} == {
        key: (sums.numbers, sums.latency, sums.first_token) for key, sums in long.rows.items()
    }


def test_spans_of_the_journal_are_read_as_spans(make_span: MakeSpan) -> None:
    given = make_span(kind="chat", model="m", verdicts={"pii": "allow"}, content={"question": "hello"}, subject=ANNA)
    (read,) = read_spans(encode_spans([given]))
    assert with_values(read) == given == decode_spans(encode_spans([given]))[0]
    assert with_values(read, model="other") == replace(given, model="other")
    assert clean(with_values(read, name="a\0b")) == replace(given, name="ab")
    with pytest.raises(msgspec.DecodeError):
        read_spans(b"\xc1")


def test_traces_of_a_batch_share_a_page_by_person(store: Store, make_span: MakeSpan) -> None:
    people = [ANNA, None, BERT, None, ANNA]
    store.traces.add([saying(make_span, at, f"word{at}", subject=who) for at, who in enumerate(people, start=1)])
    pages = pages_of(store)
    assert sorted((page.subject or "", len(page.members) // 8) for page in pages) == [("", 2), ("anna", 2), ("bert", 1)]
    for at in range(1, 6):
        assert store.traces.get(f"{at:032x}").root.content == {"question": f"word{at}"}
    assert [row.preview for row in store.traces.list().rows] == ["word5", "word4", "word3", "word2", "word1"]
    store.keys.erase(ANNA)
    with pytest.raises(ContentErased):
        store.traces.get(f"{1:032x}")
    assert [row.preview for row in store.traces.list().rows] == ["", "word4", "word3", "word2", ""]
    assert store.traces.get(f"{2:032x}").root.content == {"question": "word2"}


def test_traces_that_go_are_taken_out_of_the_page_they_shared(store: Store, make_span: MakeSpan) -> None:
    store.traces.add([saying(make_span, at, f"word{at}") for at in range(1, 5)])
    (before,) = pages_of(store)
    store.traces.remove([f"{2:032x}", f"{3:032x}"])
    (after,) = pages_of(store)
    assert len(after.members) == 16
    assert len(after.body) < len(before.body)
    assert store.traces.get(f"{4:032x}").root.content == {"question": "word4"}
    assert store.traces.count(text="word3") == 0
    store.traces.remove([f"{1:032x}", f"{4:032x}"])
    assert pages_of(store) == []


def test_a_page_whose_person_was_erased_loses_its_traces_all_the_same(store: Store, make_span: MakeSpan) -> None:
    store.traces.add([saying(make_span, at, f"word{at}", subject=ANNA) for at in (1, 2)])
    store.keys.erase(ANNA)
    store.traces.remove([f"{1:032x}"])
    assert store.traces.count() == 1
    store.traces.remove([f"{2:032x}"])
    assert pages_of(store) == []


def test_a_person_who_becomes_known_takes_the_trace_out_of_the_page_of_nobody(
    store: Store, make_span: MakeSpan
) -> None:
    inner = saying(make_span, 1, "inner words", parent=SpanId("cd" * 8))
    store.traces.add([inner, saying(make_span, 2, "of nobody")])
    root = make_span(1, span=SpanId("cd" * 8), subject=ANNA, content={"question": "outer words"})
    store.traces.add([root])
    (page,) = pages_of(store)
    assert len(page.members) == 8
    spans = {span.span: span.content for span in store.traces.get(root.trace).spans}
    assert spans == {inner.span: {"question": "inner words"}, root.span: {"question": "outer words"}}
    assert {row.preview for row in store.traces.list(text="inner outer").rows} == {"outer words"}
    store.keys.erase(ANNA)
    with pytest.raises(ContentErased):
        store.traces.get(root.trace)
    assert store.traces.get(f"{2:032x}").root.content == {"question": "of nobody"}


def test_a_trace_that_says_a_lot_gets_a_page_of_its_own(store: Store, make_span: MakeSpan) -> None:
    long = " ".join(str(random.Random(3).random()) for _ in range(10_000))
    store.traces.add([saying(make_span, 1, f"Where is it? {long}"), saying(make_span, 2, "short")])
    assert store.traces.get(f"{1:032x}").root.content["question"] == f"Where is it? {long}"
    rows = store.traces.list().rows
    assert [row.preview[:12] for row in rows] == ["short", "Where is it?"]
    with store.database.reading() as connection:
        mine = trace_page.c.project == store.project
        assert connection.execute(select(func.count()).where(mine)).scalar_one() == 1


def test_only_the_first_characters_of_a_text_are_searched(store: Store, make_span: MakeSpan) -> None:
    store.traces.add([saying(make_span, 1, "early " + "x " * 8000 + "late")])
    assert store.traces.count(text="early") == 1
    assert store.traces.count(text="late") == 0
    assert str(store.traces.get(f"{1:032x}").root.content["question"]).endswith("late")


def test_a_long_beginning_is_looked_up_in_what_was_said(store: Store, make_span: MakeSpan) -> None:
    store.traces.add([saying(make_span, 1, "a refund, please"), saying(make_span, 2, "they refuse it")])
    assert store.traces.count(text="refu*") == 2
    assert store.traces.count(text="refun*") == 1
    assert store.traces.count(text="refuse*") == 1
    assert store.traces.count(text="refusal*") == 0


def test_what_is_said_can_be_changed(store: Store, make_span: MakeSpan) -> None:
    store.traces.add([saying(make_span, 1, "a secret"), saying(make_span, 2, "nothing")])
    assert store.traces.rewrite(f"{1:032x}", lambda content: {**content, "question": "gone"})
    assert not store.traces.rewrite(f"{2:032x}", lambda content: content)
    assert not store.traces.rewrite("ef" * 16, lambda content: content)
    assert store.traces.get(f"{1:032x}").root.content == {"question": "gone"}
    assert (store.traces.count(text="secret"), store.traces.count(text="gone")) == (0, 1)
    assert {row.preview for row in store.traces.list().rows} == {"gone", "nothing"}
    assert len(pages_of(store)[0].members) == 8


def test_keys_of_many_people_are_made_in_one_go(store: Store, make_span: MakeSpan) -> None:
    store.traces.add([saying(make_span, 1, "first", subject=SubjectId("p0"))])
    store.traces.add([saying(make_span, at, f"word{at}", subject=SubjectId(f"p{at % 30}")) for at in range(2, 90)])
    assert len(store.keys.subjects()) == 30
    reader = store.of(store.project)
    assert reader.traces.get(f"{31:032x}").root.content == {"question": "word31"}
    assert store.keys.erase("p1") == 1
    with pytest.raises(ContentErased):
        reader.traces.get(f"{31:032x}")
    assert reader.traces.get(f"{32:032x}").root.content == {"question": "word32"}


def test_words_that_a_migration_left_out_are_added_by_who_holds_the_keys(store: Store, make_span: MakeSpan) -> None:
    other = store.of(f"{store.project}-b")
    store.traces.add([saying(make_span, 1, "mine")])
    other.traces.add([saying(make_span, 1, "theirs")])
    store.traces.rebuild_words_if_needed()
    with store.database.transaction() as connection:
        store.traces.words.clear(connection)
        other.traces.words.clear(connection)
        connection.execute(setting.insert().values(name=REBUILD, value=1))
    assert store.traces.count(text="mine") == 0
    store.traces.rebuild_words_if_needed()
    assert store.traces.count(text="mine") == other.traces.count(text="theirs") == 1
    with store.database.reading() as connection:
        assert connection.execute(select(setting.c.value).where(setting.c.name == REBUILD)).first() is None


def test_lines_name_their_pages(store: Store, make_span: MakeSpan) -> None:
    store.traces.add([saying(make_span, 1, "words"), make_span(2)])
    with store.database.reading() as connection:
        rows = connection.execute(
            select(trace.c.page).where(trace.c.project == store.project).order_by(text("id"))
        ).scalars()
        assert [page is None for page in rows] == [False, True]

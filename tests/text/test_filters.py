"""Filters over traces: what they read as, that they read back as written, and what a wrong one is told."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slipway.domain.errors import QueryInvalid
from slipway.domain.trace_filter import (
    DECISIONS,
    EVERYTHING,
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
from slipway.text.filters import UNITS, read_filter, write_filter

READ = [
    pytest.param("", EVERYTHING, id="nothing is met by everything"),
    pytest.param(
        'model = "x" and latency > 2s and verdict.injection and not status = "error"',
        And(
            (
                Compare("model", "=", "x"),
                Compare("latency", ">", 2.0),
                Ruled("injection"),
                Not(Compare("status", "=", "error")),
            )
        ),
        id="the example of the handbook",
    ),
    pytest.param("latency > 250ms", Compare("latency", ">", 0.25), id="milliseconds"),
    pytest.param("latency > 2 s", Compare("latency", ">", 2.0), id="a unit apart"),
    pytest.param("age < 2d", Compare("age", "<", 172800.0), id="days"),
    pytest.param("tokens > 2k", Compare("tokens", ">", 2000.0), id="thousands"),
    pytest.param("tokens > 500 tokens", Compare("tokens", ">", 500.0), id="tokens as a word"),
    pytest.param("cost > $0.02", Compare("cost", ">", 0.02), id="dollars by sign"),
    pytest.param("cost > 0.02 usd", Compare("cost", ">", 0.02), id="dollars by word"),
    pytest.param("cost > 2 cents", Compare("cost", ">", 0.02), id="cents"),
    pytest.param("user = anna", Compare("subject", "=", "anna"), id="a user is a person"),
    pytest.param(
        "model in (a, 'b c')", Or((Compare("model", "=", "a"), Compare("model", "=", "b c"))), id="one of several"
    ),
    pytest.param("status not in (ok)", Not(Or((Compare("status", "=", "ok"),))), id="none of several"),
    pytest.param("a or b", None, id="no fields"),
    pytest.param(
        "status = ok or status = error and spans > 3",
        Or((Compare("status", "=", "ok"), And((Compare("status", "=", "error"), Compare("spans", ">", 3.0))))),
        id="and binds closer than or",
    ),
    pytest.param('"gift card"', Says("gift card"), id="quoted words are looked for"),
    pytest.param("text ~ refund*", Says("refund*"), id="words by name"),
    pytest.param("verdict.pii = redact", Ruled("pii", "=", "redact"), id="what a rail decided"),
    pytest.param("feedback", Rated(), id="any feedback"),
    pytest.param("feedback = bad", Rated("bad"), id="bad feedback"),
    pytest.param("feedback != bad", Not(Rated("bad")), id="no bad feedback"),
    pytest.param("score.tone >= 0.5", Scored("tone", ">=", 0.5), id="a named score"),
    pytest.param("score < -0.5", Scored("", "<", -0.5), id="a negative score"),
    pytest.param("label !~ rude", Labelled("!~", "rude"), id="a label"),
    pytest.param("span.kind = tool", Compare("span.kind", "=", "tool"), id="a step"),
    pytest.param('attribute.http.route = "/a"', Attribute("http.route", "=", "/a"), id="an attribute by dots"),
    pytest.param('attribute["a b"] > 3', Attribute("a b", ">", 3.0), id="an attribute in brackets"),
    pytest.param('attribute.n = "3"', Attribute("n", "=", "3"), id="a number in quotation marks is a text"),
]


@pytest.mark.parametrize(("query", "tree"), READ)
def test_a_query_is_read(query: str, tree: Filter | None) -> None:
    if tree is None:
        with pytest.raises(QueryInvalid):
            read_filter(query)
    else:
        assert read_filter(query) == tree


WRONG = [
    pytest.param("model = a and latncy > 2s", 15, "no field 'latncy'. Did you mean 'latency'?", id="field"),
    pytest.param("status = eror", 10, "Did you mean 'error'?", id="choice"),
    pytest.param("span.kind = chatt", 13, "Did you mean 'chat'?", id="kind"),
    pytest.param("verdict.pii = blok", 15, "Did you mean 'block'?", id="decision"),
    pytest.param("feedback = goood", 12, "Did you mean 'good'?", id="feedback"),
    pytest.param("cost > 3ms", 8, "'cost' has no unit but usd", id="a unit of something else"),
    pytest.param("model in a", 10, "a list in brackets", id="no list"),
    pytest.param("model in (a b)", 13, "not closed", id="no comma"),
    pytest.param("model not = a", 11, "'not' is followed by 'in'", id="not before a sign"),
    pytest.param("attribute. = 3", 1, "an attribute is named", id="an attribute without a name"),
    pytest.param("attribute.a > x", 15, "an order needs a number", id="an order of texts"),
    pytest.param("latency > 1e999s", 11, "ordinary size", id="a number without end"),
]


@pytest.mark.parametrize(("query", "character", "reason"), WRONG)
def test_a_wrong_query_names_the_place(query: str, character: int, reason: str) -> None:
    with pytest.raises(QueryInvalid) as wrong:
        read_filter(query)
    assert reason in str(wrong.value)
    assert wrong.value.position + 1 == character


NAMES = st.text("abcdefghijklmnop_.-", min_size=1, max_size=8)
NUMBERS = st.floats(0, 1e6, allow_nan=False).map(lambda number: round(number, 6))
WORDS = st.text(max_size=12)


def compares() -> st.SearchStrategy[Filter]:
    texts = [name for name, field in FIELDS.items() if field.measure == "text"]
    choices = [name for name, field in FIELDS.items() if field.measure == "choice"]
    numbers = [name for name, field in FIELDS.items() if field.measure in UNITS]
    return st.one_of(
        st.builds(Compare, st.sampled_from(texts), st.sampled_from(["=", "!=", "~", "!~"]), WORDS),
        st.sampled_from(choices).flatmap(
            lambda name: st.builds(Compare, st.just(name), st.sampled_from(["=", "!="]), _choice(name))
        ),
        st.builds(Compare, st.sampled_from(numbers), st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), NUMBERS),
    )


def _choice(name: str) -> st.SearchStrategy[str]:
    return st.sampled_from(FIELDS[name].choices)


LEAVES = st.one_of(
    compares(),
    st.builds(Ruled, NAMES),
    st.builds(Ruled, NAMES, st.sampled_from(["=", "!="]), st.sampled_from(DECISIONS)),
    st.builds(Rated, st.sampled_from(["any", "good", "mixed", "bad"])),
    st.builds(Scored, st.one_of(st.just(""), NAMES), st.sampled_from(["<", ">="]), st.sampled_from([-1.0, 0.25, 1.0])),
    st.builds(Labelled, st.sampled_from(["=", "!~"]), WORDS),
    st.builds(Says, WORDS),
    st.builds(Attribute, NAMES, st.sampled_from(["=", "!="]), st.one_of(WORDS, NUMBERS)),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=8,
)


@given(TREES)
@example(Compare("model", "=", 'a"b\\c'))
@example(Compare("model", "=", "and"))
@example(Compare("latency", ">", 1e-06))
@example(Says("a\nb"))
def test_what_is_written_reads_back_the_same(tree: Filter) -> None:
    assert read_filter(write_filter(tree)) == tree


@given(st.text(max_size=60))
@example('model = "')
@example("((((")
@example("not")
@example('attribute["')
def test_any_text_is_read_or_refused(query: str) -> None:
    try:
        tree = read_filter(query)
    except QueryInvalid as wrong:
        place: int | None = wrong.position
        tree = None
    else:
        place = None
    assert place is None or 0 <= place <= len(query)
    assert tree is None or read_filter(write_filter(tree)) == tree

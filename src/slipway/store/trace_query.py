"""Filters over traces as SQL: one condition over `trace`, values always bound, the same on every database."""

import operator
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, assert_never

from sqlalchemy import (
    ColumnElement,
    Float,
    LargeBinary,
    and_,
    case,
    cast,
    exists,
    false,
    literal_column,
    not_,
    or_,
    select,
    true,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import visitors
from sqlalchemy.sql.functions import FunctionElement

from slipway.domain.errors import QueryInvalid
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
    conjuncts,
    leaves,
)
from slipway.store.schema import record_link, span, trace
from slipway.store.words import query_words
from slipway.text.filters import read_filter, write_filter

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
RELEASE_DIGITS = 64
USUAL = {"status": "ok", "session": ""}
"""Values that most traces have: they stand in no index."""
LATENCY = trace.c.ended_ns - trace.c.started_ns
COLUMNS: dict[str, ColumnElement[Any]] = {
    **{
        name: trace.c[name]
        for name, field in FIELDS.items()
        if field.place == "trace" and name in trace.c and name != "spans"
    },
    "latency": LATENCY,
    "tokens": trace.c.input_tokens + trace.c.output_tokens,
    "cost": trace.c.cost_micros,
    "spans": trace.c.spans,
    "calls": trace.c.model_spans,
    "span.name": span.c.name,
    "span.kind": span.c.kind,
    "span.status": span.c.status,
    "span.model": span.c.model,
    "span.latency": span.c.duration_ns,
    "span.cost": span.c.cost_micros,
    "response_model": span.c.response_model,
    "prompt": span.c.prompt,
    "index": span.c.knowledge,
    "finish": span.c.finish,
    "first_token": span.c.first_token_ns,
    "cached_tokens": span.c.cached_tokens,
    "reasoning_tokens": span.c.reasoning_tokens,
}
SCALES = {"seconds": 1e9, "money": 1e6, "count": 1.0}
"""What one unit of the language is in a column."""
LARGEST = 2**62
FEEDBACK = "feedback"
Holding = Callable[[str], ColumnElement[bool]]
"""The condition that a trace holds every one of some words."""


class Parts(NamedTuple):
    """A query taken apart by who answers it: tables, the word index, and sealed content."""

    rows: Filter
    words: str
    content: tuple[Filter, ...]


def condition(query: str | Filter, *, project: str, holding: Holding) -> ColumnElement[bool]:
    """The condition over `trace` that a query stands for; an empty query is always true. Raises `QueryInvalid`.

    Feedback is looked up among the records of `project`; words where `holding` knows them.
    """
    if isinstance(query, str):
        return _Compiler(query, project, holding).compile(read_filter(query))
    return _Compiler(write_filter(query), project, holding).compile(query)


def take_apart(query: str) -> Parts:
    """The same query in three parts that must all hold. Raises `QueryInvalid`.

    Raw attributes are sealed, so conditions on them are answered after the rest: they cannot stand beside others in
    one `or`.
    """
    rows, words, content = [], [], []
    for one in conjuncts(read_filter(query)):
        sealed = [isinstance(leaf, Attribute) for leaf in leaves(one)]
        if isinstance(one, Says) and query_words(one.words):
            words.append(one.words)
        elif not any(sealed):
            rows.append(one)
        elif all(sealed):
            content.append(one)
        else:
            raise QueryInvalid(
                query,
                max(0, query.find("attr")),
                "conditions on attributes are joined to others by 'and' only: attributes are read last.",
            )
    return Parts(And(tuple(rows)), " ".join(words), tuple(content))


def names_few(filter: Filter) -> bool:
    """Whether a filter asks for one person, one conversation, or for what people said something about."""
    return any(
        isinstance(one, Rated | Scored)
        or (isinstance(one, Labelled) and not one.sign.startswith("!"))
        or (isinstance(one, Compare) and one.field in ("subject", "session") and one.sign == "=")
        for one in conjuncts(filter)
    )


def meets(filter: Filter, attributes: list[Mapping[str, Any]]) -> bool:
    """Whether the raw attributes of a trace's steps meet a filter of `Parts.content`; one step is enough."""
    match filter:
        case Not(inner):
            return not meets(inner, attributes)
        case And(sides):
            return all(meets(side, attributes) for side in sides)
        case Or(sides):
            return any(meets(side, attributes) for side in sides)
        case Attribute(name, "!=", value):
            return not meets(Attribute(name, "=", value), attributes)
        case Attribute(name, "!~", value):
            return not meets(Attribute(name, "~", value), attributes)
        case Attribute(name, sign, value):
            return any(_holds(step[name], sign, value) for step in attributes if name in step)
        case _:
            raise TypeError(f"{filter} is answered by the database")


class _Compiler:
    def __init__(self, query: str, project: str, holding: Holding) -> None:
        self.query, self.project, self.holding = query, project, holding

    def compile(self, filter: Filter) -> ColumnElement[bool]:
        match filter:
            case And(sides):
                return and_(true(), *map(self.compile, sides))
            case Or(sides):
                return or_(false(), *map(self.compile, sides))
            case Not(inner):
                return not_(self.compile(inner))
            case Compare(field, sign, value):
                return self.compare(field, sign, value)
            case Ruled(rail, sign, decision):
                return _ruled(rail, sign, decision)
            case Rated(word):
                return self.told(*_rated(word))
            case Scored(name, sign, value):
                scored: ColumnElement[bool] = OPERATORS[sign](_score(), value)
                return self.told(scored, *([_link("name").c.value == name] if name else []))
            case Labelled(sign, value):
                labelled = self.told(_labelled(sign.removeprefix("!"), value))
                return not_(labelled) if sign.startswith("!") else labelled
            case Says(words):
                return self.holding(words) if query_words(words) else false()
            case Attribute(name, _, _):
                at = max(0, self.query.find("attr"))
                raise QueryInvalid(self.query, at, f"the attribute '{name}' is sealed and cannot be counted.")
            case _:
                assert_never(filter)

    def compare(self, field: str, sign: str, value: str | float) -> ColumnElement[bool]:
        if field == "age":
            began = datetime.now(UTC).timestamp() - float(value)
            # The older, the earlier it began.
            turned = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}.get(sign, sign)
            older: ColumnElement[bool] = OPERATORS[turned](trace.c.started_ns, _whole(began * 1e9))
            return older
        known, column = FIELDS[field], COLUMNS[field]
        if isinstance(value, str):
            held = _text(column, field, sign.removeprefix("!"), value)
            negated = sign.startswith("!")
        else:
            held = _number(column, sign, value * SCALES[known.measure])
            negated = False
        if known.place == "span":
            # `!=` says that no step has the value; an order, that one step lies on that side.
            held = exists(select(span.c.trace_id).where(span.c.trace_id == trace.c.id, held)).correlate(trace)
        return not_(held) if negated else held

    def told(self, *about: ColumnElement[bool]) -> ColumnElement[bool]:
        """That there is feedback on the trace of which all this holds."""
        here = _link("trace")
        found = select(Unhexed(here.c.value)).where(
            here.c.project == self.project, here.c.kind == FEEDBACK, here.c.field == "trace"
        )
        for name in ("score", "name", "label"):
            link = _link(name)
            if any(link in _tables(one) for one in about):
                same = and_(link.c.project == here.c.project, link.c.kind == here.c.kind, link.c.id == here.c.id)
                found = found.where(same, link.c.field == name)
        return trace.c.trace.in_(found.where(*about))


_links = {name: record_link.alias(f"said_{name}") for name in ("trace", "score", "name", "label")}


def _link(name: str) -> Any:
    return _links[name]


def _tables(clause: Any) -> set[Any]:
    return {element.table for element in visitors.iterate(clause) if hasattr(element, "table")}


class Unhexed(FunctionElement[bytes]):
    """The bytes of an id that was kept as text."""

    type = LargeBinary()
    inherit_cache = True


@compiles(Unhexed)
def _unhexed(element: Unhexed, compiler: Any, **how: Any) -> str:
    return f"slipway_unhex({compiler.process(element.clauses, **how)})"


@compiles(Unhexed, "postgresql")
def _decoded(element: Unhexed, compiler: Any, **how: Any) -> str:
    return f"decode({compiler.process(element.clauses, **how)}, 'hex')"


def _score() -> ColumnElement[float]:
    # The case keeps a database from reading a name as a number before it has looked at the field.
    link = _link("score")
    return case((link.c.field == "score", cast(link.c.value, Float)))


def _rated(word: str) -> list[ColumnElement[bool]]:
    score = _score()
    match word:
        case "good":
            return [score > 0]
        case "bad":
            return [score < 0]
        case "mixed":
            return [score == 0]
        case _:
            return []


def _labelled(sign: str, value: str) -> ColumnElement[bool]:
    column = _link("label").c.value
    held: ColumnElement[bool] = column.icontains(value, autoescape=True) if sign == "~" else column == value
    return held


def _text(column: ColumnElement[Any], field: str, sign: str, value: str) -> ColumnElement[bool]:
    if sign == "~":
        held: ColumnElement[bool] = column.icontains(value, autoescape=True)
    elif field == "release" and len(value) < RELEASE_DIGITS:
        # Release ids are long hashes; their beginning is enough, as in the command line. A whole one has an index.
        held = column.startswith(value, autoescape=True)
    else:
        held = column == value
    # Nobody is not somebody: without this, `not` would leave out what has no value at all.
    if field == "subject":
        return and_(column.is_not(None), held)
    usual = USUAL.get(field)
    if usual is not None and sign == "=" and value != usual:
        # It follows from the value, but a database uses an index of some rows only where it is said.
        return and_(column != literal_column(f"'{usual}'"), held)
    return held


def _number(column: ColumnElement[Any], sign: str, value: float) -> ColumnElement[bool]:
    held: ColumnElement[bool] = OPERATORS[sign](column, _whole(value))
    return and_(column.is_not(None), held) if column is COLUMNS["first_token"] else held


def _ruled(rail: str, sign: str, decision: str) -> ColumnElement[bool]:
    if not decision:
        # A rail that let the text pass is not what people look for.
        return and_(
            trace.c.verdicts.contains(f'"{rail}":"', autoescape=True),
            not_(trace.c.verdicts.contains(f'"{rail}":"allow"', autoescape=True)),
        )
    holds = trace.c.verdicts.contains(f'"{rail}":"{decision}"', autoescape=True)
    return holds if sign == "=" else not_(holds)


def _whole(value: float) -> int:
    return max(-LARGEST, min(LARGEST, round(value)))


def _holds(said: Any, sign: str, value: str | float) -> bool:
    if isinstance(said, list | tuple):
        return any(_holds(one, sign, value) for one in said)
    if sign == "~":
        return str(value).casefold() in str(said).casefold()
    if isinstance(value, str):
        shown = {True: "true", False: "false"}.get(said, said) if isinstance(said, bool) else said
        return sign == "=" and str(shown) == value
    try:
        number = float(said)
    except (TypeError, ValueError):
        return False
    return bool(OPERATORS[sign](number, value))

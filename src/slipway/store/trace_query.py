"""The small language that filters traces: `model = "x" and latency > 2s and verdict.prompt_attack`."""

import operator
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, not_, or_, true

from slipway.domain.errors import QueryInvalid, did_you_mean
from slipway.store.schema import trace

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<op><=|>=|!=|=|<|>|~)|(?P<bracket>[()])"""
    r"""|(?P<word>[^\s()=<>!~"']+))"""
)
_NUMBER = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>[a-z$%]*)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
LATENCY = trace.c.ended_ns - trace.c.started_ns
NUMBERS: dict[str, ColumnElement[Any]] = {
    "latency": LATENCY,
    "tokens": trace.c.input_tokens + trace.c.output_tokens,
    "input_tokens": trace.c.input_tokens,
    "output_tokens": trace.c.output_tokens,
    "cost": trace.c.cost_micros,
    "spans": trace.c.spans,
}
TEXTS: dict[str, ColumnElement[Any]] = {
    name: trace.c[name]
    for name in (
        "name",
        "kind",
        "status",
        "release",
        "channel",
        "environment",
        "provider",
        "model",
        "session",
        "subject",
    )
}
LONGEST_QUERY = 4000


class Token(NamedTuple):
    """A piece of the query and where it begins."""

    kind: str
    value: str
    at: int


def condition(query: str) -> ColumnElement[bool]:
    """The condition over `trace` that a query stands for; an empty query is always true. Raises `QueryInvalid`."""
    if len(query) > LONGEST_QUERY:
        raise QueryInvalid(query, LONGEST_QUERY, f"a filter has at most {LONGEST_QUERY} characters.")
    if not query.strip():
        return true()
    parser = _Parser(query)
    parsed = parser.either(0)
    if (rest := parser.peek()) is not None:
        raise QueryInvalid(query, rest.at, "write 'and' or 'or' between conditions.")
    return parsed


class _Parser:
    def __init__(self, query: str) -> None:
        self.query = query
        self.tokens = _tokens(query)
        self.next = 0

    def peek(self) -> Token | None:
        return self.tokens[self.next] if self.next < len(self.tokens) else None

    def take(self) -> Token:
        token = self.peek()
        if token is None:
            raise QueryInvalid(self.query, len(self.query), "something is missing at the end.")
        self.next += 1
        return token

    def takes(self, kind: str, value: str) -> bool:
        token = self.peek()
        if token is None or token.kind != kind or token.value.lower() != value:
            return False
        self.next += 1
        return True

    def either(self, depth: int) -> ColumnElement[bool]:
        sides = [self.both(depth)]
        while self.takes("word", "or"):
            sides.append(self.both(depth))
        return or_(*sides)

    def both(self, depth: int) -> ColumnElement[bool]:
        sides = [self.one(depth)]
        while self.takes("word", "and"):
            sides.append(self.one(depth))
        return and_(*sides)

    def one(self, depth: int) -> ColumnElement[bool]:
        if depth > 40:
            raise QueryInvalid(self.query, self.take().at, "brackets are nested too deeply.")
        if self.takes("word", "not"):
            return not_(self.one(depth + 1))
        if self.takes("bracket", "("):
            inner = self.either(depth + 1)
            if not self.takes("bracket", ")"):
                token = self.peek()
                raise QueryInvalid(self.query, token.at if token else len(self.query), "a bracket is not closed.")
            return inner
        return self.comparison()

    def comparison(self) -> ColumnElement[bool]:
        field = self.take()
        if field.kind != "word":
            raise QueryInvalid(self.query, field.at, "a condition begins with a field.")
        if field.value.startswith("verdict."):
            return self.verdict(field)
        if field.value in TEXTS:
            return self.text(field)
        if field.value in NUMBERS:
            return self.number(field)
        known = [*TEXTS, *NUMBERS, "verdict.NAME"]
        raise QueryInvalid(
            self.query, field.at, f"there is no field '{field.value}'.{did_you_mean(field.value, known)}"
        )

    def sign(self, allowed: str) -> Token:
        token = self.take()
        if token.kind != "op" or token.value not in allowed.split():
            raise QueryInvalid(self.query, token.at, f"expected one of {allowed}.")
        return token

    def value(self) -> Token:
        token = self.take()
        if token.kind not in ("text", "word"):
            raise QueryInvalid(self.query, token.at, "expected a value.")
        return token

    def text(self, field: Token) -> ColumnElement[bool]:
        sign, value = self.sign("= != ~"), self.value().value
        column = TEXTS[field.value]
        if sign.value == "~":
            return column.contains(value, autoescape=True)
        if field.value == "release" and sign.value == "=":
            # Release ids are long hashes; their beginning is enough, as in the command line.
            return column.startswith(value, autoescape=True)
        if field.value == "subject" and sign.value == "!=":
            return or_(column.is_(None), column != value)
        compared: ColumnElement[bool] = _OPERATORS[sign.value](column, value)
        return compared

    def number(self, field: Token) -> ColumnElement[bool]:
        sign, token = self.sign("= != < <= > >="), self.value()
        match = _NUMBER.fullmatch(token.value.lower().lstrip("$"))
        if match is None:
            raise QueryInvalid(self.query, token.at, f"'{field.value}' is compared with a number.")
        number, unit = float(match["number"]), match["unit"]
        if field.value == "latency":
            if unit not in _SECONDS:
                raise QueryInvalid(self.query, token.at, f"a latency has the unit {', '.join(filter(None, _SECONDS))}.")
            number *= _SECONDS[unit] * 1e9
        elif field.value == "cost":
            number *= 1e6
        elif unit:
            raise QueryInvalid(self.query, token.at, f"'{field.value}' has no unit.")
        compared: ColumnElement[bool] = _OPERATORS[sign.value](NUMBERS[field.value], round(number))
        return compared

    def verdict(self, field: Token) -> ColumnElement[bool]:
        name = field.value.removeprefix("verdict.")
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
            raise QueryInvalid(self.query, field.at, "a verdict is named by its rail: verdict.prompt_attack")
        token = self.peek()
        if token is None or token.kind != "op":
            # A rail that let the text pass is not what people look for.
            return and_(
                trace.c.verdicts.contains(f'"{name}":"', autoescape=True),
                not_(trace.c.verdicts.contains(f'"{name}":"allow"', autoescape=True)),
            )
        sign, value = self.sign("= !="), self.value().value
        holds = trace.c.verdicts.contains(f'"{name}":"{value}"', autoescape=True)
        return holds if sign.value == "=" else not_(holds)


def _tokens(query: str) -> list[Token]:
    tokens, at = [], 0
    end = len(query.rstrip())
    while at < end:
        match = _TOKEN.match(query, at)
        if match is None or match.end() == at:
            raise QueryInvalid(query, at, "a quotation mark is not closed, or a sign is unknown.")
        kind = match.lastgroup or ""
        value = match[kind]
        if kind == "text":
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        tokens.append(Token(kind, value, match.start(kind)))
        at = match.end()
    return tokens

"""Reads filters over traces, `model = "x" and latency > 2s and verdict.pii`, into a tree, and writes trees."""

import math
import re
from typing import Any, NamedTuple, NoReturn, assert_never

from slipway.domain.errors import QueryInvalid, did_you_mean
from slipway.domain.trace_filter import (
    ALIASES,
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
    Value,
)

LONGEST_QUERY = 4000
DEEPEST = 40
EQUALS, TEXT_SIGNS, NUMBER_SIGNS = "= !=", "= != ~ !~", "= != < <= > >="
SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
THOUSANDS = {"": 1.0, "k": 1e3, "tokens": 1.0, "ktokens": 1e3}
MONEY = {"": 1.0, "usd": 1.0, "$": 1.0, "cent": 0.01, "cents": 0.01}
UNITS = {"seconds": SECONDS, "count": THOUSANDS, "money": MONEY}
WORDS_OF_FEEDBACK = ("good", "mixed", "bad", "any")
MORE_FIELDS = ("verdict.NAME", "feedback", "score", "score.NAME", "label", "text", "attribute.NAME")
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<op><=|>=|!=|!~|=|<|>|~)|(?P<bracket>[(),])"""
    r"""|(?P<word>[^\s()=<>!~"',\[]+(?:\["[^"]*"\])?|\[))"""
)
_NUMBER = re.compile(r"(?P<number>-?\d+(?:\.\d+)?(?:e-?\d+)?)(?P<unit>[a-z$%]*)")
_BARE = re.compile(r"[A-Za-z0-9_./:@*+-]+")
_RAIL = re.compile(r"[A-Za-z0-9_.-]+")
_KEYWORDS = ("and", "or", "not", "in")


class Token(NamedTuple):
    """A piece of the query and where it begins."""

    kind: str
    value: str
    at: int


def read_filter(query: str) -> Filter:
    """The tree of a query; an empty query is met by everything. Raises `QueryInvalid`, which names the place.

    ```
    filter    = both { "or" both }
    both      = one { "and" one }
    one       = "not" one | "(" filter ")" | condition
    condition = field sign value | field ["not"] "in" "(" value { "," value } ")"
              | "verdict." NAME [ ("=" | "!=") decision ] | "feedback" [ "=" word ] | "text" "~" words | "quoted words"
    sign      = "=" | "!=" | "<" | "<=" | ">" | ">=" | "~" (contains) | "!~"
    ```
    """
    if len(query) > LONGEST_QUERY:
        raise QueryInvalid(query, LONGEST_QUERY, f"a filter has at most {LONGEST_QUERY} characters.")
    if not query.strip():
        return EVERYTHING
    parser = _Parser(query)
    parsed = parser.either(0)
    if (rest := parser.peek()) is not None:
        parser.fail(rest, "write 'and' or 'or' between conditions.")
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

    def fail(self, token: Token, reason: str) -> NoReturn:
        raise QueryInvalid(self.query, token.at, reason)

    def either(self, depth: int) -> Filter:
        sides = [self.both(depth)]
        while self.takes("word", "or"):
            sides.append(self.both(depth))
        return sides[0] if len(sides) == 1 else Or(tuple(sides))

    def both(self, depth: int) -> Filter:
        sides = [self.one(depth)]
        while self.takes("word", "and"):
            sides.append(self.one(depth))
        return sides[0] if len(sides) == 1 else And(tuple(sides))

    def one(self, depth: int) -> Filter:
        if depth > DEEPEST:
            self.fail(self.take(), "brackets are nested too deeply.")
        if self.takes("word", "not"):
            return Not(self.one(depth + 1))
        if self.takes("bracket", "("):
            inner = self.either(depth + 1)
            self.close()
            return inner
        return self.condition()

    def close(self) -> None:
        if not self.takes("bracket", ")"):
            token = self.peek()
            raise QueryInvalid(self.query, token.at if token else len(self.query), "a bracket is not closed.")

    def condition(self) -> Filter:
        field = self.take()
        if field.kind == "text":
            return Says(field.value)
        if field.kind != "word":
            self.fail(field, "a condition begins with a field.")
        name = ALIASES.get(field.value.lower(), field.value)
        if name in FIELDS:
            return self.compared(field, name)
        head, _, rest = name.partition(".")
        match head:
            case "verdict":
                return self.ruled(field, rest)
            case "feedback" if not rest:
                return self.rated()
            case "score":
                sign = self.sign(NUMBER_SIGNS)
                return Scored(rest, sign, self.number(name, {"": 1.0}))
            case "label" if not rest:
                return self.label()
            case "text" if not rest:
                self.sign("~ =")
                return Says(self.value().value)
        if (key := _attribute(name)) is not None:
            return self.attribute(field, key)
        known = [*FIELDS, *ALIASES, *MORE_FIELDS]
        near = did_you_mean(name, known) or did_you_mean(name.lower(), known)
        return self.fail(field, f"there is no field '{field.value}'.{near}")

    def compared(self, field: Token, name: str) -> Filter:
        measure, choices = FIELDS[name].measure, FIELDS[name].choices
        if measure in UNITS:
            if self.listed():
                return Or(tuple(Compare(name, "=", self.number(name, UNITS[measure])) for _ in self.members()))
            return Compare(name, self.sign(NUMBER_SIGNS), self.number(name, UNITS[measure]))
        negated = self.takes("word", "not")
        if self.listed():
            either = Or(tuple(Compare(name, "=", self.chosen(name, choices)) for _ in self.members()))
            return Not(either) if negated else either
        if negated:
            self.fail(self.take(), "after a field, 'not' is followed by 'in'.")
        sign = self.sign(TEXT_SIGNS, "in")
        return Compare(name, sign, self.chosen(name, choices if sign in ("=", "!=") else ()))

    def listed(self) -> bool:
        return self.takes("word", "in")

    def members(self) -> "_Members":
        if not self.takes("bracket", "("):
            token = self.peek()
            at = token.at if token else len(self.query)
            raise QueryInvalid(self.query, at, "after 'in' comes a list in brackets: (a, b).")
        return _Members(self)

    def sign(self, allowed: str, more: str = "") -> Any:
        token = self.take()
        if token.kind != "op" or token.value not in allowed.split():
            self.fail(token, f"expected one of {allowed}{f' {more}' if more else ''}.")
        return token.value

    def value(self) -> Token:
        token = self.take()
        if token.kind not in ("text", "word"):
            self.fail(token, "expected a value.")
        return token

    def chosen(self, name: str, choices: tuple[str, ...]) -> str:
        token = self.value()
        if choices and token.value.lower() not in choices:
            near = did_you_mean(token.value.lower(), choices)
            self.fail(token, f"'{name}' is one of {', '.join(choices)}.{near}")
        return token.value.lower() if choices else token.value

    def number(self, name: str, units: dict[str, float]) -> float:
        token = self.value()
        match = _NUMBER.fullmatch(token.value.lower().removeprefix("$"))
        if match is None:
            self.fail(token, f"'{name}' is compared with a number.")
        unit = match["unit"]
        following = self.peek()
        if not unit and following is not None and following.kind == "word" and following.value.lower() in units:
            unit = self.take().value.lower()
        if unit not in units:
            known = ", ".join(filter(None, units))
            if units is SECONDS:
                self.fail(token, f"a latency has the unit {known}.")
            self.fail(token, f"'{name}' has no unit '{unit}'." if not known else f"'{name}' has no unit but {known}.")
        number = float(match["number"]) * units[unit]
        if not math.isfinite(number):
            self.fail(token, f"'{name}' is compared with a number of ordinary size.")
        return number

    def ruled(self, field: Token, rail: str) -> Filter:
        if not _RAIL.fullmatch(rail):
            self.fail(field, "a verdict is named by its rail: verdict.prompt_attack")
        token = self.peek()
        if token is None or token.kind != "op":
            return Ruled(rail)
        sign = self.sign(EQUALS)
        return Ruled(rail, sign, self.chosen("verdict", DECISIONS))

    def rated(self) -> Filter:
        token = self.peek()
        if token is None or token.kind != "op":
            return Rated()
        sign = self.sign(EQUALS)
        value = self.chosen("feedback", WORDS_OF_FEEDBACK)
        rated = next(Rated(word) for word in ("good", "mixed", "bad", "any") if word == value)
        return rated if sign == "=" else Not(rated)

    def label(self) -> Filter:
        return Labelled(self.sign(TEXT_SIGNS), self.value().value)

    def attribute(self, field: Token, name: str) -> Filter:
        if not name:
            self.fail(field, 'an attribute is named: attribute.http.route or attribute["http.route"].')
        sign = self.sign(f"{TEXT_SIGNS} < <= > >=")
        token = self.value()
        value: Value = token.value
        if token.kind == "word" and (match := _NUMBER.fullmatch(token.value.lower())) and not match["unit"]:
            value = float(match["number"])
        if sign in ("<", "<=", ">", ">=") and isinstance(value, str):
            self.fail(token, "an order needs a number.")
        if sign in ("~", "!~"):
            value = token.value
        return Attribute(name, sign, value)


class _Members:
    """Stands before each value of a list in turn, and takes the brackets and commas around them."""

    def __init__(self, parser: _Parser) -> None:
        self.parser, self.begun = parser, False

    def __iter__(self) -> "_Members":
        return self

    def __next__(self) -> None:
        if self.begun and not self.parser.takes("bracket", ","):
            self.parser.close()
            raise StopIteration
        self.begun = True


def _attribute(name: str) -> str | None:
    for prefix in ("attribute", "attr"):
        if name.startswith(f"{prefix}."):
            return name.removeprefix(f"{prefix}.")
        if name.startswith(f'{prefix}["') and name.endswith('"]'):
            return name.removeprefix(f'{prefix}["').removesuffix('"]')
    return None


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
            value = re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL)
        tokens.append(Token(kind, value, match.start(kind)))
        at = match.end()
    return tokens


def write_filter(filter: Filter) -> str:
    """A query that reads back as the same tree."""
    match filter:
        case Compare(field, sign, value):
            return f"{field} {sign} {_written(value)}"
        case Ruled(rail, sign, decision):
            return f"verdict.{rail} {sign} {decision}" if decision else f"verdict.{rail}"
        case Rated(word):
            return f"feedback = {word}" if word != "any" else "feedback"
        case Scored(name, sign, value):
            return f"score{f'.{name}' if name else ''} {sign} {_written(value)}"
        case Labelled(sign, value):
            return f"label {sign} {_quoted(value)}"
        case Says(words):
            return f"text ~ {_quoted(words)}"
        case Attribute(name, sign, value):
            return f'attribute["{name}"] {sign} {_quoted(value) if isinstance(value, str) else _written(value)}'
        case Not(inner):
            return f"not {_bracketed(inner)}"
        case And(sides):
            return " and ".join(map(_bracketed, sides))
        case Or(sides):
            return " or ".join(map(_bracketed, sides))
        case _:
            assert_never(filter)


def _bracketed(filter: Filter) -> str:
    return f"({write_filter(filter)})" if isinstance(filter, And | Or) else write_filter(filter)


def _written(value: Value) -> str:
    if isinstance(value, str):
        bare = _BARE.fullmatch(value) and value.lower() not in _KEYWORDS
        return value if bare else _quoted(value)
    return repr(int(value)) if value == int(value) else repr(value)


def _quoted(text: str) -> str:
    return '"{}"'.format(text.replace("\\", "\\\\").replace('"', '\\"'))

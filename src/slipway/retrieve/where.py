"""Reads conditions on metadata, `type = pdf and folder = "hr"`, and finds the chunks that meet them."""

from __future__ import annotations

import operator
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import PurePosixPath
from typing import NamedTuple, NoReturn, assert_never, cast
from weakref import WeakKeyDictionary

from slipway.domain.document import Document
from slipway.domain.errors import InputError, WhereInvalid, did_you_mean
from slipway.domain.where import All, Any, Fact, Not, Sign, Where
from slipway.text.csv_rows import CsvRow, csv_rows
from slipway.vectors.base import IndexReader

LONGEST = 4000
DEEPEST = 40
MASKS_KEPT = 32
"""Conditions of one index version whose chunks are remembered."""
HIDDEN = frozenset(["file_hash", "page_starts", "columns", "etag", "last_modified"])
"""Metadata that says nothing to ask for."""
TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<sign><=|>=|!=|!~|==?|<|>|~)|(?P<bracket>[(),])"""
    r"""|(?P<word>[^\s()=<>!~"',]+))"""
)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
ORDERS: dict[Sign, Callable[..., bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
KEYWORDS = frozenset(["and", "or", "not", "in"])
Facts = Mapping[str, tuple[str, ...]]
"""Values by the name of the field, in lower case."""

_masks: WeakKeyDictionary[IndexReader, dict[Where, tuple[int, ...]]] = WeakKeyDictionary()
_masks_lock = threading.Lock()


def read_where(text: str) -> Where:
    """The tree of a condition. Raises `WhereInvalid`, which names the place.

    ```
    where = both { "or" both }
    both  = one { "and" one }
    one   = "not" one | "(" where ")" | field sign value | field "in" "(" value { "," value } ")"
    sign  = "=" | "!=" | "<" | "<=" | ">" | ">=" | "~" (contains) | "!~"
    ```
    Names and values with spaces or signs stand in quotes.
    """
    if len(text) > LONGEST:
        raise WhereInvalid(text, LONGEST, f"a condition has at most {LONGEST} characters.")
    reader = _Reader(text)
    where = reader.either(0)
    if (rest := reader.peek()) is not None:
        reader.fail(rest, "write 'and' or 'or' between conditions.")
    return where


@lru_cache(maxsize=64)
def known_where(text: str) -> Where | None:
    """The same, remembered; None for an empty text."""
    return read_where(text) if text.strip() else None


def join_where(*given: Where | None) -> Where | None:
    """All of them together; None where there is none."""
    parts = tuple(one for one in given if one is not None)
    return All(parts=parts) if len(parts) > 1 else next(iter(parts), None)


def fields_of(where: Where) -> set[str]:
    """Names of the fields that a condition asks for."""
    match where:
        case Fact():
            return {where.field}
        case All() | Any():
            return set().union(*(fields_of(part) for part in where.parts))
        case Not():
            return fields_of(where.part)
        case _:
            assert_never(where)


def facts_of(id: str, metadata: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """What a document says about itself: its metadata, and its `id`, `title`, `folder` and `type`.

    A file lies in every folder above it; `type` is its suffix and its format. A list `[a, b]` gives two values.
    """
    path = PurePosixPath(id)
    facts = {key.lower(): _values(value) for key, value in metadata.items() if key not in HIDDEN}
    folders = tuple(str(folder) for folder in path.parents if str(folder) != ".")
    types = dict.fromkeys(value for value in (path.suffix[1:].lower(), metadata.get("format", "")) if value)
    return {
        **facts,
        "id": (id,),
        "folder": (*folders, *facts.get("folder", ())),
        "type": (*types, *facts.get("type", ())),
    }


def meets(where: Where, facts: Facts) -> bool:
    """Whether a document or row meets a condition. One without the field meets only `!=` and `!~`."""
    match where:
        case Fact():
            return _holds(where, facts.get(where.field, ()))
        case All():
            return all(meets(part, facts) for part in where.parts)
        case Any():
            return any(meets(part, facts) for part in where.parts)
        case Not():
            return not meets(where.part, facts)
        case _:
            assert_never(where)


def chunks_that_meet(reader: IndexReader, where: Where) -> tuple[int, ...]:
    """Numbers of the chunks whose document meets the condition, ascending.

    Of a table whose columns the condition names, those that hold a row which meets it. Raises `InputError` for a field
    that no document has.
    """
    with _masks_lock:
        kept = _masks.setdefault(reader, {})
        found = kept.get(where)
    if found is None:
        found = _find(reader, where)
        with _masks_lock:
            if len(kept) >= MASKS_KEPT:
                kept.clear()
            kept[where] = found
    return found


def check_fields(where: Where, documents: Sequence[Document]) -> None:
    """Raises `InputError` for a field that no document has."""
    known = set().union(*(facts_of(one.id, one.metadata) for one in documents))
    for document in documents:
        if document.metadata.get("format") == "csv":
            known |= {name for row in csv_rows(document.id, document.text)[:1] for name in row.values}
    _check(where, known)


def _find(reader: IndexReader, where: Where) -> tuple[int, ...]:
    asked = fields_of(where)
    known: set[str] = set()
    whole: list[str] = []
    some: list[int] = []
    for id, metadata in reader.metadata().items():
        facts = facts_of(id, metadata)
        known |= facts.keys()
        rows = csv_rows(id, reader.document(id).text) if metadata.get("format") == "csv" else []
        columns = set(rows[0].values) if rows else set()
        known |= columns
        if columns & asked:
            some += _chunks_with_a_row(reader, id, [row for row in rows if meets(where, {**facts, **row.values})])
        elif meets(where, facts):
            whole.append(id)
    _check(where, known)
    return tuple(sorted([*some, *reader.chunk_numbers_in(whole)]))


def _chunks_with_a_row(reader: IndexReader, id: str, rows: Sequence[CsvRow]) -> list[int]:
    numbers = reader.chunk_numbers(id)
    found = []
    place = 0
    for number, chunk in zip(numbers, reader.chunks(numbers), strict=True):
        while place < len(rows) and rows[place].end <= chunk.start:
            place += 1
        if place < len(rows) and rows[place].start < chunk.end:
            found.append(number)
    return found


def _check(where: Where, known: set[str]) -> None:
    for field in sorted(fields_of(where) - known):
        near = did_you_mean(field, known)
        names = f" Known: {', '.join(sorted(known)[:20])}." if "Did you mean" in near else near
        raise InputError(f"No document has the field '{field}'.{near if names != near else ''}{names}")


def _values(text: str) -> tuple[str, ...]:
    if text.startswith("[") and text.endswith("]"):
        return tuple(part.strip().strip("\"'") for part in text[1:-1].split(",") if part.strip())
    return (text,)


def _holds(fact: Fact, there: Sequence[str]) -> bool:
    sign = fact.sign
    if sign in {"!=", "!~"}:
        opposite: Sign = "=" if sign == "!=" else "~"
        return not any(_compare(value, opposite, wanted) for value in there for wanted in fact.values)
    return any(_compare(value, sign, wanted) for value in there for wanted in fact.values)


def _compare(value: str, sign: Sign, wanted: str) -> bool:
    """Numbers as numbers, everything else as text without regard to case; dates as 2026-01-31 sort as text."""
    left, right = value.strip().casefold(), wanted.strip().casefold()
    if sign == "~":
        return right in left
    if NUMBER.fullmatch(left) and NUMBER.fullmatch(right):
        return ORDERS[sign](float(left), float(right))
    return ORDERS[sign](left, right)


class _Token(NamedTuple):
    kind: str
    value: str
    at: int


class _Reader:
    """Reads the grammar of `read_where` from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(self._tokens())
        self.place = 0

    def _tokens(self) -> list[_Token]:
        found: list[_Token] = []
        at = 0
        while self.text[at:].strip():
            token = TOKEN.match(self.text, at)
            if token is None or token.lastgroup is None:
                raise WhereInvalid(self.text, at, "a quote is not closed, or this sign is not known.")
            kind, value = token.lastgroup, token[token.lastgroup]
            value = re.sub(r"\\(.)", r"\1", value[1:-1]) if kind == "text" else value
            found.append(_Token(kind, "=" if value == "==" and kind == "sign" else value, token.start(kind)))
            at = token.end()
        return found

    def peek(self) -> _Token | None:
        return self.tokens[self.place] if self.place < len(self.tokens) else None

    def fail(self, token: _Token | None, reason: str) -> NoReturn:
        raise WhereInvalid(self.text, token.at if token else len(self.text), reason)

    def either(self, depth: int) -> Where:
        parts = [self.both(depth)]
        while self._took("or"):
            parts.append(self.both(depth))
        return Any(parts=tuple(parts)) if len(parts) > 1 else parts[0]

    def both(self, depth: int) -> Where:
        parts = [self.one(depth)]
        while self._took("and"):
            parts.append(self.one(depth))
        return All(parts=tuple(parts)) if len(parts) > 1 else parts[0]

    def one(self, depth: int) -> Where:
        if depth > DEEPEST:
            self.fail(self.peek(), f"brackets and 'not' lie at most {DEEPEST} deep.")
        if self._took("not"):
            return Not(part=self.one(depth + 1))
        if self._took_bracket("("):
            inner = self.either(depth + 1)
            self._close()
            return inner
        return self._fact()

    def _fact(self) -> Fact:
        field = self._value("the name of a field")
        token = self.peek()
        if self._took("in"):
            if not self._took_bracket("("):
                self.fail(self.peek(), "write the values in brackets, such as in (pdf, docx).")
            values = [self._value("a value")]
            while self._took_bracket(","):
                values.append(self._value("a value"))
            self._close()
            return Fact(field=field.lower(), sign="=", values=tuple(values))
        if token is None or token.kind != "sign":
            self.fail(token, f"'{field}' needs a sign (= != < <= > >= ~ !~) and a value.")
        self.place += 1
        return Fact(field=field.lower(), sign=cast("Sign", token.value), values=(self._value("a value"),))

    def _value(self, what: str) -> str:
        token = self.peek()
        if token is None or token.kind not in {"text", "word"} or self._is_keyword(token):
            self.fail(token, f"{what} is missing.")
        self.place += 1
        return token.value

    def _is_keyword(self, token: _Token) -> bool:
        return token.kind == "word" and token.value.lower() in KEYWORDS

    def _took(self, word: str) -> bool:
        token = self.peek()
        if token is not None and token.kind == "word" and token.value.lower() == word:
            self.place += 1
            return True
        return False

    def _took_bracket(self, sign: str) -> bool:
        token = self.peek()
        if token is not None and token.kind == "bracket" and token.value == sign:
            self.place += 1
            return True
        return False

    def _close(self) -> None:
        if not self._took_bracket(")"):
            self.fail(self.peek(), "a bracket is not closed.")

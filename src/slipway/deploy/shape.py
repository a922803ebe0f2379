"""Checks plain data against a shape and names what is misspelt, missing or of the wrong type."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from slipway.domain.errors import did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong in one file: where, and why."""

    file: str
    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: {self.place}: {self.reason}" if self.place else f"{self.file}: {self.reason}"


Shape = Any
"""A type (`str`, `int`, `bool`), a pattern, a `Table`, a `ListOf`, a `MapOf`, an `AnyOf`, a `OneOf`, or a function that
returns the shape (for shapes that hold themselves)."""


@dataclass(frozen=True, slots=True)
class Table:
    """An object of known keys; others are refused."""

    keys: Mapping[str, Shape]
    needed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of things of one shape."""

    each: Shape
    least: int = 0


@dataclass(frozen=True, slots=True)
class MapOf:
    """An object whose keys are names that the writer chooses."""

    each: Shape


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One of several shapes."""

    shapes: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of several values."""

    values: tuple[Any, ...] = field(default=())


def check_shape(value: Any, shape: Shape, *, file: str, place: str = "") -> Iterator[Problem]:
    """Every problem of a value, deepest place first named in full."""

    def wrong(reason: str) -> Problem:
        return Problem(file=file, place=place, reason=reason)

    match shape:
        case Table():
            if not isinstance(value, dict):
                yield wrong(f"must be a table, is {_name(value)}")
                return
            for key in value:
                if key not in shape.keys:
                    yield wrong(f"unknown field '{key}'.{did_you_mean(str(key), shape.keys)}")
            for key in shape.needed:
                if key not in value:
                    yield wrong(f"the field '{key}' is missing")
            for key, one in value.items():
                if key in shape.keys:
                    yield from check_shape(one, shape.keys[key], file=file, place=f"{place}.{key}".lstrip("."))
        case MapOf():
            if not isinstance(value, dict):
                yield wrong(f"must be a table, is {_name(value)}")
                return
            for key, one in value.items():
                if not isinstance(key, str):
                    yield wrong(f"the key {key!r} must be text")
                yield from check_shape(one, shape.each, file=file, place=f"{place}.{key}".lstrip("."))
        case ListOf():
            if not isinstance(value, list):
                yield wrong(f"must be a list, is {_name(value)}")
                return
            if len(value) < shape.least:
                yield wrong(f"must have at least {shape.least} entries")
            for number, one in enumerate(value):
                yield from check_shape(one, shape.each, file=file, place=f"{place}[{number}]")
        case AnyOf():
            tries = [list(check_shape(value, one, file=file, place=place)) for one in shape.shapes]
            if all(tries):
                yield min(tries, key=len)[0]
        case OneOf():
            if value not in shape.values:
                yield wrong(f"{value!r} is none of {', '.join(map(str, shape.values))}")
        case re.Pattern():
            if not isinstance(value, str) or not shape.fullmatch(value):
                yield wrong(f"{value!r} does not have the form {shape.pattern}")
        case type():
            if not isinstance(value, shape) or (shape is not bool and isinstance(value, bool)):
                yield wrong(f"must be {WORDS.get(shape, shape.__name__)}, is {_name(value)}")
        case Callable():
            yield from check_shape(value, shape(), file=file, place=place)


WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", dict: "a table", list: "a list"}


def _name(value: Any) -> str:
    return "nothing" if value is None else WORDS.get(type(value), type(value).__name__)

"""Checks a JSON value against a JSON Schema: the part of draft 2020-12 that schemas of answers use.

Known are type, enum, const, the bounds of numbers, texts, arrays and objects, required, properties,
patternProperties, additionalProperties, items, prefixItems, contains, uniqueItems, allOf, anyOf, oneOf, not,
if/then/else, dependentRequired and `$ref` inside the same schema. `format` and unknown keywords are ignored, as the
standard allows.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from slipway.text.patterns import LONGEST_TEXT, compile_pattern

DEEPEST = 64
MOST_STEPS = 100_000

Json = Any


class Fault(NamedTuple):
    """Where a value breaks its schema (`$.items[2].name`) and why."""

    place: str
    reason: str


class SchemaTooDeep(ValueError):
    """A schema refers to itself without end, or checking takes too many steps."""


def parse_schema(text: str) -> Mapping[str, Json] | bool:
    """The schema in a text. Raises `ValueError` when it is no JSON, no schema, or refers to what is not there."""
    try:
        schema = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(schema, dict | bool):
        raise ValueError("a JSON Schema is an object, true or false")
    _check_keywords(schema)
    for key, text_of in _texts(schema):
        if key == "$ref":
            _resolve(schema, text_of)
        else:
            compile_pattern(text_of)
    return schema


def find_faults(value: Json, schema: Mapping[str, Json] | bool, *, most: int = 10) -> list[Fault]:
    """The first faults of a value, at most `most`; empty when it fits. Raises `SchemaTooDeep`."""
    try:
        return list(islice(_Check(schema).check(value, schema, "$", 0), most))
    except RecursionError:
        raise SchemaTooDeep("the value is nested too deeply") from None


def _check_keywords(root: Json) -> None:
    """Raises `ValueError` for the first keyword whose value has another form than the standard gives it."""
    waiting, seen = [(root, "$")], set()
    while waiting:
        schema, place = waiting.pop()
        if id(schema) in seen or isinstance(schema, bool):
            continue
        seen.add(id(schema))
        if not isinstance(schema, dict):
            raise ValueError(f"{place}: a schema is an object, true or false")
        for key, value in schema.items():
            form = FORMS.get(key)
            if form is None:
                continue
            fits, told = FORM[form]
            if not fits(value):
                raise ValueError(f"{place}: '{key}' is {told}")
            match form:
                case "schema":
                    waiting.append((value, f"{place}.{key}"))
                case "schemas":
                    waiting += [(one, f"{place}.{key}[{number}]") for number, one in enumerate(value)]
                case "named schemas":
                    waiting += [(one, f"{place}.{key}.{name}") for name, one in value.items()]
                case "reference":
                    waiting.append((_resolve(root, value), value))


def _is_texts(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


FORM: dict[str, tuple[Callable[[Json], bool], str]] = {
    "number": (lambda value: TYPES["number"](value), "a number"),
    "count": (lambda value: TYPES["integer"](value) and value >= 0, "a whole number from 0 on"),
    "text": (lambda value: isinstance(value, str), "a text"),
    "reference": (lambda value: isinstance(value, str), "a text"),
    "list": (lambda value: isinstance(value, list), "a list"),
    "texts": (_is_texts, "a list of texts"),
    "type": (lambda value: isinstance(value, str) or _is_texts(value), "the name of a type or a list of names"),
    "schema": (lambda value: isinstance(value, dict | bool), "a schema: an object, true or false"),
    "schemas": (lambda value: isinstance(value, list), "a list of schemas"),
    "named schemas": (lambda value: isinstance(value, dict), "an object of schemas"),
    "named texts": (
        lambda value: isinstance(value, dict) and all(map(_is_texts, value.values())),
        "an object of lists of texts",
    ),
}
"""What a keyword may hold, and how that is called."""
FORMS = {
    key: form
    for form, keys in {
        "number": "minimum maximum exclusiveMinimum exclusiveMaximum multipleOf",
        "count": "minLength maxLength minItems maxItems minProperties maxProperties",
        "text": "pattern",
        "reference": "$ref",
        "list": "enum",
        "texts": "required",
        "type": "type",
        "schema": "items contains not if then else additionalProperties",
        "schemas": "allOf anyOf oneOf prefixItems",
        "named schemas": "properties patternProperties $defs definitions",
        "named texts": "dependentRequired",
    }.items()
    for key in keys.split()
}


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is not JSON")


def _texts(schema: Json) -> Iterator[tuple[str, str]]:
    """Every `$ref` and `pattern` of a schema."""
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield from ((key, node[key]) for key in ("$ref", "pattern") if isinstance(node.get(key), str))
            if isinstance(patterns := node.get("patternProperties"), dict):
                yield from (("pattern", pattern) for pattern in patterns)
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


def _resolve(root: Json, reference: str) -> Json:
    """The subschema that `#/…` points to. Raises `ValueError`."""
    if not reference.startswith("#"):
        raise ValueError(f"$ref '{reference}' points outside the schema; only #/… is read")
    node = root
    for part in filter(None, reference[1:].split("/")):
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict) and key in node:
            node = node[key]
        elif isinstance(node, list) and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
        else:
            raise ValueError(f"$ref '{reference}' points to nothing")
    return node


TYPES: dict[str, Callable[[Json], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: (
        (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())
    ),
}


class _Check:
    def __init__(self, root: Json) -> None:
        self.root = root
        self.steps = MOST_STEPS

    def check(self, value: Json, schema: Json, place: str, depth: int) -> Iterator[Fault]:
        self.steps -= 1
        if depth > DEEPEST or self.steps < 0:
            raise SchemaTooDeep(f"{place}: the schema refers to itself too often")
        if schema is True or schema == {}:
            return
        if schema is False:
            yield Fault(place, "nothing is allowed here")
            return
        if not isinstance(schema, Mapping):
            raise ValueError(f"{place}: a schema is an object, true or false")
        if (reference := schema.get("$ref")) is not None:
            yield from self.check(value, _resolve(self.root, str(reference)), place, depth + 1)
        wanted = schema.get("type")
        if wanted is not None:
            names = [wanted] if isinstance(wanted, str) else list(wanted)
            if not any(TYPES.get(name, lambda _: False)(value) for name in names):
                yield Fault(place, f"is {_name(value)}, not {' or '.join(names)}")
                return
        if "enum" in schema and not any(_equal(value, one) for one in schema["enum"]):
            yield Fault(place, f"is not one of {_shown(schema['enum'])}")
        if "const" in schema and not _equal(value, schema["const"]):
            yield Fault(place, f"is not {_shown(schema['const'])}")
        if isinstance(value, str):
            yield from self._text(value, schema, place)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield from self._number(value, schema, place)
        elif isinstance(value, list):
            yield from self._array(value, schema, place, depth)
        elif isinstance(value, dict):
            yield from self._object(value, schema, place, depth)
        yield from self._combined(value, schema, place, depth)

    def _fits(self, value: Json, schema: Json, place: str, depth: int) -> bool:
        return next(self.check(value, schema, place, depth + 1), None) is None

    def _text(self, value: str, schema: Mapping[str, Json], place: str) -> Iterator[Fault]:
        if len(value) < schema.get("minLength", 0):
            yield Fault(place, f"has {len(value)} characters, fewer than {schema['minLength']}")
        if len(value) > schema.get("maxLength", math.inf):
            yield Fault(place, f"has {len(value)} characters, more than {schema['maxLength']}")
        if "pattern" in schema and not _found(schema["pattern"], value):
            yield Fault(place, f"does not match {schema['pattern']}")

    def _number(self, value: float, schema: Mapping[str, Json], place: str) -> Iterator[Fault]:
        if "minimum" in schema and value < schema["minimum"]:
            yield Fault(place, f"is {value}, less than {schema['minimum']}")
        if "maximum" in schema and value > schema["maximum"]:
            yield Fault(place, f"is {value}, more than {schema['maximum']}")
        if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
            yield Fault(place, f"is {value}, not more than {schema['exclusiveMinimum']}")
        if "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
            yield Fault(place, f"is {value}, not less than {schema['exclusiveMaximum']}")
        if (step := schema.get("multipleOf")) and not _is_multiple(value, step):
            yield Fault(place, f"is {value}, not a multiple of {step}")

    def _array(self, value: list[Json], schema: Mapping[str, Json], place: str, depth: int) -> Iterator[Fault]:
        if len(value) < schema.get("minItems", 0):
            yield Fault(place, f"has {len(value)} entries, fewer than {schema['minItems']}")
        if len(value) > schema.get("maxItems", math.inf):
            yield Fault(place, f"has {len(value)} entries, more than {schema['maxItems']}")
        if schema.get("uniqueItems") and len({_shown(one) for one in value}) < len(value):
            yield Fault(place, "has an entry twice")
        first: Sequence[Json] = schema.get("prefixItems", ())
        for number, (entry, inner) in enumerate(zip(value, first, strict=False)):
            yield from self.check(entry, inner, f"{place}[{number}]", depth + 1)
        if "items" in schema:
            for number, entry in enumerate(value[len(first) :], start=len(first)):
                yield from self.check(entry, schema["items"], f"{place}[{number}]", depth + 1)
        if "contains" in schema and not any(self._fits(one, schema["contains"], place, depth) for one in value):
            yield Fault(place, "has no entry of the form that 'contains' asks for")

    def _object(self, value: dict[str, Json], schema: Mapping[str, Json], place: str, depth: int) -> Iterator[Fault]:
        for name in schema.get("required", ()):
            if name not in value:
                yield Fault(place, f"lacks '{name}'")
        for name, others in schema.get("dependentRequired", {}).items():
            yield from (
                Fault(place, f"has '{name}' but lacks '{other}'")
                for other in others
                if name in value and other not in value
            )
        if len(value) < schema.get("minProperties", 0):
            yield Fault(place, f"has {len(value)} keys, fewer than {schema['minProperties']}")
        if len(value) > schema.get("maxProperties", math.inf):
            yield Fault(place, f"has {len(value)} keys, more than {schema['maxProperties']}")
        known: Mapping[str, Json] = schema.get("properties", {})
        patterns: Mapping[str, Json] = schema.get("patternProperties", {})
        for name, entry in value.items():
            inner = [known[name]] if name in known else []
            inner += [one for pattern, one in patterns.items() if _found(pattern, name)]
            if not inner and "additionalProperties" in schema:
                if schema["additionalProperties"] is False:
                    yield Fault(place, f"has the key '{name}', which the schema does not know")
                    continue
                inner = [schema["additionalProperties"]]
            for one in inner:
                yield from self.check(entry, one, f"{place}.{name}", depth + 1)

    def _combined(self, value: Json, schema: Mapping[str, Json], place: str, depth: int) -> Iterator[Fault]:
        for one in schema.get("allOf", ()):
            yield from self.check(value, one, place, depth + 1)
        if "anyOf" in schema and not any(self._fits(value, one, place, depth) for one in schema["anyOf"]):
            yield Fault(place, "fits none of the forms that 'anyOf' allows")
        if "oneOf" in schema:
            fitting = sum(self._fits(value, one, place, depth) for one in schema["oneOf"])
            if fitting != 1:
                yield Fault(place, f"fits {fitting} of the forms that 'oneOf' allows, not exactly one")
        if "not" in schema and self._fits(value, schema["not"], place, depth):
            yield Fault(place, "has the form that 'not' forbids")
        if "if" in schema:
            branch = "then" if self._fits(value, schema["if"], place, depth) else "else"
            if branch in schema:
                yield from self.check(value, schema[branch], place, depth + 1)


def _found(pattern: str, text: str) -> bool:
    return compile_pattern(pattern).search(text[:LONGEST_TEXT]) is not None


def _is_multiple(value: float, step: float) -> bool:
    """To nine digits behind the point, as 0.3 is a multiple of 0.1 to a reader."""
    if isinstance(value, int) and isinstance(step, int):
        return value % step == 0
    try:
        return abs(value / step - round(value / step)) <= 1e-9
    except OverflowError:
        return False


def _equal(first: Json, second: Json) -> bool:
    """1 is 1.0, but true is not 1."""
    return isinstance(first, bool) == isinstance(second, bool) and bool(first == second)


def _name(value: Json) -> str:
    return next(name for name in ("null", "boolean", "string", "array", "object", "number") if TYPES[name](value))


def _shown(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)

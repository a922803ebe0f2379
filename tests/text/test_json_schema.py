"""JSON Schemas of answers: what fits, what does not, and agreement with a full implementation."""

import json
import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from slipway.text.json_schema import SchemaTooDeep, find_faults, parse_schema
from slipway.text.patterns import compile_pattern

CASES = [
    pytest.param({"type": "integer"}, [1, 1.0, True, "1", 1.5, None], id="integer"),
    pytest.param({"type": ["string", "null"]}, ["a", None, 1, []], id="two types"),
    pytest.param({"enum": [1, "a", None]}, [1, 1.0, True, "a", "b", None], id="enum"),
    pytest.param({"const": {"a": [1]}}, [{"a": [1]}, {"a": [2]}], id="const"),
    pytest.param({"minimum": 1, "exclusiveMaximum": 3, "multipleOf": 0.5}, [1, 2.5, 3, 0, 1.2, "x"], id="numbers"),
    pytest.param({"minLength": 2, "maxLength": 3, "pattern": "^a"}, ["ab", "a", "abcd", "bcd", 1], id="texts"),
    pytest.param(
        {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2, "uniqueItems": True},
        [["a"], [], ["a", "a"], ["a", "b", "c"], ["a", 1]],
        id="arrays",
    ),
    pytest.param(
        {"prefixItems": [{"type": "string"}], "items": {"type": "integer"}}, [["a", 1], ["a", "b"], [1]], id="tuples"
    ),
    pytest.param({"contains": {"const": 1}}, [[0, 1], [0], []], id="contains"),
    pytest.param(
        {
            "type": "object",
            "required": ["a"],
            "properties": {"a": {"type": "integer"}},
            "patternProperties": {"^x_": {"type": "string"}},
            "additionalProperties": False,
        },
        [{"a": 1}, {}, {"a": "1"}, {"a": 1, "x_b": "c"}, {"a": 1, "x_b": 2}, {"a": 1, "z": 1}],
        id="objects",
    ),
    pytest.param(
        {"dependentRequired": {"a": ["b"]}, "maxProperties": 2}, [{"a": 1}, {"a": 1, "b": 2}, {}], id="dependent"
    ),
    pytest.param({"additionalProperties": {"type": "integer"}}, [{"a": 1}, {"a": "b"}], id="other keys"),
    pytest.param({"anyOf": [{"type": "string"}, {"minimum": 5}]}, ["a", 6, 4], id="anyOf"),
    pytest.param({"oneOf": [{"minimum": 5}, {"multipleOf": 3}]}, [5, 3, 6, 1], id="oneOf"),
    pytest.param({"allOf": [{"type": "integer"}, {"minimum": 2}]}, [2, 1, "a"], id="allOf"),
    pytest.param({"not": {"type": "string"}}, ["a", 1], id="not"),
    pytest.param(
        {"if": {"type": "string"}, "then": {"minLength": 2}, "else": {"minimum": 2}},
        ["ab", "a", 2, 1],
        id="if, then, else",
    ),
    pytest.param(
        {
            "$defs": {"tree": {"type": "object", "properties": {"sub": {"items": {"$ref": "#/$defs/tree"}}}}},
            "$ref": "#/$defs/tree",
        },
        [{"sub": [{"sub": []}]}, {"sub": [{"sub": [1]}]}, 3],
        id="a schema that refers to itself",
    ),
    pytest.param(False, [1], id="nothing is allowed"),
    pytest.param(True, [1], id="everything is allowed"),
]


@pytest.mark.parametrize(("schema", "values"), CASES)
def test_it_agrees_with_a_full_implementation(schema: object, values: list[object]) -> None:
    ours = parse_schema(json.dumps(schema))
    theirs = Draft202012Validator(schema)
    assert [not find_faults(value, ours) for value in values] == [theirs.is_valid(value) for value in values]


def test_a_fault_says_where_and_why() -> None:
    schema = parse_schema('{"properties": {"items": {"items": {"required": ["name"]}}}}')
    (fault,) = find_faults({"items": [{"name": 1}, {}]}, schema)
    assert (fault.place, fault.reason) == ("$.items[1]", "lacks 'name'")


def test_no_more_faults_than_asked_for_are_looked_for() -> None:
    schema = parse_schema('{"items": {"type": "string"}}')
    assert len(find_faults([1] * 100, schema, most=3)) == 3


WRONG = [
    pytest.param("{", id="no JSON"),
    pytest.param("[]", id="a list"),
    pytest.param('{"$ref": "https://example.com/x"}', id="a reference to elsewhere"),
    pytest.param('{"$ref": "#/$defs/none"}', id="a reference to nothing"),
    pytest.param('{"pattern": "(a+)+$"}', id="a pattern that can take for ever"),
    pytest.param('{"patternProperties": {"(": {}}}', id="a pattern that is none"),
]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_schema_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_schema(text)


def test_a_schema_without_end_is_stopped() -> None:
    with pytest.raises(SchemaTooDeep):
        find_faults(1, parse_schema('{"$ref": "#"}'))
    doubling = '{"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}'
    with pytest.raises(SchemaTooDeep):
        find_faults(1, parse_schema(doubling))


PATTERNS = [
    pytest.param("(a+)+", False, id="a repetition of a repetition"),
    pytest.param("(ab|c)*", False, id="a repetition of a branch"),
    pytest.param("((ab)+c)*", False, id="one group further in"),
    pytest.param("(a{0,500})*", False, id="a wide count inside"),
    pytest.param("(", False, id="no pattern"),
    pytest.param("a" * 2000, False, id="too long"),
    pytest.param(r"^\d{4}-\d\d$", True, id="a date"),
    pytest.param("(yes|no)", True, id="a branch that does not repeat"),
    pytest.param("(a{2})*", True, id="a fixed count inside"),
    pytest.param("[(+*)]+x", True, id="signs in a class"),
    pytest.param(r"\(a+\)+", True, id="brackets that are text"),
]


@pytest.mark.parametrize(("pattern", "fine"), PATTERNS)
def test_a_pattern_of_a_user_is_refused_when_it_could_take_for_ever(pattern: str, fine: bool) -> None:
    if fine:
        compile_pattern(pattern)
        return
    with pytest.raises(ValueError):
        compile_pattern(pattern)


KEYWORDS = {
    "type": ["object", "null"],
    "properties": {"a": {"type": "string", "pattern": "^a", "maxLength": 3}, "b": {"multipleOf": 0.1, "maximum": 9}},
    "items": {"$ref": "#/$defs/x"},
    "prefixItems": [{"type": "integer"}],
    "required": ["a"],
    "enum": [1],
    "dependentRequired": {"a": ["b"]},
    "patternProperties": {"^z": {}},
    "additionalProperties": {"type": "string"},
    "minItems": 1,
    "contains": {"const": 1},
    "uniqueItems": True,
    "anyOf": [{"type": "object"}],
    "not": {},
    "if": {},
    "then": False,
    "$defs": {"x": {"type": "number"}},
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 10**30) | st.floats() | st.sampled_from(["", "^a", "(", "#/x", "#"]),
    lambda inside: st.lists(inside, max_size=2) | st.dictionaries(st.sampled_from("abz"), inside, max_size=2),
    max_leaves=4,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(KEYWORDS)), VALUES, min_size=1, max_size=2), VALUES)
@example({"required": [{}]}, {"a": 1})
@example({"type": [["object"]]}, 1)
@example({"properties": {"a": {"minLength": "x"}}}, {"a": "a"})
@example({"properties": {"a": {"pattern": -1}}}, {"a": "a"})
@example({"properties": {"b": {"multipleOf": 0.1}}}, {"b": 10**400})
@example({"properties": {"b": {"multipleOf": 0.1}}}, {"b": math.inf})
@example({"allOf": 1}, 1)
def test_a_schema_of_any_shape_is_refused_or_checks_any_value(changes: dict[str, Any], value: Any) -> None:
    with suppress(ValueError):
        find_faults(value, parse_schema(json.dumps(KEYWORDS | changes)))


SHAPES = [
    pytest.param({"required": "a"}, r"\$: 'required' is a list of texts", id="required"),
    pytest.param(
        {"properties": {"a": {"minLength": "3"}}}, r"\$\.properties\.a: 'minLength' is a whole number", id="inside"
    ),
    pytest.param({"exclusiveMinimum": True}, "'exclusiveMinimum' is a number", id="as it was in draft 4"),
    pytest.param({"anyOf": [1]}, r"\$\.anyOf\[0\]: a schema is an object", id="one of several"),
    pytest.param({"$ref": "#/x", "x": 5}, "#/x: a schema is an object", id="what is referred to"),
    pytest.param({"minimum": math.nan}, "NaN is not JSON", id="no number"),
]


@pytest.mark.parametrize(("schema", "reason"), SHAPES)
def test_a_wrong_schema_is_told_with_its_place(schema: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_schema(json.dumps(schema))


def test_a_schema_that_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(ValueError, match="too deeply"):
        parse_schema('{"not":' * 5000 + "{}" + "}" * 5000)


def test_a_key_of_the_answer_may_be_called_like_a_keyword() -> None:
    schema = parse_schema('{"properties": {"required": {"type": "boolean"}, "type": true}, "default": {"required": 1}}')
    assert find_faults({"required": True, "type": 5}, schema) == []

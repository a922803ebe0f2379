"""Fills the places of a prompt template: a small, safe part of Jinja that runs no code.

Templates are parsed by Jinja and walked here, node by node; nothing is compiled. Allowed are `{{ name }}`, dots and
brackets into mappings and lists that were given as values, comparisons, `and`, `or`, `not`, `{% if %}`, `{% for %}`
and the filters of `FILTERS`. There is no arithmetic, no call and no attribute of a Python object, so a template can
neither reach the interpreter nor multiply its own size.
"""

import json
import operator
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from slipway.domain.errors import PromptInvalid, TemplateTooBig, VariablesMissing
from slipway.domain.message import Message
from slipway.domain.prompt import Prompt

if TYPE_CHECKING:
    from jinja2 import Environment, nodes

Value = str | int | float | bool | None | Sequence["Value"] | Mapping[str, "Value"]

MOST_CHARACTERS = 1_000_000
"""Longest text that one prompt may become."""
MOST_STEPS = 200_000
MOST_SECONDS = 0.5
LONGEST_TEMPLATE = 100_000
DEEPEST = 20
SCHEMA_VARIABLE = "output_schema"
"""Always defined: the prompt's output schema as text."""

FILTERS: dict[str, Callable[[str], str]] = {
    "trim": str.strip,
    "lower": str.lower,
    "upper": str.upper,
    "title": str.title,
    "tojson": lambda text: json.dumps(text, ensure_ascii=False),
}


class Place(NamedTuple):
    """A `{{ variable }}` place or a tag that reads a variable: its name and [start, end) in the template."""

    name: str
    start: int
    end: int


def render(prompt: Prompt, variables: Mapping[str, Value]) -> tuple[Message, ...]:
    """The messages of one request: system, examples as turns, user.

    Values are put in as they are and are never read as templates, but they cannot close a delimiter of the template:
    where the template writes `</passages>`, the same text inside a value becomes `< /passages>`. A schema that no
    template places is added to the end of the system message.
    Raises `VariablesMissing`, `PromptInvalid`, `TemplateTooBig`.
    """
    known = {SCHEMA_VARIABLE: prompt.output_schema, **variables}
    needed = variables_of(prompt)
    missing = [name for name in needed if name not in known]
    if missing:
        raise VariablesMissing(prompt.name, missing)
    budget = _Budget(prompt.name)
    system = _fill(prompt.system, known, budget)
    if prompt.output_schema and SCHEMA_VARIABLE not in needed:
        asked = f"Reply with JSON only, no other text. The JSON fits this JSON Schema:\n{prompt.output_schema.strip()}"
        system = f"{system}\n\n{asked}" if system else asked
    user = _fill(prompt.user, known, budget)
    messages = [Message(role="system", text=system)] if system else []
    for example in prompt.examples:
        messages.append(Message(role="user", text=example.input))
        messages.append(Message(role="assistant", text=example.output))
    messages.append(Message(role="user", text=user))
    return tuple(messages)


def variables_of(prompt: Prompt) -> tuple[str, ...]:
    """Variables that the templates of a prompt read, in order of their first place. Raises `PromptInvalid`."""
    names: list[str] = []
    for section, text in (("system", prompt.system), ("user", prompt.user)):
        try:
            names += [place.name for place in places(text)]
        except PromptInvalid as wrong:
            raise PromptInvalid(wrong.place.replace("template", section), wrong.reason) from None
    return tuple(dict.fromkeys(names))


def optional_variables_of(prompt: Prompt) -> tuple[str, ...]:
    """Variables that a template asks for with `is defined` or gives a default. Raises `PromptInvalid`."""
    found: set[str] = set()
    for text in (prompt.system, prompt.user):
        found |= _names(parse(text).body)[1]
    return tuple(sorted(found))


def places(template: str) -> list[Place]:
    """Where a template reads variables, in order. Raises `PromptInvalid`."""
    free = _free_names(parse(template).body)
    found: list[Place] = []
    for tag in _TAG.finditer(template):
        if tag.group().startswith("{#"):
            continue
        names = (name.group() for name in _NAME.finditer(_QUOTED.sub('""', tag.group())))
        found += [Place(name, tag.start(), tag.end()) for name in dict.fromkeys(names) if name in free]
    return found


_TAG = re.compile(r"\{#.*?#\}|\{[{%](?>\"[^\"]*\"|'[^']*'|(?![}%]\}).)*+[}%]\}", re.S)
_RAW = re.compile(r"\{%[-+]?\s*raw\b")
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
_NAME = re.compile(r"(?<![\w.|])[A-Za-z_]\w*")


@lru_cache(maxsize=256)
def parse(template: str) -> "nodes.Template":
    """The tree of a template, checked against what is allowed. Raises `PromptInvalid`."""
    from jinja2 import TemplateSyntaxError

    if len(template) > LONGEST_TEMPLATE:
        raise PromptInvalid("template", f"it has more than {LONGEST_TEMPLATE:,} characters")
    if _RAW.search(template):
        raise PromptInvalid("template", "'raw' is not allowed in a prompt")
    try:
        tree = _environment().parse(template)
    except TemplateSyntaxError as wrong:
        raise PromptInvalid(
            f"template, line {wrong.lineno}", (wrong.message or "it cannot be read").rstrip(".")
        ) from None
    except RecursionError:
        raise PromptInvalid("template", "it is nested too deeply") from None
    for node in tree.body:
        _check(node, depth=0)
    return tree


@lru_cache(maxsize=1)
def _environment() -> "Environment":
    from jinja2 import Environment

    # Used for its parser only: nothing is compiled or run by it.
    return Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False)


_STATEMENTS = {"Output", "TemplateData", "If", "For"}
_EXPRESSIONS = {"Name", "Const", "Getattr", "Getitem", "Compare", "Operand", "And", "Or", "Not", "CondExpr"}
_LIST_FILTERS = {"length", "count", "join", "first", "last", "default", "d"}
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "lteq": operator.le,
    "gt": operator.gt,
    "gteq": operator.ge,
    "in": lambda item, holder: operator.contains(holder, item),
    "notin": lambda item, holder: not operator.contains(holder, item),
}


def _check(node: "nodes.Node", *, depth: int) -> None:
    """Raises `PromptInvalid` for a node that is not on the list."""
    from jinja2 import nodes

    what = type(node).__name__
    where = f"template, line {node.lineno}"
    if depth > DEEPEST:
        raise PromptInvalid(where, f"it is nested more than {DEEPEST} deep")
    match node:
        case nodes.Getattr(attr=name) if name.startswith("_"):
            raise PromptInvalid(where, f"'.{name}' is not allowed: names that begin with '_' are private")
        case nodes.Getitem(arg=argument):
            if not isinstance(argument, nodes.Const):
                raise PromptInvalid(where, "only a number or a quoted name may stand in [ ]")
            if str(argument.value).startswith("_"):
                raise PromptInvalid(where, f"['{argument.value}'] is not allowed: such names are private")
        case nodes.Filter():
            if node.name not in FILTERS and node.name not in _LIST_FILTERS:
                known = ", ".join(sorted([*FILTERS, *_LIST_FILTERS]))
                raise PromptInvalid(where, f"the filter '{node.name}' is not allowed; allowed are {known}")
            if node.kwargs or node.dyn_args or node.dyn_kwargs or node.node is None:
                raise PromptInvalid(where, f"the filter '{node.name}' takes plain arguments only")
        case nodes.Test():
            if node.name not in ("defined", "undefined") or not isinstance(node.node, nodes.Name):
                raise PromptInvalid(where, "the only tests are 'is defined' and 'is undefined', of a variable")
        case nodes.For():
            if node.test is not None or node.recursive or not isinstance(node.target, nodes.Name):
                raise PromptInvalid(where, "a loop is written {% for item in items %}, without 'if' and 'recursive'")
        case nodes.Name(name=name) if name.startswith("__"):
            raise PromptInvalid(where, f"'{name}' is not allowed: names that begin with '__' are private")
        case _ if what not in _STATEMENTS and what not in _EXPRESSIONS:
            raise PromptInvalid(
                where,
                f"'{_PLAIN_NAMES.get(what, what)}' is not allowed in a prompt; only variables, comparisons, "
                "{% if %} and {% for %} are",
            )
        case _:
            pass
    for child in node.iter_child_nodes():
        _check(child, depth=depth + 1)


_PLAIN_NAMES = {
    "Add": "+",
    "Sub": "-",
    "Mul": "*",
    "Div": "/",
    "FloorDiv": "//",
    "Mod": "%",
    "Pow": "**",
    "Neg": "-",
    "Concat": "~",
    "Call": "call ( )",
    "Slice": "slice [ : ]",
    "Assign": "set",
    "AssignBlock": "set",
    "List": "list [ ]",
    "Tuple": "tuple ( )",
    "Dict": "dictionary { }",
    "Include": "include",
    "Import": "import",
    "FromImport": "import",
    "Extends": "extends",
    "Macro": "macro",
    "Block": "block",
    "CallBlock": "call",
    "FilterBlock": "filter",
    "With": "with",
}


def _free_names(body: "Sequence[nodes.Node]") -> set[str]:
    """Variables that must be given: read, not bound by a loop, and not asked for with `is defined`."""
    needed, optional = _names(body)
    return needed - optional


def _names(body: "Sequence[nodes.Node]") -> tuple[set[str], set[str]]:
    """Variables that are read, and those of them that may be missing."""
    from jinja2 import nodes

    needed: set[str] = set()
    optional: set[str] = set()

    def visit(node: nodes.Node, bound: frozenset[str]) -> None:
        match node:
            case nodes.Name():
                if node.name not in bound:
                    needed.add(node.name)
            case nodes.Test():
                if isinstance(node.node, nodes.Name):
                    optional.add(node.node.name)
            case nodes.Filter(name="default" | "d", node=nodes.Name(name=name)):
                optional.add(name)
            case nodes.For(target=nodes.Name(name=name)):
                visit(node.iter, bound)
                for inner in (*node.body, *node.else_):
                    visit(inner, bound | {name, "loop"})
            case _:
                for child in node.iter_child_nodes():
                    visit(child, bound)

    for node in body:
        visit(node, frozenset())
    return needed, optional


class _Budget:
    """What one prompt may still spend: characters, steps, seconds."""

    def __init__(self, prompt: str) -> None:
        self.prompt = prompt
        self.characters = MOST_CHARACTERS
        self.steps = MOST_STEPS
        self.deadline = time.monotonic() + MOST_SECONDS
        self.closing: re.Pattern[str] | None = None

    def step(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise TemplateTooBig(self.prompt, f"{MOST_STEPS:,} steps")
        if self.steps % 64 == 0 and time.monotonic() > self.deadline:
            raise TemplateTooBig(self.prompt, f"{MOST_SECONDS} s")

    def value(self, text: str) -> str:
        """A value as it goes into the prompt: counted, and unable to close a delimiter of the template."""
        if self.closing is not None and "</" in text:
            text = self.closing.sub(lambda tag: f"< {tag.group()[1:]}", text)
        return self.spend(text)

    def spend(self, text: str) -> str:
        self.characters -= len(text)
        if self.characters < 0:
            raise TemplateTooBig(self.prompt, f"{MOST_CHARACTERS:,} characters")
        return text


def _fill(template: str, known: Mapping[str, Value], budget: _Budget) -> str:
    """The text of one template."""
    budget.closing = _closing_tags(template)
    try:
        return "".join(_body(parse(template).body, known, budget)).strip()
    except (TypeError, ValueError) as wrong:
        raise PromptInvalid(f"prompt '{budget.prompt}'", f"its template cannot be filled: {wrong}") from wrong


@lru_cache(maxsize=256)
def _closing_tags(template: str) -> re.Pattern[str] | None:
    """Matches the closing tags that the template itself uses as delimiters."""
    names = sorted(set(_CLOSING.findall(template)))
    return re.compile(rf"</(?:{'|'.join(map(re.escape, names))})\s*>", re.I) if names else None


_CLOSING = re.compile(r"</([A-Za-z][\w-]{0,40})>")


def _body(body: "Sequence[nodes.Node]", known: Mapping[str, Value], budget: _Budget) -> Iterator[str]:
    """The text of statements, piece by piece."""
    from jinja2 import nodes

    for node in body:
        budget.step()
        match node:
            case nodes.TemplateData():
                yield budget.spend(node.data)
            case nodes.Output():
                for child in node.nodes:
                    if isinstance(child, nodes.TemplateData):
                        yield budget.spend(child.data)
                    else:
                        yield budget.value(_text(_value(child, known, budget)))
            case nodes.If():
                yield from _body(_branch(node, known, budget), known, budget)
            case nodes.For(target=nodes.Name(name=name)):
                items = _items(_value(node.iter, known, budget))
                for number, item in enumerate(items):
                    loop: dict[str, Value] = {
                        "index": number + 1,
                        "index0": number,
                        "first": number == 0,
                        "last": number == len(items) - 1,
                        "length": len(items),
                    }
                    yield from _body(node.body, {**known, name: item, "loop": loop}, budget)
                if not items:
                    yield from _body(node.else_, known, budget)
            case _:
                raise PromptInvalid("template", f"'{type(node).__name__}' is not allowed")


def _branch(node: "nodes.If", known: Mapping[str, Value], budget: _Budget) -> "Sequence[nodes.Node]":
    """The statements of the branch that is taken."""
    for candidate in (node, *node.elif_):
        if _value(candidate.test, known, budget):
            return candidate.body
    return node.else_


def _value(node: "nodes.Node", known: Mapping[str, Value], budget: _Budget) -> Value:
    """The value of an expression."""
    from jinja2 import nodes

    budget.step()
    match node:
        case nodes.Const():
            constant: Value = node.value
            return constant
        case nodes.Name():
            return known.get(node.name)
        case nodes.Getattr():
            return _inside(_value(node.node, known, budget), node.attr)
        case nodes.Getitem(arg=nodes.Const(value=key)):
            return _inside(_value(node.node, known, budget), key)
        case nodes.Compare():
            left = _value(node.expr, known, budget)
            for operand in node.ops:
                right = _value(operand.expr, known, budget)
                if not _COMPARISONS[operand.op](left, right):
                    return False
                left = right
            return True
        case nodes.And():
            return _value(node.left, known, budget) and _value(node.right, known, budget)
        case nodes.Or():
            return _value(node.left, known, budget) or _value(node.right, known, budget)
        case nodes.Not():
            return not _value(node.node, known, budget)
        case nodes.CondExpr():
            if _value(node.test, known, budget):
                return _value(node.expr1, known, budget)
            return _value(node.expr2, known, budget) if node.expr2 is not None else None
        case nodes.Test(node=nodes.Name(name=name)):
            return (name in known) == (node.name == "defined")
        case nodes.Filter(node=inner) if inner is not None:
            return _filter(node.name, _value(inner, known, budget), [_value(one, known, budget) for one in node.args])
        case _:
            raise PromptInvalid("template", f"'{type(node).__name__}' is not allowed")


def _inside(holder: Value, key: object) -> Value:
    """An entry of a mapping or list that was given as a value; never an attribute of an object."""
    if isinstance(holder, Mapping) and isinstance(key, str) and key in holder:
        return holder[key]
    if isinstance(holder, Sequence) and not isinstance(holder, str) and isinstance(key, int):
        if -len(holder) <= key < len(holder):
            return holder[key]
        raise ValueError(f"there is no entry {key} in a list of {len(holder)}")
    raise ValueError(f"there is no entry '{key}'")


def _items(value: Value) -> Sequence[Value]:
    if isinstance(value, Mapping):
        return list(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return value
    raise ValueError("a loop needs a list")


def _filter(name: str, value: Value, arguments: Sequence[Value]) -> Value:
    """One filter; the result is never longer than the value, but for the separators of `join`."""
    if name in FILTERS:
        return FILTERS[name](_text(value))
    match name:
        case "default" | "d":
            return value if value is not None else (arguments[0] if arguments else "")
        case "length" | "count" if isinstance(value, Sequence | Mapping):
            return len(value)
        case "first" | "last" if isinstance(value, Sequence) and value:
            return value[0] if name == "first" else value[-1]
        case "join" if isinstance(value, Sequence) and not isinstance(value, str):
            separator = _text(arguments[0]) if arguments else ""
            size = sum(len(one) for one in value if isinstance(one, str)) + len(separator) * len(value)
            if size > MOST_CHARACTERS:
                raise ValueError(f"more than {MOST_CHARACTERS:,} characters")
            return separator.join(map(_text, value))
        case _:
            raise ValueError(f"the filter '{name}' cannot be used here")


def _text(value: Value) -> str:
    """How a value reads in a prompt: texts as they are, lists and mappings as JSON."""
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case _:
            return json.dumps(value, ensure_ascii=False)

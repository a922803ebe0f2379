"""What was said in a span, out of the attributes and events of any dialect: once, however often it was sent."""

from collections.abc import Mapping, Sequence
from typing import Any

from slipway.wire.dialects import tables
from slipway.wire.dialects.base import Attributes, Event
from slipway.wire.dialects.flat import Flat
from slipway.wire.dialects.messages import (
    a_message,
    answers_within,
    messages_within,
    parsed_messages,
    passages_in,
    split_at_answer,
)
from slipway.wire.dialects.values import as_finish, as_mapping, as_text, readable, unwrapped

SCORE_FIELDS = {
    "name": ("name", "gen_ai.evaluation.name"),
    "value": ("score", "gen_ai.evaluation.score.value"),
    "label": ("label", "gen_ai.evaluation.score.label"),
    "explanation": ("explanation", "gen_ai.evaluation.explanation"),
    "by": ("annotator_kind",),
}
NO_PARAMETERS = frozenset({"model", "model_name", "messages", "tools", "_type"})


def content(attributes: Attributes, events: Sequence[Event]) -> dict[str, Any]:
    """What was said: `messages` in, `output` out, `passages`, tools, `query`, `agent`, `parameters`, `scores`.

    The rest stays as `attributes` and `events`. What lies in the others already is not kept a second time.
    """
    found: dict[str, Any] = {}
    used: set[str] = set()
    flat = Flat(attributes)
    messages, output = _conversation(attributes, used, flat)
    said = gather(events)
    messages += said.messages
    output += said.output
    if details := said.details:
        told_in, told_out = conversation(details)
        messages, output = messages or told_in, output or told_out
    asked = _keep(found, "messages", "input", messages, tables.WHOLE_INPUT, attributes, used)
    answered = _keep(found, "output", "output", output, tables.WHOLE_OUTPUT, attributes, used)
    if passages := _passages(attributes, used, flat):
        found["passages"] = passages
    for key, names in (
        ("query", tables.QUERY),
        ("tool", tables.TOOL),
        ("arguments", tables.ARGUMENTS),
        ("result", tables.RESULT),
        ("tools", tables.TOOLS),
    ):
        if (value := _first(attributes, names, used)) is not None:
            found[key] = readable(value)
    if "tools" not in found:
        entries = [entry for prefix in tables.TOOL_PREFIXES for entry in flat.entries(prefix, used)]
        if entries:
            told = (as_mapping(entry.get("tool", entry)) for entry in entries)
            found["tools"] = [readable(one.get("json_schema", one)) for one in told]
    if agent := as_text(_first(attributes, tables.AGENT)):
        found["agent"] = agent
    if parameters := _parameters(attributes, asked, flat):
        found["parameters"] = parameters
    scores = list(said.scores)
    for prefix in tables.SCORE_PREFIXES:
        entries = flat.entries(prefix, used)
        scores += [_score(as_mapping(one.get("annotation", one.get("evaluation", one)))) for one in entries]
    if scores:
        found["scores"] = scores
    rest = {key: value for key, value in attributes.items() if key not in used}
    rest |= {key: value for key, value in (("input", asked), ("output", answered)) if value}
    if rest:
        found["attributes"] = rest
    if said.others:
        found["events"] = said.others
    return found


class Gathered:
    """What events say of their span."""

    __slots__ = ("details", "finish", "messages", "others", "output", "scores")

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.output: list[dict[str, Any]] = []
        self.scores: list[dict[str, Any]] = []
        self.others: list[dict[str, Any]] = []
        self.details: Attributes = {}
        self.finish = ""


def gather(events: Sequence[Event]) -> Gathered:
    """Sorts events by what they mean; those that mean nothing to us are `others`."""
    found = Gathered()
    for event in events:
        name = event.name
        if (role := tables.MESSAGE_EVENTS.get(name)) is not None:
            body = _unwrapped(event.attributes)
            if "gen_ai.prompt" in body:
                found.messages += parsed_messages(body["gen_ai.prompt"], role=role)
            else:
                found.messages.append(a_message({"role": role, **body}))
        elif name in tables.OUTPUT_EVENTS:
            body = _unwrapped(event.attributes)
            if "gen_ai.completion" in body:
                found.output += parsed_messages(body["gen_ai.completion"], role="assistant")
            else:
                found.output.append(a_message({"role": "assistant", **as_mapping(body.get("message", body))}))
                found.finish = found.finish or as_finish(body.get("finish_reason"))
        elif name in tables.DETAIL_EVENTS:
            found.details = {**found.details, **event.attributes}
        elif name in tables.SCORE_EVENTS:
            found.scores.append(_score(event.attributes))
        elif name not in tables.NOISE_EVENTS:
            found.others.append({"name": name, "time_ns": event.time_ns, "attributes": dict(event.attributes)})
    return found


def conversation(attributes: Attributes) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Messages in and messages out."""
    return _conversation(attributes, set(), Flat({}))


def error_text(attributes: Attributes, events: Sequence[Event], message: str) -> str:
    """Why a span failed, from its status, its exception event or its error type."""
    for event in events:
        if event.name == "exception":
            kind = as_text(event.attributes.get("exception.type"))
            said = as_text(event.attributes.get("exception.message"))
            return message or ": ".join(part for part in (kind, said) if part)
    return message or as_text(attributes.get("error.type"))


def _conversation(
    attributes: Attributes, used: set[str], flat: Flat
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    messages = _said(attributes, tables.INPUT_MESSAGES, tables.INPUT_PREFIXES, used, flat, role="user")
    output = _said(attributes, tables.OUTPUT_MESSAGES, tables.OUTPUT_PREFIXES, used, flat, role="assistant")
    if not output:
        output = _answer(attributes, used)
    if (whole := _first(attributes, tables.ALL_MESSAGES, used)) is not None:
        before, after = split_at_answer(parsed_messages(whole, role="user"))
        messages, output = messages or before, output or after
    if system := parsed_messages(_first(attributes, tables.SYSTEM, used), role="system"):
        messages = [*system, *(one for one in messages if one not in system)]
    return messages, output


def _said(
    attributes: Attributes, names: Sequence[str], prefixes: Sequence[str], used: set[str], flat: Flat, *, role: str
) -> list[dict[str, Any]]:
    """Messages in whichever way they are written: one JSON value, or flat numbered attributes."""
    if messages := parsed_messages(_first(attributes, names, used), role=role):
        return messages
    for prefix in prefixes:
        if entries := flat.entries(prefix, used):
            return [a_message(as_mapping(entry.get("message", entry)), role=role) for entry in entries]
    return []


def _answer(attributes: Attributes, used: set[str]) -> list[dict[str, Any]]:
    """An answer as plain text and calls of tools, each in an attribute of its own."""
    text = _first(attributes, tables.OUTPUT_TEXTS, used)
    calls = readable(_first(attributes, tables.OUTPUT_TOOL_CALLS, used))
    if text is None and not calls:
        return []
    made: dict[str, Any] = {"role": "assistant", "text": as_text(text)}
    if calls:
        made["tool_calls"] = calls
    return [made]


def _keep(
    found: dict[str, Any],
    key: str,
    whole_key: str,
    messages: list[dict[str, Any]],
    names: Sequence[str],
    attributes: Attributes,
    used: set[str],
) -> dict[str, Any]:
    """Messages, or else the input or output as one value; where there are messages, that value only repeats them.

    Returns what stood beside the messages where they had to be taken out of that value.
    """
    present = [name for name in names if attributes.get(name) not in (None, "")]
    beside: dict[str, Any] = {}
    if not messages and present:
        name = present[0]
        value = unwrapped(attributes[name]) if name in tables.ALWAYS_JSON else readable(attributes[name])
        messages = messages_within(value) if key == "messages" else answers_within(value)
        if key == "output" and isinstance(value, str) and "messages" in found:
            messages = [{"role": "assistant", "text": value}]
        if not messages:
            found[whole_key] = value
        elif isinstance(value, Mapping) and "role" not in value:
            beside = {name: inner for name, inner in value.items() if name not in ("messages", "choices")}
    if messages:
        found[key] = messages
    used.update(present)
    return beside


def _passages(attributes: Attributes, used: set[str], flat: Flat) -> list[dict[str, Any]]:
    documents = readable(_first(attributes, tables.DOCUMENTS, used))
    if isinstance(documents, list):
        return list(passages_in(documents))
    for prefix in tables.DOCUMENT_PREFIXES:
        if entries := flat.entries(prefix, used):
            return list(passages_in(entries))
    return []


def _parameters(attributes: Attributes, asked: Mapping[str, Any], flat: Flat) -> dict[str, Any]:
    """Temperature and the like. They are kept as they came, too."""
    found: dict[str, Any] = {}
    for told in (asked, *(readable(attributes[name]) for name in tables.PARAMETER_TEXTS if name in attributes)):
        if isinstance(told, Mapping):
            found |= {key: value for key, value in told.items() if key not in NO_PARAMETERS and value is not None}
    return found | flat.parameters


def _score(told: Attributes) -> dict[str, Any]:
    score = {key: _first(told, names) for key, names in SCORE_FIELDS.items()}
    return {key: value for key, value in score.items() if value is not None}


def _unwrapped(attributes: Attributes) -> dict[str, Any]:
    """Attributes of a message event; the content may be JSON in a text."""
    return {key: readable(value) for key, value in attributes.items()}


def _first(attributes: Attributes, names: Sequence[str], used: set[str] | None = None) -> Any:
    for name in names:
        value = attributes.get(name)
        if value is not None and value != "":
            if used is not None:
                used.add(name)
            return value
    return None

"""Guardrails on the texts of calls that are no chats, wherever they stand in a request and its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from slipway.domain.errors import RequestInvalid
from slipway.domain.guardrail import Guardrails, RailSpec, TextSource, Verdict
from slipway.gateway.fields import Fields
from slipway.gateway.operations import Operation
from slipway.guard.checker import check
from slipway.wire.texts import NumbersForText, rewrite_named, rewrite_texts

NULL = msgspec.Raw(b"null")


def check_fields(
    fields: Fields, operation: Operation, guardrails: Guardrails, *, label: str
) -> tuple[Fields, list[Verdict]]:
    """The fields of another call than a chat, with the texts in them checked; the same where nothing was redacted.

    Raises `Blocked`, and `RequestInvalid` for what the guardrails of the release `label` could not read, now or in the
    answer.
    """
    _refuse_unreadable(fields, operation, guardrails, label)
    verdicts: list[Verdict] = []
    for name, source in operation.asked.items():
        if name not in fields or not (guardrails.before or name == operation.spoken):
            continue
        try:
            given = msgspec.json.decode(fields[name])
            checked = rewrite_texts(given, _checking(guardrails.before, source, guardrails, verdicts))
            if name == operation.spoken:
                checked = rewrite_texts(checked, _checking(guardrails.after, "answer", guardrails, verdicts))
        except NumbersForText:
            message = f"'{name}' holds numbers of tokens, which the guardrails of {label} cannot read: send texts."
            raise RequestInvalid(message, param=name) from None
        except (ValueError, RecursionError):
            raise RequestInvalid(f"'{name}' is wrong: it cannot be read.", param=name) from None
        if checked != given:
            fields = fields | {name: msgspec.Raw(msgspec.json.encode(checked))}
    return fields, verdicts


def check_named(body: bytes, operation: Operation, guardrails: Guardrails) -> tuple[bytes, list[Verdict]]:
    """A whole answer to another call than a chat, checked; byte for byte the same where nothing was redacted.

    Raises `Blocked`, `ValueError`."""
    answer = msgspec.json.decode(body)
    verdicts: list[Verdict] = []
    checked = rewrite_named(answer, operation.said, _checking(guardrails.after, "answer", guardrails, verdicts))
    return (body if checked == answer else msgspec.json.encode(checked)), verdicts


def check_text(text: str, guardrails: Guardrails) -> tuple[str, list[Verdict]]:
    """An answer that is a text and nothing else, checked. Raises `Blocked`."""
    verdicts: list[Verdict] = []
    return _checking(guardrails.after, "answer", guardrails, verdicts)(text), verdicts


def _checking(
    rails: Sequence[RailSpec], source: TextSource, guardrails: Guardrails, verdicts: list[Verdict]
) -> Callable[[str], str]:
    """What checks one text after the other and gives it back as it may go on. Raises `Blocked`."""

    def checking(text: str) -> str:
        checked = check(text, rails, source=source, when_undecided=guardrails.when_undecided)
        verdicts.extend(checked.verdicts)
        checked.raise_if_blocked()
        return checked.text

    return checking


def _refuse_unreadable(fields: Fields, operation: Operation, guardrails: Guardrails, label: str) -> None:
    for name in operation.unread if guardrails.before else ():
        if fields.get(name, NULL) != NULL:
            raise RequestInvalid(
                f"'{name}' is not possible here: the guardrails of {label} cannot read it.", param=name
            )
    for name, harmless in operation.barred.items() if guardrails.after else ():
        if name not in fields:
            continue
        try:
            given = msgspec.json.decode(fields[name])
        except (ValueError, RecursionError):
            given = fields
        if type(given) in (int, float) or given not in harmless:  # 0 equals false, and is another wish
            told = " or ".join(f"'{one}'" for one in harmless if isinstance(one, str))
            raise RequestInvalid(
                f"'{name}' is not possible here: the guardrails of {label} could not read all of the answer."
                + (f" Ask for {told}." if told else ""),
                param=name,
            )

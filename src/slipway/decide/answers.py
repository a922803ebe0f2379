"""The questionnaire: which answers a decision needs, and writing them into [decide] without touching the rest."""

import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from slipway.config.editing import set_table
from slipway.config.reader import FILE_NAME, parse_settings
from slipway.config.settings import DecideSettings
from slipway.decide.demand import NEEDED, read_demand
from slipway.domain.errors import InputError, NotAnApplication, RequirementMissing, did_you_mean
from slipway.store.files import write_text

Answer = str | float | int | bool | list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question of the questionnaire: the key in [decide], what is asked, and what is there already."""

    key: str
    text: str
    kind: Literal["number", "whole number", "yes or no", "text", "choice", "list"]
    choices: tuple[str, ...] = ()
    needed: bool = False
    now: Answer | None = None


def list_questions(settings: DecideSettings) -> list[Question]:
    """Every question in the order of the settings; those without which nothing can be decided come first.

    Tables (scores, weights) are written into slipway.toml by hand and are no questions.
    """
    schema = msgspec.json.schema(DecideSettings)["$defs"]["DecideSettings"]["properties"]
    questions = [
        Question(
            key=key,
            text=described.get("description", key),
            kind=_kind(described),
            choices=tuple(described.get("enum", ())),
            needed=key in NEEDED,
            now=getattr(settings, key),
        )
        for key, described in schema.items()
        if described.get("type") != "object"
    ]
    return sorted(questions, key=lambda question: not question.needed)


def read_answer(question: Question, text: str) -> Answer:
    """The answer that someone typed. Raises `InputError` with what was expected."""
    text = text.strip()
    match question.kind:
        case "number" | "whole number":
            try:
                number = float(text.replace(",", "").replace("_", ""))
                return int(number) if question.kind == "whole number" else number
            except (ValueError, OverflowError):
                raise InputError(f"'{text}' is not a {question.kind}. {question.text}") from None
        case "yes or no":
            if text.lower() in ("yes", "y", "true"):
                return True
            if text.lower() in ("no", "n", "false"):
                return False
            raise InputError(f"'{text}' is neither yes nor no. {question.text}")
        case "choice":
            if text not in question.choices:
                raise InputError(f"'{text}' is not one of the choices.{did_you_mean(text, question.choices)}")
            return text
        case "list":
            return [part.strip() for part in text.split(",") if part.strip()]
        case "text":
            return text


def parse_pairs(questions: list[Question], pairs: list[str]) -> dict[str, Answer]:
    """Answers written as `key=value`. Raises `InputError` for a key that is no question."""
    known = {question.key: question for question in questions}
    found: dict[str, Answer] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or key.strip() not in known:
            raise InputError(f"'{pair}' is no answer: write key=value.{did_you_mean(key.strip(), known)}")
        found[key.strip()] = read_answer(known[key.strip()], value)
    return found


def write_answers(folder: Path, answers: Mapping[str, Answer]) -> None:
    """Writes answers into [decide] of slipway.toml; comments and everything else stay as they are.

    The file is checked before it is replaced, at once or not at all. Raises `ConfigError` for an answer that the
    settings refuse, `RequirementContradiction` for answers that exclude each other, `NotAnApplication` where there is
    no slipway.toml.
    """
    path = folder / FILE_NAME
    try:
        before = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotAnApplication(folder) from None
    after = set_table(before, "decide", {name: _plain(answer) for name, answer in answers.items()})
    with suppress(RequirementMissing):
        read_demand(parse_settings(tomllib.loads(after), path=path).decide)
    write_text(path, after)


def _plain(answer: Answer) -> Answer:
    """A whole number without `.0`, as people write it."""
    return int(answer) if isinstance(answer, float) and answer.is_integer() else answer


def _kind(described: Mapping[str, Any]) -> Any:
    if "enum" in described:
        return "choice"
    types = {described.get("type"), *(one.get("type") for one in described.get("anyOf", ()))}
    for name, kind in (
        ("boolean", "yes or no"),
        ("integer", "whole number"),
        ("number", "number"),
        ("array", "list"),
    ):
        if name in types:
            return kind
    return "text"

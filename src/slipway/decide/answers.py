"""The questionnaire: which answers a decision needs, and writing them into [decide] without touching the rest."""

import json
import re
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from slipway.config.reader import FILE_NAME, parse_settings
from slipway.config.settings import DecideSettings
from slipway.decide.demand import NEEDED, read_demand
from slipway.domain.errors import ConfigError, InputError, NotAnApplication, RequirementMissing, did_you_mean
from slipway.store.files import write_text

Answer = str | float | int | bool | list[str]
HEADER = re.compile(r"^\s*\[")
TABLE = re.compile(r"^\s*\[\s*decide\s*\]\s*(#.*)?$")


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
    after = set_answers(before, answers)
    read = tomllib.loads(after)
    wanted = {**tomllib.loads(before).get("decide", {}), **answers}
    if read.get("decide") != wanted:
        raise ConfigError("decide", "the table is written in a way that cannot be edited safely. Edit it by hand.")
    with suppress(RequirementMissing):
        read_demand(parse_settings(read, path=path).decide)
    write_text(path, after)


def set_answers(text: str, answers: Mapping[str, Answer]) -> str:
    """The TOML text with these keys of [decide] set; a comment behind a value stays behind it."""
    lines = text.splitlines()
    start = next((number for number, line in enumerate(lines) if TABLE.match(line)), None)
    if start is None:
        lines += ["", "[decide]"] if lines and lines[-1].strip() else ["[decide]"]
        start = len(lines) - 1
    for key, answer in answers.items():
        end = next((number for number in range(start + 1, len(lines)) if HEADER.match(lines[number])), len(lines))
        place = next(
            (number for number in range(start + 1, end) if re.match(rf"\s*{re.escape(key)}\s*=", lines[number])), None
        )
        written = f"{key} = {_toml(answer)}"
        if place is None:
            # A comment at the end of a table usually announces the next one: stay above it.
            last = end - 1
            while last > start and (not lines[last].strip() or lines[last].lstrip().startswith("#")):
                last -= 1
            lines.insert(last + 1, written)
            continue
        stop = _value_end(lines, place, end)
        comment = _comment(lines[place]) if stop == place + 1 else ""
        lines[place:stop] = [f"{written}  {comment}" if comment else written]
    return "\n".join(lines) + "\n"


def _value_end(lines: list[str], place: int, end: int) -> int:
    """The line after a value that may run over several lines."""
    for stop in range(place + 1, end + 1):
        try:
            tomllib.loads("\n".join(lines[place:stop]))
        except tomllib.TOMLDecodeError:
            continue
        return stop
    return place + 1


def _comment(line: str) -> str:
    """The comment behind a value: the first # before which the line is whole."""
    for found in re.finditer("#", line):
        try:
            tomllib.loads(line[: found.start()])
        except tomllib.TOMLDecodeError:
            continue
        return line[found.start() :]
    return ""


def _toml(answer: Answer) -> str:
    if isinstance(answer, bool):
        return "true" if answer else "false"
    if isinstance(answer, float) and answer.is_integer():
        return f"{answer:.0f}"
    if isinstance(answer, int | float):
        return repr(answer)
    # JSON strings and lists of strings are TOML too.
    return json.dumps(answer, ensure_ascii=False)


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

"""Sets keys of one table of slipway.toml; comments, order and everything else stay as they are."""

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from slipway.domain.errors import ConfigError

HEADER = re.compile(r"^\s*\[")
PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")


def set_table(text: str, table: str, values: Mapping[str, Any]) -> str:
    """The TOML text with these keys set; a comment behind a value stays behind it.

    Raises `ConfigError` where the table is written in a way that cannot be edited safely, such as over sub-tables.
    """
    after = _set_lines(text, table, values)
    try:
        read = tomllib.loads(after).get(table)
    except tomllib.TOMLDecodeError:
        read = None
    if read != {**tomllib.loads(text).get(table, {}), **values}:
        raise ConfigError(table, "the table is written in a way that cannot be edited safely. Edit it by hand.")
    return after


def _set_lines(text: str, table: str, values: Mapping[str, Any]) -> str:
    lines = text.splitlines()
    named = re.compile(rf"^\s*\[\s*{re.escape(table)}\s*\]\s*(#.*)?$")
    start = next((number for number, line in enumerate(lines) if named.match(line)), None)
    if start is None:
        lines += ["", f"[{table}]"] if lines and lines[-1].strip() else [f"[{table}]"]
        start = len(lines) - 1
    for key, value in values.items():
        end = next((number for number in range(start + 1, len(lines)) if HEADER.match(lines[number])), len(lines))
        place = next(
            (number for number in range(start + 1, end) if re.match(rf"\s*{re.escape(key)}\s*=", lines[number])), None
        )
        written = f"{key} = {write_value(value)}"
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


def write_value(value: Any) -> str:
    """A value as TOML on one line.

    >>> write_value({"kind": "recursive", "size": 200})
    '{ kind = "recursive", size = 200 }'
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        inside = ", ".join(f"{_key(key)} = {write_value(item)}" for key, item in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(write_value, value))}]"
    if isinstance(value, int | float):
        return repr(value)
    # A JSON string is a TOML string too.
    return json.dumps(value, ensure_ascii=False)


def _key(key: str) -> str:
    return key if PLAIN_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False)


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

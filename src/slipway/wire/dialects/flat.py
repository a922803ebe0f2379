"""Attributes that are flat and numbered, such as `llm.input_messages.0.message.role`, as lists again: in one pass."""

import re
from collections.abc import Sequence
from typing import Any

from slipway.wire.dialects import tables
from slipway.wire.dialects.base import Attributes

_NUMBERED = re.compile("(" + "|".join(map(re.escape, tables.FLAT_PREFIXES)) + r")([0-9]{1,6})\.(.+)", re.DOTALL)
_WORTH_A_LOOK = (
    *tables.FLAT_PREFIXES,
    *tables.PARAMETER_PREFIXES,
    *{f"{name.rpartition('.')[0]}." for name in tables.PARAMETERS},
)
DEEPEST = 12


class Flat:
    """What one pass over the attributes of a span finds: numbered entries by prefix, and parameters."""

    __slots__ = ("_entries", "_names", "parameters")

    def __init__(self, attributes: Attributes) -> None:
        self._entries: dict[str, dict[int, dict[str, Any]]] = {}
        self._names: dict[str, list[str]] = {}
        self.parameters: dict[str, Any] = {}
        for name, value in attributes.items():
            if not name.startswith(_WORTH_A_LOOK):
                continue
            if (match := _NUMBERED.fullmatch(name)) is not None:
                prefix, number, path = match.groups()
                self._names.setdefault(prefix, []).append(name)
                _put(self._entries.setdefault(prefix, {}).setdefault(int(number), {}), path.split("."), value)
            elif name in tables.PARAMETERS:
                self.parameters[tables.PARAMETERS[name]] = value
            elif name.startswith(tables.PARAMETER_PREFIXES):
                prefix = next(prefix for prefix in tables.PARAMETER_PREFIXES if name.startswith(prefix))
                self.parameters[name.removeprefix(prefix)] = value

    def entries(self, prefix: str, used: set[str]) -> list[dict[str, Any]]:
        """One mapping a number, in order; their attributes are noted in `used`."""
        found = self._entries.get(prefix)
        if found is None:
            return []
        used.update(self._names[prefix])
        return [{key: _lists(value) for key, value in found[place].items()} for place in sorted(found)]


def _put(into: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for step in path[:-1][:DEEPEST]:
        inner = into.get(step)
        if not isinstance(inner, dict):
            inner = into[step] = {}
        into = inner
    into[path[-1]] = value


def _lists(value: Any) -> Any:
    """Mappings whose keys are all numbers become lists."""
    if not isinstance(value, dict):
        return value
    inner = {key: _lists(one) for key, one in value.items()}
    if inner and all(key.isascii() and key.isdecimal() for key in inner):
        return [inner[key] for key in sorted(inner, key=int)]
    return inner

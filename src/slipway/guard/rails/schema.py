"""Answers that are not the JSON that the prompt asks for."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

from slipway.guard.rails.base import NOTHING, Found, Reach, Scene, rails
from slipway.text.json_schema import find_faults, parse_schema

_FENCE = re.compile(r"\A\s*```[a-z]{0,10}[ \t]*\n(.*?)\n?```\s*\Z", re.S)


@rails.register("schema")
@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """Fires when a text is not JSON that fits a JSON Schema: `schema` as text, or the output schema of the prompt.

    `fences` allows the JSON to stand in a Markdown code block. Without any schema the rail is silent.
    """

    schema: str = ""
    fences: bool = True

    reach: ClassVar[Reach] = "whole"
    redacts: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.schema:
            _parsed(self.schema)

    def look(self, text: str, scene: Scene, *, start: int = 0) -> Found:
        schema = self.schema or scene.output_schema
        if not schema:
            return NOTHING
        fence = _FENCE.match(text) if self.fences else None
        try:
            value = json.loads(fence[1] if fence else text, parse_constant=_no_constant)
        except (ValueError, RecursionError) as wrong:
            return Found(fired=True, reason=f"it is not JSON: {wrong}"[:200], score=1.0)
        faults = find_faults(value, _parsed(schema), most=3)
        if not faults:
            return NOTHING
        reason = "; ".join(f"{fault.place} {fault.reason}" for fault in faults)
        return Found(fired=True, reason=reason[:300], score=1.0)

    def fingerprint(self) -> str:
        return "1"


@lru_cache(maxsize=64)
def _parsed(schema: str) -> Mapping[str, Any] | bool:
    return parse_schema(schema)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")

"""What an answer of the OpenAI API says that it used, whatever call it answers."""

from __future__ import annotations

import msgspec

from slipway.domain.message import Usage
from slipway.wire.openai import Tokens, WireUsage, read_usage


class TotalUsage(WireUsage):
    """Usage that may be told as a sum only, as of reranking."""

    total_tokens: Tokens | None = None


class BilledUnits(msgspec.Struct):
    """What Cohere counts."""

    input_tokens: float | None = None
    output_tokens: float | None = None


class Meta(msgspec.Struct):
    """What stands beside Cohere's answers."""

    billed_units: BilledUnits | None = None
    tokens: BilledUnits | None = None


class Used(msgspec.Struct):
    """An answer, as far as it says what it used."""

    usage: TotalUsage | None = None
    meta: Meta | None = None
    model: str | None = None


_used = msgspec.json.Decoder(Used)


def read_used(body: bytes) -> tuple[Usage | None, str]:
    """Tokens, where any are told, and the model's own name, empty where it is not."""
    try:
        used = _used.decode(body)
    except (ValueError, RecursionError):
        return None, ""
    return _usage(used), used.model or ""


def _usage(used: Used) -> Usage | None:
    usage = read_usage(used.usage)
    if usage is not None:
        return usage
    if used.usage is not None and used.usage.total_tokens:
        return Usage(input_tokens=used.usage.total_tokens)
    told = (used.meta.tokens or used.meta.billed_units) if used.meta else None
    if told is None or not (told.input_tokens or told.output_tokens):
        return None
    return Usage(input_tokens=_count(told.input_tokens), output_tokens=_count(told.output_tokens))


def _count(told: float | None) -> int:
    return round(told) if told is not None and 0 <= told <= 1e12 else 0

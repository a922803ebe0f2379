"""Which kind of failure an engine's error is: fallbacks are chosen by it."""

from __future__ import annotations

from slipway.domain.errors import EngineError, EngineRefused, EngineResting, EngineTimeout, EngineUnreachable
from slipway.domain.routing import FailureKind

FILTERED = "content_filter"
FILTERS = (b"content_filter", b"content_policy_violation", b"ResponsibleAIPolicyViolation")
"""How engines name it when they refuse a text for what it says."""


def failure_kind(failure: EngineError) -> FailureKind:
    """The kind of a failure; one that was not asked again counts as what it failed with last."""
    match failure:
        case EngineResting():
            return failure.kind
        case EngineTimeout():
            return "timeout"
        case EngineUnreachable():
            return "unreachable"
        case EngineRefused() if failure.body.startswith(FILTERED):
            return "content_filter"
        case EngineRefused(status=402 | 429):
            return "rate_limit"
        case EngineRefused(status=408 | 504):
            return "timeout"
        case _:
            return "server_error"


def is_filtered(status: int, body: bytes) -> bool:
    """Whether an engine refused the text itself."""
    return 400 <= status < 500 and status != 429 and any(name in body for name in FILTERS)

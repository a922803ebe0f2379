"""What a failed call to another machine means for the engine or embedder that made it."""

import time
from email.utils import parsedate_to_datetime

from slipway.domain.errors import (
    ConnectFailed,
    ConnectionBroken,
    EngineError,
    EngineGarbled,
    EngineRefused,
    EngineTimeout,
    EngineUnreachable,
    ResponseGarbled,
    ResponseTooLarge,
    UpstreamError,
    UpstreamTimeout,
)
from slipway.upstream.client import Response


def engine_error(engine: str, url: str, error: UpstreamError) -> EngineError:
    """The engine's own error for a failed call."""
    match error:
        case ConnectFailed():
            return EngineUnreachable(engine, url, error.reason)
        case UpstreamTimeout():
            return EngineTimeout(engine, error.phase, error.seconds)
        case ConnectionBroken() if not error.answered:
            return EngineUnreachable(engine, url, error.reason)
        case ConnectionBroken():
            return EngineGarbled(engine, "the connection ended in the middle of it")
        case ResponseGarbled():
            return EngineGarbled(engine, error.reason)
        case ResponseTooLarge():
            return EngineGarbled(engine, f"it is larger than {error.limit} bytes")
        case _:
            return EngineGarbled(engine, str(error))


def refused(engine: str, response: Response, text: str, *, status: int | None = None) -> EngineRefused:
    """The error for an answer with status 400 or above, with the seconds its Retry-After names. `status` is what it
    says of itself inside, where that is another."""
    return EngineRefused(engine, status or response.status, text, retry_after_s=retry_after_s(response))


def retry_after_s(response: Response) -> float | None:
    """Seconds that Retry-After asks for, in seconds or as a date (RFC 9110, 10.2.3); None where it says neither."""
    value = response.header(b"retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value.decode("latin-1")).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None

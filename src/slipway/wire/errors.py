"""Errors in the shape of the OpenAI API, written for clients and read from engines."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import msgspec

from slipway.domain.errors import RequestInvalid, SlipwayError

MISSING = re.compile(r"missing required field `(.+)`")
TAGS = re.compile(r"(?is)<(style|script)\b.*?(?:</\1>|\Z)|<!--.*?(?:-->|\Z)|<[^<>]*>")
UNKNOWN = re.compile(r"unknown field `(.+)`")
LONGEST_PAGE = 16 * 1024
"""Of a page that says what went wrong, in bytes."""
UNREADABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What comes of reading JSON of one shape that has another: an engine may send anything."""


def invalid_body(wrong: Exception) -> RequestInvalid:
    """The error for a body that could not be decoded, naming its field where one is wrong."""
    reason, _, place = str(wrong).partition(" - at `$")
    place = place.rstrip("`").lstrip(".")
    if isinstance(wrong, msgspec.ValidationError):
        if (missing := MISSING.search(reason)) is not None:
            return RequestInvalid(f"The field '{missing[1]}' is missing{_inside(place)}.", param=place or missing[1])
        if (unknown := UNKNOWN.search(reason)) is not None:
            return RequestInvalid(f"There is no field '{unknown[1]}'{_inside(place)}.", param=unknown[1])
        if place:
            return RequestInvalid(f"'{place}' is wrong: {reason[:1].lower()}{reason[1:]}.", param=place)
        return RequestInvalid(f"The body of the request is not what it should be: {reason}.")
    return RequestInvalid(f"The body of the request is not JSON: {wrong}.")


def _inside(place: str) -> str:
    return f" in '{place}'" if place else ""


def write_error(message: str, *, kind: str, code: str | None, param: str | None = None) -> bytes:
    """`{"error": {"message", "type", "param", "code"}}`, as every OpenAI client reads it."""
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def error_kind(status: int) -> str:
    """The `type` of an error with this status."""
    match status:
        case 401:
            return "authentication_error"
        case 403:
            return "permission_error"
        case 429:
            return "rate_limit_error"
        case _ if status >= 500:
            return "server_error"
        case _:
            return "invalid_request_error"


def write_slipway_error(error: SlipwayError) -> bytes:
    return write_error(
        str(error), kind=error_kind(error.http_status), code=error.code, param=getattr(error, "param", None)
    )


def error_text(body: bytes) -> str:
    """The message in an error answer, whatever its shape; the beginning of the body where there is none, and of a
    page its text."""
    try:
        found: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = body[:LONGEST_PAGE].decode("utf-8", "replace")
        if text.lstrip()[:1] == "<":
            text = " ".join(unescape(TAGS.sub(" ", text)).split())
        return text[:300].strip() or "it gave no reason"
    return message_in(found)


def error_status(error: Any) -> int:
    """The status of an error that came without one: by its code where that is a status, else by its type."""
    if isinstance(error, dict):
        for key in ("code", "status"):
            code = error.get(key)
            code = int(code) if isinstance(code, str) and code.isdecimal() and len(code) == 3 else code
            if isinstance(code, int) and 400 <= code <= 599:
                return code
        kind = str(error.get("type") or error.get("code"))
        if "rate_limit" in kind:
            return 429
        if "invalid_request" in kind:
            return 400
    return 502


def message_in(found: Any) -> str:
    """The message in an error that was decoded."""
    for key in ("error", "message", "detail"):
        if isinstance(found, dict) and found.get(key):
            found = found[key]
    return found if isinstance(found, str) else msgspec.json.encode(found)[:300].decode("utf-8", "replace")

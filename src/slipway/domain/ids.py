"""Identifiers: content hashes, names and time-ordered ids."""

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from typing import NewType

ContentHash = NewType("ContentHash", str)
"""`sha256` of canonical content, 64 lower-case hex digits."""

ReleaseId = NewType("ReleaseId", str)
TraceId = NewType("TraceId", str)
"""32 lower-case hex digits, as in W3C trace context."""
SpanId = NewType("SpanId", str)
"""16 lower-case hex digits, as in W3C trace context."""
SubjectId = NewType("SubjectId", str)
"""Pseudonym of the person whom content is about; never a name or an address."""

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def hash_bytes(content: bytes) -> ContentHash:
    return ContentHash(hashlib.sha256(content).hexdigest())


def hash_text(text: str) -> ContentHash:
    return hash_bytes(text.encode("utf-8", "surrogatepass"))


def hash_parts(parts: Mapping[str, object]) -> ContentHash:
    """Hash of a JSON object with sorted keys: the same parts give the same hash on every machine."""
    return hash_text(json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False))


def new_id() -> str:
    """26 hex digits that sort by time of creation: milliseconds (12) and chance (14)."""
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(7).hex()}"


def new_trace_id() -> TraceId:
    """Milliseconds (12 hex digits) and chance (20): ids of one time lie side by side in every index, which W3C trace
    context allows."""
    return TraceId(f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}")


def new_span_id() -> SpanId:
    return SpanId(os.urandom(8).hex())


def is_name(text: str) -> bool:
    """Names of projects, prompts, indexes, channels: lower case, digits, `-` and `_`, at most 63 characters."""
    return NAME.fullmatch(text) is not None

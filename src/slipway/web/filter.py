"""Filters above a list: what is looked for, and since when; all of it stands in the query string."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode

SINCE = (("1h", "Last hour"), ("24h", "Last day"), ("7d", "Last 7 days"), ("30d", "Last 30 days"), ("", "Any time"))
LENGTHS = {"1h": timedelta(hours=1), "24h": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A search field, or a choice when it has `choices` of (value, word)."""

    name: str
    label: str
    value: str = ""
    choices: Sequence[tuple[str, str]] = ()


def since_choice(value: str) -> Filter:
    return Filter(name="since", label="Time", value=value, choices=SINCE)


def moment_since(value: str, now: datetime) -> datetime | None:
    """When a choice of `SINCE` begins; None for any time."""
    length = LENGTHS.get(value)
    return None if length is None else now - length


def link(path: str, query: Mapping[str, str], **changed: str) -> str:
    """The same page with some of its query changed; empty values leave the address."""
    kept = {name: value for name, value in {**query, **changed}.items() if value}
    return f"{path}?{urlencode(kept)}" if kept else path

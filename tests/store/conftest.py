"""A store on each database, and spans to put into it."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway.config.secrets import Secret
from slipway.domain.ids import SpanId, TraceId
from slipway.domain.trace import Span
from slipway.store.store import Store, open_store

MASTER = Secret("0f" * 32)
NUMBERS = itertools.count(1)
NOON = 1_780_000_000_000_000_000
MakeSpan = Callable[..., Span]


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty project, once on SQLite and once on Postgres."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    with open_store(url, project=f"p{next(NUMBERS)}", folder=tmp_path, master_key=MASTER) as opened:
        yield opened


@pytest.fixture
def make_span() -> MakeSpan:
    """Spans of a minute in 2026, with ids counted up unless they are given."""
    numbers = itertools.count(1)

    def make(trace: int = 1, **fields: Any) -> Span:
        number = next(numbers)
        start = fields.pop("start_ns", NOON + number * 1_000_000)
        defaults: dict[str, Any] = {
            "trace": TraceId(f"{trace:032x}"),
            "span": SpanId(f"{number:016x}"),
            "name": "request",
            "start_ns": start,
            "end_ns": start + fields.pop("lasts_ns", 1_000_000_000),
            "status": "ok",
        }
        return Span(**{**defaults, **fields})

    return make

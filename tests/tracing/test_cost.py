"""Cost: tokens times the price of the day, and nothing where nobody knows the price."""

from datetime import date
from typing import Any

import pytest

from slipway.domain.ids import SpanId, TraceId
from slipway.domain.message import Usage
from slipway.domain.model import Price
from slipway.domain.trace import Span
from slipway.tracing.cost import catalog_price, cost_of, with_cost

DAY = date(2026, 11, 22)
PRICE = Price(input_per_million=2.0, output_per_million=8.0, cached_input_per_million=0.5, source="test", as_of=DAY)
PLAIN = Price(input_per_million=2.0, output_per_million=8.0, source="test", as_of=DAY)

COSTS = [
    pytest.param(Usage(input_tokens=1000, output_tokens=500), PRICE, 6000, id="input and output"),
    pytest.param(Usage(input_tokens=1000, cached_tokens=400), PRICE, 1400, id="cached tokens are cheaper"),
    pytest.param(Usage(input_tokens=1000, cached_tokens=400), PLAIN, 2000, id="without a price for cached tokens"),
    pytest.param(Usage(input_tokens=10, cached_tokens=400), PRICE, 5, id="more cached than sent: never negative"),
    pytest.param(Usage(output_tokens=1, reasoning_tokens=1), PRICE, 8, id="reasoning is part of the output"),
    pytest.param(Usage(), PRICE, 0, id="nothing"),
]


@pytest.mark.parametrize(("usage", "price", "micros"), COSTS)
def test_cost_of_usage(usage: Usage, price: Price, micros: int) -> None:
    cost = cost_of(usage, price)
    assert (cost.money.micros, cost.known) == (micros, True)


def test_without_a_price_the_cost_is_unknown() -> None:
    assert cost_of(Usage(input_tokens=5), None) == ((cost_of(Usage(), PRICE).money), False)


def a_span(**fields: Any) -> Span:
    defaults: dict[str, Any] = {
        "trace": TraceId("1" * 32),
        "span": SpanId("1" * 16),
        "name": "chat",
        "kind": "chat",
        "start_ns": 1_780_000_000_000_000_000,
        "end_ns": 1_780_000_000_000_000_000,
        "provider": "openai",
        "model": "small",
        "input_tokens": 1000,
    }
    return Span(**{**defaults, **fields})


def price_of(provider: str, model: str, day: date) -> Price | None:
    assert day == date(2026, 5, 28)
    euro = Price(input_per_million=2.0, output_per_million=8.0, currency="EUR", source="test", as_of=DAY)
    return {("openai", "small"): PRICE, ("else", "small"): euro}.get((provider, model))


SPANS = [
    pytest.param(a_span(), 2000, id="a call with tokens"),
    pytest.param(a_span(response_model="small-2026-01-01"), 2000, id="a dated name falls back to what was asked for"),
    pytest.param(a_span(cost_micros=7), 7, id="a cost that was told stays"),
    pytest.param(a_span(model="unknown"), 0, id="an unknown model"),
    pytest.param(a_span(model=""), 0, id="no model"),
    pytest.param(a_span(input_tokens=0), 0, id="no tokens"),
    pytest.param(a_span(kind="agent"), 0, id="an agent that sums up its calls"),
    pytest.param(a_span(provider="else"), 0, id="a price in another currency"),
]


@pytest.mark.parametrize(("span", "micros"), SPANS)
def test_spans_get_their_cost(span: Span, micros: int) -> None:
    assert with_cost(span, price_of=price_of).cost_micros == micros


def test_the_catalogue_knows_a_price_that_was_published() -> None:
    # OpenAI's list price of GPT-4o mini since July 2024: $0.15 and $0.60 per million tokens.
    price = catalog_price("openai", "gpt-4o-mini", date(2025, 1, 1))
    assert price is not None
    assert (price.input_per_million, price.output_per_million) == (0.15, 0.6)
    assert catalog_price("nobody", "no-such-model", DAY) is None

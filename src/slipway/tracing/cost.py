"""What tokens cost at the price of the day."""

from collections.abc import Callable
from datetime import date, timedelta
from functools import lru_cache
from typing import NamedTuple

from slipway.domain.message import Usage
from slipway.domain.model import Price
from slipway.domain.money import Money
from slipway.domain.trace import Span
from slipway.store.journal_spans import with_values

PriceOf = Callable[[str, str, date], Price | None]
"""(engine or provider, model, day) to the price of that day, or None when nobody knows it."""


Rates = tuple[float, float, float]
"""Prices of input, cached input and output tokens: dollars per million, which is millionths of a dollar per token."""
DAY_NS = 86_400 * 10**9


class Cost(NamedTuple):
    """`known` is False when there is no price: then the money is 0 and stands for nothing."""

    money: Money
    known: bool


def cost_of(usage: Usage, price: Price | None) -> Cost:
    """Input and output tokens times price. `usage.input_tokens` includes the cached ones, which may be cheaper.

    Reasoning tokens are part of the output tokens, as providers bill them.
    """
    if price is None:
        return Cost(Money(), False)
    micros = micros_at(rates_of(price), usage.input_tokens, usage.output_tokens, usage.cached_tokens)
    return Cost(Money(micros=micros, currency=price.currency), True)


def rates_of(price: Price) -> Rates:
    cached = price.cached_input_per_million
    return price.input_per_million, price.input_per_million if cached is None else cached, price.output_per_million


def micros_at(rates: Rates, asked: int, wrote: int, cached: int = 0) -> int:
    """Millionths for input tokens, output tokens and how many of the input were cached."""
    fresh, kept, out = rates
    if cached:
        cached = min(cached, asked)
        return round((asked - cached) * fresh + cached * kept + wrote * out)
    return round(asked * fresh + wrote * out)


def catalog_price(engine_or_provider: str, model: str, day: date) -> Price | None:
    """The price that the model catalogue knows."""
    from slipway.models.catalog import price_of

    return price_of(engine_or_provider, model, at=day)


def with_cost(span: Span, *, price_of: PriceOf = catalog_price) -> Span:
    """The span with its cost where tokens were counted and nobody has said the cost yet.

    Only prices in dollars count: `cost_micros` is in millionths of a dollar.
    """
    if span.cost_micros or not (span.input_tokens or span.output_tokens):
        return span
    model = span.response_model or span.model
    if not model or span.kind not in ("chat", "embeddings", "rerank", "evaluator", "request"):
        return span
    price = _price(price_of, span.provider, span.model, span.response_model, span.start_ns // DAY_NS)
    if price is None:
        return span
    usage = Usage(input_tokens=span.input_tokens, output_tokens=span.output_tokens, cached_tokens=span.cached_tokens)
    money, known = cost_of(usage, price)
    if not known or money.currency != "USD" or not money.micros:
        return span
    return with_values(span, cost_micros=money.micros)


@lru_cache(maxsize=1024)
def _price(price_of: PriceOf, provider: str, model: str, response_model: str, day_number: int) -> Price | None:
    """The price of a day, counted from 1970 on."""
    day = date(1970, 1, 1) + timedelta(days=day_number)
    price = price_of(provider, response_model or model, day)
    if price is None and response_model and model:
        # Providers answer with dated names that price lists may not have.
        price = price_of(provider, model, day)
    return price

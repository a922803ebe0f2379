"""What a token costs here: your own price where slipway.toml names one, else the price of the day from the list."""

from __future__ import annotations

from datetime import UTC, date, datetime

from slipway.config.settings import Settings
from slipway.domain.model import Price
from slipway.models.catalog import price_of


def price_in(
    settings: Settings, engine: str, model: str, *, base_url: str = "", at: date | None = None
) -> Price | None:
    """Dollars per million tokens at `at` (UTC; today when None), or None when nobody knows them."""
    day = at or datetime.now(UTC).date()
    own = settings.prices.get(f"{engine}/{model}") or settings.prices.get(engine)
    if own is None:
        return price_of(engine, model, at=day, base_url=base_url)
    return Price(
        input_per_million=own.input,
        output_per_million=own.output,
        cached_input_per_million=own.cached_input,
        source="slipway.toml",
        as_of=day,
    )

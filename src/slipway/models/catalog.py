"""What a model costs per token: dated prices of commercial APIs, offline, and nothing for what runs in this process."""

from datetime import UTC, date, datetime, time
from functools import cache, lru_cache
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from slipway.domain.model import Price

EMBEDDED = frozenset({"extractive", "echo"})
"""Engines that run inside this process: no tokens are paid for."""
FREE = "runs in this process"


BATCH_SELLERS = frozenset(
    {"openai", "anthropic", "azure", "google", "gemini", "vertex", "bedrock", "aws", "mistral", "groq", "fireworks"}
    | {"together", "x-ai", "xai"}
)
BATCH_FACTOR = 0.5
"""Price of a provider's batch interface (answers within a day) over its normal price. Source: the providers' price
pages, recalled 2025; genai-prices does not hold it, a second list does for some models."""


def batch_factor_of(provider: str) -> float | None:
    """Batch price of a provider over its normal one; None where no batch interface is known."""
    return BATCH_FACTOR if provider.lower() in BATCH_SELLERS else None


def price_of(
    engine_or_provider: str, model: str, *, at: date | None = None, base_url: str = "", input_tokens: float = 0.0
) -> Price | None:
    """Dollars per million tokens of `model`, valid at `at` (UTC; today when None), or None when no price is known.

    `engine_or_provider` is an embedded engine (costs 0), a provider such as `openai`, or the name of a configured
    engine. An engine's own `base_url` tells its provider for certain: an address that no provider is known by has no
    price, whatever the engine is called. A model may be written `provider/model`. A surcharge for long contexts is
    in the price where `input_tokens`, the length of a request, reaches it; else the price is the base rate. `as_of` is
    the day up to which the price list is known to be kept.
    Source: the package genai-prices (MIT), read offline; it is heavy and is loaded by the first call.
    """
    day = at or datetime.now(UTC).date()
    if engine_or_provider in EMBEDDED:
        return Price(input_per_million=0.0, output_per_million=0.0, source=FREE, as_of=day)
    return _listed_price(engine_or_provider, model, day, base_url, input_tokens)


def context_of(provider: str, model: str) -> int | None:
    """Longest input of a commercial model in tokens, or None when the price list does not say."""
    found = _find(provider, model, "")
    return None if found is None else found[1].context_window


@lru_cache(maxsize=4096)
def _listed_price(engine_or_provider: str, model: str, day: date, base_url: str, input_tokens: float) -> Price | None:
    found = _find(engine_or_provider, model, base_url)
    if found is None:
        return None
    provider, listed = found
    # Noon, because some providers are cheaper at night and the day price is the one to reckon with.
    prices = listed.get_prices(datetime.combine(day, time(12), UTC))
    per_input = _rate(prices, "input_mtok", input_tokens)
    per_output = _rate(prices, "output_mtok", input_tokens)
    if per_input is None:
        return None
    return Price(
        input_per_million=per_input,
        output_per_million=per_output or 0.0,
        cached_input_per_million=_rate(prices, "cache_read_mtok", input_tokens),
        source=f"genai-prices {_version()}: {provider.name} {listed.id}",
        as_of=min(day, _kept_until()),
    )


def _find(engine_or_provider: str, model: str, base_url: str) -> tuple[Any, Any] | None:
    """The provider and the model in the price list, by the provider's name, its address, or `provider/model`."""
    if base_url and _is_own(base_url):
        return None
    snapshot = _snapshot()
    owner, slash, rest = model.partition("/")
    tries: list[tuple[str | None, str | None, str]]
    if base_url:
        tries = [(None, base_url, model)]
    else:
        tries = [(engine_or_provider, None, model), *([(owner, None, rest)] if slash else [])]
    for provider, url, name in tries:
        try:
            found: tuple[Any, Any] = snapshot.find_provider_model(name, None, provider, url)
        except LookupError:
            continue
        return found
    return None


def _is_own(base_url: str) -> bool:
    """Whether an address is one of this machine or network: nobody sells anything there, and the list, which takes
    15 MB, need not be loaded to know."""
    host = urlsplit(base_url).hostname or ""
    try:
        return not ip_address(host).is_global
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


@cache
def _snapshot() -> Any:
    from genai_prices.data_snapshot import get_snapshot

    return get_snapshot()


@cache
def _version() -> str:
    from importlib.metadata import version

    return version("genai-prices")


@cache
def _kept_until() -> date:
    """The newest price change in the list that has come into force: the list is at least as new as that day."""
    today = datetime.now(UTC).date()
    starts = (
        start
        for provider in _snapshot().providers
        for model in provider.models
        if isinstance(model.prices, list)
        for one in model.prices
        if (start := getattr(one.constraint, "start_date", None)) is not None and start <= today
    )
    return max(starts, default=today)


def _rate(prices: Any, key: str, input_tokens: float) -> float | None:
    """A price as a number; of a tiered price the tier that a request of that length reaches, which holds for all of
    its tokens."""
    value = getattr(prices, key, None)
    if value is None:
        return None
    reached = [tier.price for tier in getattr(value, "tiers", ()) if input_tokens >= tier.start]
    return float(reached[-1] if reached else getattr(value, "base", value))

"""Prices of commercial models: found by name or address, dated, and never guessed."""

import subprocess
import sys
from datetime import date

import pytest

from slipway.models.catalog import FREE, context_of, price_of

FOUND = [
    pytest.param("openai", "gpt-4o", "", id="by the provider's name"),
    pytest.param("fast", "gpt-4o", "https://api.openai.com/v1", id="by the engine's address"),
    pytest.param("fast", "openai/gpt-4o", "", id="by a model written provider/model"),
    pytest.param("openai", "gpt-4o-2024-08-06", "", id="by the dated name that an answer carries"),
]

UNKNOWN = [
    pytest.param("openai", "no-such-model", "", id="a model that nobody sells"),
    pytest.param("fast", "gpt-4o", "", id="an engine whose name says nothing about its provider"),
    pytest.param("openai", "gpt-4o", "http://127.0.0.1:8000/v1", id="an engine called openai that runs elsewhere"),
]


@pytest.mark.parametrize(("engine", "model", "base_url"), FOUND)
def test_a_listed_model_has_a_dated_price(engine: str, model: str, base_url: str) -> None:
    price = price_of(engine, model, at=date(2026, 6, 1), base_url=base_url)
    assert price is not None
    assert (price.input_per_million, price.output_per_million) == (2.5, 10.0)
    assert price.cached_input_per_million == 1.25
    assert price.source.startswith("genai-prices")
    assert price.as_of <= date(2026, 6, 1)


@pytest.mark.parametrize(("engine", "model", "base_url"), UNKNOWN)
def test_an_unlisted_model_has_no_price(engine: str, model: str, base_url: str) -> None:
    assert price_of(engine, model, base_url=base_url) is None


@pytest.mark.parametrize("engine", ["extractive", "echo"])
def test_an_embedded_engine_costs_nothing(engine: str) -> None:
    price = price_of(engine, engine)
    assert price is not None
    assert price.input_per_million == price.output_per_million == 0
    assert price.source == FREE


def test_a_price_is_the_one_of_its_day() -> None:
    before, after = (price_of("openai", "gpt-5.6-luna", at=day) for day in (date(2026, 7, 1), date(2026, 9, 1)))
    assert before is not None
    assert after is not None
    assert before.input_per_million > after.input_per_million


def test_a_tiered_price_is_its_base_rate() -> None:
    price = price_of("openai", "gpt-5.4", at=date(2026, 6, 1))
    assert price is not None
    assert (price.input_per_million, price.output_per_million) == (2.5, 15.0)


def test_the_longest_context_of_a_commercial_model_is_known() -> None:
    assert context_of("openai", "gpt-4o") == 128_000
    assert context_of("openai", "no-such-model") is None


def test_the_price_list_is_loaded_by_the_first_question_only() -> None:
    code = "import sys, slipway.models.catalog; sys.exit('genai_prices' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8000/v1",
        "http://127.0.0.1/v1",
        "http://10.1.2.3:80",
        "http://[::1]:1/v1",
        "http://a.localhost",
    ],
)
def test_an_address_of_ones_own_network_has_no_price_and_needs_no_list(url: str) -> None:
    code = (
        "import sys; from slipway.models.catalog import price_of\n"
        f"assert price_of('openai', 'gpt-4o', base_url={url!r}) is None\n"
        "sys.exit('genai_prices' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Prices for a decision: one's own first, sources that disagree, long contexts, licences of one's own."""

from datetime import date
from pathlib import Path

import pytest

from slipway.decide.options import list_candidates
from slipway.domain.errors import FileBroken
from slipway.models.architectures import list_models
from slipway.models.catalog import batch_factor_of, price_of
from slipway.models.own_prices import NOTHING_OWN, read_own_prices
from slipway.models.quotes import list_second, quote
from tests.decide.test_futures import demand_of

TODAY = date(2026, 11, 29)
FILE = """
[models."openai/gpt-5-mini"]
input = 0.2
output = 1.6
batch = 0.4
as_of = 2026-10-01
source = "our contract"

[hardware.h100-sxm]
on_demand = 2.1
three_years = 1.4
spot = 0.8
purchase = 25000
as_of = 2026-10-01

[licences."llama-3.1-8b"]
name = "agreement with Meta"
commercial = true
user_cap = 1000
"""


def test_a_price_of_ones_own_goes_before_the_list(tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text(FILE)
    own = read_own_prices(tmp_path / "prices.toml")
    mine = quote("openai/gpt-5-mini", today=TODAY, own=own)
    listed = quote("openai/gpt-5-mini", today=TODAY)
    assert mine is not None
    assert listed is not None
    assert (mine.price.input_per_million, mine.batch) == (0.2, 0.4)
    assert mine.price.source == "prices.toml: our contract"
    assert listed.price.input_per_million == 0.25
    assert listed.price.as_of <= TODAY


def test_own_rents_and_licences_reach_the_roads(tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text(FILE)
    demand, settings, _ = demand_of(gpu_hourly=None)
    roads = {one.name: one for one in list_candidates(demand, settings, folder=tmp_path)}
    assert roads["llama-3.1-8b on rented h100-sxm"].rent.hourly == 2.1  # type: ignore[attr-defined]
    assert roads["llama-3.1-8b on reserved h100-sxm"].reserved.hourly == 1.4  # type: ignore[attr-defined]
    waiting, waits, basis = demand_of(gpu_hourly=None, batch_share=1.0)
    spot = {one.name: one for one in list_candidates(waiting, waits, folder=tmp_path)}["llama-3.1-8b on spot h100-sxm"]
    assert spot.bill(waiting, basis).lines[0].formula.endswith("x $0.80 x 730.5 h")
    assert roads["llama-3.1-8b on own h100-sxm"].purchase.purchase == 25000  # type: ignore[attr-defined]
    licence = roads["llama-3.1-8b on rented h100-sxm"].shape.licence  # type: ignore[attr-defined]
    assert (licence.name, licence.checked) == ("agreement with Meta", "own")


BROKEN = [
    pytest.param('[models."a/b"]\ninput = 1\n', "output", id="a price is missing"),
    pytest.param('[models."a/b"]\ninput = -1\noutput = 1\nas_of = 2026-01-01\n', ">= 0", id="a negative price"),
    pytest.param('[models."a/b"]\ninput = 1\noutput = 1\n', "as_of", id="no date"),
    pytest.param("[model]\n", "model", id="an unknown table"),
    pytest.param("[models\n", "line 1", id="no TOML"),
]


@pytest.mark.parametrize(("text", "reason"), BROKEN)
def test_a_broken_file_of_prices_names_the_place(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "prices.toml").write_text(text)
    with pytest.raises(FileBroken, match=reason):
        read_own_prices(tmp_path / "prices.toml")


def test_without_a_file_nothing_is_own(tmp_path: Path) -> None:
    assert read_own_prices(tmp_path / "prices.toml") == NOTHING_OWN


def test_sources_that_disagree_are_flagged_and_those_that_agree_are_not() -> None:
    agreeing, flagged = 0, []
    for name in list_second().models:
        found = quote(name, today=TODAY)
        if found is None:
            continue
        if found.flags:
            flagged.append(found)
        else:
            agreeing += 1
    assert agreeing > 200, "most prices of the two lists are the same"
    assert flagged, "some are not"
    assert all(list_second().source in found.flags[0] for found in flagged)


def test_a_long_request_pays_the_tier_that_it_reaches() -> None:
    short = price_of("google", "gemini-2.5-pro", at=TODAY)
    long = price_of("google", "gemini-2.5-pro", at=TODAY, input_tokens=300_000)
    assert short is not None
    assert long is not None
    assert long.input_per_million == 2 * short.input_per_million


def test_only_sellers_with_a_batch_interface_have_a_batch_price() -> None:
    assert batch_factor_of("OpenAI") == 0.5
    assert batch_factor_of("deepseek") is None


def test_every_licence_says_whether_its_text_was_read() -> None:
    for shape in list_models():
        assert shape.licence is not None
        if shape.licence.text_sha256:
            assert shape.licence.checked == "read"
            assert len(shape.licence.text_sha256) == 64
            assert date.fromisoformat(shape.licence.checked_on)


def test_the_hash_of_the_apache_licence_is_that_of_the_text_at_hand() -> None:
    from hashlib import sha256

    text = (Path(__file__).parents[2] / "LICENSE").read_bytes()
    apache = next(one.licence for one in list_models() if one.licence and one.licence.id == "apache-2.0")
    assert apache.text_sha256 == sha256(text).hexdigest()

"""Memory follows the published rules, speed follows the roofline, and replicas hold the limits."""

import csv
from pathlib import Path
from statistics import median

import pytest

from slipway.domain.deployment import Demand
from slipway.models.architectures import find_model
from slipway.models.hardware import find_hardware, list_hardware, list_prices, purchase_of, rent_of
from slipway.models.memory import kv_bytes, kv_bytes_per_token, kv_copies, serving_bill, weights_gib
from slipway.models.roofline import decode_step_s, prefill_s
from slipway.models.sizing import Load, list_replicas, peak_per_second
from slipway.models.training import training_flop, training_hours

SHARED = Path(__file__).parents[3] / "shared" / "data"

KV = [
    pytest.param("llama-3.1-405b", 516_096, id="Llama 3.1 405B: 2 x 126 layers x 8 heads x 128 x 2 bytes"),
    pytest.param("llama-3.1-70b", 327_680, id="Llama 3.1 70B"),
    pytest.param("deepseek-v3", 70_272, id="DeepSeek V3: one latent vector of 576 for all heads"),
    pytest.param("gpt2", 36_864, id="GPT-2: every head has its own"),
]


@pytest.mark.parametrize(("model", "bytes_a_token"), KV)
def test_the_cache_of_a_token_has_its_published_size(model: str, bytes_a_token: int) -> None:
    assert kv_bytes_per_token(find_model(model)) == bytes_a_token


def test_layers_with_a_window_stop_growing() -> None:
    shape = find_model("gpt-oss-20b")
    each = 2 * 8 * 64 * 2
    assert kv_bytes(shape, 10_000) == each * (12 * 10_000 + 12 * 128)


def test_a_latent_cache_is_kept_by_every_device_and_heads_are_shared() -> None:
    assert kv_copies(find_model("deepseek-v3"), 8) == 8
    assert kv_copies(find_model("llama-3.1-70b"), 8) == 1
    assert kv_copies(find_model("qwen2.5-7b"), 8) == 2


def test_a_bill_of_memory_adds_up() -> None:
    shape, hardware = find_model("llama-3.1-8b"), find_hardware("h100-sxm")
    bill = serving_bill(shape, hardware, 2, "bf16", sequences=10, tokens=1000)
    assert bill.weights_gib == pytest.approx(weights_gib(shape.parameters, "bf16"))
    assert bill.kv_cache_gib == pytest.approx(10 * 1000 * 131_072 / 2**30)
    assert bill.reserve_gib > 2 * (0.1 * 80 + 2e9 / 2**30)
    assert bill.available_gib == 160


def test_hardware_whose_kernels_were_timed_has_figures_of_its_own() -> None:
    timed = [one for one in list_hardware() if one.origin == "calibrated"]
    assert len(timed) == 7
    assert len({str(one.efficiency) for one in timed}) == 7
    others = {str(one.efficiency["bf16"]) for one in list_hardware() if one.name in ("mi300x", "a10", "gaudi3")}
    assert not others & {str(one.efficiency["bf16"]) for one in timed}, "not what is assumed of all others"


def test_reading_weights_bounds_a_small_batch_and_products_bound_a_large_one() -> None:
    shape, hardware = find_model("llama-3.1-70b"), find_hardware("h100-sxm")
    one, few, many, more = (
        decode_step_s(shape, hardware, 8, "bf16", sequences=n, tokens=1) for n in (1, 8, 2000, 4000)
    )
    assert few < 1.1 * one, "eight at once cost hardly more than one"
    assert more > 1.7 * many, "twice as many cost nearly twice as much"


def test_a_prompt_costs_more_than_in_proportion() -> None:
    shape, hardware = find_model("llama-3.1-8b"), find_hardware("h100-sxm")
    short, long = (prefill_s(shape, hardware, 1, "bf16", tokens=n) for n in (8_000, 64_000))
    assert long > 8 * short


@pytest.mark.skipif(not SHARED.exists(), reason="the measurements of the development data are not here")
def test_the_time_of_a_token_is_near_the_measured_one_for_dense_models() -> None:
    errors = []
    with (SHARED / "performance" / "serving_closed_loop.csv").open() as rows:
        for row in csv.DictReader(rows):
            shape = find_model(row["model"])
            if row["weights"] != "fp8" or row["suspect"] or shape.experts:
                continue
            users, ask, say = float(row["concurrency"]), float(row["isl"]), float(row["osl"])
            place = (shape, find_hardware(row["hardware"]), int(float(row["tp"])), "fp8")
            step = decode_step_s(*place, sequences=users, tokens=ask + say / 2)  # type: ignore[arg-type]
            token = step + (users - 1) * prefill_s(*place, tokens=ask) / say  # type: ignore[arg-type]
            errors.append(abs(1e3 * token / float(row["tpot_ms"]) - 1))
    assert len(errors) > 200
    assert median(errors) < 0.13


@pytest.mark.skipif(not SHARED.exists(), reason="the training runs of the development data are not here")
def test_training_hours_are_near_the_published_ones() -> None:
    near, runs = 0, 0
    with (SHARED / "economics" / "training_runs.csv").open() as rows:
        for row in csv.DictReader(rows):
            name = {"A": "a100-sxm", "H": "h100-sxm", "V": "v100-sxm2"}[row["hardware"][0]]
            flop = training_flop(float(row["active_params"]), float(row["tokens"]))
            runs += 1
            near += 1 / 1.5 <= training_hours(flop, find_hardware(name)) / float(row["gpu_hours"]) <= 1.5
    assert near / runs >= 0.8


def a_demand(**changed: float) -> Demand:
    return Demand(**{"requests_per_day": 100_000, "input_tokens": 1246, "output_tokens": 204, **changed})  # type: ignore[arg-type]


def test_replicas_hold_the_limit_and_a_tighter_limit_needs_more() -> None:
    shape, hardware = find_model("llama-3.1-70b"), find_hardware("h100-sxm")
    needed = []
    for limit in (2000.0, 700.0, 500.0):
        demand = a_demand(requests_per_day=2e6, first_token_ms=limit)
        options = [one.option(demand, hourly=3.0) for one in list_replicas(shape, hardware, Load.of(demand))]
        held = [one for one in options if not one.rejected]
        assert all(one.first_token_ms <= limit for one in held)
        assert all(one.requests_per_second >= peak_per_second(demand) for one in held)
        needed.append(min(one.devices_per_replica * one.replicas for one in held))
    assert needed == sorted(needed)
    assert needed[0] < needed[-1]


def test_a_model_that_does_not_fit_says_by_how_much() -> None:
    demand = a_demand()
    one = list_replicas(find_model("llama-3.1-70b"), find_hardware("h100-sxm"), Load.of(demand), splits=(1,))[0]
    assert "needs 144 GiB (131 of weights)" in one.rejected
    assert one.option(demand, hourly=3.0).replicas == 0


def test_a_model_published_in_few_bits_is_served_in_them() -> None:
    ways = list_replicas(find_model("gpt-oss-20b"), find_hardware("h100-sxm"), Load.of(a_demand()))
    assert {one.precision for one in ways} == {"int4"}


def test_rents_are_dated_and_an_own_price_wins() -> None:
    rent = rent_of("h100-sxm")
    assert rent is not None
    assert rent.low <= rent.hourly <= rent.high
    assert rent.as_of is not None
    own = rent_of("h100-sxm", own_hourly=1.23)
    assert own is not None
    assert (own.hourly, own.low, own.high) == (1.23, 1.23, 1.23)
    assert rent_of("b200-sxm") is None
    bought = purchase_of("h100-sxm")
    assert bought is not None
    assert bought.purchase == 28_750


def test_every_price_belongs_to_known_hardware_and_says_where_it_is_from() -> None:
    known = {one.name for one in list_hardware()}
    assert all(price.hardware in known and price.source for price in list_prices())

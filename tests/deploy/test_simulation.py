"""Replays: no request is lost, waiting has a reason, both loops agree, and replicas are counted by what holds."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from slipway.deploy.later import STEADY_GROWTH, count_for_later, growth_of
from slipway.deploy.replicas import Limits, count_replicas, fewest
from slipway.deploy.simulation import Engine, engine_of, simulate
from slipway.deploy.traffic import Traffic, invented
from slipway.domain.errors import InputError, NothingMeets
from slipway.models.architectures import find_model
from slipway.models.calibrations import Setup
from slipway.models.hardware import find_hardware
from slipway.models.roofline import Split

BASE_S, PER_TOKEN_S = 0.01, 0.0001


@pytest.fixture
def engine() -> Engine:
    """A step costs 10 ms and 0.1 ms for each of its tokens, nothing else."""
    return Engine(
        table=BASE_S + PER_TOKEN_S * np.arange(2000.0),
        per_sequence=0.0,
        per_token=0.0,
        per_attention=0.0,
        request=0.0,
        queue=1.0,
        step_tokens=512,
        most=8,
        cache_tokens=1e9,
    )


def requests(*rows: tuple[float, int, int], blocks: tuple[tuple[int, ...], ...] = ()) -> Traffic:
    arrival, asked, said = zip(*rows, strict=True)
    return Traffic(np.array(arrival, dtype=float), np.array(asked), np.array(said), blocks)


def test_a_lone_request_takes_its_prompt_and_then_a_step_a_token(engine: Engine) -> None:
    replay = simulate(requests((0.0, 100, 11)), engine, replicas=1)
    assert replay.first_s[0] == pytest.approx(BASE_S + 100 * PER_TOKEN_S)
    assert replay.token_s[0] == pytest.approx(BASE_S + PER_TOKEN_S)
    assert replay.end_to_end_s[0] == pytest.approx(replay.first_s[0] + 10 * replay.token_s[0])


def test_a_long_prompt_is_read_in_chunks(engine: Engine) -> None:
    replay = simulate(requests((0.0, 1100, 1)), engine, replicas=1)
    assert replay.first_s[0] == pytest.approx(3 * BASE_S + 1100 * PER_TOKEN_S)
    assert np.isnan(replay.token_s[0]), "an answer of one token has no time between tokens"


def test_an_answer_goes_on_while_another_prompt_is_read_and_waits_for_it(engine: Engine) -> None:
    alone = simulate(requests((0.0, 100, 50)), engine, replicas=1)
    both = simulate(requests((0.0, 100, 50), (0.1, 500, 2)), engine, replicas=1)
    longer = (both.token_s[0] - alone.token_s[0]) * 49
    # One step reads 500 tokens more, another carries one token more: the second answer's.
    assert longer == pytest.approx(501 * PER_TOKEN_S, rel=0.02)


def test_requests_beyond_the_cache_wait_for_room(engine: Engine) -> None:
    small = replace(engine, cache_tokens=150.0)
    replay = simulate(requests((0.0, 100, 20), (0.0, 100, 20)), small, replicas=1)
    assert replay.first_s[1] > replay.end_to_end_s[0]
    assert simulate(requests((0.0, 100, 20), (0.0, 100, 20)), engine, replicas=1).first_s[1] < replay.first_s[1]


def test_a_request_larger_than_the_cache_is_still_answered(engine: Engine) -> None:
    replay = simulate(requests((0.0, 100, 20), (0.0, 400, 20)), replace(engine, cache_tokens=150.0), replicas=1)
    assert (replay.end_to_end_s > 0).all()


def test_an_engine_that_prepares_steps_ahead_takes_a_request_up_one_step_later(engine: Engine) -> None:
    ahead = replace(engine, prepared=True)
    step = BASE_S + PER_TOKEN_S
    both = requests((0.0, 100, 200), (0.105, 100, 2))
    soon, late = (simulate(both, one, replicas=1) for one in (engine, ahead))
    assert late.first_s[1] - soon.first_s[1] == pytest.approx(step)
    assert late.end_to_end_s[0] == pytest.approx(soon.end_to_end_s[0]), "the answer under way takes as long"
    alone = requests((0.0, 100, 2), (5.0, 100, 2))
    assert simulate(alone, ahead, replicas=1).first_s[1] == pytest.approx(BASE_S + 100 * PER_TOKEN_S), (
        "an engine that does nothing reads a prompt at once"
    )
    full = replace(ahead, most=1)
    assert (simulate(both, full, replicas=1).first_s > 0).all(), "a full engine takes it up when there is room"


def test_only_engines_that_prepare_ahead_do_so() -> None:
    for served, ahead in (("vllm", False), ("trtllm", True), ("sglang", True)):
        setup = Setup(
            shape=find_model("llama-3.1-8b"), hardware=find_hardware("l4"), engine=served, precision="fp8",
            split=Split(),
        )  # fmt: skip
        assert engine_of(setup, mean_tokens=1000.0).prepared is ahead


def test_a_prefix_that_was_read_before_is_not_read_again(engine: Engine) -> None:
    blocks = ((1, 2), (1, 2))
    twice = requests((0.0, 1100, 2), (10.0, 1100, 2), blocks=blocks)
    replay = simulate(twice, engine, replicas=1)
    assert replay.first_s[1] == pytest.approx(BASE_S + 76 * PER_TOKEN_S), "1,100 tokens less two blocks of 512"
    assert replay.cached_share == pytest.approx(1024 / 2200)
    apart = simulate(twice, engine, replicas=2)
    assert apart.cached_share == 0.0, "the other replica has not seen it"


def test_less_load_waits_less_and_no_request_is_lost(engine: Engine) -> None:
    traffic = invented(per_second=8.0, input_tokens=200, output_tokens=50, requests=400)
    slow = [
        simulate(traffic, engine, replicas=number, router=router).quantile("first", 0.99)
        for number in (2, 4, 8)
        for router in ("round robin",)
    ]
    assert slow == sorted(slow, reverse=True)
    for router in ("round robin", "least load"):
        replay = simulate(traffic, engine, replicas=3, router=router)  # type: ignore[arg-type]
        assert (replay.first_s > 0).all()
        assert (replay.end_to_end_s >= replay.first_s).all()


def test_the_least_loaded_replica_is_better_than_turns_when_requests_differ(engine: Engine) -> None:
    drawn = np.random.default_rng(1)
    said = np.where(np.arange(600) % 3 == 0, 400, 10)
    traffic = Traffic(np.cumsum(drawn.exponential(0.05, 600)), np.full(600, 50), said)
    turns, least = (
        simulate(traffic, engine, replicas=3, router=router).first_s.mean()  # type: ignore[arg-type]
        for router in ("round robin", "least load")
    )
    assert least < turns


@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba, the optional speed-up, is not installed")
@pytest.mark.parametrize("served", ["vllm", "trtllm"])
@pytest.mark.parametrize("router", ["round robin", "least load"])
def test_the_compiled_loop_gives_the_same_result(router: str, served: str) -> None:
    setup = Setup(
        shape=find_model("gpt-oss-20b"), hardware=find_hardware("h100-sxm"), engine=served, precision="int4",
        split=Split(tensor=1),
    )  # fmt: skip
    traffic = invented(per_second=20.0, input_tokens=700, output_tokens=120, requests=800)
    tables = engine_of(setup, mean_tokens=traffic.mean_tokens)
    plain, fast = (
        simulate(traffic, tables, replicas=3, router=router, compiled=compiled)  # type: ignore[arg-type]
        for compiled in (False, True)
    )
    assert np.array_equal(plain.first_s, fast.first_s)
    assert np.array_equal(plain.token_s, fast.token_s, equal_nan=True)


def test_the_fewest_replicas_that_hold_are_found(engine: Engine) -> None:
    traffic = invented(per_second=10.0, input_tokens=300, output_tokens=60, requests=800)
    limits = Limits(first_s=0.3, token_s=0.05)
    found = count_replicas(traffic, engine, limits)
    assert limits.held_by(simulate(traffic, engine, replicas=found.replicas))
    assert limits.missed_by(simulate(traffic, engine, replicas=found.replicas - 1))
    assert found.by_rule < found.replicas, "rate / throughput forgets the bursts"
    assert 1 <= found.least <= found.most == found.replicas


def test_a_number_that_holds_by_chance_is_not_taken() -> None:
    assert fewest(lambda number: number in (5, 6) or number >= 8) == 8
    assert fewest(lambda number: False, most=64) is None
    assert fewest(lambda number: number == 1) == 1, "where no more replicas ever hold, the least is the answer"


def test_limits_that_no_number_holds_are_told(engine: Engine) -> None:
    with pytest.raises(NothingMeets, match="with one request at a time a token takes 10 ms, the limit is 5"):
        count_replicas(requests((0.0, 10, 5)), engine, Limits(token_s=0.005))
    with pytest.raises(InputError, match="No limit"):
        count_replicas(requests((0.0, 10, 5)), engine, Limits())


def test_a_limit_on_half_of_the_requests_is_held_as_well(engine: Engine) -> None:
    traffic = invented(per_second=60.0, input_tokens=200, output_tokens=30, requests=900, seed=3)
    slowest = count_replicas(traffic, engine, Limits(first_s=0.5), compiled=False)
    half = Limits(first_s=0.5, first_p50_s=0.8 * slowest.first_p50_s)
    both = count_replicas(traffic, engine, half, compiled=False)
    assert both.replicas > slowest.replicas
    assert both.first_p50_s <= 0.8 * slowest.first_p50_s
    assert "half of the first tokens take" in half.missed_by(
        simulate(traffic, engine, replicas=slowest.replicas, compiled=False)
    )


def test_a_prefix_that_is_kept_counts_when_a_limit_is_called_out_of_reach(engine: Engine) -> None:
    again = [(60.0 * number, 5120, 2) for number in range(400)]
    traffic = requests(*again, blocks=tuple(tuple(range(10)) for _ in again))
    limits = Limits(first_s=0.1)
    assert not limits.held_by(simulate(replace(traffic, blocks=()), engine, replicas=1))
    assert count_replicas(traffic, engine, limits, compiled=False).replicas == 1


def test_long_prompts_at_the_start_of_a_trace_do_not_speak_for_all_of_it(engine: Engine) -> None:
    rows = [(60.0 * number, 5000 if number < 500 else 100, 2) for number in range(60_000)]
    assert count_replicas(requests(*rows), engine, Limits(first_s=0.1)).replicas == 1


def test_later_traffic_may_need_more_and_never_less(engine: Engine) -> None:
    traffic = invented(per_second=60.0, input_tokens=200, output_tokens=30, requests=900, seed=3)
    limits = Limits(first_s=0.2)
    found = count_replicas(traffic, engine, limits, compiled=False).replicas
    later = count_for_later(traffic, engine, limits, found, compiled=False)
    assert later.growth >= STEADY_GROWTH
    faster = traffic.at_rate(traffic.per_second * later.growth)
    assert later.replicas == count_replicas(faster, engine, limits, compiled=False).replicas > found
    assert count_for_later(traffic, engine, limits, 50, compiled=False).replicas == 50


def test_a_trace_whose_quarters_differ_is_trusted_less(engine: Engine) -> None:
    limits = Limits(first_s=0.2)
    steady = invented(per_second=60.0, input_tokens=200, output_tokens=30, requests=2000, seed=3)
    rows = range(0, 2000, 1)
    late = np.array([row < 500 or row % 4 == 0 for row in rows])
    uneven = Traffic(
        steady.arrival_s[late], steady.input_tokens[late], steady.output_tokens[late]
    )  # its first quarter is four times as busy
    assert growth_of(steady, engine, limits, compiled=False) < 1.9
    assert growth_of(uneven, engine, limits, compiled=False) > 2.1


def test_later_traffic_that_no_number_holds_is_told_in_proportion(engine: Engine) -> None:
    # Three prompts come again and again. One replica keeps them all; every further one reads them anew.
    rows = [(0.1 * number, 1100, 2) for number in range(400)]
    traffic = requests(*rows, blocks=tuple((number % 3, 100 + number % 3) for number in range(400)))
    limits = Limits(first_s=0.1)
    assert count_replicas(traffic, engine, limits, compiled=False).replicas == 1
    with pytest.raises(NothingMeets):
        count_replicas(traffic.at_rate(16.0), engine, limits, compiled=False)
    later = count_for_later(traffic, engine, limits, 1, compiled=False)
    assert (later.replicas, later.growth) == (2, STEADY_GROWTH)


def days_of(*counts: int) -> Traffic:
    """So many requests on each day, and one that ends the last."""
    day = 86_400.0
    arrival = np.concatenate([number * day + np.linspace(0, day - 1, count) for number, count in enumerate(counts)])
    arrival = np.append(arrival, len(counts) * day)
    ones = np.ones(len(arrival), dtype=np.int64)
    return Traffic(arrival, ones, ones)


def test_days_say_themselves_how_much_busier_one_is(engine: Engine) -> None:
    limits = Limits(first_s=1.0)
    assert growth_of(days_of(100, 100, 180, 100), engine, limits, compiled=False) == pytest.approx(180 / 120, rel=0.01)
    even = days_of(100, 100, 100, 100, 100)
    assert growth_of(even, engine, limits, compiled=False) == pytest.approx(1.1), "no day is quite like the other"
    gap = days_of(100, 0, 0, 0, 100)
    assert growth_of(gap, engine, limits, compiled=False) == pytest.approx(1.1), "days without a record are not quiet"
    one = even.part(0, 100)
    assert growth_of(one, engine, limits, compiled=False) == STEADY_GROWTH, "one day says nothing of the next"


def test_a_day_stays_a_day_when_a_trace_is_replayed_at_another_rate(engine: Engine) -> None:
    hour = Traffic(np.linspace(0, 3600, 500), np.ones(500, dtype=np.int64), np.ones(500, dtype=np.int64))
    for trace in (hour.at_rate(0.001), hour.at_rate(0.001).part(0, 400)):
        assert growth_of(trace, engine, Limits(first_s=1.0), compiled=False) == STEADY_GROWTH


def test_of_a_long_trace_the_busiest_part_says_how_many_more(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.deploy.later.MOST_REPLAYED", 300)
    traffic = invented(per_second=60.0, input_tokens=200, output_tokens=30, requests=900, seed=3)
    limits = Limits(first_s=0.2)
    found = count_replicas(traffic, engine, limits, compiled=False).replicas
    assert found < count_for_later(traffic, engine, limits, found, compiled=False).replicas <= 3 * found
    lone = traffic.at_rate(0.01)
    assert count_for_later(lone, engine, limits, 1, compiled=False).replicas == 1, "one that is idle carries more"

"""Replays: no request is lost, waiting has a reason, both loops agree, and replicas are counted by what holds."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from slipway.deploy.later import busiest_fifth, count_for_later, reordered
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
@pytest.mark.parametrize("router", ["round robin", "least load"])
def test_the_compiled_loop_gives_the_same_result(router: str) -> None:
    setup = Setup(
        shape=find_model("gpt-oss-20b"), hardware=find_hardware("h100-sxm"), engine="vllm", precision="int4",
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


def test_limits_that_no_number_holds_are_told(engine: Engine) -> None:
    with pytest.raises(NothingMeets, match="with one request at a time a token takes 10 ms, the limit is 5"):
        count_replicas(requests((0.0, 10, 5)), engine, Limits(token_s=0.005))
    with pytest.raises(InputError, match="No limit"):
        count_replicas(requests((0.0, 10, 5)), engine, Limits())


def test_later_traffic_may_need_more_and_never_less(engine: Engine) -> None:
    calm = invented(per_second=2.0, input_tokens=200, output_tokens=30, requests=400, seed=3)
    busy = invented(per_second=6.0, input_tokens=200, output_tokens=30, requests=400, seed=4)
    whole = Traffic(
        np.concatenate([calm.arrival_s, calm.span_s + 1 + busy.arrival_s]),
        np.concatenate([calm.input_tokens, busy.input_tokens]),
        np.concatenate([calm.output_tokens, busy.output_tokens]),
    )
    assert busiest_fifth(whole) > 1.3
    limits = Limits(first_s=0.3)
    for traffic in (calm, whole):
        found = count_replicas(traffic, engine, limits, compiled=False).replicas
        later = count_for_later(traffic, engine, limits, found, compiled=False)
        assert later >= found
        again = count_for_later(traffic, engine, limits, found, compiled=False)
        assert later == again, "the same seed, the same answer"
    assert count_for_later(calm.part(0, 20), engine, limits, 3, compiled=False) == 3, "too short to be reordered"


def test_the_windows_of_a_trace_are_reordered_whole() -> None:
    traffic = invented(per_second=5.0, input_tokens=100, output_tokens=20, requests=1000)
    other = reordered(traffic, np.random.default_rng(1))
    assert (np.diff(other.arrival_s) >= 0).all()
    assert other.span_s <= traffic.span_s
    assert 0.7 < len(other) / len(traffic) < 1.4
    assert set(other.input_tokens.tolist()) <= set(traffic.input_tokens.tolist())

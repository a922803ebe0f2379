"""Predictions of a benchmark: steps add up, names are understood, a bad row costs only itself."""

import csv
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from slipway.cli.main import app
from slipway.deploy.benchmark import Protocol, Schedule, simulate_steps
from slipway.deploy.fitting import errors_of
from slipway.deploy.offline import limits_of
from slipway.deploy.points import (
    UNRECORDED,
    match_hardware,
    match_model,
    point_of,
    read_table,
    split_of,
)
from slipway.deploy.prediction import predict
from slipway.deploy.prediction_table import predict_table
from slipway.deploy.schedules import schedule_of
from slipway.domain.errors import FileBroken, NotFound, RowUnusable
from slipway.models.calibrations import doublings_beyond, novelty, prior_of, shipped

SHARED = Path(__file__).parents[3] / "shared" / "data" / "performance"
ROW = {
    "id": "one", "model": "Llama-3.1-70B", "hardware": "H100-SXM", "engine": "vllm", "weights": "fp8", "isl": "1024",
    "osl": "1024", "concurrency": "32.0", "tp": "4.0", "pp": "1.0", "attn_dp": "1.0", "ep": "1.0", "load": "closed",
}  # fmt: skip

CONFIG = {
    "model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 8192, "vocab_size": 128_256, "max_position_embeddings": 131_072,
}  # fmt: skip


def test_the_steps_of_a_benchmark_add_up() -> None:
    protocol = Protocol(input_tokens=100, output_tokens=50, users=4, requests=12)
    steps = simulate_steps(protocol, Schedule(step_tokens=64), cache_tokens=1e9, merged=False)
    assert (steps.work.tokens * steps.times).sum() == 12 * (100 + 49), "every token passes once, the last one never"
    assert steps.work.tokens.max() <= 64
    # With steps of one second the mean wait and the mean time of a token are counts of steps.
    assert steps.waiting.sum() > 1
    assert steps.answering.sum() == pytest.approx(1.0)
    merged = simulate_steps(protocol, Schedule(step_tokens=64), cache_tokens=1e9)
    assert len(merged.times) < len(steps.times)
    assert merged.waiting.sum() == pytest.approx(steps.waiting.sum())


def test_a_user_who_asks_again_waits_for_the_steps_under_way() -> None:
    protocol = Protocol(input_tokens=100, output_tokens=50, users=4, requests=40)
    waits = [
        simulate_steps(protocol, Schedule(step_tokens=512, between=between), cache_tokens=1e9).waiting.sum()
        for between in (0, 1, 2)
    ]
    assert waits[0] < waits[1] < waits[2]
    late = simulate_steps(protocol, Schedule(step_tokens=512, between=2), cache_tokens=1e9, merged=False)
    assert (late.work.tokens * late.times).sum() == 40 * (100 + 49), "no token is lost or read twice"
    alone = Protocol(input_tokens=100, output_tokens=50, users=1, requests=10)
    assert simulate_steps(alone, Schedule(step_tokens=512, between=2), cache_tokens=1e9).waiting.sum() == pytest.approx(
        1.0
    ), "an engine that does nothing reads the next prompt at once"


STEP_TOKENS = [
    pytest.param({"engine": "vllm"}, 8192, id="vLLM's default"),
    pytest.param({"engine": "trtllm"}, 16_384, id="a dense model of InferenceX, several prompts"),
    pytest.param({"engine": "trtllm", "model": "gpt-oss-120b"}, 1024 + 128, id="experts, one prompt"),
    pytest.param({"engine": "trtllm", "osl": "100"}, 1024 + 128, id="lengths that no script has, one prompt"),
]


@pytest.mark.parametrize(("change", "tokens"), STEP_TOKENS)
def test_a_step_of_a_published_benchmark_reads_as_many_tokens_as_its_script_says(
    change: dict[str, str], tokens: int
) -> None:
    assert schedule_of(point_of({**ROW, **change}, name="row")).step_tokens == tokens


OFFLINE = [
    # 70 GB of weights leave 75.3 GiB of 141; 90 % of them hold 204 answers of 2,176 tokens x 160 KiB.
    pytest.param({"isl": "128", "osl": "2048"}, (224, 2048), id="the cache holds 204, rounded up"),
    pytest.param({"isl": "2048", "osl": "128"}, (224, 3584), id="204 x 17 tokens arrive in a step"),
    pytest.param({"isl": "20000", "osl": "2000"}, (64, 20_064), id="a whole prompt fits"),
    pytest.param({"isl": "1", "osl": "3"}, (4096, 5632), id="no more than 4,096 sequences"),
    pytest.param({"isl": "128", "osl": "2048", "pp": "2"}, (384, 2048), id="shared between two stages"),
    pytest.param({"isl": "128", "osl": "128", "hardware": "L4"}, (64, 2048), id="weights that do not fit"),
]


@pytest.mark.parametrize(("change", "wanted"), OFFLINE)
def test_a_run_for_the_most_throughput_is_set_up_as_tensorrt_llm_does(
    change: dict[str, str], wanted: tuple[int, int]
) -> None:
    row = {**ROW, "engine": "trtllm", "hardware": "H200-SXM", "tp": "1", "load": "offline", **change}
    point = point_of(row, name="row")
    protocol, stages = point.protocol, point.setup.split.pipeline
    limits = limits_of(point.setup, input_tokens=protocol.input_tokens, output_tokens=protocol.output_tokens)
    assert (limits.sequences, limits.tokens) == wanted
    assert protocol.users == limits.sequences * stages
    assert schedule_of(point).step_tokens == limits.tokens * stages


def test_without_a_server_a_sequence_costs_the_host_less_but_not_over_stages() -> None:
    served, offline, staged = (
        prior_of(point_of({**ROW, "engine": "trtllm", **change}, name="row").setup).sequence
        for change in ({}, {"load": "offline"}, {"load": "offline", "pp": "4"})
    )
    assert offline < served
    assert staged == served


WAITING = [
    pytest.param(Schedule(step_tokens=512, gather=20, enough=10_000), id="prompts wait for others"),
    pytest.param(Schedule(step_tokens=512, look=30), id="requests are looked for now and then"),
]


@pytest.mark.parametrize("schedule", WAITING)
def test_a_server_that_takes_prompts_up_late_makes_users_wait_longer(schedule: Schedule) -> None:
    protocol = Protocol(input_tokens=100, output_tokens=200, users=8, requests=80, shortest=0.8)
    usual = simulate_steps(protocol, Schedule(step_tokens=512), cache_tokens=1e9)
    late = simulate_steps(protocol, schedule, cache_tokens=1e9, merged=False)
    assert 2 < late.waiting.sum() - usual.waiting.sum() < 30
    asked = (late.work.tokens * late.times).sum()
    plain = simulate_steps(protocol, Schedule(step_tokens=512), cache_tokens=1e9, merged=False)
    assert asked == (plain.work.tokens * plain.times).sum(), "no token is lost or read twice"


def test_enough_prompts_do_not_wait_for_more() -> None:
    protocol = Protocol(input_tokens=100, output_tokens=200, users=8, requests=80, shortest=0.8)
    waits = [
        simulate_steps(protocol, Schedule(step_tokens=512, gather=20, enough=enough), cache_tokens=1e9).waiting.sum()
        for enough in (0, 250, 10_000)
    ]
    assert waits[0] < waits[1] < waits[2]
    usual = simulate_steps(protocol, Schedule(step_tokens=512), cache_tokens=1e9)
    assert waits[0] == pytest.approx(usual.waiting.sum())


SCHEDULES = [
    pytest.param({"engine": "trtllm"}, 20, 1, id="TensorRT-LLM on a few devices, short prompts and answers"),
    pytest.param({"engine": "trtllm", "tp": "8"}, 0, 1, id="on eight devices nobody waits"),
    pytest.param({"engine": "trtllm", "osl": "8192"}, 0, 1, id="with long answers nobody waits"),
    pytest.param({"engine": "trtllm", "model": "gpt-oss-120b"}, 0, 1, id="a mixture of experts does not wait"),
    pytest.param({"engine": "sglang", "hardware": "B200"}, 0, 30, id="SGLang on Blackwell"),
    pytest.param({"engine": "sglang", "hardware": "B200", "concurrency": "8"}, 0, 10, id="with few users"),
    pytest.param({"engine": "sglang", "hardware": "B200", "osl": "100"}, 0, 1, id="lengths that no script has"),
    pytest.param({"engine": "sglang"}, 0, 1, id="SGLang elsewhere"),
    pytest.param({}, 0, 1, id="vLLM"),
]


@pytest.mark.parametrize(("change", "gather", "look"), SCHEDULES)
def test_servers_of_published_benchmarks_take_prompts_up_as_their_scripts_say(change, gather, look) -> None:
    schedule = schedule_of(point_of({**ROW, **change}, name="row"))
    assert (schedule.gather, schedule.look) == (gather, look)


def test_a_small_cache_makes_a_queue() -> None:
    protocol = Protocol(input_tokens=100, output_tokens=50, users=8, requests=16)
    roomy, tight = (simulate_steps(protocol, Schedule(step_tokens=512), cache_tokens=room) for room in (1e9, 300.0))
    assert tight.waiting.sum() > 5 * roomy.waiting.sum()


SPLITS = [
    pytest.param({"tp": "8"}, (8, 1, 1, 1), id="plain"),
    pytest.param({"tp": "64", "ep": "8"}, (8, 1, 1, 8), id="devices multiplied by the groups of experts"),
    pytest.param({"tp": "1", "attn_dp": "64", "ep": "8"}, (1, 1, 8, 8), id="the same for copies of the attention"),
    pytest.param({"tp": "8", "ep": "8"}, (8, 1, 1, 8), id="experts on the same devices"),
    pytest.param({"tp": "2", "attn_dp": "2", "ep": "4"}, (2, 1, 1, 2), id="both multiplied"),
    pytest.param({"tp": "1", "pp": "4"}, (1, 4, 1, 1), id="stages"),
]


@pytest.mark.parametrize(("row", "wanted"), SPLITS)
def test_a_row_says_how_the_model_was_spread(row: dict[str, str], wanted: tuple[int, ...]) -> None:
    split = split_of(row, "row")
    assert (split.tensor, split.pipeline, split.attention_copies, split.experts) == wanted


def test_names_of_tables_and_vendors_are_understood() -> None:
    assert match_hardware("NVIDIA H100 80GB HBM3").name == "h100-sxm"
    assert match_hardware("Tesla T4").name == "t4"
    assert match_hardware("NVIDIA H100-SXM-80GB").name == "h100-sxm"
    assert match_hardware("H200").name == "h200-sxm"
    assert match_model("meta-llama/Llama-3.1-70B-Instruct-FP8")[0].name == "llama-3.1-70b"
    shape, assumed = match_model("Qwen3-28B")
    assert shape.parameters == 28_000_000_000
    assert "qwen3-32b" in assumed


RELATIVES = [
    pytest.param("mistralai/Mixtral-8x7B-Instruct-v0.1", 46_700_000_000, "", id="the model itself, by its long name"),
    pytest.param("DeepSeek-V3.1", 671_000_000_000, "shape of deepseek-v3", id="a later version"),
    pytest.param("moonshotai/Kimi-K2-Instruct", 1_029_000_000_000, "shape of kimi-k2.5", id="an earlier version"),
    pytest.param("Phi-3.5-mini-instruct", 3_800_000_000, "shape of phi-3-mini", id="a later version of a small one"),
    pytest.param("DeepSeek-R1-Distill-Qwen-32B", 32_000_000_000, "shape of qwen-32b", id="a distilled one"),
    pytest.param("Yi-34B", 34_000_000_000, "shape of qwen2.5-32b scaled: its family is not", id="another family"),
    pytest.param("Aya-80B-A10B", 80_000_000_000, "its family is not in the catalogue", id="experts of another family"),
]


@pytest.mark.parametrize(("name", "parameters", "assumed"), RELATIVES)
def test_a_model_that_is_not_in_the_catalogue_borrows_a_shape_and_says_so(name, parameters, assumed) -> None:
    shape, told = match_model(name)
    assert shape.parameters == pytest.approx(parameters, rel=0.03)
    assert told.startswith(assumed) if assumed.startswith("shape") else assumed in told
    if not assumed:
        assert told == ""


@pytest.mark.parametrize("name", ["no-such-model", "tiny-0.0001b", "vast-90000b"])
def test_a_model_that_nothing_resembles_is_not_guessed(name: str) -> None:
    with pytest.raises(NotFound):
        match_model(name)


UNUSABLE = [
    pytest.param({"model": "no-such-model"}, "no-such-model", id="unknown model"),
    pytest.param({"hardware": "abacus"}, "abacus", id="unknown hardware"),
    pytest.param({"isl": "-5"}, "isl is -5", id="negative length"),
    pytest.param({"concurrency": ""}, "concurrency is missing", id="no users"),
    pytest.param({"tp": "many"}, "tp is 'many'", id="not a number"),
    pytest.param({"weights": "fp3"}, "fp3", id="unknown precision"),
]


UNUSABLE += [
    pytest.param({"hardware": " "}, "hardware is missing", id="no hardware"),
    pytest.param({"concurrency": "1e7"}, "more than 100,000 are not simulated", id="more users than one can simulate"),
    pytest.param({"isl": "1e12"}, "more than 10,000,000 are not simulated", id="a prompt that nobody sends"),
    pytest.param({"model": ""}, "model is missing", id="no model"),
    pytest.param({"model": "a" * 5000}, "There is no model", id="a name too long for a file"),
    pytest.param({"model": "nowhere/config.json"}, "There is no file or folder", id="a config.json that is not there"),
]


@pytest.mark.parametrize(("change", "why"), UNUSABLE)
def test_a_row_that_cannot_be_predicted_says_why(change: dict[str, str], why: str) -> None:
    with pytest.raises(RowUnusable, match=why) as refused:
        point_of({**ROW, **change}, name="row 1")
    assert "Known: a" not in str(refused.value), "a hundred such rows would drown in names"


def test_more_users_wait_longer_and_get_more_done_in_all() -> None:
    points = [point_of({**ROW, "concurrency": str(users)}, name=str(users)) for users in (1, 8, 64)]
    told = predict(points)
    assert [one.known for one in told] == ["inside"] * 3
    for figure in ("first_s", "token_s", "tokens_per_second"):
        values = [getattr(one, figure).value for one in told]
        assert values == sorted(values)
    assert all(one.token_s.low < one.token_s.value < one.token_s.high for one in told)


def test_what_was_never_measured_has_a_wider_interval() -> None:
    def width(**change: str) -> float:
        estimate = predict([point_of({**ROW, **change}, name="x")])[0].token_s
        return estimate.high / estimate.low

    inside, hardware, beyond = width(), width(hardware="A100-SXM", weights="bf16"), width(concurrency="2048")
    assert inside < hardware < width(hardware="MI300X"), "on an A100 kernels at least were timed"
    assert width(hardware="MI300X") < width(hardware="MI300X", engine="lmdeploy")
    assert inside < beyond
    assert novelty(point_of({**ROW, "hardware": "MI300X"}, name="x").setup) == "hardware"


def test_the_distance_from_what_was_measured_is_counted_in_doublings() -> None:
    cell = next(cell for cell in shipped().cells if cell.model == "llama-3.1-70b" and cell.hardware == "h100-sxm")
    (_, users), *_ = cell.ranges
    assert doublings_beyond(cell, (4 * users, 1024, 1024, 4)) == pytest.approx(2)
    assert doublings_beyond(cell, (users, 1024, 1024, 4)) == 0


def test_weights_that_do_not_fit_are_said_to() -> None:
    (told,) = predict([point_of({**ROW, "tp": "1", "weights": "bf16"}, name="x")])
    assert "131 GiB of weights do not fit on 1 x h100-sxm" in told.assumed
    assert told.first_s.value < 10, "and no queue is made up for a cache that is not known"


def test_a_bad_row_costs_only_itself(tmp_path: Path) -> None:
    points, out = tmp_path / "points.csv", tmp_path / "out.csv"
    with points.open("w", newline="") as file:
        writer = csv.DictWriter(file, ROW)
        writer.writeheader()
        writer.writerows([ROW, {**ROW, "id": "two", "hardware": "abacus"}, {**ROW, "id": "three", "osl": "64"}])
    done = CliRunner().invoke(app, ["deploy", "predict", "--points", str(points), "--out", str(out)])
    assert done.exit_code == 0, done.output
    rows = read_table(out)
    assert [row["id"] for row in rows] == ["one", "three"]
    for row in rows:
        for figure in ("ttft_ms", "tpot_ms", "output_tok_s"):
            assert float(row[f"{figure}_lo"]) < float(row[figure]) < float(row[f"{figure}_hi"])
    assert "two: There is no hardware 'abacus'" in done.stderr


TABLES = [
    pytest.param("model;hardware;isl;osl;concurrency\nLlama-3.1-8B;H100;1000;100;4\n", id="semicolons"),
    pytest.param("Model,Hardware , ISL,OSL,Concurrency\nLlama-3.1-8B,H100,1000,100,4\n", id="names in capitals"),
    pytest.param("model,hardware,isl,osl,concurrency,note\nconfig.json,H100,1000,100,4,x,y,z\n", id="a config.json"),
    pytest.param("model,hardware,isl,osl,concurrency,tp,pp\nLlama-3.1-8B,L4,1000,100,4\n", id="columns left empty"),
]


@pytest.mark.parametrize("text", TABLES)
def test_odd_but_valid_tables_are_predicted(tmp_path: Path, text: str) -> None:
    (tmp_path / "points.csv").write_text(text)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    rows = predict_table(tmp_path / "points.csv").rows
    assert len(rows) == 1
    assert float(rows[0]["tpot_ms"]) > 0


def test_a_config_that_is_broken_costs_only_its_row(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    rows = ["model,hardware,isl,osl,concurrency", "config.json,H100,1000,100,4", "Llama-3.1-8B,H100,1000,100,4"]
    (tmp_path / "points.csv").write_text("\n".join(rows))
    made = predict_table(tmp_path / "points.csv")
    assert [row["id"] for row in made.rows] == ["row 2"]
    assert "row 1" in made.unusable[0]


def test_a_table_without_a_column_that_every_row_needs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("model,hardware,isl,users\nLlama-3.1-8B,H100,1000,4\n")
    with pytest.raises(FileBroken, match="it has no column osl and no column concurrency"):
        predict_table(tmp_path / "points.csv")


DOUBTS = [
    pytest.param({"engine": "lmdeploy"}, "lmdeploy was not measured", id="an engine that nobody measured"),
    pytest.param({"tp": "3"}, "64 attention heads cannot be split over 3 devices", id="heads that do not divide"),
    pytest.param({"tp": "16"}, "a machine holds 8 x h100-sxm", id="more devices than a machine holds"),
    pytest.param({"isl": "200000"}, "its context is 131,072 tokens", id="longer than the context"),
    pytest.param({}, "", id="nothing odd"),
]


@pytest.mark.parametrize(("change", "told"), DOUBTS)
def test_what_no_engine_was_seen_to_do_is_predicted_and_said(change: dict[str, str], told: str) -> None:
    point = point_of({**ROW, **change}, name="row")
    assert point.assumed.startswith(told) if told else point.assumed == ""
    assert np.isfinite(predict([point])[0].token_s.value)


def test_a_name_that_goes_on_with_another_number_is_another_device() -> None:
    assert match_hardware("L40").name == "l40"
    assert match_hardware("A10").name == "a10"
    assert match_hardware("A100-80GB").name == "a100-sxm"
    with pytest.raises(NotFound):
        match_hardware("L400")


SERVED = [
    pytest.param("llama-3.1-8b", "l4", "vllm", "fp8", "1", id="small, hardware never measured"),
    pytest.param("llama-3.1-70b", "mi300x", "vllm", "fp8", "8", id="another vendor"),
    pytest.param("llama-3.1-8b", "a10", "lmdeploy", "int4", "1", id="an unknown engine in 4 bits"),
    pytest.param("qwen3-0.6b", "b200-sxm", "sglang", "bf16", "1", id="tiny on much"),
    pytest.param("gpt-oss-120b", "b200-sxm", "trtllm", "int4", "4", id="experts"),
    pytest.param("deepseek-r1", "h200-sxm", "sglang", "fp8", "8", id="a latent cache"),
]


@pytest.mark.parametrize(("model", "hardware", "engine", "weights", "devices"), SERVED)
def test_more_users_never_get_their_tokens_or_their_first_one_sooner(model, hardware, engine, weights, devices) -> None:
    place = {"model": model, "hardware": hardware, "engine": engine, "weights": weights, "tp": devices}
    lengths = {"isl": "500", "osl": "200"}
    users = [point_of({**ROW, **place, **lengths, "concurrency": str(2**step)}, name="row") for step in range(9)]
    told = predict(users)
    for few, many in pairwise(told):
        assert many.token_s.value >= 0.99 * few.token_s.value
        assert many.first_s.value >= 0.99 * few.first_s.value
    for one in told:
        for figure in (one.first_s, one.token_s, one.tokens_per_second):
            assert 0 < figure.low <= figure.value <= figure.high < float("inf")


FASTER = [
    pytest.param("l4", "l40s", id="more bandwidth and more speed"),
    pytest.param("mi300x", "mi325x", id="more bandwidth"),
    pytest.param("mi325x", "mi355x", id="a generation on"),
    pytest.param("a100-sxm", "h100-sxm", id="a generation that was measured"),
    pytest.param("h200-sxm", "b200-sxm", id="two that were measured"),
]


@pytest.mark.parametrize("engine", ["vllm", "trtllm", "lmdeploy"])
@pytest.mark.parametrize(("slower", "faster"), FASTER)
def test_faster_hardware_is_not_slower(slower: str, faster: str, engine: str) -> None:
    for load in ({"isl": "500", "osl": "200", "concurrency": "4"}, {"isl": "4000", "osl": "100", "concurrency": "16"}):
        row = {**ROW, "model": "llama-3.1-8b", "engine": engine, "weights": "bf16", "tp": "1", **load}
        slow, fast = predict([point_of({**row, "hardware": name}, name=name) for name in (slower, faster)])
        assert fast.token_s.value < slow.token_s.value
        assert fast.first_s.value < slow.first_s.value


LONG = [
    pytest.param({"isl": "1000000", "osl": "16", "concurrency": "1"}, id="a very long prompt"),
    pytest.param({"isl": "1", "osl": "1", "concurrency": "1"}, id="one token in, one out"),
    pytest.param({"concurrency": "20000", "isl": "10", "osl": "10"}, id="very many users"),
    pytest.param({"model": "llama-3.1-405b", "hardware": "t4", "tp": "1", "osl": "50"}, id="far too small"),
]


@pytest.mark.parametrize("change", LONG)
def test_extremes_give_finite_figures(change: dict[str, str]) -> None:
    told = predict([point_of({**ROW, **change}, name="row")])[0]
    for figure in (told.first_s, told.token_s, told.tokens_per_second):
        assert 0 < figure.low <= figure.value <= figure.high < float("inf")


def test_a_table_without_a_usable_row_ends_with_2(tmp_path: Path) -> None:
    points = tmp_path / "points.csv"
    points.write_text("id,model,hardware,isl,osl,concurrency\n1,nothing,h100,1000,100,4\n")
    assert CliRunner().invoke(app, ["deploy", "predict", "--points", str(points)]).exit_code == 2


def test_the_shipped_calibration_holds_parameters_and_says_where_they_are_from() -> None:
    known = shipped()
    assert known.licence
    assert known.fitted
    assert all(len(values) == 13 for values in known.effects.values())
    assert all(cell.points and cell.source and cell.ranges for cell in known.cells)
    assert len(json.dumps(known.effects)) < 40_000


@pytest.mark.skipif(not SHARED.exists(), reason="the measurements of the development data are not here")
def test_the_shipped_calibration_fits_what_it_was_fitted_on() -> None:
    rows = [row for row in read_table(SHARED / "serving_closed_loop.csv") if row["weights"] != UNRECORDED]
    first, token, rate = np.median(errors_of([point_of(row, name=row["id"]) for row in rows], shipped()), axis=0)
    assert token < 3
    assert first < 10
    assert rate < 3

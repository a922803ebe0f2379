"""Published cost figures come out of our formulas."""

from pathlib import Path

import pytest

from slipway.decide.cases import evaluate_case, read_cases
from slipway.domain.errors import FileBroken, FileMissing
from slipway.models.published import find_published_hardware
from slipway.models.training import SPREAD, pretraining_hours

SHARED = Path(__file__).parents[3] / "shared" / "data" / "economics" / "cases.jsonl"

# Facts with their sources; the inputs stand in the source, the figure is the one it states.
FACTS = [
    pytest.param(
        "api_cost",
        {
            "requests_per_day": 1000,
            "input_tokens": 667,
            "output_tokens": 667,
            "usd_per_1k_input": 0.002,
            "usd_per_1k_output": 0.002,
        },
        2.6,
        0.04,
        id="a thousand documents a day through an API (Vivek 2023)",
    ),
    pytest.param(
        "api_revenue_with_cache",
        {
            "input_tokens": 608e9,
            "cached_input_tokens": 342e9,
            "output_tokens": 168e9,
            "usd_per_m_cached": 0.14,
            "usd_per_m_input": 0.55,
            "usd_per_m_output": 2.19,
        },
        562_027,
        0.01,
        id="a day of DeepSeek at list price (2025-03-01)",
    ),
    pytest.param(
        "gpu_cost",
        {"nodes_mean": 226.75, "gpus_per_node": 8, "usd_per_gpu_hour": 2.0},
        87_072,
        0.001,
        id="its accelerators",
    ),
    pytest.param(
        "break_even", {"usd_per_gpu_hour": 2.5, "usd_per_api_request": 0.004}, 625, 0.001, id="break-even of one device"
    ),
    pytest.param(
        "training_cost",
        {"gpus": 440, "days": 9.5, "usd_per_gpu_hour": 2.0},
        200_000,
        0.15,
        id="training MPT-7B (Databricks)",
    ),
    pytest.param("training_flop", {"active_params": 175e9, "tokens": 300e9}, 3.14e23, 0.01, id="compute of GPT-3"),
    pytest.param("memory_weights", {"params": 70.55e9, "bits": 16}, 131.42, 0.01, id="weights of Llama-3-70B"),
    pytest.param(
        "memory_weights", {"model": "Llama-3-8B", "quant": "Q4_K_M"}, 4.58, 0.02, id="Llama-3-8B in four bits"
    ),
    pytest.param("memory_kv", {"model": "Llama-3.1-405B"}, 516_096, 0.001, id="cache of a token of Llama-3.1-405B"),
    pytest.param(
        "price_trend",
        {"usd_per_m_start": 60, "usd_per_m_end": 0.06, "years": 3},
        10,
        0.01,
        id="prices fall tenfold a year",
    ),
]


@pytest.mark.parametrize(("kind", "inputs", "published", "tolerance"), FACTS)
def test_a_published_figure_is_reproduced(
    kind: str, inputs: dict[str, float], published: float, tolerance: float
) -> None:
    outcome = evaluate_case(
        {"id": "x", "kind": kind, "inputs": inputs, "expected": published, "tolerance_rel": tolerance}
    )
    assert outcome.within, f"{outcome.ours} against {published}"


def test_a_figure_outside_its_tolerance_is_reported() -> None:
    case = {"id": "x", "kind": "gpu_cost", "inputs": {"nodes_mean": 1, "gpus_per_node": 1, "usd_per_gpu_hour": 1}}
    assert evaluate_case({**case, "expected": 30, "tolerance_rel": 0.1}).within is False


def test_a_kind_without_formula_is_skipped_with_a_reason() -> None:
    outcome = evaluate_case({"id": "x", "kind": "weather", "inputs": {}, "expected": 1})
    assert outcome.within is None
    assert "no formula" in outcome.reason


def test_shares_of_development_count_the_people() -> None:
    published = {"hardware": [0.47, 0.67], "staff": [0.29, 0.49], "energy": [0.02, 0.06]}  # Epoch AI 2024
    case = {"id": "x", "kind": "cost_shares", "inputs": {}, "expected": published, "tolerance_rel": "range"}
    assert evaluate_case(case).within
    ours = evaluate_case(case).ours
    assert isinstance(ours, dict)
    assert ours["staff"] + ours["hardware"] + ours["energy"] == pytest.approx(1)
    assert ours["chips"] + ours["servers"] + ours["network"] == pytest.approx(ours["hardware"])


def test_dated_rents_of_a_seller_are_found_by_the_words_of_the_question() -> None:
    question = "AWS 8xA100-40GB per GPU hour: on demand, 1 y, 3 y"
    case = {"id": "x", "kind": "gpu_price", "question": question, "inputs": {"date": "2025-03-02"}}
    assert evaluate_case({**case, "expected": [4.1, 2.4, 1.45], "tolerance_rel": 0.01}).within
    assert evaluate_case({**case, "expected": [4.1, 2.4, 1.9], "tolerance_rel": 0.01}).within is False


RENTS = [
    pytest.param(
        "GCP H100 SXM: on demand, 1 y, 3 y", {"date": "2025-03"}, [11.06, 7.67, 4.86], "", id="a month for a day"
    ),
    pytest.param("H100 SXM, RunPod to GCP", {"date": "2025-03-17"}, [2.99, 11.06], "", id="two sellers"),
    pytest.param("H100 SXM between RunPod and GCP", {}, 3.7, "x", id="how far two sellers are apart"),
    pytest.param("street price, purchase", {"gpu": "H100 SXM"}, 28750, "USD", id="buying one"),
    pytest.param("an hour", {"gpu": "A100-80GB", "vendor": "azure"}, 3.67, "USD", id="one seller by a key"),
]


@pytest.mark.parametrize(("question", "inputs", "published", "unit"), RENTS)
def test_rents_are_found_as_they_are_asked_for(
    question: str, inputs: dict[str, object], published: object, unit: str
) -> None:
    case = {"id": "x", "kind": "gpu_price", "question": question, "inputs": inputs, "unit": unit}
    outcome = evaluate_case({**case, "expected": published, "tolerance_rel": 0.01})
    assert outcome.within, outcome


def test_runs_on_chips_that_nobody_serves_on_are_reckoned_too() -> None:
    # PaLM 540B: 780 billion tokens, 6,144 TPU v4 for about 1,200 hours and 3,072 for 336 (PaLM paper, 2022).
    hours = pretraining_hours(540e9, 780e9, find_published_hardware("TPU v4"))
    assert 1 / SPREAD <= hours / 8.4e6 <= SPREAD


def test_a_published_measurement_is_said_to_be_one_and_the_estimate_stands_beside_it() -> None:
    limits = {"server_ttft_p99_s": 2, "server_tpot_p99_ms": 200}
    case = {"id": "x", "kind": "serving_gpu_sizes", "question": "Llama-2-70B on 8xH200, MLPerf v5.1", "inputs": limits}
    outcome = evaluate_case({**case, "expected": [33161, 34194], "tolerance_rel": "range"})
    assert outcome.within
    assert "published measurement, not a formula; the roofline gives" in outcome.reason


def case_of(kind: str, unit: str, inputs: dict[str, object]) -> object:
    return evaluate_case({"id": "x", "kind": kind, "unit": unit, "inputs": inputs, "expected": 1}).ours


A_PRICE = {"usd_per_m_input": 2, "usd_per_m_output": 2}
WRITTEN_OTHERWISE = [
    pytest.param("api_cost", "USD/month", {"requests_per_day": 10, "input_tokens": 1e6, **A_PRICE}, 608.75, id="month"),
    pytest.param("api_cost", "USD", {"requests": 10, "input_tokens": 1e6, **A_PRICE}, 20, id="so many requests"),
    pytest.param("api_cost", "USD", {"input_tokens": 1e6, "usd_per_1k_tokens": 0.002}, 2, id="one price for all"),
    pytest.param("gpu_cost", "USD/year", {"gpus": 1, "usd_per_gpu_hour": 2}, 17532, id="a device for a year"),
    pytest.param("price_trend", "x per year", {"usd_start": 100, "usd_end": 1, "months": 24}, 10, id="months"),
    pytest.param(
        "break_even", "requests/day", {"gpus": 2, "usd_per_gpu_hour": 2, "usd_per_api_request": 0.01}, 9600, id="a day"
    ),
    pytest.param("break_even", "M tokens/day", {"usd_per_gpu_hour": 2, "usd_per_m_tokens": 1}, 48, id="tokens"),
    pytest.param(
        "on_prem_break_even", "months", {"capex_usd": 73050, "cloud_usd_per_hour": 10}, 10, id="months of own machines"
    ),
    pytest.param("training_cost", "USD", {"gpus": 8, "hours": 10, "usd_per_gpu_hour": 2}, 160, id="hours of training"),
    pytest.param("memory_weights", "GiB", {"model": "Llama-3-70B", "quant": "Q4_K_M"}, 39.55, id="70B in four bits"),
    pytest.param("memory_weights", "GB", {"params": 7e9, "bits": 16}, 14, id="decimal gigabytes"),
    pytest.param("memory_kv", "bytes/token", {"model": "DeepSeek-V3"}, 70272, id="latent attention"),
    pytest.param(
        "memory_kv", "bytes/token", {"layers": 126, "kv_heads": 8, "head_dim": 128}, 516096, id="shape instead of name"
    ),
    pytest.param("memory_finetune", "GB", {"params": 175e9, "method": "lora"}, 355.6, id="adapter on 175B"),
    pytest.param("memory_finetune", "GB", {"params": 7.5e9, "bytes_per_param": 16}, 120, id="ZeRO's 16 bytes"),
    pytest.param("finetune_api", "USD", {"training_tokens": 1e6, "usd_per_m_training": 25}, 25, id="a million tokens"),
    pytest.param("batch_discount", "factor", {"provider": "Anthropic"}, 0.5, id="another provider"),
    pytest.param("training_flop", "FLOP", {"params": 540e9, "tokens": 780e9}, 2.5272e24, id="compute of PaLM"),
]


@pytest.mark.parametrize(("kind", "unit", "inputs", "ours"), WRITTEN_OTHERWISE)
def test_the_unit_and_the_spelling_of_a_publication_are_understood(
    kind: str, unit: str, inputs: dict[str, object], ours: float
) -> None:
    assert case_of(kind, unit, inputs) == pytest.approx(ours, rel=1e-3)


BAD = [
    pytest.param({"kind": "gpu_cost", "inputs": {"gpus": 3}, "expected": 1}, "lack usd_per_gpu_hour", id="no price"),
    pytest.param({"kind": "gpu_cost", "inputs": [], "expected": 1}, "no table", id="inputs that are a list"),
    pytest.param({"kind": "gpu_cost", "inputs": {}}, "lacks expected", id="nothing to compare with"),
    pytest.param({"inputs": {}, "expected": 1}, "lacks kind", id="no kind"),
    pytest.param(
        {"kind": "training_cost", "inputs": {"gpu_hours": "many"}, "expected": 1}, "is no number", id="words"
    ),
    pytest.param(
        {"kind": "training_cost", "inputs": {"gpu_hours": -1}, "expected": 1}, "below zero", id="negative hours"
    ),
    pytest.param(
        {"kind": "memory_kv", "inputs": {"model": "nobody-7b"}, "expected": 1}, "no model 'nobody-7b'", id="model"
    ),
    pytest.param({"kind": "batch_discount", "inputs": {"provider": "x"}, "expected": 1}, "batch price", id="provider"),
    pytest.param({"kind": "gpu_costs", "inputs": {}, "expected": 1}, "Did you mean 'gpu_cost'", id="misspelt kind"),
    pytest.param(
        {"kind": "on_prem_break_even", "inputs": {"capex_usd": 1, "on_prem_usd_per_hour": 2, "cloud_usd_per_hour": 1},
         "expected": 1},
        "no break-even",
        id="the cloud is cheaper for good",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("case", "reason"), BAD)
def test_a_case_that_cannot_be_computed_says_why_and_the_next_one_goes_on(case: dict[str, object], reason: str) -> None:
    outcome = evaluate_case(case)
    assert outcome.within is None
    assert reason in outcome.reason


def test_published_hours_of_training_are_met_within_a_factor() -> None:
    # Model cards and papers: GPT-NeoX-20B, Llama-3-70B, BLOOM-176B, Pythia-6.9B.
    for accelerator, parameters, tokens, published in (
        ("A100-SXM4-40GB", 20.6e9, 472e9, 175_680),
        ("H100-SXM-80GB", 70.55e9, 15e12, 6_400_000),
        ("A100-SXM4-80GB", 176.2e9, 366e9, 1_082_990),
        ("A100-SXM4-40GB", 6.86e9, 300e9, 33_500),
        ("H100-SXM-80GB", 8.1e9, 12e12, 832_102),
    ):
        hours = pretraining_hours(parameters, tokens, find_published_hardware(accelerator))
        assert 1 / SPREAD <= hours / published <= SPREAD


@pytest.mark.skipif(not SHARED.exists(), reason="the published cases of the development data are not here")
def test_every_case_within_reach_is_within_its_tolerance() -> None:
    outcomes = [evaluate_case(case) for case in read_cases(SHARED)]
    assert [one.id for one in outcomes if one.within is False] == []
    assert sum(one.within is True for one in outcomes) == 22


def test_broken_files_of_cases_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        read_cases(tmp_path / "none.jsonl")
    (tmp_path / "bad.jsonl").write_text('{"id": "a"}\n{"id": ')
    with pytest.raises(FileBroken, match="line 2 is no JSON"):
        read_cases(tmp_path / "bad.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(FileBroken, match="no case"):
        read_cases(tmp_path / "empty.jsonl")

"""Published cost figures come out of our formulas."""

from pathlib import Path

import pytest

from slipway.decide.cases import evaluate_case, read_cases
from slipway.domain.errors import FileBroken, FileMissing

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
    outcome = evaluate_case({"id": "x", "kind": "cost_shares", "inputs": {}, "expected": 1})
    assert outcome.within is None
    assert "no formula" in outcome.reason


@pytest.mark.skipif(not SHARED.exists(), reason="the published cases of the development data are not here")
def test_every_case_within_reach_is_within_its_tolerance() -> None:
    outcomes = [evaluate_case(case) for case in read_cases(SHARED)]
    assert [one.id for one in outcomes if one.within is False] == []
    assert sum(one.within is True for one in outcomes) >= 19


def test_broken_files_of_cases_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        read_cases(tmp_path / "none.jsonl")
    (tmp_path / "bad.jsonl").write_text('{"id": "a"}\n')
    with pytest.raises(FileBroken, match="line 1 lacks"):
        read_cases(tmp_path / "bad.jsonl")

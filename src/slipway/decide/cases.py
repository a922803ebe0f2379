"""Published cost figures, reproduced by our own formulas: how far off are they?"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from math import prod
from pathlib import Path
from typing import Any

from slipway.decide.assumptions import Assumptions
from slipway.decide.costs import (
    BATCH_FACTOR,
    DAYS_A_MONTH,
    api_cost,
    break_even_per_hour,
    device_cost,
    own_break_even_hours,
    own_monthly,
    yearly_factor,
)
from slipway.domain.errors import FileBroken, FileMissing
from slipway.domain.model import Price
from slipway.models.architectures import find_model
from slipway.models.hardware import find_hardware, purchase_of, rent_of
from slipway.models.memory import kv_bytes_per_token, weights_gib
from slipway.models.sizing import HOURS_A_MONTH
from slipway.models.training import training_flop, training_hours

FULL_TUNING_BYTES = 12.0
"""Bytes a parameter of full 16-bit fine-tuning at the least: weights, gradients, Adam's two moments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseOutcome:
    """One published figure beside ours. `within` is None where our formulas do not cover the kind of figure."""

    id: str
    kind: str
    question: str
    unit: str
    published: str
    ours: float | None
    within: bool | None
    reason: str = ""


def read_cases(path: Path) -> list[dict[str, Any]]:
    """Cases from JSONL: id, kind, inputs, expected (number or [low, high]), unit, tolerance_rel, source.

    Raises `FileMissing`, or `FileBroken` with the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileMissing(path) from None
    except (OSError, UnicodeDecodeError) as wrong:
        raise FileBroken(path, str(wrong)) from wrong
    cases = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            case = json.loads(line)
        except ValueError as wrong:
            raise FileBroken(path, f"line {number} is no JSON ({wrong})") from wrong
        if not isinstance(case, dict) or not {"id", "kind", "inputs", "expected"} <= case.keys():
            raise FileBroken(path, f"line {number} lacks one of id, kind, inputs, expected")
        cases.append(case)
    return cases


def evaluate_case(case: Mapping[str, Any]) -> CaseOutcome:
    """Our figure for one published case, and whether it lies within the tolerance."""
    formula = FORMULAS.get(case["kind"])
    expected = case["expected"]
    ours: float | None = None
    within: bool | None = None
    reason = ""
    if formula is None:
        reason = f"no formula for '{case['kind']}'"
    else:
        try:
            ours = formula(case["inputs"])
        except (KeyError, TypeError, ZeroDivisionError) as wrong:
            reason = f"its inputs do not fit the formula ({wrong!r})"
        else:
            within = _within(ours, expected, case.get("tolerance_rel", 0.05))
    return CaseOutcome(
        id=str(case["id"]),
        kind=case["kind"],
        question=case.get("question", ""),
        unit=case.get("unit", ""),
        published=json.dumps(expected),
        ours=ours,
        within=within,
        reason=reason,
    )


def _within(ours: float, expected: Any, tolerance: float | str) -> bool:
    match tolerance:
        case "range":
            return bool(expected[0] <= ours <= expected[1])
        case "min":
            return bool(ours >= expected)
        case "max":
            return bool(ours <= expected)
        case _:
            return bool(abs(ours - expected) <= float(tolerance) * abs(expected))


def _api(inputs: Mapping[str, Any]) -> float:
    price = Price(
        input_per_million=inputs["usd_per_1k_input"] * 1e3,
        output_per_million=inputs["usd_per_1k_output"] * 1e3,
        source="case",
        as_of=date.min,
    )
    return api_cost(inputs["requests_per_day"], inputs["input_tokens"], inputs["output_tokens"], price)


def _api_cost(inputs: Mapping[str, Any]) -> float:
    """A day's cost; a year's for a million requests a day or more, as the source states it."""
    return _api(inputs) * (1 if inputs["requests_per_day"] < 1e6 else 12 * DAYS_A_MONTH)


def _cached(inputs: Mapping[str, Any]) -> float:
    price = Price(
        input_per_million=inputs["usd_per_m_input"],
        output_per_million=inputs["usd_per_m_output"],
        cached_input_per_million=inputs["usd_per_m_cached"],
        source="case",
        as_of=date.min,
    )
    share = inputs["cached_input_tokens"] / inputs["input_tokens"]
    return api_cost(1, inputs["input_tokens"], inputs["output_tokens"], price, cached_share=share)


def _training_cost(inputs: Mapping[str, Any]) -> float:
    hours = inputs.get("gpu_hours") or prod((inputs["gpus"], inputs["days"], 24))
    return device_cost(1, hours, inputs["usd_per_gpu_hour"])


def _run_cost(inputs: Mapping[str, Any]) -> float:
    """A whole run by 6ND at the share of speed that runs reach, on own machines written off over three years."""
    given = Assumptions()
    hardware = find_hardware(_hardware(inputs["gpu"]))
    bought = purchase_of(hardware.name)
    hours = training_hours(training_flop(inputs["active_params"], inputs["tokens"]), hardware)
    monthly = (bought.purchase or 0.0 if bought else 0.0) * given.rack_factor / 36
    monthly += own_monthly(
        1, watts=hardware.watts, pue=given.pue, kwh=given.kwh, kw_space=given.kw_space, hours=HOURS_A_MONTH
    )
    return device_cost(1, hours, monthly / HOURS_A_MONTH)


def _finetune_cost(inputs: Mapping[str, Any]) -> float:
    rent = rent_of(_hardware(inputs["gpu"]))
    return device_cost(inputs["gpus"], inputs["hours"], rent.hourly if rent else 0.0)


def _weights(inputs: Mapping[str, Any]) -> float:
    parameters = inputs.get("params") or find_model(inputs["model"]).parameters
    bits = inputs.get("bits")
    return weights_gib(parameters * (bits / 16 if bits else 1), "f16" if bits else str(inputs["quant"]).lower())


def _hardware(published: str) -> str:
    return published.lower().removesuffix("-80gb").removesuffix("-40gb").removesuffix("-sxm4") + "-sxm"


FORMULAS: dict[str, Callable[[Mapping[str, Any]], float]] = {
    "api_cost": _api_cost,
    "api_revenue_with_cache": _cached,
    "gpu_cost": lambda i: device_cost(i["nodes_mean"] * i["gpus_per_node"], 24, i["usd_per_gpu_hour"]),
    "price_trend": lambda i: yearly_factor(i["usd_per_m_start"], i["usd_per_m_end"], i["years"]),
    "break_even": lambda i: break_even_per_hour(i["usd_per_gpu_hour"], i["usd_per_api_request"]),
    "on_prem_break_even": lambda i: (
        own_break_even_hours(i["capex_usd"], i["on_prem_usd_per_hour"], i["cloud_usd_per_hour"]) or float("inf")
    ),
    "training_cost": _training_cost,
    "training_cost_range": _run_cost,
    "training_flop": lambda i: training_flop(i["active_params"], i["tokens"]),
    "memory_weights": _weights,
    "memory_kv": lambda i: kv_bytes_per_token(find_model(i["model"])),
    "memory_finetune": lambda i: i["params"] * FULL_TUNING_BYTES / 1e9,
    "finetune_api": lambda i: i["training_file_tokens"] * i["epochs"] * i["usd_per_1k"] / 1e3,
    "finetune_cost": _finetune_cost,
    "batch_discount": lambda _: BATCH_FACTOR,
}

"""Replicas planned on one part of a trace, held against what the next part of the same length needs.

    .venv/bin/python benchmarks/deploy/later.py

Two models on H100 and L40S, each with two limits, over every half, third, quarter and sixth of the public traces that
another one follows, and over those that begin half a part later; then over the halves of made traffic of six kinds, on
which nothing was chosen. `count` is what the planned part needs, `later` what `slipway deploy replicas` says that later
traffic may need.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from slipway.deploy.later import count_for_later
from slipway.deploy.replicas import Limits, fewest_for
from slipway.deploy.simulation import Engine, engine_of
from slipway.deploy.traffic import Traffic, read_traffic
from slipway.models.architectures import find_model
from slipway.models.calibrations import Setup
from slipway.models.hardware import find_hardware
from slipway.models.roofline import Split

sys.path.insert(0, str(Path(__file__).parents[1]))
from machine import Figure, print_table

SHARED = Path(__file__).parents[3] / "shared" / "data" / "workloads"
PARTS = (2, 3, 4, 6)
FEWEST_REQUESTS = 40


class Case(NamedTuple):
    """A trace at a rate, and the limits that it is planned for."""

    file: str
    per_second: float
    limits: tuple[Limits, ...]


CASES = {
    "conversation": Case(
        "azure2023_conv_first60pct.csv",
        40.0,
        (Limits(first_s=1.0, token_s=0.05), Limits(first_s=0.5, token_s=0.03)),
    ),
    "code": Case("azure2023_code_first60pct.csv", 40.0, (Limits(first_s=1.0, token_s=0.05), Limits(first_s=2.0))),
    "long prompts": Case("mooncake_conversation_first_half.jsonl", 3.0, (Limits(first_s=15.0, token_s=0.1),)),
}
SETUPS = (
    Setup(
        shape=find_model("llama-3.1-70b"),
        hardware=find_hardware("h100-sxm"),
        engine="vllm",
        precision="fp8",
        split=Split(tensor=4),
    ),
    Setup(
        shape=find_model("llama-3.1-8b"),
        hardware=find_hardware("l40s"),
        engine="vllm",
        precision="fp8",
        split=Split(tensor=1),
    ),
)


def pairs(traffic: Traffic) -> Iterator[tuple[Traffic, Traffic]]:
    """A part and the next, of equal time."""
    for parts in PARTS:
        for shift in range(2 * parts - 3):
            edges = traffic.span_s / parts * (shift / 2 + np.arange(3))
            begin, middle, end = (int(each) for each in np.searchsorted(traffic.arrival_s, edges))
            if min(middle - begin, end - middle) >= FEWEST_REQUESTS:
                yield traffic.part(begin, middle), traffic.part(middle, end)


def compare(seen: Traffic, unseen: Traffic, engine: Engine, limits: Limits) -> tuple[int, int, int] | None:
    """(count, later, needed) of a pair; None where no number holds one of its parts."""
    found, needed = (fewest_for(part, engine, limits) for part in (seen, unseen))
    if found is None or needed is None:
        return None
    return found, count_for_later(seen, engine, limits, found).replicas, needed


MADE_S, STEP_S, PER_SECOND, SEEDS = 3600, 10.0, 60.0, 20
MADE = ("even", "wandering", "drifting", "switching", "bursts", "growing")


def made(kind: str, drawn: np.random.Generator) -> Traffic:
    """An hour of requests whose rate varies in one way, with two kinds of prompts whose shares vary too."""
    steps = int(MADE_S / STEP_S)
    noise = drawn.normal(size=steps)
    match kind:
        case "wandering":
            level = np.zeros(steps)
            for step in range(1, steps):
                level[step] = 0.95 * level[step - 1] + 0.15 * noise[step]
        case "drifting":
            level = np.cumsum(0.03 * noise)
        case "switching":
            level = np.log(3.0) * (np.cumsum(drawn.random(steps) < 0.02) % 2)
        case "bursts":
            level = np.log(0.6 + 8.0 * (drawn.random(steps) < 0.05))
        case "growing":
            level = np.linspace(-0.5, 0.5, steps) + 0.1 * noise
        case _:
            level = np.zeros(steps)
    counts = drawn.poisson(PER_SECOND * np.exp(level) * STEP_S)
    arrival = np.sort(np.repeat(np.arange(steps) * STEP_S, counts) + STEP_S * drawn.random(counts.sum()))
    long = drawn.random(len(arrival)) < 0.3 + 0.2 * np.sin(18 * drawn.random() * arrival / MADE_S)
    asked = np.where(long, drawn.lognormal(7.5, 0.4, len(arrival)), drawn.lognormal(5.5, 0.7, len(arrival)))
    said = drawn.lognormal(4.8, 0.6, len(arrival))
    tokens = (np.maximum(1, each.astype(np.int64)) for each in (asked, said))
    return Traffic(arrival - arrival[0], *tokens)


def halves_of_made() -> Iterator[tuple[Traffic, Traffic]]:
    for kind in MADE:
        for seed in range(SEEDS):
            traffic = made(kind, np.random.default_rng(seed))
            middle = int(np.searchsorted(traffic.arrival_s, traffic.span_s / 2))
            yield traffic.part(0, middle), traffic.part(middle, len(traffic))


def figures_of(name: str, told: Sequence[tuple[int, int, int]]) -> Iterator[Figure]:
    found, later, needed = np.array(told).T
    for what, said in (("count", found), ("later", later)):
        low = 100.0 * float(np.mean(needed - said > 1))
        note = (
            f"of {len(told)}; mean of {what} / needed {np.mean(said / needed):.2f}, "
            f"worst needed / {what} {np.max(needed / said):.2f}"
        )
        yield Figure(f"{name}: {what} too low by more than one", low, "%", None, note)


def main() -> int:
    if not SHARED.exists():
        sys.exit(f"skipped: the traces are not in {SHARED}")
    figures: list[Figure] = []
    for name, case in CASES.items():
        whole = read_traffic(SHARED / case.file).at_rate(case.per_second)
        told = [
            compared
            for setup in SETUPS
            for limits in case.limits
            for seen, unseen in pairs(whole)
            if (compared := compare(seen, unseen, engine_of(setup, mean_tokens=seen.mean_tokens), limits))
        ]
        figures += figures_of(name, told)
    limits = Limits(first_s=0.5, token_s=0.05)
    told = [
        compared
        for seen, unseen in halves_of_made()
        if (compared := compare(seen, unseen, engine_of(SETUPS[1], mean_tokens=seen.mean_tokens), limits))
    ]
    figures += figures_of("made", told)
    return print_table("Replicas for later traffic", figures)


if __name__ == "__main__":
    sys.exit(main())

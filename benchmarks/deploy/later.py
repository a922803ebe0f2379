"""Replicas planned on one part of a trace, held against what the next part needs.

    .venv/bin/python benchmarks/deploy/later.py

Llama-3.1-70B in 8 bits on 4 x H100 at 40 requests a second over the whole trace, three cuts, two limits. `count` is
what the planned part needs, `later` what `slipway deploy replicas` says later traffic may need.
"""

from __future__ import annotations

import sys
from pathlib import Path

from slipway.deploy.later import count_for_later
from slipway.deploy.replicas import Limits, count_replicas
from slipway.deploy.simulation import engine_of
from slipway.deploy.traffic import read_traffic
from slipway.models.architectures import find_model
from slipway.models.calibrations import Setup
from slipway.models.hardware import find_hardware
from slipway.models.roofline import Split

sys.path.insert(0, str(Path(__file__).parents[1]))
from machine import Figure, print_table

SHARED = Path(__file__).parents[3] / "shared" / "data" / "workloads"
TRACES = {"conversation": "azure2023_conv_first60pct.csv", "code": "azure2023_code_first60pct.csv"}
CUTS = ((0.0, 0.5, 1.0), (0.0, 0.33, 0.66), (0.33, 0.66, 1.0))
LIMITS = (Limits(first_s=1.0, token_s=0.05), Limits(first_s=0.5, token_s=0.03))
RATE = 40.0


def main() -> int:
    if not SHARED.exists():
        sys.exit(f"skipped: the traces are not in {SHARED}")
    setup = Setup(
        shape=find_model("llama-3.1-70b"),
        hardware=find_hardware("h100-sxm"),
        engine="vllm",
        precision="fp8",
        split=Split(tensor=4),
    )
    figures = []
    for name, file in TRACES.items():
        whole = read_traffic(SHARED / file).at_rate(RATE)
        short: dict[str, list[int]] = {"count": [], "later": []}
        told = []
        for limits in LIMITS:
            for begin, middle, end in CUTS:
                seen = whole.part(int(begin * len(whole)), int(middle * len(whole)))
                unseen = whole.part(int(middle * len(whole)), int(end * len(whole)))
                engine = engine_of(setup, mean_tokens=seen.mean_tokens)
                found = count_replicas(seen, engine, limits).replicas
                later = count_for_later(seen, engine, limits, found)
                needed = count_replicas(unseen, engine, limits).replicas
                short["count"].append(max(0, needed - found))
                short["later"].append(max(0, needed - later))
                told.append(f"{found}/{later}/{needed}")
        for what, missing in short.items():
            cases = sum(each > 1 for each in missing)
            note = f"of {len(missing)}; count/later/needed: {', '.join(told)}" if what == "later" else ""
            figures.append(Figure(f"{name}: {what} too low by more than one", float(cases), "cases", None, note))
    return print_table("Replicas for later traffic", figures)


if __name__ == "__main__":
    sys.exit(main())

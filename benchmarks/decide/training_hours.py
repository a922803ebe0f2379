"""Claim: GPU hours of published training runs are predicted within 1.5x for 80 %; beside it what papers' 45 % gives."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from machine import Figure, print_table

from slipway.models.published import find_published_hardware
from slipway.models.training import SPREAD, pretraining_hours, training_flop, training_hours

RUNS = Path(__file__).parents[3] / "shared" / "data" / "economics" / "training_runs.csv"
PAPER_SHARE = 0.45
"""Share of peak speed that papers quote for their best hours: the usual rule of thumb, our rival."""


def main() -> int:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    if not path.exists():
        print(f"Skipped: {path} is not here. Name a CSV with model, active_params, tokens, hardware, gpu_hours.")
        return 0
    ours, rule = [], []
    with path.open(newline="", encoding="utf-8") as lines:
        for run in csv.DictReader(lines):
            hardware = find_published_hardware(run["hardware"])
            parameters, tokens, published = (float(run[key]) for key in ("active_params", "tokens", "gpu_hours"))
            ours.append(pretraining_hours(parameters, tokens, hardware) / published)
            flop = training_flop(parameters, tokens)
            rule.append(training_hours(flop, hardware, share=PAPER_SHARE) / published)
            mark = "" if within(ours[-1]) else "  outside"
            print(f"{run['model']:18} {run['hardware']:16} predicted / published {ours[-1]:.2f}{mark}")
    print()
    return print_table(
        "GPU hours of published training runs",
        [
            Figure("runs", len(ours), ""),
            Figure("outside 1.5x, 6ND at what whole runs reach", outside(ours), "%", 20),
            Figure("outside 1.5x, 6ND at 45 % of peak", outside(rule), "%", note="what papers quote"),
            Figure("median predicted / published, ours", median(ours), "", note=f"at 45 %: {median(rule):.2f}"),
        ],
    )


def within(ratio: float) -> bool:
    return 1 / SPREAD <= ratio <= SPREAD


def outside(ratios: list[float]) -> float:
    return 100 * sum(not within(one) for one in ratios) / len(ratios)


if __name__ == "__main__":
    raise SystemExit(main())

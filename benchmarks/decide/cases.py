"""Claim: published cost figures come out of our formulas, every case within its own tolerance; prints the misses."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from machine import Figure, print_table

from slipway.decide.cases import evaluate_case, read_cases

CASES = Path(__file__).parents[3] / "shared" / "data" / "economics" / "cases.jsonl"


def main() -> int:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else CASES
    if not path.exists():
        print(f"Skipped: {path} is not here. Name a JSONL of cases.")
        return 0
    outcomes = [evaluate_case(case) for case in read_cases(path)]
    for one in outcomes:
        if not one.within:
            word = "outside" if one.within is False else "skipped"
            print(f"{word} {one.id} ({one.kind}): published {one.published} {one.unit}, ours {one.ours} {one.reason}")
    looked_up = sum("not a formula" in one.reason for one in outcomes)
    return print_table(
        "Published cost figures",
        [
            Figure("cases", len(outcomes), "", note=f"{looked_up} of them looked up: a measurement that is published"),
            Figure("outside their tolerance", sum(one.within is False for one in outcomes), "", 0),
            Figure("without a figure of ours", sum(one.within is None for one in outcomes), "", 0),
            Figure(
                "largest deviation of a single figure",
                max((abs(one.off) for one in outcomes if one.off is not None and one.within), default=0.0) * 100,
                "%",
                note="limits from one side included",
            ),
        ],
    )


if __name__ == "__main__":
    raise SystemExit(main())

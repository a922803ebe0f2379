"""Fits what products of matrices reach of the data sheet, for each kind of hardware whose kernels were timed.

    .venv/bin/python benchmarks/deploy/fit_kernels.py

A product of m x k by k x n takes start + smoothmax(bytes / (bandwidth x b), 2 m n k / (speed x c)), where c grows with
m, n and k as in the roofline. `b` and `c` are the efficiencies of `models/data/hardware.json`; the start belongs to the
roofline's time of a layer. Printed beside the catalogue's; fails where they are more than 0.03 apart.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from leave_out import SHARED
from numpy.typing import NDArray

from slipway.deploy.points import match_hardware, read_table
from slipway.domain.hardware import Precision
from slipway.models.memory import BITS
from slipway.models.roofline import GROWTH, SHARPNESS, WIDE

sys.path.insert(0, str(Path(__file__).parents[1]))
from machine import Figure, print_table

FORMATS: dict[str, Precision] = {
    "bfloat16": "bf16",
    "fp8": "fp8",
    "fp8_block": "fp8",
    "nvfp4": "int4",
    "int4_wo": "int4",
    "int8_wo": "int4",
}
WEIGHTS_ONLY = {"int4_wo": 4.5, "int8_wo": 8.0}
"""Bits of formats whose products are in 16 bits. Where no 4-bit product was timed, the 8-bit ones stand for it: both
unpack weights before they multiply."""
EAGER_S = 50e-6
"""A longer start is the launch from Python: such timings (fp8 in blocks with vLLM) say nothing about a served model."""
MOST_APART = 0.03
BY_ROWS, BY_COLUMNS = 2 / 3, 1 / 3
"""How the growth with a model's width is shared between n and k of its products."""


class Efficiency(NamedTuple):
    start_s: float
    bandwidth: float
    compute: float


def main() -> int:
    found: dict[tuple[str, Precision], list[Efficiency]] = defaultdict(list)
    fitted_sets = list(fits())
    with_4_bits = {name for name, format, _ in fitted_sets if FORMATS[format] == "int4" and format != "int8_wo"}
    for name, format, fitted in fitted_sets:
        if fitted.start_s < EAGER_S and not (format == "int8_wo" and name in with_4_bits):
            found[name, FORMATS[format]].append(fitted)
    figures = []
    for (name, precision), sets in sorted(found.items()):
        known = match_hardware(name).efficiency[precision]
        for what in ("bandwidth", "compute"):
            value = min(float(np.median([getattr(one, what) for one in sets])), 0.95)
            listed = float(getattr(known, what))
            note = f"{value:.2f} of the data sheet, catalogue {listed:.2f}, {len(sets)} sets"
            figures.append(Figure(f"{name} {precision}: {what}, apart", abs(value - listed), "", MOST_APART, note))
    return print_table("What measured products reach of the data sheet", figures)


def fits() -> Iterator[tuple[str, str, Efficiency]]:
    """The fit of each hardware, format and engine."""
    if not SHARED.exists():
        sys.exit(f"skipped: the measurements are not in {SHARED}")
    sets: dict[tuple[str, str, str], list[tuple[float, ...]]] = defaultdict(list)
    for row in read_table(SHARED / "kernels_gemm.csv"):
        if row["gemm_dtype"] in FORMATS:
            size = (float(row["m"]), float(row["n"]), float(row["k"]), float(row["latency_ms"]) / 1e3)
            sets[row["hardware"], row["gemm_dtype"], row["engine"]].append(size)
    for (name, format, _), rows in sorted(sets.items()):
        yield name, format, fit_one(name, format, np.array(rows))


def fit_one(name: str, format: str, rows: NDArray[np.float64]) -> Efficiency:
    """Least squares of the logarithms, with a Cauchy weight against odd timings."""
    hardware, precision = match_hardware(name), FORMATS[format]
    m, n, k, measured = rows.T
    speed = hardware.tflops["fp4" if format == "nvfp4" else precision] * 1e12
    growth = GROWTH["bf16" if format in WEIGHTS_ONLY else precision]
    grown = (np.maximum(m, 64) / 2048) ** growth.tokens
    grown *= (np.minimum(n, WIDE) / WIDE) ** (growth.width * BY_ROWS)
    grown *= (np.minimum(k, WIDE) / WIDE) ** (growth.width * BY_COLUMNS)
    moved = n * k * WEIGHTS_ONLY.get(format, BITS[precision]) / 8 + m * (k + 2 * n)
    reading, multiplying = moved / (hardware.bandwidth_gb_s * 1e9), 2 * m * n * k / (speed * grown)

    def told(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        start, bandwidth, compute = np.exp(logs)
        slower = (reading / bandwidth) ** SHARPNESS + (multiplying / compute) ** SHARPNESS
        return np.asarray(np.log(start + slower ** (1 / SHARPNESS)))

    logs = np.log([4e-6, 0.7, 0.6])
    for _ in range(200):
        missed = np.log(measured) - told(logs)
        weight = 1 / np.sqrt(1 + (missed / 0.15) ** 2)
        slopes = np.stack([(told(logs + move) - told(logs)) / 1e-4 for move in 1e-4 * np.eye(3)], axis=1)
        weighted = slopes * weight[:, None]
        step = np.linalg.solve(weighted.T @ weighted + 1e-6 * np.eye(3), weighted.T @ (missed * weight))
        logs = logs + np.clip(step, -0.3, 0.3)
        if np.abs(step).max() < 1e-6:
            break
    return Efficiency(*(float(value) for value in np.exp(logs)))


if __name__ == "__main__":
    sys.exit(main())

"""A table of points in, a table of predictions out; a row that cannot be predicted is named and left out."""

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway.deploy.points import Point, read_points
from slipway.deploy.prediction import Estimate, Prediction, predict
from slipway.domain.errors import FileBroken
from slipway.models.calibrations import Calibration

COLUMNS = (
    "id",
    "ttft_ms",
    "ttft_ms_lo",
    "ttft_ms_hi",
    "tpot_ms",
    "tpot_ms_lo",
    "tpot_ms_hi",
    "output_tok_s",
    "output_tok_s_lo",
    "output_tok_s_hi",
    "known",
    "assumed",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionTable:
    """The rows that were predicted, and one line for each that was not."""

    rows: list[dict[str, str]]
    unusable: list[str]


def predict_table(file: Path, *, calibration: Calibration | None = None) -> PredictionTable:
    """Predicts every row of a CSV file. Raises `FileMissing` or `FileBroken`."""
    read = list(read_points(file))
    points = [each for each in read if isinstance(each, Point)]
    unusable = [str(each) for each in read if not isinstance(each, Point)]
    return PredictionTable(rows=[_row(one) for one in predict(points, calibration=calibration)], unusable=unusable)


def write_rows(rows: Sequence[dict[str, str]], file: Path) -> None:
    """Writes predictions as CSV, whole or not at all. Raises `FileBroken` where that is not possible."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        beside.write_text(text.getvalue(), encoding="utf-8")
        beside.replace(file)
    except OSError as wrong:
        beside.unlink(missing_ok=True)
        raise FileBroken(file, f"it cannot be written ({wrong})", next_step="Choose another --out.") from wrong


def _row(one: Prediction) -> dict[str, str]:
    return {
        "id": one.id,
        **_three("ttft_ms", one.first_s, 1e3),
        **_three("tpot_ms", one.token_s, 1e3),
        **_three("output_tok_s", one.tokens_per_second, 1.0),
        "known": one.known,
        "assumed": one.assumed,
    }


def _three(name: str, estimate: Estimate, scale: float) -> dict[str, str]:
    value, low, high = (f"{figure * scale:.6g}" for figure in estimate)
    return {name: value, f"{name}_lo": low, f"{name}_hi": high}

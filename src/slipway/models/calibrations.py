"""Calibrations: how fast engines were measured to be, as a few parameters for all that makes a difference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from slipway.domain.architecture import Architecture
from slipway.domain.deployment import Origin
from slipway.domain.errors import FileBroken, FileMissing
from slipway.domain.hardware import Hardware, Precision
from slipway.models.roofline import Speed, Split, kernel_prior

OWN_FILE = "calibration.json"
"""Where `slipway deploy calibrate` leaves what it fitted, in the folder of the application."""
STEP_TOKENS = {"trtllm": 8192, "vllm": 8192, "sglang": 8192}
"""Tokens that an engine works on in one step unless told otherwise; longer prompts are cut. Source: their defaults on
accelerators of 80 GB and more."""
STEPS_BETWEEN = {"trtllm": 2, "sglang": 2, "vllm": 1}
"""Steps that go by between the last token of an answer and the step that reads its user's next prompt: the one that
began while the answer was sent, and one more where an engine prepares the next step during the present one."""
OFFLINE_SEQUENCE = 0.15
"""Where no server sends each token, a sequence costs the host so much of what it costs behind one. Assumed. Not over
stages of a pipeline: there TensorRT-LLM does not prepare a step during the one before, so that nothing is hidden."""
UNTRIED_KERNELS, UNTRIED_ENGINE = 2.0, 1.0
"""Twice and half as wide again. Source: with efficiencies of other hardware the time per token of unseen cells was
missed by 31 %, with those of the hardware itself by 10 to 15."""
Known = Literal["inside", "model", "cell", "hardware"]
"""What a prediction is new in: nothing, the model, the hardware under this engine and precision, or the hardware."""
Figure = Literal["first", "token", "tokens_per_second"]
FIGURES: tuple[Figure, ...] = ("first", "token", "tokens_per_second")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one set of measured points says: where they are from, and how far the fit is from them.

    Errors are medians of absolute percentages after the fit; `ranges` are the least and most of users, prompt tokens,
    answer tokens and devices.
    """

    hardware: str
    engine: str
    precision: str
    model: str
    versions: tuple[str, ...] = ()
    measured: str = ""
    points: int = 0
    first_error: float = 0.0
    token_error: float = 0.0
    tokens_per_second_error: float = 0.0
    ranges: tuple[tuple[float, float], ...] = ()
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """Parameters of every speed that was fitted; a frozen value that can be written as JSON.

    `effects` hold 13 logarithms for each group of points (all, an engine, a kind of hardware, ...), which are added to
    the logarithms of the kernel prior. `corrections` hold what a cell and model keep doing differently, as a quadratic
    of the load. `spreads` hold the 10th and 90th percentile of measured over predicted, by what is new and by whether
    the model is a mixture of experts.
    """

    fitted: str
    source: str
    licence: str
    method: str = ""
    effects: dict[str, list[float]] = field(default_factory=dict)
    corrections: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    spreads: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A model under an engine on accelerators: everything that decides how fast a step is."""

    shape: Architecture
    hardware: Hardware
    engine: str
    precision: Precision
    split: Split
    version: str = ""
    offline: bool = False
    """All requests are given to the engine at once: no server sends each token."""

    @property
    def cache_bytes_each(self) -> float:
        """Bytes of one key or value: TensorRT-LLM keeps the cache in 8 bits where the weights are, the others in 16."""
        return 1.0 if self.engine == "trtllm" and self.precision != "bf16" else 2.0


def groups_of(setup: Setup) -> list[str]:
    """The groups that a setup belongs to, from the widest to the narrowest."""
    hardware, engine, precision = setup.hardware.name, setup.engine, setup.precision
    found = ["all"]
    if setup.shape.experts:
        found.append("experts")
    found += [f"hardware:{hardware}", f"engine:{engine}", f"precision:{precision}", cell_of(setup), model_of(setup)]
    if setup.version:
        found.append(f"version:{engine}/{setup.version[:6]}")
    if setup.offline:
        found.append(f"offline:{engine}")
    if setup.split.experts > 1:
        spread = "attention copied" if setup.split.attention_copies > 1 else "attention split"
        found.append(f"expert parallel:{engine}/{spread}")
    return found


def cell_of(setup: Setup) -> str:
    return f"cell:{setup.hardware.name}/{setup.engine}/{setup.precision}"


def model_of(setup: Setup) -> str:
    """The cell with the model; models of the same shape (base, instruct, a later release) share it."""
    shape = setup.shape
    sign = f"{shape.layers}x{shape.hidden}x{shape.intermediate}x{shape.experts}"
    return f"model:{setup.hardware.name}/{setup.engine}/{setup.precision}/{sign}"


def prior_of(setup: Setup) -> Speed:
    """What is assumed of a setup before anything was measured."""
    prior = kernel_prior(setup.shape, setup.hardware, setup.precision)
    if setup.offline and setup.split.pipeline == 1:
        return prior._replace(sequence=prior.sequence * OFFLINE_SEQUENCE)
    return prior


def speed_of(setup: Setup, calibration: Calibration | None = None) -> Speed:
    """What a step costs there: the kernel prior moved by every group that was measured."""
    known = calibration or shipped()
    total = np.log(np.array(prior_of(setup), dtype=np.float64))
    for group in groups_of(setup):
        if group in known.effects:
            total = total + np.array(known.effects[group])
    return Speed(*(float(value) for value in np.exp(total)))


def novelty(setup: Setup, calibration: Calibration | None = None) -> Known:
    """What is new about a setup to a calibration."""
    known = calibration or shipped()
    if model_of(setup) in known.effects:
        return "inside"
    if cell_of(setup) in known.effects:
        return "model"
    return "cell" if f"hardware:{setup.hardware.name}" in known.effects else "hardware"


def doubt_of(setup: Setup, known: Known, calibration: Calibration | None = None) -> float:
    """How much wider an interval is for what no measurement bears on, in doublings outside the measured range.

    `UNTRIED_KERNELS` where not even products were timed on the hardware, `UNTRIED_ENGINE` for an engine that nobody
    measured.
    """
    engine_seen = f"engine:{setup.engine}" in (calibration or shipped()).effects
    kernels_timed = known != "hardware" or setup.hardware.origin == "calibrated"
    return (0.0 if kernels_timed else UNTRIED_KERNELS) + (0.0 if engine_seen else UNTRIED_ENGINE)


def origin_of(known: Known) -> Origin:
    """The badge of a figure: calibrated where its hardware and engine were measured, estimated elsewhere."""
    return "calibrated" if known in ("inside", "model") else "estimated"


def load_terms(*, users: float, input_tokens: float, output_tokens: float, devices: float) -> NDArray[np.float64]:
    """The 15 terms of a quadratic in the logarithms of the load, each about one wide."""
    x = [
        np.log2(max(users, 1e-9) / 32) / 3,
        np.log2(max(input_tokens, 1.0) / 2048) / 2,
        np.log2(max(output_tokens, 1.0) / 1024) / 2,
        np.log2(max(devices, 1.0) / 4) / 1.5,
    ]
    return np.array([1.0, *x, *(x[i] * x[j] for i in range(4) for j in range(i, 4))])


def spread_of(
    known: Known,
    *,
    experts: bool,
    figure: Figure,
    beyond: float = 0.0,
    group: str = "",
    calibration: Calibration | None = None,
) -> tuple[float, float]:
    """Factors around a prediction that hold 80 % of what is measured, wider by `beyond` doublings outside the range.

    A group (a cell with its model) that was calibrated with own points has an interval of its own.
    """
    held = (calibration or shipped()).spreads
    kind = f"{known}/{'experts' if experts else 'dense'}"
    low, high = (held.get(group) or held.get(kind, {})).get(figure, (0.6, 1.8))
    wider = 1 + 0.5 * beyond
    return float(low**wider), float(high**wider)


def doublings_beyond(cell: Cell, load: Sequence[float]) -> float:
    """How far a load (users, prompt, answer, devices) lies outside the measured range, in doublings in all."""
    away = 0.0
    for value, (low, high) in zip(load, cell.ranges, strict=False):
        if value > high > 0:
            away += float(np.log2(value / high))
        elif 0 < value < low:
            away += float(np.log2(low / value))
    return away


def joined(base: Calibration, own: Calibration) -> Calibration:
    """The shipped calibration with one's own on top; an own group replaces the shipped one of that name."""
    return replace(
        base,
        effects={**base.effects, **own.effects},
        corrections={**{k: v for k, v in base.corrections.items() if k not in own.effects}, **own.corrections},
        cells=[*base.cells, *own.cells],
        spreads={**base.spreads, **own.spreads},
    )


@cache
def shipped() -> Calibration:
    """What comes with Slipway, fitted on published measurements."""
    content = files("slipway.models").joinpath("data", "calibrations.json").read_bytes()
    return msgspec.json.decode(content, type=Calibration)


def calibration_in(folder: Path) -> Calibration:
    """The shipped calibration, with the own one of that folder on top where there is one."""
    own = folder / OWN_FILE
    return joined(shipped(), read_calibration(own)) if own.is_file() else shipped()


def read_calibration(file: Path) -> Calibration:
    """A calibration that was written before. Raises `FileMissing` or `FileBroken`."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Calibration)
    except FileNotFoundError:
        raise FileMissing(file, next_step="Make one: slipway deploy calibrate FILES") from None
    except (OSError, msgspec.MsgspecError) as wrong:
        raise FileBroken(file, f"it is not a calibration ({wrong})") from wrong


def write_calibration(calibration: Calibration, file: Path) -> None:
    """Writes a calibration, its figures to five digits."""
    plain: Mapping[str, object] = msgspec.to_builtins(_rounded(calibration))
    file.write_bytes(msgspec.json.format(msgspec.json.encode(plain), indent=1) + b"\n")


def _rounded(calibration: Calibration) -> Calibration:
    def short(values: Sequence[float]) -> list[float]:
        return [float(f"{value:.4g}") for value in values]

    return replace(
        calibration,
        effects={group: short(values) for group, values in calibration.effects.items()},
        corrections={
            group: {name: short(values) for name, values in both.items()}
            for group, both in calibration.corrections.items()
        },
    )


def correction_at(setup: Setup, *, mean_tokens: float, calibration: Calibration | None = None) -> float:
    """What a cell and model were measured to take longer a token than its roofline says, at a usual load."""
    held = (calibration or shipped()).corrections.get(model_of(setup))
    if held is None:
        return 1.0
    terms = load_terms(users=32, input_tokens=mean_tokens, output_tokens=512, devices=setup.split.devices)
    return float(np.exp(np.clip(terms @ np.array(held["token"]), -0.5, 0.5)))

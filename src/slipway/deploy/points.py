"""Measured points of serving speed, and how a row of a table becomes one: names, precision, how it was spread."""

import csv
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from slipway.deploy.benchmark import ROUNDS, Protocol
from slipway.deploy.offline import limits_of, requests_of
from slipway.domain.architecture import Architecture
from slipway.domain.errors import FileBroken, FileMissing, NotFound, RowUnusable
from slipway.domain.hardware import Hardware, Precision
from slipway.models.architectures import find_model, list_models
from slipway.models.calibrations import STEP_TOKENS, Setup
from slipway.models.hardware import find_hardware, list_hardware
from slipway.models.roofline import Split

Load = Literal["closed", "offline"]
PRECISION_NAMES: dict[str, Precision] = {
    "bf16": "bf16",
    "fp16": "bf16",
    "f16": "bf16",
    "float16": "bf16",
    "bfloat16": "bf16",
    "fp8": "fp8",
    "int8": "fp8",
    "int4": "int4",
    "fp4": "int4",
    "nvfp4": "int4",
    "mxfp4": "int4",
    "awq": "int4",
    "gptq": "int4",
}
UNRECORDED = "unrecorded"
NEEDED = ("model", "hardware", "isl", "osl", "concurrency")
"""Columns without which no row can be predicted."""
MOST = {"isl": 10_000_000, "osl": 10_000_000, "concurrency": 100_000}
VARIED = {(1024, 1024), (1024, 8192), (8192, 1024)}
"""Lengths (prompt, answer) whose benchmark draws from 0.8 to 1 times the nominal ones. Source: InferenceX."""
SHORTEST_VARIED = 0.8
NEAR_SIZE, FAR_SIZE = 1.6, 2.6
"""A model that is not in the catalogue may borrow the shape of a relative that is larger or smaller by this factor; the
second is for a shape of another family."""
_SUFFIXES = re.compile(
    r"[-_.](instruct|chat|base|it|hf|preview|thinking|fp8|fp4|nvfp4|mxfp4|bf16|awq|gptq|w8a8|w4a16|int4|int8"
    r"|v\d+(\.\d+)?|\d{4})$"
)
_KNOWN = re.compile(r" Known: .*?\.(?= [A-Z]|$)")
_VERSION = re.compile(r"(\d)\.\d+(?!\d*b)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One measured or asked-for point: a setup under a benchmark. Times are seconds, 0 where nothing was measured."""

    id: str
    setup: Setup
    protocol: Protocol
    load: Load = "closed"
    model: str = ""
    measured: str = ""
    first_s: float = 0.0
    token_s: float = 0.0
    tokens_per_second: float = 0.0
    queued: bool = False
    """The cache did not hold all users: the wait is a queue. Not fitted on."""
    assumed: str = ""
    """What the row did not say and was taken instead."""
    source: str = ""


def read_table(file: Path) -> list[dict[str, str]]:
    """The rows of a table with a header, its names in small letters; comma, semicolon or tab.

    Raises `FileMissing` or `FileBroken`.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            head = lines.readline()
            lines.seek(0)
            reader = csv.DictReader(lines, delimiter=max(",;\t", key=head.count))
            reader.fieldnames = [_plain(name) for name in reader.fieldnames or []]
            rows = [{name: value or "" for name, value in row.items() if isinstance(name, str)} for row in reader]
    except FileNotFoundError:
        raise FileMissing(file) from None
    except (OSError, UnicodeDecodeError, csv.Error) as wrong:
        raise FileBroken(file, f"it is not a CSV file ({wrong})") from wrong
    if not rows:
        raise FileBroken(file, "it holds no row below its header")
    return rows


def read_points(file: Path) -> Iterator[Point | RowUnusable]:
    """Each row of a table as a point, or why it cannot be one. A config.json lies beside the table or where we are.

    Raises `FileMissing`, or `FileBroken` where the table lacks a column that every row needs.
    """
    rows = read_table(file)
    lacking = [name for name in NEEDED if name not in rows[0]]
    if lacking == ["concurrency"] and all(row.get("load") == "offline" for row in rows):
        lacking = []
    if lacking:
        raise FileBroken(
            file, f"it has no column {' and no column '.join(lacking)}", next_step=f"It needs {', '.join(NEEDED)}."
        )
    for number, row in enumerate(rows, 1):
        name = row.get("id") or f"row {number}"
        beside = file.parent if os.path.exists(file.parent / row["model"]) else None
        try:
            yield point_of(row, name=name, folder=beside)
        except RowUnusable as unusable:
            yield unusable


def point_of(row: Mapping[str, str], *, name: str, folder: Path | None = None) -> Point:
    """A row with the columns of a serving table (model, hardware, engine, weights, isl, osl, concurrency, tp, ...).

    Raises `RowUnusable`.
    """
    for column in ("hardware", "model"):
        if not (row.get(column) or "").strip():
            raise RowUnusable(name, f"{column} is missing")
    try:
        hardware = match_hardware(row.get("hardware") or "")
        shape, borrowed = match_model(row.get("model") or "", folder=folder)
        precision, assumed = _precision(row.get("weights") or "", shape, hardware)
    except (NotFound, FileMissing, FileBroken) as unknown:
        # A table may have many such rows: all names that are known would drown them.
        raise RowUnusable(name, _KNOWN.sub("", str(unknown).splitlines()[0])) from unknown
    asked = _positive(row, "isl", name)
    said = _positive(row, "osl", name)
    offline = (row.get("load") or "closed") == "offline"
    split = split_of(row, name)
    setup = Setup(
        shape=shape,
        hardware=hardware,
        engine=(row.get("engine") or "vllm").lower().replace("tensorrt-llm", "trtllm"),
        precision=precision,
        split=split,
        version=row.get("engine_version") or "",
        offline=offline,
    )
    if offline:
        lengths = max(1, round(asked)), max(2, round(said))
        limits = limits_of(setup, input_tokens=lengths[0], output_tokens=lengths[1])
        protocol = Protocol(
            input_tokens=lengths[0],
            output_tokens=lengths[1],
            users=limits.sequences * split.pipeline,
            requests=requests_of(*lengths),
        )
    else:
        users = round(_positive(row, "concurrency", name))
        if users < 1:
            raise RowUnusable(name, f"concurrency is {row.get('concurrency')}; at least one user has to ask")
        protocol = Protocol(
            input_tokens=max(1, round(asked)),
            output_tokens=max(2, round(said)),
            users=users,
            requests=users * ROUNDS,
            shortest=SHORTEST_VARIED if (asked, said) in VARIED else 1.0,
        )
    first, token = _number(row, "ttft_ms", name), _number(row, "tpot_ms", name)
    return Point(
        id=name,
        setup=setup,
        protocol=protocol,
        load="offline" if offline else "closed",
        model=row.get("model") or "",
        measured=row.get("measured") or "",
        first_s=first / 1e3,
        token_s=token / 1e3,
        tokens_per_second=_number(row, "output_tok_s", name) or _number(row, "output_tok_s_derived", name),
        queued=bool(row.get("suspect")),
        assumed="; ".join(each for each in (borrowed, assumed, *_doubts(setup, protocol)) if each),
        source=row.get("source") or "",
    )


def _doubts(setup: Setup, protocol: Protocol) -> Iterator[str]:
    """What a row asks for that no engine was seen to do."""
    shape, hardware, tensor = setup.shape, setup.hardware, setup.split.tensor
    if setup.engine not in STEP_TOKENS:
        yield f"{setup.engine} was not measured: taken as an engine of which nothing is known"
    if shape.heads % tensor:
        yield f"{shape.heads} attention heads cannot be split over {tensor} devices: timed as if they could"
    if tensor > hardware.devices_per_node:
        yield f"a machine holds {hardware.devices_per_node} x {hardware.name}: timed as if it held {tensor}"
    if protocol.input_tokens + protocol.output_tokens > shape.context > 0:
        yield f"its context is {shape.context:,} tokens: timed as if it were longer"


def split_of(row: Mapping[str, str], name: str) -> Split:
    """How a row says that its model was spread.

    Some tables multiply the devices by the groups of experts although these lie on the same devices; that is undone.
    """
    tensor = max(1, round(_number(row, "tp", name) or 1))
    pipeline = max(1, round(_number(row, "pp", name) or 1))
    copies = max(1, round(_number(row, "attn_dp", name) or 1))
    experts = max(1, round(_number(row, "ep", name) or 1))
    if experts > 1 and tensor * copies == experts * experts:
        copies = copies // experts if copies > 1 else 1
        tensor = experts // copies
    elif experts > 1 and tensor == copies and tensor > 1:
        copies, experts = 1, tensor
    return Split(tensor=tensor, pipeline=pipeline, attention_copies=max(1, copies), experts=experts)


def match_hardware(name: str) -> Hardware:
    """Hardware by a name as tables and vendors write it. Raises `NotFound`."""
    plain = re.sub(r"[\s_]+", "-", name.strip().lower().replace("+", "")).removeprefix("nvidia-").removeprefix("amd-")
    plain = plain.removeprefix("instinct-").removeprefix("geforce-").removeprefix("tesla-")
    plain = re.sub(r"-hbm\d\w*$", "", plain)  # as nvidia-smi writes it: H100 80GB HBM3
    known = [one.name for one in list_hardware()]
    for each in (plain, f"{plain}-sxm", re.sub(r"-\d+gb$", "", plain), re.sub(r"-\d+gb$", "", plain) + "-sxm"):
        if each in known:
            return find_hardware(each)
    starts = [each for each in known if _begins(plain, each) or (len(plain) >= 2 and each.startswith(plain + "-"))]
    return find_hardware(max(starts, key=len) if starts else name)


def _begins(name: str, known: str) -> bool:
    """Whether a name goes on after a known one, but not with its number: L40 is no L4."""
    return name.startswith(known) and not (known[-1].isdigit() and name[len(known) :][:1].isdigit())


def match_model(name: str, *, folder: Path | None = None) -> tuple[Architecture, str]:
    """A model by a name as tables write it, and what was assumed: the shape of a relative where it is unknown itself.

    A relative is an earlier or later version, the model that this one was distilled into, one of the same family scaled
    to the size in the name, or else any of that size and kind. Raises `NotFound`.
    """
    if name.endswith(".json") or os.path.isfile((folder or Path()) / name / "config.json"):
        return find_model(name, folder=folder), ""
    plain = name.strip().lower().rsplit("/", 1)[-1]
    while True:
        try:
            return find_model(plain, folder=folder), ""
        except NotFound as unknown:
            earlier = _VERSION.sub(r"\1", plain)
            if earlier != plain:
                with suppress(NotFound):
                    return find_model(earlier, folder=folder), f"shape of {earlier}"
            for model in list_models():
                if re.fullmatch(re.escape(plain) + r"\.\d+", model.name):
                    return model, f"shape of {model.name}"
            shorter = _SUFFIXES.sub("", plain)
            if shorter == plain:
                relative = _relative(plain, folder)
                if relative is None:
                    raise unknown
                return relative
            plain = shorter


def _relative(name: str, folder: Path | None) -> tuple[Architecture, str] | None:
    _, distilled, student = name.rpartition("distill-")
    if distilled:
        return match_model(student, folder=folder)[0], f"shape of {student}"
    return _scaled(name)


def _scaled(name: str) -> tuple[Architecture, str] | None:
    """The nearest model of the same family and kind, or else of the same kind, scaled to the size in the name."""
    sizes = re.search(r"(\d+(?:\.\d+)?)b(?:-a(\d+(?:\.\d+)?)b)?(?![a-z0-9])", name)
    if sizes is None or not float(sizes[1]):
        return None
    wanted = float(sizes[1]) * 1e9
    family = re.split(r"[-\d.]", name)[0]
    alike = [model for model in list_models() if bool(model.experts) == bool(sizes[2])]
    kin = [model for model in alike if model.name.startswith(family) and _apart(model, wanted) <= NEAR_SIZE]
    near = kin or [model for model in alike if _apart(model, wanted) <= FAR_SIZE]
    if not near:
        return None
    nearest = min(near, key=lambda model: _apart(model, wanted))
    active = float(sizes[2]) * 1e9 if sizes[2] else nearest.active_parameters * wanted / nearest.parameters
    layers = max(1, round(nearest.layers * wanted / nearest.parameters))
    scaled = replace(
        nearest,
        name=name,
        parameters=round(wanted),
        active_parameters=round(active),
        layers=layers,
        full_attention_layers=round(nearest.full_attention_layers * layers / nearest.layers),
        source=nearest.name,
    )
    return scaled, f"shape of {nearest.name} scaled" + ("" if kin else ": its family is not in the catalogue")


def _apart(model: Architecture, parameters: float) -> float:
    """How many times larger one is than the other."""
    ratio = parameters / model.parameters
    return max(ratio, 1 / ratio)


def _precision(written: str, shape: Architecture, hardware: Hardware) -> tuple[Precision, str]:
    plain = written.strip().lower()
    if plain in ("", UNRECORDED):
        taken: Precision = shape.native
        return taken, f"weights taken as {taken}"
    if plain not in PRECISION_NAMES:
        raise NotFound("precision of weights", written, known=list(PRECISION_NAMES), next_step="Name one of them.")
    precision = PRECISION_NAMES[plain]
    if precision not in hardware.efficiency:
        return "bf16", f"{hardware.name} does not multiply in {written}; taken as bf16"
    return precision, ""


def _plain(column: str) -> str:
    return re.sub(r"[\s-]+", "_", column.strip().lower())


def _number(row: Mapping[str, str], column: str, name: str) -> float:
    written = (row.get(column) or "").strip()
    if not written:
        return 0.0
    try:
        value = float(written)
    except ValueError:
        raise RowUnusable(name, f"{column} is '{written}', not a number") from None
    if value < 0 or value != value or value == float("inf"):
        raise RowUnusable(name, f"{column} is {written}; it has to be zero or more")
    return value


def _positive(row: Mapping[str, str], column: str, name: str) -> float:
    value = _number(row, column, name)
    if value <= 0:
        raise RowUnusable(name, f"{column} is missing or not above zero")
    if value > MOST[column]:
        raise RowUnusable(name, f"{column} is {value:,.0f}; more than {MOST[column]:,} are not simulated")
    return value


def step_tokens(setup: Setup) -> int:
    """Tokens that the setup's engine works on in one step."""
    return STEP_TOKENS.get(setup.engine, 8192)
